"""Makes up the folder of a run: as many trials as are asked for, with curves, in every way in which they end."""

import math
import random
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from data.segmentation_data import SegmentationData, Split
from model.config import TrainConfig
from search.drivers import SECONDS_SPENT, UNDER_WAY
from search.leaderboard import to_frame, write
from search.record import METRICS, TrialRecord
from search.run_folder import RunFolder, describe_data, keep_data
from search.settings import SearchSettings
from search.space import parse_space, suggest
from search.study import VERSIONS, open_study
from tests.toys import colored_squares, split_in_two

STATES = {"completed": TrialState.COMPLETE, "running": TrialState.RUNNING, "stopped": TrialState.PRUNED}
DRAWN = 2000  # trials with settings of their own; the others have those again
REASONS = {
    "diverged": "the loss was not finite at epoch 2: lower the learning rate",
    "collapsed": "<b>all</b> masks were empty for 3 epochs",
    "out_of_memory": "a batch of 16 did not fit into 24 GB",
    "failed": "ValueError: </script><script>alert(1)</script>",
    "stopped": "others were better",
}


def make_run(
    path: Path, trials: int, *, settings: Mapping[str, Any] | None = None, objectives: tuple[str, ...] = ("val_dice",)
) -> RunFolder:
    """A run in this folder whose search is over; its best model is not there. settings: beside the usual ones."""
    path.mkdir(parents=True)
    run, data = RunFolder(path=path), colored_squares("binary")
    made: SegmentationData = data
    split: Split = split_in_two(data)
    asked = SearchSettings(
        objective=objectives, **{"name": path.name, "num_trials": max(1, trials), **(settings or {})}
    )
    run.settings.write_text(asked.as_yaml(), encoding="utf-8")
    keep_data(run, describe_data(made, (split,)))
    study = open_study(run.journal, objectives)
    space, chance = parse_space(), random.Random(0)
    clock = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    draws = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    records: list[TrialRecord] = []
    made_up: list[FrozenTrial] = []
    for number in range(trials):
        before = records[number % DRAWN].config if number >= DRAWN else vars(TrainConfig(**suggest(space, draws.ask())))
        record, curve = _trial(number, dict(before), trials, data.class_names[0], chance)
        began = clock + timedelta(seconds=30 * number)
        attributes = {"trial_id": record.trial_id, "record": asdict(record)}
        state = STATES.get(record.status, TrialState.PRUNED)
        made_up.append(
            create_trial(
                state=state,
                params={},
                distributions={},
                values=None if state != TrialState.COMPLETE else [_value(record, name) for name in objectives],
                intermediate_values=curve,
                user_attrs=attributes,
            )
        )
        made_up[-1].datetime_start = began
        made_up[-1].datetime_complete = (
            None if state == TrialState.RUNNING else began + timedelta(seconds=record.seconds)
        )
        records.append(record)
    study.add_trials(made_up)
    study.set_user_attr(SECONDS_SPENT, 30.0 * trials)
    study.set_user_attr(UNDER_WAY, False)
    study.set_user_attr(VERSIONS, {"Python": "3.11", "torch": "2.11"})
    write(run.leaderboard, to_frame(records, data.class_names, objectives))
    return run


def _value(record: TrialRecord, name: str) -> float:
    return float(record.metrics["val_dice"]) if name == "val_dice" else float(getattr(record, name))


def _trial(
    number: int, config: dict[str, Any], trials: int, class_name: str, chance: random.Random
) -> tuple[TrialRecord, dict[int, float]]:
    weights = {"completed": 15, "stopped": 70, "diverged": 5, "collapsed": 5, "out_of_memory": 3, "failed": 2}
    (status,) = chance.choices([*weights], [*weights.values()])
    if number < len(weights):
        status = [*weights][number]  # each is there
    if number == trials - 1:
        status = "running"
    epochs = {"completed": 27, "running": 5}.get(status, chance.choice([1, 3, 9]))
    height = 0.8 - 0.06 * abs(math.log10(config["learning_rate"]) + 2.3) - 0.04 * (config["loss"] == "focal")
    height += 0.01 * config["depth"] + chance.gauss(0, 0.02)
    bad = status in ("diverged", "collapsed", "out_of_memory", "failed")
    curve = (
        {}
        if bad and epochs < 2
        else {epoch: height * (1 - math.exp(-epoch / 4)) + chance.gauss(0, 0.005) for epoch in range(1, epochs + 1)}
    )
    metrics = {}
    if curve:
        best = max(curve.values())
        metrics = {name: best * chance.uniform(0.95, 1.0) for name in METRICS} | {
            "val_dice": best,
            f"val_dice_{class_name}": best,
        }
    record = TrialRecord(
        trial_id=f"t{number:04d}",
        config=config,
        dataset="toy@01234567",
        version="0.1.0",
        status=status,  # type: ignore[arg-type]
        reason=REASONS.get(status, ""),
        metrics=metrics,
        threshold=0.5 if metrics else None,
        best_epoch=max(curve, key=lambda epoch: curve[epoch]) if curve else None,
        epochs=epochs,
        seconds=8.0 * epochs,
        device="cpu",
        parameters=1000 * config["width"] * 4 ** config["depth"],
        peak_memory_mb=500.0 + 20 * config["width"],
        checkpoint=f"trials/t{number:04d}/best" if metrics else "",
    )
    return record, curve
