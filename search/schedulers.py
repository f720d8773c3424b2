"""When to stop a trial that is not worth going on with: a table of names over schedulers for Ray Tune."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import optuna

from data.input_error import unknown_name
from search.halving import HalvingScheduler, PromotingScheduler
from search.patient_scheduler import PatientScheduler
from search.pruning import MedianScheduler, WilcoxonScheduler
from search.rungs import EARLY_WITHIN, Rungs

BRACKETS = 3  # of HyperBand; one that begins later still would stop next to nobody


def make_scheduler(
    name: str,
    *,
    max_epochs: int,
    evaluate_every: int = 1,
    folds: int = 1,
    costs: Sequence[str] = (),
    study: optuna.Study | None = None,
) -> PatientScheduler:
    """The scheduler of this name for trials of so many folds, each of at most so many epochs.

    evaluate_every: epochs between two results of a trial, the most that any has. costs: what counts beside val_dice.
    study: the one that is continued, by whose trials the new ones are judged too. Raises InputError for an unknown
    name.
    """
    if name not in SCHEDULERS:
        raise unknown_name("scheduler", name, SCHEDULERS)
    scheduler = SCHEDULERS[name](Rungs(max_epochs=max_epochs, evaluate_every=evaluate_every, folds=folds), costs)
    if study is not None:
        scheduler.refill(study)
    return scheduler


SCHEDULERS: dict[str, Callable[[Rungs, Sequence[str]], PatientScheduler]] = {
    "asha": HalvingScheduler,
    "asha_promote": lambda rungs, costs: PromotingScheduler(replace(rungs, within=EARLY_WITHIN), costs),
    "hyperband": lambda rungs, costs: HalvingScheduler(rungs, costs, brackets=BRACKETS),
    "median": lambda rungs, _costs: MedianScheduler(rungs),
    "wilcoxon": lambda rungs, _costs: WilcoxonScheduler(rungs),
    "none": lambda _rungs, _costs: PatientScheduler(),
}
