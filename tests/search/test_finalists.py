"""Finalists: who they are, how they are ranked, and their table as it is written and read."""

import json
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from data.input_error import InputError
from model.config import TrainConfig
from search.final_training import LARGEST_SEED, RECORD, FinalTraining, plan, read_training, unfinished
from search.finalists import TABLE, Finalist, choose_trials, ranked, read, read_finalists, render, to_frame, write
from search.record import TrialRecord

ALL = ("rank", "trial_id", "status", "reason", "seeds", "val_dice_mean", "val_dice_sd", "val_dice_lower")
MORE = ("search_val_dice", "optimism", "test_dice", "test_dice_low", "test_dice_high")


def trial(number: int, dice: float | None, status: Any = "completed", **config: Any) -> TrialRecord:
    settings = asdict(TrainConfig(learning_rate=(number + 1) / 1000)) | config
    metrics = {} if dice is None else {"val_dice": dice}
    return TrialRecord(trial_id=f"t000{number}", config=settings, status=status, metrics=metrics)


def ended(dice: float | None, status: Any = "completed", reason: str = "", checkpoint: str = "") -> TrialRecord:
    metrics = {} if dice is None else {"val_dice": dice}
    return TrialRecord(
        trial_id="t", config={}, status=status, reason=reason, metrics=metrics, checkpoint=checkpoint, epochs=3
    )


def finalist(number: int, *values: float, search: float = 0.9, bad: TrialRecord | None = None) -> Finalist:
    seeds = {seed: (ended(value, checkpoint=f"{number}/{seed}"),) for seed, value in enumerate(values, start=1)}
    if bad is not None:
        seeds[len(seeds) + 1] = (bad,)
    return Finalist(trial=trial(number, search), seeds=seeds)


def test_the_best_trials_with_different_settings_are_the_finalists() -> None:
    records = [
        trial(0, 0.5),
        trial(1, 0.9, "failed"),
        trial(2, 0.8, "stopped", learning_rate=0.5, seed=3),
        trial(3, 0.7, learning_rate=0.5, seed=4),
        trial(4, 0.95, "running"),
        trial(5, None, "stopped"),
        trial(6, 0.6),
    ]
    assert [one.trial_id for one in choose_trials(records, 3)] == ["t0002", "t0006", "t0000"]
    assert [one.trial_id for one in choose_trials(records, 1)] == ["t0002"]
    assert choose_trials(records[4:6], 3) == []


def test_they_stand_by_what_they_surely_reach() -> None:
    steady = finalist(1, 0.79, 0.80, 0.81)  # 0.8 - 2.92 x 0.01 / 1.732 = 0.783
    wild = finalist(2, 0.70, 0.85, 0.95)  # a higher mean, but 0.833 - 2.92 x 0.126 / 1.732 = 0.621
    failed = finalist(3, 0.97, 0.97, bad=ended(0.9, "diverged", "the loss is not finite"))
    one_left = finalist(4, 0.99, bad=ended(None, "failed", "it did"))
    assert [one.trial.trial_id for one in ranked([failed, one_left, wild, steady])] == [
        *("t0001", "t0002", "t0003", "t0004")
    ]
    assert steady.lower == pytest.approx(0.783141, abs=1e-6)
    assert (wild.mean, wild.deviation) == (pytest.approx(0.833333, abs=1e-6), pytest.approx(0.125831, abs=1e-6))
    assert (failed.status, failed.reason) == ("diverged", "seed 3: the loss is not finite")
    assert (failed.mean, failed.lower) == (pytest.approx(0.97), pytest.approx(0.97))
    assert (one_left.status, one_left.mean, one_left.deviation, one_left.lower) == ("failed", 0.99, None, None)
    assert (wild.best_seed, wild.checkpoint) == (3, "2/3")
    none_left = Finalist(
        trial=trial(5, 0.9), seeds={1: (ended(None, "failed", "a"),), 2: (ended(None, "failed", "b"),)}
    )
    assert (none_left.mean, none_left.best_seed, none_left.checkpoint) == (None, None, "")
    assert none_left.reason == "seed 1: a; seed 2: b"


def test_with_folds_every_training_counts_and_a_bad_fold_spoils_its_seed() -> None:
    seeds = {
        1: (ended(0.6, checkpoint="1/1"), ended(0.8, checkpoint="1/2")),
        2: (ended(0.7, checkpoint="2/1"), ended(0.74, checkpoint="2/2")),
        3: (ended(0.99), ended(0.2, "collapsed", "predicted nothing")),
    }
    found = Finalist(trial=trial(0, 0.9), seeds=seeds)
    assert found.values == [0.6, 0.8, 0.7, 0.74]
    assert (found.status, found.reason) == ("collapsed", "seed 3: predicted nothing")
    assert (found.best_seed, found.checkpoint) == (2, "2/2")


