"""When a whole search ends before its trials do: at one of its limits, or when somebody interrupts it."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import optuna
import ray
from optuna.trial import FrozenTrial, TrialState
from ray.tune import Callback
from ray.tune.stopper import Stopper

from search.drivers import is_own
from search.record import WAITS, TrialRecord

SECONDS_BETWEEN_ASKS = 1.0  # whether the search is over, while no trial has a result
SHARE_OF_ASKING = 0.05  # of the driver's time at most, however many trials there are
RESTS_SINCE = "rests_since"  # a trial's attribute: when it was set aside because others are better


class Ending(Stopper):
    """Says when the whole search is to stop: when it is over, or when somebody interrupts it.

    reason: why it is over, in words; empty while it is not. It is asked after each result, before another trial is
    started, so that the same search ends at the same place again; where asking takes long, less often.
    """

    def __init__(self, over: Callable[[], str]) -> None:
        """over: gives the reason, or an empty text."""
        self.reason = ""
        self.interrupted = False
        self._over = over
        self._heard = True
        self._not_before = self._at_the_latest = 0.0

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes a copy of itself to disk when it starts, which nobody reads; a study cannot be copied.
        return {}

    def __call__(self, *_: Any) -> bool:
        """Takes note of a result. Single trials are none of its business."""
        self._heard = True
        return False

    def stop_all(self) -> bool:
        """Whether all trials are to stop now."""
        if not (self.interrupted or self.reason) and self._is_due(time.monotonic()):
            self._heard = False
            began = time.monotonic()
            self.reason = self._over()
            ended = time.monotonic()
            self._not_before = ended + (ended - began) / SHARE_OF_ASKING
            self._at_the_latest = ended + SECONDS_BETWEEN_ASKS
        return self.interrupted or self.reason != ""

    def _is_due(self, now: float) -> bool:
        return now >= self._not_before and (self._heard or now >= self._at_the_latest)

    @contextmanager
    def interruptible(self, *, own_ray: bool) -> Iterator[None]:
        """Inside, the first Ctrl-C or SIGTERM ends the search in good order; a second one leaves at once.

        own_ray: whether Ray is deaf to SIGTERM (see `search/resources.py`). One that is not ends together with this
        process, and then the first SIGTERM leaves at once, too: nobody would answer.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupt(_number: int, _frame: object) -> None:
            self.interrupted = True
            for one in (signal.SIGINT, signal.SIGTERM):
                signal.signal(one, leave)

        def leave(_number: int, _frame: object) -> None:
            self.interrupted = True
            raise KeyboardInterrupt

        before = {signal.SIGINT: signal.signal(signal.SIGINT, interrupt)}
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, interrupt if own_ray else leave)
        try:
            yield
        except KeyboardInterrupt:
            assert self.interrupted
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class WorkersEnd(Callback):
    """Ends the workers as soon as the whole search ends: Tune would wait ten seconds for the epochs they are in.

    What an epoch that was not finished has learned is lost; the one before it is on disk.
    """

    def __init__(self, ending: Ending) -> None:
        self._ending = ending
        self._workers: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes a copy of itself to disk when it starts, which nobody reads; workers cannot be copied.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Remembers the trial's worker."""
        worker = trial.temporary_state.ray_actor
        self._workers[worker._actor_id.hex()] = worker

    def on_step_end(self, *_: Any, **_info: Any) -> None:
        """Ends them all when it is time."""
        if self._ending.stop_all():
            for worker in self._workers.values():
                ray.kill(worker)
            self._workers.clear()


def set_aside(study: optuna.Study, reason: str) -> None:
    """Ends every unfinished trial as stopped, for this reason, so that a later session may go on with it.

    The study then has it waiting, with its values and what it has shown so far, and no sampler learns from it yet.
    Those of other drivers go on.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if is_own(study, trial):
            _set_aside(study, trial, reason)


def take_up(study: optuna.Study) -> None:
    """Makes the trials that an end cut off unfinished ones again, which the searcher hands out before new ones.

    Those that rest stay as they are, and those of other drivers.
    """
    for trial in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        if is_own(study, trial) and not rests(trial):
            _take_up(study, trial)


def rests(trial: FrozenTrial) -> bool:
    """Whether a trial waits because others are better, in this session or since an earlier one."""
    return trial.state == TrialState.WAITING and trial.user_attrs.get(RESTS_SINCE) is not None


def let_rest(study: optuna.Study, trial: FrozenTrial, reason: str) -> None:
    """Sets one trial aside because others are better, and notes when.

    The note comes last: a trial without it was cut off by the end of its session, and goes on in the next one.
    """
    _set_aside(study, trial, f"{WAITS}{reason}")
    study._storage.set_trial_user_attr(trial._trial_id, RESTS_SINCE, datetime.now(UTC).isoformat())


def let_go_on(study: optuna.Study, trial: FrozenTrial) -> None:
    """Takes one trial up again that had rested."""
    study._storage.set_trial_user_attr(trial._trial_id, RESTS_SINCE, None)
    _take_up(study, trial)


def end_rest(study: optuna.Study, trial: FrozenTrial, reason: str) -> None:
    """Ends one trial for good that rests; it keeps when it came to rest, since when it has brought nothing better."""
    record = _record(trial)
    if record is not None and record.reason != reason:
        _keep(study, trial, replace(record, reason=reason))
    study._storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED)


def records_by_ending(study: optuna.Study) -> list[TrialRecord]:
    """The records of all trials in the order in which they ended; then those of trials that run.

    One that rests because others are better counts as ended when it came to rest, also once it has been ended for good;
    one that the end of a session cut off counts as running.
    """
    trials = study.get_trials(deepcopy=False)
    records = []
    for trial in sorted(trials, key=lambda trial: (end_of(trial) or datetime.max, trial.number)):
        record = _record(trial)
        if record is not None:
            cut_off = trial.state == TrialState.WAITING and end_of(trial) is None
            records.append(_going_on(record) if cut_off else record)
    return records


def end_of(trial: FrozenTrial) -> datetime | None:
    """When a trial ended or came to rest, in this machine's time, as Optuna has it; None for all others."""
    since = trial.user_attrs.get(RESTS_SINCE)
    if trial.state != TrialState.RUNNING and since is not None:
        return datetime.fromisoformat(since).astimezone().replace(tzinfo=None)
    return trial.datetime_complete


def _set_aside(study: optuna.Study, trial: FrozenTrial, reason: str) -> None:
    # In this order: a trial that runs and has an end would be taken for one whose end Optuna was never told.
    study._storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
    record = _record(trial)
    if record is not None and record.status == "running":
        _keep(study, trial, replace(record, status="stopped", reason=reason))


def _take_up(study: optuna.Study, trial: FrozenTrial) -> None:
    record = _record(trial)
    if record is not None:
        _keep(study, trial, _going_on(record))
    study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)


def _record(trial: FrozenTrial) -> TrialRecord | None:
    saved = trial.user_attrs.get("record")
    return None if saved is None else TrialRecord(**saved)


def _keep(study: optuna.Study, trial: FrozenTrial, record: TrialRecord) -> None:
    study._storage.set_trial_user_attr(trial._trial_id, "record", asdict(record))


def _going_on(record: TrialRecord) -> TrialRecord:
    return replace(record, status="running", reason="")
