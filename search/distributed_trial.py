"""One training in several processes, each an actor of Ray with a GPU of its own, on as few machines as they fit on.

Ray Train is not used. Its controller would stand between the training and Tune: `fit()` does not hear that its trial is
stopped early, and whatever a training dies of (diverged, out of memory, a machine that is gone) comes back as one kind
of error.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.config import TrainConfig
from search.record import one_line
from search.resources import Needs
from search.trial import Report, Reports, SharedWork, bad_ending, check_device, start_training, train_and_report

if TYPE_CHECKING:
    import ray
    from ray import tune
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

# What a trial itself takes of a machine while others train for it: next to nothing, as something, for Ray's sake.
COORDINATOR = {"memory": 1.0}

SECONDS_TO_TELL = 1.0  # for reports of the first process that are on their way when another one ends badly
SECONDS_TO_END = 5.0  # for processes that are killed


def options_of_task(needs: Needs) -> dict[str, Any]:
    """What a task of Ray takes that trains for a trial, and where it runs.

    Where the training has processes of its own, these take it all, in the places that the trial has.
    """
    if needs.workers == 1:
        # Not inside what the trial itself takes, where there is no room.
        return {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "scheduling_strategy": "DEFAULT"}
    return {"num_cpus": 0, "scheduling_strategy": _place(0)}


def train_split(
    params: Mapping[str, Any], folder: Path, fold: int, work: SharedWork, shared: "ray.ObjectRef[SharedWork]"
) -> Reports:
    """Trains on a split of the work (from 0) as `train_and_report` does, in as many processes as it is to have.

    shared: where Ray keeps `work`.
    """
    if work.needs.workers == 1:
        return train_and_report(params, folder, work, work.splits[fold])
    return train_together(params, folder.relative_to(work.folder), fold, work.needs, shared)


def train_together(
    params: Mapping[str, Any], folder: Path, fold: int, needs: Needs, shared: "ray.ObjectRef[SharedWork]"
) -> Reports:
    """Trains in several processes and yields what the first one reports; a bad ending of any of them is that of all.

    folder: below that of the work. The processes take the places of the trial in which this runs (see `places_of`).
    When it is closed before its end, all end. Raises RuntimeError when a process dies: whoever starts the training
    again goes on.
    """
    import ray

    actor = ray.remote(num_cpus=needs.cpus, num_gpus=needs.gpus)(Rank)
    ranks: list[Any] = [
        actor.options(scheduling_strategy=_place(index + 1)).remote(shared, index) for index in range(needs.workers)
    ]
    calls: list[Any] = []
    try:
        meeting = ray.get(ranks[0].open_meeting.remote())
        calls = [ranks[0].lead.remote(params, folder, fold)]
        calls += [rank.follow.remote(meeting, params, folder, fold) for rank in ranks[1:]]
        yield from _listen(*calls)
    except ray.exceptions.RayError as error:
        raise RuntimeError(f"one of {len(ranks)} processes: {one_line(error)}") from None
    finally:
        for rank in ranks:
            ray.kill(rank)
        if calls:
            # Whoever starts the training again must not find the old one still at work in its folder.
            ends = [calls[0].completed(), *calls[1:]]
            ray.wait(ends, num_returns=len(ends), timeout=SECONDS_TO_END)


def places_of(needs: Needs) -> "tune.PlacementGroupFactory":
    """What a trial takes whose training has several processes: the first place for itself, one for each of them.

    They lie on one machine where they fit there, else on as few as can be.
    """
    from ray import tune

    processes = [{"CPU": needs.cpus, "GPU": needs.gpus}] * needs.workers
    return tune.PlacementGroupFactory([COORDINATOR, *processes], strategy="PACK")


def _place(index: int) -> "PlacementGroupSchedulingStrategy":
    """One of the places of the trial in which this runs."""
    from ray.util import get_current_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    places = get_current_placement_group()
    assert places is not None, "not in the places of a trial"
    return PlacementGroupSchedulingStrategy(places, placement_group_bundle_index=index)


def _listen(leader: Any, *others: Any) -> Reports:
    """What the first process reports, until its last report, or until another process ends badly."""
    import ray

    waiting = [leader, *others]
    ending: Report | None = None
    while True:
        ready: list[Any] = ray.wait(waiting, num_returns=1, timeout=SECONDS_TO_TELL if ending else None)[0]
        if not ready:
            assert ending is not None
            yield ending
            return
        if ready[0] is leader:
            report = ray.get(next(leader))
            yield report
            if report["done"]:
                return
        else:
            waiting.remove(ready[0])
            ending = ending or ray.get(ready[0])


class Rank:
    """One of the processes of a training, as an actor of Ray. It is used once, and then killed."""

    def __init__(self, work: SharedWork, index: int) -> None:
        """index: which of the processes it is, from 0."""
        from model.distributed import Ranks

        self._work = work.here()
        self._ranks = Ranks(index=index, count=work.needs.workers)
        self._place: Any = None

    def open_meeting(self) -> tuple[str, int]:
        """Where all processes meet: a host, which is this machine, and a port."""
        from ray.util import get_node_ip_address

        from model.distributed import open_meeting

        host: str = get_node_ip_address()  # type: ignore[no-untyped-call]
        self._place = open_meeting(host)
        return host, self._place.port

    def lead(self, params: Mapping[str, Any], folder: Path, fold: int) -> Reports:
        """Trains as the first process, which reports and writes the files."""
        self._meet()
        yield from train_and_report(params, self._work.folder / folder, self._work, self._work.splits[fold])

    def follow(self, meeting: tuple[str, int], params: Mapping[str, Any], folder: Path, fold: int) -> Report | None:
        """Trains along with the first process; the report of a bad ending, or None."""
        from model.distributed import RankLostError, come_to_meeting

        self._place = come_to_meeting(*meeting)
        self._meet()
        check_device(self._work.needs.device)
        folder = self._work.folder / folder
        try:
            for _ in start_training(TrainConfig.from_mapping(params), folder, self._work, self._work.splits[fold]):
                pass
        except RankLostError:
            raise
        except Exception as error:  # noqa: BLE001 - as in the first process
            return bad_ending(error, folder)
        return None

    def _meet(self) -> None:
        import torch

        from model.distributed import meet

        meet(self._place, self._ranks, torch.device(self._work.needs.device))
