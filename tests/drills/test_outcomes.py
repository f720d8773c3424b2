"""What the drills judge by: that it finds what is wrong."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from search import leaderboard
from search.record import TrialRecord
from search.study import open_study
from tests.drills.drill import Report
from tests.drills.faults import FAULTS
from tests.drills.outcomes import Result, broken, finished, result_of
from tests.drills.page import table
from tests.drills.searches import EPOCHS, NAME, TRIALS, Search
from tests.drills.trained import read_log

TRIAL_NAMES = [f"t{number:04d}" for number in range(TRIALS)]
FILE = Path("best/model.safetensors")


def log_of(*lines: str) -> str:
    return "".join(f"{line} 7 net:[1]\n" for line in lines)


def whole_log() -> str:
    trained = [
        line
        for trial in TRIAL_NAMES
        for line in [f"began {trial} 0", *(f"kept {trial} {1 + at}" for at in range(EPOCHS))]
    ]
    return log_of(*trained)


@pytest.fixture
def search(tmp_path: Path) -> Search:
    """A run that has come to its end, made by hand."""
    search = Search(tmp_path, tmp_path / "runs")
    search.run.mkdir(parents=True)
    study = open_study(search.run / "study.log")
    records = []
    for number, name in enumerate(TRIAL_NAMES):
        record = TrialRecord(trial_id=name, config={}, status="completed", metrics={"val_dice": number / 10})
        records.append(record)
        study.add_trial(
            optuna.create_trial(
                value=number / 10, user_attrs={"trial_id": name, "record": json.loads(json.dumps(vars(record)))}
            )
        )
        (search.run / "trials" / name / FILE).parent.mkdir(parents=True)
        (search.run / "trials" / name / FILE).write_bytes(bytes(8) + name.encode())
    leaderboard.write(search.run / "leaderboard.csv", leaderboard.to_frame(records, ()))
    (tmp_path / "epochs.log").write_text(whole_log())
    return search


def judge(search: Search, before: Any = None, undisturbed: Result | None = None, **more: Any) -> list[str]:
    given = {"forgiven": 0, "spoilt": frozenset(), **more}
    return broken(search, search.storage.parent, before or {}, undisturbed or result_of(search.run), **given)


def test_a_run_like_the_undisturbed_one_is_well(search: Search) -> None:
    assert search.run.name == NAME
    assert judge(search, finished(search.run)) == []


def test_a_trial_that_still_runs_is_found(search: Search) -> None:
    study = open_study(search.run / "study.log")
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING, user_attrs={"trial_id": "t0001"}))
    wrong = judge(search)
    assert wrong[0].startswith("t0001 unfinished in the study")
    assert wrong[1] == "7 trials in the study with 6 ids instead of 6"


def test_a_finished_trial_that_is_lost_is_found(search: Search) -> None:
    assert judge(search, {"t0001": [0.7]}) == ["t0001 had finished and is lost or changed"]


def test_a_trial_that_begins_anew_is_found(search: Search, tmp_path: Path) -> None:
    lines = whole_log() + log_of("began t0001 4", "kept t0001 5")
    (tmp_path / "epochs.log").write_text(lines)
    assert len(read_log(tmp_path)) == lines.count("\n")
    assert judge(search, forgiven=2) == []
    assert judge(search, forgiven=1) == ["t0001 began after epoch 4, though epoch 6 was kept"]
    assert judge(search, finished(search.run), forgiven=2) == ["t0001 was trained again"]


def test_what_is_left_behind_is_found(search: Search) -> None:
    (search.run / "trials/t0001/.previous.safetensors").touch()
    (search.run / "leaderboard.csv.part").touch()
    assert judge(search) == ["leaderboard.csv.part, trials/t0001/.previous.safetensors left behind"]


def test_other_numbers_weights_and_orders_are_found(search: Search) -> None:
    found = result_of(search.run)
    rows = {name: {**row, "val_dice": "0.55"} if name == "t0002" else row for name, row in found.rows.items()}
    weights = {**found.weights, "t0003": "another"}
    assert judge(search, undisturbed=replace(found, rows=rows)) == ["t0002 differs: val_dice 0.2 instead of 0.55"]
    assert judge(search, undisturbed=replace(found, weights=weights)) == ["the best model of t0003 has other weights"]
    turned = dict(reversed(found.rows.items()))
    assert judge(search, undisturbed=replace(found, rows=turned)) == ["the leaderboard has another order"]
    spoilt = frozenset({"t0002", "t0003"})
    assert judge(search, undisturbed=Result(rows=rows, weights=weights), spoilt=spoilt) == []


def test_the_table_has_a_row_for_each_fault() -> None:
    reports = [
        Report(fault="node_killed", seed=seed, moment=f"after {seed}", broken=broken, said=said, seconds=1.0)
        for seed, broken, said in ((1, (), "machine | is gone"), (2, ("something",), ""))
    ]
    assert table(FAULTS, reports).splitlines()[2] == (
        f"| node_killed | {FAULTS['node_killed'].happens} | after 1; after 2 | 1 of 2 | machine / is gone |"
    )


def test_faults_that_did_not_strike_again_keep_their_rows() -> None:
    first, second, *_ = FAULTS
    reports = [
        Report(fault=name, seed=1, moment=f"after {name}", broken=(), said="", seconds=1.0) for name in (second, first)
    ]
    stood = table(FAULTS, reports)
    again = [Report(fault=second, seed=2, moment="later", broken=("something",), said="", seconds=1.0)]
    before, after = stood.splitlines(), table(FAULTS, again, stood).splitlines()
    assert after[:3] == before[:3]
    assert after[3] == f"| {second} | {FAULTS[second].happens} | later | 0 of 1 |  |"
    assert len(after) == 4
