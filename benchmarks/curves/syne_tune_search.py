"""Syne Tune's schedulers behind Ray's interfaces, called when Syne Tune's own Tuner calls them."""

from datetime import datetime
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, loguniform, ordinal, randint, uniform
from syne_tune.optimizer import scheduler as syne_tune
from syne_tune.optimizer.baselines import ASHABORE, BOHB

from search.domain import Choice, Domain

from .make_curves import MAX_EPOCHS
from .replay import METRIC, System, report_like_others
from .table import DOMAINS

# ASHA-CQR is left out: it wants the packages with which Syne Tune fetches recorded searches from a public hub.
METHODS = {"BOHB": BOHB, "ASHA-BORE": ASHABORE}


class SyneTuneSearcher(Searcher):
    """Asks a scheduler of Syne Tune for trials, as many at a time as there are workers."""

    def __init__(self, scheduler: syne_tune.TrialScheduler, workers: int) -> None:
        super().__init__(metric=METRIC, mode="max")
        self.running: dict[str, Trial] = {}
        self._scheduler = scheduler
        self._workers = workers
        self._count = 0

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """What Syne Tune suggests, or None while all workers are taken."""
        if len(self.running) >= self._workers:
            return None
        suggestion = self._scheduler.suggest()
        assert suggestion is not None and suggestion.spawn_new_trial_id
        trial = Trial(trial_id=self._count, config=suggestion.config, creation_time=datetime.now())
        self._count += 1
        self._scheduler.on_trial_add(trial)
        self.running[trial_id] = trial
        return dict(suggestion.config)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: ARG002
        """Hears that a trial has ended; Syne Tune is told of errors only, it has decided all else itself."""
        trial = self.running.pop(trial_id)
        if error:
            self._scheduler.on_trial_error(trial)


class SyneTuneScheduler(FIFOScheduler):
    """Hands results to a scheduler of Syne Tune, and its decisions to Ray."""

    def __init__(self, scheduler: syne_tune.TrialScheduler, searcher: SyneTuneSearcher) -> None:
        super().__init__()
        self._scheduler = scheduler
        self._searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002
        """Syne Tune's decision, in the same words as Ray's."""
        its_trial = self._searcher.running[trial.trial_id]
        reported = {METRIC: result[METRIC], "training_iteration": result["training_iteration"]}
        decision = self._scheduler.on_trial_result(its_trial, reported)
        assert decision in (TrialScheduler.CONTINUE, TrialScheduler.STOP)
        if decision == TrialScheduler.STOP:
            self._scheduler.on_trial_remove(its_trial)
        return decision


def make_syne_tune(method: str, seed: int, workers: int) -> System:
    """One of Syne Tune's methods over the space, which has no conditions there; all else as it is by default."""
    scheduler = METHODS[method](
        config_space={name: _domain(domain) for name, domain in DOMAINS.items()},
        metric=METRIC,
        time_attr="training_iteration",
        max_t=MAX_EPOCHS,
        do_minimize=False,
        random_seed=seed,
    )
    searcher = SyneTuneSearcher(scheduler, workers)
    return System(searcher=searcher, scheduler=SyneTuneScheduler(scheduler, searcher), reports=report_like_others)


def _domain(domain: Domain) -> Any:
    """The domain in Syne Tune's words; choices of numbers are in order, as its guide advises."""
    if isinstance(domain, Choice):
        options = list(domain.options)
        return choice(options) if isinstance(options[0], str) else ordinal(options, kind="equal")
    if isinstance(domain.low, int):
        return randint(domain.low, domain.high)
    return loguniform(domain.low, domain.high) if domain.log else uniform(domain.low, domain.high)
