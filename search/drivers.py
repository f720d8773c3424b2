"""Which driver a trial belongs to where several share a study, and which of them are still there.

A study that is a file has one driver at a time, which has no name, and all trials are its own.
"""

import copy
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from data.input_error import InputError
from data.replacing import write_text
from search.record import TRIAL_ID, TrialRecord
from search.run_folder import RunFolder

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

DRIVER = "driver"  # a trial's attribute: the driver that it belongs to
# Attributes of a study that each of its drivers has for itself.
SECONDS_SPENT = "seconds"  # how long it has searched
CONCLUDED = "concluded"  # whether its last session came to its end
UNDER_WAY = "under_way"  # whether a session has begun of which nobody has seen the end
PACKING = "packing"  # how its trials share its machines
PLACE = "place"  # where its run's folder lies
PULSE = "pulse"  # another text every few seconds, as long as it is there
OF_EACH_DRIVER = (SECONDS_SPENT, CONCLUDED, UNDER_WAY, PACKING, PLACE, PULSE)

SECONDS_TO_LIVE = 60.0  # without a pulse
LONGEST_GAP = 10.0  # seconds between two looks at the pulses that count: who looks away longer hears nobody


class NumberTaken(Exception):
    """Another driver has begun a trial in the meantime, and the new one would not have the number it was drawn for."""


def driver_of(study: "optuna.Study") -> str:
    """The driver that has opened a study; empty where it is the only one."""
    driver: str = getattr(study._storage, "driver", "")
    return driver


def is_own(study: "optuna.Study", trial: "FrozenTrial") -> bool:
    """Whether a trial belongs to the driver that has opened the study."""
    return bool(trial.user_attrs.get(DRIVER, "") == driver_of(study))


def own_records(study: "optuna.Study") -> list[TrialRecord]:
    """The records of the trials of the driver that has opened the study, in the order of their start."""
    trials = [trial for trial in study.get_trials(deepcopy=False) if is_own(study, trial)]
    return [TrialRecord(**saved) for trial in trials if (saved := trial.user_attrs.get("record")) is not None]


def places_of_others(study: "optuna.Study") -> dict[str, str]:
    """For each trial of another driver, by our id of it, where that driver keeps it."""
    attributes = study.user_attrs
    others = [trial for trial in study.get_trials(deepcopy=False) if not is_own(study, trial)]
    return {
        trial.user_attrs.get(TRIAL_ID, ""): attributes.get(f"{PLACE}/{trial.user_attrs.get(DRIVER)}", "another place")
        for trial in others
    }


def driver_id(run: RunFolder) -> str:
    """The name of the driver that searches in this folder, the same in every session.

    Raises InputError for a file that holds no such name.
    """
    if not run.driver.exists():
        write_text(run.driver, f"{secrets.token_hex(4)}\n")
    found = run.driver.read_bytes().strip()
    if not re.fullmatch(rb"[0-9a-f]{8}", found):
        raise InputError(
            f"{str(run.driver)!r} must hold the 8 hexadecimal digits of a driver's name, not {found[:40]!r}: write "
            "those that its trials have in the study, or remove it, and another driver goes on."
        )
    return found.decode()


class Pulses:
    """Tells which drivers are silent, by their pulses and this machine's steady clock: clocks need not agree.

    A driver is silent when its pulse has not changed while this one looked for `SECONDS_TO_LIVE`. The time in which
    nobody looked, as the database was away, does not count.
    """

    def __init__(self) -> None:
        self._pulses: dict[str, Any] = {}
        self._silence: dict[str, float] = {}
        self._looked: float | None = None

    def take_in(self, pulses: Mapping[str, Any], now: float) -> None:
        """Takes note of the pulses of all drivers, by their names, at a moment of the steady clock."""
        gap = 0.0 if self._looked is None else min(now - self._looked, LONGEST_GAP)
        for driver, pulse in pulses.items():
            changed = driver not in self._pulses or pulse != self._pulses[driver]
            self._silence[driver] = 0.0 if changed else self._silence[driver] + gap
        self._pulses, self._looked = dict(pulses), now

    def is_silent(self, driver: str) -> bool:
        """Whether a driver has not been heard of for so long that nobody waits for it."""
        return self._silence.get(driver, 0.0) >= SECONDS_TO_LIVE


def as_cut_off(trial: "FrozenTrial") -> "FrozenTrial":
    """A trial of a driver that is silent, as others see it: it waits until that driver goes on."""
    from optuna.trial import TrialState

    waiting = copy.copy(trial)
    waiting.state = TrialState.WAITING
    saved = trial.user_attrs.get("record")
    if saved is not None:
        reason = f"its driver is silent: --resume that one ({trial.user_attrs.get(DRIVER)})"
        record = replace(TrialRecord(**saved), status="stopped", reason=reason)
        waiting.user_attrs = {**trial.user_attrs, "record": asdict(record)}
    return waiting
