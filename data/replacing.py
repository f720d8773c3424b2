"""Writes files that are replaced as a whole: whoever reads one finds the old or the new, never half of it."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place at the end, once it is safe on disk."""
    waiting = path.with_name(path.name + ".part")
    try:
        yield waiting
        with waiting.open("r+b") as file:
            os.fsync(file.fileno())
        waiting.replace(path)
    except BaseException:
        with suppress(OSError):
            waiting.unlink(missing_ok=True)  # half of a file would keep room that a full disk has not
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a small file of text."""
    with replacing(path) as waiting:
        waiting.write_text(text, encoding="utf-8")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path` to write to, which becomes `path` at the end; it is gone if that is not reached.

    Raises FileExistsError when there is something at `path` already.
    """
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", suffix=".part", dir=path.parent) as holder:
        # Not the holder itself, into which only its owner may look.
        waiting = Path(holder) / path.name
        waiting.mkdir()
        yield waiting
        waiting.rename(path)


def copy_folder(source: Path, target: Path) -> None:
    """Copies a folder; what was at the target is replaced once the copy is whole."""
    waiting = target.with_name(f"{target.name}.part")
    shutil.rmtree(waiting, ignore_errors=True)
    shutil.copytree(source, waiting)
    shutil.rmtree(target, ignore_errors=True)
    waiting.rename(target)
