"""The file behind the study of a run, for the one driver that writes to it: Optuna's journal, kept open."""

import json
import os
import weakref
from collections.abc import Iterator
from typing import Any

from optuna.storages.journal import BaseJournalBackend

from data.outlast import outlast
from search.sound_study import read_line

PIECE = 1 << 20  # bytes that are read at once, or more where a line is longer


class OpenJournal(BaseJournalBackend):
    """A journal file that stays open, line by line as Optuna's own backend has it.

    That one opens the file anew for each line, locks it, and waits until the disk has it, so that any number of
    processes may write. A run is searched by one driver at a time. Here each line is given to the system in one piece,
    and the disk is waited for when somebody asks for it (`sync`): a driver that is killed at any moment loses no line,
    and a machine without power none before that.
    """

    def __init__(self, path: str) -> None:
        """Opens the file, or makes it."""
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        weakref.finalize(self, os.close, self._file)
        # How many lines have been read, and where the next one begins; and the same one line before, for a reader who
        # was interrupted while he took that line.
        self._at = self._before = 0, 0
        self._own: tuple[bytes, list[dict[str, Any]]] = b"", []  # what was added last

    def __reduce__(self) -> tuple[type["OpenJournal"], tuple[str]]:
        # The number of an open file means another one, or none, in another process.
        return OpenJournal, (self._path,)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Adds lines at the end of the file, all or none. Raises GaveUpError when there is no room for long."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        outlast(lambda: self._append(lines), f"disk of {self._path!r}")
        self._own = lines, logs

    def _append(self, lines: bytes) -> None:
        end, written = os.fstat(self._file).st_size, 0
        try:
            while written < len(lines):
                written += os.write(self._file, lines[written:])
        except BaseException:
            if os.fstat(self._file).st_size == end + written:  # nobody else has written since
                os.ftruncate(self._file, end)
            raise

    def sync(self) -> None:
        """Waits until the disk has all lines."""
        outlast(lambda: os.fsync(self._file), f"disk of {self._path!r}")

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The lines from this one on. A last one that is not whole is left for the next time.

        Raises ValueError for a line that is no operation.
        """
        if log_number_from == self._before[0]:
            self._at = self._before
        assert log_number_from == self._at[0], "there is one reader"
        size = PIECE
        while piece := os.pread(self._file, size, self._at[1]):
            lines = piece.split(b"\n")[:-1]
            if not lines and len(piece) < size:
                return
            size = PIECE if lines else 2 * size
            # Of its own lines it has the values, which are quicker there, and share the names of their fields.
            logs = iter(self._own[1]) if piece == self._own[0] else map(read_line, lines)
            for line, log in zip(lines, logs, strict=True):
                self._before = self._at
                self._at = self._at[0] + 1, self._at[1] + len(line) + 1
                yield log
