"""Seconds that a search adds to each trial, ours against Ray Tune with OptunaSearch as its documentation shows it.

The training is trivial (it imports torch and reports five epochs), so all time is the system's. Each search runs as
a process of its own, with few trials and with many: the difference, divided by the trials between, is what one more
trial costs; the rest is what a start costs. The two take turns. Both run as many trials at a time as there are cores.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from outcome import conclude, describe_machine, parse_arguments, print_table, spread

TURNS = 3
TRIALS = {"stock": (4, 12), "ours": (8, 48)}
EPOCHS = 5
GOAL = 10.0


def search_with_stock(trials: int, folder: Path) -> None:
    """Ray Tune's guide to OptunaSearch, with its ASHA."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    def objective(config: dict[str, float]) -> None:
        import torch  # noqa: F401 - what every training needs

        for epoch in range(1, EPOCHS + 1):
            tune.report({"val_dice": 1 - abs(config["learning_rate"] - 0.01) - 0.1 / epoch})

    tuner = tune.Tuner(
        objective,
        tune_config=tune.TuneConfig(
            metric="val_dice",
            mode="max",
            search_alg=OptunaSearch(),
            scheduler=ASHAScheduler(max_t=EPOCHS),
            num_samples=trials,
        ),
        run_config=tune.RunConfig(storage_path=str(folder)),
        param_space={"learning_rate": tune.loguniform(1e-4, 1e-1), "depth": tune.randint(3, 6)},
    )
    tuner.fit()


def trivial_training(config: Any, *_: Any, **_named: Any) -> Iterator[Any]:
    """Reports of a training that does nothing, with all that a real one has."""
    from model.metrics import Scores
    from model.progress import EpochReport

    for epoch in range(1, config.max_epochs + 1):
        dice = 1 - abs(config.learning_rate - 0.01) - 0.1 / epoch
        val = Scores(
            dice=dice,
            iou=dice,
            f1_macro=dice,
            f1_micro=dice,
            precision_macro=dice,
            precision_micro=dice,
            recall_macro=dice,
            recall_micro=dice,
            accuracy=dice,
            dice_additive=dice,
            dice_per_image=dice,
            auc_roc=dice,
            auc_pr=dice,
            class_dice=(dice,),
        )
        yield EpochReport(
            epoch=epoch,
            train_loss=1 - dice,
            val=val,
            class_names=("vessel",),
            thresholds=(0.5,),
            seconds=0.0,
            images_per_second=1.0,
            learning_rate=config.learning_rate,
            gradient_norm=1.0,
            peak_memory_mb=1.0,
            parameters=1,
            gflops_per_megapixel=1.0,
            batch_parts=1,
            warnings=(),
            device="cpu",
        )


def search_with_ours(trials: int, folder: Path) -> None:
    """`python -m search.run` but for the training."""
    from data.readers import load
    from data.split import split_data
    from search.driver import search
    from search.resources import choose_needs, machines, running_ray
    from search.run_folder import new_run
    from search.settings import SearchSettings
    from search.space import parse_space

    settings = SearchSettings(num_trials=trials, max_epochs=EPOCHS, storage=folder)
    data = load(settings.data)
    space = parse_space({"max_epochs": EPOCHS})
    with running_ray(None), new_run(folder, "overhead") as run:
        needs = choose_needs(1.0, 0.0, machines())
        outcome = search(
            settings, space, data, split_data(data), run, needs, look=lambda *_: None, train=trivial_training
        )
    assert sum(record.status in ("completed", "stopped") for record in outcome.records) == trials


SYSTEMS = {"stock": search_with_stock, "ours": search_with_ours}


def seconds_of(system: str, trials: int) -> float:
    """Seconds of one whole search in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--search", system, str(trials), folder]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"})
        return time.perf_counter() - started


def main() -> int:
    """Runs the searches in turns and prints the table."""
    arguments = parse_arguments(__doc__ or "")
    per_trial: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    start: dict[str, list[float]] = {system: [] for system in SYSTEMS}
    for _ in range(TURNS):
        for system, (few, many) in TRIALS.items():
            short, long = seconds_of(system, few), seconds_of(system, many)
            one = (long - short) / (many - few)
            per_trial[system].append(one)
            start[system].append(short - few * one)
    print(describe_machine())
    names = {"stock": "Ray Tune + OptunaSearch + ASHA, as documented", "ours": "unet-search"}
    table = [("system", "seconds a trial", "seconds to start", "trials")]
    for system, (few, many) in TRIALS.items():
        table.append((names[system], spread(per_trial[system], 3), spread(start[system]), f"{few} and {many}"))
    print_table(table)
    ratio = statistics.median(per_trial["stock"]) / statistics.median(per_trial["ours"])
    return conclude(
        "trial_overhead",
        f"{ratio:.1f} times less than stock ({statistics.median(per_trial['ours']):.3f} s a trial)",
        f">= {GOAL:g} times less",
        ratio >= GOAL,
        {"seconds_per_trial": per_trial, "seconds_to_start": start},
        arguments.json,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--search"]:
        SYSTEMS[sys.argv[2]](int(sys.argv[3]), Path(sys.argv[4]))
    else:
        sys.exit(main())
