"""The table of faults: what may happen to a search, how a drill makes it happen, and what the search then says."""

import os
import signal

from tests.drills.drill import Fault, Scene
from tests.drills.nodes import Cluster


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


FAULTS = {
    "worker_killed": Fault(happens="the process of a trial is killed", strike=kill_worker),
    "node_killed": Fault(happens="a node is killed, with all that runs on it", strike=kill_node),
    "node_added_late": Fault(
        happens="a third node joins two", strike=add_node, nodes=2, latest=0.3, holds=late_node_trained
    ),
    "driver_killed": Fault(happens="the driver is killed (-9) and the run resumed", strike=kill_driver),
    "driver_killed_between_snapshots": Fault(
        happens="the driver is killed while it writes a line of the study, and the run resumed",
        strike=kill_driver_and_tear,
    ),
    "cluster_killed": Fault(happens="all nodes are killed, and the run resumed on other ones", strike=kill_cluster),
}
