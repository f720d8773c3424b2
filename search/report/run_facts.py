"""What a report says of a run: its settings, its trials with their curves, and when each of them was at work."""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial

from data.input_error import InputError
from data.json_file import read_json
from model.config import TrainConfig
from search import finalists
from search.drivers import SECONDS_SPENT, UNDER_WAY
from search.ending import end_of
from search.leaderboard import class_names_of, to_frame
from search.record import BAD_ENDINGS, TrialRecord
from search.run import read_saved
from search.run_folder import RunFolder
from search.study import VERSIONS, objectives_of, read_study

DEFAULTS = TrainConfig()
MOST_EVENTS = 2**28  # bytes of one file of events that are read
FRAME = struct.Struct("<QI")  # of a record in it: its length, and a checksum of that; another checksum is behind it
CHECKSUM = 4


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One trial as charts show it.

    curve: epoch (from 1) -> `val_dice`, in order. began, ended: in this machine's time; ended is also when it came to
    rest for good, and None while it runs. at_work: times in seconds (POSIX) between which epochs of
    it were trained; empty where its folder is not here.
    """

    record: TrialRecord
    curve: Mapping[int, float]
    began: datetime | None
    ended: datetime | None
    at_work: tuple[tuple[float, float], ...] = ()

    def setting(self, name: str) -> Any:
        """Its value of a hyperparameter; the default where it began before there was one of this name."""
        return self.record.config.get(name, getattr(DEFAULTS, name, None))

    @property
    def is_bad(self) -> bool:
        """Whether it ended in a way that speaks against it."""
        return self.record.status in BAD_ENDINGS


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """A run as it stood when it was read.

    place: what a person calls its folder. saved: its settings. dataset: what it learnt from. frame: its leaderboard.
    trials: in the order of their start. spent: seconds of all its sessions. under_way: whether a search is at work, or
    was cut off. versions: of libraries in its last session. events: the lines of its log. finalists: the table of its
    finals, or None.
    """

    place: str
    folder: RunFolder
    saved: Mapping[str, Any]
    dataset: Mapping[str, Any]
    frame: pd.DataFrame
    trials: tuple[Trial, ...]
    objectives: tuple[str, ...]
    spent: float
    under_way: bool
    versions: Mapping[str, str]
    events: tuple[str, ...]
    finalists: pd.DataFrame | None

    @cached_property
    def class_names(self) -> list[str]:
        """The classes of the data."""
        return [str(name) for name in self.dataset.get("class_names", [])]

    @cached_property
    def best(self) -> TrialRecord | None:
        """The trial at the top of the leaderboard, if it has a score."""
        by_id = {trial.record.trial_id: trial.record for trial in self.trials}
        first = by_id[self.frame["trial_id"].iloc[0]] if len(self.frame) else None
        return first if first is not None and first.val_dice is not None and first.status not in BAD_ENDINGS else None

    @cached_property
    def scored(self) -> list[Trial]:
        """The trials that have a score and did not end badly, the best first."""
        known = [trial for trial in self.trials if trial.record.val_dice is not None and not trial.is_bad]
        return sorted(known, key=lambda trial: (-trial.record.folds, -(trial.record.val_dice or 0.0)))

    @cached_property
    def searched(self) -> list[str]:
        """The hyperparameters in which its trials differ, in the order of `TrainConfig`."""
        if not self.trials:
            return []
        names = [declared.name for declared in fields(TrainConfig)]
        return [name for name in names if len({str(trial.setting(name)) for trial in self.trials}) > 1]

    @cached_property
    def began(self) -> datetime | None:
        """When its first trial began."""
        return min((trial.began for trial in self.trials if trial.began is not None), default=None)

    def hours(self, moment: datetime) -> float:
        """Hours from the beginning of the first trial to a moment."""
        assert self.began is not None
        return (moment - self.began).total_seconds() / 3600


def read_facts(place: str, path: Path) -> RunFacts:
    """What there is to say of a run. place: what it is called. Raises InputError where the folder holds none."""
    folder = RunFolder(path=path)
    study = read_study(folder.journal)
    trials = tuple(_trials(study.get_trials(deepcopy=False), path))
    records = [trial.record for trial in trials]
    dataset = _dataset(folder)
    names = [str(name) for name in dataset.get("class_names", [])] or class_names_of(records)
    attributes = study.user_attrs
    return RunFacts(
        place=place,
        folder=folder,
        saved=read_saved(folder),
        dataset=dataset,
        frame=to_frame(records, names, objectives_of(study)),
        trials=trials,
        objectives=objectives_of(study),
        spent=_of_all_drivers(attributes, SECONDS_SPENT),
        under_way=any(value for name, value in attributes.items() if name.partition("/")[0] == UNDER_WAY),
        versions=attributes.get(VERSIONS, {}),
        events=_lines(folder.events),
        finalists=finalists.read(path) if (path / finalists.TABLE).is_file() else None,
    )


def _trials(found: Iterable[FrozenTrial], path: Path) -> Iterator[Trial]:
    for trial in found:
        saved = trial.user_attrs.get("record")
        if saved is None:
            continue
        record = TrialRecord(**saved)
        yield Trial(
            record=record,
            curve=dict(sorted(trial.intermediate_values.items())),
            began=trial.datetime_start,
            ended=end_of(trial),
            at_work=tuple(_at_work(path / "trials" / record.trial_id)),
        )


def _at_work(folder: Path) -> Iterator[tuple[float, float]]:
    """When epochs of a trial were trained, by the curves that it has drawn for TensorBoard.

    Each process of a training draws into a file of its own, with the seconds of all of them so far.
    """
    before: dict[Path, float] = {}
    for file in sorted(folder.rglob("events.out.tfevents.*")):
        for wall_time, seconds in _epochs(file):
            took = seconds - before.get(file.parent, 0.0)
            before[file.parent] = seconds
            if took:  # one that goes on shows its last epoch again; one that begins anew has fewer seconds
                yield wall_time - (took if took > 0 else seconds), wall_time


def _epochs(file: Path) -> Iterator[tuple[float, float]]:
    """For each epoch that was drawn, when that was, and the seconds of training until then; up to what is damaged."""
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event

    try:
        if file.stat().st_size > MOST_EVENTS:
            return
        content = file.read_bytes()
    except OSError:
        return
    place = 0
    while place + FRAME.size <= len(content):
        length, _ = FRAME.unpack_from(content, place)
        begin = place + FRAME.size
        place = begin + length + CHECKSUM
        if place > len(content):
            return
        try:
            event = Event.FromString(content[begin : begin + length])
        except DecodeError:
            return
        for value in event.summary.value:
            if value.tag == "seconds":
                yield event.wall_time, value.simple_value


def _of_all_drivers(attributes: Mapping[str, Any], name: str) -> float:
    """The longest of a number that each driver of a shared study has for itself."""
    found = [value for key, value in attributes.items() if key.partition("/")[0] == name]
    return max((float(value) for value in found), default=0.0)


def _dataset(folder: RunFolder) -> Mapping[str, Any]:
    try:
        facts = read_json(folder.dataset)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{str(folder.dataset)!r} cannot be read ({error}): bring it back, or name another run."
        ) from error
    if not isinstance(facts, dict):
        raise InputError(f"{str(folder.dataset)!r} does not say what the run learnt from: name another run.")
    return facts


def _lines(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text(encoding="utf-8", errors="replace").splitlines())
    except OSError:
        return ()
