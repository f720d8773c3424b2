"""The file behind the study of a run, for the one driver that writes to it: Optuna's journal, kept open."""

import errno
import json
import os
import weakref
from collections.abc import Iterator
from typing import Any

from optuna.storages.journal import BaseJournalBackend
from optuna.storages.journal._storage import JournalOperation

LARGEST_LINE = 1 << 20  # bytes
# What must be on the disk before the driver goes on: that a trial is begun, which then has a folder, and that it ended.
LASTING = (JournalOperation.CREATE_TRIAL, JournalOperation.SET_TRIAL_STATE_VALUES)


class OpenJournal(BaseJournalBackend):
    """A journal file that stays open, line by line as Optuna's own backend has it.

    That one opens the file anew for each line, locks it, and waits until the disk has it, so that any number of
    processes may write. A run is searched by one driver at a time. Here each line is given to the system in one piece,
    and the disk is waited for when a trial begins or ends: a driver that is killed at any moment loses no line, and a
    machine without power none on the end of a trial.
    """

    def __init__(self, path: str) -> None:
        """Opens the file, or makes it."""
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        weakref.finalize(self, os.close, self._file)
        self._lines = self._offset = 0  # that have been read
        self._own: tuple[bytes, list[dict[str, Any]]] = b"", []  # what was added last

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Adds lines at the end of the file, all or none. Raises OSError where the disk is full."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        written = os.write(self._file, lines)
        if written < len(lines):
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._own = lines, logs
        if any(log["op_code"] in LASTING for log in logs):
            os.fsync(self._file)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """The lines from this one on. A last one that is not whole is left for the next time.

        Raises ValueError for a line that is no JSON.
        """
        assert log_number_from == self._lines, "there is one reader"
        while piece := os.pread(self._file, LARGEST_LINE, self._offset):
            lines = piece.split(b"\n")[:-1]
            # Of its own lines it has the values, which are quicker there, and share the names of their fields.
            logs = iter(self._own[1]) if piece == self._own[0] else map(json.loads, lines)
            for line in lines:
                self._lines += 1
                self._offset += len(line) + 1
                yield next(logs)
            if b"\n" not in piece:
                return
