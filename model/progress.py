"""How far a training has come: the report of each epoch that was judged, and what is remembered between epochs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from model.diagnose import Watch
from model.metrics import Scores


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What one epoch showed.

    epoch: 1-based. train_loss: mean over the steps since the report before. val: metrics on the validation images,
    pixels that count pooled over all of them, at `thresholds` (one a class, 0..1), which were chosen there. seconds:
    since the training began, interruptions left out. images_per_second: training samples a second in the last epoch,
    evaluation left out. learning_rate: at the last step. gradient_norm: mean over the same steps as the loss.
    peak_memory_mb: of the device, or of the process on a CPU. gflops_per_megapixel: 10^9 operations that 10^6 pixels
    take, forward. batch_parts: in how many parts a batch was computed. warnings: what looks wrong, and what to do.
    latency_ms: time that the network takes for a picture, where it was to be measured.
    """

    epoch: int
    train_loss: float
    val: Scores
    class_names: tuple[str, ...]
    thresholds: tuple[float, ...]
    seconds: float
    images_per_second: float
    learning_rate: float
    gradient_norm: float
    peak_memory_mb: float
    parameters: int
    gflops_per_megapixel: float
    batch_parts: int
    warnings: tuple[str, ...]
    device: str
    latency_ms: float | None = None

    def flat(self) -> dict[str, Any]:
        """The report as one level of numbers and words, named like the leaderboard's columns."""
        entries = asdict(self)
        entries.update({f"val_{name}": value for name, value in entries.pop("val").items()})
        entries["current_learning_rate"] = entries.pop("learning_rate")
        entries["threshold"] = fmean(entries.pop("thresholds"))
        entries["warnings"] = " | ".join(entries["warnings"])
        if self.latency_ms is None:
            del entries["latency_ms"]
        dice = zip(entries.pop("class_names"), entries.pop("val_class_dice"), strict=True)
        return entries | {f"val_dice_{name}": value for name, value in dice}


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training has come.

    epoch: epochs that are done; step: steps that are done of the next one. seconds: trained so far. report: of the last
    epoch that was judged. watch: what the diagnosis remembers. best_dice: on the validation images. batch_parts: in how
    many parts a batch is computed. retries: how often it has gone back to its last good state. notes: what happened
    to it that a person should know, such as memory that did not suffice.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    report: EpochReport | None = None
    watch: Watch = field(default_factory=Watch)
    best_dice: float = -1.0
    batch_parts: int = 1
    retries: int = 0
    notes: tuple[str, ...] = ()

    def as_mapping(self) -> dict[str, Any]:
        """Itself as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_mapping(cls, entries: Mapping[str, Any]) -> "Progress":
        """The progress that `as_mapping` gave, also after a way through JSON."""
        report = entries["report"]
        if report is not None:
            val: dict[str, Any] = report["val"] | {"class_dice": tuple(report["val"]["class_dice"])}
            words = {name: tuple(report[name]) for name in ("class_names", "thresholds", "warnings")}
            report = EpochReport(**{**report, **words, "val": Scores(**val)})
        known = {"report": report, "watch": Watch(**entries["watch"]), "notes": tuple(entries["notes"])}
        return cls(**{**entries, **known})
