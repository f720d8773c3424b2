"""Which trials are better than others where several objectives count, none of which makes up for another."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from search.objectives import Point, point_of
from search.record import TrialRecord


@lru_cache(maxsize=16)  # a scheduler asks for the same ones, rung by rung, over and over
def fronts(points: tuple[Point, ...]) -> tuple[int, ...]:
    """The front that each point stands on: 0 where no other is as good in all objectives and better in one.

    Those on front 1 are beaten by points of front 0 only, and so on: one more than the last front that has a point
    which beats it (non-dominated sorting; Deb et al., 2002, IEEE Transactions on Evolutionary Computation 6:182).
    points: val_dice, the higher the better, and costs, the lower the better; as many in each.
    """
    if not points:
        return ()
    from optuna.study._multi_objective import _fast_non_domination_rank  # commands begin without Optuna

    losses = np.array(points, dtype=np.float64)  # (n, objectives)
    losses[:, 0] *= -1
    return tuple(_fast_non_domination_rank(losses).tolist())


def scores(points: Sequence[Point]) -> list[float]:
    """A number for each point, the higher the better: `val_dice` where it is all that counts.

    Of several objectives, minus the number of points that stand before it: those on an earlier front, and those on the
    same front with a higher `val_dice`. So the best third are whole fronts, and of the last of them the better part
    (MO-ASHA, Schmucker et al., 2021, arXiv 2106.12639, in a simple form: they spread that part over the front).
    """
    if all(len(point) == 1 for point in points):
        return [val_dice for (val_dice,) in points]
    places = [(front, -point[0]) for front, point in zip(fronts(tuple(points)), points, strict=True)]
    ordered = sorted(places)
    return [-float(bisect_left(ordered, place)) for place in places]


def on_front(records: Iterable[TrialRecord], objectives: Sequence[str]) -> list[TrialRecord]:
    """Of the trials that completed or were stopped, those that no other beats, in the order in which they come.

    With folds, of those whose `val_dice` is a mean over the most folds.
    """
    known = [record for record in records if record.status in ("completed", "stopped")]
    most = max((record.folds for record in known), default=1)
    points = {
        record.trial_id: point
        for record in known
        if record.folds == most and (point := point_of(record, objectives)) is not None
    }
    of_trials = dict(zip(points, fronts(tuple(points.values())), strict=True))
    return [record for record in known if of_trials.get(record.trial_id) == 0]
