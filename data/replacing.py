"""Writes files that are replaced as a whole: whoever reads one finds the old or the new, never half of it."""

import os
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
