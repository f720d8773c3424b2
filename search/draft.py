"""A trial before it stands in the study: its values, drawn through the space and its conditions, in memory."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from search.space import Space, suggest
from search.unit_interval import place_of, value_at

if TYPE_CHECKING:
    import optuna

# Chooses the value of a parameter, by its name, among those that its distribution has.
Pick = Callable[[str, BaseDistribution], Any]


class Draft:
    """What a domain of the space asks of an Optuna trial, answered by a `Pick`, and the answers.

    params, distributions: name -> value, and what it was drawn from, of every parameter that was drawn; pinned ones,
    and those that mean nothing beside the others, are not. notes: what a sampler wants to find again beside the trial.
    """

    def __init__(self, pick: Pick) -> None:
        self.params: dict[str, Any] = {}
        self.distributions: dict[str, BaseDistribution] = {}
        self.notes: dict[str, Any] = {}
        self._pick = pick

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        """A whole number of this range, both ends included."""
        return int(self._draw(name, IntDistribution(low, high, log=log)))

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number of this range, both ends included."""
        return float(self._draw(name, FloatDistribution(low, high, log=log)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of these options."""
        return self._draw(name, CategoricalDistribution(choices))

    def _draw(self, name: str, distribution: BaseDistribution) -> Any:
        self.params[name] = self._pick(name, distribution)
        self.distributions[name] = distribution
        assert place_of(distribution, self.params[name]) is not None
        return self.params[name]


def draw(space: Space, pick: Pick) -> tuple[dict[str, Any], Draft]:
    """Values for one training, pinned ones included: what `TrainConfig` takes; and the draft with what was drawn."""
    draft = Draft(pick)
    return suggest(space, cast("optuna.Trial", draft)), draft


def distributions_of(space: Space) -> dict[str, BaseDistribution]:
    """What each parameter that is searched is drawn from, in the order of the space, whatever its condition."""
    draft = Draft(lambda _name, distribution: value_at(distribution, 0.0))
    for name, domain in space.domains.items():
        domain.suggest(name, cast("optuna.Trial", draft))
    return draft.distributions


def always_drawn(space: Space) -> dict[str, BaseDistribution]:
    """What those parameters are drawn from that every trial has."""
    return {
        name: distribution
        for name, distribution in distributions_of(space).items()
        if all(name in way for way in space.combinations([name]))
    }


def at_random(generator: np.random.Generator) -> Pick:
    """Any value, evenly, or evenly by magnitude where the range is drawn so."""
    return lambda _name, distribution: value_at(distribution, generator.random())


def from_point(point: Mapping[str, Any], otherwise: Pick) -> Pick:
    """The values of a point, and another pick's for parameters that it does not have."""
    return lambda name, distribution: point[name] if name in point else otherwise(name, distribution)
