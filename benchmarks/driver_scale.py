"""How the driver bears long searches and a wide one: 10,000 trials, and 200 workers at a time, on one machine.

Long: trials that only report five epochs each (as those of trial_overhead.py), as many at a time as there are cores.
The last thousand must begin as fast as the first ones, but for a fifth; the first hundred, while workers start, do not
count, nor do those after the last look at which some were still to begin. The driver's memory may grow by 50 KiB a
trial, half a GiB in all. It is that of the driver's own process: what workers, Ray's own processes and its object store
take is not counted. The scheduler holds nobody back but a few at the beginning, as until their last epoch each trial
shows a little more than those before, so that it has all its reports.

Waiting: the same with trials that show how good they are from the first epoch on, so that most of them wait for better
ones, as in a real search; the bounds are the same.

Wide: 200 workers, each with a hundredth of a core, whose epochs are two seconds of sleep, with all that a real one
reports. They load no torch, nor other packages that they have no use for (see driver/light_worker.py), and so take
15 GiB of memory; it is not counted either. Trials, their number of epochs, searcher and scheduler are those of a search
with the usual settings. Each worker notes when it begins an epoch, and is in it for the two seconds after. How much of
the time that is, is counted three times for 90 seconds, one after the other, which begin five epochs after all workers
have begun their first. The goal is for their mean.
"""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from outcome import conclude, describe_machine, parse_arguments, print_table
from trial_overhead import report_of

TRIALS, EPOCHS, STEP = 10_000, 5, 1000
STARTING = 100  # trials, while workers come up
WORKERS, SECONDS_OF_EPOCH = 200, 2.0
SECONDS_SETTLING, SECONDS_COUNTED, COUNTS = 10.0, 90.0, 3
GOAL_FLAT, GOAL_GROWTH, GOAL_BUSY = 0.8, 50.0, 0.95


def good_from_the_start(config: Any, *_: Any, **_named: Any) -> Iterator[Any]:
    """A training that does nothing; its first epoch shows how good it is."""
    for epoch in range(1, config.max_epochs + 1):
        yield report_of(epoch, quality_of(config.learning_rate) * (1 + epoch / 1000), config)


def better_and_better(config: Any, *_: Any, folder: Path, **_named: Any) -> Iterator[Any]:
    """A training that does nothing; only its last epoch shows how good it is."""
    so_far = 0.1 + int(folder.name[1:]) / 1_000_000
    for epoch in range(1, config.max_epochs + 1):
        yield report_of(epoch, so_far if epoch < config.max_epochs else quality_of(config.learning_rate), config)


def quality_of(learning_rate: float) -> float:
    """What the made-up trainings come to: best at a learning rate of 0.01."""
    return 0.8 - abs(math.log10(learning_rate) + 2) / 10


def asleep(notes: Path) -> Callable[..., Iterator[dict[str, Any]]]:
    """What takes the place of a training in the wide search: its reports, and when a worker began each epoch."""
    from model.config import TrainConfig

    usual = report_of(1, 0.0, TrainConfig()).flat()

    def sleep_through(params: Mapping[str, Any], folder: Path, *_: Any) -> Iterator[dict[str, Any]]:
        for epoch in range(1, params["max_epochs"] + 1):
            with (notes / str(os.getpid())).open("a") as file:
                file.write(f"{time.monotonic()}\n")  # the clock of the machine, which all its processes share
            time.sleep(SECONDS_OF_EPOCH)
            dice = quality_of(params["learning_rate"]) * (1 - math.exp(-epoch / 10))
            done = epoch == params["max_epochs"]
            yield {
                **usual,
                **{name: dice for name in usual if name.startswith("val_")},
                "epoch": epoch,
                "train_loss": 1 - dice,
                "current_learning_rate": params["learning_rate"],
                "seconds": SECONDS_OF_EPOCH * epoch,
                "status": "completed" if done else "running",
                "checkpoint": f"trials/{folder.name}/best",
                "devices": 1.0,
                "done": done,
            }

    return sleep_through


def search_long(folder: Path, train: Callable[..., Iterator[Any]] = better_and_better) -> dict[str, Any]:
    """What the driver had taken whenever it looked, and the epochs that were trained.

    A look: trials that were begun, seconds on the clock, MiB of memory, seconds of processor time.
    """
    from search.study import read_study

    looks: list[tuple[int, float, float, float]] = []

    def look(records: Sequence[Any], spent: float) -> None:
        looks.append((len(records), spent, resident_mb(os.getpid()), time.process_time()))

    search_here(folder, look, train=train, cores=1.0, num_trials=TRIALS, max_epochs=EPOCHS)
    epochs = [len(trial.intermediate_values) for trial in read_study(folder / "scale" / "study.log").trials]
    assert len(epochs) == TRIALS
    return {"looks": looks, "epochs": sum(epochs), "least_epochs": min(epochs[STARTING:])}


def search_waiting(folder: Path) -> dict[str, Any]:
    """The same of a search in which most trials wait for better ones."""
    return search_long(folder, good_from_the_start)


