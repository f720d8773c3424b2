"""Searches on a running Ray: every ending has its row, budgets are kept, and interrupted searches go on."""

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import search.driver
import search.restarts
from data.input_error import InputError
from data.split import split_data
from model.checkpoint import load_model
from model.config import TrainConfig
from search.driver import Outcome, check_limits
from search.leaderboard import read
from search.record import TrialRecord, records_from_study
from search.resources import choose_needs, machines
from search.run_folder import RunFolder
from search.settings import SearchSettings
from search.space import parse_space
from search.study import read_study
from tests.search.trainings import ASLEEP, NODE, QUICK, TRACE, endless, traced, troubled, weighed
from tests.toys import colored_squares

pytestmark = pytest.mark.usefixtures("ray_cluster")


def search_in(
    folder: Path, training: Any, look: Any = lambda records, spent: None, say: Any = lambda _: None, **asked: Any
) -> Outcome:
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
        say=say,
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


def test_every_ending_of_a_trial_has_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.restarts, "RETRIES", 1)
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
    assert outcome.records == records_from_study(read_study(tmp_path / "study.log"))
    assert load_model(tmp_path / "best")[1].config == TrainConfig(**outcome.best.config)
    assert not (tmp_path / ".ray").exists()


@pytest.mark.drill
def test_with_several_objectives_the_front_is_found_and_the_search_goes_on_with_them(tmp_path: Path) -> None:
    asked = {"objective": ("val_dice", "parameters", "latency_ms")}
    search_in(tmp_path, weighed, num_trials=2, **asked)
    with pytest.raises(InputError, match="minimize parameters, minimize latency_ms, not to maximize val_dice: name"):
        search_in(tmp_path, weighed, num_trials=4)
    outcome = search_in(tmp_path, weighed, num_trials=4, scheduler="asha", **asked)
    rows = read(tmp_path / "leaderboard.csv").set_index("trial_id").sort_index()
    assert rows["status"].to_list() == ["completed", "failed", "stopped", "completed"]
    assert rows["latency_ms"].to_list() == [5.0, 9.0, 7.0, 6.0]
    assert rows["pareto"].to_list() == [True, False, True, True]
    # Of three or four: the last one may have come there before.
    assert re.fullmatch(
        r"best val_dice 0\.3000 by epoch 1, at 10 parameters, 7 ms a picture, was not among the best third of [34] "
        "in all that counts",
        rows.reason["t0002"],
    )
    trials = read_study(tmp_path / "study.log").trials
    assert [trial.values for trial in trials] == [[0.9, 100.0, 5.0], None, None, [0.95, 150.0, 6.0]]
    assert [bool(trial.constraints) for trial in trials] == [False, True, False, False]
    assert outcome.best is not None
    assert outcome.best.trial_id == "t0003"
    assert [(tmp_path / place / "model.safetensors").is_file() for place in rows.checkpoint] == [True] * 4


@pytest.mark.parametrize(("budget", "thrifty"), [("9h", True), ("9x", False)])
def test_cheap_trainings_come_first_where_time_of_devices_is_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: str, thrifty: bool
) -> None:
    def tell(**asked: Any) -> None:
        raise InputError(f"thrifty: {asked['thrifty']}")

    monkeypatch.setattr(search.driver, "StudySearcher", tell)
    with pytest.raises(InputError, match=f"thrifty: {thrifty}"):
        search_in(tmp_path, traced, budget=budget)


@pytest.mark.drill
def test_at_a_limit_or_when_it_is_interrupted_a_search_ends_its_trials_and_goes_on_with_them(tmp_path: Path) -> None:
    outcome = search_in(tmp_path, endless, num_trials=3, budget="4epochs")
    reason = "budget 4epochs used up (4 of 4 epochs)"
    assert (outcome.ending, outcome.interrupted) == (reason, False)
    assert [(record.status, record.reason, record.epochs) for record in outcome.records] == [("stopped", reason, 2)] * 2
    assert states(tmp_path) == ["WAITING", "WAITING"]
    assert outcome.best is not None
    assert (tmp_path / "best/model.safetensors").is_file()

    # What earlier sessions took counts.
    for asked, message in (
        ({"budget": "1x"}, r"budget 1x used up \(4 of 3 epochs\) before: give a larger --budget\."),
        ({"budget": "9x", "max_time": "0.001s"}, r"max_time 0.001s reached before: give a longer --max-time\."),
        ({"stop_at": "val_dice>=1e-6"}, r"stop_at val_dice=1e-6 reached by t000. \(.*give a higher --stop-at\."),
    ):
        limits = SearchSettings(num_trials=3, **asked).limits(3)
        with pytest.raises(InputError, match=message):
            check_limits(read_study(tmp_path / "study.log"), limits, 1.0)
    assert states(tmp_path) == ["WAITING", "WAITING"]

    handler = signal.getsignal(signal.SIGINT)
    begun = [tmp_path / f"trials/t000{number}" / ASLEEP for number in range(2)]
    for path in begun:
        path.unlink(missing_ok=True)
    interrupts: list[int] = []

    def interrupt_when_both_are_at_work(records: Sequence[TrialRecord], spent: float) -> None:
        if not interrupts and all(path.exists() for path in begun):
            interrupts.append(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    outcome = search_in(tmp_path, endless, interrupt_when_both_are_at_work, num_trials=3, budget="9x")
    assert (outcome.ending, outcome.interrupted) == ("", True)
    assert [(record.status, record.epochs) for record in outcome.records] == [("running", 2), ("running", 2)]
    assert states(tmp_path) == ["RUNNING", "RUNNING"]
    assert read(tmp_path / "leaderboard.csv")["status"].to_list() == ["running", "running"]
    assert signal.getsignal(signal.SIGINT) is handler

    # The last epochs that were saved are not trained again.
    extended = search_in(tmp_path, traced, num_trials=3, budget="9x")
    assert extended.ending == "num_trials 3 reached"
    assert [(record.trial_id, record.status, record.reason, record.epochs) for record in extended.records] == [
        (f"t000{number}", "completed", "", 3) for number in range(3)
    ]
    assert states(tmp_path) == ["COMPLETE"] * 3
    assert traces(tmp_path) == {f"t000{number}": [1, 2, 3] for number in range(3)}

    # Where nothing is left to try, a limit that was reached is no obstacle.
    check_limits(read_study(tmp_path / "study.log"), SearchSettings(num_trials=3, budget="1x").limits(3), 1.0)
    assert search_in(tmp_path, traced, num_trials=3, budget="1x").records == extended.records
