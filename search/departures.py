"""Machines that come and go while a search runs: says so, and moves the trials of one that is about to leave."""

from dataclasses import dataclass, field
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.experiment import Trial

from search.events import Events
from search.processes import end_process, place_of
from search.record import TRIAL_ID
from search.resources import leaving_machines
from search.restarts import Restarts
from search.steady_clock import SteadyClock

SECONDS_BETWEEN_LOOKS = 2.0  # a machine that is taken away may be announced half a minute before


@dataclass(kw_only=True)
class Departures(Callback):
    """Looks at the machines of the running Ray, and knows which trials are where."""

    events: Events
    restarts: Restarts
    clock: SteadyClock
    _known: dict[str, str] = field(default_factory=dict)  # the machines: Ray's id -> address
    _leaving: set[str] = field(default_factory=set)  # those of them that have been announced to go
    _running: dict[str, Any] = field(default_factory=dict)  # our id of a trial -> the trial
    _name: dict[str, str] = field(default_factory=dict)  # Ray's id of a trial -> ours, which goes with its config
    _machine: dict[str, str] = field(default_factory=dict)  # our id of a trial -> where its last process was
    _next_look: float = 0.0

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes a copy of itself to disk when it starts, which nobody reads.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Sees where a trial runs. Where its last process was is looked at first: that machine may just be gone."""
        our_id = trial.config[TRIAL_ID]
        if our_id in self._machine:
            self._look()
        place = place_of(trial.temporary_state.ray_actor)
        self._running[our_id], self._name[trial.trial_id] = trial, our_id
        if place is not None:
            self._machine[our_id] = place.machine
            self._move_away(place.machine, [trial])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Forgets a trial that has ended."""
        self._forget(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Forgets a trial whose process died too often."""
        self._forget(trial)

    def on_step_end(self, *_: Any, **_info: Any) -> None:
        """Looks, now and then."""
        if self.clock.now() >= self._next_look:
            self._look()
            self._next_look = self.clock.now() + SECONDS_BETWEEN_LOOKS

    def _forget(self, trial: Any) -> None:
        our_id = self._name.pop(trial.trial_id, "")
        self._running.pop(our_id, None)
        self._machine.pop(our_id, None)

    def _look(self) -> None:
        alive = machines_alive()
        self._known = self._known or alive
        for machine in self._known.keys() - alive.keys():
            there = self._trials_of(machine)
            self.events.tell(f"machine {self._known[machine]} is gone{', and ' * bool(there)}{_go_on(there)}")
            for our_id in there:
                del self._machine[our_id]
        self._known = alive
        for machine in leaving_machines() & alive.keys() - self._leaving:
            there = self._trials_of(machine)
            self.events.tell(
                f"machine {alive[machine]} is about to be taken away and gets no new trials"
                f"{'; ' * bool(there)}{_go_on(there)}"
            )
            self._leaving.add(machine)
            self._move_away(machine, [self._running[our_id] for our_id in there])

    def _trials_of(self, machine: str) -> list[str]:
        """Our ids of the trials with a process there, or whose last one died; others that are paused, wait."""
        here = (our_id for our_id, where in self._machine.items() if where == machine)
        return sorted(our_id for our_id in here if self._goes_on(self._running[our_id]))

    def _goes_on(self, trial: Any) -> bool:
        return trial.status != Trial.PAUSED or self.restarts.has_lost_its_process(trial)

    def _move_away(self, machine: str, trials: list[Any]) -> None:
        """Ends the processes of these trials on a machine that is to leave; Ray starts none there any more."""
        for trial in trials if machine in self._leaving else ():
            worker = trial.temporary_state.ray_actor
            if worker is not None and trial.status in (Trial.RUNNING, Trial.PENDING):
                self.restarts.expect(trial, "machine")
                end_process(worker, None)


def machines_alive() -> dict[str, str]:
    """The machines of the running Ray: id -> address."""
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    return {node["NodeID"]: node["NodeManagerAddress"] for node in nodes if node["Alive"]}


def _go_on(trials: list[str]) -> str:
    if len(trials) == 1:
        return f"trial {trials[0]} goes on elsewhere from its last epoch"
    return f"trials {', '.join(trials)} go on elsewhere from their last epochs" if trials else ""
