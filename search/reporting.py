"""The report of a search: kept fresh while the search runs, and made at its end."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ray.tune import Callback

from search.events import Events, Say
from search.record import one_line
from search.run_folder import REPORT, RunFolder

POLITENESS = 10  # how much other work comes first while a search runs


class Reporting(Callback):
    """Makes the report every so often, in a process of its own: the search does not wait for it."""

    def __init__(self, run: Path, every: float, events: Events) -> None:
        """run: its folder. every: seconds between two reports."""
        self._run = run
        self._every = every
        self._events = events
        self._next = time.monotonic() + every
        self._making: subprocess.Popen[bytes] | None = None
        self._has_failed = False

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes a copy of itself to disk when it starts, which nobody reads; a process cannot be copied.
        return {}

    def on_step_end(self, *_: Any, **_info: Any) -> None:
        """What Tune calls over and over."""
        if self._making is not None and self._making.poll() is None:
            return
        if self._making is not None and self._making.returncode and not self._has_failed:
            self._events.tell(f"the report could not be made: python -m search.report {self._run} says why")
            self._has_failed = True
        self._making = None
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every
            command = [sys.executable, "-m", "search.report", str(self._run)]
            quiet: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
            self._making = subprocess.Popen(command, start_new_session=True, **quiet)
            _stand_back(self._making.pid)

    def close(self) -> None:
        """Ends what is being made: the last report takes its place."""
        if self._making is not None:
            self._making.kill()
            self._making.wait()
            self._making = None


def make_report(run: RunFolder, say: Say) -> Path | None:
    """Writes the report of a search that is over, and its network for TensorBoard; where the report is.

    Says so where that fails: the search is done.
    """
    path = run.path / REPORT
    try:
        from search.drawn_network import draw_network
        from search.report.page import write_page
        from search.report.run_facts import read_facts

        write_page(path, read_facts(run.place, run.path))
        if run.best.is_dir():
            draw_network(run.best)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever it is, the models are what counts
        why = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {one_line(error)}"
        say(f"warning: the report was not made ({why}); python -m search.report {run.place} makes it")
        return None
    return path


def _stand_back(process: int) -> None:
    import psutil  # type: ignore[import-untyped]

    try:
        psutil.Process(process).nice(POLITENESS)
    except psutil.Error:
        return  # it is over already
