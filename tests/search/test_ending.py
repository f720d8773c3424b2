"""When a search is asked to end, and what becomes of the trials that its end cuts off."""

import os
import pickle
import signal
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

import search.ending
from search.budget import Limits
from search.driver import CONCLUDED, check_limits
from search.ending import Ending, records_by_ending, set_aside, take_up
from search.record import TrialRecord, records_from_study
from search.searcher import StudySearcher
from search.space import parse_space
from search.study import open_study, read_study


class Clock:
    """A clock that stands still, and a question that takes so long."""

    def __init__(self, answer: str = "", takes: float = 0.0) -> None:
        self.now, self.asked, self.answer, self.takes = 100.0, 0, answer, takes

    def over(self) -> str:
        self.asked += 1
        self.now += self.takes
        return self.answer

    def monotonic(self) -> float:
        return self.now


def ending_with(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Ending:
    monkeypatch.setattr(search.ending, "time", clock)
    return Ending(clock.over)


def test_it_is_asked_after_each_result_and_otherwise_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    ending = ending_with(clock, monkeypatch)
    for asked, seconds, result in ((1, 0.0, False), (1, 0.5, False), (2, 0.0, True), (2, 0.9, False), (3, 0.2, False)):
        clock.now += seconds
        if result:
            assert not ending("a1b2", {"epoch": 1}), "a single trial goes on"
        assert not ending.stop_all()
        assert clock.asked == asked


def test_where_asking_takes_long_it_is_asked_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(takes=0.5)
    ending = ending_with(clock, monkeypatch)
    ending.stop_all()
    for asked, seconds in ((1, 9.4), (2, 0.7)):
        clock.now += seconds
        ending("a1b2", {"epoch": 1})
        ending.stop_all()
        assert clock.asked == asked


def test_what_is_over_stays_over_and_keeps_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock("max_time 1h reached")
    ending = ending_with(clock, monkeypatch)
    assert ending.reason == ""
    for _ in range(3):
        assert ending.stop_all()
        ending("a1b2", {"epoch": 1})
    assert (ending.reason, clock.asked, ending.interrupted) == ("max_time 1h reached", 1, False)
    pickle.dumps(ending)


def test_who_is_interrupted_needs_no_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock("max_time 1h reached")
    ending = ending_with(clock, monkeypatch)
    ending.interrupted = True
    assert ending.stop_all()
    assert (ending.reason, clock.asked) == ("", 0)


@pytest.mark.parametrize(
    ("own_ray", "signals", "at_once"),
    [
        (True, [signal.SIGTERM], False),
        (True, [signal.SIGTERM, signal.SIGTERM], True),
        (True, [signal.SIGINT, signal.SIGTERM], True),
        (False, [signal.SIGINT], False),
        (False, [signal.SIGTERM], True),
    ],
)
def test_the_first_signal_ends_it_in_good_order_where_ray_is_still_there(
    own_ray: bool, signals: list[signal.Signals], at_once: bool
) -> None:
    ending, left = Ending(str), True
    with ending.interruptible(own_ray=own_ray):
        for one in signals:
            os.kill(os.getpid(), one)
        left = False
    assert (ending.interrupted, left) == (True, at_once)


def searcher_in(folder: Path, num_trials: int = 3, max_concurrent: int = 3, **more: Any) -> StudySearcher:
    asked: dict[str, Any] = {"num_trials": num_trials, "max_concurrent": max_concurrent, **more}
    return StudySearcher(journal=folder / "study.log", space=parse_space(()), seed=0, **asked)


def statuses(records: list[TrialRecord]) -> list[tuple[str, str, str]]:
    return [(record.trial_id, record.status, record.reason) for record in records]


def test_a_trial_that_the_end_cuts_off_waits_and_is_taken_up_again(tmp_path: Path) -> None:
    first = searcher_in(tmp_path)
    begun = {ray_id: first.suggest(ray_id) for ray_id in ("a", "b", "c")}
    first.on_trial_result("a", {"epoch": 1, "val_dice": 0.4, "seconds": 2.0})
    first.on_trial_complete("b", {"epoch": 9, "val_dice": 0.5, "status": "completed"})
    first.on_trial_result("c", {"epoch": 1, "val_dice": 0.3, "seconds": 2.0})
    set_aside(first.study, "max_time 1h reached")

    study = read_study(tmp_path / "study.log")
    assert [trial.state for trial in study.trials] == [TrialState.WAITING, TrialState.COMPLETE, TrialState.WAITING]
    stopped = "max_time 1h reached"
    assert statuses(records_from_study(study)) == [
        ("t0000", "stopped", stopped),
        ("t0001", "completed", ""),
        ("t0002", "stopped", stopped),
    ]

    take_up(open_study(tmp_path / "study.log"))
    later = searcher_in(tmp_path, num_trials=4)
    assert statuses(records_from_study(later.study)) == [
        ("t0000", "running", ""),
        ("t0001", "completed", ""),
        ("t0002", "running", ""),
    ]
    assert [later.suggest(ray_id) for ray_id in ("d", "e")] == [begun["a"], begun["c"]]
    fresh = later.suggest("f")
    assert isinstance(fresh, dict)
    assert fresh["trial_id"] == "t0003"
    later.on_trial_complete("d", {"epoch": 2, "val_dice": 0.6, "status": "completed"})
    trial = later.study.trials[0]
    assert (trial.state, trial.value, trial.intermediate_values) == (TrialState.COMPLETE, 0.6, {1: 0.4, 2: 0.6})


def test_a_trial_that_waits_for_better_ones_counts_as_ended_when_it_came_to_rest(tmp_path: Path) -> None:
    first = searcher_in(tmp_path, num_trials=4)
    first.set_max_concurrency(4)
    for ray_id in "abcd":
        first.suggest(ray_id)
        first.on_trial_result(ray_id, {"epoch": 1, "val_dice": 0.4})
    first.set_aside("c")
    first.on_trial_complete("b", {"epoch": 9, "val_dice": 0.5, "status": "completed"})
    first.set_aside("a")
    assert [(trial_id, status) for trial_id, status, _ in statuses(records_by_ending(first.study))] == [
        *[("t0002", "stopped"), ("t0001", "completed"), ("t0000", "stopped"), ("t0003", "running")]
    ]
    first.take_place("c")
    set_aside(first.study, "max_time 1h reached")  # which it outlives no more than the one that ran all the time
    ended = [("t0001", "completed"), ("t0000", "stopped"), ("t0002", "running"), ("t0003", "running")]
    assert [(record.trial_id, record.status) for record in records_by_ending(first.study)] == ended

    take_up(open_study(tmp_path / "study.log"))
    later = searcher_in(tmp_path, num_trials=4)
    assert [(record.trial_id, record.status) for record in records_by_ending(later.study)] == ended
    for ray_id in "efg":
        later.suggest(ray_id)
    later.set_aside("f")
    in_order = ["t0001", "t0000", "t0002", "t0003"]
    assert [record.trial_id for record in records_by_ending(later.study)] == in_order
    later.on_trial_complete("e")  # for good, without having gone on
    assert [trial.state.name for trial in later.study.trials] == ["PRUNED", "COMPLETE", "WAITING", "RUNNING"]
    assert [record.trial_id for record in records_by_ending(later.study)] == in_order


def test_those_that_had_waited_are_not_the_last_to_have_brought_nothing(tmp_path: Path) -> None:
    searcher = searcher_in(tmp_path)
    for ray_id, dice in (("a", 0.3), ("b", 0.9), ("c", 0.4)):
        searcher.suggest(ray_id)
        searcher.on_trial_result(ray_id, {"epoch": 1, "val_dice": dice})
        searcher.set_aside(ray_id)
    searcher.take_place("b")
    searcher.on_trial_complete("b", {"epoch": 9, "val_dice": 0.9, "status": "completed"})
    for ray_id in "ac":
        searcher.on_trial_complete(ray_id)
    assert {trial.state.is_finished() for trial in searcher.study.trials} == {True}
    searcher.study.set_user_attr(CONCLUDED, True)
    check_limits(searcher.study, Limits(trials=6, patience=1, max_epochs=9), 1.0)


def test_who_waits_for_better_ones_waits_on_in_the_next_session_and_takes_no_place(tmp_path: Path) -> None:
    words = {"a": "others were better", "b": "so they were"}
    first = searcher_in(tmp_path, num_trials=4, reason_of=words.get)
    for ray_id in "abc":
        first.suggest(ray_id)
        first.on_trial_result(ray_id, {"epoch": 1, "val_dice": 0.4})
    for ray_id in words:
        first.set_aside(ray_id)
    waiting = [("t0000", "stopped", "waits: others were better"), ("t0001", "stopped", "waits: so they were")]
    cut_off = ("t0002", "stopped", "max_time 1h reached")
    for _ in range(2):  # sessions
        set_aside(first.study, "max_time 1h reached")
        assert statuses(records_from_study(first.study)) == [*waiting, cut_off]
        take_up(open_study(tmp_path / "study.log"))
        assert statuses(records_from_study(first.study)) == [*waiting, ("t0002", "running", "")]

    later = searcher_in(tmp_path, num_trials=4, max_concurrent=1)
    assert not later.has_room, "the one that was cut off has its place"
    handed_out = [later.suggest(ray_id) for ray_id in "defg"]
    assert [one["trial_id"] for one in handed_out if isinstance(one, dict)] == ["t0000", "t0001", "t0002"]
    assert handed_out[3] is None
    later.set_aside("f")
    later.take_place("d")
    assert statuses(records_from_study(later.study)) == [
        ("t0000", "running", ""),
        waiting[1],
        ("t0002", "stopped", "waits: "),
    ]


@pytest.mark.parametrize("for_better_ones", [False, True])
def test_a_driver_that_is_killed_while_it_sets_trials_aside_loses_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, for_better_ones: bool
) -> None:
    searcher = searcher_in(tmp_path)
    begun = searcher.suggest("a")
    for step in (
        lambda: searcher.set_aside("a") if for_better_ones else set_aside(searcher.study, "over"),
        lambda: take_up(searcher.study),
    ):
        with monkeypatch.context() as patch:
            patch.delattr(search.ending, "_keep")
            with pytest.raises(NameError):
                step()
        assert [trial.state for trial in open_study(tmp_path / "study.log").trials] == [TrialState.WAITING]
    take_up(searcher.study)
    assert searcher_in(tmp_path).suggest("b") == begun


def test_records_come_in_the_order_in_which_trials_ended(tmp_path: Path) -> None:
    searcher = searcher_in(tmp_path, num_trials=5)
    searcher.set_max_concurrency(5)
    for ray_id in "abcde":
        searcher.suggest(ray_id)
    for ray_id in "cb":
        searcher.on_trial_complete(ray_id, {"epoch": 9, "val_dice": 0.5, "status": "completed"})
    assert [record.trial_id for record in records_by_ending(searcher.study)] == [
        *("t0002", "t0001", "t0000", "t0003", "t0004")
    ]
    set_aside(searcher.study, "budget 1x used up")
    assert [(record.trial_id, record.status) for record in records_by_ending(searcher.study)[2:]] == [
        *(("t0000", "running"), ("t0003", "running"), ("t0004", "running"))
    ], "they go on when there is a larger budget"
