"""Trains the table that searches are replayed on: real learning curves of many configurations on two tasks.

    python benchmarks/curves/make_curves.py [--processes 2]

Each line of `curves.jsonl` is one training: its task, its number, the values that were searched, and for each epoch the
Dice of the validation images and the seconds of processor time on one thread, which other work on the machine changes
little. The first values of a task are the points of a scrambled Sobol sequence over `SPACE`. It is the good places that
searches differ in, and there such points lie far apart: so the others are drawn close to the best of the first, as any
search would that has seen those. All are the same whenever they are drawn. A script that was stopped goes on with what
is missing; the trainings that were under way begin again. Expects the data sets in `../shared/datasets`, or where
DATASETS says.

  wbc    white blood cells as they are: a third of the usual training images (64), and the 48 to validate
  stare  retinas shrunk to 256 pixels: 8 to train on, im0082 and im0139 to validate
"""

import argparse
import json
import multiprocessing
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from search.space import Space

FILE = Path(__file__).with_name("curves.jsonl")
ROOT = Path(__file__).resolve().parents[2]
DATASETS = Path(os.environ.get("DATASETS", ROOT.parent / "shared" / "datasets"))
SIZES: dict[str, Any] = {"wbc": "native", "stare": 256}
EVERY = {"wbc": 3, "stare": 1}  # one in so many of the training images
ANYWHERE, CLOSE = 150, 100  # configurations of each task from all of the space, and close to the best of those
PARENTS = 15  # how many the best are
STEP = 0.15  # how far from them, as a share of a range
CHANGED = 0.2  # the share of choices that are drawn anew
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


class Draw:
    """Draws values, asked as a trial of Optuna is: evenly, or close to those of another configuration."""

    def __init__(self, seed: Sequence[int], near: Mapping[str, Any] | None = None) -> None:
        self._numbers = np.random.default_rng(seed)
        self._near = near or {}

    def suggest_int(self, name: str, low: int, high: int, log: bool = False) -> int:
        """A whole number, both ends included."""
        assert not log
        count = high + 1 - low
        near = (self._near[name] - low + 0.5) / count if name in self._near else None
        return low + min(int(self._place(near) * count), count - 1)

    def suggest_float(self, name: str, low: float, high: float, log: bool = False) -> float:
        """A number."""
        scale, back = (np.log, np.exp) if log else (float, float)
        first, width = scale(low), scale(high) - scale(low)
        near = (scale(self._near[name]) - first) / width if name in self._near else None
        return float(np.clip(back(first + self._place(near) * width), low, high))

    def suggest_categorical(self, name: str, options: Sequence[Any]) -> Any:
        """One of the options."""
        if name in self._near and self._numbers.random() >= CHANGED:
            return self._near[name]
        return options[self._numbers.integers(len(options))]

    def _place(self, near: float | None) -> float:
        """A place from 0 to 1, anywhere or close to another one; what would be beyond an end is thrown back."""
        if near is None:
            return float(self._numbers.random())
        place = abs(near + STEP * self._numbers.normal())
        return float(np.clip(1 - abs(1 - place), 0, 1))


@cache
def search_space() -> "Space":
    """`SPACE` and nothing else, whatever is searched by default."""
    from search.space import parse_space

    return parse_space(["only", *(f"{name}={values}" for name, values in SPACE.items())], pinned=PINNED)


def values_anywhere() -> list[dict[str, Any]]:
    """The values of the first configurations of each task."""
    import optuna

    from search.space import suggest

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(sampler=optuna.samplers.QMCSampler(scramble=True, seed=0))
        space = search_space()
        drawn = []
        for _ in range(ANYWHERE):
            trial = study.ask()
            drawn.append(suggest(space, trial))
            study.tell(trial, 0.0)
    return drawn


def values_close(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The values of a task's other configurations, in turns close to each of the best of these first ones."""
    from search.space import suggest

    best = sorted(lines, key=lambda line: (-max(line["val_dice"], default=0.0), line["number"]))[:PARENTS]
    space = search_space()
    return [suggest(space, Draw((0, number), best[number % PARENTS]["values"])) for number in range(CLOSE)]


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


def recorded() -> dict[tuple[str, int], dict[str, Any]]:
    """The lines that are there, by task and number."""
    lines = map(json.loads, FILE.read_text().splitlines() if FILE.exists() else ())
    return {(line["task"], line["number"]): line for line in lines}


def train_all(values: Mapping[tuple[str, int], dict[str, Any]], processes: int) -> None:
    """Trains those of the configurations that are missing, so many at a time, and adds them to the file."""
    missing = {key: its_values for key, its_values in values.items() if key not in recorded()}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool, FILE.open("a") as file:
        waiting = [pool.submit(train_once, *key, its_values) for key, its_values in missing.items()]
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


def main() -> None:
    """Trains what is missing, first the configurations from anywhere, then those that are close to their best."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2, help="trainings side by side, with one thread each")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    anywhere = values_anywhere()
    train_all({(task, n): values for n, values in enumerate(anywhere) for task in SIZES}, arguments.processes)
    lines = recorded()
    close = {task: values_close([lines[task, n] for n in range(ANYWHERE)]) for task in SIZES}
    train_all({(task, ANYWHERE + n): close[task][n] for n in range(CLOSE) for task in SIZES}, arguments.processes)


if __name__ == "__main__":
    main()
