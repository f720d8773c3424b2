"""Trains the table that searches are replayed on: real learning curves of many configurations on two tasks.

    python benchmarks/curves/make_curves.py [--processes 2] [--until 256]

Each line of `curves.jsonl` is one training: its task, its number, the values that were searched, and for each epoch the
Dice of the validation images and the seconds of processor time on one thread, which other work on the machine changes
little. The values are the points of a scrambled Sobol sequence over `SPACE`, the same whenever they are drawn. A script
that was stopped goes on with what is missing; the trainings that were under way begin again. Expects the data sets in
`../shared/datasets`, or where DATASETS says.

  wbc    white blood cells as they are: a third of the usual training images (64), and the 48 to validate
  stare  retinas shrunk to 256 pixels: 8 to train on, im0082 and im0139 to validate
"""

import argparse
import json
import multiprocessing
import os
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("curves.jsonl")
ROOT = Path(__file__).resolve().parents[2]
DATASETS = Path(os.environ.get("DATASETS", ROOT.parent / "shared" / "datasets"))
SIZES: dict[str, Any] = {"wbc": "native", "stare": 256}
EVERY = {"wbc": 3, "stare": 1}  # one in so many of the training images
MAX_EPOCHS = 27
PINNED = {"max_epochs": MAX_EPOCHS, "epoch_pixels": 2**18, "seed": 0}
# Wider than what is searched by default, as a person has it who does not know yet what is good.
SPACE = {
    "block": "plain|residual",
    "depth": "2:4",
    "width": "4|8|16",
    "dropout": "0:0.5",
    "loss": "dice|weighted_ce|dice_ce|focal|tversky",
    "class_weight": "none|square_root|median_frequency",
    "learning_rate": "1e-4:1e-1:log",
    "weight_decay": "1e-6:1e-1:log",
    "batch_size": "2|4|8",
    "crop_size": "64|96|128",
    "rare_crops": "0|0.5",
    "augmentation": "0:1",
}


def points(count: int) -> list[dict[str, Any]]:
    """The values of the first so many configurations."""
    import optuna

    from search.space import parse_space, suggest

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(sampler=optuna.samplers.QMCSampler(scramble=True, seed=0))
        space = parse_space(["only", *(f"{name}={values}" for name, values in SPACE.items())], pinned=PINNED)
        drawn = []
        for _ in range(count):
            trial = study.ask()
            drawn.append(suggest(space, trial))
            study.tell(trial, 0.0)
    return drawn


def train_once(task: str, number: int, values: dict[str, Any]) -> dict[str, Any]:
    """One training, as a line of the table."""
    import torch

    from data.readers import load
    from data.segmentation_data import Preparation, Split, Splitting
    from data.split import split_data
    from model.config import TrainConfig
    from model.diagnose import TrainingFailure
    from model.train import train

    torch.set_num_threads(1)
    data = load(task, root=DATASETS, preparation=Preparation(size=SIZES[task]))
    usual = split_data(data, Splitting())[0]
    split = Split(train=usual.train[:: EVERY[task]], validation=usual.validation)
    line: dict[str, Any] = {
        "task": task,
        "number": number,
        "values": {name: value for name, value in values.items() if name in SPACE},
        "status": "completed",
        "reason": "",
        "val_dice": [],
        "seconds": [],
    }
    began = time.process_time()
    try:
        for report in train(TrainConfig(**values), data, split, device="cpu"):
            now = time.process_time()
            line["val_dice"].append(round(report.flat()["val_dice"], 4))
            line["seconds"].append(round(now - began, 3))
            line["parameters"] = report.parameters
            began = now
    except TrainingFailure as failure:
        line["status"], line["reason"] = failure.status, failure.reason
    return line


def missing(until: int) -> Iterator[tuple[str, int]]:
    """The trainings that the table does not have yet, task by task in turns."""
    there = set()
    if FILE.exists():
        there = {(line["task"], line["number"]) for line in map(json.loads, FILE.read_text().splitlines())}
    for number in range(until):
        for task in SIZES:
            if (task, number) not in there:
                yield task, number


def main() -> None:
    """Trains what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2, help="trainings side by side, with one thread each")
    parser.add_argument("--until", type=int, default=256, help="configurations of each task")
    arguments = parser.parse_args()
    values = points(arguments.until)
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, mp_context=context) as pool, FILE.open("a") as file:
        waiting = [pool.submit(train_once, task, number, values[number]) for task, number in missing(arguments.until)]
        for done, training in enumerate(as_completed(waiting), start=1):
            line = training.result()
            file.write(json.dumps(line) + "\n")
            file.flush()
            best = max(line["val_dice"], default=0.0)
            print(
                f"{done} of {len(waiting)}: {line['task']} {line['number']}: {best:.4f}, "
                f"{sum(line['seconds']):.0f} s, {line['status']}",
                flush=True,
            )


if __name__ == "__main__":
    main()
