"""Machines that come and go are told in one line each, with the trials that were there."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

import search.departures
from search.departures import SECONDS_BETWEEN_LOOKS, Departures
from search.events import Events
from search.processes import Place
from search.restarts import Restarts
from search.steady_clock import SteadyClock
from tests.search.test_restarts import DEAD, Clock


class Cluster:
    """Machines that are set by hand, and what is said of them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self.ended: list[str] = []
        self.hand = Clock()
        self.alive = {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3"}
        self.leaving: set[str] = set()
        clock, events = SteadyClock(self.hand), Events(folder / "events.log", self.said.append)
        self.restarts = Restarts(events, folder, clock)
        self.departures = Departures(events=events, restarts=self.restarts, clock=clock)
        monkeypatch.setattr(search.departures, "machines_alive", lambda: dict(self.alive))
        monkeypatch.setattr(search.departures, "leaving_machines", lambda: set(self.leaving))
        monkeypatch.setattr(search.departures, "place_of", lambda worker: Place(machine=worker[-1], process=7))
        monkeypatch.setattr(search.departures, "end_process", lambda worker, place: self.ended.append(worker))
        self.look()

    def look(self) -> list[str]:
        """What is said at the next look."""
        self.said.clear()
        self.hand.seconds += SECONDS_BETWEEN_LOOKS
        self.departures.on_step_end()
        return self.said

    def start(self, name: str, machine: str) -> Any:
        trial = SimpleNamespace(
            trial_id=f"ray-{name}",
            config={"trial_id": name},
            status=Trial.RUNNING,
            temporary_state=SimpleNamespace(ray_actor=f"{name} on {machine}"),
        )
        self.departures.on_trial_start(0, [], trial)
        return trial


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(tmp_path, monkeypatch)


def test_a_machine_that_is_gone_is_told_once_with_its_trials(cluster: Cluster) -> None:
    for name, machine in (("t0001", "b"), ("t0000", "b"), ("t0002", "a")):
        cluster.start(name, machine)
    assert cluster.look() == []
    del cluster.alive["b"]
    assert cluster.look() == [
        "machine 10.0.0.2 is gone, and trials t0000, t0001 go on elsewhere from their last epochs"
    ]
    assert cluster.look() == []
    del cluster.alive["c"]
    assert cluster.look() == ["machine 10.0.0.3 is gone"]


def test_a_trial_that_is_elsewhere_already_is_told_with_the_machine_that_it_left(cluster: Cluster) -> None:
    cluster.start("t0000", "b")
    del cluster.alive["b"]
    cluster.start("t0000", "a")
    assert cluster.said == ["machine 10.0.0.2 is gone, and trial t0000 goes on elsewhere from its last epoch"]


def test_who_waits_for_a_new_process_is_told(cluster: Cluster) -> None:
    trial = cluster.start("t0000", "b")
    assert cluster.restarts.again(trial, DEAD)
    trial.status = Trial.PAUSED
    del cluster.alive["b"]
    assert cluster.look()[-1] == "machine 10.0.0.2 is gone, and trial t0000 goes on elsewhere from its last epoch"


def test_who_has_ended_or_waits_is_not_told(cluster: Cluster) -> None:
    cluster.start("t0002", "b").status = Trial.PAUSED
    for name in ("t0000", "t0001"):
        trial = cluster.start(name, "b")
        trial.config.clear()  # as `forget` does
        end = cluster.departures.on_trial_complete if name == "t0000" else cluster.departures.on_trial_error
        end(0, [], trial)
    del cluster.alive["b"]
    assert cluster.look() == ["machine 10.0.0.2 is gone"]


def test_who_is_on_a_machine_that_is_about_to_leave_is_moved_at_once_and_at_no_cost(cluster: Cluster) -> None:
    moved, _ = cluster.start("t0000", "b"), cluster.start("t0001", "a")
    cluster.leaving = {"b"}
    assert cluster.look() == [
        "machine 10.0.0.2 is about to be taken away and gets no new trials; "
        "trial t0000 goes on elsewhere from its last epoch"
    ]
    assert cluster.ended == ["t0000 on b"]
    assert cluster.restarts.again(moved, DEAD)
    assert cluster.restarts.may_start(moved)
    assert cluster.look() == []
    # A process that was kept there for the next trial is of no use any more.
    cluster.start("t0002", "b")
    assert (cluster.ended, cluster.said) == (["t0000 on b", "t0002 on b"], [])
