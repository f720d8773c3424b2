"""Why a training is not worth going on with: a loss that is not finite, masks that stay empty or full."""

from dataclasses import dataclass
from math import isfinite
from typing import Literal

from model.metrics import PixelCounts


class TrainingFailure(RuntimeError):
    """A training that ended badly: `status` for the leaderboard, `reason` in words for the person."""

    def __init__(self, status: Literal["diverged", "collapsed"], reason: str) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason


def check_finite(loss: float, *, epoch: int, step: int, learning_rate: float) -> None:
    """Raises TrainingFailure "diverged" unless the loss, summed up to this step, is a finite number."""
    if not isfinite(loss):
        raise TrainingFailure(
            "diverged",
            f"the loss was no longer finite by step {step} of epoch {epoch}, at learning rate {learning_rate:.2g}: "
            "try a smaller learning rate",
        )


@dataclass(frozen=True, kw_only=True)
class MaskWatch:
    """How many epochs in a row the validation masks were all empty, or full.

    Full: every class has all pixels or none, and one of them has all.
    """

    kind: Literal["empty", "full", "fine"] = "fine"
    epochs: int = 0

    def after(self, counts: PixelCounts) -> "MaskWatch":
        """The watch after one more epoch with these validation counts."""
        found, left_out = counts.tp + counts.fp, counts.fn + counts.tn  # (K,)
        kind: Literal["empty", "full", "fine"] = "fine"
        if not found.any():
            kind = "empty"
        elif not ((found > 0) & (left_out > 0)).any():
            kind = "full"
        return MaskWatch(kind=kind, epochs=self.epochs + 1 if kind == self.kind else 1)

    def check(self, limit: int) -> None:
        """Raises TrainingFailure "collapsed" once masks were empty or full for `limit` epochs in a row."""
        if self.kind == "fine" or self.epochs < limit:
            return
        seen, remedy = {
            "empty": (
                "no pixel of any class",
                "try a loss with Dice, class_weight=square_root or a smaller learning rate",
            ),
            "full": ("every pixel of the picture", "try class_weight=none or a smaller learning rate"),
        }[self.kind]
        raise TrainingFailure("collapsed", f"predicted {seen} for {self.epochs} epochs in a row: {remedy}")
