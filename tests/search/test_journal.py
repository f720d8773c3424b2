"""The journal of a run, beside Optuna's own backend, which reads what it writes and writes what it reads."""

import os
import pickle
import resource
from itertools import product
from pathlib import Path

import pytest
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import TrialState

import search.journal
import search.searcher
from data.input_error import InputError
from search.journal import OpenJournal
from search.record import records_from_study
from search.searcher import StudySearcher
from search.space import parse_space
from search.study import open_study, read_study

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


def test_the_disk_is_waited_for_when_a_trial_begins_or_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.stat().st_size))
    journal = OpenJournal(str(path))
    for operation, state in product(JournalOperation, TrialState):
        before = len(synced)
        journal.append_logs([{"op_code": operation, "state": state}])
        ends = operation == JournalOperation.SET_TRIAL_STATE_VALUES and state.is_finished()
        lasts = ends or operation == JournalOperation.CREATE_TRIAL
        assert synced[before:] == ([path.stat().st_size] if lasts else [])


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


def test_a_row_is_of_its_model_after_the_power_failed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of an epoch is on the disk before its result comes, and is never reported again."""
    on_disk: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _: on_disk.append(path.stat().st_size))
    monkeypatch.setattr(search.searcher, "SECONDS_BETWEEN_SYNCS", 0.0)

    def searcher() -> StudySearcher:
        return StudySearcher(journal=path, space=parse_space({}), num_trials=None, seed=0, max_concurrent=1)

    before = searcher()
    before.suggest("a")
    for epoch, dice in enumerate((0.5, 0.6, 0.85, 0.7), start=1):
        before.on_trial_result("a", {"epoch": epoch, "val_dice": dice, "checkpoint": "trials/t0000/best"})
    os.truncate(path, on_disk[-1])

    after = searcher()
    after.suggest("b")
    for epoch, dice in ((4, 0.7), (5, 0.71)):
        after.on_trial_result("b", {"epoch": epoch, "val_dice": dice, "checkpoint": "trials/t0000/best"})
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
