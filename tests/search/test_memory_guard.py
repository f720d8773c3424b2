"""A process that takes more than its share ends itself where memory is short, and says why if that is its fault."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from data import memory
from data.memory import memory_in_use, private_memory, total_memory
from search.memory_guard import REASON_FILE, guarded, reason_in
from tests.search.commands import PROJECT

LEAKING = """
import sys, time
from pathlib import Path
import search.memory_guard as guard
guard.SHORT, guard.SECONDS_BETWEEN_LOOKS = float(sys.argv[2]), 0.01
guard.total_memory = lambda: 2 * 2**30
held = [bytearray(int(sys.argv[3]) * 2**20)]
with guard.guarded(Path(sys.argv[1]), lambda: 4):
    for _ in range(30):
        held.append(bytearray(30 * 2**20))
        time.sleep(0.02)
print("through")
"""


def leak(folder: Path, short: float, before: int) -> tuple[int, str]:
    """Takes 900 MiB of a share of 512, after so many MiB before; the exit code, and why."""
    words = [sys.executable, "-c", LEAKING, str(folder), str(short), str(before)]
    return subprocess.run(words, cwd=PROJECT, check=False, capture_output=True).returncode, reason_in(folder)


def test_a_trial_that_leaks_is_ended_with_a_reason_where_memory_is_short(tmp_path: Path) -> None:
    code, reason = leak(tmp_path, short=0.0, before=0)
    assert code == 1
    assert reason.startswith("its machine ran low on memory while it held 0.5")
    assert "more than its share of 0.5: try a smaller batch_size" in reason


def test_who_takes_much_where_there_is_enough_goes_on_and_an_old_reason_is_gone(tmp_path: Path) -> None:
    (tmp_path / REASON_FILE).write_text("long ago")
    assert leak(tmp_path, short=1.1, before=0) == (0, "")


def test_what_an_earlier_trial_left_in_the_process_is_not_held_against_this_one(tmp_path: Path) -> None:
    assert leak(tmp_path, short=0.0, before=300) == (1, "")


def test_the_guard_ends_with_the_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.memory_guard.SECONDS_BETWEEN_LOOKS", 60.0)
    before = threading.active_count()
    with guarded(tmp_path, lambda: 1):
        assert threading.active_count() == before + 1
    for thread in threading.enumerate():
        if thread.daemon and thread.name.endswith("(watch)"):
            thread.join(10)
            assert not thread.is_alive()


def test_what_is_taken_is_told_of_machine_and_control_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 0 < memory_in_use() < 1
    held = bytearray(64 * 2**20)
    assert len(held) < private_memory() < total_memory()
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    (tmp_path / "memory.current").write_text(f"{2**30}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {2**24}\n")
    monkeypatch.setattr(memory, "_own_groups", lambda: [tmp_path, tmp_path / "none"])
    assert memory_in_use() == 1 - 2**-6
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_in_use() < 1 - 2**-6
