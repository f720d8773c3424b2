"""Seconds that a second start takes with prepared data, and the memory that each further trial on a node adds.

Starts are fresh processes: once to prepare, then several that find the prepared data; a process's `load` is told alone
and with all that Python must import for it, and what it takes to look at every pixel once. Trials are Ray actors that
share their data as those of a search do (one `ray.put`); each places all pictures and reads them all, whole and in
batches, and the proportional memory (PSS, which counts shared pages once) of the driver and all that it started is
added up while 1, 2, 3 and 4 of them live. What a process costs without data is measured with a handful of pictures and
taken off. Data too large for memory are mapped from their files instead; the same pictures are measured so, too.
"""

import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from outcome import conclude, describe_machine, parse_arguments, print_table, spread
from PIL import Image

DATASETS = Path(__file__).parents[2] / "shared" / "datasets"
STARTS = 5
# Name -> pictures and their side in pixels.
MADE = {"small": (300, 120), "large": (2000, 512)}
MOST_TRIALS = 4
GOAL_SECONDS, GOAL_GROWTH = 0.5, 0.05

START = """
import sys, time
begin = time.perf_counter()
from pathlib import Path
from data.readers import load
from data.segmentation_data import Preparation
imported = time.perf_counter()
data = load(sys.argv[1], root=Path(sys.argv[2]), preparation=Preparation(size="native"))
loaded = time.perf_counter()
data.images.max(), data.masks.max(), data.valid.max()
seen = time.perf_counter()
print(loaded - imported, loaded - begin, seen - loaded, data.images.nbytes + data.masks.nbytes + data.valid.nbytes)
"""


