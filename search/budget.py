"""When a search has had enough: its limits, as a person types them, and which of them its records have come to."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from data.input_error import InputError, unknown_name
from search.record import BAD_ENDINGS, CLASS_METRIC, METRICS, TrialRecord

LEAST_GAIN = 0.001  # in val_dice: less than this is no improvement worth waiting for
LONGEST_SECONDS = 366 * 86400
LONGEST_SHOWN = 40  # characters of what was typed, in a message
UNBOUNDED = ("val_dice_additive",)  # metrics that may be above 1

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NUMBER = r"\d+(?:\.\d+)?"
_DURATION = re.compile(rf"({_NUMBER})([smhd])")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What all trainings of a search may take together.

    text: as it was typed. unit: whole trainings, epochs, or seconds on one device. amount: how many of them.
    """

    text: str
    unit: Literal["trainings", "epochs", "seconds"]
    amount: float


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is good enough. text: as it was typed. metric: a `val_` metric; value: what a training has to reach in it.

    It counts where a trial's model is kept: at the epoch with its best val_dice, over all its folds.
    """

    text: str
    metric: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What ends a whole run, all its sessions together; None where there is no such limit.

    trials: so many are started, and go to their end. All others end those that run, too: max_time, the time since the
    start, as it was typed; budget, what the trainings took; target, a training that is good enough; patience, so many
    trials that ended one after the other without bettering the best val_dice by more than `LEAST_GAIN`.
    max_epochs: of one training, in each of so many folds.
    """

    trials: int | None = None
    max_time: str | None = None
    budget: Budget | None = None
    target: Target | None = None
    patience: int | None = None
    max_epochs: int
    folds: int = 1

    @property
    def seconds(self) -> float | None:
        """The longest time of the whole run in seconds."""
        return None if self.max_time is None else read_seconds(self.max_time)

    @property
    def whole_training(self) -> int:
        """Epochs of a training that nothing stops, those of all its folds together."""
        return self.max_epochs * self.folds

    @property
    def counts_device_time(self) -> bool:
        """Whether a training that costs less leaves more for others."""
        return self.budget is not None and self.budget.unit == "seconds"

    @property
    def reads_records(self) -> bool:
        """Whether it depends on the trials that the search is over."""
        return not (self.budget is None and self.target is None and self.patience is None)

    @property
    def budget_amount(self) -> float | None:
        """The budget in epochs, or in seconds on one device."""
        if self.budget is None:
            return None
        return self.budget.amount * (self.whole_training if self.budget.unit == "trainings" else 1)

    def budget_spent(self, records: Iterable[TrialRecord], devices: float) -> float:
        """What the trainings took of it: epochs, or seconds on one device.

        devices: how many one training has whose record does not say so.
        """
        if self.counts_device_time:
            return sum(record.seconds * (record.devices or devices) for record in records)
        return sum(record.epochs for record in records)

    def over(self, records: Sequence[TrialRecord], spent_seconds: float, devices: float) -> str:
        """Why the search is over, beginning with the name of the setting; empty while it is not.

        records: of all trials, in the order in which they ended, those that still run last. devices: how many one
        training has whose record does not say so, in GPUs, parts of one included; 1 on a CPU. Epochs and seconds are
        those that were reported: what running trials have done since, which is at most an epoch of each and with
        several folds a fold, is not in them, and is lost when the search ends.
        """
        return next((reason for check in _CHECKS if (reason := check(self, records, spent_seconds, devices))), "")


def read_seconds(text: str, setting: str = "max_time") -> float:
    """Seconds of a duration such as 90s, 15m, 2h or 1h30m. Raises InputError for anything else, and for 0."""
    if re.fullmatch(_NUMBER, text):
        raise InputError(f"{setting} {_short(text)} has no unit: write {_cut(text)}m for minutes, or s, h or d.")
    seconds = _duration(text)
    if seconds is None:
        raise InputError(f"{setting} {_short(text)} is no duration: write it like 90s, 15m or 1h30m.")
    if not 0 < seconds <= LONGEST_SECONDS:
        raise InputError(
            f"{setting} {_short(text)} must be above 0 and at most a year: write it like 90s, 15m or 1h30m."
        )
    return seconds


def read_budget(text: str) -> Budget:
    """The budget that is meant by 20x (whole trainings), 500epochs, or 3h (on one device). Raises InputError."""
    forms = "20x (whole trainings), 500epochs, or 3h (of devices)"
    plain = text.strip()
    if re.fullmatch(_NUMBER, plain):
        number = _cut(plain)
        raise InputError(
            f"budget {_short(text)} has no unit: write {number}x for whole trainings, {number}epochs, or {number}h of "
            "devices; the number of trials is --num-trials."
        )
    if turned := re.fullmatch(rf"[x×] ?({_NUMBER})", plain):
        raise InputError(f"budget {_short(text)} is turned round: write {_cut(turned[1])}x.")
    if trainings := re.fullmatch(rf"({_NUMBER}) ?x", plain):
        budget = Budget(text=plain, unit="trainings", amount=float(trainings[1]))
    elif epochs := re.fullmatch(r"(\d+) ?epochs?", plain):
        budget = Budget(text=plain, unit="epochs", amount=float(epochs[1]))
    elif (seconds := _duration(plain)) is not None:
        budget = Budget(text=plain, unit="seconds", amount=seconds)
    else:
        raise InputError(f"budget {_short(text)} is none: write it like {forms}.")
    if not 0 < budget.amount < math.inf:
        raise InputError(f"budget {_short(text)} must be above 0: write it like {forms}.")
    return budget


