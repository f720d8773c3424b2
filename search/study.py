"""Opening the Optuna study that is the memory of a run: a journal file in its folder, or a database that is shared."""

import os
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import StudyDirection

from data.input_error import InputError
from data.replacing import replacing
from search.drivers import PLACE, driver_id, driver_of
from search.journal import OpenJournal
from search.objectives import VAL_DICE
from search.run_folder import RunFolder
from search.sound_study import UNSOUND, ReadJournal, check_study
from search.study_address import SharedPlace, read_address

if TYPE_CHECKING:
    from search.shared_study import SharedStorage

StudyPlace = Path | SharedPlace  # a journal, or a study in a database

STUDY_NAME = "unet-search"
TERMS = "terms"  # the study's attribute: what all drivers that share it were asked alike
VERSIONS = "versions"  # the study's attribute: of the libraries with which its last session ran
PAST = "past"  # the study's attribute: what earlier runs had shown when it began
TAIL = 1 << 20  # bytes at the end of the file in which its last line break is sought first
LINE_START = b'{"op_code":'


def study_place(run: RunFolder, study: str | None) -> StudyPlace:
    """Where the study of a run is. study: the address of the database, or None for the journal in its folder."""
    if study is None:
        return run.journal
    return SharedPlace(address=read_address(study), name=run.path.name, driver=driver_id(run))


def find_study(place: StudyPlace, objectives: Sequence[str] = (VAL_DICE,)) -> optuna.Study | None:
    """The study that `open_study` opens, where there is one already; else None. Raises InputError as that does."""
    if isinstance(place, Path):
        return open_study(place, objectives) if place.is_file() else None
    names = [study.study_name for study in _database(place).get_all_studies()]
    return open_study(place, objectives) if _name_in(place) in names else None


def open_study(place: StudyPlace, objectives: Sequence[str] = (VAL_DICE,)) -> optuna.Study:
    """The study in this place, to be written to; a new one where there is none.

    objectives: val_dice, which it maximizes, and costs, which it minimizes. A last line of a journal that was torn off
    when a driver was killed is dropped first: it would spoil the lines after it. Raises InputError for a file that is
    no journal, for a database that cannot be used, and for a study that is told to do something else.
    """
    if isinstance(place, Path) and place.exists():
        _drop_torn_line(place)
    storage = _storage(place, OpenJournal) if isinstance(place, Path) else _database(place)
    directions = [StudyDirection.MAXIMIZE, *[StudyDirection.MINIMIZE] * (len(objectives) - 1)]
    try:
        study = optuna.load_study(storage=storage, study_name=_name_in(place))
        check_study(study, repr(str(place)))  # before anything is written to it
    except KeyError:
        study = optuna.create_study(
            storage=storage, study_name=_name_in(place), directions=directions, load_if_exists=True
        )
    if study.directions != directions or study.metric_names not in (None, list(objectives)):
        told = zip_longest([one.name.lower() for one in study.directions], study.metric_names or (), fillvalue="")
        found = ", ".join(" ".join(words).strip() for words in told)
        asked = " and minimize ".join([f"maximize {VAL_DICE}", *objectives[1:]])
        raise InputError(f"study {str(place)!r} is told to {found}, not to {asked}: name another run.")
    if study.metric_names is None:
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
    """Waits until the disk has all that is known of a study that `open_study` has opened.

    A database says so itself, each time that it is written to.
    """
    if is_shared(study):
        return
    assert isinstance(study._storage, JournalStorage)
    journal = study._storage._backend
    assert isinstance(journal, OpenJournal)
    journal.sync()


def is_shared(study: optuna.Study) -> bool:
    """Whether other drivers may write to a study that `open_study` has opened."""
    return driver_of(study) != ""


def refresh(study: optuna.Study) -> None:
    """Reads what other drivers have written to a study since, and lets them know that this one is there."""
    if is_shared(study):
        _shared(study).refresh(study._study_id)


def agree(study: optuna.Study, terms: Mapping[str, Any]) -> None:
    """Settles on what all drivers of a shared study are asked alike: what the first one was asked."""
    if is_shared(study):
        _differ_not(study, _shared(study).set_once(study._study_id, TERMS, dict(terms)), terms)


def check_terms(study: optuna.Study, terms: Mapping[str, Any]) -> None:
    """Raises InputError where a driver is asked for something else than those with which it would share the study."""
    if (kept := study.user_attrs.get(TERMS)) is not None:
        _differ_not(study, kept, terms)


def enter(study: optuna.Study, run: RunFolder) -> None:
    """Tells the other drivers of a shared study where this one keeps its trials."""
    if is_shared(study):
        study.set_user_attr(PLACE, f"{platform.node()}:{run.path.absolute()}")


@contextmanager
def outages_told(study: optuna.Study, say: Callable[[str], None], interrupted: Callable[[], bool]) -> Iterator[None]:
    """Inside, a database that is away is waited for, with a line to say so, until somebody interrupts.

    One that stays away, or refuses, ends it with the InputError that says so, whatever Ray has made of that.
    """
    if not is_shared(study):
        yield
        return
    outage = _shared(study).outage
    outage.say, outage.interrupted = say, interrupted
    try:
        yield
    except Exception:
        if outage.refusal is not None:
            raise outage.refusal from None
        raise


def keep_copy(study: optuna.Study, journal: Path) -> None:
    """Writes a shared study into a journal, for all that only look at the run."""
    with replacing(journal) as waiting:
        waiting.unlink(missing_ok=True)
        optuna.copy_study(
            from_study_name=study.study_name,
            from_storage=study._storage,
            to_storage=JournalStorage(OpenJournal(str(waiting.absolute()))),
            to_study_name=STUDY_NAME,
        )


def _differ_not(study: optuna.Study, kept: Mapping[str, Any], terms: Mapping[str, Any]) -> None:
    for name, value in terms.items():
        if name in kept and kept[name] != value:
            raise InputError(
                f"{name} {value!r} differs from {kept[name]!r}, with which shared study {study.study_name!r} began, "
                "and all its drivers keep to it: ask for the same, or start a run with another --name."
            )


def _name_in(place: StudyPlace) -> str:
    """The name of a study where it is: a database has those of many runs."""
    return STUDY_NAME if isinstance(place, Path) else f"{STUDY_NAME}/{place.name}"


def _database(place: SharedPlace) -> "SharedStorage":
    from search.shared_study import open_storage  # which loads what a journal has no need of

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return open_storage(place)


def _shared(study: optuna.Study) -> "SharedStorage":
    from search.shared_study import SharedStorage

    assert isinstance(study._storage, SharedStorage)
    return study._storage


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
