"""The log of a run: a line for each thing that befell it, with the time, in `events.log` and on the screen."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

Say = Callable[[str], None]


class Events:
    """Tells what happens, once each: to the person who looks on, and to the file, after what stands there.

    A line of the file is the time in UTC, two spaces, and what happened in words.
    """

    def __init__(self, path: Path, say: Say = lambda _: None) -> None:
        self._path = path
        self._say = say

    def tell(self, text: str) -> None:
        """Says what has happened, on one line."""
        words = " ".join(text.split())
        self._say(words)
        # A search outlives a disk on which no more can be noted; the screen has had the line.
        with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ}  {words}\n")
