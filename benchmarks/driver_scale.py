"""How the driver bears a long search and a wide one: 10,000 trials, and 200 workers at a time, on one machine.

Long: trials that only report five epochs each (as those of trial_overhead.py), as many at a time as there are cores.
The last thousand must be through as fast as the first, but for a fifth; the driver's memory is looked up after every
thousand. The scheduler stops nobody, as all trials are alike until their last epoch, so that each has all its reports.

Wide: 200 workers, each with a hundredth of a core, whose epochs are two seconds of sleep; they load no torch, nor other
packages that they have no use for (see driver/light_worker.py), and so take 15 GiB of memory. Trials,
their number of epochs, searcher and scheduler are those of a search with the usual settings. The share of the time that
workers spend in epochs is counted once all of them are at work: two seconds for every epoch that the driver has heard
of in between, over as long as all of them together might have been at work.
"""

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from outcome import conclude, describe_machine, print_table
from trial_overhead import report_of

TRIALS, EPOCHS, STEP = 10_000, 5, 1000
WORKERS, SECONDS_OF_EPOCH = 200, 2.0
SECONDS_COUNTED = 90.0
GOAL_FLAT, GOAL_BUSY = 0.8, 0.95


def alike_until_the_last(config: Any, *_: Any, **_named: Any) -> Iterator[Any]:
    """A training that does nothing; only its last epoch shows how good it is."""
    for epoch in range(1, config.max_epochs + 1):
        yield report_of(epoch, 0.1 if epoch < config.max_epochs else quality_of(config.learning_rate), config)


def quality_of(learning_rate: float) -> float:
    """What the made-up trainings come to: best at a learning rate of 0.01."""
    return 0.8 - abs(math.log10(learning_rate) + 2) / 10


def sleep_through(params: Mapping[str, Any], *_: Any) -> Iterator[dict[str, Any]]:
    """What takes the place of a training in the wide search: no more than its reports."""
    for epoch in range(1, params["max_epochs"] + 1):
        time.sleep(SECONDS_OF_EPOCH)
        done = epoch == params["max_epochs"]
        yield {
            "epoch": epoch,
            "val_dice": quality_of(params["learning_rate"]) * (1 - math.exp(-epoch / 10)),
            "status": "completed" if done else "running",
            "seconds": SECONDS_OF_EPOCH * epoch,
            "device": f"worker {os.getpid()}",
            "done": done,
        }


def search_long(trials: int, folder: Path) -> dict[str, Any]:
    """When each of so many trials had ended (seconds since the first, in order), and what the driver had taken by then.

    That is, whenever it looked: trials that had ended, MiB of memory, seconds of processor time.
    """
    from search.study import read_study

    taken: list[tuple[int, float, float]] = []

    def look(records: Sequence[Any], _spent: float) -> None:
        ended = sum(record.status != "running" for record in records)
        taken.append((ended, resident_mb(os.getpid()), time.process_time()))

    search_here(folder, look, cores=1.0, num_trials=trials, max_epochs=EPOCHS)
    ended = sorted(trial.datetime_complete for trial in read_study(folder / "scale" / "study.log").trials)
    assert len(ended) == trials
    return {"ended": [(moment - ended[0]).total_seconds() for moment in ended], "taken": taken}


def search_wide(workers: int, folder: Path) -> dict[str, Any]:
    """Seconds, epochs and trials that had been begun, whenever the driver has looked.

    It counts from when each of so many workers has come to the end of its first epoch.
    """
    import search.driver

    search.driver.train_split = sleep_through  # type: ignore[assignment]
    light = folder / "light"
    light.mkdir()
    shutil.copy(Path(__file__).parent / "driver" / "light_worker.py", light / "sitecustomize.py")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(light), os.environ.get("PYTHONPATH", "")])
    counted: list[tuple[float, int, int]] = []
    ended: list[int] = []

    def look(records: Sequence[Any], _spent: float) -> None:
        if ended or len({record.device for record in records} - {""}) < workers:
            return
        counted.append((time.perf_counter(), sum(record.epochs for record in records), len(records)))
        if counted[-1][0] - counted[0][0] >= SECONDS_COUNTED:
            ended.append(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    search_here(folder, look, cores=(os.cpu_count() or 1) / workers, max_time="1h")
    return {"counted": counted}


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
        search(settings, space, data, split_data(data), run, needs, look=look, train=alike_until_the_last)


def resident_mb(process: int) -> float:
    """Memory that a process has, in MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


SEARCHES = {"long": search_long, "wide": search_wide}


def run_apart(name: str, count: int) -> dict[str, Any]:
    """A search in a process of its own, and what it has counted."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        command = [sys.executable, __file__, "--search", name, str(count), folder]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"})
        found: dict[str, Any] = json.loads(figures.read_text())
        return found


def print_long(found: Mapping[str, Any], step: int) -> tuple[float, float]:
    """Prints the table of the long search; how fast the last trials were against the first, and KiB a trial."""
    ended = np.array(found["ended"])
    # The last look is at the end of the search, which is no trial's.
    counts, memory, seconds = np.array([look for look in found["taken"] if look[0] < len(ended)]).T
    rows = [("trials", "trials a second", "driver: ms of processor time a trial", "MiB of memory")]
    rates = []
    for last in range(step, len(ended) + 1, step):
        first = last - step
        rates.append((step - (first == 0)) / (ended[last - 1] - ended[max(0, first - 1)]))
        looked_at = np.clip([first, last], counts[0], counts[-1])
        spent = 1000 * np.diff(np.interp(looked_at, counts, seconds))[0] / np.diff(looked_at)[0]
        told = (f"{rates[-1]:.1f}", f"{spent:.1f}", f"{np.interp(last, counts, memory):.0f}")
        rows.append((f"{first + 1} to {last}", *told))
    print_table(rows)
    before, after = np.interp([step, len(ended)], counts, memory)
    return float(rates[-1] / rates[0]), float(1024 * (after - before) / max(1, len(ended) - step))


def main() -> int:
    """Runs both searches and prints their tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--trials", type=int, default=TRIALS, help="of the long search")
    parser.add_argument("--workers", type=int, default=WORKERS, help="of the wide search")
    arguments = parser.parse_args()

    long = run_apart("long", arguments.trials)
    wide = run_apart("wide", arguments.workers)
    print(describe_machine())
    flat, growth = print_long(long, min(STEP, arguments.trials // 10))
    print(f"the last of these are through {flat:.2f} times as fast as the first; {growth:.1f} KiB of memory a trial")
    (began, epochs_before, trials_before), (ended, epochs, trials) = wide["counted"][0], wide["counted"][-1]
    busy = (epochs - epochs_before) * SECONDS_OF_EPOCH / (arguments.workers * (ended - began))
    print(
        f"{arguments.workers} workers for {ended - began:.0f} s: {epochs - epochs_before} epochs of "
        f"{SECONDS_OF_EPOCH:g} s, {trials - trials_before} trials begun; {busy:.1%} of their time in epochs"
    )
    return conclude(
        "driver_scale",
        f"{flat:.2f} times as fast at the end, {growth:.1f} KiB a trial; {busy:.1%} busy",
        f">= {GOAL_FLAT:g} times, and >= {GOAL_BUSY:.0%}",
        flat >= GOAL_FLAT and busy >= GOAL_BUSY,
        {"trials": arguments.trials, "workers": arguments.workers, **long, **wide},
        arguments.json,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--search"]:
        name, count, folder = sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
        (folder / "figures.json").write_text(json.dumps(SEARCHES[name](count, folder)))
    else:
        sys.exit(main())
