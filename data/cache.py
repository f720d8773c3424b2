"""The folder of prepared data: each data set whole or not at all, written by one process at a time."""

import errno
import fcntl
import hashlib
import io
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.array_file import open_array
from data.statistics import Statistics

Bytes = npt.NDArray[np.uint8]

_DETAILS = "data.json"
_STATISTICS = "statistics.npz"
_LOCK, _DRAFT, _OLD = ".lock", ".draft", ".old"
# Of each array so many blocks of so many bytes, evenly spaced, are looked at when it is opened.
_BLOCKS, _BLOCK = 16, 4096
# An entry that nobody has read for so many seconds goes when another is made: 30 days.
_UNUSED = 30 * 24 * 3600


class NotKeptError(Exception):
    """The cache folder cannot take the data; the message says why, without a full stop."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What was kept. arrays: name -> uint8 array, mapped from its file; details: what was said of them, as in JSON."""

    arrays: Mapping[str, Bytes]
    statistics: Statistics
    details: Mapping[str, Any]


def cache_folder() -> Path:
    """Where prepared data is kept: `UNET_SEARCH_CACHE`, or `unet-search` in the user's cache folder."""
    if chosen := os.environ.get("UNET_SEARCH_CACHE"):
        return Path(chosen).expanduser()
    users = os.environ.get("XDG_CACHE_HOME")
    return (Path(users) if users else Path.home() / ".cache") / "unet-search"


def read_entry(entry: Path) -> Kept | None:
    """What lies in the folder `entry`, or None when there is nothing or it is damaged.

    Details and statistics are checked to the last bit. Of the arrays, which may be far larger than memory, the length
    and shape are, and a few blocks spread over each: a file that is cut short, left over, swapped or half-written is
    noticed; a single byte that changed on the disk may not be. Its time of change then says when it was last read.
    """
    try:
        record = json.loads((entry / _DETAILS).read_text(encoding="utf-8"))
        facts = record["facts"]
        counted = (entry / _STATISTICS).read_bytes()
        if _digest(facts) != record["digest"] or hashlib.sha256(counted).hexdigest() != facts["statistics"]:
            return None
        arrays = {}
        for name, sample in facts["arrays"].items():
            if _sample(entry / f"{name}.npy") != sample:
                return None
            arrays[name] = open_array(entry / f"{name}.npy")
        with np.load(io.BytesIO(counted), allow_pickle=False) as statistics:
            kept = Kept(arrays=arrays, statistics=Statistics(**statistics), details=facts["details"])
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError):
        return None
    with suppress(OSError):  # somebody else's folder may be read-only, and then nothing is removed there either
        os.utime(entry)
    return kept


