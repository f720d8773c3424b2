"""The folder of a run: where its parts lie, how it gets its name, and that one search at a time works in it."""

import atexit
import json
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from data.input_error import InputError
from data.json_file import read_json
from data.outlast import StorageError
from data.replacing import write_text
from data.segmentation_data import SegmentationData, Split
from search.holder import HOLDER, LOCK, Holder, holding, leased, noted
from search.sending import Sent
from search.storage import Storage, is_url, parse_url, refusing, run_at
from search.working_folder import DRIVER, FILES, fetch_run, working_folder

REPORT = "report.html"
SAME = ("fingerprint", "split", "folds")  # of the data, without which the trials of a run would not compare


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Where the parts of a run lie.

    path: of the folder. remote: where it is kept, if at a URL; the folder is then this machine's part of it. lost: says
    who has taken the run over from this driver, which must then end; empty while nobody has. is_sure: whether that is
    known at the moment. begun: is set once the search is not refused any more: from then on the folder stays, whatever
    happens.
    """

    path: Path
    remote: Storage | None = None
    lost: Callable[[], str] = field(default=str, compare=False, repr=False)
    is_sure: Callable[[], bool] = field(default=lambda: True, compare=False, repr=False)
    begun: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)

    @property
    def place(self) -> str:
        """What a person calls the folder, or its URL."""
        return str(self.remote or self.path)

    @property
    def settings(self) -> Path:
        """All that was asked, as YAML."""
        return self.path / "settings.yaml"

    @property
    def dataset(self) -> Path:
        """What the run learns from, as JSON."""
        return self.path / "dataset.json"

    @property
    def journal(self) -> Path:
        """The memory of the Optuna study."""
        return self.path / "study.log"

    @property
    def events(self) -> Path:
        """What befell the search, a line each."""
        return self.path / "events.log"

    @property
    def driver(self) -> Path:
        """The name of who searches here, where several drivers share a study."""
        return self.path / DRIVER

    @property
    def leaderboard(self) -> Path:
        """The table of trials."""
        return self.path / "leaderboard.csv"

    @property
    def best(self) -> Path:
        """The model of the best trial."""
        return self.path / "best"

    @property
    def trials(self) -> Path:
        """A folder for each trial."""
        return self.path / "trials"

    @property
    def scratch(self) -> Path:
        """What Ray keeps while the search runs."""
        return self.path / ".ray"


def storage_at(text: str) -> Path | Storage:
    """The folder, or the URL, below which runs lie. Raises InputError for a URL that is not known."""
    return parse_url(text) if is_url(text) else Path(text)


def fetch_to_read(run: str, *, model: bool = True) -> Path:
    """The folder of a run to be looked at: of one at a URL a copy of its tables, its study and its best model.

    model: whether that is wanted, too. Raises InputError when the URL cannot be read, or holds no run.
    """
    if not is_url(run):
        return Path(run)
    remote = run_at(run)
    # Neither that in which a driver may be at work, nor one that others read.
    home = working_folder(remote).parent
    home.mkdir(parents=True, exist_ok=True)
    copy = tempfile.mkdtemp(prefix=".read-", dir=home)
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    path = Path(copy) / remote.name
    with refusing(remote):
        there = [
            name
            for name in remote.files()
            if (name in FILES and name != REPORT) or (model and name.startswith("best/"))
        ]
        if not there:
            raise InputError(f"run {str(remote)!r} does not exist: give the URL of a run, STORAGE/NAME.")
        for name in there:
            with suppress(FileNotFoundError):  # it went between the two
                remote.fetch(name, path / name)
    return path


def choose_name(storage: Path | Storage, data: str) -> str:
    """The next free name for a run on this data, such as `stare-001`."""
    stem = re.sub(r"[^\w.+-]+", "-", Path(data).resolve().name if "/" in data else data).strip("-.") or "run"
    taken = [int(found[1]) for path in _entries(storage) if (found := re.fullmatch(rf"{re.escape(stem)}-(\d+)", path))]
    return f"{stem}-{max(taken, default=0) + 1:03d}"


def find_run(storage: Path | Storage, name: str) -> RunFolder:
    """The run of this name; of one at a URL, with its settings. Raises InputError when there is none to go on with."""
    run = _run_in(storage, name)
    if run.remote is not None:
        with refusing(storage):
            try:
                run.remote.fetch(run.settings.name, run.settings)
            except FileNotFoundError:
                run.settings.unlink(missing_ok=True)
    if not run.settings.is_file():
        others = _entries(storage)
        if isinstance(storage, Path):
            others = sorted(entry for entry in others if RunFolder(path=storage / entry).settings.is_file())
        there = f"there are {', '.join(others)}" if others else "there is none yet"
        raise InputError(f"run {name!r} does not exist in {str(storage)!r}, {there}: leave --resume out to start it.")
    return run


@contextmanager
def new_run(storage: Path | Storage, name: str, *, keep: bool = True) -> Iterator[RunFolder]:
    """A new folder of this name, held by this search.

    It is taken away again unless it is to be kept, and when the search is refused inside before it has begun.
    Raises InputError when there is one already, or when it cannot be made.
    """
    run = _run_in(storage, name)
    _clear_remains(run)
    made = [folder for folder in (run.path, *run.path.parents) if not folder.exists()]
    try:
        # An empty folder is what a search leaves that was killed before it began.
        run.path.mkdir(parents=True, exist_ok=run.path.is_dir() and not _entries(run.path))
    except FileExistsError:
        raise InputError(f"run {name!r} exists in {str(storage)!r}: add --resume, or take another --name.") from None
    except OSError as error:
        raise InputError(f"storage {str(storage)!r} cannot be written ({error.strerror}): name another.") from error
    ours = refused = False
    try:
        with held(run) as held_run:
            ours = True
            yield held_run
    except BaseException:
        refused = not run.begun.is_set()
        raise
    finally:
        if ours and (refused or not keep):
            if run.remote is not None:
                _take_back(run.remote, run.path)
            shutil.rmtree(run.path)
            with suppress(OSError):  # another run may have come to lie there
                for folder in made[1:]:
                    folder.rmdir()


@contextmanager
def held(run: RunFolder) -> Iterator[RunFolder]:
    """The run, in which nobody else searches meanwhile; one at a URL is up to date with that.

    Raises InputError when somebody does, and when the URL cannot be used.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    holder = Holder.here()
    with holding(run.path, run.path.name) as before:
        if run.remote is None:
            with noted(run.path, holder):
                yield run
            return
        with leased(run.remote, holder, before) as lease, noted(run.path, holder):
            with refusing(run.remote):
                fetch_run(run.remote, run.path)
            yield replace(run, lost=lambda: lease.lost, is_sure=lambda: lease.is_sure)


