"""Asynchronous successive halving: who is not among the best third at a rung is stopped, or waits for its turn.

Trials are compared by the best `val_dice` that each has shown so far, as the leaderboard compares them, and by their
costs where these are objectives, too (see `search.pareto.scores`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from search.objectives import Point, costs_in_words, numbers_of
from search.pareto import scores
from search.patient_scheduler import PatientScheduler
from search.record import TRIAL_ID, finite
from search.rungs import METRIC, NOTHING_SHOWN, REDUCTION, TIME, Rungs, Standing, shown


class HalvingScheduler(PatientScheduler, AsyncHyperBandScheduler):
    """Stops those that fall behind: Ray's own scheduler (Li et al., 2018, arXiv 1810.05934), with a memory.

    A trial that comes to a rung below the best third of those that were there before is stopped. The first to come have
    nobody to be compared with, and go on. With several brackets it is asynchronous HyperBand: each trial belongs to one
    of them for good, and that of bracket 1 passes by the first rung, that of bracket 2 by the first two, and so on; a
    bracket is the rarer the later it begins.
    """

    def __init__(self, rungs: Rungs, costs: Sequence[str] = (), *, brackets: int = 1) -> None:
        """costs: what counts beside val_dice."""
        super().__init__(
            time_attr=TIME,
            metric=METRIC,
            mode="max",
            max_t=rungs.last,
            grace_period=rungs.first,
            reduction_factor=REDUCTION,
            brackets=min(brackets, len(rungs.epochs)),
        )
        self._rungs = rungs
        self._costs = costs
        self._best: dict[str, Standing] = {}  # by our trial id
        # With costs, what trials had shown by a rung, by the id that Ray has there.
        self._points: dict[tuple[int, str], Point] = {}
        shares = np.exp([len(bracket._rungs) for bracket in self._brackets])
        self._shares = shares / shares.sum()

    @property
    def rungs(self) -> list[int]:
        """The epochs after which trials are compared, first to last."""
        return sorted({int(milestone) for bracket in self._brackets for milestone, _ in bracket._rungs})

    def refill(self, study: optuna.Study) -> None:
        """Puts the trials of earlier sessions back on the rungs that they had reached, under our trial ids."""
        for trial in study.get_trials(deepcopy=False):
            our_id = trial.user_attrs.get(TRIAL_ID, "")
            for epoch, point in points_by_epoch(trial, self._rungs, self._costs).items():
                self._best[our_id] = self._rungs.standing(epoch, point[0])
                _, recorded = self._keep(self._bracket_of(our_id), our_id, epoch, point)
                recorded[our_id] = point[0]  # with costs, the next to come has all scored anew

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Takes in a trial; one that goes on from an earlier session keeps its places, now under Ray's id of it."""
        super().on_trial_add(tune_controller, trial)
        our_id = our_id_of(trial)
        # Ray would draw it from numpy's common stream, and another one when the trial goes on.
        self._trial_info[trial.trial_id] = bracket = self._bracket_of(our_id)
        for rung, recorded in bracket._rungs:
            if our_id in recorded:
                recorded[trial.trial_id] = recorded.pop(our_id)
                if self._costs:
                    self._points[rung, trial.trial_id] = self._points.pop((rung, our_id))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ray's decision on the trial; a result in which an objective is no finite number does not count."""
        if (numbers := objectives_shown(result, self._costs)) is None:
            return TrialScheduler.CONTINUE
        epoch, point = self._note(trial, *numbers)
        bracket = self._trial_info[trial.trial_id]
        score, others = self._score(bracket, trial.trial_id, epoch, point)
        cutoff, count = finite(bracket.cutoff(others)), len(others) + 1
        decision: str = super().on_trial_result(tune_controller, trial, {TIME: epoch, METRIC: score})
        if decision == TrialScheduler.STOP and cutoff is not None and score < cutoff:
            self._reasons[trial.trial_id] = behind(point, self._costs, epoch, cutoff, count)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Forgets a trial that has ended; its places on the rungs stay."""
        if (numbers := objectives_shown(result, self._costs)) is not None:
            epoch, point = self._note(trial, *numbers)
            score, _ = self._score(self._trial_info[trial.trial_id], trial.trial_id, epoch, point)
            super().on_trial_complete(tune_controller, trial, {TIME: epoch, METRIC: score})

    def _note(self, trial: Any, epoch: int, point: Point) -> tuple[int, Point]:
        """Takes in a result; the epoch, and the result with the best `val_dice` so far."""
        our_id, (val_dice, *costs) = our_id_of(trial), point
        self._best[our_id] = max(self._best.get(our_id, NOTHING_SHOWN), self._rungs.standing(epoch, val_dice))
        return epoch, (self._best[our_id][1], *costs)

    def _bracket_of(self, our_id: str) -> Any:
        """The bracket of this trial, the same whenever it is asked for."""
        stream = np.random.default_rng(list(our_id.encode()))
        return self._brackets[stream.choice(len(self._brackets), p=self._shares)]

    def _score(self, bracket: Any, trial_id: str, epoch: int, point: Point) -> tuple[float, dict[str, float]]:
        """The number by which Ray is to compare the trial, and those of the others on the rung that it comes to now.

        There are none where it comes to no rung. trial_id: that which Ray has on its rungs. The others get their
        numbers anew: with several objectives these depend on all who are there.
        """
        rung, others = self._keep(bracket, trial_id, epoch, point)
        if not self._costs or not others:
            return point[0], others
        *of_others, own = scores([self._points[rung, one] for one in (*others, trial_id)])
        others |= dict(zip(others, of_others, strict=True))
        return own, others

    def _keep(self, bracket: Any, trial_id: str, epoch: int, point: Point) -> tuple[int, dict[str, float]]:
        """The rung that the trial comes to now, 0 for none, with the numbers of the others there; keeps what costs."""
        for rung, recorded in bracket._rungs:
            if epoch >= rung and trial_id not in recorded:
                if self._costs:
                    self._points[rung, trial_id] = point
                return rung, recorded
        return 0, {}


class PromotingScheduler(PatientScheduler):
    """Lets those that fall behind wait, and go on when their turn comes (Li et al., 2020, arXiv 1810.05934, ASHA).

    A trial that comes to a rung goes on if it is among the best third of all that have come there, else it is paused
    and its place is free. A free place goes to the highest rung at which a trial waits that is among the best third by
    now, and only then to a new trial. So the first trials, of which nobody knows yet how good they are, cost no more
    than others. When the searcher has no more trials, nobody may go on and nothing runs any more, those that wait are
    stopped. But the best one of the highest rung goes on to its end where nobody else has come to theirs, or nobody
    was as good at this rung: of fewer than three, no third can be told.

    Nothing of a paused trial is kept in memory: it goes on from its own folder. After an interrupt it waits again where
    it stood, without being started.

    Of Ray's controller it uses `get_trials`, `pause_trial`, `stop_trial` and `search_alg.searcher`; of this (see
    `StudySearcher`), `has_room` and `draws_more`, and it tells it by `free_place` and `take_place` who has no place.
    """

    def __init__(self, rungs: Rungs, costs: Sequence[str] = ()) -> None:
        """costs: what counts beside val_dice."""
        super().__init__()
        self._rungs = rungs
        self._costs = costs
        self._best: dict[str, Standing] = {}  # by our trial id, as all that follows
        # What those that came to a rung had shown by then; nobody waits at the end.
        self._recorded: dict[int, dict[str, Point]] = {epoch: {} for epoch in rungs.epochs if epoch < rungs.last}
        self._waits_at: dict[str, int] = {}
        self._ray_ids: dict[str, str] = {}  # of the trials of this session that have not ended
        self._one_completed = False
        self._leader = ""  # the trial that goes on to the end whatever it meets, so that there is one that does

    @property
    def rungs(self) -> list[int]:
        """The epochs after which trials are compared, first to last."""
        return list(self._recorded)

    def refill(self, study: optuna.Study) -> None:
        """Puts the trials of earlier sessions back on the rungs that they had reached; the unfinished wait there."""
        for trial in study.get_trials(deepcopy=False):
            our_id = trial.user_attrs.get(TRIAL_ID, "")
            for epoch, point in points_by_epoch(trial, self._rungs, self._costs).items():
                self._waits_at.pop(our_id, None)  # it has come further than that
                self._note(our_id, epoch, point)
            if trial.state.is_finished():
                self._waits_at.pop(our_id, None)
            self._one_completed |= trial.state == TrialState.COMPLETE

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Takes in a trial. One that had waited when the search was interrupted is paused before it starts."""
        super().on_trial_add(tune_controller, trial)
        our_id = our_id_of(trial)
        self._ray_ids[our_id] = trial.trial_id
        if our_id not in self._waits_at:
            return
        if our_id in self._best_third(self._waits_at[our_id]):
            del self._waits_at[our_id]
        else:
            # Ray files a new trial by its status only after this call, and expects a folder of each when it ends.
            trial.set_status(Trial.PAUSED)
            trial.init_local_path()
            tune_controller.search_alg.searcher.free_place(trial.trial_id)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether the trial goes on or waits; a result in which an objective is no finite number does not count."""
        numbers, our_id = objectives_shown(result, self._costs), our_id_of(trial)
        if numbers is None or numbers[0] >= self._rungs.last:
            return TrialScheduler.CONTINUE
        self._note(our_id, *numbers)
        if our_id not in self._waits_at:
            return TrialScheduler.CONTINUE
        if our_id == self._leader or our_id in self._best_third(self._waits_at[our_id]):
            del self._waits_at[our_id]
            decision = TrialScheduler.CONTINUE
        else:
            # Asked by PAUSE, Ray would first call the worker for a checkpoint, which there is not, and start another
            # worker in the meantime.
            tune_controller.pause_trial(trial, should_checkpoint=False)
            tune_controller.search_alg.searcher.free_place(trial.trial_id)
            decision = TrialScheduler.NOOP
        self._promote(tune_controller)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Forgets a trial that has ended, and gives its place to one that waits; its places on the rungs stay."""
        self._forget(trial)
        self._one_completed |= result.get("status") == "completed"
        # The searcher hears of the end only after this call, and would draw a new trial at once.
        tune_controller.search_alg.searcher.free_place(trial.trial_id)
        self._promote(tune_controller)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:  # noqa: ARG002 - Ray's signature
        """Forgets a trial that was ended while it waited."""
        self._forget(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The trial of the highest rung that may go on, else the oldest new one, else None."""
        self._promote(tune_controller)
        trials = [
            trial
            for trial in tune_controller.get_trials()
            if trial.status in (Trial.PENDING, Trial.PAUSED, Trial.RUNNING)
        ]
        ready = [
            trial
            for trial in trials
            if trial.status == Trial.PENDING
            or (trial.status == Trial.PAUSED and our_id_of(trial) not in self._waits_at)
        ]
        if ready:
            return max(ready, key=self._height)
        if any(trial.status == Trial.RUNNING for trial in trials) or tune_controller.search_alg.searcher.draws_more:
            return None
        return self._wind_up(tune_controller, trials)

    def _wind_up(self, tune_controller: Any, waiting: list[Any]) -> Any:
        """The trial that goes on to the end, where one ought to; else ends all that wait, and gives None."""
        leader = max(waiting, key=lambda trial: (self._height(trial), self._best[our_id_of(trial)]), default=None)
        if leader is not None and (not self._one_completed or self._is_best(our_id_of(leader))):
            self._leader = our_id_of(leader)
            del self._waits_at[self._leader]
            tune_controller.search_alg.searcher.take_place(leader.trial_id)
            return leader
        ordered = {rung: sorted(self._scores(rung).values(), reverse=True) for rung in self._recorded}
        for trial in waiting:
            our_id = our_id_of(trial)
            rung = self._waits_at[our_id]
            found, point = ordered[rung], self._recorded[rung][our_id]
            cutoff = found[max(1, len(found) // REDUCTION) - 1]
            self._reasons[trial.trial_id] = behind(point, self._costs, rung, cutoff, len(found))
            tune_controller.stop_trial(trial)
        return None

    def _is_best(self, our_id: str) -> bool:
        """Whether no other trial had as high a `val_dice` at the rung where this one waits."""
        recorded = self._recorded[self._waits_at[our_id]]
        return all(recorded[our_id][0] > point[0] for other, point in recorded.items() if other != our_id)

    def _promote(self, tune_controller: Any) -> None:
        """Gives the free places to those that may go on, highest rung first."""
        searcher = tune_controller.search_alg.searcher
        while searcher.has_room and (our_id := self._next()) is not None:
            del self._waits_at[our_id]
            searcher.take_place(self._ray_ids[our_id])

    def _next(self) -> str | None:
        """The trial of the highest rung that waits although it is among the best third by now."""
        for rung in reversed(self._recorded):
            for our_id in self._best_third(rung):
                if self._waits_at.get(our_id) == rung and our_id in self._ray_ids:
                    return our_id
        return None

    def _best_third(self, rung: int) -> list[str]:
        """Our ids of those that may go on from a rung, best first; of equal ones the older."""
        found = self._scores(rung)
        return sorted(found, key=lambda our_id: (-found[our_id], our_id))[: len(found) // REDUCTION]

    def _scores(self, rung: int) -> dict[str, float]:
        """By our ids, how those that have come to a rung compare there, the higher the better."""
        recorded = self._recorded[rung]
        return dict(zip(recorded, scores([*recorded.values()]), strict=True))

    def _height(self, trial: Any) -> int:
        """The highest rung that the trial has come to; 0 before the first."""
        return max((rung for rung, there in self._recorded.items() if our_id_of(trial) in there), default=0)

    def _note(self, our_id: str, epoch: int, point: Point) -> None:
        """Takes in a result, and puts the trial on the rungs that it has come to by it, where it waits to be judged."""
        val_dice, *costs = point
        best = max(self._best.get(our_id, NOTHING_SHOWN), self._rungs.standing(epoch, val_dice))
        self._best[our_id] = best
        for rung, recorded in self._recorded.items():
            if epoch >= rung and our_id not in recorded:
                recorded[our_id] = (best[1], *costs)
                self._waits_at[our_id] = rung

    def _forget(self, trial: Any) -> None:
        self._waits_at.pop(our_id_of(trial), None)
        self._ray_ids.pop(our_id_of(trial), None)


def our_id_of(trial: Any) -> str:
    """Our id of a trial of Ray's."""
    our_id: str = trial.config[TRIAL_ID]
    return our_id


def objectives_shown(result: Mapping[str, Any], costs: Sequence[str]) -> tuple[int, Point] | None:
    """Epoch, `val_dice` and costs of a result, or None where one of them is missing or no number."""
    numbers, of_costs = shown(result), numbers_of(result, costs)
    return None if numbers is None or of_costs is None else (numbers[0], (numbers[1], *of_costs))


def points_by_epoch(trial: FrozenTrial, rungs: Rungs, costs: Sequence[str]) -> dict[int, Point]:
    """For each epoch of a trial of the study, in order, where it stands there, with the costs that it has by now."""
    of_costs = numbers_of(trial.user_attrs.get("record", {}), costs)
    best = rungs.best_so_far(trial.intermediate_values)
    return {} if of_costs is None else {epoch: (value, *of_costs) for epoch, value in best.items()}


def behind(point: Point, costs: Sequence[str], epoch: int, cutoff: float, count: int) -> str:
    """Why a trial did not go on from a rung. count: how many came so far.

    cutoff: `val_dice` that the best third have at least; with costs it is a score, which is not told.
    """
    why = f"best val_dice {point[0]:.4f} by epoch {epoch}"
    if not costs:
        return f"{why} is not among the best third ({cutoff:.4f})"
    return f"{why}, at {costs_in_words(costs, point[1:])}, is not among the best third of {count} in all that counts"
