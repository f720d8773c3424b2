"""The recorded learning curves, and which of them stands for a configuration that was never trained.

Any configuration is answered with the curve of the nearest recorded one that the search has not had yet. So every
replayed curve is a real one, and a search that looks closely at a good place sees something new there, as in reality:
were the same curve given again and again, whoever finds a good place soon would be held fast there. How much each
parameter weighs in the distance is learnt from the table itself: so that a configuration's nearest neighbour foretells
its best Dice.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.config import TrainConfig
from search.domain import Choice
from search.space import means_something, suggest

from .make_curves import FILE, SPACE, Draw, search_space

DEFAULTS = asdict(TrainConfig())
FACTORS = (0.25, 0.5, 2.0, 4.0)  # by which a parameter's weight is tried less and more
LEAST, MOST = 1 / 16, 16.0  # of a weight: no parameter is left out, none decides alone
STARTS = 4  # from which weights are searched, the first one with all alike
SWEEPS = 10  # over all parameters at most

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One recorded training.

    values: of the parameters of `SPACE` that meant something. val_dice, seconds: of each epoch that was reported.
    status, reason: how it ended, as in the leaderboard. last_seconds: what the epoch took in which it ended badly; it
    was not measured, and is taken to be as long as its others, or as the table's where it has none.
    """

    values: Mapping[str, Any]
    val_dice: tuple[float, ...]
    seconds: tuple[float, ...]
    status: str
    reason: str
    last_seconds: float

    @property
    def best(self) -> float:
        """The highest Dice of its epochs, 0 where it has none."""
        return max(self.val_dice, default=0.0)


@dataclass(frozen=True, kw_only=True)
class Table:
    """All recorded trainings of one task, in an order that says nothing of them, and the weights of the distance."""

    curves: tuple[Curve, ...]
    weights: Floats

    @property
    def best(self) -> float:
        """The highest Dice of all."""
        return max(curve.best for curve in self.curves)

    def nearest(self, config: Mapping[str, Any]) -> Curve:
        """The curve nearest to this configuration; of several as near, always the same one."""
        return self.curves[int(np.argmin(self._distances(config)))]

    def answer(self) -> Callable[[Mapping[str, Any]], Curve]:
        """What answers the configurations of one search: each curve once, and all again when all were given."""
        given = np.zeros(len(self.curves), dtype=bool)

        def nearest_other(config: Mapping[str, Any]) -> Curve:
            if given.all():
                given[:] = False
            index = int(np.argmin(np.where(given, np.inf, self._distances(config))))
            given[index] = True
            return self.curves[index]

        return nearest_other

    def _distances(self, config: Mapping[str, Any]) -> Floats:
        """How far the configuration is from each recorded one, (N,)."""
        meant = {
            name: config[name] for name in SPACE if name in config and means_something(name, {**DEFAULTS, **config})
        }
        return differences(encode(meant), self._encoded) @ self.weights

    @cached_property
    def _encoded(self) -> Floats:
        return np.stack([encode(curve.values) for curve in self.curves])


DOMAINS = {name: search_space().domains[name] for name in SPACE}
IS_NUMBER = np.array(
    [not isinstance(domain, Choice) or not isinstance(domain.options[0], str) for domain in DOMAINS.values()]
)


