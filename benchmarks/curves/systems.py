"""The searches that are compared: a table of names, each with what makes its searcher and its scheduler.

All search the same space with the same number of workers; each other system is set up as its documentation shows, and
knows the most epochs of a training. Conditions between parameters are kept where a system knows such.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import optuna
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from search.schedulers import make_scheduler
from search.searcher import StudySearcher
from search.settings import Scheduler, SearcherName, SearchSettings
from search.space import suggest
from search.study import open_study

from .make_curves import MAX_EPOCHS, search_space
from .replay import METRIC, System, report_like_others, report_like_ours

# Makes a system from a seed, a number of workers, and a folder of its own to write in.
Maker = Callable[[int, int, Path], System]

SHIPPED = SearchSettings()


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A system to be compared: what makes it, and which names of our modules stand for something else meanwhile."""

    make: Maker
    replaced: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def made(self, seed: int, workers: int, folder: Path) -> Iterator[System]:
        """Inside, the system is there."""
        with ExitStack() as stack:
            for name, value in self.replaced.items():
                stack.enter_context(patch(name, value))
            yield self.make(seed, workers, folder)


def make_ours(searcher: str = SHIPPED.searcher, scheduler: str = SHIPPED.scheduler, *, thrifty: bool = False) -> Maker:
    """Our search as search/driver.py puts it together, with these names."""

    def make(seed: int, workers: int, folder: Path) -> System:
        journal = folder / "study.log"
        stopping = make_scheduler(scheduler, max_epochs=MAX_EPOCHS, study=open_study(journal))
        asking = StudySearcher(
            journal=journal,
            space=search_space(),
            searcher=searcher,
            num_trials=None,
            seed=seed,
            max_concurrent=workers,
            thrifty=thrifty,
            reason_of=stopping.reason,
        )
        return System(searcher=asking, scheduler=stopping, reports=report_like_ours)

    return make


def make_stock(grace_period: int = 1, reduction_factor: float = 4) -> Maker:
    """Ray's guide to OptunaSearch, with its ASHA: the space as Optuna's define-by-run, all else as it is by default."""

    def make(seed: int, workers: int, _folder: Path) -> System:
        searcher = OptunaSearch(_define_by_run, metric=METRIC, mode="max", seed=seed)
        return System(
            searcher=ConcurrencyLimiter(searcher, max_concurrent=workers),
            scheduler=ASHAScheduler(
                metric=METRIC,
                mode="max",
                max_t=MAX_EPOCHS,
                grace_period=grace_period,
                reduction_factor=reduction_factor,
            ),
            reports=report_like_others,
        )

    return make


def make_random(seed: int, workers: int, _folder: Path) -> System:
    """Values drawn at random, every training to its end."""
    sampler = optuna.samplers.RandomSampler(seed=seed)
    searcher = OptunaSearch(_define_by_run, metric=METRIC, mode="max", sampler=sampler)
    return System(
        searcher=ConcurrencyLimiter(searcher, max_concurrent=workers),
        scheduler=FIFOScheduler(),
        reports=report_like_others,
    )


def _no_start_points(*_: Any) -> list[dict[str, Any]]:
    return []


def _define_by_run(trial: Any) -> dict[str, Any]:
    """The space, its conditions included, in the words of Optuna."""
    return suggest(search_space(), trial)


def _make_syne_tune(method: str) -> Maker:
    """One of Syne Tune's methods, which is imported only when it is made."""

    def make(seed: int, workers: int, _folder: Path) -> System:
        from .syne_tune_search import make_syne_tune

        return make_syne_tune(method, seed, workers)

    return make


OURS, UNKNOWING = "ours", "ours, knowing nothing"
STOCK, RANDOM = "Ray: OptunaSearch + ASHA", "random, to the end"
NO_STARTS = {"search.proposals.start_points": _no_start_points}
NO_PRIOR = {"search.prior.STRENGTH": 0.0}

SYSTEMS: dict[str, Contender] = {
    OURS: Contender(make=make_ours()),
    UNKNOWING: Contender(make=make_ours(), replaced={**NO_STARTS, **NO_PRIOR}),
    STOCK: Contender(make=make_stock()),
    RANDOM: Contender(make=make_random),
    **{f"Syne Tune: {name}": Contender(make=_make_syne_tune(name)) for name in ("BOHB", "ASHA-BORE")},
}
VARIANTS: dict[str, Contender] = {
    "ours, no start points": Contender(make=make_ours(), replaced=NO_STARTS),
    "ours, no prior": Contender(make=make_ours(), replaced=NO_PRIOR),
    "ours, thrifty": Contender(make=make_ours(thrifty=True)),
    **{
        f"ours, {name}": Contender(make=make_ours(searcher=name))
        for name in get_args(SearcherName)
        if name != SHIPPED.searcher
    },
    **{
        f"ours, {name}": Contender(make=make_ours(scheduler=name))
        for name in get_args(Scheduler)
        if name not in (SHIPPED.scheduler, "wilcoxon")  # which compares folds, and there are none
    },
    f"{STOCK}, reduction 2": Contender(make=make_stock(reduction_factor=2)),
    f"{STOCK}, grace 3, reduction 3": Contender(make=make_stock(grace_period=3, reduction_factor=3)),
}
