"""Which deaths cost a trial one of its starts, when it is started again, and when a search gives up."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError, NodeDiedError, OutOfMemoryError, RayActorError

from data.outlast import PASSING
from search.events import Events
from search.memory_guard import REASON_FILE
from search.restarts import DEATHS_IN_A_ROW, MACHINES_IN_A_ROW, RETRIES, Restarts, account_of, cause_of
from search.steady_clock import LONGEST_STEP, SteadyClock
from tests.search.paper_search import PaperTrial

DEAD = RayActorError(
    error_msg="The actor died unexpectedly before finishing this task.\n\tclass_name: A\n\tpid: 7\nThe actor is dead "
    "because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits "
    "with a connection error code 2. End of file. Some common causes include: (1) the process was killed by the OOM "
    "killer due to high memory usage"
)
FULL = RuntimeError('ray::run()\n  File "x.py", line 1\n\x1b[36mOSError\x1b[39m: [Errno 28] No space left on device')
GONE = ActorUnavailableError("The actor is temporarily unavailable: RpcError: Socket closed rpc_code: 14", None)
SHORT = OutOfMemoryError("Task was killed due to the node running low on memory.")


class Clock:
    """A clock that is set by hand."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Deaths:
    """Decisions about trials with these names, on a clock set by hand."""

    def __init__(self, folder: Path) -> None:
        self.said: list[str] = []
        self.hand = Clock()
        self.folder = folder
        self.restarts = Restarts(Events(folder / "events.log", self.said.append), folder, SteadyClock(self.hand))

    def trial(self, name: str = "t0000") -> Any:
        return PaperTrial(f"ray-{name}", {"trial_id": name})

    def die(self, error: Exception = DEAD, name: str = "t0000") -> bool:
        return self.restarts.again(self.trial(name), error)

    def waits(self, name: str = "t0000") -> float:
        """How many more seconds the trial waits."""
        before = self.hand.seconds
        while not self.restarts.may_start(self.trial(name)):
            self.hand.seconds += 0.5
        waited, self.hand.seconds = self.hand.seconds - before, before
        return waited


@pytest.fixture
def deaths(tmp_path: Path) -> Deaths:
    return Deaths(tmp_path)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (DEAD, "process"),
        (ActorDiedError(), "process"),
        (RayActorError(preempted=True), "machine"),
        (RayActorError(error_msg="The actor died because its node has died. Node Id: 12"), "machine"),
        (NodeDiedError("Task failed because the node it was running on is dead or unavailable."), "machine"),
        (GONE, "machine"),
        (SHORT, "memory"),
        (RuntimeError("fold 2: OutOfMemoryError"), "memory"),
        (FULL, "storage"),
    ],
)
def test_what_a_process_died_of_is_read_from_what_ray_says(error: Exception, cause: str) -> None:
    assert cause_of(error) == cause


def test_an_account_is_one_short_line_without_what_ray_says_each_time() -> None:
    words = "The actor is dead because its worker process has died. Worker unexpectedly exits with a connection error"
    assert account_of(str(DEAD)) == f"{words} code 2. End of file."
    assert account_of(str(FULL)) == "OSError: [Errno 28] No space left on device"
    assert account_of("The actor died unexpectedly before finishing this task.")
    assert len(account_of("word " * 999)) <= 300


def test_a_trial_is_started_again_a_few_times_the_later_the_more_often(deaths: Deaths) -> None:
    assert [deaths.die() for _ in range(RETRIES)] == [True] * RETRIES
    assert deaths.waits() == 2 ** (RETRIES - 1)
    deaths.restarts.note_epoch(deaths.trial("t0001"))
    assert not deaths.die()
    assert deaths.die(name="t0001")
    assert deaths.waits("t0001") == 2, "two in a row"
    assert [line.split(":")[0] for line in deaths.said] == [
        "trial t0000 lost its process and goes on from its last epoch in 1 s",
        "trial t0000 lost its process and goes on from its last epoch in 2 s",
        "trial t0000 is not started again",
        "trial t0001 lost its process and goes on from its last epoch in 2 s",
    ]


