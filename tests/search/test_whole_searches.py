"""Whole searches on a running Ray: through regions where trainings fail, twice with one seed, with every scheduler."""

from pathlib import Path
from typing import Any

import pandas
import pytest

import search.driver
import search.watch
from search.leaderboard import read
from search.record import BAD_ENDINGS
from search.resources import machines
from tests.search.commands import run_here
from tests.search.test_driver import search_in, states
from tests.search.trainings import QUICK, beset, falling
from tests.toys import colored_squares, write_folder

pytestmark = pytest.mark.usefixtures("ray_cluster")

TRIALS = 30
MEASURED = ["seconds", "images_per_second", "peak_memory_mb"]  # what no two runs have in common


@pytest.fixture
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """One trial at a time, so that it does not depend on chance which of them ends first."""
    for module in (search.driver, search.watch):
        monkeypatch.setattr(module, "machines", lambda *_: machines()[:1])


@pytest.mark.usefixtures("one_worker")
def test_a_study_through_nan_out_of_memory_and_crashes_converges_and_explains_every_trial(tmp_path: Path) -> None:
    space = ("only", "learning_rate=1e-5:1e0", "batch_size=1:64:log", "dropout=0:0.9")
    outcome = search_in(tmp_path, beset, num_trials=TRIALS, max_epochs=1, space=space, seed=1)
    rows = read(tmp_path / "leaderboard.csv").sort_values("trial_id")
    assert len(rows) == TRIALS
    reasons = rows.reason.str.split("(").str[0]
    assert set(zip(rows["status"], reasons.fillna(""), strict=True)) == {
        ("completed", ""),
        ("failed", "it ended without any val_dice"),
        ("failed", "ValueError: what nobody thought of "),
        ("out_of_memory", "memory did not suffice "),
    }
    assert set(states(tmp_path)) == {"COMPLETE", "PRUNED"}, "none is left running"

    bad = rows["status"].isin(BAD_ENDINGS)
    assert bad[-TRIALS // 3 :].sum() <= bad[: TRIALS // 3].sum() / 2, "it learns to stay away"
    best = max(outcome.records, key=lambda record: record.val_dice or 0.0)
    assert best.val_dice is not None and best.val_dice > 0.95
    assert rows.set_index("trial_id")["rank"][best.trial_id] == 1


@pytest.mark.drill
@pytest.mark.usefixtures("one_worker")
def test_two_runs_with_one_seed_and_one_worker_have_the_same_leaderboard(tmp_path: Path) -> None:
    cells = write_folder(tmp_path / "cells", colored_squares("binary"))
    space = ",".join(("only", *QUICK, "epoch_pixels=16384,learning_rate=1e-3:1e-1:log,loss=dice|dice_ce"))
    asked = ("--data", str(cells), "--seed", "3", "--num-trials", "4", "--max-epochs", "2", "--space", space)
    tables = []
    for name in ("one", "other"):
        assert run_here("--storage", str(tmp_path), "--name", name, *asked) == 0
        tables.append(read(tmp_path / name / "leaderboard.csv").drop(columns=MEASURED))
    pandas.testing.assert_frame_equal(*tables, check_exact=True)
    assert set(tables[0]["status"]) == {"completed", "stopped"}
    assert tables[0].val_dice.nunique() > 3


@pytest.mark.usefixtures("one_worker")
@pytest.mark.parametrize(
    ("scheduler", "asked", "reason"),
    [
        ("hyperband", {"num_trials": 4, "max_epochs": 9}, " was not among the best third "),
        ("median", {"num_trials": 5, "max_epochs": 2}, " is below the median of others "),
        ("wilcoxon", {"num_trials": 2, "max_epochs": 1, "folds": 4}, " in fold after fold"),
    ],
)
def test_a_scheduler_stops_what_falls_behind_and_every_trial_is_explained(
    tmp_path: Path, scheduler: str, asked: dict[str, Any], reason: str
) -> None:
    outcome = search_in(tmp_path, falling, scheduler=scheduler, **asked)
    assert outcome.ending == f"num_trials {asked['num_trials']} reached"
    stopped = [record for record in outcome.records if record.status == "stopped"]
    assert stopped
    assert all(reason in record.reason for record in stopped)
    ended = {"completed": "COMPLETE", "stopped": "PRUNED"}
    assert states(tmp_path) == [ended[record.status] for record in outcome.records]
    assert outcome.records[0].status == "completed", "the first one is the best"
