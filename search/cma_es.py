"""CMA-ES over the ranges of a space, whose state is never stored: it is made again by replaying what it was told.

Optuna's sampler keeps its state in the study, as a pickle, which runs whatever code a stranger put there when a search
goes on. Here each trial has beside it the generation that it belongs to, and the first one of a generation the numbers
of the trials that the optimizer was told just before, the best one first. CMA-ES asks for no more than that order
(Hansen, 2016, arXiv 1604.00772), so that it is where it was to the last bit.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from cmaes import CMA  # type: ignore[import-untyped]
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from search.history import ENDED, History, as_if_completed, history_of
from search.unit_interval import place_of, value_at

GENERATION = "cma_es:generation"  # beside a trial: the one that it was drawn for, from 0
TOLD = "cma_es:told"  # beside the first trial of a generation: numbers of those of the one before, the best one first
FIRST_DEVIATION = 1 / 6  # of the first generation around the middle, as a share of each range
SEEDS = 2**32  # that NumPy takes


class CmaEs:
    """The optimizer of one search, over these ranges.

    distributions: of two parameters or more, numbers and no options, which every trial has.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self._distributions = dict(distributions)
        self._over = 0  # generations
        self._optimizer = self._begin()

    def suggest(self, history: History, seed: int) -> dict[str, Any]:
        """Values for the next trial; what it needs to be found again goes into the history's notes.

        history: of which only the study behind it counts here: a trial that is of no use for other samplers any more
        may be one of those that the optimizer was told of. seed: of the random stream of the trial.
        """
        whole = history_of(history.study)
        trials = whole.get_trials(deepcopy=False)
        self._replay(trials)
        told = self._ranked(whole, [one for one in trials if one.system_attrs.get(GENERATION) == self._over])
        if len(told) == self._optimizer.population_size:
            self._tell(told)
            history.notes.set_trial_system_attr(0, TOLD, [trial.number for trial in told])
        history.notes.set_trial_system_attr(0, GENERATION, self._over)
        self._optimizer.reseed_rng(seed % SEEDS)
        places = self._optimizer.ask().tolist()
        return {
            name: value_at(one, place) for (name, one), place in zip(self._distributions.items(), places, strict=True)
        }

    def _ranked(self, history: History, members: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """The first trials of a generation that have ended, no more than it has, the best one first."""
        shown = as_if_completed(History(history.study, members), self._distributions)
        ended = shown.get_trials(deepcopy=False, states=ENDED)[: self._optimizer.population_size]
        return sorted(ended, key=lambda trial: (-trial.values[0], trial.number))

    def _replay(self, trials: Sequence[FrozenTrial]) -> None:
        """Tells the optimizer what the study says that it was told, as far as it has not been since it was made."""
        by_number = {trial.number: trial for trial in trials}
        noting = [trial.system_attrs for trial in reversed(trials) if TOLD in trial.system_attrs]
        noted = {str(notes.get(GENERATION)): notes[TOLD] for notes in noting}
        while isinstance(numbers := noted.get(str(self._over + 1)), list):
            told = [by_number[number] for number in numbers if type(number) is int and number in by_number]
            known = all(self._distributions.keys() <= trial.params.keys() for trial in told)
            if len(told) != self._optimizer.population_size or not known:
                return  # of another space, or damaged: it goes on from here
            self._tell(told)

    def _tell(self, ranked: Sequence[FrozenTrial]) -> None:
        """Takes in a generation, the best one first; begins anew once there is nothing more to be found nearby."""
        self._optimizer.tell([(self._place(trial), float(rank)) for rank, trial in enumerate(ranked)])
        self._over += 1
        if self._optimizer.should_stop():
            self._optimizer = self._begin()

    def _place(self, trial: FrozenTrial) -> npt.NDArray[np.float64]:
        """Where a trial lies: for each range a number of 0..1, (D,)."""
        places = [place_of(one, trial.params[name]) for name, one in self._distributions.items()]
        return np.array([0.5 if place is None else place for place in places])

    def _begin(self) -> CMA:
        count = len(self._distributions)
        bounds = np.tile([0.0, 1.0], (count, 1))
        return CMA(np.full(count, 0.5), FIRST_DEVIATION, bounds=bounds, n_max_resampling=10 * count)
