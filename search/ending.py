"""When a whole search ends before its trials are done: at its time limit, or when somebody interrupts it."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.tune import Callback
from ray.tune.stopper import Stopper


class Ending(Stopper):
    """Says when the whole search is to stop: at its time limit, or when somebody interrupts it."""

    def __init__(self, seconds_left: float | None) -> None:
        self._deadline = None if seconds_left is None else time.monotonic() + seconds_left
        self.interrupted = False

    @property
    def out_of_time(self) -> bool:
        """Whether the time limit is reached."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def __call__(self, *_: Any) -> bool:
        """Single trials are none of its business."""
        return False

    def stop_all(self) -> bool:
        """Whether all trials are to stop now."""
        return self.interrupted or self.out_of_time

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside, the first Ctrl-C ends the search in good order; a second one, or a polite kill, leaves at once.

        A polite kill (SIGTERM) often goes to all processes together, and Ray's end before anything can be put in order.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def interrupt(_number: int, _frame: object) -> None:
            self.interrupted = True
            signal.signal(signal.SIGINT, leave)

        def leave(_number: int, _frame: object) -> None:
            self.interrupted = True
            raise KeyboardInterrupt

        before = {signal.SIGINT: signal.signal(signal.SIGINT, interrupt)}
        before[signal.SIGTERM] = signal.signal(signal.SIGTERM, leave)
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
