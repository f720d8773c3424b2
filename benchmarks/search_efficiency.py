"""Epochs that a search trains until it has found about the best there is: ours against others, on recorded curves.

`curves/curves.jsonl` holds the learning curves of many configurations on two tasks (made by `curves/make_curves.py`).
A search is replayed on them: whatever it suggests is answered with the curve of the nearest recorded configuration
that it has not had yet, epoch by epoch, under a simulated clock with four workers. All systems search the same space on
the same table; an epoch is the same number of training pixels for all. A search ends when its best Dice is within 0.005
of the table's best, or after so many epochs that it counts as if it had found it then (how many did, the table says).
A second table tells when it was within 0.015, where luck has less to do with it: there are more of them.

"ours" is our search as it is shipped, and so begins with what it takes to be good: the defaults of `TrainConfig`, which
were chosen on retinas too, and the article's settings. "ours, knowing nothing" is the same without both; whatever it
gains on others comes from how it searches.

As no curve is given twice, whoever begins about as many trials as there are curves has found the best by using the
table up, not by searching: the table says how many trials that were.

Medians over 50 seeds, with 95 % intervals by bootstrap; nothing was chosen with these seeds: whoever compares settings
takes others (`--first-seed 0`). With `--variants`, our other searchers and schedulers too, and stock's with gentler
rungs.
"""

import argparse
import json
import logging
import os
import random
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from curves.make_curves import FILE
from curves.regret import draw_regret
from curves.replay import Replay, Trace
from curves.systems import OURS, RANDOM, STOCK, SYSTEMS, UNKNOWING, VARIANTS, Contender
from curves.table import Table, judge_table, read_tables
from outcome import conclude, describe_machine, print_table

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
SEEDS, FIRST_SEED = 50, 1000
WORKERS = 4
NEAR = 0.005
WIDER = 0.015
MOST_EPOCHS = 3000
RESAMPLES = 4000
GOALS = {STOCK: 3.0, RANDOM: 10.0}
IN_MEMORY = Path("/dev/shm")

TABLES: dict[str, Table] = {}  # of a process that searches


