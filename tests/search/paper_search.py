"""A search on paper: curves in place of trainings, and a scheduler that is asked as Ray's controller asks it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import optuna
from optuna.trial import TrialState, create_trial
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from search.ending import RESTS_SINCE
from search.patient_scheduler import PatientScheduler

FOLD_EPOCHS = 9


@dataclass(eq=False)
class PaperTrial:
    """What schedulers see of a trial of Ray's."""

    trial_id: str
    config: dict[str, Any]
    status: str = Trial.PENDING
    error_file: None = None
    repeats: bool = False

    def set_status(self, status: str) -> None:
        self.status = status

    def init_local_path(self) -> None:
        """Needs none."""


@dataclass
class PaperSearch:
    """Trials with these val_dice by epoch, handed out in this order; some of their results may be known already.

    It is Ray's controller and searcher in one. The workers bring their next result one after the other; a trial that
    goes on repeats its last one first. done: val_dice by epoch of earlier sessions. ended: the trials that have ended,
    with the last status. resting: those that wait because others are better. costs: of each trial, by name. endings:
    what those come to in their last epoch that do not complete. log: who trained which epoch. starts: who was given a
    worker.
    """

    scheduler: PatientScheduler
    curves: Mapping[str, Mapping[int, float]]
    workers: int = 1
    done: dict[str, dict[int, float]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    resting: set[str] = field(default_factory=set)
    session: str = "1"
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    endings: Mapping[str, str] = field(default_factory=dict)
    log: list[tuple[str, int]] = field(default_factory=list)
    starts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.to_come = [our_id for our_id in self.curves if our_id not in self.ended]
        self.to_come.sort(key=lambda our_id: (our_id not in self.resting, our_id not in self.done))
        self.trials: list[PaperTrial] = []
        self.places: set[str] = set()
        self.running: list[PaperTrial] = []
        self.search_alg = SimpleNamespace(searcher=self)

    @property
    def has_room(self) -> bool:
        return len(self.places) < self.workers

    @property
    def draws_more(self) -> bool:
        return bool(self.to_come)

    def free_place(self, trial_id: str) -> None:
        self.places.discard(trial_id)

    def set_aside(self, trial_id: str) -> None:
        self.places.discard(trial_id)
        self.resting.add(trial_id.partition("-")[2])

    def take_place(self, trial_id: str) -> None:
        self.places.add(trial_id)
        self.resting.discard(trial_id.partition("-")[2])

    def get_live_trials(self) -> set[PaperTrial]:
        return {trial for trial in self.trials if trial.status != Trial.TERMINATED}

    def pause_trial(self, trial: PaperTrial, should_checkpoint: bool) -> None:
        assert (trial.status, should_checkpoint) == (Trial.RUNNING, False)
        trial.status = Trial.PAUSED

    def stop_trial(self, trial: PaperTrial) -> None:
        assert trial.status == Trial.PAUSED
        self.scheduler.on_trial_remove(self, trial)
        self._end(trial, "stopped")

    def run(self, most_results: int = 10_000) -> "PaperSearch":
        """Until nothing is left to do, or so many results have come."""
        for _ in range(most_results):
            self._start()
            while not self.running and (live := self.get_live_trials()):
                self._start()
                assert self.running or self.get_live_trials() < live, "it stands still"
            if not self.running:
                break
            self._bring_result(self.running.pop(0))
        return self

    def study(self) -> optuna.Study:
        """What a later session finds."""
        study = optuna.create_study(direction="maximize")
        for our_id, values in self.done.items():
            status = "resting" if our_id in self.resting else self.ended.get(our_id, "running")
            states = {
                "running": TrialState.RUNNING,
                "resting": TrialState.WAITING,
                "completed": TrialState.COMPLETE,
            }
            study.add_trial(
                create_trial(
                    state=states.get(status, TrialState.PRUNED),
                    value=max(values.values()) if status == "completed" else None,
                    intermediate_values=values,
                    user_attrs={
                        "trial_id": our_id,
                        "record": {"status": status, **self.costs.get(our_id, {})},
                        RESTS_SINCE: "2026-01-31T12:00:00+00:00" if status == "resting" else None,
                    },
                )
            )
        return study

    def _start(self) -> None:
        """Draws trials and starts them, while there is room."""
        while True:
            while self.to_come and not any(one.status == Trial.PENDING for one in self.trials):
                rests = self.to_come[0] in self.resting
                if not rests and not self.has_room:
                    break
                our_id = self.to_come.pop(0)
                trial = PaperTrial(f"ray{self.session}-{our_id}", {"trial_id": our_id})
                self.trials.append(trial)
                if not rests:
                    self.places.add(trial.trial_id)
                self.done.setdefault(our_id, {})
                self.scheduler.on_trial_add(self, trial)
            trial = self.scheduler.choose_trial_to_run(self)
            if trial is None or len(self.running) >= self.workers:
                return
            assert trial.status in (Trial.PENDING, Trial.PAUSED)
            our_id = trial.config["trial_id"]
            trial.status, trial.repeats = Trial.RUNNING, bool(self.done[our_id])
            self.starts.append(our_id)
            self.running.append(trial)

    def _bring_result(self, trial: PaperTrial) -> None:
        """The next epoch of a trial, and what comes of it."""
        our_id = trial.config["trial_id"]
        done, curve = self.done[our_id], self.curves[our_id]
        epoch = max(done) if trial.repeats else next(epoch for epoch in curve if epoch not in done)
        result = {"epoch": epoch, "val_dice": curve[epoch], "status": "running", **self.costs.get(our_id, {})}
        if not trial.repeats:
            self.log.append((our_id, epoch))
        if epoch == max(curve):
            result["status"] = decision = self.endings.get(our_id, "completed")
        else:
            decision = self.scheduler.on_trial_result(self, trial, result)
        trial.repeats, done[epoch] = False, curve[epoch]
        if epoch == max(curve) or decision == TrialScheduler.STOP:
            self.scheduler.on_trial_complete(self, trial, result)
            self._end(trial, "stopped" if decision == TrialScheduler.STOP else decision)
        elif trial.status == Trial.RUNNING:
            assert decision == TrialScheduler.CONTINUE
            self.running.append(trial)

    def _end(self, trial: PaperTrial, status: str) -> None:
        trial.status = Trial.TERMINATED
        self.places.discard(trial.trial_id)
        self.resting.discard(trial.config["trial_id"])
        self.ended[trial.config["trial_id"]] = status


def curves(*values: Iterable[float]) -> dict[str, dict[int, float]]:
    """These val_dice as those of t0000, t0001 and so on, epoch by epoch."""
    return {f"t{number:04d}": dict(enumerate(curve, start=1)) for number, curve in enumerate(values)}


def steady(*values: float, epochs: Sequence[int] = range(1, FOLD_EPOCHS + 1)) -> dict[str, dict[int, float]]:
    """Trials that show the same val_dice in each of these epochs."""
    return {f"t{number:04d}": dict.fromkeys(epochs, value) for number, value in enumerate(values)}
