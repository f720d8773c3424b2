"""Where the processes of trials are, and how one is ended that may not listen any more."""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a process is: Ray's id of the machine, and the process's number there."""

    machine: str
    process: int


def place_of(worker: Any) -> Place | None:
    """Where an actor of Ray's is; None where Ray does not know."""
    from ray._private.state import actors

    facts = actors(worker._actor_id.hex())
    if not facts or not facts["Address"]["NodeID"]:
        return None
    return Place(machine=facts["Address"]["NodeID"], process=int(facts["Pid"]))


def end_process(worker: Any, place: Place | None) -> None:
    """Ends an actor of Ray's, and its process by the system too: one that was stopped does not hear Ray."""
    ray.kill(worker)
    if place is not None:
        on_it = NodeAffinitySchedulingStrategy(place.machine, soft=False)
        ray.remote(num_cpus=0, max_retries=0)(_kill).options(scheduling_strategy=on_it).remote(place.process)


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