@contextmanager
def sole_access(entry: Path) -> Iterator[None]:
    """Waits until no other process or thread makes this entry, and keeps them waiting in turn.

    A process that is killed lets go by itself. Raises NotKeptError when the cache folder cannot be written.
    """
    path = _beside(entry, _LOCK)
    with ExitStack() as held:
        with _writing():
            entry.parent.mkdir(parents=True, exist_ok=True)
            descriptor = _lock(path, wait=True)
        assert descriptor is not None
        # Gone first, let go of after: whoever waits for it sees that it is no longer the one in the folder.
        held.callback(os.close, descriptor)
        held.callback(path.unlink, missing_ok=True)
        yield


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An entry that is being written by its one owner; its methods raise NotKeptError when the disk is full.

    entry: what it becomes. folder: where it is written until then. shapes: of the arrays. files: of each array, the
    descriptor and where its numbers begin, in bytes.
    """

    entry: Path
    folder: Path
    shapes: Mapping[str, tuple[int, ...]]
    files: Mapping[str, tuple[int, int]]

    def write(self, name: str, index: int, picture: Bytes) -> None:
        """Puts the part `index` of an array in its place; in any order, from several threads."""
        assert picture.shape == self.shapes[name][1:] and picture.dtype == np.uint8
        descriptor, begin = self.files[name]
        rest = np.ascontiguousarray(picture).data.cast("B")
        place = begin + index * len(rest)
        with _writing():
            while rest:
                written = os.pwrite(descriptor, rest, place)
                rest, place = rest[written:], place + written

    def finish(self, statistics: Statistics, details: Mapping[str, Any]) -> None:
        """Makes it the entry, once all is safe on the disk; what was there before goes away in one move."""
        counted = io.BytesIO()
        np.savez(counted, allow_pickle=False, **vars(statistics))
        with _writing():
            for descriptor, _ in self.files.values():
                os.fsync(descriptor)
            facts = {
                "details": details,
                "statistics": hashlib.sha256(counted.getbuffer()).hexdigest(),
                "arrays": {name: _sample(self.folder / f"{name}.npy") for name in self.shapes},
            }
            (self.folder / _STATISTICS).write_bytes(counted.getbuffer())
            record = json.dumps({"facts": facts, "digest": _digest(facts)})
            (self.folder / _DETAILS).write_text(record, encoding="utf-8")
            if self.entry.exists():
                self.entry.rename(_beside(self.entry, _OLD))
            self.folder.rename(self.entry)


@contextmanager
def new_entry(entry: Path, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Draft]:
    """A draft with room for uint8 arrays of these shapes, for whom has sole access; gone at the end if not finished.

    Raises NotKeptError when the disk has no room for it or cannot be written.
    """
    folder = _beside(entry, _DRAFT)
    with ExitStack() as stack:
        for leftover in (folder, _beside(entry, _OLD)):
            shutil.rmtree(leftover, ignore_errors=True)
            stack.callback(shutil.rmtree, leftover, ignore_errors=True)
        with _writing():
            _remove_dead_drafts(entry.parent)
            _remove_unused(entry.parent)
            _require_room(entry.parent, sum(math.prod(shape) for shape in shapes.values()))
            folder.mkdir()
            files = {}
            for name, shape in shapes.items():
                file = stack.enter_context((folder / f"{name}.npy").open("wb", buffering=0))
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                files[name] = file.fileno(), file.tell()
        yield Draft(entry=entry, folder=folder, shapes=shapes, files=files)


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotKeptError(error.strerror or str(error)) from error


def _beside(entry: Path, suffix: str) -> Path:
    return entry.with_name(entry.name + suffix)


def _lock(path: Path, *, wait: bool) -> int | None:
    """The descriptor of the lock file, locked; None when another holds it and we do not wait."""
    while True:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it may have removed the file while we waited; then ours is one that nobody else sees.
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _remove_dead_drafts(cache: Path) -> None:
    """Removes what killed processes left: whatever is half made and locked by nobody."""
    for path in cache.glob(f"*{_LOCK}"):
        descriptor = _lock(path, wait=False)
        if descriptor is None:
            continue
        for suffix in (_DRAFT, _OLD):
            shutil.rmtree(path.with_suffix(suffix), ignore_errors=True)
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _remove_unused(cache: Path) -> None:
    """Removes entries that nobody has read for long: of pictures that changed, or of preparations nobody uses."""
    for details in cache.glob(f"*/{_DETAILS}"):
        entry = details.parent
        if not entry.suffix and entry.stat().st_mtime < time.time() - _UNUSED:
            shutil.rmtree(entry, ignore_errors=True)


def _require_room(folder: Path, size: int) -> None:
    """Raises OSError when the disk has no room for so many bytes, before an hour is spent on them."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(errno.ENOSPC, f"it takes {size / 1e6:,.1f} MB and {free / 1e6:,.1f} MB are free")


def _sample(path: Path) -> str:
    """A digest of a file's length and of a few blocks of it, its first and last among them."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        digest.update(str(length).encode())
        for number in range(_BLOCKS):
            file.seek(max(0, length - _BLOCK) * number // (_BLOCKS - 1))
            digest.update(file.read(_BLOCK))
    return digest.hexdigest()


def _digest(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
