"""How long a search may still take: by its limits, and by what its trials have taken and are likely to take."""

from collections.abc import Callable, Sequence
from statistics import fmean

from model.config import TrainConfig
from search.budget import Limits
from search.cost_model import CostModel
from search.record import TrialRecord

# Trials as long as this are worth a cost model: it takes the driver a second or two, to load torch.
WORTH_A_MODEL = 60.0


class TimeLeft:
    """Says how long a search may still take: until the first of its limits, as far as they tell.

    The budget is expected to be spent as fast as so far. When a target is reached, or patience is at its end, nobody
    knows. A trial is expected to train for as many epochs as those that had come further than it did before they
    ended. Its epochs take as long as its own so far; before its first one, as long as the cost model says, where trials
    are long enough for that, or as long as those of others.
    """

    def __init__(
        self,
        *,
        limits: Limits,
        devices: float,
        fit: Callable[[Sequence[TrialRecord]], CostModel | None],
    ) -> None:
        """devices: how many one training has (see `Limits.over`). fit: learns what trials cost, from their records."""
        self._limits = limits
        self._devices = devices
        self._fit = fit
        self._model: CostModel | None = None
        self._learnt_from = 0  # trials that had ended

    def after(self, records: Sequence[TrialRecord], spent: float) -> float | None:
        """Seconds that are left when so many are spent; None when nothing tells yet."""
        bounds = (self._by_time(spent), self._by_budget(records, spent), self._by_trials(records, spent))
        known = [bound for bound in bounds if bound is not None]
        return max(0.0, min(known)) if known else None

    def _by_time(self, spent: float) -> float | None:
        """Seconds until the longest time is over; None where there is none."""
        return None if self._limits.seconds is None else self._limits.seconds - spent

    def _by_budget(self, records: Sequence[TrialRecord], spent: float) -> float | None:
        """Seconds until the budget is used up; None where there is none, or before any of it is."""
        amount, used = self._limits.budget_amount, self._limits.budget_spent(records, self._devices)
        if amount is None or not used:
            return None
        return (amount - used) * spent / used

    def _by_trials(self, records: Sequence[TrialRecord], spent: float) -> float | None:
        """Seconds that the trials need, those included that have not been started.

        None before one has ended, and where there is no end of them.
        """
        if self._limits.trials is None:
            return None
        ended = [record for record in records if record.status != "running"]
        running = [record for record in records if record.status == "running"]
        trained = sum(record.seconds for record in records)
        if not ended or not trained:
            return None
        remaining = [self._epochs_left(record, ended) * self._seconds_an_epoch(record, ended) for record in running]
        usual = (trained + sum(remaining)) / len(records)
        work = sum(remaining) + max(0, self._limits.trials - len(records)) * usual
        # What the search has taken for each second of training holds the trials side by side, and all that is between.
        return max(spent / trained * work, *remaining, 0.0)

    def _epochs_left(self, record: TrialRecord, ended: Sequence[TrialRecord]) -> float:
        """How many epochs the trial is likely to have before it."""
        further = [other.epochs for other in ended if other.epochs > record.epochs]
        return fmean(further or [record.config["max_epochs"] * self._limits.folds]) - record.epochs

    def _seconds_an_epoch(self, record: TrialRecord, ended: Sequence[TrialRecord]) -> float:
        """How long an epoch of the trial takes."""
        if record.epochs:
            return record.seconds / record.epochs
        seconds = sum(other.seconds for other in ended)
        if seconds / len(ended) >= WORTH_A_MODEL and len(ended) > self._learnt_from:
            self._model, self._learnt_from = self._fit(ended), len(ended)
        if self._model is not None:
            return self._model.predict(TrainConfig.from_mapping(record.config)).seconds_an_epoch
        return seconds / max(1, sum(other.epochs for other in ended))
