"""Whether a trial whose process died is started again, and when."""

import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from data.outlast import PASSING
from search.events import Events
from search.memory_guard import reason_in
from search.progress import in_words
from search.record import TRIAL_ID
from search.steady_clock import SteadyClock

RETRIES = 2  # of a trial, for deaths of its process
DEATHS_IN_A_ROW = 10  # of processes of any trials with no epoch between, after which the search ends
MACHINES_IN_A_ROW = 5  # that a trial may lose with no epoch of its own between before it is suspected itself
LONGEST_DELAY = 60.0  # seconds before a trial is started again
LONGEST_ACCOUNT = 300  # characters of what a process died of
GENERAL = r"^The actor died unexpectedly before finishing this task\.\s+"  # which Ray says first

# What Ray says of a worker that it, or the system, ended because the machine ran short of memory.
OUT_OF_MEMORY = ("low on memory", "OutOfMemoryError", "out of memory")
# What it says of a worker that went with its machine, or cannot be reached any more.
MACHINE_LOST = ("its node has died", "node it was running on is dead", "NodeDiedError", "is temporarily unavailable")
MACHINE_DIFFERS = "MachineDiffersError"  # what a worker says that cannot be used (see `check_like`)

# What it, and those who have waited for a storage in vain, say of one that is full or does not answer.
STORAGE_FAILED = ("GaveUpError", "OutOfDiskError", *map(os.strerror, sorted(PASSING)))

Cause = Literal["memory", "machine", "storage", "process"]


def cause_of(error: BaseException) -> Cause:
    """What a trial's process died of, by Ray's account of it."""
    text = str(error)
    if getattr(error, "preempted", False) or any(words in text for words in (*MACHINE_LOST, MACHINE_DIFFERS)):
        return "machine"
    if any(words in text for words in OUT_OF_MEMORY):
        return "memory"
    return "storage" if any(words in text for words in STORAGE_FAILED) else "process"


def account_of(text: str) -> str:
    """What a process died of, by Ray's account, on one short line: the words of the exception, where there was one."""
    text = re.sub(r"\x1b\[[\d;]*m", "", text).strip()
    text = re.sub(r"^\t\w+: .*\n", "", text, flags=re.MULTILINE)  # Ray's ids of the process
    words = text.splitlines()[-1] if "\n  File " in text else text
    for filler in (r"Worker exit type: \w+ Worker exit detail:", r"Some common causes include.*", GENERAL):
        words = re.sub(filler, "", words, flags=re.DOTALL)
    return textwrap.shorten(words or text, LONGEST_ACCOUNT, placeholder=" ...")


class Restarts:
    """Decides, of each death of a process, whether its trial is started again, and tells it.

    A trial is started again `RETRIES` times, the later the more often processes died. It costs it nothing where its
    machine was lost, or storage failed. One that ran out of memory is not started again: it would once more. When
    `DEATHS_IN_A_ROW` processes died and no trial showed an epoch in between, something is wrong with all of them.

    reason: why the search is to end, in words; empty while it goes on.
    """

    def __init__(self, events: Events, trials: Path, clock: SteadyClock) -> None:
        """trials: has a folder for each trial."""
        self.reason = ""
        self._events = events
        self._trials = trials
        self._clock = clock
        self._in_a_row = 0
        # By Ray's id of a trial.
        self._deaths: dict[str, int] = {}
        self._machines: dict[str, int] = {}  # lost since its last epoch
        self._not_before: dict[str, float] = {}
        self._expected: dict[str, Cause] = {}
        self._why: dict[str, str] = {}
        self._lost: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes a copy of its trials to disk when it starts, which nobody reads.
        return {}

    def expect(self, trial: Any, cause: Cause) -> None:
        """Takes note that a trial's process is about to be ended for this cause, which has been told."""
        self._expected[trial.trial_id] = cause

    def note_epoch(self, trial: Any) -> None:
        """Takes note that a trial has shown something."""
        self._in_a_row = 0
        self._machines.pop(trial.trial_id, None)
        self._lost.discard(trial.trial_id)

    def has_lost_its_process(self, trial: Any) -> bool:
        """Whether a trial's process died, and it has shown nothing since."""
        return trial.trial_id in self._lost

    def may_start(self, trial: Any) -> bool:
        """Whether a trial that waits for a process may have one by now."""
        return self._clock.now() >= self._not_before.get(trial.trial_id, 0.0)

    def why(self, ray_trial_id: str) -> str:
        """Why the trial with this id of Ray's is not started again; empty where it is, or Ray's words say it all."""
        return self._why.get(ray_trial_id, "")

    def again(self, trial: Any, error: BaseException) -> bool:
        """Whether a trial whose process died of this error is to be started again, once `may_start` says so."""
        key, name = trial.trial_id, f"trial {trial.config[TRIAL_ID]}"
        self._lost.add(key)
        expected = self._expected.pop(key, None)
        leak = reason_in(self._trials / trial.config[TRIAL_ID])
        cause: Cause = "memory" if leak else expected or cause_of(error)
        account = account_of(str(error)) or type(error).__name__
        if cause == "machine":
            self._machines[key] = self._machines.get(key, 0) + 1
            if self._machines[key] <= MACHINES_IN_A_ROW:
                self._wait(key, 0.0 if expected else 1.0)
                return True
            account = f"it lost {self._machines[key]} machines with no epoch between"
        if cause == "memory":
            self._why[key] = leak or f"its machine ran low on memory, and its process was ended: {account}"
            self._events.tell(f"{name} is not started again: {self._why[key]}")
            return False
        self._in_a_row += 1
        if self._in_a_row >= DEATHS_IN_A_ROW:
            self.reason = f"{self._in_a_row} processes died with no epoch between, the last one of {name}: {account}"
            return True  # it is set aside with all others
        deaths = self._deaths[key] = self._deaths.get(key, 0) + (cause != "storage")
        if deaths > RETRIES:
            self._events.tell(f"{name} is not started again: its process died {deaths} times, the last time: {account}")
            return False
        delay = min(LONGEST_DELAY, 2.0 ** (max(deaths, self._in_a_row) - 1))
        self._wait(key, delay)
        if not expected:
            what = "could not write" if cause == "storage" else "lost its process"
            self._events.tell(f"{name} {what} and goes on from its last epoch in {in_words(delay)}: {account}")
        return True

    def _wait(self, key: str, delay: float) -> None:
        self._not_before[key] = self._clock.now() + delay


# What a trial of Ray's asks when its process died: the trial, and the error.
Again = Callable[[Any, BaseException], bool]