def read_tables(file: Path = FILE) -> dict[str, Table]:
    """The table of each task in the file, with the weights that foretell best."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        lines.setdefault(line["task"], []).append(line)
    return {task: make_table(lines[task]) for task in sorted(lines)}


def make_table(lines: Sequence[Mapping[str, Any]]) -> Table:
    """The table of these lines of one task, whatever their order."""
    usual = fmean(seconds for line in lines for seconds in line["seconds"])
    curves = tuple(
        Curve(
            values=line["values"],
            val_dice=tuple(line["val_dice"]),
            seconds=tuple(line["seconds"]),
            status=line["status"],
            reason=line["reason"],
            last_seconds=fmean(line["seconds"] or [usual]),
        )
        for line in sorted(lines, key=_shuffled)
    )
    apart, best = _differences_within(curves), np.array([curve.best for curve in curves])
    return Table(curves=curves, weights=learn_weights(apart, best))


def encode(values: Mapping[str, Any]) -> Floats:
    """The values as numbers (P,): ranges and choices of numbers from 0 to 1, other choices as their position; NaN for
    what is missing."""
    encoded = np.full(len(DOMAINS), np.nan)
    for position, (name, domain) in enumerate(DOMAINS.items()):
        if name not in values:
            continue
        if isinstance(domain, Choice):
            index = domain.options.index(values[name])
            encoded[position] = index / (len(domain.options) - 1) if IS_NUMBER[position] else index
        else:
            scale = np.log if domain.log else float
            low, high, value = scale(domain.low), scale(domain.high), scale(values[name])
            encoded[position] = (value - low) / (high - low)
    return encoded


def differences(one: Floats, others: Floats) -> Floats:
    """How far apart encoded configurations are in each parameter, 0 to 1, (N, P); 0 where one of them lacks it."""
    apart = np.where(IS_NUMBER, np.abs(one - others), one != others)
    return np.where(np.isnan(one) | np.isnan(others), 0.0, apart)


def learn_weights(apart: Floats, best: Floats, seed: int = 0) -> Floats:
    """Weights of the parameters (P,) with which the nearest other configuration foretells the best Dice best.

    apart: differences (N, N, P). best: (N,). One weight after the other is tried less and more as long as the mean
    error falls, from several starts.
    """
    draw = np.random.default_rng(seed)
    found: list[tuple[float, Floats]] = []
    for start in range(STARTS):
        weights = np.ones(apart.shape[2]) if start == 0 else np.exp(draw.normal(size=apart.shape[2]))
        error = mean_error(apart, best, weights)
        for _ in range(SWEEPS):
            before = error
            for position in draw.permutation(len(weights)):
                for factor in FACTORS:
                    tried = weights.copy()
                    tried[position] = np.clip(tried[position] * factor, LEAST, MOST)
                    if (its_error := mean_error(apart, best, tried)) < error:
                        weights, error = tried, its_error
            if error == before:
                break
        found.append((error, weights))
    return min(found, key=lambda pair: pair[0])[1]


def foretold(apart: Floats, best: Floats, weights: Floats) -> Floats:
    """The best Dice of each configuration's nearest other one, (N,)."""
    distances = apart @ weights
    np.fill_diagonal(distances, np.inf)
    return best[np.argmin(distances, axis=1)]


def mean_error(apart: Floats, best: Floats, weights: Floats) -> float:
    """Mean distance between the best Dice and what the nearest other configuration foretells."""
    return float(np.abs(foretold(apart, best, weights) - best).mean())


@dataclass(frozen=True, kw_only=True)
class Quality:
    """How well a table answers for configurations that it does not hold.

    rank_correlation, error: between a configuration's best Dice and its nearest other one's, with weights that were
    learnt without it (from the other half of the table). spread: the error of always saying the median. good: how
    many recorded configurations are within `near` of the best. good_share: the share of the space that they answer for.
    """

    rank_correlation: float
    error: float
    spread: float
    good: int
    good_share: float


def judge_table(table: Table, near: float, draws: int = 5_000) -> Quality:
    """How well the table answers; `draws` configurations are drawn at random for `good_share`."""
    apart, best = _differences_within(table.curves), np.array([curve.best for curve in table.curves])
    half = np.arange(len(best)) % 2 == 0
    told = np.empty_like(best)
    for learnt, other in ((half, ~half), (~half, half)):
        weights = learn_weights(apart[np.ix_(learnt, learnt)], best[learnt])
        told[other] = foretold(apart, best, weights)[other]
    good = best >= table.best - near
    return Quality(
        rank_correlation=float(np.corrcoef(_ranks(told), _ranks(best))[0, 1]),
        error=float(np.abs(told - best).mean()),
        spread=float(np.abs(best - np.median(best)).mean()),
        good=int(good.sum()),
        good_share=fmean(table.nearest(config).best >= table.best - near for config in _draw_configs(draws)),
    )


def _draw_configs(count: int) -> list[dict[str, Any]]:
    """Configurations drawn at random from the space, each value alike."""
    draw = Draw((0,))
    return [suggest(search_space(), draw) for _ in range(count)]  # type: ignore[arg-type]


def _differences_within(curves: Sequence[Curve]) -> Floats:
    """The differences (N, N, P) between these curves' configurations."""
    encoded = np.stack([encode(curve.values) for curve in curves])
    return np.stack([differences(one, encoded) for one in encoded])


def _ranks(values: Floats) -> Floats:
    """The rank of each value, the mean one for equals."""
    in_order = np.sort(values)
    return (np.searchsorted(in_order, values, "left") + np.searchsorted(in_order, values, "right")) / 2


def _shuffled(line: Mapping[str, Any]) -> str:
    """A key that puts lines in an order that has nothing to do with their number or their values."""
    return hashlib.sha256(json.dumps(line["values"], sort_keys=True).encode()).hexdigest()
