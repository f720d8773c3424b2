"""Where trials are compared, and what of them: the best that each has shown after as much training as the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from search.record import finite, whole

TIME = "epoch"
METRIC = "val_dice"
REDUCTION = 3  # of the trials that come to a rung, the best one in so many goes on
LEAST_FOLDS = 4  # with which Wilcoxon's test can stop a trial before its last one
GRACE_SHARE = 10  # the first rung stands after one in so many of the epochs,
EARLY_SHARE = 30  # or of so many, where a trial that falls behind may yet go on

Standing = tuple[int, float]  # folds, and the best val_dice of so many; the mean over more folds is the higher one
NOTHING_SHOWN: Standing = (0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Rungs:
    """After which epochs trials are compared: first after one in `grace_share`, then `REDUCTION` times further on.

    An epoch is as many training pixels in every trial (see `data.sampling.samples_per_epoch`), so no batch size, crop
    size or speed of a machine gives a trial more training than others before it is judged.

    max_epochs: of one training. evaluate_every: epochs between two results of a trial, the most that any has; rungs
    stand where there are results. folds: trainings of a trial, whose `epoch` counts those of all of them; the first
    one has the rungs of a trial without folds.
    """

    max_epochs: int
    evaluate_every: int = 1
    folds: int = 1
    grace_share: int = GRACE_SHARE

    @property
    def first(self) -> int:
        """The epoch before which no trial is judged."""
        looks = max(1, round(self.max_epochs / self.grace_share / self.evaluate_every))
        return min(looks * self.evaluate_every, self.max_epochs)

    @property
    def last(self) -> int:
        """The epoch in which a trial is through."""
        return self.folds * self.max_epochs

    @property
    def epochs(self) -> tuple[int, ...]:
        """All rungs, first to last."""
        rungs = [self.first]
        while rungs[-1] * REDUCTION <= self.last:
            rungs.append(rungs[-1] * REDUCTION)
        return tuple(rungs)

    def standing(self, epoch: int, val_dice: float) -> Standing:
        """What a result says of the trial. The highest one is where a trial stands, as it is for its `TrialRecord`."""
        return -(-epoch // self.max_epochs), val_dice

    def best_so_far(self, values: Mapping[int, float]) -> dict[int, float]:
        """For each epoch that has a `val_dice`, in order, the one by which the trial stands there."""
        curve = {epoch: value for epoch, value in sorted(values.items()) if finite(value) is not None}
        standings = accumulate((self.standing(epoch, value) for epoch, value in curve.items()), max)
        return {epoch: value for epoch, (_, value) in zip(curve, standings, strict=True)}


def shown(result: Mapping[str, Any]) -> tuple[int, float] | None:
    """Epoch and `val_dice` of a result, or None where one of them is missing or no number: it counts for nothing."""
    epoch, value = whole(result.get(TIME)), finite(result.get(METRIC))
    return None if epoch is None or value is None else (epoch, value)
