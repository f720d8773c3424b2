"""Opening the Optuna study that is the memory of a run: one journal file in the run's folder."""

import os
import warnings
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection

from data.input_error import InputError
from search.journal import OpenJournal
from search.objectives import VAL_DICE
from search.sound_study import UNSOUND, ReadJournal, check_study

STUDY_NAME = "unet-search"
PAST = "past"  # the study's attribute: what earlier runs had shown when it began
TAIL = 1 << 20  # bytes at the end of the file in which its last line break is sought first
LINE_START = b'{"op_code":'


def open_study(journal: Path, objectives: Sequence[str] = (VAL_DICE,)) -> optuna.Study:
    """The study in this journal, to be written to; a new one where there is none.

    objectives: val_dice, which it maximizes, and costs, which it minimizes. A last line that was torn off when a driver
    was killed is dropped first: it would spoil the lines after it. Raises InputError for a file that is no journal, and
    for a study that is told to do something else.
    """
    if journal.exists():
        _drop_torn_line(journal)
    storage = _storage(journal, OpenJournal)
    directions = [StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * (len(objectives) - 1)]
    try:
        study = optuna.load_study(storage=storage, study_name=STUDY_NAME)
        check_study(study, repr(str(journal)))  # before anything is written to it
    except KeyError:
        study = optuna.create_study(storage=storage, study_name=STUDY_NAME, directions=directions)
    if study.directions != directions or study.metric_names not in (None, list(objectives)):
        told = zip_longest([one.name.lower() for one in study.directions], study.metric_names or (), fillvalue="")
        found = ", ".join(" ".join(words).strip() for words in told)
        asked = " and minimize ".join([f"maximize {VAL_DICE}", *objectives[1:]])
        raise InputError(f"study {str(journal)!r} is told to {found}, not to {asked}: name another run.")
    if len(objectives) > 1 and study.metric_names is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(list(objectives))
    return study


def objectives_of(study: optuna.Study) -> tuple[str, ...]:
    """What the trials of a study are judged by."""
    return tuple(study.metric_names or (VAL_DICE,))


def read_study(journal: Path) -> optuna.Study:
    """The study in this journal, to be looked at only. Raises InputError where there is none."""
    if not journal.is_file():
        raise InputError(f"study {str(journal)!r} does not exist: name the folder of a run.")
    try:
        study = optuna.load_study(storage=_storage(journal, ReadJournal), study_name=STUDY_NAME)
    except KeyError:
        raise InputError(f"study {str(journal)!r} holds no search: name the folder of a run.") from None
    check_study(study, repr(str(journal)))
    return study


def sync(study: optuna.Study) -> None:
    """Waits until the disk has all that is known of a study that `open_study` has opened."""
    assert isinstance(study._storage, JournalStorage)
    journal = study._storage._backend
    assert isinstance(journal, OpenJournal)
    journal.sync()


def _storage(journal: Path, open_file: Callable[[str], BaseJournalBackend]) -> JournalStorage:
    """Optuna's storage on the file, with its chatter silenced. Raises InputError when the file is no journal."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return JournalStorage(open_file(str(journal.absolute())))
    except UNSOUND as error:
        raise _no_journal(journal) from error


def _drop_torn_line(journal: Path) -> None:
    """Cuts the journal after its last whole line. Raises InputError when it does not begin and end like a journal."""
    with journal.open("r+b") as file:
        head = file.read(len(LINE_START))
        if not LINE_START.startswith(head):
            raise _no_journal(journal)
        size = file.seek(0, os.SEEK_END)
        length, start, tail = TAIL, size, b""
        while start and b"\n" not in tail:
            start = file.seek(max(0, size - length))
            tail, length = file.read(), 2 * length
        torn = tail[tail.rfind(b"\n") + 1 :]
        begun = torn.rstrip(b"\0")  # which a file system may leave where the power failed
        if not begun.startswith(LINE_START[: len(begun)]):
            raise _no_journal(journal)
        file.truncate(start + len(tail) - len(torn))


def _no_journal(journal: Path) -> InputError:
    return InputError(f"study {str(journal)!r} is no Optuna journal: move it away, or name another run.")
