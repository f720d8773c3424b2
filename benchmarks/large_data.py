"""Memory and speed of a training on 12 GB of pictures, against the same training on pictures that fit into memory.

Pictures of 1024 x 1024 are written into a temporary folder, prepared as any data are, and trained on with the default
settings by `model.train.train`. Two processes take turns, one short epoch at a time, so that a busy machine slows both
alike: one has all the pictures, which are then mapped files, the other a hundred of them, which fit. Where a control
group can be made, the process with the large set lives in one of 4 GB, which holds the system's cache of its files,
too. The files are driven out of that cache before the first turn, and without a group before every turn: what is read
comes from the disk. Resident memory is read from /proc.

Needs Linux and 14 GB of disk; takes about ten minutes.
"""

import os
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from outcome import conclude, describe_machine, parse_arguments, print_table, spread
from PIL import Image

PICTURES, FITTING, DIFFERENT = 2440, 100, 61
SIDE = 1024
ROUNDS, SAMPLES = 5, 1000
LIMIT = 4 * 10**9
GOAL_SPEED = 0.8
SPAWN = get_context("spawn")
GROUPS = Path("/sys/fs/cgroup")
# What limits a group, and what says how much it has used at most: control groups of version 1, and of version 2.
LIMIT_FILES = {"memory.limit_in_bytes": "memory.max_usage_in_bytes", "memory.max": "memory.peak"}


class Turn(NamedTuple):
    """One turn of a training: images per second, the most bytes resident so far, and the bytes read from disks."""

    images_per_second: float
    resident: int
    read: int


def write_pictures(folder: Path, count: int) -> None:
    """Noise with a bright disc, and masks of the discs. Some differ; the others are further names of the same files."""
    draw = np.random.default_rng(0)
    rows, columns = np.ogrid[:SIDE, :SIDE]
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        image, mask = folder / "images" / f"{index:04}.ppm", folder / "masks" / f"{index:04}.png"
        if index >= DIFFERENT:
            for path in (image, mask):
                os.link(path.with_stem(f"{index % DIFFERENT:04}"), path)
            continue
        row, column, radius = draw.integers(200, SIDE - 200, 3) // (1, 1, 4)
        disc = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        pixels = draw.integers(0, 150, (SIDE, SIDE, 3), dtype=np.uint8) + 100 * disc[..., None].astype(np.uint8)
        Image.fromarray(pixels).save(image)
        Image.fromarray(disc.astype(np.uint8)).save(mask, compress_level=1)


def load_all(folder: Path) -> Any:
    """The prepared pictures of the folder."""
    from data.readers import load
    from data.segmentation_data import Preparation

    return load(str(folder), preparation=Preparation(size="native"))


def prepare_all(folder: Path, pipe: Connection) -> None:
    """Prepares the pictures; sends the bytes they have and how much memory it took."""
    data = load_all(folder)
    pipe.send((data.images.nbytes + data.masks.nbytes + data.valid.nbytes, peak_resident()))


def train_in_turns(folder: Path, group: Path | None, large: bool, pipe: Connection) -> None:
    """Trains for one short epoch whenever it is asked to; sends the `Turn`."""
    import data.prepare
    from data.segmentation_data import Split
    from model import epoch
    from model.config import TrainConfig
    from model.train import train

    if group is not None:
        (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    elif large:
        # As on a machine on which they do not fit.
        data.prepare.memory_limit = lambda: LIMIT // 4
    pictures = load_all(folder)
    assert isinstance(pictures.images, np.memmap) == large
    count = len(pictures.names)
    # An epoch over all pixels takes half an hour; each turn draws its own part of it.
    epoch.samples_per_epoch = lambda *_: SAMPLES
    split = Split(train=tuple(range(count - 4)), validation=tuple(range(count - 4, count)))
    epochs = train(TrainConfig(max_epochs=1000), pictures, split)
    while True:
        is_first = pipe.recv()
        if large and (is_first or group is None):
            for array in (pictures.images, pictures.masks, pictures.valid):
                drop_from_cache(Path(array.filename))
        before = bytes_read()
        report = next(epochs)
        pipe.send(Turn(report.images_per_second, peak_resident(), bytes_read() - before))


def drop_from_cache(file: Path) -> None:
    """Has the system forget what it holds of a file, so that it must be read from the disk again."""
    descriptor = os.open(file, os.O_RDONLY)
    os.fdatasync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def number_of(file: str, name: str) -> int:
    """The number that stands behind a name in a file of /proc."""
    (line,) = (line for line in Path(file).read_text(encoding="ascii").splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1])


def peak_resident() -> int:
    """The most memory that this process ever had resident, mapped files included, in bytes."""
    return 1024 * number_of("/proc/self/status", "VmHWM")


def bytes_read() -> int:
    """What this process has had read from disks."""
    return number_of("/proc/self/io", "read_bytes")


