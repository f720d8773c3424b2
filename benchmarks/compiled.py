"""What `--compiled` gives a training and what it costs: the same one with it and without, epoch by epoch in turns.

Trainings of the default network on synthetic retinas, by `model.train.train`. What it takes to begin is how much longer
the first epoch is than later ones: with nothing that torch has kept from before, in a process of its own; and with what
that one has kept, as the second training of a network on a machine has it. It pays from as many seconds on, of the
training as it is, as have won back what beginning takes longer.

The goal is that it is rightly off: that it does not pay within 60 s even with what was kept. The default training on
STARE takes 90 s on two cores, and most trials of a search are stopped long before their end. On a CPU it needs a C++
compiler.
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


def epochs(*, compiled: bool) -> Iterator[tuple[float, float]]:
    """A training: seconds and images a second of each epoch, those of beginning in the first one's seconds."""
    data = load("synthetic", preparation=Preparation())
    split = split_data(data, Splitting())[0]
    config = TrainConfig(compiled=compiled, max_epochs=1000, epoch_pixels=2**22, collapse_epochs=1000)
    started = time.perf_counter()
    for report in train(config, data, split, device=choose_device("auto")):
        ended = time.perf_counter()
        yield ended - started, report.images_per_second
        started = time.perf_counter()


def begin_anew() -> float:
    """Seconds that the first epoch of a compiled training takes longer than the second."""
    (first, _), (second, _) = islice(epochs(compiled=True), 2)
    return first - second


def main() -> int:
    """Runs the trainings in turns and prints the table."""
    arguments = parse_arguments(__doc__ or "")
    ways = ("as it is", "compiled")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as another:
            anew = another.submit(begin_anew).result()
        trainings = {way: epochs(compiled=way == "compiled") for way in ways}
        turns = [{way: next(trainings[way]) for way in ways} for _ in range(1 + ROUNDS)]
    seconds = {way: [turn[way][0] for turn in turns] for way in ways}
    rates = {way: [turn[way][1] for turn in turns[1:]] for way in ways}
    begin = {way: seconds[way][0] - statistics.median(seconds[way][1:]) for way in ways}
    ratios = [one / other for one, other in zip(rates["compiled"], rates["as it is"], strict=True)]
    saved = 1 - statistics.median(seconds["compiled"][1:]) / statistics.median(seconds["as it is"][1:])  # of a second
    pays_from, pays_from_anew = (
        (longest - begin["as it is"]) / saved if saved > 0 else float("inf") for longest in (begin["compiled"], anew)
    )
    print(f"{describe_machine()}; {torch.get_num_threads()} threads")
    rows = [("training", "images/s: median (range)", "to begin, s", "the first time, s")]
    rows += [("as it is", spread(rates["as it is"]), f"{begin['as it is']:.1f}", "")]
    rows += [("compiled", spread(rates["compiled"]), f"{begin['compiled']:.1f}", f"{anew:.1f}")]
    print_table(rows)
    figure = (
        f"steps {spread(ratios, 2)} times as fast; pays from {pays_from:.0f} s of training on, "
        f"the first time from {pays_from_anew:.0f} s"
    )
    goal = f"above {TOO_LATE:.0f} s: it is rightly off"
    figures = {"rates": rates, "seconds": seconds, "anew": anew, "pays_from": [pays_from, pays_from_anew]}
    return conclude("compiled", figure, goal, pays_from > TOO_LATE, figures, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