def main() -> int:
    """Replays all searches and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--variants", action="store_true", help="with our other searchers and schedulers; takes longer")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="searches of each system and task")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="of as many that follow each other")
    parser.add_argument("--table", type=Path, default=FILE, help="recorded curves to take in place of ours")
    parser.add_argument("--only", nargs="*", choices=[*SYSTEMS, *VARIANTS], help="ours and these; draws no picture")
    parser.add_argument("--constants", nargs="*", default=[], help="ours with other ones: search.prior.STRENGTH=2")
    arguments = parser.parse_args()

    began = time.perf_counter()
    tables = read_tables(arguments.table)
    systems = [*SYSTEMS, *(VARIANTS if arguments.variants else ())] if arguments.only is None else arguments.only
    chosen = [name for name in dict.fromkeys([OURS, *systems, *arguments.constants]) if is_installed(name)]
    print(describe_machine())
    for task, table in tables.items():
        describe_table(task, table)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    traces = replay_all(tables, chosen, seeds)
    figures: dict[str, dict[str, Any]] = {}
    for task, its_traces in traces.items():
        best, curves = tables[task].best, len(tables[task].curves)
        figures[task] = compare(task, its_traces, best - NEAR, curves)
        figures[task]["within_wider"] = compare(task, its_traces, best - WIDER, curves)
        if arguments.table == FILE and arguments.only is None:
            draw_regret(
                IMAGES / f"search_efficiency_{task}.png",
                f"{task}: {arguments.seeds} searches each, {WORKERS} workers",
                {name: its_traces[name] for name in SYSTEMS if name in its_traces},
                best=tables[task].best,
                near=NEAR,
                most_epochs=MOST_EPOCHS,
            )
    print(f"{time.perf_counter() - began:.0f} s in all")
    goals = {name: goal for name, goal in GOALS.items() if name in chosen}
    told = {task: words(task, its_figures, goals) for task, its_figures in figures.items()}
    return conclude(
        "search_efficiency",
        "; ".join(told.values()),
        " and ".join(f">= {goal:g} times fewer than {name}" for name, goal in GOALS.items()),
        goals == GOALS and all(is_met(its_figures) for its_figures in figures.values()),
        {"seeds": [*seeds], "workers": WORKERS, "most_epochs": MOST_EPOCHS, "tasks": figures},
        arguments.json,
    )


def words(task: str, figures: Mapping[str, Any], names: Iterable[str]) -> str:
    """How many times fewer epochs ours needs than each of these, and how many times fewer knowing nothing."""
    told = []
    for name in names:
        ratio = figures[name]["times_ours"]
        knowing_nothing = ""
        if UNKNOWING in figures:
            knowing_nothing = f" ({ratio / figures[UNKNOWING]['times_ours']:.1f} knowing nothing)"
        more = ">" if figures[name]["bounded"] else ""
        told.append(f"{more}{ratio:.1f} times fewer epochs than {name}{knowing_nothing}")
    return f"{task}: " + ", ".join(told)


def is_met(figures: Mapping[str, Any]) -> bool:
    """Whether ours found it in most of its searches, and in few enough epochs."""
    return not figures[OURS]["bounded"] and all(figures[name]["times_ours"] >= goal for name, goal in GOALS.items())


def is_installed(name: str) -> bool:
    """Whether what the system needs is there; says so where it is not."""
    if not name.startswith("Syne Tune") or find_spec("syne_tune"):
        return True
    print(f"{name} is left out: syne-tune is not installed, see the bench extra in setup.cfg")
    return False


def describe_table(task: str, table: Table) -> None:
    """Prints how well a table answers."""
    quality = judge_table(table, NEAR)
    endings = ", ".join(
        f"{sum(curve.status == status for curve in table.curves)} {status}"
        for status in sorted({curve.status for curve in table.curves})
    )
    print(
        f"{task}: {len(table.curves)} configurations ({endings}), best Dice {table.best:.4f}, {quality.good} within "
        f"{NEAR}, which answer for {quality.good_share:.2%} of the space; the nearest other configuration foretells "
        f"the best Dice with rank correlation {quality.rank_correlation:.2f}, error {quality.error:.3f} (the median: "
        f"{quality.spread:.3f})"
    )


def replay_all(
    tables: Mapping[str, Table], systems: Sequence[str], seeds: Sequence[int]
) -> dict[str, dict[str, list[Trace]]]:
    """The traces of all searches, by task and system, in the order of their seeds."""
    os.environ["OMP_NUM_THREADS"] = "1"
    names = list(systems)
    traces: dict[str, dict[str, list[Any]]] = {task: {name: [None for _ in seeds] for name in names} for task in tables}
    spent = dict.fromkeys(names, 0.0)
    with ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=_take_tables, initargs=(tables,)) as pool:
        waiting = {
            pool.submit(search_once, task, name, seed): (task, name, index)
            for index, seed in enumerate(seeds)
            for name in names
            for task in tables
        }
        for done in as_completed(waiting):
            task, name, index = waiting[done]
            traces[task][name][index], seconds = done.result()
            spent[name] += seconds
    searches = len(seeds) * len(tables)
    print("seconds a search took: " + ", ".join(f"{name} {spent[name] / searches:.1f}" for name in names))
    return traces


def contender(name: str) -> Contender:
    """The system of this name, or ours with the constants that the name gives: `search.prior.STRENGTH=2`."""
    known = SYSTEMS | VARIANTS
    if name in known:
        return known[name]
    constants = (constant.partition("=") for constant in name.split(","))
    return replace(known[OURS], replaced={constant: json.loads(value) for constant, _, value in constants})


def search_once(task: str, name: str, seed: int) -> tuple[Trace, float]:
    """One search, and the seconds of processor time that it took."""
    began = time.process_time()
    table = TABLES[task]
    random.seed(seed)
    np.random.seed(seed)  # which Ray and Syne Tune draw from where they take no seed
    with (
        tempfile.TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as folder,
        contender(name).made(seed, WORKERS, Path(folder)) as system,
    ):
        replay = Replay(system, table.answer(), workers=WORKERS)
        trace = replay.run(target=table.best - NEAR, most_epochs=MOST_EPOCHS)
    return trace, time.process_time() - began


def compare(task: str, traces: Mapping[str, Sequence[Trace]], target: float, curves: int) -> dict[str, Any]:
    """Prints what the searches of one task needed, and gives the figures by system; curves: how many there are."""
    figures: dict[str, Any] = {}
    rows = [
        (f"{task}, searches to Dice {target:.4f}", "epochs", "times ours", "hours", "times ours", "trials", "not found")
    ]
    needed = {name: [count_epochs(trace, target) for trace in its_traces] for name, its_traces in traces.items()}
    hours = {name: [count_hours(trace, target) for trace in its_traces] for name, its_traces in traces.items()}
    for name, epochs in needed.items():
        trials = [trace.trials for trace in traces[name]]
        missed = sum(trace.epochs_to(target) is None for trace in traces[name])
        more = ">" if missed > len(epochs) / 2 else ""
        ratio = statistics.median(epochs) / statistics.median(needed[OURS])
        ratio_of_hours = statistics.median(hours[name]) / statistics.median(hours[OURS])
        rows.append(
            (
                name,
                f"{more}{statistics.median(epochs):.0f} ({interval([epochs])})",
                "" if name == OURS else f"{more}{ratio:.1f} ({interval([epochs, needed[OURS]])})",
                f"{more}{statistics.median(hours[name]):.2f}",
                "" if name == OURS else f"{more}{ratio_of_hours:.1f} ({interval([hours[name], hours[OURS]])})",
                f"{statistics.median(trials):.0f} on {curves} curves",
                f"{missed} of {len(epochs)}",
            )
        )
        figures[name] = {
            "epochs": epochs,
            "hours": hours[name],
            "trials": trials,
            "not_found": missed,
            "bounded": bool(more),
            "times_ours": ratio,
        }
    print_table(rows)
    return figures


def count_epochs(trace: Trace, target: float) -> int:
    """Epochs until the Dice was found; all that were allowed where it was not."""
    return trace.epochs_to(target) or MOST_EPOCHS


def count_hours(trace: Trace, target: float) -> float:
    """Hours on the simulated clock until the Dice was found, or until the search ended without it."""
    return trace.seconds[(trace.epochs_to(target) or len(trace.seconds)) - 1] / 3600


def interval(samples: Sequence[Sequence[float]]) -> str:
    """The 95 % interval of a median, or of the ratio of two, by bootstrap."""
    draw = np.random.default_rng(0)
    medians = [
        np.median(np.asarray(sample)[draw.integers(len(sample), size=(RESAMPLES, len(sample)))], axis=1)
        for sample in samples
    ]
    low, high = np.percentile(medians[0] / medians[1] if len(medians) == 2 else medians[0], (2.5, 97.5))
    return f"{low:.1f} to {high:.1f}" if len(medians) == 2 else f"{low:.0f} to {high:.0f}"


def _take_tables(tables: Mapping[str, Table]) -> None:
    """What a process that searches begins with."""
    import optuna

    TABLES.update(tables)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


if __name__ == "__main__":
    sys.exit(main())