@contextmanager
def memory_group() -> Iterator[tuple[Path, str] | None]:
    """A control group of LIMIT bytes and the name of the file with its peak; None where it cannot be made."""
    own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()]
    places = [GROUPS / kind / path.lstrip("/") for _, kind, path in own if kind in ("", "memory")]
    for parent in places:
        group = parent / f"large-data-{os.getpid()}"
        for limit, peak in LIMIT_FILES.items():
            try:
                group.mkdir()
                (group / limit).write_text(str(LIMIT), encoding="ascii")
            except OSError:
                with suppress(OSError):
                    group.rmdir()
                continue
            try:
                yield group, peak
            finally:
                group.rmdir()
            return
    yield None


def prepare_apart(folder: Path) -> tuple[int, int, float]:
    """Prepares the pictures in a process of their own: their bytes, the memory it took, and seconds."""
    here, there = SPAWN.Pipe()
    started = time.perf_counter()
    process = SPAWN.Process(target=prepare_all, args=(folder, there))
    process.start()
    there.close()
    size, resident = here.recv()
    process.join()
    return size, resident, time.perf_counter() - started


@contextmanager
def training_apart(folder: Path, group: Path | None, *, large: bool) -> Iterator[Connection]:
    """A process that trains on the pictures, and the way to ask it for its turns."""
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=train_in_turns, args=(folder, group, large, there))
    process.start()
    there.close()
    try:
        yield here
    finally:
        process.terminate()
        process.join()


def take_turns(folders: dict[str, Path]) -> tuple[dict[str, list[Turn]], int | None]:
    """The turns of each training, without its first, and the peak of the control group if there is one."""
    turns: dict[str, list[Turn]] = {name: [] for name in folders}
    with ExitStack() as stack:
        group = stack.enter_context(memory_group())
        trainings = {
            name: stack.enter_context(
                training_apart(folder, group[0] if group and name == "large" else None, large=name == "large")
            )
            for name, folder in folders.items()
        }
        for turn in range(ROUNDS + 1):
            for name, training in trainings.items():
                training.send(turn == 0)
                measured: Turn = training.recv()
                if turn > 0:  # the first turn makes the kernels
                    turns[name].append(measured)
        peak = None if group is None else int((group[0] / group[1]).read_text(encoding="ascii"))
    return turns, peak


def main() -> int:
    """Prepares the sets, trains on both in turns and prints the table."""
    arguments = parse_arguments(__doc__ or "")
    with TemporaryDirectory() as temporary:
        os.environ["UNET_SEARCH_CACHE"] = str(Path(temporary) / "cache")
        folders = {"large": Path(temporary) / "large", "fitting": Path(temporary) / "fitting"}
        sizes = {}
        for name, count in (("fitting", FITTING), ("large", PICTURES)):
            write_pictures(folders[name], count)
            sizes[name], prepared_in, seconds = prepare_apart(folders[name])
        print(describe_machine())
        print(f"{sizes['large'] / 1e9:.1f} GB prepared in {seconds:.0f} s with {prepared_in / 1e9:.2f} GB resident")
        turns, group_peak = take_turns(folders)
    rates = {name: [turn.images_per_second for turn in mine] for name, mine in turns.items()}
    ratios = [large / fitting for large, fitting in zip(rates["large"], rates["fitting"], strict=True)]
    table = [("pictures", "GB", "images/s: median (range)", "read from disk a turn", "resident at most")]
    table += [
        (
            name,
            f"{sizes[name] / 1e9:.2f}",
            spread(rates[name]),
            f"{statistics.mean(turn.read for turn in mine) / 1e6:.0f} MB",
            f"{mine[-1].resident / 1e9:.2f} GB",
        )
        for name, mine in turns.items()
    ]
    print_table(table)
    print(f"large / fitting, turn by turn: {spread(ratios, 2)}; {SAMPLES} samples a turn")
    lived = "no control group could be made for it"
    if group_peak is not None:
        used = f"{group_peak / 1e9:.2f} GB of it, cache included"
        lived = f"it lived in a control group of {LIMIT / 1e9:g} GB and used {used}"
    print(f"large: {lived}")
    ratio, resident = statistics.median(ratios), turns["large"][-1].resident
    return conclude(
        "large_data",
        f"{sizes['large'] / 1e9:.1f} GB train in {resident / 1e9:.2f} GB at {ratio:.2f} of the speed",
        f"< {LIMIT / 1e9:g} GB resident, >= {GOAL_SPEED} of the speed of data that fit",
        resident < LIMIT and ratio >= GOAL_SPEED and sizes["large"] >= 12e9,
        {
            "bytes": sizes,
            "images_per_second": rates,
            "resident": resident,
            "prepare": {"seconds": seconds, "resident": prepared_in},
            "control_group": None if group_peak is None else {"limit": LIMIT, "peak": group_peak},
        },
        arguments.json,
    )


if __name__ == "__main__":
    sys.exit(main())
