"""How low the true mean behind a few values may be: the lower end of Student's confidence interval."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

LEVEL = 0.95  # how sure the bound is, to one side


def lower_bound(values: Sequence[float], level: float = LEVEL) -> float:
    """The mean less t x standard deviation / sqrt(n): the true mean lies above it with probability `level`.

    For two values or more, taken to be normal and independent (Student 1908, Biometrika 6:1).
    """
    assert len(values) > 1, "one value says nothing of the spread"
    return fmean(values) - t_quantile(level, len(values) - 1) * stdev(values) / math.sqrt(len(values))


def t_quantile(level: float, degrees: int) -> float:
    """The value below which Student's t with so many degrees of freedom lies with probability `level`, 0.5 to 1."""
    assert 0.5 <= level < 1 and degrees >= 1
    low, high = 0.0, math.pi / 2
    while low < (middle := (low + high) / 2) < high:
        if _share_within(middle, degrees) < 2 * level - 1:
            low = middle
        else:
            high = middle
    return math.tan(high) * math.sqrt(degrees)


def _share_within(angle: float, degrees: int) -> float:
    """The probability that |t| is at most tan(angle) x sqrt(degrees).

    Abramowitz and Stegun 1964, Handbook of Mathematical Functions, 26.7.3 and 26.7.4: finite sums, so it is exact.
    """
    odd = degrees % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for number in range(1 + odd, degrees, 2):
        total += term
        term *= number / (number + 1) * math.cos(angle) ** 2
    if odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total
