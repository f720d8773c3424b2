"""Fronts, and the order that they give, against values worked out by hand and against their definition."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from search.objectives import Point
from search.pareto import fronts, on_front, scores
from search.record import TrialRecord
from tests.toys import PROPERTY

# val_dice and parameters. The second beats the third, the first three beat the fourth; the fifth is the first again.
POINTS = ((0.9, 100.0), (0.8, 50.0), (0.8, 60.0), (0.7, 200.0), (0.9, 100.0), (0.6, 10.0))


def test_the_front_of_each_point() -> None:
    assert fronts(POINTS) == (0, 0, 1, 2, 0, 0)
    assert fronts(()) == ()
    assert fronts(((0.3,), (0.9,), (0.9,), (0.5,))) == (2, 0, 0, 1), "with one objective they are its values"


def beats(one: Point, other: Point) -> bool:
    losses = [(-point[0], *point[1:]) for point in (one, other)]
    return all(mine <= theirs for mine, theirs in zip(*losses, strict=True)) and losses[0] != losses[1]


def points_of(objectives: int) -> st.SearchStrategy[list[Point]]:
    return st.lists(st.tuples(*[st.integers(0, 3).map(float)] * objectives), max_size=25)


@PROPERTY
@given(points_of(2) | points_of(3))
def test_a_front_is_one_more_than_the_last_of_those_that_beat_it(points: list[Point]) -> None:
    found = fronts(tuple(points))
    for point, front in zip(points, found, strict=True):
        beaten_by = [other for rival, other in zip(points, found, strict=True) if beats(rival, point)]
        assert front == max(beaten_by, default=-1) + 1


def test_of_several_objectives_a_score_counts_those_that_stand_before() -> None:
    assert scores(POINTS) == [0, -2, -4, -5, 0, -3]


def test_of_one_objective_a_score_is_its_value() -> None:
    assert scores([(0.3,), (0.9,), (0.5,)]) == [0.3, 0.9, 0.5]
    assert scores([]) == []


def trial(number: int, val_dice: float, parameters: int | None, **more: Any) -> TrialRecord:
    status = more.pop("status", "completed")
    metrics = {"val_dice": val_dice}
    return TrialRecord(
        trial_id=f"t000{number}", config={}, status=status, metrics=metrics, parameters=parameters, **more
    )


def test_on_the_front_are_completed_and_stopped_trials() -> None:
    trials = [
        trial(0, 0.5, 10, status="stopped"),
        trial(1, 0.9, 100),
        trial(2, 0.8, 100),
        trial(3, 0.95, 90, status="running"),
        trial(4, 0.95, 90, status="diverged"),
        trial(5, 0.99, None),
    ]
    found = on_front(trials, ("val_dice", "parameters"))
    assert [record.trial_id for record in found] == ["t0000", "t0001"]
    assert [record.trial_id for record in on_front(trials, ("val_dice",))] == ["t0005"]
    assert on_front(trials[3:5], ("val_dice", "parameters")) == []


def test_with_folds_only_the_surest_are_on_the_front() -> None:
    trials = [trial(0, 0.9, 10, status="stopped"), trial(1, 0.7, 100, folds=3), trial(2, 0.6, 200, folds=3)]
    assert [record.trial_id for record in on_front(trials, ("val_dice", "parameters"))] == ["t0001"]
