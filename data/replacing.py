"""Writes files that are replaced as a whole: whoever reads one finds the old or the new, never half of it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place at the end, once it is safe on disk."""
    waiting = path.with_name(path.name + ".part")
    yield waiting
    with waiting.open("r+b") as file:
        os.fsync(file.fileno())
    waiting.replace(path)


def write_text(path: Path, text: str) -> None:
    """Writes a small file of text."""
    with replacing(path) as waiting:
        waiting.write_text(text, encoding="utf-8")


def copy_folder(source: Path, target: Path) -> None:
    """Copies a folder; what was at the target is replaced once the copy is whole."""
    waiting = target.with_name(f"{target.name}.part")
    shutil.rmtree(waiting, ignore_errors=True)
    shutil.copytree(source, waiting)
    shutil.rmtree(target, ignore_errors=True)
    waiting.rename(target)
