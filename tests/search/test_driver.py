"""Searches on a running Ray: every ending has its row, budgets are kept, and interrupted searches go on."""

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import search.driver
from data.input_error import InputError
from data.split import split_data
from model.checkpoint import load_model
from model.config import TrainConfig
from search.driver import Outcome
from search.leaderboard import read
from search.record import TrialRecord
from search.resources import choose_needs, machines
from search.run_folder import RunFolder
from search.settings import SearchSettings
from search.space import parse_space
from search.study import read_study
from tests.search.trainings import NODE, QUICK, TRACE, endless, seldom_judged, traced, troubled
from tests.toys import colored_squares

pytestmark = pytest.mark.usefixtures("ray_cluster")


def search_in(folder: Path, training: Any, look: Any = lambda records, spent: None, **asked: Any) -> Outcome:
    """A search on coloured squares, in this folder."""
    settings = SearchSettings(**{"max_epochs": 3, "scheduler": "none", "space": QUICK} | asked)
    data = colored_squares("binary")
    return search.driver.search(
        settings,
        parse_space(settings.space, pinned={"max_epochs": settings.max_epochs}),
        data,
        split_data(data, settings.splitting),
        RunFolder(path=folder),
        choose_needs(settings.cpus_per_trial, settings.gpus_per_trial, machines()),
        look=look,
        train=training,
    )


def traces(folder: Path) -> dict[str, list[int]]:
    """The epochs that each trial trained, in order."""
    return {
        path.parent.name: [int(line) for line in path.read_text().split()]
        for path in sorted((folder / "trials").glob(f"*/{TRACE}"))
    }


def states(folder: Path) -> list[str]:
    """The state of each trial in the study."""
    return [trial.state.name for trial in read_study(folder / "study.log").trials]


def test_trials_that_are_judged_now_and_then_are_compared_where_they_are(tmp_path: Path) -> None:
    asked = {"max_epochs": 8, "space": (*QUICK, "evaluate_every=3"), "scheduler": "asha", "folds": 2}
    outcome = search_in(tmp_path, seldom_judged, num_trials=2, **asked)
    well, poor = outcome.records
    assert (well.status, well.epochs, well.folds) == ("completed", 16, 2)
    assert (poor.status, poor.epochs) == ("stopped", 3)
    assert poor.reason == "val_dice 0.8000 at epoch 3 is below the best third (0.9000)"
    first, second = read_study(tmp_path / "study.log").trials
    assert (set(first.intermediate_values), set(second.intermediate_values)) == ({3, 6, 8, 16}, {3})


def test_every_ending_of_a_trial_has_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.driver, "RESTARTS", 1)
    outcome = search_in(tmp_path, troubled, num_trials=8)
    rows = read(tmp_path / "leaderboard.csv").set_index("trial_id").sort_index()
    assert rows["status"].to_dict() == {
        "t0000": "completed",
        "t0001": "collapsed",
        "t0002": "out_of_memory",
        "t0003": "out_of_memory",
        "t0004": "failed",
        "t0005": "completed",
        "t0006": "failed",
        "t0007": "completed",
    }
    assert rows.reason["t0001"] == "predicted nothing"
    assert rows.reason["t0002"].startswith("memory did not suffice (CUDA out of memory): try a smaller batch_size")
    assert re.fullmatch(r"ValueError: what nobody thought of \(search/trial.py:\d+\)", rows.reason["t0004"])
    assert "and more about it" in (tmp_path / "trials/t0004/error.txt").read_text()
    assert "died" in rows.reason["t0006"]
    well = [trial_id for trial_id, status in rows["status"].items() if status == "completed"]
    assert [epochs == (3 if trial_id in well else 1) for trial_id, epochs in rows.epochs.items()] == [True] * 8
    assert states(tmp_path) == ["COMPLETE" if trial_id in well else "PRUNED" for trial_id in rows.index]

    # t0005 went on after its first epoch in a new process; t0006 tried to, and saw that epoch again.
    assert traces(tmp_path) == {trial_id: [1, 2, 3] if trial_id in well else [1, 2] for trial_id in rows.index}
    assert len({path.read_text() for path in (tmp_path / "trials").glob(f"*/{NODE}")}) == 2
    assert {path.parent.name for path in (tmp_path / "trials").glob("*/events.out.tfevents.*")} == set(rows.index)
    assert not outcome.interrupted
    assert outcome.best is not None
    assert outcome.best.trial_id in well
    assert load_model(tmp_path / "best")[1].config == TrainConfig(**outcome.best.config)
    assert not (tmp_path / ".ray").exists()


def test_at_its_time_limit_a_search_ends_its_trials_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def look(records: Sequence[TrialRecord], spent: float) -> None:
        seen[:] = [record.epochs for record in records]

    with monkeypatch.context() as patch:
        patch.setattr(search.driver.Ending, "out_of_time", property(lambda ending: seen == [2, 2]))
        outcome = search_in(tmp_path, endless, look, num_trials=9, max_time="1h")
    assert [(record.status, record.reason, record.epochs) for record in outcome.records] == [
        ("stopped", "max_time 1h reached", 2)
    ] * 2
    assert states(tmp_path) == ["PRUNED", "PRUNED"]
    assert outcome.best is not None
    assert (tmp_path / "best/model.safetensors").is_file()

    # What was spent counts: there is no time for another trial, until there is more of it.
    with pytest.raises(InputError, match=r"max_time 1s is used up \(.* s\): give a longer --max-time"):
        search_in(tmp_path, traced, num_trials=3, max_time="1s")
    assert search_in(tmp_path, traced, num_trials=2, max_time="1s").records == outcome.records
    extended = search_in(tmp_path, traced, num_trials=3, max_time="2h").records
    assert extended[:2] == outcome.records
    assert [record.status for record in extended[2:]] == ["completed"]


def test_an_interrupted_search_goes_on_with_the_last_epochs_that_were_saved(tmp_path: Path) -> None:
    interrupts: list[int] = []

    def interrupt_after_two_epochs(records: Sequence[TrialRecord], spent: float) -> None:
        if not interrupts and [record.epochs for record in records] == [2, 2]:
            interrupts.append(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    outcome = search_in(tmp_path, endless, interrupt_after_two_epochs, num_trials=2)
    assert outcome.interrupted
    assert [(record.status, record.epochs) for record in outcome.records] == [("running", 2), ("running", 2)]
    assert states(tmp_path) == ["RUNNING", "RUNNING"]
    assert read(tmp_path / "leaderboard.csv")["status"].to_list() == ["running", "running"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    records = search_in(tmp_path, traced, num_trials=2).records
    assert [(record.trial_id, record.status, record.epochs) for record in records] == [
        ("t0000", "completed", 3),
        ("t0001", "completed", 3),
    ]
    assert traces(tmp_path) == {"t0000": [1, 2, 3], "t0001": [1, 2, 3]}
