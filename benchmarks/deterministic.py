"""What `--deterministic` costs, and whether it holds: the same training in turns with it and without.

Short trainings of the default network on synthetic retinas, each with one thread and with as many as there are cores.
With `--deterministic` the last weights of all must be the same to the last bit; without it, only those of as many
threads may be.
"""

import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from outcome import conclude, describe_machine, parse_arguments, print_table, spread
from torch import Tensor

from data.readers import load
from data.segmentation_data import Preparation, Splitting
from data.split import split_data
from model.checkpoint import load_tensors
from model.config import TrainConfig
from model.device import choose_device
from model.train import LAST, train

ROUNDS = 5
CONFIG = TrainConfig(max_epochs=3, dropout=0.2)


def run(deterministic: bool, threads: int) -> tuple[float, dict[str, Tensor]]:
    """Seconds that one training takes, and its last weights."""
    torch.set_num_threads(threads)
    device = choose_device("auto")
    data = load("synthetic", preparation=Preparation())
    split = split_data(data, Splitting())[0]
    config = replace(CONFIG, deterministic=deterministic)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        for _ in train(config, data, split, device=device, folder=Path(folder)):
            pass
        seconds = time.perf_counter() - started
        tensors, _ = load_tensors(Path(folder) / LAST)
    return seconds, {name: tensor for name, tensor in tensors.items() if name.startswith("network.")}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    """Whether all weights agree to the last bit."""
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def main() -> int:
    """Runs the trainings in turns and prints the table."""
    arguments = parse_arguments(__doc__ or "")
    cores = torch.get_num_threads()
    ways = [(deterministic, threads) for threads in dict.fromkeys((1, cores)) for deterministic in (False, True)]
    run(False, cores)
    seconds: dict[tuple[bool, int], list[float]] = {way: [] for way in ways}
    weights: dict[tuple[bool, int], list[dict[str, Tensor]]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way in ways:
            taken, last = run(*way)
            seconds[way].append(taken)
            weights[way].append(last)
    first = {deterministic: weights[deterministic, 1][0] for deterministic in (False, True)}
    rows = [("training", "threads", "seconds: median (range)", "same weights in all its runs", "as with one thread")]
    for deterministic, threads in ways:
        runs = weights[deterministic, threads]
        alike = all(same(runs[0], other) for other in runs[1:])
        as_one = all(same(first[deterministic], other) for other in runs)
        name = "--deterministic" if deterministic else "as it is"
        rows.append((name, str(threads), spread(seconds[deterministic, threads], 2), str(alike), str(as_one)))
    print(describe_machine())
    print_table(rows)
    held = all(same(first[True], other) for way in ways if way[0] for other in weights[way])
    ratios = [slow / fast for slow, fast in zip(seconds[True, cores], seconds[False, cores], strict=True)]
    figure = (
        f"{'the same' if held else 'NOT the same'} to the last bit, at {statistics.median(ratios):.2f} times the time"
    )
    figures = {"seconds": {f"{way}": values for way, values in seconds.items()}, "ratios": ratios}
    return conclude("deterministic", figure, "the same to the last bit", held, figures, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
