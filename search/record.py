"""What is known of one trial, and how each of its results adds to it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from data.printable import printable

if TYPE_CHECKING:
    import optuna

Status = Literal["running", "completed", "stopped", "diverged", "collapsed", "out_of_memory", "failed"]

TRIAL_ID = "trial_id"  # where what a searcher suggests has our id of the trial, beside the hyperparameters
STATUSES: tuple[Status, ...] = get_args(Status)
# Endings that speak against the configuration (see `TrialRecord.speaks_against_config`).
BAD_ENDINGS: frozenset[Status] = frozenset({"diverged", "collapsed", "out_of_memory", "failed"})
WAITS = "waits: "  # how the reason of a stopped trial begins that may go on in this search

# fmt: off
METRICS = (
    "val_dice", "val_iou", "val_f1_macro", "val_f1_micro", "val_precision_macro", "val_precision_micro",
    "val_recall_macro", "val_recall_micro", "val_accuracy", "val_dice_additive", "val_dice_per_image",
    "val_auc_roc", "val_auc_pr",
)
# fmt: on
CLASS_METRIC = "val_dice_"  # and the name of the class
BETWEEN_WARNINGS = " | "  # in the text that a report has of them


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One row of the leaderboard, as far as it is known.

    trial_id: the name of the trial in the study, the leaderboard and its folder. config: every field of
    `TrainConfig`. dataset: what it trained on. version: of this project. status: one of `STATUSES`. reason: in words,
    why it ended before its time. warnings: what did not look right when it was last judged, one after the other (see
    `split_warnings`). metrics: every `val_` metric and threshold (0..1, mean over the classes) of best_epoch (from 1),
    which is the one with the highest `val_dice`, whose model is kept. folds: how many folds the metrics are a mean of,
    each with its best epoch; threshold and best_epoch are then those of the best fold, whose model is kept. epochs: how
    many were trained, those of all folds together. seconds: of training, over all its resumes and folds.
    images_per_second: of its last epoch. peak_memory_mb: the highest reported. parameters: of the network.
    gflops_per_megapixel: 10^9 operations of the network for a million pixels. latency_ms: time that the network takes
    for a picture, where it was measured. batch_parts: in how many a batch was computed. devices: how many devices it
    trains on: GPUs, parts of one included, or 1 on a CPU; None before it has said so. checkpoint: the folder of the
    model of best_epoch, below the folder of the run.
    """

    trial_id: str
    config: Mapping[str, Any]
    dataset: str = ""
    version: str = ""
    status: Status = "running"
    reason: str = ""
    warnings: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    threshold: float | None = None
    folds: int = 1
    best_epoch: int | None = None
    epochs: int = 0
    seconds: float = 0.0
    device: str = ""
    images_per_second: float | None = None
    peak_memory_mb: float | None = None
    parameters: int | None = None
    gflops_per_megapixel: float | None = None
    latency_ms: float | None = None
    batch_parts: int | None = None
    devices: float | None = None
    checkpoint: str = ""

    @property
    def val_dice(self) -> float | None:
        """The highest Dice on the validation images so far, of as many folds as there are; None before there is one."""
        return self.metrics.get("val_dice")

    @property
    def waits(self) -> bool:
        """Whether it was set aside because others are better, and goes on if it is among the best third after all."""
        return self.status == "stopped" and self.reason.startswith(WAITS)

    @property
    def speaks_against_config(self) -> bool:
        """Whether it ended badly by itself: memory that ran out beside others on its GPU may be their fault."""
        beside_others = self.devices is not None and self.devices < 1
        return self.status in BAD_ENDINGS and not (self.status == "out_of_memory" and beside_others)

    def updated(self, result: Mapping[str, Any]) -> "TrialRecord":
        """The record after one more result, in which anything may be missing, None or not a number.

        The mean over more folds takes the place of that over fewer, be it lower or not: it is the surer one. A trial
        that says it completed but never had a `val_dice` has failed.
        """
        said = {name: read(result.get(name)) for name, read in LATEST.items()}
        changes: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        changes["epochs"] = max(self.epochs, whole(result.get("epoch")) or 0)
        peaks = [peak for peak in (self.peak_memory_mb, finite(result.get("peak_memory_mb"))) if peak is not None]
        changes["peak_memory_mb"] = max(peaks, default=None)
        val_dice, folds = finite(result.get("val_dice")), whole(result.get("folds")) or 1
        if val_dice is not None and (self.val_dice is None or (folds, val_dice) > (self.folds, self.val_dice)):
            metrics = {name: finite(value) for name, value in result.items() if is_metric(name)}
            changes["metrics"] = {name: value for name, value in metrics.items() if value is not None}
            changes["threshold"] = finite(result.get("threshold"))
            changes["folds"] = folds
            changes["best_epoch"] = whole(result.get("best_epoch", result.get("epoch")))
            changes["checkpoint"] = one_line(result.get("checkpoint")) or ""
        updated = replace(self, **changes)
        if updated.status == "completed" and updated.val_dice is None:
            return replace(updated, status="failed", reason="it ended without any val_dice")
        return updated


def records_from_study(study: "optuna.Study") -> list[TrialRecord]:
    """The record of every trial that was started, in the order of their start: all that a leaderboard needs."""
    saved = (trial.user_attrs.get("record") for trial in study.get_trials(deepcopy=False))
    return [TrialRecord(**record) for record in saved if record is not None]


def is_metric(name: str) -> bool:
    """Whether a result, or a column, of this name measures a trial on the validation images."""
    return name in METRICS or name.startswith(CLASS_METRIC)


def finite(value: Any) -> float | None:
    """The value as a float, or None when it is no finite number."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def whole(value: Any) -> int | None:
    """The value as an int, or None when it is no finite number."""
    number = finite(value)
    return None if number is None else int(number)


def one_line(value: Any) -> str | None:
    """The text on one line, with nothing in it that a terminal would obey, or None when there is none."""
    return printable(" ".join(str(value or "").split())) or None


def split_warnings(text: str) -> list[str]:
    """The warnings of a record one by one, each as `name: what was seen; what to do`."""
    return text.split(BETWEEN_WARNINGS) if text else []


def warning_name(warning: str) -> str:
    """The name of a warning, such as `overfitting`."""
    return warning.partition(":")[0]


def _text_if_told(value: Any) -> str | None:
    """The text on one line, empty as it may be; None when nothing is said."""
    return None if value is None else one_line(value) or ""


def _known_status(value: Any) -> Status | None:
    return value if value in STATUSES else None


# What a record takes over from each result that has it.
LATEST: dict[str, Callable[[Any], Any]] = {
    "status": _known_status,
    "reason": one_line,
    "warnings": _text_if_told,
    "seconds": finite,
    "device": one_line,
    "images_per_second": finite,
    "parameters": whole,
    "gflops_per_megapixel": finite,
    "latency_ms": finite,
    "batch_parts": whole,
    "devices": finite,
}
