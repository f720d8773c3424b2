"""Replays a search on recorded curves: any searcher and scheduler of Ray's, k simulated workers, a simulated clock.

`Replay` stands where Ray's tune controller does (ray/tune/execution/tune_controller.py, 2.60) and calls the two in its
order: a result goes to the scheduler first, to the searcher unless it stops the trial; before each start the scheduler
is asked whom to run. Workers start at once, and neither they nor the search itself take time: an epoch takes the
seconds that were recorded, and that is all that the clock counts.
"""

import heapq
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher

from .table import Curve

METRIC = "val_dice"


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a training does next.

    seconds: how long it takes. epochs: how many it trains in them, 0 or 1. result: what it then reports; None when it
    reports nothing more, because it has returned or, with `dies`, because it raised an error.
    """

    seconds: float = 0.0
    epochs: int = 0
    result: Mapping[str, Any] | None = None
    dies: bool = False


# What the training of a curve does after so many epochs, from its start or from where it was paused.
Reports = Callable[[Curve, int], Iterator[Step]]


@dataclass(frozen=True, kw_only=True)
class System:
    """A searcher, a scheduler, and what trainings report to them."""

    searcher: Searcher
    scheduler: TrialScheduler
    reports: Reports


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a search found when. Entry n stands for n + 1 trained epochs, those of all trials together.

    seconds: on the clock. best: the highest Dice that was reported so far. trials: how many were started. finished:
    whether the searcher had nothing more to try.
    """

    seconds: tuple[float, ...]
    best: tuple[float, ...]
    trials: int
    finished: bool

    def epochs_to(self, target: float) -> int | None:
        """How many epochs it took to find this Dice; None where it was not found."""
        return next((epoch for epoch, best in enumerate(self.best, start=1) if best >= target), None)


def report_like_ours(curve: Curve, trained: int) -> Iterator[Step]:
    """A training as search/trial.py reports it: with how it ended; one that goes on repeats its last report first."""
    seconds = sum(curve.seconds[:trained])
    if trained:
        yield Step(result=_our_result(curve, trained, seconds))
    for epoch in range(trained + 1, len(curve.val_dice) + 1):
        seconds += curve.seconds[epoch - 1]
        yield Step(seconds=curve.seconds[epoch - 1], epochs=1, result=_our_result(curve, epoch, seconds))
    if curve.status != "completed":
        ending = {"status": curve.status, "reason": curve.reason, "done": True}
        yield Step(seconds=curve.last_seconds, epochs=1, result=ending)


def report_like_others(curve: Curve, trained: int) -> Iterator[Step]:
    """A training as a person writes it after Ray's guide: the metric of each epoch.

    The same training code raises where it sees that it is lost.
    """
    for epoch in range(trained + 1, len(curve.val_dice) + 1):
        yield Step(seconds=curve.seconds[epoch - 1], epochs=1, result={METRIC: curve.val_dice[epoch - 1]})
    if curve.status == "completed":
        yield Step()
    else:
        yield Step(seconds=curve.last_seconds, epochs=1, dies=True)


def _our_result(curve: Curve, epoch: int, seconds: float) -> dict[str, Any]:
    done = epoch == len(curve.val_dice) and curve.status == "completed"
    return {
        "epoch": epoch,
        METRIC: curve.val_dice[epoch - 1],
        "seconds": seconds,
        "status": "completed" if done else "running",
        "done": done,
    }


@dataclass(eq=False, kw_only=True)
class ReplayedTrial:
    """What searchers and schedulers see of a trial, and where its training stands.

    epochs, seconds: trained so far. steps: what its training does, while it has a worker. due: the number of the event
    that ends its current step.
    """

    trial_id: str
    config: dict[str, Any]
    curve: Curve
    status: str = Trial.PENDING
    last_result: dict[str, Any] = field(default_factory=dict)
    error_file: None = None
    epochs: int = 0
    seconds: float = 0.0
    steps: Iterator[Step] | None = None
    due: int = -1

    def is_finished(self) -> bool:
        """Whether it has ended, well or badly."""
        return self.status in (Trial.TERMINATED, Trial.ERROR)


