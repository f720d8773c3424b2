"""How long a search may still take, by hand-made records of its trials."""

from collections.abc import Sequence
from dataclasses import asdict

import pytest

from model.config import TrainConfig
from search.budget import Limits, read_budget
from search.cost_model import Cost, CostModel
from search.record import Status, TrialRecord
from search.time_left import TimeLeft


def record(status: Status, epochs: int, seconds: float, max_epochs: int = 10) -> TrialRecord:
    config = asdict(TrainConfig(max_epochs=max_epochs))
    return TrialRecord(trial_id="t", config=config, status=status, epochs=epochs, seconds=seconds)


def no_model(records: Sequence[TrialRecord]) -> CostModel | None:
    return None


def left(
    *records: TrialRecord,
    spent: float,
    num_trials: int | None = 4,
    limit: float | None = None,
    budget: str | None = None,
    folds: int = 1,
    devices: float = 1.0,
) -> float | None:
    limits = Limits(
        trials=num_trials,
        max_time=None if limit is None else f"{limit}s",
        budget=None if budget is None else read_budget(budget),
        max_epochs=10,
        folds=folds,
    )
    return TimeLeft(limits=limits, devices=devices, fit=no_model).after(records, spent)


DONE = record("completed", 10, 10.0)


def test_nothing_is_said_before_something_tells() -> None:
    assert left(spent=10) is None
    assert left(record("running", 5, 5.0), spent=10) is None
    assert left(record("failed", 0, 0.0), spent=10) is None


def test_the_limit_bounds_it() -> None:
    assert left(spent=10, limit=60) == 50
    assert left(DONE, spent=10, limit=15) == 5
    assert left(DONE, spent=99, limit=60) == 0


def test_the_budget_is_spent_as_fast_as_so_far() -> None:
    # Ten epochs took 20 seconds; 50 of 60 are left.
    assert left(DONE, spent=20, num_trials=None, budget="60epochs") == pytest.approx(100)
    assert left(DONE, spent=20, num_trials=None, budget="6x") == pytest.approx(100)
    assert left(DONE, spent=20, num_trials=None, budget="2x", folds=3) == pytest.approx(100)
    # Ten seconds on half a device took 20; 25 of 30 are left.
    assert left(DONE, spent=20, num_trials=None, budget="30s", devices=0.5) == pytest.approx(100)
    assert left(DONE, spent=20, num_trials=None, budget="5epochs") == 0
    assert left(record("running", 0, 0.0), spent=20, num_trials=None, budget="60epochs") is None


def test_whichever_limit_comes_first_counts() -> None:
    for limit, budget, seconds in ((50, "60epochs", 30), (300, "60epochs", 60), (300, "12epochs", 4)):
        assert left(DONE, spent=20, limit=limit, budget=budget) == pytest.approx(seconds)
    assert left(DONE, spent=20, num_trials=None) is None, "a target or patience tell nothing of it"


def test_trials_that_were_not_started_take_as_long_as_others() -> None:
    assert left(DONE, DONE, spent=20) == pytest.approx(20)
    assert left(DONE, DONE, spent=10) == pytest.approx(10), "two trained side by side"
    assert left(DONE, DONE, DONE, DONE, spent=40) == 0
    assert left(DONE, DONE, num_trials=1, spent=20) == 0, "a budget that was made smaller"


def test_a_trial_is_expected_to_go_as_far_as_those_that_came_further() -> None:
    # One of two was stopped after two epochs, so a fresh trial has (10 + 2) / 2 epochs before it, of a second each.
    stopped = record("stopped", 2, 2.0)
    assert left(DONE, stopped, record("running", 0, 0.0), num_trials=3, spent=12) == pytest.approx(6)
    assert left(DONE, stopped, record("running", 4, 4.0), num_trials=3, spent=16) == pytest.approx(6)
    # Nobody has come further than this one: it may go on to its last epoch, in each of its folds.
    assert left(stopped, record("running", 4, 4.0), num_trials=2, spent=6) == pytest.approx(6)
    assert left(stopped, record("running", 4, 4.0), num_trials=2, spent=6, folds=2) == pytest.approx(16)


def test_a_trial_goes_on_at_its_own_pace_and_the_last_one_is_waited_for() -> None:
    slow = record("running", 5, 50.0)
    # Two trained side by side all the time; now one trains alone.
    assert left(DONE, slow, num_trials=2, spent=30) == pytest.approx(50)


def test_the_cost_model_says_how_long_a_trial_takes_that_has_shown_nothing_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        CostModel,
        "predict",
        lambda self, config: Cost(seconds_an_epoch=30.0, seconds_within=1.0, peak_memory_mb=0.0, memory_within=1.0),
    )
    learnt_from: list[int] = []

    def fit(records: Sequence[TrialRecord]) -> CostModel:
        learnt_from.append(len(records))
        return CostModel.__new__(CostModel)

    fresh = record("running", 0, 0.0)
    estimate = TimeLeft(limits=Limits(trials=2, max_epochs=10), devices=1.0, fit=fit)
    assert estimate.after([DONE, fresh], 10) == pytest.approx(10), "trials of ten seconds are not worth a model"
    assert learnt_from == []
    long = record("completed", 10, 100.0)
    assert estimate.after([long, fresh], 100) == pytest.approx(300)
    assert estimate.after([long, fresh], 100) == pytest.approx(300)
    assert learnt_from == [1]
    assert estimate.after([long, long, record("running", 5, 50.0), fresh], 250) == pytest.approx(350)
    assert learnt_from == [1, 2], "it is fitted again when another trial has ended"
