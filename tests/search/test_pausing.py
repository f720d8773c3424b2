"""Trials that wait, on a running Ray: they keep no worker, go on from where they stood, and outlive an interrupt."""

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

import search.driver
import search.watch
from data.input_error import InputError
from search.driver import check_limits
from search.record import TrialRecord
from search.resources import machines
from search.settings import SearchSettings
from search.study import read_study
from tests.search.test_driver import search_in, states, traces
from tests.search.trainings import PROCESSES, steady, steady_until_the_third_trial


def processes(folder: Path) -> dict[str, list[str]]:
    """In which processes each trial was started."""
    return {path.parent.name: path.read_text().split() for path in sorted((folder / "trials").glob(f"*/{PROCESSES}"))}


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_trials_wait_and_go_on_in_one_process_also_after_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (search.driver, search.watch):
        monkeypatch.setattr(module, "machines", lambda *_: machines()[:1])  # one worker
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
        "t0000": ("stopped", "best val_dice 0.3000 by epoch 1 was not among the best third (0.6000 or more)"),
        "t0001": ("stopped", "best val_dice 0.5000 by epoch 1 was not among the best third (0.6000 or more)"),
        "t0002": ("completed", ""),
        "t0003": ("stopped", "best val_dice 0.6000 by epoch 3 was not among the best third (0.9000 or more)"),
        "t0004": ("stopped", "best val_dice 0.4000 by epoch 1 was not among the best third (0.6000 or more)"),
        "t0005": ("stopped", "best val_dice 0.2000 by epoch 1 was not among the best third (0.6000 or more)"),
    }
    assert states(tmp_path) == ["PRUNED", "PRUNED", "COMPLETE", "PRUNED", "PRUNED", "PRUNED"]
    after = {our_id: pids[len(before.get(our_id, [])) :] for our_id, pids in processes(tmp_path).items()}
    starts = {our_id: len(pids) for our_id, pids in after.items()}
    assert starts == {"t0000": 0, "t0001": 0, "t0002": 2, "t0003": 2, "t0004": 1, "t0005": 1}
    assert len({pid for pids in after.values() for pid in pids}) == 1


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_with_patience_those_that_wait_count_and_no_worker_is_started_for_another_trial(tmp_path: Path) -> None:
    asked = {"max_epochs": 9, "scheduler": "asha_promote", "patience": 5}
    outcome = search_in(tmp_path, steady, **asked)
    # The third trial is the best one, and waits at epoch 3 until two others have come there.
    assert re.fullmatch(r"patience 5 at its end: the last [56] trials bettered val_dice 0.9000 by .*", outcome.ending)
    assert 7 <= len(outcome.records) <= 10
    assert {record.status for record in outcome.records} == {"stopped"}
    waited = [record for record in outcome.records if record.reason != outcome.ending]
    assert len(waited) >= 7
    words = re.compile(r"waits: best val_dice 0\.\d+ by epoch [13] was (not among|the best of)")
    assert all(words.match(record.reason) for record in waited)
    assert set(states(tmp_path)) == {"WAITING"}, "a search that goes on may go on with them"
    limits = SearchSettings(**asked).limits(9)
    with pytest.raises(InputError, match=r"by no more than 0\.001 before: give a larger --patience"):
        check_limits(read_study(tmp_path / "study.log"), limits, 1.0)

    starts = processes(tmp_path).values()
    assert max(map(len, starts)) >= 2, "some went on"
    assert len({pid for pids in starts for pid in pids}) <= 2, "as many processes as trials at a time"
