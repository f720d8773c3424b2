"""Optuna's pruners as schedulers: by the median of completed trials, and by Wilcoxon's test over folds."""

from typing import Any

import pytest

from search.pruning import WilcoxonScheduler
from search.rungs import Rungs
from search.schedulers import make_scheduler
from tests.search.paper_search import PaperSearch, PaperTrial, curves, steady

FOLD_ENDS = (3, 6, 9, 12, 15)  # with three epochs a fold


def by_fold(*dice: float) -> dict[int, float]:
    """The means over the folds up to each, as a trial reports them; its first fold has two epochs more."""
    means = [sum(dice[: fold + 1]) / (fold + 1) for fold in range(len(dice))]
    return {1: dice[0] / 2, 2: dice[0] / 2} | dict(zip(FOLD_ENDS, means, strict=False))


def fates(scheduler: Any, *values: dict[int, float]) -> dict[str, int]:
    """The last epoch of each trial."""
    named = {f"t{number:04d}": curve for number, curve in enumerate(values)}
    search = PaperSearch(scheduler, named).run()
    return {our_id: max(done) for our_id, done in search.done.items()}


def test_a_trial_below_the_median_is_stopped_after_the_first_rung() -> None:
    scheduler = make_scheduler("median", max_epochs=30)  # the first rung stands at 3
    completed = steady(0.2, 0.4, 0.6, 0.8, epochs=range(1, 31)).values()
    poor = dict.fromkeys(range(1, 31), 0.3)
    slow = {1: 0.1, 2: 0.1} | dict.fromkeys(range(3, 31), 0.55)
    assert fates(scheduler, *completed, poor, slow) == {
        **{f"t{number:04d}": 30 for number in range(4)},
        "t0004": 3,
        "t0005": 30,
    }
    assert scheduler.reason("ray1-t0004") == "best val_dice 0.3000 by epoch 3 is below the median of others (0.5000)"


def test_nobody_is_compared_with_fewer_than_four() -> None:
    scheduler = make_scheduler("median", max_epochs=9)
    assert set(fates(scheduler, *steady(0.9, 0.8, 0.7, 0.1).values()).values()) == {9}
    assert fates(scheduler, *steady(0.1).values()) == {"t0000": 1}


def test_the_median_is_of_the_best_so_far() -> None:
    scheduler = make_scheduler("median", max_epochs=9)
    sinking = curves(*[[0.6] + [0.1] * 8] * 4).values()
    assert fates(scheduler, *sinking, {1: 0.7, 2: 0.2, 9: 0.2}, {1: 0.5, 9: 0.5}) == {
        **{f"t{number:04d}": 9 for number in range(5)},
        "t0005": 1,
    }


def test_the_mean_over_more_folds_is_what_the_median_is_held_against() -> None:
    scheduler = make_scheduler("median", max_epochs=3, folds=5)
    good, lucky = by_fold(*[0.6] * 5), by_fold(0.9, 0.2, 0.2, 0.2, 0.2)
    assert fates(scheduler, *[good] * 4, lucky)["t0004"] == 6
    assert scheduler.reason("ray1-t0004") == "best val_dice 0.5500 by epoch 6 is below the median of others (0.6000)"


def test_a_repeated_result_is_judged_no_second_time() -> None:
    scheduler = make_scheduler("median", max_epochs=9)
    PaperSearch(scheduler, steady(0.9, 0.9, 0.9)).run()
    trial, result = PaperTrial("ray-late", {"trial_id": "late"}), {"epoch": 1, "val_dice": 0.1}
    assert scheduler.on_trial_result(None, trial, result) == "CONTINUE"
    PaperSearch(scheduler, steady(0.9)).run()
    assert scheduler.on_trial_result(None, trial, result) == "CONTINUE"
    assert scheduler.on_trial_result(None, trial, result | {"epoch": 2}) == "STOP"


def test_the_folds_of_a_trial_follow_from_its_means() -> None:
    scheduler = WilcoxonScheduler(Rungs(max_epochs=3, folds=5))
    assert scheduler.steps(by_fold(0.5, 0.6, 0.7, 0.4, 0.3)) == pytest.approx({1: 0.5, 2: 0.6, 3: 0.7, 4: 0.4, 5: 0.3})
    assert scheduler.steps({1: 0.2, 2: 0.9, 3: 0.5, 6: 0.6}) == pytest.approx({1: 0.9, 2: 0.3}), "the best epoch counts"
    assert scheduler.steps({1: 0.2, 2: 0.9}) == {}
    assert scheduler.steps({1: 0.2, 6: 0.6}) == {}, "the end of the first fold has no number"


def test_a_trial_that_is_worse_fold_after_fold_is_stopped() -> None:
    scheduler = make_scheduler("wilcoxon", max_epochs=3, folds=5)
    best = by_fold(0.5, 0.9, 0.6, 0.8, 0.7)
    worse = by_fold(0.49, 0.88, 0.57, 0.7, 0.6)  # in three folds: p = 1/8
    luckier = by_fold(0.51, 0.8, 0.48, 0.6, 0.5)  # better in one, by the least: p = 2/8 in three folds, 2/16 in four
    same = best
    assert fates(scheduler, best, worse, luckier, same) == {"t0000": 15, "t0001": 9, "t0002": 12, "t0003": 15}
    assert scheduler.reason("ray1-t0001") == "val_dice 0.6467 is below the best trial (0.6667) in fold after fold"
    assert scheduler.reason("ray1-t0003") == ""
