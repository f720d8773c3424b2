"""The folder of a run: where its parts lie, how it gets its name, and that one search at a time works in it."""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data.input_error import InputError
from data.replacing import write_text
from data.segmentation_data import SegmentationData, Split

SAME = ("fingerprint", "split", "folds")  # of the data, without which the trials of a run would not compare


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Where the parts of a run lie. path: of the folder."""

    path: Path

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


def choose_name(storage: Path, data: str) -> str:
    """The next free name for a run on this data, such as `stare-001`."""
    stem = re.sub(r"[^\w.+-]+", "-", Path(data).resolve().name if "/" in data else data).strip("-.") or "run"
    taken = [int(found[1]) for path in _entries(storage) if (found := re.fullmatch(rf"{re.escape(stem)}-(\d+)", path))]
    return f"{stem}-{max(taken, default=0) + 1:03d}"


def find_run(storage: Path, name: str) -> RunFolder:
    """The run of this name. Raises InputError when there is none to go on with."""
    run = RunFolder(path=storage / name)
    if not run.settings.is_file():
        others = sorted(entry for entry in _entries(storage) if RunFolder(path=storage / entry).settings.is_file())
        there = f"there are {', '.join(others)}" if others else "there is none yet"
        raise InputError(f"run {name!r} does not exist in {str(storage)!r}, {there}: leave --resume out to start it.")
    return run


@contextmanager
def new_run(storage: Path, name: str, *, keep: bool = True) -> Iterator[RunFolder]:
    """A new folder of this name, held by this search.

    It is taken away again unless it is to be kept, and when the search is refused inside before any trial began.
    Raises InputError when there is one already, or when it cannot be made.
    """
    run = RunFolder(path=storage / name)
    made = [folder for folder in (run.path, *run.path.parents) if not folder.exists()]
    try:
        # An empty folder is what a search leaves that was killed before it began.
        run.path.mkdir(parents=True, exist_ok=run.path.is_dir() and not any(run.path.iterdir()))
    except FileExistsError:
        raise InputError(f"run {name!r} exists in {str(storage)!r}: add --resume, or take another --name.") from None
    except OSError as error:
        raise InputError(f"storage {str(storage)!r} cannot be written ({error.strerror}): name another.") from error
    refused = False
    try:
        with held(run):
            yield run
    except BaseException:
        refused = not run.trials.exists()
        raise
    finally:
        if refused or not keep:
            shutil.rmtree(run.path)
            with suppress(OSError):  # another run may have come to lie there
                for folder in made[1:]:
                    folder.rmdir()


@contextmanager
def held(run: RunFolder) -> Iterator[RunFolder]:
    """The run, in which nobody else searches meanwhile. Raises InputError when somebody does."""
    descriptor = os.open(run.path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"run {run.path.name!r} is being searched right now: wait, or stop it first.") from None
        yield run
    finally:
        os.close(descriptor)


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
        before = json.loads(run.dataset.read_text(encoding="utf-8"))
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


def _entries(storage: Path) -> list[str]:
    """Names in the storage folder; none when it is not there yet."""
    return [path.name for path in storage.iterdir()] if storage.is_dir() else []
