"""The scheduler that stops nobody, on which all others stand: it remembers why trials ended."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from search.record import TRIAL_ID
from search.restarts import Restarts, account_of


class PatientScheduler(FIFOScheduler):
    """Lets every trial run to its end, and remembers why one died."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)  # type: ignore[no-untyped-call]
        self._reasons: dict[str, str] = {}
        self.restarts: Restarts | None = None  # when trials are started again whose process died; None: at once

    def refill(self, study: optuna.Study) -> None:
        """Takes in what the trials of earlier sessions have shown, by which later ones are judged too."""

    def hear(self, trials: Sequence[FrozenTrial]) -> None:
        """Takes in what trials of other drivers, which share the study, have shown by now; those of which it is new."""

    def reason(self, ray_trial_id: str) -> str:
        """Why the trial with this id of Ray's was ended early; empty when it was not, or nobody said."""
        told = "" if self.restarts is None else self.restarts.why(ray_trial_id)
        return told or self._reasons.get(ray_trial_id, "")

    @property
    def metric(self) -> None:
        """None, so that Ray does not end the whole search over one result without a metric."""

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Takes in a trial, or one that is started again after its process died."""
        self._reasons.pop(trial.trial_id, None)
        super().on_trial_add(tune_controller, trial)
        if not self._may_start(trial):
            tune_controller._set_trial_status(trial, Trial.PAUSED)  # Ray starts whatever is pending

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The newest trial that waits for a worker, else None.

        Who waits longer has a worker of its own on the way, which Ray would end if it gave the trial one that has just
        become free: while trials are short, many workers would never come to be. Ray's own choice also looks at all
        trials that there ever were, every time.
        """
        waiting = (trial for trial in tune_controller.get_live_trials() if self._waits_for_worker(trial))
        return max(waiting, key=lambda trial: (len(trial.config[TRIAL_ID]), trial.config[TRIAL_ID]), default=None)

    def _waits_for_worker(self, trial: Any) -> bool:
        return trial.status in (Trial.PENDING, Trial.PAUSED) and self._may_start(trial)

    def _may_start(self, trial: Any) -> bool:
        return self.restarts is None or self.restarts.may_start(trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Remembers what the trial's process died of, as Ray has written it down."""
        file = Path(trial.error_file) if trial.error_file else None
        if file is not None and file.is_file():
            text = re.split(r"^Failure # .*$", file.read_text(encoding="utf-8", errors="replace"), flags=re.MULTILINE)[
                -1
            ]
            self._reasons[trial.trial_id] = account_of(text)
        super().on_trial_error(tune_controller, trial)
