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
WITHIN = 2  # rungs before the end of a training: after a third of its epochs, and a third of that,
EARLY_WITHIN = 3  # and once more a third, where a trial that falls behind may yet go on

Standing = tuple[int, float]  # folds, and the best val_dice of so many; the mean over more folds is the higher one
NOTHING_SHOWN: Standing = (0, 0.0)


@dataclass(frozen=True, kw_only=True)
class Rungs:
    """After which epochs trials are compared: after one in `REDUCTION` of all, of these, and so on, `within` times.

    They are counted from the end, as a rung shortly before it would save nothing, and cut a trial off from its last
    epochs, which bring the most where the learning rate falls to zero.

    An epoch is as many training pixels in every trial (see `data.sampling.samples_per_epoch`), so no batch size, crop
    size or speed of a machine gives a trial more training than others before it is judged.

    max_epochs: of one training. evaluate_every: epochs between two results of a trial, the most that any has; rungs
    stand where there are results. folds: trainings of a trial, whose `epoch` counts those of all of them; the first
    one has the rungs of a trial without folds, and the next stand at its end, at that of the third, and so on.
    """

    max_epochs: int
    evaluate_every: int = 1
    folds: int = 1
    within: int = WITHIN

    @property
    def first(self) -> int:
        """The epoch before which no trial is judged."""
        return self.epochs[0]

    @property
    def last(self) -> int:
        """The epoch in which a trial is through."""
        return self.folds * self.max_epochs

    @property
    def epochs(self) -> tuple[int, ...]:
        """All rungs, first to last, which is the end."""
        shares = (self.max_epochs / REDUCTION**step for step in range(1, self.within + 1))
        looked_at = (max(1, round(share / self.evaluate_every)) * self.evaluate_every for share in shares)
        rungs = {epoch for epoch in looked_at if epoch < self.max_epochs}
        folds = 1
        while folds <= self.folds:
            rungs.add(folds * self.max_epochs)
            folds *= REDUCTION
        return tuple(sorted(rungs | {self.last}))

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
