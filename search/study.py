"""Opening the Optuna study that is the memory of a run: one journal file in the run's folder."""

import os
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from data.input_error import InputError

STUDY_NAME = "unet-search"
PAST = "past"  # the study's attribute: what earlier runs had shown when it began
DIRECTION = optuna.study.StudyDirection.MAXIMIZE
# A driver killed while it held the journal's lock leaves the lock behind; a write takes milliseconds.
LOCK_GRACE_SECONDS = 5
LARGEST_LINE = 1 << 20  # bytes
LINE_START = b'{"op_code":'


def open_study(journal: Path) -> optuna.Study:
    """The study in this journal, to be written to; a new one where there is none.

    A last line that was torn off when a driver was killed is dropped first: it would spoil the lines after it. Raises
    InputError for a file that is no journal, and for a study that minimizes.
    """
    if journal.exists():
        _drop_torn_line(journal)
    storage = _storage(journal)
    study = optuna.create_study(storage=storage, study_name=STUDY_NAME, direction=DIRECTION, load_if_exists=True)
    if study.directions != [DIRECTION]:
        found = ", ".join(direction.name.lower() for direction in study.directions)
        raise InputError(f"study {str(journal)!r} is told to {found}, not to maximize val_dice: name another run.")
    return study


def read_study(journal: Path) -> optuna.Study:
    """The study in this journal, to be looked at only. Raises InputError where there is none."""
    if not journal.is_file():
        raise InputError(f"study {str(journal)!r} does not exist: name the folder of a run.")
    try:
        return optuna.load_study(storage=_storage(journal), study_name=STUDY_NAME)
    except KeyError:
        raise InputError(f"study {str(journal)!r} holds no search: name the folder of a run.") from None


def _storage(journal: Path) -> JournalStorage:
    """Optuna's storage on the file, with its chatter silenced. Raises InputError when the file is no journal."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = str(journal.absolute())
    try:
        return JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path, LOCK_GRACE_SECONDS)))
    except (ValueError, KeyError, AssertionError) as error:
        raise _no_journal(journal) from error


def _drop_torn_line(journal: Path) -> None:
    """Cuts the journal after its last whole line. Raises InputError when it does not begin and end like a journal."""
    with journal.open("r+b") as file:
        head = file.read(len(LINE_START))
        if not LINE_START.startswith(head):
            raise _no_journal(journal)
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - LARGEST_LINE))
        tail = file.read()
        torn = tail[tail.rfind(b"\n") + 1 :]
        if not torn.startswith(LINE_START[: len(torn)]):
            raise _no_journal(journal)
        file.truncate(start + len(tail) - len(torn))


def _no_journal(journal: Path) -> InputError:
    return InputError(f"study {str(journal)!r} is no Optuna journal: move it away, or name another run.")
