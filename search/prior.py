"""Where good values are expected before the search has found any: around the defaults, and around past trials.

The idea is that of piBO (Hvarfner et al., 2022, arXiv 2204.11051) and PriorBand (Mallik et al., 2023, arXiv
2306.12370) in a simple form: some trials are drawn near a point that a person, or an earlier search, found good, the
fewer the more this search knows itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from search.draft import Pick, at_random
from search.unit_interval import place_of, value_at

STRENGTH = 5.0  # the number of the trial, from 1, for which prior and searcher are asked equally often; 0 is no prior
DEVIATION = 0.2  # standard deviation of a number around the point's, as a share of its range
KEPT = 0.7  # how often an option is the point's


@dataclass(frozen=True, kw_only=True)
class PastTrial:
    """A point near which to look.

    values: of any parameters. weight: 0..1, how likely the point is chosen among others. first: whether it is to be
    tried itself before anything is drawn.
    """

    values: Mapping[str, Any]
    weight: float
    first: bool = False


def share_of_prior(number: int) -> float:
    """How likely the trial of this number, from 0, is drawn from the prior: less and less."""
    return STRENGTH / (STRENGTH + number + 1)


def near_one_of(points: Sequence[PastTrial], generator: np.random.Generator) -> Pick:
    """Values around one of the points, which is chosen once, by weight.

    A number is normally distributed around the point's (in magnitude where the range is drawn so), drawn again until
    it lies in the range; an option is mostly the point's own. What the point does not have, or has outside the range,
    is any value.
    """
    weights = np.array([point.weight for point in points])
    point = points[generator.choice(len(points), p=weights / weights.sum())].values
    uniform = at_random(generator)

    def pick(name: str, distribution: BaseDistribution) -> Any:
        place = place_of(distribution, point[name]) if name in point else None
        if place is None:
            return uniform(name, distribution)
        if isinstance(distribution, CategoricalDistribution):
            return point[name] if generator.random() < KEPT else uniform(name, distribution)
        drawn = generator.normal(place, DEVIATION)
        while not 0.0 <= drawn <= 1.0:
            drawn = generator.normal(place, DEVIATION)
        return value_at(distribution, drawn)

    return pick