def make_pictures(folder: Path, count: int, side: int) -> None:
    """Writes noisy photographs with a bright blob each, and their masks."""
    y, x = np.mgrid[:side, :side]

    def write(index: int) -> None:
        draw = np.random.default_rng(index)
        coarse = Image.fromarray(draw.integers(0, 160, (side // 8, side // 8, 3), dtype=np.uint8))
        blob = np.hypot(*(np.stack([y, x]) - draw.uniform(0.3, 0.7, (2, 1, 1)) * side)) < draw.uniform(0.1, 0.25) * side
        image = np.asarray(coarse.resize((side, side), Image.Resampling.BILINEAR)) + 90 * blob[..., None]
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{index:05}.jpg", quality=90)
        Image.fromarray(blob).save(folder / "masks" / f"{index:05}.png")

    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    with ThreadPoolExecutor() as threads:
        list(threads.map(write, range(count)))


def start(data: str) -> list[float]:
    """A fresh process's seconds for `load`, for that with imports, and for every pixel; and the bytes of the data."""
    words = [sys.executable, "-c", START, data, str(DATASETS)]
    return [float(word) for word in subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()]


def family(parent: int) -> Iterator[int]:
    """The process and all that come from it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                words = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(words[1]), []).append(int(folder.name))
    waiting = [parent]
    while waiting:
        process = waiting.pop()
        yield process
        waiting += children.get(process, [])


def proportional_memory() -> int:
    """Bytes of memory of this process and all that come from it, with pages that several share counted once."""
    total = 0
    for process in family(os.getpid()):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


class Trial:
    """A trial's hold on the data, in a process of its own."""

    def draw(self, data: Any) -> int:
        """Places all pictures, and reads each of them whole and in batches."""
        import torch

        from data.augmentation import Augmentation
        from data.sampling import Sampling, draw_batches, draw_order
        from data.windows import Window, place

        torch.set_num_threads(1)
        self.pictures = place(data, tuple(range(len(data.names))), torch.device("cpu"))
        pixels = 0
        for index in range(len(self.pictures)):
            images, _ = self.pictures.cut([Window(index, 0, 0)], self.pictures.height, self.pictures.width)
            pixels += int(images.amax() > 0) * images.numel()
        generator = np.random.default_rng(0)
        sampling = Sampling(crop_size=128, augmentation=Augmentation(rotation=0.5, elastic=0.5))
        order = draw_order(self.pictures, 160, 16, 1.0, generator)
        return pixels + sum(len(batch.images) for batch in draw_batches(self.pictures, order, sampling, generator))


def memory_by_trials(folder: Path, *, mapped: bool) -> list[int]:
    """Bytes of memory with 1, 2, ... trials on the data of the folder."""
    import ray

    import data.prepare
    from data.readers import load
    from data.segmentation_data import Preparation
    from search.resources import QUIET

    os.environ.update(QUIET)
    if mapped:
        data.prepare.memory_limit = lambda: 0
    pictures = load(str(folder), preparation=Preparation(size="native"))
    assert isinstance(pictures.images, np.memmap) is mapped
    room = 2 * (pictures.images.nbytes + pictures.masks.nbytes + pictures.valid.nbytes) + 2**28
    quiet: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.CRITICAL}
    ray.init(address="local", num_cpus=MOST_TRIALS, object_store_memory=room, **quiet)
    shared = ray.put(pictures)
    trials, memory = [], []
    for _ in range(MOST_TRIALS):
        trials.append(ray.remote(num_cpus=1)(Trial).remote())
        ray.get(trials[-1].draw.remote(shared))
        time.sleep(1)
        memory.append(proportional_memory())
    ray.shutdown()
    return memory


def measure_memory(folder: Path, *, mapped: bool) -> list[int]:
    """`memory_by_trials` in a process of its own."""
    words = [sys.executable, __file__, "--memory", str(folder), str(int(mapped))]
    printed = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [int(word) for word in printed.splitlines()[-1].split()]


def measure_starts(sets: Mapping[str, str], report: dict[str, Any]) -> float:
    """Prints the seconds of each set's first start and its later ones; the slowest set's later `load`, its median."""
    rows = [("data", "GB", "first load, s", "second load, s", "with imports, s", "every pixel, s")]
    slowest = 0.0
    for name, data in sets.items():
        first = start(data)
        again = [start(data) for _ in range(STARTS)]
        loads, imports, pixels, (size, *_) = zip(*again, strict=True)
        slowest = max(slowest, statistics.median(loads))
        report[name] = {"bytes": size, "first": first[0], "loads": loads, "with_imports": imports, "pixels": pixels}
        columns = (spread(loads, 3), spread(imports, 2), spread(pixels, 2))
        rows.append((name, f"{size / 1e9:.3f}", f"{first[0]:.1f}", *columns))
    print_table(rows)
    return slowest


def measure_growth(folder: Path, few: Path, size: float, report: dict[str, Any]) -> float:
    """Prints the memory of 1, 2, ... trials; the largest growth with a further trial, as a share of the data."""
    rows = [
        (
            "data",
            "1 trial, GB",
            *(f"{count} trials, GB" for count in range(2, MOST_TRIALS + 1)),
            "a further trial, % of data",
        )
    ]
    worst = 0.0
    for kind, mapped in (("in Ray's object store", False), ("mapped from files", True)):
        without, with_data = (
            np.array(measure_memory(few, mapped=mapped)),
            np.array(measure_memory(folder, mapped=mapped)),
        )
        growth = (np.diff(with_data) - np.diff(without)) / size
        worst = max(worst, float(growth.max()))
        report[kind] = {"bytes": with_data.tolist(), "without_data": without.tolist(), "growth": growth.tolist()}
        for what, memory in ((f"{kind}", with_data), ("  a handful of pictures", without)):
            shares = spread((growth * 100).tolist(), 2) if memory is with_data else ""
            rows.append((what, *(f"{one / 1e9:.2f}" for one in memory), shares))
    print_table(rows)
    return worst


def main() -> int:
    arguments = parse_arguments(str(__doc__).splitlines()[0])
    print(describe_machine(), end="\n\n")
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["UNET_SEARCH_CACHE"] = f"{temporary}/cache"
        home = Path(temporary)
        for name, (count, side) in {**MADE, "few": (4, 120)}.items():
            make_pictures(home / name, count, side)
        real = {"wbc": "wbc"} if (DATASETS / "wbc").is_dir() else {"made, small": str(home / "small")}
        seconds = measure_starts({**real, "made, large": str(home / "large")}, report)
        print()
        growth = measure_growth(home / "large", home / "few", report["made, large"]["bytes"], report)
    print()
    figure = f"second start {seconds:.3f} s, {growth:.2%} of the data for each further trial"
    goal = f"below {GOAL_SECONDS} s, below {GOAL_GROWTH:.0%}"
    met = seconds < GOAL_SECONDS and growth < GOAL_GROWTH
    return conclude("data_start", figure, goal, met, report, arguments.json)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        print(*memory_by_trials(Path(sys.argv[2]), mapped=bool(int(sys.argv[3]))))
    else:
        sys.exit(main())
