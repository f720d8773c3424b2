"""How the next trial is chosen from what is known: a table of names, most of them over Optuna's samplers.

A searcher is made once for a search and then asked for each trial by its number, from 0. Each trial has a random
stream of its own, so that a search that was interrupted draws what it would have drawn; with several objectives, as
long as no more trials have ended than are kept in mind (see `StudySearcher`): left-out ones would move the fronts.
"""

import math
import random
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.trial import TrialState, create_trial

from data.input_error import unknown_name
from search.cma_es import CmaEs
from search.draft import Pick, always_drawn, at_random, distributions_of, draw, from_point
from search.history import History, as_if_completed, narrowed
from search.space import Space
from search.unit_interval import place_of, value_at

# Chooses the values of a trial by its number, from what it asks of the trials so far; None when nothing is left to try.
PickOfTrial = Callable[[int, Callable[[], History]], Pick | None]

LEARNING = ("tpe", "gp", "cma_es")  # the searchers that need trials to learn from before they are of use
MOST_START_UP = 10  # trials that a searcher which learns is given to begin with
GRID_POINTS = 4  # values of a range that a grid has, at most
# Trials that a sampler is shown, which takes time for each, at each suggestion. TPE learns what is good from the best
# tenth, 25 at most, which it has of so many; what is not good, from the next best and the newest.
MOST_SHOWN = 250
FEWEST_NUMBERS = 2  # that CMA-ES can turn about each other


def make_searcher(name: str, space: Space, *, seed: int, start_up: int) -> PickOfTrial:
    """The searcher of this name for one search. Raises InputError for an unknown name.

    start_up: trials that must have ended before a searcher that learns is asked; see `start_up_of`.
    """
    if name not in SEARCHERS:
        raise unknown_name("searcher", name, SEARCHERS)
    return SEARCHERS[name](space, seed, start_up)


