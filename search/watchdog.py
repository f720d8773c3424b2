"""Ends the process of a trial that has shown no epoch for much too long; the trial is started again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from search.events import Events
from search.processes import end_process, place_of
from search.progress import in_words
from search.record import TRIAL_ID, whole
from search.restarts import Restarts
from search.steady_clock import SteadyClock

TIMES_LONGEST = 10.0  # of the epochs that a trial has shown, before one is taken for the last it will show,
LEAST_SILENCE = 300.0  # seconds, at the least
FIRST_SILENCE = 1800.0  # for the first epoch of a process, with all that comes before it
SECONDS_BETWEEN_LOOKS = 1.0
# Written at least once a minute within an epoch, too: whoever writes them is alive.
STATES = ("last.safetensors", "fold-1/last.safetensors")


@dataclass(kw_only=True)
class Listening:
    """How long a trial has been silent. since: by the steady clock. longest: seconds to any result that it has shown.

    state: when its state was last written, as its disk has it.
    """

    trial: Any
    since: float
    state: tuple[int, ...]
    longest: float | None = None


@dataclass(kw_only=True)
class Watchdog(Callback):
    """Listens to all trials that run.

    trials: has a folder for each. first_fold: the epoch after which nobody reports each epoch, as with several folds
    the others train side by side, or wait for room; None for one fold.
    """

    events: Events
    restarts: Restarts
    trials: Path
    clock: SteadyClock
    first_fold: int | None = None
    _silences: dict[str, Listening] = field(default_factory=dict)
    _next_look: float = 0.0

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes a copy of itself to disk when it starts, which nobody reads.
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Listens to a trial from now on."""
        self._silences[trial.trial_id] = Listening(trial=trial, since=self.clock.now(), state=self._state_of(trial))

    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002 - Ray's signature
        trials: list[Any],  # noqa: ARG002
        trial: Any,
        result: Mapping[str, Any],
        **info: Any,  # noqa: ARG002
    ) -> None:
        """Hears of an epoch."""
        self.restarts.note_epoch(trial)
        silence = self._silences.get(trial.trial_id)
        if silence is None:
            return
        if self.first_fold is not None and (whole(result.get("epoch")) or 0) >= self.first_fold:
            del self._silences[trial.trial_id]
            return
        now = self.clock.now()
        silence.longest = max(silence.longest or 0.0, now - silence.since)
        silence.since, silence.state = now, self._state_of(trial)

    def on_step_end(self, *_: Any, **_info: Any) -> None:
        """Looks for those that are silent, now and then."""
        now = self.clock.now()
        if now < self._next_look:
            return
        self._next_look = now + SECONDS_BETWEEN_LOOKS
        for key, silence in list(self._silences.items()):
            if silence.trial.status != Trial.RUNNING:
                del self._silences[key]
            elif now - silence.since > self._patience(silence):
                self._look_closer(silence, now)

    def _patience(self, silence: Listening) -> float:
        """For how many seconds a trial may be silent."""
        if silence.longest is not None:
            return max(LEAST_SILENCE, TIMES_LONGEST * silence.longest)
        longest = max((one.longest for one in self._silences.values() if one.longest is not None), default=0.0)
        return max(FIRST_SILENCE, TIMES_LONGEST * longest)

    def _look_closer(self, silence: Listening, now: float) -> None:
        """Ends the process of a silent trial, unless it has written its state meanwhile: then it is only slow."""
        trial, state = silence.trial, self._state_of(silence.trial)
        if state != silence.state:
            silence.since, silence.state = now, state
            return
        del self._silences[trial.trial_id]
        shown = "it has shown none yet" if silence.longest is None else f"its longest took {in_words(silence.longest)}"
        self.events.tell(
            f"trial {trial.config[TRIAL_ID]} showed no epoch for {in_words(now - silence.since)} ({shown}): its "
            "process is ended, and it goes on from its last epoch"
        )
        self.restarts.expect(trial, "process")
        worker = trial.temporary_state.ray_actor
        end_process(worker, place_of(worker))

    def _state_of(self, trial: Any) -> tuple[int, ...]:
        return tuple(written_at(self.trials / trial.config[TRIAL_ID] / name) for name in STATES)


def written_at(path: Path) -> int:
    """When a file was last written, in nanoseconds; 0 where there is none, or its disk does not answer."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
