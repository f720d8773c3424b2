"""One drill: a search on several nodes is struck at a random moment, and must come out as if it had not been."""

import random
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.drills.nodes import Cluster, running_cluster
from tests.drills.outcomes import Result, broken, finished, result_of
from tests.drills.searches import EPOCHS, TRIALS, Search, environment
from tests.drills.trained import Line, kept_epochs, read_log, under_way

NODES = 3
SECONDS_TO_MOMENT = 240
SECONDS_TO_END = 420


@dataclass(kw_only=True)
class Scene:
    """What a fault strikes. chance: all that is random in the drill. spoilt: trials that it brings to a bad end.

    cluster: where the search goes on; a fault that kills all of it puts another in its place.
    """

    folder: Path
    cluster: Cluster
    search: Search
    chance: random.Random
    spoilt: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def trained(self) -> list[Line]:
        """The log of epochs so far."""
        return read_log(self.folder)

    def victim(self) -> Line:
        """A trial that is being trained, chosen at random."""
        wait_until(lambda: bool(under_way(self.trained(), EPOCHS)) or self.search.ended, 60)
        return self.chance.choice(under_way(self.trained(), EPOCHS))


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What may happen to a search.

    happens: a sentence for the table. strike: does it. says: what the search says of it, in one line. constants,
    environment: what all processes are given (see `spy/sitecustomize.py`). nodes: there when the search begins.
    earliest, latest: between which shares of all epochs it strikes. forgiven: epochs that a trial may have to train
    once more. resumed: whether the search may end at it, with a message, and is then started again. holds: what must
    hold besides, and does not, in words. storage: makes the folder of the runs, in the drill's.
    """

    happens: str
    strike: Callable[[Scene], None]
    says: str = ""
    constants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    nodes: int = NODES
    earliest: float = 0.03
    latest: float = 0.8
    forgiven: int = 0
    resumed: bool = False
    holds: Callable[[Scene], list[str]] = lambda _: []
    storage: Callable[[Path], AbstractContextManager[Path]] = lambda folder: nullcontext(folder / "runs")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of one drill. moment: when it struck, in words; broken: what did not hold; said: the log's line."""

    fault: str
    seed: int
    moment: str
    broken: tuple[str, ...]
    said: str
    seconds: float


def wait_until(is_so: Callable[[], bool], seconds: float) -> bool:
    """Waits until it is so, but not longer than so many seconds; whether it is."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def run_undisturbed(folder: Path) -> Result:
    """The search that nothing happens to."""
    surroundings = environment(folder, {})
    search = Search(folder, folder / "runs")
    with running_cluster(folder / "nodes", surroundings, NODES) as cluster:
        search.start(cluster)
        assert wait_until(lambda: search.ended, SECONDS_TO_END), search.told()
    assert search.driver is not None and search.driver.returncode == 0, search.told()
    return result_of(search.run)


def run_drill(name: str, fault: Fault, seed: int, folder: Path, undisturbed: Result) -> Report:
    """Strikes once, at the moment that the seed gives, and looks at what came of it."""
    began = time.monotonic()
    chance = random.Random(f"{name} {seed}")
    moment = chance.randint(round(fault.earliest * TRIALS * EPOCHS), round(fault.latest * TRIALS * EPOCHS))
    later = chance.random() * 0.6
    surroundings = {**environment(folder, fault.constants), **fault.environment}
    with (
        fault.storage(folder) as storage,
        running_cluster(folder / "nodes", surroundings, fault.nodes) as cluster,
    ):
        search = Search(folder, storage)
        scene = Scene(folder=folder, cluster=cluster, search=search, chance=chance)
        search.start(cluster)
        try:
            wrong = _strike(scene, fault, moment, later, undisturbed)
        finally:
            search.kill()
            if scene.cluster is not cluster:
                scene.cluster.close()
        told = search.told()
    said = [line.strip() for line in told.splitlines() if fault.says and re.search(fault.says, line)]
    if fault.says and not said:
        wrong.append(f"nothing says {fault.says!r}")
    return Report(
        fault=name,
        seed=seed,
        moment=f"after {moment} of {TRIALS * EPOCHS} epochs and {later:.1f} s",
        broken=tuple(wrong),
        said=said[0] if said else "",
        seconds=time.monotonic() - began,
    )


def _strike(scene: Scene, fault: Fault, moment: int, later: float, undisturbed: Result) -> list[str]:
    """Does what is to be done at the moment; what did not hold after it."""
    search = scene.search
    reached = wait_until(lambda: kept_epochs(scene.trained()) >= moment or search.ended, SECONDS_TO_MOMENT)
    if not reached or search.ended:
        return ["the search did not come to the moment: " + search.told()]
    time.sleep(later)
    before = finished(search.run)
    fault.strike(scene)
    if not wait_until(lambda: search.ended, SECONDS_TO_END):
        return ["the search did not end: " + search.told()]
    assert search.driver is not None
    if fault.resumed and search.driver.returncode != 0:
        search.start(scene.cluster)
        if not wait_until(lambda: search.ended, SECONDS_TO_END):
            return ["the search did not end when it was resumed: " + search.told()]
    wrong = [] if search.driver.returncode == 0 else [f"it ended with {search.driver.returncode}"]
    wrong += broken(search, scene.folder, before, undisturbed, forgiven=fault.forgiven, spoilt=frozenset(scene.spoilt))
    if "Traceback" in search.told():
        wrong.append("the screen shows a traceback")
    return wrong + fault.holds(scene)
