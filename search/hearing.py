"""Between the steps of Tune: what other drivers of a shared study have found meanwhile."""

import time
from pathlib import Path
from typing import Any

from ray.tune import Callback

from search.patient_scheduler import PatientScheduler
from search.searcher import StudySearcher
from search.study import keep_copy

SECONDS_BETWEEN_READS = 5.0
SECONDS_BETWEEN_COPIES = 60.0
SHARE_OF_READING = 0.05  # of the driver's time at most, however many trials there are


class Hearing(Callback):
    """Tells the searcher and the scheduler of the trials of others, and keeps a copy of the study with the run."""

    def __init__(self, searcher: StudySearcher, scheduler: PatientScheduler, journal: Path) -> None:
        """journal: where the copy is kept."""
        self._searcher = searcher
        self._scheduler = scheduler
        self._journal = journal
        self._next_read = 0.0
        self._next_copy = time.monotonic() + SECONDS_BETWEEN_COPIES

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes a copy of itself to disk when it starts, which nobody reads; a study cannot be copied.
        return {}

    def on_step_end(self, *_: Any, **_info: Any) -> None:
        """What Tune calls over and over."""
        began = time.monotonic()
        if began >= self._next_read:
            self._scheduler.hear(self._searcher.hear())
            self._next_read = _after(began, SECONDS_BETWEEN_READS)
        if began >= self._next_copy:
            keep_copy(self._searcher.study, self._journal)
            self._next_copy = _after(began, SECONDS_BETWEEN_COPIES)


def _after(began: float, pause: float) -> float:
    """When something is due again that has begun then and ends now."""
    now = time.monotonic()
    return now + max(pause, (now - began) / SHARE_OF_READING)