def read_target(text: str) -> Target:
    """The target that is meant by val_dice=0.82, with any metric of the leaderboard. Raises InputError for others."""
    parts = re.fullmatch(r"(.+?)\s*(?:>=|=)\s*([^=\s]*)", text.strip())
    if parts is None:
        raise InputError(f"stop_at {_short(text)} is no target: write it like val_dice=0.82.")
    metric, number = parts[1], parts[2]
    if metric not in METRICS and not metric.startswith(CLASS_METRIC):
        raise unknown_name("stop_at", metric, (*METRICS, f"{CLASS_METRIC}<class>"))
    try:
        value = float(number)
    except ValueError:
        raise InputError(f"stop_at {_short(text)} has no number: write it like {metric}=0.82.") from None
    most = math.inf if metric in UNBOUNDED else 1.0
    if not 0 < value <= most or value == math.inf:
        rule = "above 0" if metric in UNBOUNDED else "above 0 and at most 1"
        meant = value / 100 if 10 <= value <= 100 else 0.82  # it was typed in percent
        raise InputError(f"stop_at {_short(text)} must be {rule}: write it like {metric}={meant:g}.")
    return Target(text=f"{metric}={number}", metric=metric, value=value)


def check_target(target: Target | None, class_names: Sequence[str]) -> None:
    """Raises InputError for a target that is the Dice of a class which the data do not have."""
    known = (*METRICS, *(f"{CLASS_METRIC}{name}" for name in class_names))
    if target is not None and target.metric not in known:
        raise unknown_name("stop_at", target.metric, known)


def remedy(reason: str) -> str:
    """What to ask for to go on after a search that was over for this reason; empty where nothing helps."""
    return _REMEDIES.get(reason.partition(" ")[0], "")


def _time_is_over(limits: Limits, _: Sequence[TrialRecord], spent_seconds: float, _devices: float) -> str:
    if limits.seconds is None or spent_seconds < limits.seconds:
        return ""
    return f"max_time {limits.max_time} reached"


def _budget_is_used_up(limits: Limits, records: Sequence[TrialRecord], _spent: float, devices: float) -> str:
    if limits.budget is None or limits.budget_amount is None:
        return ""
    spent = limits.budget_spent(records, devices)
    if spent < limits.budget_amount:
        return ""
    unit = "s of devices" if limits.budget.unit == "seconds" else "epochs"
    return f"budget {limits.budget.text} used up ({spent:.0f} of {limits.budget_amount:.0f} {unit})"


def _target_is_reached(limits: Limits, records: Sequence[TrialRecord], _spent: float, _devices: float) -> str:
    if limits.target is None:
        return ""
    for record in records:
        value = record.metrics.get(limits.target.metric, -math.inf)
        if record.status not in BAD_ENDINGS and record.folds == limits.folds and value >= limits.target.value:
            return f"stop_at {limits.target.text} reached by {record.trial_id} ({value:.4f})"
    return ""


def _patience_is_at_its_end(limits: Limits, records: Sequence[TrialRecord], _spent: float, _devices: float) -> str:
    if limits.patience is None:
        return ""
    best: TrialRecord | None = None
    in_a_row = 0
    for record in records:
        if _betters(record, best):
            best, in_a_row = record, 0
        elif record.status != "running":
            in_a_row += 1
    if in_a_row < limits.patience:
        return ""
    brought = (
        "brought no val_dice" if best is None else f"bettered val_dice {best.val_dice:.4f} by no more than {LEAST_GAIN}"
    )
    return f"patience {limits.patience} at its end: the last {in_a_row} trials {brought}"


def _betters(record: TrialRecord, best: TrialRecord | None) -> bool:
    """Whether this trial brought more than the best one before it; a mean over more folds always does."""
    if record.status in BAD_ENDINGS or record.val_dice is None:
        return False
    if best is None or best.val_dice is None or record.folds != best.folds:
        return best is None or record.folds > best.folds
    return record.val_dice > best.val_dice + LEAST_GAIN


def _duration(text: str) -> float | None:
    """Seconds of a duration such as 1h30m; None for anything else."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _short(text: str) -> str:
    return repr(_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


# What may end a search together with the trials that run. Each gives the reason, or an empty text.
_CHECKS: tuple[Callable[[Limits, Sequence[TrialRecord], float, float], str], ...] = (
    _time_is_over,
    _budget_is_used_up,
    _target_is_reached,
    _patience_is_at_its_end,
)
# By the word with which a reason begins.
_REMEDIES = {
    "num_trials": "a larger --num-trials",
    "max_time": "a longer --max-time",
    "budget": "a larger --budget",
    "stop_at": "a higher --stop-at",
    "patience": "a larger --patience",
}
