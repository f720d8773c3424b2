"""What `--compiled` gives a training and what it costs: the same one with it and without, epoch by epoch in turns.

Trainings of the default network on synthetic retinas, by `model.train.train`, with one thread and with as many as there
are cores. What it takes to begin is how much longer the first epoch is than later ones: the first time, with nothing
kept, and again, with what torch has kept of that, each in a process of its own. Compiling pays from as many seconds on,
of the training as it is, as have won back what beginning takes longer.

The goal is that it is rightly off: that it does not pay within 60 s even where the network was compiled before. The
default training on STARE takes 90 s on two cores, and most trials of a search are stopped long before their end. On a
CPU it needs a C++ compiler.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context

import torch
from outcome import conclude, describe_machine, parse_arguments, print_table, spread

from data.readers import load
from data.segmentation_data import Preparation, Splitting
from data.split import split_data
from model.config import TrainConfig
from model.device import choose_device
from model.train import train

ROUNDS = 7
TOO_LATE = 60.0  # seconds of training
Epoch = tuple[float, float]  # its seconds, and images a second of its steps


def epochs(*, compiled: bool, threads: int) -> Iterator[Epoch]:
    """A training, epoch by epoch; what it takes to begin is in the first one's seconds."""
    torch.set_num_threads(threads)
    data = load("synthetic", preparation=Preparation())
    split = split_data(data, Splitting())[0]
    config = TrainConfig(compiled=compiled, max_epochs=1000, epoch_pixels=2**22, collapse_epochs=1000)
    started = time.perf_counter()
    for report in train(config, data, split, device=choose_device("auto")):
        yield time.perf_counter() - started, report.images_per_second
        started = time.perf_counter()


def first_time(threads: int) -> float:
    """Seconds that the first epoch takes longer than the second where nothing was compiled before."""
    (first, _), (second, _) = islice(epochs(compiled=True, threads=threads), 2)
    return first - second


def in_turns(threads: int) -> tuple[list[Epoch], list[Epoch]]:
    """The epochs of a training as it is, and of a compiled one."""
    pair = [epochs(compiled=compiled, threads=threads) for compiled in (False, True)]
    as_it_is, compiled = zip(*([next(one) for one in pair] for _ in range(1 + ROUNDS)), strict=True)
    return list(as_it_is), list(compiled)


def to_begin(taken: list[Epoch]) -> float:
    """How many seconds longer the first of these epochs is than the others."""
    return taken[0][0] - usual(taken)


def usual(taken: list[Epoch]) -> float:
    """Seconds of an epoch after the first."""
    return statistics.median(seconds for seconds, _ in taken[1:])


def main() -> int:
    """Runs the trainings in processes of their own and prints the table."""
    arguments = parse_arguments(__doc__ or "")
    rows = [("threads", "training", "images/s: median (range)", "to begin, s", "the first time, s", "pays from, s")]
    figures: dict[str, object] = {}
    lines, earliest = [], float("inf")
    for threads in dict.fromkeys((1, torch.get_num_threads())):
        with (
            tempfile.TemporaryDirectory() as folder,
            ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as processes,
        ):
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
            anew = processes.submit(first_time, threads).result()
            as_it_is, compiled = processes.submit(in_turns, threads).result()
        ratios = [one / other for (_, one), (_, other) in zip(compiled[1:], as_it_is[1:], strict=True)]
        saved = 1 - usual(compiled) / usual(as_it_is)  # of each second
        pays_from = (to_begin(compiled) - to_begin(as_it_is)) / saved if saved > 0 else float("inf")
        earliest = min(earliest, pays_from)
        rates = [spread([rate for _, rate in taken[1:]]) for taken in (as_it_is, compiled)]
        rows += [(str(threads), "as it is", rates[0], f"{to_begin(as_it_is):.1f}", "", "")]
        rows += [(str(threads), "compiled", rates[1], f"{to_begin(compiled):.1f}", f"{anew:.1f}", f"{pays_from:.0f}")]
        when = f"pays from {pays_from:.0f} s on" if saved > 0 else "never pays"
        lines.append(f"threads {threads}: steps {spread(ratios, 2)} times as fast, {when}")
        figures[f"threads {threads}"] = {"as it is": as_it_is, "compiled": compiled, "anew": anew, "pays": pays_from}
    print(describe_machine())
    print_table(rows)
    goal = f"not before {TOO_LATE:.0f} s: it is rightly off"
    return conclude("compiled", "; ".join(lines), goal, earliest > TOO_LATE, figures, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
