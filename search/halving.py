"""Asynchronous successive halving: who is not among the best third at a rung is stopped, or waits for its turn.

Trials are compared by the best `val_dice` that each has shown so far, as the leaderboard compares them, and by their
costs where these are objectives, too (see `search.pareto.scores`).
"""

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from ray.tune.experiment import Trial
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from search.drivers import is_own
from search.ending import rests
from search.objectives import Point, costs_in_words, numbers_of
from search.pareto import scores
from search.patient_scheduler import PatientScheduler
from search.record import BAD_ENDINGS, TRIAL_ID, finite
from search.rungs import METRIC, NOTHING_SHOWN, REDUCTION, TIME, Rungs, Standing, shown

ENDED_AT_ONCE = 200  # trials that wait, between two looks at whether the search is interrupted


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
        for skipped, bracket in enumerate(self._brackets):
            bracket._rungs = [(epoch, {}) for epoch in reversed(rungs.epochs[skipped:])]
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
        self.hear(study.get_trials(deepcopy=False))

    def hear(self, trials: Sequence[FrozenTrial]) -> None:
        """Puts trials on the rungs that they have reached, under our trial ids; those that are there stay."""
        for trial in trials:
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


class Rung:
    """Who has come to a rung, best first, and who of them waits there.

    With one objective each trial is put in its place as it comes, so that no question takes longer the more have come.
    With several, the order depends on all who are there, and is made anew when it is asked for after one has come.
    """

    def __init__(self) -> None:
        self.points: dict[str, Point] = {}  # what they had shown by then; by our trial ids, as all that follows
        self._places: dict[str, tuple[float, str]] = {}  # the lower the better; of equal ones the older
        self._ranked: list[tuple[float, str]] = []
        self._waiting: list[tuple[float, str]] = []
        self._in_order = True

    @property
    def cutoff(self) -> float:
        """What the best third have at least; of fewer than three trials, the best one."""
        self._order()
        return -self._ranked[max(1, len(self._ranked) // REDUCTION) - 1][0]

    @property
    def next(self) -> str | None:
        """The best of those that wait, where it is among the best third by now."""
        self._order()
        our_id = self._waiting[0][1] if self._waiting else None
        return our_id if our_id is not None and self.may_go_on(our_id) else None

    def add(self, our_id: str, point: Point) -> None:
        """Takes in a trial that has come here."""
        self.points[our_id] = point
        if len(point) > 1:
            self._in_order = False
        else:
            self._places[our_id] = (-point[0], our_id)
            insort(self._ranked, self._places[our_id])

    def score(self, our_id: str) -> float:
        """How a trial compares with all others here, the higher the better."""
        self._order()
        return -self._places[our_id][0]

    def may_go_on(self, our_id: str) -> bool:
        """Whether a trial is among the best third here."""
        self._order()
        return bisect_left(self._ranked, self._places[our_id]) < len(self._ranked) // REDUCTION

    def wait(self, our_id: str) -> None:
        """Lets a trial wait."""
        self._order()
        insort(self._waiting, self._places[our_id])

    def leave(self, our_id: str) -> None:
        """Takes a trial from those that wait."""
        self._order()
        del self._waiting[bisect_left(self._waiting, self._places[our_id])]

    def _order(self) -> None:
        if self._in_order:
            return
        waiting = {our_id for _, our_id in self._waiting}
        found = scores([*self.points.values()])
        self._places = {our_id: (-score, our_id) for our_id, score in zip(self.points, found, strict=True)}
        self._ranked = sorted(self._places.values())
        self._waiting = [place for place in self._ranked if place[1] in waiting]
        self._in_order = True


class PromotingScheduler(PatientScheduler):
    """Lets those that fall behind wait, and go on when their turn comes (Li et al., 2020, arXiv 1810.05934, ASHA).

    A trial that comes to a rung goes on if it is among the best third of all that have come there, else it is paused
    and its place is free. A free place goes to the highest rung at which a trial waits that is among the best third by
    now, and only then to a new trial. So the first trials, of which nobody knows yet how good they are, cost no more
    than others. When the searcher has no more trials, nobody may go on and nothing runs any more, those that wait are
    stopped, from the highest rung down. But the best one of a rung goes on to its end where nobody else has come to
    theirs, or nobody was as good at this rung, but for those that ended badly: of fewer than three, no third can be
    told, and a bad ending takes nobody from the rungs.

    Nothing of a paused trial is kept in memory: it goes on from its own folder. In a later session it waits where it
    stood, without being started.

    Of Ray's controller it uses `pause_trial`, `stop_trial` and `search_alg.searcher`; of this (see `StudySearcher`),
    `has_room` and `draws_more`, and it tells it by `set_aside`, `take_place` and `free_place` who has a place.
    """

    def __init__(self, rungs: Rungs, costs: Sequence[str] = ()) -> None:
        """costs: what counts beside val_dice."""
        super().__init__()
        self._rungs = rungs
        self._costs = costs
        self._best: dict[str, Standing] = {}  # by our trial id, as all that follows
        self._reached = {epoch: Rung() for epoch in rungs.epochs if epoch < rungs.last}  # nobody waits at the end
        self._waits_at: dict[str, int] = {}  # those of earlier sessions included that are still to be handed out
        self._waiting: dict[str, Any] = {}  # Ray's trials that wait
        self._going: dict[str, Any] = {}  # those that run, or may be started
        self._ended_badly: set[str] = set()
        self._one_completed = False
        self._leader = ""  # the trial that goes on to the end whatever it meets, so that there is one that does

    @property
    def rungs(self) -> list[int]:
        """The epochs after which trials are compared, first to last."""
        return list(self._reached)

    def refill(self, study: optuna.Study) -> None:
        """Puts the trials of earlier sessions back on the rungs that they had reached; those that rest wait there."""
        for trial in study.get_trials(deepcopy=False):
            came_to = self._take_in(trial)
            if came_to is not None and is_own(study, trial) and rests(trial):
                self._waits_at[trial.user_attrs.get(TRIAL_ID, "")] = came_to

    def hear(self, trials: Sequence[FrozenTrial]) -> None:
        """Puts trials of other drivers on the rungs that they have reached, for its own to be compared with."""
        for trial in trials:
            self._take_in(trial)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Takes in a trial. One that waits since an earlier session is paused before it starts."""
        super().on_trial_add(tune_controller, trial)
        our_id = our_id_of(trial)
        self._ended_badly.discard(our_id)  # it is started again after its process died
        if our_id in self._waits_at:
            # Ray files a new trial by its status only after this call, and expects a folder of each when it ends.
            trial.set_status(Trial.PAUSED)
            trial.init_local_path()
            self._wait(trial, self._waits_at[our_id])
        else:
            self._going[our_id] = trial
            tune_controller.search_alg.searcher.take_place(trial.trial_id)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether the trial goes on or waits; a result in which an objective is no finite number does not count."""
        numbers, our_id = objectives_shown(result, self._costs), our_id_of(trial)
        if numbers is None or numbers[0] >= self._rungs.last or (rung := self._note(our_id, *numbers)) is None:
            return TrialScheduler.CONTINUE
        if our_id == self._leader or self._reached[rung].may_go_on(our_id):
            decision = TrialScheduler.CONTINUE
        else:
            # Asked by PAUSE, Ray would first call the worker for a checkpoint, which there is not, and start another
            # worker in the meantime.
            tune_controller.pause_trial(trial, should_checkpoint=False)
            del self._going[our_id]
            self._wait(trial, rung)
            self._reasons[trial.trial_id] = self._why(our_id)
            tune_controller.search_alg.searcher.set_aside(trial.trial_id)
            decision = TrialScheduler.NOOP
        self._promote(tune_controller)
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Forgets a trial that has ended, and gives its place to one that waits; its places on the rungs stay."""
        our_id, status = our_id_of(trial), result.get("status")
        self._going.pop(our_id, None)
        if status in BAD_ENDINGS:
            self._ended_badly.add(our_id)
        # Without any number, a training that says it completed has failed.
        known = our_id in self._best or objectives_shown(result, self._costs) is not None
        self._one_completed |= status == "completed" and known
        # The searcher hears of the end only after this call, and would draw a new trial at once.
        tune_controller.search_alg.searcher.free_place(trial.trial_id)
        self._promote(tune_controller)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Forgets a trial whose process died, until it is added again."""
        self._going.pop(our_id_of(trial), None)
        self._ended_badly.add(our_id_of(trial))
        super().on_trial_error(tune_controller, trial)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:  # noqa: ARG002 - Ray's signature
        """Forgets a trial that was ended before it ran, or while it waited."""
        our_id = our_id_of(trial)
        self._going.pop(our_id, None)
        if our_id in self._waiting:
            self._reasons[trial.trial_id] = self._why(our_id)
            self._leave(our_id)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """A trial that has a place and no worker, else None: first one that was paused, which Ray would not start.

        Of others that of the highest rung, and then the newest, as `PatientScheduler` does.
        """
        self._promote(tune_controller)
        ready = [trial for trial in self._going.values() if self._waits_for_worker(trial)]
        if ready:
            return max(ready, key=self._urgency)
        if self._going or tune_controller.search_alg.searcher.draws_more:
            return None
        return self._wind_up(tune_controller)

    def _take_in(self, trial: FrozenTrial) -> int | None:
        """Puts a trial of the study on the rungs that it has reached; the one that its last epoch brought it to."""
        our_id, came_to = trial.user_attrs.get(TRIAL_ID, ""), None
        for epoch, point in points_by_epoch(trial, self._rungs, self._costs).items():
            came_to = self._note(our_id, epoch, point)
        if trial.user_attrs.get("record", {}).get("status") in BAD_ENDINGS:
            self._ended_badly.add(our_id)
        self._one_completed |= trial.state == TrialState.COMPLETE
        return came_to

    def _wind_up(self, tune_controller: Any) -> Any:
        """The trial that goes on to the end, where one ought to; else None, and ends some that wait, highest first."""
        highest = max(self._waits_at.values(), default=0)
        waiting = sorted(our_id for our_id, rung in self._waits_at.items() if rung == highest)
        leader = max(waiting, key=lambda our_id: self._best[our_id], default=None)
        if leader is not None and (not self._one_completed or self._is_best(leader)):
            self._leader = leader
            return self._let_go_on(tune_controller, leader)
        for our_id in waiting[:ENDED_AT_ONCE]:
            tune_controller.stop_trial(self._waiting[our_id])
        return None

    def _is_best(self, our_id: str) -> bool:
        """Whether no other trial had as high a `val_dice` at the rung where this one waits, but for bad endings."""
        points = self._reached[self._waits_at[our_id]].points
        return all(points[our_id][0] > points[other][0] for other in points.keys() - self._ended_badly - {our_id})

    def _promote(self, tune_controller: Any) -> None:
        """Gives the free places to those that may go on, highest rung first."""
        while tune_controller.search_alg.searcher.has_room:
            found = (our_id for rung in reversed(self._reached.values()) if (our_id := rung.next) is not None)
            if (our_id := next(found, None)) is None:
                return
            self._let_go_on(tune_controller, our_id)

    def _wait(self, trial: Any, rung: int) -> None:
        """Lets a trial, which is paused, wait at a rung."""
        our_id = our_id_of(trial)
        self._reached[rung].wait(our_id)
        self._waits_at[our_id] = rung
        self._waiting[our_id] = trial

    def _let_go_on(self, tune_controller: Any, our_id: str) -> Any:
        """Gives a place to a trial that waits; the trial."""
        self._going[our_id] = trial = self._leave(our_id)
        self._reasons.pop(trial.trial_id, None)
        tune_controller.search_alg.searcher.take_place(trial.trial_id)
        return trial

    def _leave(self, our_id: str) -> Any:
        """Takes a trial from those that wait; the trial."""
        trial = self._waiting.pop(our_id)
        self._reached[self._waits_at.pop(our_id)].leave(our_id)
        return trial

    def _why(self, our_id: str) -> str:
        """Why a trial did not go on, in words that stay true while others come."""
        epoch = self._waits_at[our_id]
        rung = self._reached[epoch]
        count, point = len(rung.points), rung.points[our_id]
        if count < REDUCTION and rung.score(our_id) >= rung.cutoff:
            why = f"best val_dice {point[0]:.4f} by epoch {epoch}"
            return f"{why} was the best of {count} so far, and one in three goes on"
        return behind(point, self._costs, epoch, rung.cutoff, count)

    def _urgency(self, trial: Any) -> tuple[bool, int, int, str]:
        our_id = our_id_of(trial)
        height = max((epoch for epoch, rung in self._reached.items() if our_id in rung.points), default=0)
        return trial.status == Trial.PAUSED, height, len(our_id), our_id

    def _note(self, our_id: str, epoch: int, point: Point) -> int | None:
        """Takes in a result, and puts the trial on the rungs that it comes to by it; the highest of them, or None."""
        val_dice, *costs = point
        best = max(self._best.get(our_id, NOTHING_SHOWN), self._rungs.standing(epoch, val_dice))
        self._best[our_id] = best
        came_to = None
        for rung, reached in self._reached.items():
            if epoch >= rung and our_id not in reached.points:
                reached.add(our_id, (best[1], *costs))
                came_to = rung
        return came_to


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
        return f"{why} was not among the best third ({cutoff:.4f} or more)"
    return f"{why}, at {costs_in_words(costs, point[1:])}, was not among the best third of {count} in all that counts"