def describe_data(data: SegmentationData, splits: Sequence[Split]) -> dict[str, Any]:
    """What a run learns from, as JSON values: classes, sizes, fingerprint, and the split or, of several, the folds."""
    named = [
        {part: [data.names[index] for index in indices] for part, indices in asdict(split).items()} for split in splits
    ]
    return {
        "source": data.source,
        "fingerprint": data.fingerprint,
        "label_mode": data.label_mode,
        "class_names": list(data.class_names),
        "preparation": asdict(data.preparation),
        "sizes": {name: list(size) for name, size in zip(data.names, data.sizes, strict=True)},
        **({"split": named[0]} if len(named) == 1 else {"folds": named}),
    }


def check_same_data(run: RunFolder, facts: Mapping[str, Any]) -> None:
    """Raises InputError when the run began with other data, or when what it wrote of its data cannot be read."""
    if not run.dataset.is_file():
        return
    try:
        before = read_json(run.dataset)
        changed = [name for name in SAME if name in facts and before[name] != facts[name]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{str(run.dataset)!r} cannot be read ({error!r}): remove it if the pictures are the same as before."
        ) from error
    if changed:
        raise InputError(
            f"data {facts['source']!r} has not the {changed[0]} with which run {run.path.name!r} began; its trials "
            "would not compare: bring the old pictures back, or start a run with another --name."
        )


def keep_data(run: RunFolder, facts: Mapping[str, Any]) -> None:
    """Writes what the run learns from."""
    write_text(run.dataset, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def _run_in(storage: Path | Storage, name: str) -> RunFolder:
    """The run of this name, whether it is there or not."""
    if isinstance(storage, Path):
        return RunFolder(path=storage / name)
    return RunFolder(path=working_folder(storage / name), remote=storage / name)


def _clear_remains(run: RunFolder) -> None:
    """Clears the working folder of a run that begins at a URL, where there is none of this name yet.

    Raises InputError when there is. What the folder holds then is of one that somebody has removed there.
    """
    if run.remote is None:
        return
    with refusing(run.remote):
        there = [name for name in run.remote.files() if not name.startswith(".") and name != HOLDER]
    if there:
        raise InputError(f"run {run.path.name!r} exists in {run.place!r}: add --resume, or take another --name.")
    if run.path.is_dir():
        with holding(run.path, run.path.name):
            for path in run.path.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name not in (HOLDER, LOCK):  # the former says whose lease it is, that may be over
                    path.unlink()


def _take_back(remote: Storage, folder: Path) -> None:
    """Removes at the URL what was sent of a run that did not begin after all."""
    sent = Sent(folder, remote)
    with suppress(StorageError):  # then there is a run without a trial, which --resume goes on with
        for name in sent.names_below(""):
            sent.remove(name)


def _entries(storage: Path | Storage) -> list[str]:
    """Names in the storage, without the note of who holds it; none when it is not there yet."""
    if isinstance(storage, Storage):
        with refusing(storage):
            return storage.folders()
    return [path.name for path in storage.iterdir() if path.name not in (HOLDER, LOCK)] if storage.is_dir() else []
