"""Stopping by what trials that came to their end had shown: Optuna's pruners, as schedulers of Ray."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, MedianPruner, WilcoxonPruner
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray.tune.schedulers import TrialScheduler

from search.drivers import is_own
from search.patient_scheduler import PatientScheduler
from search.record import TRIAL_ID
from search.rungs import LEAST_FOLDS, Rungs, shown

COMPARED_WITH = 4  # completed trials, before the median of fewer says anything
# Of Wilcoxon's test. A trial that is worse in each of three folds has 1/8, the least that there is, in four 1/16.
HIGHEST_P = 0.15


class PruningScheduler(PatientScheduler, ABC):
    """Stops a trial when a pruner of Optuna would, asked with all that trials have shown so far.

    What completed trials had shown stands in a study of its own, in memory, so that it is there the moment it is
    reported. Of `val_dice` only numbers count; an epoch that is reported once more is judged no second time.
    """

    def __init__(self, rungs: Rungs, pruner: BasePruner) -> None:
        super().__init__()
        self._rungs = rungs
        self._pruner = pruner
        self._study = optuna.create_study(direction="maximize")
        self._curves: dict[str, dict[int, float]] = {}  # our trial id -> val_dice by epoch, of those under way
        self._heard: set[int] = set()  # numbers of the completed trials that came from the study

    @abstractmethod
    def steps(self, curve: Mapping[int, float]) -> dict[int, float]:
        """What the pruner compares, step by step, of a trial with this `val_dice` by epoch."""

    def judged(self, steps: Mapping[int, float]) -> Mapping[int, float]:
        """Those of the steps by which the pruner judges the trial."""
        return steps

    @abstractmethod
    def why(self, steps: Mapping[int, float]) -> str:
        """Why a trial that has shown this is stopped."""

    def refill(self, study: optuna.Study) -> None:
        """Takes over what completed trials of earlier sessions had shown, and how far unfinished ones had come."""
        self.hear(study.get_trials(deepcopy=False))
        for trial in study.get_trials(deepcopy=False):
            if is_own(study, trial) and not trial.state.is_finished():
                self._curves[trial.user_attrs.get(TRIAL_ID, "")] = dict(trial.intermediate_values)

    def hear(self, trials: Sequence[FrozenTrial]) -> None:
        """Takes over what completed trials of other drivers had shown, once."""
        for trial in trials:
            if trial.state == TrialState.COMPLETE and trial.number not in self._heard:
                self._heard.add(trial.number)
                self._remember(trial.intermediate_values)

    def on_trial_result(
        self,
        tune_controller: Any,  # noqa: ARG002 - Ray's signature
        trial: Any,
        result: dict[str, Any],
    ) -> str:
        """Whether the trial goes on or is stopped; a result that has no finite `val_dice` does not count."""
        numbers = shown(result)
        curve = self._curves.setdefault(trial.config[TRIAL_ID], {})
        if numbers is None or numbers[0] in curve or numbers[0] >= self._rungs.last:
            return TrialScheduler.CONTINUE
        before = self.steps(curve)
        curve.update([numbers])
        steps = self.steps(curve)
        if steps.keys() == before.keys():
            return TrialScheduler.CONTINUE
        judged = create_trial(state=TrialState.RUNNING, intermediate_values=dict(self.judged(steps)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of folds that the best trial has no number of
            stops = self._pruner.prune(self._study, judged)
        if not stops:
            return TrialScheduler.CONTINUE
        self._reasons[trial.trial_id] = self.why(steps)
        return TrialScheduler.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Forgets a trial that has ended; one that came to its end is there for others to be compared with."""
        curve = self._curves.pop(trial.config[TRIAL_ID], {})
        if (numbers := shown(result)) is not None:
            curve.update([numbers])
        if result.get("status") == "completed":
            self._remember(curve)
        super().on_trial_complete(tune_controller, trial, result)

    def _remember(self, curve: Mapping[int, float]) -> None:
        """Adds a trial that came to its end."""
        best = self._rungs.best_so_far(curve)
        if best:
            self._study.add_trial(create_trial(value=best[max(best)], intermediate_values=self.steps(curve)))


class MedianScheduler(PruningScheduler):
    """Stops a trial whose best `val_dice` so far is below the median of the completed ones' by the same epoch.

    The rule of Golovin et al. (2017, Google Vizier), with the median of the best so far. No trial is judged before the
    first rung, nor while fewer than `COMPARED_WITH` have been completed.
    """

    def __init__(self, rungs: Rungs) -> None:
        super().__init__(rungs, MedianPruner(COMPARED_WITH, rungs.first, n_min_trials=COMPARED_WITH))

    def steps(self, curve: Mapping[int, float]) -> dict[int, float]:
        """The best `val_dice` by each epoch."""
        return self._rungs.best_so_far(curve)

    def judged(self, steps: Mapping[int, float]) -> Mapping[int, float]:
        """The last step: Optuna would take the highest one, which may be that of fewer folds."""
        last = max(steps)
        return {last: steps[last]}

    def why(self, steps: Mapping[int, float]) -> str:
        """Names the median."""
        epoch = max(steps)
        others = [trial.intermediate_values for trial in self._study.get_trials(deepcopy=False)]
        middle = median(values[epoch] for values in others if epoch in values)
        return f"best val_dice {steps[epoch]:.4f} by epoch {epoch} is below the median of others ({middle:.4f})"


class WilcoxonScheduler(PruningScheduler):
    """Stops a trial that is surely worse than the best completed one, fold by fold.

    By Wilcoxon's signed-rank test of the differences: it asks whether the trial falls behind in fold after fold, not
    whether its mean is lower, as folds differ more from each other than trials do. With fewer than `LEAST_FOLDS` it
    never stops anybody.
    """

    def __init__(self, rungs: Rungs) -> None:
        assert rungs.folds >= LEAST_FOLDS
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            super().__init__(rungs, WilcoxonPruner(p_threshold=HIGHEST_P))

    def steps(self, curve: Mapping[int, float]) -> dict[int, float]:
        """The best `val_dice` of each fold that is through, by its number from 1.

        A trial reports the mean over the folds up to one; m_k of k folds gives fold k as k m_k - (k - 1) m_(k-1).
        """
        means = {0: 0.0} | {
            epoch // self._rungs.max_epochs: value
            for epoch, value in self._rungs.best_so_far(curve).items()
            if epoch % self._rungs.max_epochs == 0
        }
        # Rounded, as of two equal folds the test would take the one with the smaller rounding error for worse.
        return {
            fold: round(fold * mean - (fold - 1) * means[fold - 1], 9)
            for fold, mean in means.items()
            if fold and fold - 1 in means
        }

    def why(self, steps: Mapping[int, float]) -> str:
        """Names the means of the trial and of the best one over the same folds."""
        best = self._study.best_trial.intermediate_values
        own, others = zip(*((value, best[fold]) for fold, value in steps.items() if fold in best), strict=True)
        return f"val_dice {fmean(own):.4f} is below the best trial ({fmean(others):.4f}) in fold after fold"