def test_a_lost_machine_costs_nothing_and_is_not_told_here_until_it_is_one_after_the_other(deaths: Deaths) -> None:
    for _ in range(3):
        assert [deaths.die(GONE) for _ in range(MACHINES_IN_A_ROW)] == [True] * MACHINES_IN_A_ROW
        deaths.restarts.note_epoch(deaths.trial())
    assert (deaths.said, deaths.restarts.reason) == ([], "")
    for _ in range(MACHINES_IN_A_ROW + RETRIES):
        assert deaths.die(GONE)
    assert not deaths.die(GONE)
    assert deaths.said[-1].endswith("it lost 8 machines with no epoch between")


def test_who_ran_out_of_memory_is_never_started_again_unchanged(deaths: Deaths) -> None:
    assert not deaths.die(SHORT)
    assert "low on memory" in deaths.restarts.why("ray-t0000")
    (deaths.folder / "t0001/fold-2").mkdir(parents=True)
    (deaths.folder / "t0001/fold-2" / REASON_FILE).write_text("its machine ran low on memory while it held 9 GiB")
    assert not deaths.die(DEAD, "t0001")
    assert deaths.restarts.why("ray-t0001") == "its machine ran low on memory while it held 9 GiB"
    assert deaths.restarts.why("ray-t0002") == ""


def test_a_storage_that_fails_costs_no_start_but_ends_the_search_in_the_end(deaths: Deaths) -> None:
    waited = []
    for _ in range(DEATHS_IN_A_ROW - 1):
        assert deaths.die(FULL)
        waited.append(deaths.waits())
    assert waited == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert deaths.restarts.reason == ""
    assert deaths.die(FULL), "it is kept"
    assert deaths.restarts.reason == (
        "10 processes died with no epoch between, the last one of trial t0000: "
        "OSError: [Errno 28] No space left on device"
    )


@pytest.mark.parametrize("number", sorted(PASSING))
def test_whatever_may_pass_on_a_disk_costs_no_start(deaths: Deaths, number: int) -> None:
    error = RuntimeError(f'ray::run()\n  File "x.py", line 1\nOSError: {OSError(number, os.strerror(number))}')
    assert cause_of(error) == "storage"
    for _ in range(2 * RETRIES):
        assert deaths.die(error)


def test_a_disk_that_fails_when_it_is_asked_why_a_process_died_says_nothing(
    deaths: Deaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **_more: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "rglob", fails)
    assert deaths.die(DEAD)


def test_an_epoch_of_any_trial_shows_that_not_all_is_wrong(deaths: Deaths) -> None:
    for number in range(3 * DEATHS_IN_A_ROW):
        deaths.die(name=f"t{number:04d}")
        if number % 5 == 4:
            deaths.restarts.note_epoch(deaths.trial("t9999"))
    assert deaths.restarts.reason == ""


def test_an_end_that_was_expected_is_not_told_again(deaths: Deaths) -> None:
    deaths.restarts.expect(deaths.trial(), "machine")
    assert deaths.die(DEAD)
    assert deaths.waits() == 0
    deaths.restarts.expect(deaths.trial(), "process")
    assert deaths.die(DEAD)
    assert deaths.waits() == 1
    assert deaths.said == []
    assert deaths.die(DEAD)
    assert len(deaths.said) == 1, "one is expected once"


def test_neither_a_sleep_nor_a_clock_that_is_put_back_lets_anybody_wait_too_long_or_too_short() -> None:
    hand = Clock()
    clock = SteadyClock(hand)
    seen = []
    for hand.seconds in (1.0, 3.0, 3600 * 9.0, 3600 * 9 + 5.0, 5.0, 6.0):
        seen.append(clock.now())
    assert seen == [1, 3, 3 + LONGEST_STEP, 8 + LONGEST_STEP, 8 + LONGEST_STEP, 9 + LONGEST_STEP]