class Replay:
    """One search over recorded curves, and to its searcher and scheduler the controller of the trials."""

    def __init__(self, system: System, curve_of: Callable[[Mapping[str, Any]], Curve], *, workers: int) -> None:
        """curve_of: gives a configuration's curve, as `Table.answer` does. workers: how many trials run at a time."""
        self._system = system
        self._curve_of = curve_of
        self._workers = workers
        self._searching = True
        self._trials: list[ReplayedTrial] = []
        self._pending: list[ReplayedTrial] = []
        self._running = 0
        self._events: list[tuple[float, int, ReplayedTrial, Step]] = []
        self._numbers = count()
        self._now = 0.0
        self._seconds: list[float] = []
        self._best: list[float] = []
        # As many as Ray lets a searcher suggest ahead: one, or what its limiter allows.
        limiter = isinstance(system.searcher, ConcurrencyLimiter)
        self._most_pending = system.searcher.max_concurrent if limiter else 1
        self.search_alg = SimpleNamespace(searcher=system.searcher, is_finished=lambda: not self._searching)

    def run(self, *, target: float, most_epochs: int) -> Trace:
        """Searches until this Dice is found, so many epochs are trained, or there is nothing more to try.

        Raises RuntimeError when nothing runs and nothing starts although the searcher has not finished.
        """
        while len(self._best) < most_epochs and (not self._best or self._best[-1] < target):
            self._start_trials()
            if not self._events:
                break
            self._now, number, trial, step = heapq.heappop(self._events)
            if trial.status == Trial.RUNNING and trial.due == number:
                self._take(trial, step)
        finished = not self._events
        if finished and (self._searching or self.get_live_trials()):
            raise RuntimeError(
                f"the search stands still after {len(self._best)} epochs; {len(self.get_live_trials())} trials wait"
            )
        return Trace(seconds=tuple(self._seconds), best=tuple(self._best), trials=len(self._trials), finished=finished)

    def get_trials(self) -> list[ReplayedTrial]:
        """All trials, in the order of their suggestion."""
        return self._trials

    def get_live_trials(self) -> set[ReplayedTrial]:
        """The trials that have not ended."""
        return {trial for trial in self._trials if not trial.is_finished()}

    def pause_trial(self, trial: ReplayedTrial, should_checkpoint: bool = True) -> None:  # noqa: ARG002
        """Takes the worker of a running trial away."""
        assert trial.status == Trial.RUNNING
        self._put_away(trial, Trial.PAUSED)

    def stop_trial(self, trial: ReplayedTrial) -> None:
        """Ends a trial, whatever it does, and tells so."""
        if trial.is_finished():
            return
        if trial.status == Trial.RUNNING:
            self._system.scheduler.on_trial_complete(self, trial, trial.last_result)
            self._system.searcher.on_trial_complete(trial.trial_id, result=trial.last_result)
        else:
            self._system.scheduler.on_trial_remove(self, trial)
            self._system.searcher.on_trial_complete(trial.trial_id)
        self._put_away(trial, Trial.TERMINATED)

    def _start_trials(self) -> None:
        """Asks for trials, and gives free workers to those that wait, first to the one that the scheduler names."""
        while True:
            self._ask()
            chosen = self._system.scheduler.choose_trial_to_run(self)
            if chosen is not None and chosen.status == Trial.PAUSED:
                chosen.status = Trial.PENDING
                self._pending.append(chosen)
            if self._running >= self._workers or not self._pending:
                return
            trial = chosen if chosen in self._pending else self._pending[0]
            self._pending.remove(trial)
            self._running += 1
            trial.status, trial.steps = Trial.RUNNING, self._system.reports(trial.curve, trial.epochs)
            self._go_on(trial)

    def _ask(self) -> None:
        """Asks the searcher for as many trials as may wait."""
        while self._searching and len(self._pending) < self._most_pending:
            trial_id = f"{len(self._trials):05d}"
            config = self._system.searcher.suggest(trial_id)
            if config == Searcher.FINISHED:
                self._searching = False
            if config is None or not self._searching:
                return
            trial = ReplayedTrial(trial_id=trial_id, config=config, curve=self._curve_of(config))
            self._trials.append(trial)
            self._system.scheduler.on_trial_add(self, trial)
            self._pending.append(trial)

    def _go_on(self, trial: ReplayedTrial) -> None:
        """Lets a trial do its next step."""
        assert trial.steps is not None
        step, trial.due = next(trial.steps), next(self._numbers)
        heapq.heappush(self._events, (self._now + step.seconds, trial.due, trial, step))

    def _take(self, trial: ReplayedTrial, step: Step) -> None:
        """Takes in what a trial has done, and does with it what the scheduler decides."""
        scheduler, searcher = self._system.scheduler, self._system.searcher
        trial.epochs += step.epochs
        trial.seconds += step.seconds
        if step.epochs:
            self._note((step.result or {}).get(METRIC))
        if step.dies:
            scheduler.on_trial_error(self, trial)
            searcher.on_trial_complete(trial.trial_id, error=True)
            self._put_away(trial, Trial.ERROR)
            return
        if step.result is None:  # Ray repeats the last result of a training that returned
            trial.last_result["done"] = True
            self.stop_trial(trial)
            return
        result = {
            "trial_id": trial.trial_id,
            "training_iteration": trial.epochs,
            "time_total_s": trial.seconds,
            "done": False,
            **step.result,
        }
        decision = TrialScheduler.STOP if result["done"] else scheduler.on_trial_result(self, trial, result)
        if decision == TrialScheduler.STOP:
            result["done"] = True
        else:
            searcher.on_trial_result(trial.trial_id, result)
        trial.last_result = result
        if decision == TrialScheduler.STOP:
            self.stop_trial(trial)
        elif decision == TrialScheduler.PAUSE:
            self.pause_trial(trial)
        elif decision == TrialScheduler.CONTINUE:
            self._go_on(trial)

    def _note(self, val_dice: float | None) -> None:
        """Adds one trained epoch to the trace, whatever it reported."""
        found = val_dice if val_dice is not None and math.isfinite(val_dice) else 0.0
        self._best.append(max(found, self._best[-1] if self._best else 0.0))
        self._seconds.append(self._now)

    def _put_away(self, trial: ReplayedTrial, status: str) -> None:
        """Takes a trial from its worker, or from those that wait for one."""
        if trial.status == Trial.RUNNING:
            self._running -= 1
        elif trial in self._pending:
            self._pending.remove(trial)
        trial.status, trial.steps = status, None
