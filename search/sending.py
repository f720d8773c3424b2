"""Files on their way to a storage: each as it was at one moment, whole, and only where it has changed since."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from data.replacing import write_text
from search.storage import Storage

SENT = ".sent.json"  # in a folder: of each file that its storage has, by what it was told apart
WEIGHTS_SUFFIX = ".safetensors"
LENGTH = 8  # bytes that say how long the header of such a file is
LONGEST_HEADER = 100_000_000  # bytes, by the format

Mark = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A file as it is now, open: files here are replaced, never changed, so it stays as it is while it is sent.

    mark: its number on the disk, when it was written, and its size.
    """

    name: str
    file: BinaryIO
    mark: Mark


@contextmanager
def shots_of(folder: Path, names: Iterable[str]) -> Iterator[list[Shot]]:
    """These files of a folder, all opened at once; those that are not there are left out."""
    with ExitStack() as opened:
        shots = []
        for name in names:
            with suppress(FileNotFoundError, NotADirectoryError):
                file = opened.enter_context((folder / name).open("rb"))
                about = os.fstat(file.fileno())
                shots.append(Shot(name=name, file=file, mark=(about.st_ino, about.st_mtime_ns, about.st_size)))
        yield shots


class Sent:
    """What of a folder its storage has: remembered on the disk, for whoever sends from this folder next."""

    def __init__(self, folder: Path, remote: Storage) -> None:
        self._folder = folder
        self._remote = remote
        try:
            known = json.loads((folder / SENT).read_text(encoding="utf-8"))
            self._marks = {str(name): tuple(map(int, mark)) for name, mark in known.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            self._marks = {}  # all is sent once more

    def lacks(self, shots: Iterable[Shot]) -> list[Shot]:
        """Those of the files that the storage does not have."""
        return [shot for shot in shots if self._marks.get(shot.name) != shot.mark]

    def send(self, shots: Iterable[Shot], *, may_go_on: Callable[[], bool] = lambda: True) -> None:
        """Sends those of the files, in their order, that the storage does not have. Raises StorageError.

        A damaged one is never sent: what the storage has of it may be good. may_go_on: asked before each file.
        """
        lacking = self.lacks(shots)
        try:
            for shot in lacking:
                if not may_go_on():
                    return
                if is_whole(shot):
                    shot.file.seek(0)
                    self._remote.put_stream(shot.name, shot.file)
                    self._marks[shot.name] = shot.mark
        finally:
            if lacking:
                self._remember()

    def fetch(self, name: str) -> None:
        """Fetches a file, unless it has changed here since it was sent. Raises StorageError, FileNotFoundError."""
        with shots_of(self._folder, [name]) as here:
            if self.lacks(here):
                return
        self._remote.fetch(name, self._folder / name)
        with shots_of(self._folder, [name]) as here:
            self._marks |= {shot.name: shot.mark for shot in here}
        self._remember()

    def _remember(self) -> None:
        if self._folder.is_dir():
            with suppress(OSError):  # on a full disk; then it is sent once more
                write_text(self._folder / SENT, json.dumps(self._marks))

    def names_below(self, prefix: str) -> list[str]:
        """The names of all files that were sent and begin like this."""
        return [name for name in self._marks if name.startswith(prefix)]

    def remove(self, name: str) -> None:
        """Removes a file at the storage that was sent from here. Raises StorageError."""
        self._remote.remove(name)
        self._marks.pop(name, None)


def is_whole(shot: Shot) -> bool:
    """Whether a file of weights is as long as its header says, and can be read to its end; others are, always.

    It is read here once: the storage would keep the beginning of a file whose reading fails on the way.
    """
    if not shot.name.endswith(WEIGHTS_SUFFIX):
        return True
    try:
        shot.file.seek(0)
        length = int.from_bytes(shot.file.read(LENGTH), "little")
        if not 0 < length <= LONGEST_HEADER:
            return False
        header = json.loads(shot.file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        while shot.file.read(1 << 20):
            pass
        return shot.file.tell() == LENGTH + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return False
