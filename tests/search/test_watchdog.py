"""Who is ended for silence: none that is only slow, and none over again."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

import search.watchdog
from search.events import Events
from search.restarts import Restarts
from search.steady_clock import SteadyClock
from search.watchdog import FIRST_SILENCE, LEAST_SILENCE, STATES, Watchdog, written_at
from tests.search.test_restarts import Clock


class Watched:
    """A watchdog over trials that say what they are told to, on a clock set by hand."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, first_fold: int | None = None) -> None:
        self.said: list[str] = []
        self.ended: list[str] = []
        self.hand, self.folder = Clock(), folder
        clock, events = SteadyClock(self.hand), Events(folder / "events.log", self.said.append)
        restarts = Restarts(events, folder, clock)
        self.watchdog = Watchdog(events=events, restarts=restarts, trials=folder, clock=clock, first_fold=first_fold)
        monkeypatch.setattr(search.watchdog, "place_of", lambda worker: None)
        monkeypatch.setattr(search.watchdog, "end_process", lambda worker, place: self.ended.append(worker))
        self.trials: dict[str, Any] = {}

    def start(self, name: str) -> None:
        self.trials[name] = SimpleNamespace(
            trial_id=f"ray-{name}",
            config={"trial_id": name},
            status=Trial.RUNNING,
            temporary_state=SimpleNamespace(ray_actor=f"worker of {name}"),
        )
        self.watchdog.on_trial_start(0, [], self.trials[name])

    def show(self, name: str, epoch: int) -> None:
        self.watchdog.on_trial_result(0, [], self.trials[name], {"epoch": epoch})

    def let_pass(self, seconds: float) -> None:
        """Lets time pass in steps that the clock counts."""
        end = self.hand.seconds + seconds
        while self.hand.seconds < end:
            self.hand.seconds = min(end, self.hand.seconds + 30)
            self.watchdog.on_step_end()


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(tmp_path, monkeypatch)


def test_a_trial_that_falls_silent_is_ended_once_and_it_is_said(watched: Watched) -> None:
    watched.start("t0000")
    watched.let_pass(3)
    watched.show("t0000", 1)
    watched.let_pass(LEAST_SILENCE)
    assert watched.ended == []
    watched.let_pass(60)
    assert watched.ended == ["worker of t0000"]
    assert watched.said == [
        "trial t0000 showed no epoch for 6 min (its longest took 3 s): its process is ended, and it goes on from its "
        "last epoch"
    ]
    watched.let_pass(9 * LEAST_SILENCE)
    assert len(watched.ended) == 1


def test_long_epochs_may_be_followed_by_longer_ones(watched: Watched) -> None:
    watched.start("t0000")
    watched.let_pass(100)
    watched.show("t0000", 1)
    watched.let_pass(990)
    assert watched.ended == []
    watched.let_pass(60)
    assert len(watched.ended) == 1


def test_the_first_epoch_may_take_half_an_hour_or_ten_times_that_of_others(watched: Watched) -> None:
    watched.start("t0000")
    watched.let_pass(FIRST_SILENCE)
    assert watched.ended == []
    watched.let_pass(60)
    assert len(watched.ended) == 1
    watched.start("t0001")
    watched.let_pass(600)
    watched.show("t0001", 1)
    watched.start("t0002")
    watched.let_pass(5900)
    assert len(watched.ended) == 1


def test_who_writes_its_state_is_alive(watched: Watched) -> None:
    watched.start("t0000")
    state = watched.folder / "t0000/last.safetensors"
    state.parent.mkdir()
    for minute in range(3 * int(FIRST_SILENCE) // 60):
        state.touch()
        os.utime(state, (minute, minute))
        watched.let_pass(60)
    assert watched.ended == []
    watched.let_pass(2 * FIRST_SILENCE)
    assert len(watched.ended) == 1


def test_who_does_not_run_is_not_listened_to(watched: Watched) -> None:
    for name, status in (("t0000", Trial.PAUSED), ("t0001", Trial.TERMINATED), ("t0002", Trial.PENDING)):
        watched.start(name)
        watched.trials[name].status = status
    watched.let_pass(9 * FIRST_SILENCE)
    assert watched.ended == []


def test_a_machine_that_slept_takes_nobody_for_dead(watched: Watched) -> None:
    watched.start("t0000")
    watched.show("t0000", 1)
    watched.hand.seconds += 9 * 3600
    watched.watchdog.on_step_end()
    assert watched.ended == []


def test_after_its_first_fold_a_trial_may_wait_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(tmp_path, monkeypatch, first_fold=3)
    watched.start("t0000")
    for epoch in (1, 2, 3):
        watched.show("t0000", epoch)
    watched.let_pass(99 * LEAST_SILENCE)
    watched.show("t0000", 6)
    assert watched.ended == []


def test_a_state_on_a_disk_that_does_not_answer_is_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / STATES[0]
    assert written_at(state) == 0
    state.touch()
    assert written_at(state) == state.stat().st_mtime_ns

    def fails(_: Path, **_more: Any) -> Any:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(Path, "stat", fails)
    assert written_at(state) == 0
