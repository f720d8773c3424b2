"""The journal of a run, beside Optuna's own backend, which reads what it writes and writes what it reads."""

import math
import os
import pickle
import resource
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.storages.journal import JournalFileBackend

import search.journal
import search.searcher
from data.input_error import InputError
from search.journal import OpenJournal
from search.record import records_from_study
from search.searcher import StudySearcher
from search.space import parse_space
from search.steady_clock import SteadyClock
from search.study import open_study, read_study
from search.watch import Watch

LINES = [{"op_code": 2, "study_id": 0, "user_attr": {"words": "ä\n" * count}} for count in (1, 40, 0, 7, 300, 2)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.log"


def test_both_read_what_the_other_writes(path: Path) -> None:
    ours, other = OpenJournal(str(path)), JournalFileBackend(str(path))
    ours.append_logs(LINES[:2])
    assert list(other.read_logs(0)) == LINES[:2]
    other.append_logs(LINES[2:4])
    ours.append_logs(LINES[4:])
    assert list(other.read_logs(2)) == LINES[2:]
    assert list(ours.read_logs(0)) == LINES
    assert list(ours.read_logs(len(LINES))) == []
    assert (list(OpenJournal(str(path)).read_logs(0)), list(JournalFileBackend(str(path)).read_logs(0))) == (
        LINES,
        LINES,
    )


def test_lines_are_read_once_whatever_piece_they_lie_in(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = OpenJournal(str(path))
    journal.append_logs(LINES)
    for piece in (5, 100, 3000, 3500, 10_000):
        monkeypatch.setattr(search.journal, "PIECE", piece)
        assert list(OpenJournal(str(path)).read_logs(0)) == LINES


def test_who_reads_half_a_line_reads_it_when_it_is_whole(path: Path) -> None:
    journal = OpenJournal(str(path))
    with path.open("ab", buffering=0) as other:
        other.write(b'{"op_code":2}\n{"op_')
        assert list(journal.read_logs(0)) == [{"op_code": 2}]
        assert list(journal.read_logs(1)) == []
        other.write(b'code":3}\n')
        assert list(journal.read_logs(1)) == [{"op_code": 3}]


@pytest.mark.parametrize("taken", [2, 1], ids=["he has left in the middle", "he was interrupted while he took a line"])
def test_a_reader_goes_on_after_the_lines_that_he_has(path: Path, taken: int) -> None:
    journal = OpenJournal(str(path))
    journal.append_logs(LINES)
    reading = journal.read_logs(0)
    assert [next(reading), next(reading)] == LINES[:2]
    reading.close()
    assert list(journal.read_logs(taken)) == LINES[taken:]


def test_a_full_disk_is_told_and_what_is_written_once_there_is_room_again_is_whole(path: Path) -> None:
    study = open_study(path)
    study.set_user_attr("seconds", 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            study.set_user_attr("seconds", 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    study.set_user_attr("devices", 3)
    assert open_study(path).user_attrs == read_study(path).user_attrs == {"seconds": 1, "devices": 3}


def test_what_a_failing_power_leaves_behind_is_dropped(path: Path) -> None:
    open_study(path).set_user_attr("seconds", 1)
    for rest in (b"\0" * 100, b'{"op_code":8,"wor' + b"\0" * 20, b'{"op_code":' + b"8" * 3_000_000):
        with path.open("ab") as file:
            file.write(rest)
        assert open_study(path).user_attrs == {"seconds": 1}
        assert not path.read_bytes().endswith(b"\0")


def searcher_on(path: Path) -> StudySearcher:
    return StudySearcher(journal=path, space=parse_space({}), num_trials=None, seed=0, max_concurrent=3)


def result(epoch: int, dice: float, **more: Any) -> dict[str, Any]:
    return {"epoch": epoch, "val_dice": dice, "checkpoint": "trials/t0000/best", **more}


@pytest.fixture
def on_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes the disk had each time when it was waited for."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.stat().st_size))
    return synced


def test_the_disk_is_waited_for_when_a_trial_begins_or_ends(path: Path, on_disk: list[int]) -> None:
    searcher = searcher_on(path)
    for ray_id in "abc":
        searcher.suggest(ray_id)
        begun = path.read_bytes()[: on_disk[-1]].splitlines()[-1]
        assert (b'"record"' in begun, len(on_disk)) == (True, 1 + "abc".index(ray_id))
    searcher.on_trial_result("a", result(1, 0.5))
    for ray_id, more in (("a", {"status": "completed"}), ("b", {"status": "diverged"}), ("c", {})):
        before = len(on_disk)
        searcher.on_trial_complete(ray_id, result(2, 0.6, **more))
        assert on_disk[before:] == [path.stat().st_size]


def test_it_is_waited_for_within_about_a_second_when_a_trial_is_better_and_not_more_often(
    path: Path, on_disk: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=100.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(search.searcher, "time", clock)
    searcher = searcher_on(path)
    names = ("placement", "run", "look", "events", "newcomers", "leftovers")
    unused: dict[str, Any] = dict.fromkeys(names)
    watch = Watch(searcher=searcher, class_names=(), objectives=(), clock=SteadyClock(), spent=0.0, **unused)
    watch._next_look = watch._next_count = watch._next_room = math.inf
    searcher.suggest("a")
    for seconds, better, waits in ((1.1, 0.5, 1), (0.5, 0.6, 0), (0.6, None, 1), (9.0, None, 0), (0.1, 0.3, 0)):
        clock.now += seconds
        if better is not None:
            searcher.on_trial_result("a", result(len(on_disk), better))
        before = len(on_disk)
        watch.on_step_end()
        assert on_disk[before:] == [path.stat().st_size] * waits


def test_it_is_waited_for_once_when_many_that_waited_are_ended(path: Path, on_disk: list[int]) -> None:
    searcher = searcher_on(path)
    for ray_id in "abc":
        searcher.suggest(ray_id)
        searcher.on_trial_result(ray_id, result(1, 0.5))
        searcher.set_aside(ray_id)
    before = len(on_disk)
    for ray_id in "abc":
        searcher.on_trial_complete(ray_id)
    assert on_disk[before:] == []
    searcher._synced = -math.inf
    searcher.sync_when_due()
    assert on_disk[before:] == [path.stat().st_size]


def test_a_row_is_of_its_model_after_the_power_failed(
    path: Path, on_disk: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model of an epoch is on the disk before its result comes, and is never reported again."""
    monkeypatch.setattr(search.searcher, "SECONDS_BETWEEN_SYNCS", 0.0)
    before = searcher_on(path)
    before.suggest("a")
    for epoch, dice in enumerate((0.5, 0.6, 0.85, 0.7), start=1):
        before.on_trial_result("a", result(epoch, dice))
        before.sync_when_due()
    os.truncate(path, on_disk[-1])

    after = searcher_on(path)
    after.suggest("b")
    for epoch, dice in ((4, 0.7), (5, 0.71)):
        after.on_trial_result("b", result(epoch, dice))
    (record,) = records_from_study(after.study)
    assert (record.val_dice, record.best_epoch) == (0.85, 3)


def test_a_copy_opens_the_file_by_itself(path: Path) -> None:
    study = open_study(path)
    study.set_user_attr("seconds", 1)
    pickled = pickle.dumps(study)
    del study
    with (path.parent / "other").open("w+b") as other:  # under the number that the journal had
        pickle.loads(pickled).set_user_attr("devices", 2)
        assert other.read() == b""
    assert read_study(path).user_attrs == {"seconds": 1, "devices": 2}


def test_a_line_that_is_no_json_is_told(path: Path) -> None:
    path.write_text('{"op_code":oh}\n')
    with pytest.raises(InputError, match="is no Optuna journal"):
        open_study(path)
