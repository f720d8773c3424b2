"""Values of a hyperparameter as places between 0 and 1, and back: one measure for ranges, options and magnitudes."""

import math
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution


def value_at(distribution: BaseDistribution, place: float) -> Any:
    """The value at this place, 0..1, of a distribution: evenly over its options or its range, or over the magnitudes.

    Every whole number has as much room as any other.
    """
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[min(int(place * len(distribution.choices)), len(distribution.choices) - 1)]
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if place in (0.0, 1.0):  # of which logarithms would make something a little else
        return distribution.high if place else distribution.low
    low, high = _ends(distribution)
    number = low + place * (high - low)
    number = math.exp(number) if distribution.log else number
    if isinstance(distribution, IntDistribution):
        number = round(number)
    return min(max(number, distribution.low), distribution.high)


def place_of(distribution: BaseDistribution, value: Any) -> float | None:
    """The place, 0..1, at which the distribution has this value; None where it has no such value."""
    if isinstance(distribution, CategoricalDistribution):
        if value not in distribution.choices:
            return None
        return (distribution.choices.index(value) + 0.5) / len(distribution.choices)
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    if not distribution.low <= value <= distribution.high:
        return None
    low, high = _ends(distribution)
    return ((math.log(value) if distribution.log else value) - low) / (high - low)


def _ends(distribution: IntDistribution | FloatDistribution) -> tuple[float, float]:
    """Where the range begins and ends, as logarithms where it is drawn by magnitude."""
    half = 0.5 if isinstance(distribution, IntDistribution) else 0.0
    low, high = distribution.low - half, distribution.high + half
    return (math.log(low), math.log(high)) if distribution.log else (low, high)
