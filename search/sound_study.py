"""Checks that a study is one of ours before anything believes it: a journal's lines as they are read, then its trials.

Nothing in a journal is ever run: it is JSON, line by line, and Optuna's own samplers that unpickle are not used. What
is left to a stranger is to write what makes no sense, which ends here, in one line, instead of somewhere later.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from data.input_error import InputError
from data.inside import check_file_name, check_inside
from data.json_file import parse_json, read_json
from data.typed_record import build_record
from model.config import TrainConfig
from search.prior import PastTrial
from search.record import TRIAL_ID, TrialRecord

LONGEST_LINE = 2**24  # bytes
MOST_TRIALS = 1_000_000
_NUMBER = (int, float, type(None))

# What the fields of a journal's line hold, whatever the operation.
_FIELDS: dict[str, Callable[[Any], bool]] = {
    "op_code": lambda value: type(value) is int and 0 <= value <= 10,
    "worker_id": lambda value: isinstance(value, str),
    "study_id": lambda value: type(value) is int,
    "trial_id": lambda value: type(value) is int,
    "study_name": lambda value: isinstance(value, str),
    "directions": lambda value: isinstance(value, list),
    "user_attr": lambda value: isinstance(value, dict),
    "system_attr": lambda value: isinstance(value, dict),
    "user_attrs": lambda value: isinstance(value, dict),
    "system_attrs": lambda value: isinstance(value, dict),
    "state": lambda value: type(value) is int,
    "value": lambda value: type(value) in _NUMBER,
    "values": lambda value: value is None or (isinstance(value, list) and all(type(one) in _NUMBER for one in value)),
    "step": lambda value: type(value) is int,
    "intermediate_value": lambda value: type(value) in _NUMBER,
    "intermediate_values": lambda value: isinstance(value, dict),
    "param_name": lambda value: isinstance(value, str),
    "param_value_internal": lambda value: type(value) in (int, float),
    "params": lambda value: isinstance(value, dict),
    "distribution": lambda value: isinstance(value, str),
    "distributions": lambda value: isinstance(value, dict),
}
# What Optuna raises for lines that hold what does not fit together.
UNSOUND = (ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError, RecursionError)


def read_line(line: bytes) -> dict[str, Any]:
    """The operation in a journal's line. Raises ValueError for one that is none, or has fields of another type."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"a line has more than {LONGEST_LINE // 2**20} MiB")
    return _checked(parse_json(line))


def _checked(operation: Any) -> dict[str, Any]:
    """The operation. Raises ValueError where it is none."""
    if not isinstance(operation, dict):
        raise ValueError("a line is no operation")
    for name, value in operation.items():
        if name in _FIELDS and not _FIELDS[name](value):
            raise ValueError(f"{name} is of another type in a line")
    return operation


class ReadJournal(JournalFileBackend):
    """Optuna's journal file, to be looked at only, each line of it checked."""

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        """The operations from this line on. Raises ValueError for a line that holds none."""
        return map(_checked, super().read_logs(log_number_from))


def check_study(study: optuna.Study, where: str) -> None:
    """Raises InputError unless all that this project reads of a study and of its trials is of its type.

    where: what the study is called in the message.
    """
    trials = study.get_trials(deepcopy=False)
    if len(trials) > MOST_TRIALS:
        raise _unsound(where, f"it has {len(trials):,} trials")
    seen = set[str]()
    try:
        for name, check in _STUDY_ATTRIBUTES.items():
            if name in study.user_attrs and not check(study.user_attrs[name]):
                raise _unsound(where, f"{name} is of another type")
        for trial in trials:
            _check_trial(trial)
            if (record := trial.user_attrs.get("record")) is not None:
                if record["trial_id"] in seen:
                    raise _unsound(where, f"two trials are called {record['trial_id']!r}")
                seen.add(record["trial_id"])
    except InputError as error:
        raise _unsound(where, str(error)) from error
    except UNSOUND as error:
        raise _unsound(where, repr(error)) from error


def read_record(saved: Any) -> TrialRecord:
    """The record of a trial. Raises InputError for one that no version of ours has written."""
    record = build_record(TrialRecord, saved, what="record")
    check_file_name(record.trial_id, what="trial_id")
    if record.checkpoint:
        check_inside(record.checkpoint, what=f"checkpoint of {record.trial_id}")
    for declared in fields(TrainConfig):
        value = record.config.get(declared.name)
        kinds: Any = (int, float) if declared.type is float else (declared.type,)
        if value is not None and type(value) not in kinds:
            raise InputError(f"{declared.name} {str(value)[:60]!r} of {record.trial_id} is of another type.")
    return record


def read_record_file(path: Path) -> TrialRecord:
    """The record in a JSON file. Raises InputError as `read_record` does, and for a file that holds none."""
    try:
        return read_record(read_json(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} is damaged ({error}): remove it, and that training begins anew.") from error


def _check_trial(trial: FrozenTrial) -> None:
    """Raises InputError, or what Optuna does, for a trial whose parts do not fit together."""
    trial._validate()
    for name, check in _TRIAL_ATTRIBUTES.items():
        if name in trial.user_attrs and not check(trial.user_attrs[name]):
            raise InputError(f"{name} of trial {trial.number} is of another type")
    if not all(type(step) is int and type(value) in (int, float) for step, value in trial.intermediate_values.items()):
        raise InputError(f"an epoch of trial {trial.number} has no value")
    if not all(isinstance(value, float | int) for value in trial.constraints.values()):
        raise InputError(f"a constraint of trial {trial.number} is no number")
    if "record" in trial.user_attrs:
        read_record(trial.user_attrs["record"])
    elif trial.state == TrialState.WAITING:
        raise InputError(f"trial {trial.number} waits and has no record")


def _is_file_name(value: Any) -> bool:
    """Whether the value names one file or folder: what a trial is called, by which its states are removed."""
    if not isinstance(value, str):
        return False
    try:
        check_file_name(value, what=TRIAL_ID)
    except InputError:
        return False
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_moment(value: Any) -> bool:
    return value is None or (isinstance(value, str) and datetime.fromisoformat(value) is not None)


def _is_seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < float("inf")


def _are_past(value: Any) -> bool:
    if not isinstance(value, list):
        return False
    for one in value:
        build_record(PastTrial, one, what="past")
    return True


# The names are those of search/study.py, search/driver.py, search/packing.py and search/ending.py.
_STUDY_ATTRIBUTES: Mapping[str, Callable[[Any], bool]] = {
    "past": _are_past,
    "seconds": _is_seconds,
    "concluded": lambda value: type(value) is bool,
    "packing": lambda value: isinstance(value, dict),
    "versions": lambda value: isinstance(value, dict) and all(isinstance(one, str) for one in value.values()),
}
_TRIAL_ATTRIBUTES: Mapping[str, Callable[[Any], bool]] = {
    TRIAL_ID: _is_file_name,
    "ray_trial_id": _is_text,
    "rests_since": _is_moment,
}


def _unsound(where: str, reason: str) -> InputError:
    return InputError(f"study {where} is damaged ({reason}): bring it back from a copy, or name another run.")
