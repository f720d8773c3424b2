"""Searches on a running Ray in which processes hang, die and cannot write: each fault is told in a line, none costs."""

from pathlib import Path
from typing import Any

import psutil
import pytest

import search.departures
import search.restarts
import search.watchdog
from search.processes import place_of
from search.run_folder import RunFolder
from tests.search.test_driver import search_in, states, traces
from tests.search.trainings import faulty, hanging, mortal, traced

pytestmark = pytest.mark.usefixtures("ray_cluster")


def told(folder: Path) -> list[str]:
    """What the log of a run says, without the time."""
    lines = RunFolder(path=folder).events.read_text(encoding="utf-8").splitlines()
    return [line.split("  ", 1)[1] for line in lines]


@pytest.mark.drill
def test_each_fault_is_told_in_a_line_and_costs_no_epoch(tmp_path: Path) -> None:
    outcome = search_in(tmp_path, faulty, num_trials=5)
    status = {record.trial_id: record.status for record in outcome.records}
    assert status.pop("t0003") == "out_of_memory"
    assert set(status.values()) == {"completed"}
    assert traces(tmp_path) == {name: [1, 2] if name == "t0003" else [1, 2, 3] for name in traces(tmp_path)}
    assert [state == "PRUNED" for state in states(tmp_path)] == [False, False, False, True, False]

    lines = {line.split()[1].rstrip(":"): line for line in told(tmp_path) if line.startswith("trial ")}
    assert sorted(lines) == ["t0001", "t0002", "t0003"]
    assert len(told(tmp_path)) == 2 + len(lines), "one line each, and the beginning and the end"
    assert lines["t0001"].startswith("trial t0001: could not write (No space left on device), and goes on from its")
    assert "t0002 lost its process and goes on from its last epoch in" in lines["t0002"]
    reason = "its machine ran low on memory while it held 9 GiB"
    assert lines["t0003"] == f"trial t0003 is not started again: {reason}"
    assert next(record.reason for record in outcome.records if record.trial_id == "t0003") == reason


@pytest.mark.drill
def test_a_process_that_hears_nothing_any_more_is_ended_and_its_trial_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search.watchdog, "LEAST_SILENCE", 3.0)
    monkeypatch.setattr(search.watchdog, "TIMES_LONGEST", 0.1)
    outcome = search_in(tmp_path, hanging, num_trials=1)
    assert [record.status for record in outcome.records] == ["completed"]
    assert traces(tmp_path) == {"t0000": [1, 2, 3]}
    assert told(tmp_path)[1].startswith("trial t0000 showed no epoch for ")
    stopped = [one.pid for one in psutil.process_iter(["status"]) if one.info["status"] == psutil.STATUS_STOPPED]
    assert int((tmp_path / "trials/t0000/met").read_text()) not in stopped


@pytest.mark.drill
def test_a_search_ends_in_which_process_after_process_dies_and_goes_on_when_that_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search.restarts, "DEATHS_IN_A_ROW", 3)
    outcome = search_in(tmp_path, mortal, num_trials=2)
    assert outcome.broken
    assert outcome.ending.startswith("3 processes died with no epoch between, the last one of trial t000")
    assert told(tmp_path)[-1] == f"ended: {outcome.ending}"
    assert {record.status for record in outcome.records} == {"stopped"}
    assert set(states(tmp_path)) == {"WAITING"}
    outcome = search_in(tmp_path, traced, num_trials=2)
    assert not outcome.broken
    assert [record.status for record in outcome.records] == ["completed"] * 2


@pytest.mark.drill
def test_trials_leave_a_machine_that_is_about_to_be_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: Any
) -> None:
    """What Ray says of the machine is set by hand: a real drain would take it from the tests that follow."""
    leaving: set[str] = set()
    head = ray_cluster.head_node.node_id
    other = next(node.node_id for node in ray_cluster.list_all_nodes() if node.node_id != head)
    seen: list[str] = []

    def place_and_leave(worker: Any) -> Any:
        place = place_of(worker)
        assert place is not None
        seen.append(place.machine)
        if place.machine == other and seen.count(other) == 1:
            leaving.add(other)
        elif seen.count(other) == 2:
            leaving.clear()  # it stays after all
        return place

    monkeypatch.setattr(search.departures, "leaving_machines", lambda: leaving)
    monkeypatch.setattr(search.departures, "place_of", place_and_leave)
    monkeypatch.setattr(search.departures, "SECONDS_BETWEEN_LOOKS", 0.0)
    outcome = search_in(tmp_path, traced, num_trials=4, max_epochs=40)
    assert [record.status for record in outcome.records] == ["completed"] * 4
    notices = [line for line in told(tmp_path) if "about to be taken away" in line]
    assert len(notices) == 1
    assert all(epochs == list(range(1, 41)) for epochs in traces(tmp_path).values())
