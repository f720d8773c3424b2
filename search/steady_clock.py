"""Seconds of a search that was awake: no jump of any clock ends a wait early or lets it last for ever."""

import time
from collections.abc import Callable

LONGEST_STEP = 60.0  # seconds between two looks that count; who was asleep for longer has waited no longer


class SteadyClock:
    """Counts seconds between looks at a clock that no one can set.

    `time.monotonic` does not follow the time of day, which people and time servers put right. But where this process
    was stopped, or its machine was, it may go on: then all would have been silent for hours at once. So a gap between
    two looks counts for a minute at most. It is looked at several times a second while a search runs.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen = monotonic()
        self._seconds = 0.0

    def now(self) -> float:
        """Seconds since it was made."""
        seen = self._monotonic()
        self._seconds += min(max(0.0, seen - self._seen), LONGEST_STEP)
        self._seen = seen
        return self._seconds