def start_up_of(num_trials: int | None) -> int:
    """How many trials a search of so many gives its searcher to learn from: half of a few, and never more than ten."""
    return MOST_START_UP if num_trials is None else min(MOST_START_UP, max(1, num_trials // 2))


def stream(seed: int, number: int) -> int:
    """The seed of the random stream of one trial."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


class Together(BaseSampler):
    """Draws the parameters that every trial has by one sampler, in one go, and all others by another, one by one.

    together: the sampler of the former, shown every trial as if it had completed (see `as_if_completed`); space: what
    they are drawn from. rest: the sampler of the latter, and of all while the first has too little to go by.
    """

    def __init__(
        self,
        together: BaseSampler,
        space: dict[str, BaseDistribution],
        rest: BaseSampler,
    ) -> None:
        self._together = together
        self._space = space
        self._rest = rest

    def infer_relative_search_space(self, *_: Any) -> dict[str, BaseDistribution]:
        """What is drawn in one go."""
        return self._space

    def sample_relative(self, study: Any, trial: Any, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """Their values."""
        return self._together.sample_relative(as_if_completed(study, search_space.keys()), trial, search_space)

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: BaseDistribution) -> Any:
        """A value of any other parameter."""
        return self._rest.sample_independent(_with_costs(study), trial, param_name, param_distribution)


def by_sampler(sampler: BaseSampler, history: History, number: int) -> Pick:
    """What a sampler of Optuna's chooses for the trial of this number."""
    trial = create_trial(state=TrialState.RUNNING)
    trial.number = number
    space = sampler.infer_relative_search_space(history, trial)
    relative = sampler.sample_relative(history, trial, space)

    def pick(name: str, distribution: BaseDistribution) -> Any:
        # Rounding may put a value just outside its range.
        if name in relative and place_of(distribution, relative[name]) is not None:
            return relative[name]
        return sampler.sample_independent(history, trial, name, distribution)

    return pick


def grid_points(space: Space, seed: int) -> Iterator[dict[str, Any]]:
    """Every combination of the space's options and of a few values of each range, once, in a random order.

    The ends of a range are among its values. Of combinations that differ only in parameters which mean nothing beside
    the others, one counts. They are never listed, so that a grid too large for that is of use, too.
    """
    options = {name: grid_values(distribution) for name, distribution in distributions_of(space).items()}
    total = math.prod(map(len, options.values()))
    generator, seen = random.Random(seed), set[int]()
    while len(seen) < total:
        rest = generator.randrange(total)
        if rest in seen:
            continue
        seen.add(rest)
        places = {}
        for name, values in options.items():
            rest, places[name] = divmod(rest, len(values))
        point = {name: values[places[name]] for name, values in options.items()}
        _, draft = draw(space, from_point(point, otherwise=_impossible))
        if not any(place for name, place in places.items() if name not in draft.params):
            yield draft.params


def grid_values(distribution: BaseDistribution) -> tuple[Any, ...]:
    """The values of a parameter that a grid has."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    values = [value_at(distribution, place) for place in np.linspace(0.0, 1.0, GRID_POINTS).tolist()]
    return tuple(dict.fromkeys(values))


def sobol_points(space: Space, seed: int) -> Iterator[dict[str, Any]]:
    """The points of the scrambled Sobol sequence of the seed (Owen, 1998), over all parameters; without end.

    A parameter that means nothing in a trial has its coordinate all the same, so each parameter's values are even.
    """
    from scipy.stats.qmc import Sobol  # type: ignore[import-untyped]

    distributions = distributions_of(space)
    sequence = Sobol(max(1, len(distributions)), scramble=True, rng=np.random.default_rng(seed))
    while True:
        places = sequence.random(1)[0].tolist()
        yield {name: value_at(distributions[name], place) for name, place in zip(distributions, places, strict=False)}


def _make_tpe(_space: Space, seed: int, start_up: int) -> PickOfTrial:
    """The tree-structured Parzen estimator (Bergstra et al., 2011), over parameters together.

    `group` keeps a parameter that not every trial has from shrinking the space that is drawn together. Trials that
    were stopped count by how far they came; those with a broken constraint stand below all others.
    """

    def pick_of_trial(number: int, history: Callable[[], History]) -> Pick:
        return by_sampler(_tpe(seed, number, start_up), _with_costs(narrowed(history(), MOST_SHOWN)), number)

    return pick_of_trial


def _make_gp(space: Space, seed: int, start_up: int) -> PickOfTrial:
    """A Gaussian process with expected improvement, over all parameters that every trial has; TPE draws the others."""
    return _fitting(GPSampler, always_drawn(space), seed, start_up)


def _make_cma_es(space: Space, seed: int, start_up: int) -> PickOfTrial:
    """CMA-ES (Hansen, 2016), over the ranges that every trial has; TPE draws the options, and all that has a condition.

    With fewer than two such ranges TPE draws all.
    """
    together = {
        name: distribution
        for name, distribution in always_drawn(space).items()
        if not isinstance(distribution, CategoricalDistribution)
    }
    if len(together) < FEWEST_NUMBERS:
        return _make_tpe(space, seed, start_up)
    optimizer = CmaEs(together)

    def pick_of_trial(number: int, history: Callable[[], History]) -> Pick:
        known = history()
        values = optimizer.suggest(known, stream(seed, number))
        others = by_sampler(_tpe(seed, number, start_up), narrowed(known, MOST_SHOWN), number)
        return from_point(values, otherwise=others)

    return pick_of_trial


def _fitting(
    make: Callable[..., BaseSampler], together: dict[str, BaseDistribution], seed: int, start_up: int
) -> PickOfTrial:
    """A sampler made for each trial, which draws `together`; TPE draws the rest."""

    def pick_of_trial(number: int, history: Callable[[], History]) -> Pick:
        sampler = make(seed=stream(seed, number), n_startup_trials=start_up, warn_independent_sampling=False)
        rest = _tpe(seed, number, start_up)
        return by_sampler(Together(sampler, together, rest), narrowed(history(), MOST_SHOWN), number)

    return pick_of_trial


def _make_random(_space: Space, seed: int, _start_up: int) -> PickOfTrial:
    """Any value, evenly."""
    return lambda number, _history: at_random(np.random.default_rng(stream(seed, number)))


def _make_quasi_random(space: Space, seed: int, _start_up: int) -> PickOfTrial:
    """The points of a Sobol sequence, which leave no gaps as random ones do."""
    return _one_by_one(sobol_points(space, seed))


def _make_grid(space: Space, seed: int, _start_up: int) -> PickOfTrial:
    """Every combination, once."""
    return _one_by_one(grid_points(space, seed))


def _one_by_one(points: Iterator[dict[str, Any]]) -> PickOfTrial:
    """The points, each as a pick, by their numbers."""
    found: list[dict[str, Any]] = []

    def pick_of_trial(number: int, _history: Callable[[], History]) -> Pick | None:
        found.extend(islice(points, max(0, number + 1 - len(found))))
        return from_point(found[number], otherwise=_impossible) if number < len(found) else None

    return pick_of_trial


def _tpe(seed: int, number: int, start_up: int) -> TPESampler:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Argument ``group``", category=ExperimentalWarning)
        return TPESampler(seed=stream(seed, number), multivariate=True, group=True, n_startup_trials=start_up)


def _with_costs(history: History) -> History:
    """The trials as TPE is to see them: of a stopped one it would take its last `val_dice`, and none of its costs."""
    return as_if_completed(history, ()) if len(history.directions) > 1 else history


def _impossible(name: str, _distribution: BaseDistribution) -> Any:
    raise AssertionError(f"{name} has no value in a point that has all")


SEARCHERS: dict[str, Callable[[Space, int, int], PickOfTrial]] = {
    "tpe": _make_tpe,
    "gp": _make_gp,
    "cma_es": _make_cma_es,
    "random": _make_random,
    "quasi_random": _make_quasi_random,
    "grid": _make_grid,
}