def search_wide(folder: Path) -> dict[str, Any]:
    """The shares of their time that workers are in epochs, and the epochs and trials that they begin meanwhile."""
    import search.driver

    light, notes = folder / "light", folder / "notes"
    light.mkdir()
    notes.mkdir()
    search.driver.train_split = asleep(notes)  # type: ignore[assignment]
    shutil.copy(Path(__file__).parent / "driver" / "light_worker.py", light / "sitecustomize.py")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(light), os.environ.get("PYTHONPATH", "")])
    looks: list[tuple[float, int]] = []  # since all are at work: when, and how many trials had been begun
    ended: list[int] = []

    def look(records: Sequence[Any], _spent: float) -> None:
        if ended or len([*notes.iterdir()]) < WORKERS:
            return
        looks.append((time.monotonic(), len(records)))
        if looks[-1][0] - looks[0][0] >= SECONDS_SETTLING + COUNTS * SECONDS_COUNTED:
            ended.append(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    search_here(folder, look, cores=(os.cpu_count() or 1) / WORKERS, max_time="1h")
    begun = np.array([float(moment) for file in notes.iterdir() for moment in file.read_text().split()])
    marks = looks[0][0] + SECONDS_SETTLING + SECONDS_COUNTED * np.arange(COUNTS + 1)
    within = np.diff(np.clip(marks[:, None] - begun, 0, SECONDS_OF_EPOCH).sum(axis=1))
    first, last = marks[[0, -1]]
    return {
        "busy": [float(seconds) / (WORKERS * SECONDS_COUNTED) for seconds in within],
        "epochs_begun": int(((begun >= first) & (begun < last)).sum()),
        "trials_begun": float(np.diff(np.interp([first, last], *np.array(looks).T))[0]),
        "processes": len([*notes.iterdir()]),
    }


def search_here(
    folder: Path, look: Any, *, train: Callable[..., Iterator[Any]] | None = None, cores: float, **asked: Any
) -> None:
    """`python -m search.run` with these settings, but for the trainings."""
    from data.readers import load
    from data.split import split_data
    from search.resources import QUIET, choose_needs, machines, running_ray
    from search.run_folder import new_run
    from search.settings import SearchSettings
    from search.space import parse_space

    os.environ.update(QUIET)  # some of which Ray reads when it is imported

    from search.driver import search

    settings = SearchSettings(storage=folder, **asked)
    data = load(settings.data)
    space = parse_space(settings.space, pinned=settings.pinned)
    with running_ray(None), new_run(folder, "scale") as run:
        needs = choose_needs(cores, 0.0, machines())
        search(settings, space, data, split_data(data), run, needs, look=look, train=train)


def resident_mb(process: int) -> float:
    """Memory that a process has, in MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


SEARCHES = {"long": search_long, "waiting": search_waiting, "wide": search_wide}


def run_apart(name: str) -> dict[str, Any]:
    """A search in a process of its own, and what it has counted."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        command = [sys.executable, __file__, "--search", name, folder]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"})
        found: dict[str, Any] = json.loads(figures.read_text())
        return found


def print_long(found: Mapping[str, Any]) -> tuple[float, float]:
    """Prints the table of a long search; how fast the last trials were against the first, and KiB a trial."""
    looks = np.array(found["looks"])
    begun = looks[: np.searchsorted(looks[:, 0], TRIALS)]  # the look at which all have begun may come when all is over
    seen = int(begun[-1, 0])
    rows = [("trials", "trials a second", "driver: ms of processor time a trial", "MiB of memory")]
    rates = []
    marks = [STARTING, *range(STEP + seen % STEP, seen + 1, STEP)]  # so that the last window has a whole thousand
    for first, last in pairwise(marks):
        (start, _, before), (end, memory, after) = (at(begun, count) for count in (first, last))
        rates.append((last - first) / (end - start))
        spent = 1000 * (after - before) / (last - first)
        rows.append((f"{first + 1} to {last}", f"{rates[-1]:.1f}", f"{spent:.1f}", f"{memory:.0f}"))
    print_table(rows)
    flat, growth = rates[-1] / rates[0], 1024 * (at(begun, seen)[1] - at(begun, marks[1])[1]) / (seen - marks[1])
    print(
        f"the last of these begin {flat:.2f} times as fast as the first; {growth:.1f} KiB of memory a trial; "
        f"{found['epochs']} epochs in all; over {looks[-1, 1] - begun[-1, 1]:.1f} s after the last of these looks\n"
    )
    return flat, growth


def at(looks: "np.ndarray[Any, np.dtype[np.float64]]", count: int) -> list[float]:
    """The seconds on the clock, MiB and seconds of processor time when so many trials had been begun."""
    return [float(np.interp(count, looks[:, 0], taken)) for taken in looks[:, 1:].T]


def main() -> int:
    """Runs the three searches and prints what they took."""
    arguments = parse_arguments(__doc__ or "")
    long, waiting, wide = map(run_apart, SEARCHES)
    print(describe_machine())
    print("long:")
    of_long = print_long(long)
    assert long["least_epochs"] == EPOCHS
    print("waiting:")
    of_waiting = print_long(waiting)
    busy, shares = fmean(wide["busy"]), ", ".join(f"{share:.1%}" for share in wide["busy"])
    print(
        f"wide: {WORKERS} workers ({wide['processes']} processes) for {COUNTS} times {SECONDS_COUNTED:g} s: "
        f"{wide['epochs_begun']} epochs of {SECONDS_OF_EPOCH:g} s and {wide['trials_begun']:.0f} trials begun; "
        f"{shares} of their time in epochs"
    )
    flat, growth = min(of_long[0], of_waiting[0]), max(of_long[1], of_waiting[1])
    return conclude(
        "driver_scale",
        f"{flat:.2f} times as fast at the end, {growth:.1f} KiB a trial; {busy:.1%} busy",
        f">= {GOAL_FLAT:g} times, <= {GOAL_GROWTH:g} KiB, and >= {GOAL_BUSY:.0%}",
        flat >= GOAL_FLAT and growth <= GOAL_GROWTH and busy >= GOAL_BUSY,
        {"trials": TRIALS, "workers": WORKERS, "long": long, "waiting": waiting, "wide": wide},
        arguments.json,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--search"]:
        name, folder = sys.argv[2], Path(sys.argv[3])
        (folder / "figures.json").write_text(json.dumps(SEARCHES[name](folder)))
    else:
        sys.exit(main())
