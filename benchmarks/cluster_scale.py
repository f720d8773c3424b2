"""Trials an hour on one, two and three nodes, and the bytes that each of them is sent.

Nodes are network namespaces of this machine, each with an address and a Ray of its own, told that it has one core, and
held to half of one by the kernel (a control group's quota), so that three of them and the driver fit on two cores. The
driver is on a head of its own, which trains nothing. Trials are real trainings, all alike: pictures of 320 pixels, a
U-net of depth 2, one epoch.

A rate is that of the middle of a search: the trials that end after each node has ended its first, over the time from
then to the last end. What comes before (Ray's workers start, data are fetched) is in a column of its own. Efficiency is
the rate on n nodes over n times the rate on one, as the median of the rounds, which take 1, 2, 3 nodes in turns. Bytes
are what comes to a node's network device in the whole search, over the bytes of the data: 1 is once.

It needs root on Linux, `ip`, `nsenter`, `setpriv` and control groups.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from outcome import conclude, describe_machine, parse_arguments, print_table, spread
from PIL import Image

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT))  # the drills know how to make nodes

from tests.drills.nodes import Cluster, Node, lacking  # noqa: E402

NODES = (1, 2, 3)
ROUNDS = 2
TRIALS_EACH = 6  # for each node
SHARE = 0.5  # of a core, for each node
GROUPS = Path("/sys/fs/cgroup")
PICTURES, SIZE = 60, 320
OBJECT_STORE = 160 << 20
SPACE = "only,depth=2,width=4,batch_size=4,crop_size=128,epoch_pixels=100000,precision=float32,collapse_epochs=999"
SECONDS_TO_END = 900
GOAL = 0.95
GOAL_BYTES = 1.5


@dataclass(frozen=True, kw_only=True)
class Round:
    """One search.

    rate: trials an hour. start: seconds until each node had ended its first trial. sent: to each node, times the data.
    """

    nodes: int
    rate: float
    start: float
    sent: tuple[float, ...]


def write_pictures(folder: Path) -> int:
    """A set of noisy pictures with a disc in each; the bytes of it when it is prepared."""
    chance = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(PICTURES):
        row, column = chance.integers(60, SIZE - 60, 2)
        disc = (rows - row) ** 2 + (columns - column) ** 2 < 50**2
        picture = chance.integers(0, 120, (SIZE, SIZE, 3)) + 100 * disc[..., None]
        Image.fromarray(picture.astype(np.uint8)).save(folder / f"images/p{number}.png")
        Image.fromarray(np.uint8(255) * disc).save(folder / f"masks/p{number}.png")
    return PICTURES * SIZE * SIZE * (3 + 1 + 1)  # three channels, a plane, and what counts


@contextmanager
def held_back(node: Node, name: str) -> Iterator[None]:
    """Inside, all processes of the node, and those that they start, have so much of a core together."""
    first = GROUPS / "cpu" if (GROUPS / "cpu").is_dir() else GROUPS
    group = first / name
    group.mkdir()
    try:
        if (group / "cpu.cfs_quota_us").exists():
            (group / "cpu.cfs_quota_us").write_text(str(round(100_000 * SHARE)))
        else:
            (group / "cpu.max").write_text(f"{round(100_000 * SHARE)} 100000")
        for process in node.network.processes():
            (group / "cgroup.procs").write_text(str(process))
        yield
    finally:
        node.network.kill()
        while (group / "cgroup.procs").read_text():
            time.sleep(0.05)
        group.rmdir()


def search_on(count: int, data: Path, size: int, folder: Path) -> Round:
    """A search on so many nodes."""
    environment = {
        **{"PATH": os.environ["PATH"], "HOME": str(folder), "OMP_NUM_THREADS": "1"},
        **{"UNET_SEARCH_CACHE": str(folder.parent / "cache"), "PYTHONPATH": str(PROJECT)},
    }
    (folder / "nodes").mkdir(parents=True)
    cluster = Cluster(folder / "nodes", environment, cpus_of_head=0, object_store=OBJECT_STORE)
    try:
        cluster.add(1 + count)
        workers = cluster.nodes[1:]
        with held_all(workers):
            before = [node.network.received() for node in workers]
            began = time.time()
            words = [
                *("--data", str(data), "--size", str(SIZE), "--storage", str(folder), "--name", "scale"),
                *("--address", cluster.address, "--searcher", "random", "--scheduler", "none", "--max-epochs", "1"),
                *("--num-trials", str(TRIALS_EACH * count), "--cpus-per-trial", "1", "--gpus-per-trial", "0"),
                *("--space", SPACE, "--space", "learning_rate=0.001:0.01"),
            ]
            search = cluster.start(
                *(sys.executable, "-m", "search.run", *words),
                cwd=PROJECT,
                env=cluster.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            said, _ = search.communicate(timeout=SECONDS_TO_END)
            assert search.returncode == 0, said
            sent = [node.network.received() - earlier for node, earlier in zip(workers, before, strict=True)]
        ends = ends_of(folder / "scale/study.log")
        rate = (len(ends) - count) / (ends[-1] - ends[count - 1]) * 3600
        return Round(nodes=count, rate=rate, start=ends[count - 1] - began, sent=tuple(one / size for one in sent))
    finally:
        cluster.close()


@contextmanager
def held_all(nodes: Sequence[Node]) -> Iterator[None]:
    """Inside, each node is held back."""
    if not nodes:
        yield
        return
    with held_back(nodes[0], f"cluster-scale-{os.getpid()}-{len(nodes)}"), held_all(nodes[1:]):
        yield


def ends_of(journal: Path) -> list[float]:
    """When the trials of a study ended, in seconds of the time of day."""
    from search.study import read_study

    ends = [trial.datetime_complete for trial in read_study(journal).get_trials(deepcopy=False)]
    return sorted(end.timestamp() for end in ends if end is not None)


def main() -> int:
    """Measures, prints the table, and gives the exit code."""
    arguments = parse_arguments(__doc__ or "")
    if missing := lacking():
        print(f"cluster_scale: no cluster of several nodes can be made here: {missing}", file=sys.stderr)
        return 1
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="cluster-scale-") as scratch:
        size = write_pictures(Path(scratch) / "discs")
        for turn in range(ROUNDS):
            for count in NODES:
                rounds.append(search_on(count, Path(scratch) / "discs", size, Path(scratch) / f"{turn}-{count}"))
                print(f"  {rounds[-1]}", file=sys.stderr, flush=True)
    rates = {count: [one.rate for one in rounds if one.nodes == count] for count in NODES}
    alone = statistics.median(rates[1])
    efficiency = {count: statistics.median(rates[count]) / (count * alone) for count in NODES}
    sent = [share for one in rounds for share in one.sent]
    rows = [("nodes", "trials an hour", "efficiency", "seconds to begin", "bytes to a node / bytes of the data")]
    for count in NODES:
        there = [one for one in rounds if one.nodes == count]
        rows.append(
            (
                str(count),
                spread(rates[count], 0),
                f"{efficiency[count]:.3f}",
                spread([one.start for one in there], 0),
                spread([share for one in there for share in one.sent], 2),
            )
        )
    print(describe_machine())
    print_table(rows)
    least = min(efficiency[count] for count in NODES)
    met = least >= GOAL and max(sent) <= GOAL_BYTES
    figures = {"rates": rates, "efficiency": efficiency, "bytes": sent, "data_bytes": size}
    figure = f"efficiency {least:.3f}, data sent {statistics.median(sent):.2f} times to each node"
    return conclude("cluster_scale", figure, f">= {GOAL} and at most {GOAL_BYTES}", met, figures, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
