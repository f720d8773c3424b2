"""How the driver bears a long search and a wide one: 10,000 trials, and 200 workers at a time, on one machine.

Long: trials that only report five epochs each (as those of trial_overhead.py), as many at a time as there are cores.
The last thousand must be through as fast as the first, but for a fifth; the first hundred, while workers start, do not
count. The driver's memory may grow by 50 KiB a trial, half a GiB in all. It is that of the driver's own process: what
workers, Ray's own processes and its object store take is not counted. The scheduler holds nobody back but a few at the
beginning, as until their last epoch each trial shows a little more than those before, so that it has all its reports.

Wide: 200 workers, each with a hundredth of a core, whose epochs are two seconds of sleep, with all that a real one
reports. They load no torch, nor other packages that they have no use for (see driver/light_worker.py), and so take
15 GiB of memory; it is not counted either. Trials, their number of epochs, searcher and scheduler are those of a search
with the usual settings. Each worker notes when it begins an epoch, and is in it for the two seconds after. How much of
the time that is, is counted for 90 seconds, which begin five epochs after all workers have begun their first.
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
from typing import Any

import numpy as np
from outcome import conclude, describe_machine, parse_arguments, print_table
from trial_overhead import report_of

TRIALS, EPOCHS, STEP = 10_000, 5, 1000
STARTING = 100  # trials, while workers come up
WORKERS, SECONDS_OF_EPOCH = 200, 2.0
SECONDS_SETTLING, SECONDS_COUNTED = 10.0, 90.0
GOAL_FLAT, GOAL_GROWTH, GOAL_BUSY = 0.8, 50.0, 0.95


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


def search_long(folder: Path) -> dict[str, Any]:
    """When each trial had ended (seconds since the first, in order), and what the driver had taken by then.

    That is, whenever it looked: trials that had ended, MiB of memory, seconds of processor time.
    """
    from search.study import read_study

    taken: list[tuple[int, float, float]] = []

    def look(records: Sequence[Any], _spent: float) -> None:
        ended = sum(record.status != "running" for record in records)
        taken.append((ended, resident_mb(os.getpid()), time.process_time()))

    search_here(folder, look, cores=1.0, num_trials=TRIALS, max_epochs=EPOCHS)
    trials = read_study(folder / "scale" / "study.log").trials
    assert len(trials) == TRIALS
    assert all(len(trial.intermediate_values) == EPOCHS for trial in trials[STARTING:])
    ended = sorted(trial.datetime_complete for trial in trials)
    return {"ended": [(moment - ended[0]).total_seconds() for moment in ended], "taken": taken}


def search_wide(folder: Path) -> dict[str, Any]:
    """The share of their time that workers are in epochs, and the epochs and trials that they begin meanwhile."""
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
        if looks[-1][0] - looks[0][0] >= SECONDS_SETTLING + SECONDS_COUNTED:
            ended.append(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    search_here(folder, look, cores=(os.cpu_count() or 1) / WORKERS, max_time="1h")
    begun = np.array([float(moment) for file in notes.iterdir() for moment in file.read_text().split()])
    first = looks[0][0] + SECONDS_SETTLING
    last = first + SECONDS_COUNTED
    within = np.clip(begun + SECONDS_OF_EPOCH, first, last) - np.clip(begun, first, last)
    return {
        "busy": float(within.sum()) / (WORKERS * SECONDS_COUNTED),
        "epochs_begun": int(((begun >= first) & (begun < last)).sum()),
        "trials_begun": float(np.diff(np.interp([first, last], *np.array(looks).T))[0]),
        "processes": len([*notes.iterdir()]),
    }


def search_here(folder: Path, look: Any, *, cores: float, **asked: Any) -> None:
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
        search(settings, space, data, split_data(data), run, needs, look=look, train=better_and_better)


def resident_mb(process: int) -> float:
    """Memory that a process has, in MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


SEARCHES = {"long": search_long, "wide": search_wide}


def run_apart(name: str) -> dict[str, Any]:
    """A search in a process of its own, and what it has counted."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        command = [sys.executable, __file__, "--search", name, folder]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"})
        found: dict[str, Any] = json.loads(figures.read_text())
        return found


def print_long(found: Mapping[str, Any]) -> tuple[float, float]:
    """Prints the table of the long search; how fast the last trials were against the first, and KiB a trial."""
    ended = np.array(found["ended"])
    # The last look is at the end of the search, which is no trial's.
    counts, memory, seconds = np.array([look for look in found["taken"] if look[0] < len(ended)]).T
    rows = [("trials", "trials a second", "driver: ms of processor time a trial", "MiB of memory")]
    rates = []
    for first, last in pairwise([STARTING, *range(STEP, TRIALS + 1, STEP)]):
        rates.append((last - first) / (ended[last - 1] - ended[first - 1]))
        looked_at = np.clip([first, last], counts[0], counts[-1])
        spent = 1000 * np.diff(np.interp(looked_at, counts, seconds))[0] / np.diff(looked_at)[0]
        told = (f"{rates[-1]:.1f}", f"{spent:.1f}", f"{np.interp(last, counts, memory):.0f}")
        rows.append((f"{first + 1} to {last}", *told))
    print_table(rows)
    before, after = np.interp([STEP, TRIALS], counts, memory)
    return float(rates[-1] / rates[0]), float(1024 * (after - before) / (TRIALS - STEP))


def main() -> int:
    """Runs both searches and prints their tables."""
    arguments = parse_arguments(__doc__ or "")
    long, wide = run_apart("long"), run_apart("wide")
    print(describe_machine())
    flat, growth = print_long(long)
    print(f"the last of these are through {flat:.2f} times as fast as the first; {growth:.1f} KiB of memory a trial")
    busy = wide["busy"]
    print(
        f"{WORKERS} workers ({wide['processes']} processes) for {SECONDS_COUNTED:g} s: {wide['epochs_begun']} epochs "
        f"of {SECONDS_OF_EPOCH:g} s and {wide['trials_begun']:.0f} trials begun; {busy:.1%} of their time in epochs"
    )
    return conclude(
        "driver_scale",
        f"{flat:.2f} times as fast at the end, {growth:.1f} KiB a trial; {busy:.1%} busy",
        f">= {GOAL_FLAT:g} times, <= {GOAL_GROWTH:g} KiB, and >= {GOAL_BUSY:.0%}",
        flat >= GOAL_FLAT and growth <= GOAL_GROWTH and busy >= GOAL_BUSY,
        {"trials": TRIALS, "workers": WORKERS, **long, **wide},
        arguments.json,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--search"]:
        name, folder = sys.argv[2], Path(sys.argv[3])
        (folder / "figures.json").write_text(json.dumps(SEARCHES[name](folder)))
    else:
        sys.exit(main())
