"""When to stop a trial that is not worth going on with: a table of names over Ray Tune's schedulers."""

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from data.input_error import unknown_name
from search.record import TRIAL_ID, finite

TIME = "epoch"
METRIC = "val_dice"
REDUCTION = 3  # of the trials that reach a rung, the best one in so many goes on
GRACE_SHARE = 10  # the first rung stands after one in so many of the epochs
LONGEST_REASON = 300  # characters


class PatientScheduler(FIFOScheduler):
    """Lets every trial run to its end, and remembers why one died."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)  # type: ignore[no-untyped-call]
        self._reasons: dict[str, str] = {}

    def reason(self, ray_trial_id: str) -> str:
        """Why the trial with this id of Ray's was ended early; empty when it was not, or nobody said."""
        return self._reasons.get(ray_trial_id, "")

    @property
    def metric(self) -> None:
        """None, so that Ray does not end the whole search over one result without a metric."""

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Takes in a trial, or one that is started again after its process died."""
        self._reasons.pop(trial.trial_id, None)
        super().on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Remembers what the trial's process died of, as Ray has written it down."""
        file = Path(trial.error_file) if trial.error_file else None
        if file is not None and file.is_file():
            self._reasons[trial.trial_id] = _last_error(file.read_text(encoding="utf-8", errors="replace"))
        super().on_trial_error(tune_controller, trial)


class HalvingScheduler(PatientScheduler, AsyncHyperBandScheduler):
    """Asynchronous successive halving (Li et al., 2018, arXiv 1810.05934) by epochs: Ray's own, with a memory.

    Rungs stand after `first_rung` epochs and then `REDUCTION` times further on, up to `last_epoch`; a trial that comes
    to one below the best third of those that were there before is stopped. It says why, and its rungs can be filled
    again from a study.
    """

    def __init__(self, *, last_epoch: int, first_rung: int) -> None:
        super().__init__(
            time_attr=TIME,
            metric=METRIC,
            mode="max",
            max_t=last_epoch,
            grace_period=first_rung,
            reduction_factor=REDUCTION,
        )

    @property
    def rungs(self) -> list[float]:
        """The epochs after which trials are compared, first to last."""
        return sorted(milestone for bracket in self._brackets for milestone, _ in bracket._rungs)

    def refill(self, study: optuna.Study) -> None:
        """Puts the trials of earlier sessions back on the rungs that they had reached, under our trial ids."""
        for trial in study.get_trials(deepcopy=False):
            stand_in: Any = SimpleNamespace(trial_id=trial.user_attrs.get("trial_id"))
            for epoch, value in sorted(trial.intermediate_values.items()):
                for bracket in self._brackets:
                    bracket.on_result(stand_in, epoch, value)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Takes in a trial; one that goes on from an earlier session keeps its places, now under Ray's id of it."""
        super().on_trial_add(tune_controller, trial)
        for bracket in self._brackets:
            for _, recorded in bracket._rungs:
                if trial.config[TRIAL_ID] in recorded:
                    recorded[trial.trial_id] = recorded.pop(trial.config[TRIAL_ID])

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Ray's decision on the trial; a result that has no finite `val_dice` does not count."""
        epoch, value = finite(result.get(TIME)), finite(result.get(METRIC))
        if epoch is None or value is None:
            return TrialScheduler.CONTINUE
        cutoff = self._cutoff(trial.trial_id, epoch)
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.STOP and cutoff is not None and value < cutoff:
            self._reasons[trial.trial_id] = (
                f"val_dice {value:.4f} at epoch {epoch:.0f} is below the best third ({cutoff:.4f})"
            )
        return decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Forgets a trial that has ended; its places on the rungs stay."""
        if finite(result.get(TIME)) is not None and finite(result.get(METRIC)) is not None:
            super().on_trial_complete(tune_controller, trial, result)

    def _cutoff(self, ray_trial_id: str, epoch: float) -> float | None:
        """What the trial has to reach now, or None when it comes to no rung."""
        for bracket in self._brackets:
            for milestone, recorded in bracket._rungs:
                if epoch >= milestone and ray_trial_id not in recorded:
                    return finite(bracket.cutoff(recorded))
        return None


def make_scheduler(
    name: str, *, max_epochs: int, evaluate_every: int = 1, folds: int = 1, study: optuna.Study | None = None
) -> PatientScheduler:
    """The scheduler of this name for trials of so many folds, each of at most so many epochs.

    evaluate_every: epochs between two results of a trial, the most that any has. study: the one that is continued, by
    whose trials the new ones are judged too. Raises InputError for an unknown name.
    """
    if name not in SCHEDULERS:
        raise unknown_name("scheduler", name, SCHEDULERS)
    return SCHEDULERS[name](max_epochs, evaluate_every, folds, study)


def _make_asha(max_epochs: int, evaluate_every: int, folds: int, study: optuna.Study | None) -> PatientScheduler:
    # Rungs stand where there are results, so that trials are compared after as many epochs as each other.
    looks = max(1, round(max_epochs / GRACE_SHARE / evaluate_every))
    # The first fold has the rungs that a trial without folds has.
    scheduler = HalvingScheduler(last_epoch=folds * max_epochs, first_rung=min(looks * evaluate_every, max_epochs))
    if study is not None:
        scheduler.refill(study)
    return scheduler


def _make_none(_max_epochs: int, _every: int, _folds: int, _study: optuna.Study | None) -> PatientScheduler:
    return PatientScheduler()


def _last_error(text: str) -> str:
    """The words of an exception at the end of Ray's account of a failure, or else the account, on one short line."""
    account = re.split(r"^Failure # .*$", text, flags=re.MULTILINE)[-1].strip()
    account = re.sub(r"^\t\w+: .*\n", "", account, flags=re.MULTILINE)  # Ray's ids of the process
    words = account.splitlines()[-1] if "\n  File " in account else account
    return textwrap.shorten(words, LONGEST_REASON, placeholder=" ...")


SCHEDULERS: dict[str, Callable[[int, int, int, optuna.Study | None], PatientScheduler]] = {
    "asha": _make_asha,
    "none": _make_none,
}
