"""Trials that wait, on a running Ray: they keep no worker, go on from where they stood, and outlive an interrupt."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

import search.driver
from search.record import TrialRecord
from search.resources import machines
from tests.search.test_driver import search_in, states, traces
from tests.search.trainings import PROCESSES, steady, steady_until_the_third_trial


def processes(folder: Path) -> dict[str, list[str]]:
    """In which processes each trial was started."""
    return {path.parent.name: path.read_text().split() for path in sorted((folder / "trials").glob(f"*/{PROCESSES}"))}


@pytest.mark.usefixtures("ray_cluster")
def test_trials_wait_and_go_on_in_one_process_also_after_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search.driver, "machines", lambda: machines()[:1])  # one worker
    interrupts: list[int] = []

    def interrupt(records: Sequence[TrialRecord], spent: float) -> None:
        if not interrupts and [record.epochs for record in records] == [1, 1, 1]:
            interrupts.append(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    asked = {"max_epochs": 9, "scheduler": "asha_promote", "num_trials": 6}
    assert search_in(tmp_path, steady_until_the_third_trial, interrupt, **asked).interrupted
    assert states(tmp_path) == ["WAITING", "WAITING", "RUNNING"]
    assert traces(tmp_path) == {"t0000": [1], "t0001": [1], "t0002": [1, 2]}
    before = processes(tmp_path)

    (tmp_path / "trials/t0002/trace.txt").write_text("1\n")  # the epoch in which it was interrupted was not saved
    outcome = search_in(tmp_path, steady, **asked)
    # As on paper, see test_halving.py.
    assert traces(tmp_path) == {
        "t0000": [1],
        "t0001": [1],
        "t0002": [1, 2, 3, 4, 5, 6, 7, 8, 9],
        "t0003": [1, 2, 3],
        "t0004": [1],
        "t0005": [1],
    }
    assert {record.trial_id: (record.status, record.reason) for record in outcome.records} == {
        "t0000": ("stopped", "best val_dice 0.3000 by epoch 1 is not among the best third (0.6000)"),
        "t0001": ("stopped", "best val_dice 0.5000 by epoch 1 is not among the best third (0.6000)"),
        "t0002": ("completed", ""),
        "t0003": ("stopped", "best val_dice 0.6000 by epoch 3 is not among the best third (0.9000)"),
        "t0004": ("stopped", "best val_dice 0.4000 by epoch 1 is not among the best third (0.6000)"),
        "t0005": ("stopped", "best val_dice 0.2000 by epoch 1 is not among the best third (0.6000)"),
    }
    assert states(tmp_path) == ["PRUNED", "PRUNED", "COMPLETE", "PRUNED", "PRUNED", "PRUNED"]
    after = {our_id: pids[len(before.get(our_id, [])) :] for our_id, pids in processes(tmp_path).items()}
    starts = {our_id: len(pids) for our_id, pids in after.items()}
    assert starts == {"t0000": 0, "t0001": 0, "t0002": 2, "t0003": 2, "t0004": 1, "t0005": 1}
    assert len({pid for pids in after.values() for pid in pids}) == 1
