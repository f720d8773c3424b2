"""Faults of what a search stands on, made on purpose: networks, disks, memory, clocks, machines that are taken away."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.drills.drill import Scene, wait_until
from tests.drills.nodes import Node

DISK = "48m"  # of the disk that is filled
BLOCK = 10 << 20  # bytes, of what fills the object store
# On each node at once, four times what its object store takes, held until all of it is there.
FILL_STORE = """
import numpy, ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On
ray.init({address!r})
def fill():
    kept = [ray.put(numpy.full({block}, number, numpy.uint8)) for number in range({count})]
    return all((ray.get(one)[::4096] == number).all() for number, one in enumerate(kept))
fill = ray.remote(num_cpus=0)(fill)
nodes = [n["NodeID"] for n in ray.nodes() if n["Alive"]]
print(all(ray.get([fill.options(scheduling_strategy=On(node, soft=False)).remote() for node in nodes])))
"""
ANNOUNCE = """
import time
ray.init({address!r})
node = next(n["NodeID"] for n in ray.nodes() if n["NodeManagerAddress"] == {node!r})
client = ray._private.worker.global_worker.gcs_client
print(client.drain_node(node, 2, "preempted", int((time.time() + {seconds}) * 1000))[0])
"""


def cut_for_a_moment(scene: Scene) -> None:
    """Cuts a node off for less time than it takes to give it up."""
    _cut(scene, scene.chance.uniform(1, 5))


def cut_for_long(scene: Scene) -> None:
    """Cuts a node off until after it was given up, and heals it then."""
    _cut(scene, scene.chance.uniform(35, 45))


def _cut(scene: Scene, seconds: float) -> None:
    node = scene.chance.choice(scene.cluster.nodes[1:])
    node.cut()
    time.sleep(seconds)
    node.heal()


def preempt_node(scene: Scene) -> None:
    """Announces that a node will be taken away, and takes it, some seconds later."""
    node: Node = scene.chance.choice(scene.cluster.nodes[1:])
    seconds = 20
    asked = ANNOUNCE.format(address=scene.cluster.address, node=node.address, seconds=seconds)
    assert scene.cluster.ask(asked) == "True", "the node was not to be drained"
    wait_until(lambda: scene.search.ended, seconds)
    node.kill()


def fill_object_store(scene: Scene) -> None:
    """Puts into every node's object store four times what it takes: the rest goes to disk."""
    code = FILL_STORE.format(address=scene.cluster.address, block=BLOCK, count=4 * 80 * 2**20 // BLOCK)
    scene.notes.append(scene.cluster.ask(code))


def store_was_filled(scene: Scene) -> list[str]:
    """Whether all that was put there came back as it was."""
    return [] if scene.notes == ["True"] else [f"the object store was not filled: {scene.notes}"]


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A folder on a disk of its own, which is small."""
    disk = folder / "disk"
    disk.mkdir(parents=True)
    _mount(disk, f"size={DISK}")
    try:
        yield disk / "runs"
    finally:
        _unmount(disk)


def fill_disk(scene: Scene) -> None:
    """Fills the disk with the run to its last byte, and makes room again after some seconds."""
    ballast = scene.search.storage.parent / "ballast"
    until = time.monotonic() + scene.chance.uniform(5, 15)
    with ballast.open("wb", buffering=0) as file:
        while time.monotonic() < until:
            with suppress(OSError):
                while True:
                    file.write(bytes(4096))
            time.sleep(0.02)
    ballast.unlink()


def lose_storage(scene: Scene) -> None:
    """Puts an empty disk, on which nothing can be written, over the storage, and takes it away after some seconds."""
    storage = scene.search.storage
    _mount(storage, "size=4k,ro")
    time.sleep(scene.chance.uniform(10, 40))
    _unmount(storage)


def turn_clock(scene: Scene) -> None:
    """Sets the time of day to another one, hours away, and back some seconds later."""
    clock = scene.folder / "clock"
    clock.write_text(str(scene.chance.choice([-1, 1]) * scene.chance.uniform(3600, 40_000)))
    time.sleep(scene.chance.uniform(3, 10))
    clock.unlink()


def _mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "drill", str(folder)], check=True)


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