def test_the_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    ranking = ranked([finalist(1, 0.79, 0.81, search=0.85), finalist(2, 0.5, bad=ended(None, "failed", "=1+1 did it"))])
    ranking[1] = replace(ranking[1], trial=trial(2, 0.9, loss="dice", deterministic=True))
    tested = {"t0001": {"test_dice": 0.75, "test_dice_low": 0.7, "test_dice_high": None}}
    frame = to_frame(ranking, tested)
    assert tuple(frame.columns) == (*ALL, *MORE, "loss", "learning_rate", "deterministic", "checkpoint")
    write(tmp_path / TABLE, frame)
    for path in (tmp_path, tmp_path / TABLE):
        pd.testing.assert_frame_equal(read(path), frame)
    assert "'=1+1" not in read(tmp_path)["reason"][1]
    first, second = (row for _, row in frame.iterrows())
    assert (first["rank"], first["seeds"], first["checkpoint"]) == (1, 2, "1/2")
    assert (first["val_dice_mean"], first["optimism"]) == (pytest.approx(0.8), pytest.approx(0.05))
    assert replace(ranking[0], trial=trial(1, 0.85, "stopped")).optimism is None, "it is of fewer epochs"
    assert second["status"] == "failed"
    assert pd.isna(second["val_dice_lower"]) and pd.isna(second["test_dice"])
    assert (second["loss"], second["deterministic"]) == ("dice", True)


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"do not exist: python -m search\.finals"):
        read(tmp_path)


def test_a_person_sees_what_tells_most() -> None:
    tested = {"t0001": {"test_dice": 0.75, "test_dice_low": 0.7, "test_dice_high": 0.8}}
    out = StringIO()
    render(to_frame([finalist(1, 0.79, 0.81), finalist(2, 0.5, 0.7)], tested), Console(file=out, width=40))
    head, first, second = out.getvalue().splitlines()
    assert head.split() == [
        *("rank", "trial_id", "status", "seeds", "val_dice", "sd", "lower", "search", "optimism", "test")
    ]
    assert first.split()[:6] == ["1", "t0001", "completed", "2", "0.8000", "0.0141"]
    assert first.endswith("0.9000  +0.1000   0.7500 [0.7000, 0.8000]")
    assert second.split()[-1] == "+0.3000"


def test_every_seed_is_another_one_and_all_finalists_get_their_first_before_any_second() -> None:
    trials = [trial(1, 0.9, seed=5), trial(2, 0.8, seed=LARGEST_SEED - 1)]
    trainings = plan(trials, 2, 1)
    assert [one.place for one in trainings] == [*("t0001/seed-1", "t0002/seed-1", "t0001/seed-2", "t0002/seed-2")]
    assert [one.config["seed"] for one in trainings] == [6, 0, 7, 1]
    assert {**trainings[0].config, "seed": 5} == trials[0].config
    assert [one.place for one in plan(trials[:1], 1, 2)] == ["t0001/seed-1/fold-1", "t0001/seed-1/fold-2"]
    assert TrainConfig(**trainings[1].config).seed == 0


def keep(finals: Path, training: FinalTraining, status: Any) -> None:
    """Puts the record of a training that stands like this into its folder."""
    record = replace(read_training(finals, training), status=status, metrics={"val_dice": 0.5})
    (finals / training.place).mkdir(parents=True)
    (finals / training.place / RECORD).write_text(json.dumps(asdict(record)))


def test_what_has_ended_is_known_and_what_may_end_otherwise_is_tried_again(tmp_path: Path) -> None:
    trials = [trial(number, 0.9) for number in range(3)]
    trainings = plan(trials, 3, 1)
    stands = dict.fromkeys([one.place for one in trainings], "completed") | {
        "t0000/seed-2": "diverged",
        "t0000/seed-3": "out_of_memory",
        "t0001/seed-2": "running",
        "t0002/seed-2": "running",
        "t0002/seed-3": "failed",
    }
    for training in trainings[:-1]:
        keep(tmp_path, training, stands[training.place])
    (tmp_path / "t0000/seed-x").mkdir()
    assert [one.place for one in unfinished(trainings, tmp_path)] == [
        *("t0001/seed-2", "t0002/seed-2", "t0000/seed-3", "t0002/seed-3")
    ]
    found = read_finalists(tmp_path, [*trials, trial(7, 0.9)], 1)
    assert {one.trial.trial_id: sorted(one.seeds) for one in found} == {"t0000": [1, 2, 3], "t0001": [1, 3]}
