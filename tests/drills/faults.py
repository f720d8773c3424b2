"""The table of faults: what may happen to a search, how a drill makes it happen, and what the search then says."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from search.leaderboard import read
from tests.drills.drill import Fault, Scene, wait_until
from tests.drills.nodes import Cluster
from tests.drills.surroundings import (
    cut_for_a_moment,
    cut_for_long,
    fill_disk,
    fill_object_store,
    lose_storage,
    preempt_node,
    small_disk,
    store_was_filled,
    turn_clock,
)

MEMORY = 1536 << 20  # bytes that a machine has in the drill of a leak, as its guard sees it


def kill_worker(scene: Scene) -> None:
    """Ends the process that trains a trial."""
    os.kill(scene.victim().process, signal.SIGKILL)


def kill_node(scene: Scene) -> None:
    """Ends a node that trains, all at once; never the head."""
    scene.chance.choice(scene.cluster.nodes[1:]).kill()


def add_node(scene: Scene) -> None:
    """Adds a third node."""
    scene.cluster.add(1)


def late_node_trained(scene: Scene) -> list[str]:
    """Whether the node that came late had a part in it."""
    late = scene.cluster.nodes[-1].network.id
    return [] if any(line.network == late for line in scene.trained()) else ["the node that was added trained nothing"]


def kill_driver(scene: Scene) -> None:
    """Ends the driver, and has the run go on."""
    scene.search.kill()
    scene.search.start(scene.cluster)


def kill_driver_and_tear(scene: Scene) -> None:
    """Ends the driver, of whose last line only a part has come to the disk, and has the run go on."""
    scene.search.kill()
    study = scene.search.run / "study.log"
    whole = study.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    os.truncate(study, scene.chance.randint(last, len(whole) - 1))
    scene.search.start(scene.cluster)


def kill_cluster(scene: Scene) -> None:
    """Ends all nodes and the driver, and has the run go on on another cluster."""
    scene.cluster.kill()
    scene.search.kill()
    scene.cluster = Cluster(scene.folder / "nodes", scene.cluster.environment)
    scene.cluster.add(3)
    scene.search.start(scene.cluster)


def damage_checkpoint(scene: Scene, damage: Callable[[Scene, Path], None]) -> None:
    """Ends the process that trains a trial, and damages the state from which it is to go on."""
    victim = scene.victim()
    state = scene.search.run / "trials" / victim.trial / "last.safetensors"
    assert wait_until(state.exists, 60), f"{victim.trial} keeps no state"
    os.kill(victim.process, signal.SIGKILL)
    damage(scene, state)


def truncate(scene: Scene) -> None:
    """Leaves a part of a trial's last state."""
    damage_checkpoint(scene, lambda scene, path: os.truncate(path, scene.chance.randrange(path.stat().st_size)))


def flip(scene: Scene) -> None:
    """Flips a bit of a trial's last state."""
    damage_checkpoint(scene, flip_bit)


def flip_bit(scene: Scene, path: Path) -> None:
    """Flips one bit of a file, anywhere."""
    content = bytearray(path.read_bytes())
    content[scene.chance.randrange(len(content))] ^= 1 << scene.chance.randrange(8)
    path.write_bytes(content)


def trouble(scene: Scene, name: str) -> str:
    """Has the next trial that keeps an epoch do this; which one it was."""
    (scene.folder / name).touch()
    wait_until(lambda: any(line.what == f"{name}s" for line in scene.trained()), 60)
    return next(line.trial for line in scene.trained() if line.what == f"{name}s")


def hang(scene: Scene) -> None:
    """Has a trial stand still for ever."""
    trouble(scene, "hang")


def leak(scene: Scene) -> None:
    """Has a trial take more and more memory."""
    scene.spoilt.add(trouble(scene, "leak"))


def leak_was_ended(scene: Scene) -> list[str]:
    """Whether the trial that leaked is in the leaderboard for what it was."""
    table = read(scene.search.run / "leaderboard.csv").set_index("trial_id")
    statuses = {trial: table.loc[trial, "status"] for trial in scene.spoilt}
    return [f"{trial} is {status}" for trial, status in statuses.items() if status != "out_of_memory"]


AGAIN = "lost its process and goes on from its last epoch"
WAITS = "waiting until it works again|could not write"
CUT_OFF = "the last session was cut off"
FAULTS = {
    "worker_killed": Fault(happens="the process of a trial is killed", strike=kill_worker, says=AGAIN),
    "node_killed": Fault(
        happens="a node is killed, with all that runs on it", strike=kill_node, says=r"machine \S+ is gone"
    ),
    "node_added_late": Fault(
        happens="a third node joins two",
        strike=add_node,
        says=r"machine \S+ joined",
        nodes=2,
        latest=0.08,
        holds=late_node_trained,
    ),
    "network_cut_short": Fault(happens="a node is cut off for 1 to 5 s", strike=cut_for_a_moment),
    "network_cut": Fault(
        happens="a node is cut off for 35 to 45 s, given up meanwhile, and heals",
        strike=cut_for_long,
        says=r"machine \S+ is gone",
    ),
    "driver_killed": Fault(happens="the driver is killed (-9) and the run resumed", strike=kill_driver, says=CUT_OFF),
    "driver_killed_between_snapshots": Fault(
        happens="the driver is killed, half of its last line in the study, and the run resumed",
        strike=kill_driver_and_tear,
        says=CUT_OFF,
    ),
    "cluster_killed": Fault(
        happens="all nodes and the driver are killed, and the run resumed on a new cluster",
        strike=kill_cluster,
        says=CUT_OFF,
    ),
    "node_preempted": Fault(
        happens="a node is announced to be taken away, and is, 20 s later",
        strike=preempt_node,
        says=r"machine \S+ is about to be taken away",
    ),
    "object_store_full": Fault(
        happens="every node's object store is filled four times over, and spills",
        strike=fill_object_store,
        holds=store_was_filled,
    ),
    "disk_full": Fault(
        happens="the disk of the run is full for 5 to 15 s",
        strike=fill_disk,
        says=WAITS,
        storage=small_disk,
        resumed=True,
    ),
    "checkpoint_truncated": Fault(
        happens="a trial dies, and its last state is cut short", strike=truncate, says="was damaged", forgiven=1
    ),
    "checkpoint_flipped": Fault(
        happens="a trial dies, and one bit of its last state is flipped", strike=flip, says="was damaged", forgiven=1
    ),
    "worker_hangs": Fault(
        happens="a trial stands still for ever",
        strike=hang,
        says=r"showed no epoch for .* its process is ended",
        constants={"search.watchdog": {"LEAST_SILENCE": 10.0, "FIRST_SILENCE": 60.0}},
        latest=0.6,
    ),
    "trial_leaks": Fault(
        happens="a trial takes 160 MB more each second",
        strike=leak,
        says="is not started again: its machine ran low on memory",
        environment={"DRILL_MEMORY": str(MEMORY)},
        latest=0.6,
        holds=leak_was_ended,
    ),
    "storage_fails": Fault(
        happens="the storage is gone for 10 to 40 s: an empty, read-only folder lies over it",
        strike=lose_storage,
        says=WAITS,
        resumed=True,
    ),
    "clock_jumps": Fault(
        happens="Python's time of day jumps by hours, and back 3 to 10 s later",
        strike=turn_clock,
        environment={"DRILL_CLOCK": "1"},
    ),
}
