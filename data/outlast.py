"""Patience with a disk or a storage that fails for a while: does something again until it works, and says so."""

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

PATIENCE = 600.0  # seconds for which something that fails is tried again
FIRST_WAIT, LONGEST_WAIT = 0.5, 15.0  # seconds between two tries

# What a full disk, or a network folder whose server is away or which is not mounted, says: it may be over in a while.
PASSING = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EROFS}
)

Result = TypeVar("Result")
Say = Callable[[str], None]


class StorageError(OSError):
    """What a storage at a URL answers when it cannot do what it is asked, on one line."""


class GaveUpError(Exception):
    """A disk or storage has failed for longer than one waits; the message says which, and how. Nothing is broken."""


def is_passing(error: BaseException, home: Path | None = None) -> bool:
    """Whether something may work in a while that failed like this: no room, no answer.

    home: a folder that must be there: while it is gone, whatever fails may be over in a while.
    """
    if isinstance(error, StorageError):
        return True
    return isinstance(error, OSError) and (error.errno in PASSING or (home is not None and not home.is_dir()))


def say_plainly(words: str) -> None:
    """Prints a line at once."""
    print(words, flush=True)


def reason_of(error: BaseException) -> str:
    """Why it failed, on one line."""
    words = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    return " ".join(words.split())


def outlast(
    do: Callable[[], Result],
    what: str,
    *,
    say: Say = say_plainly,
    patience: float | None = None,
    home: Path | None = None,
) -> Result:
    """What `do` gives, tried again while it fails in a way that may pass: for `PATIENCE` seconds, or as many as said.

    what: the disk or storage, in words. say: is handed one line when the waiting begins, and one when it is over.
    home: as in `is_passing`. Raises GaveUpError when it fails for longer; any other error goes through at once, as does
    Ctrl-C.
    """
    began, wait = None, FIRST_WAIT
    while True:
        try:
            result = do()
        except OSError as error:
            if not is_passing(error, home):
                raise
            now = time.monotonic()
            if began is None:
                began = now
                say(f"{what} fails ({reason_of(error)}): waiting until it works again")
            longest = PATIENCE if patience is None else patience
            if now - began >= longest:
                raise GaveUpError(f"{what} has failed for {now - began:.0f} s ({reason_of(error)})") from error
            time.sleep(min(wait, max(0.0, began + longest - now)))
            wait = min(2 * wait, LONGEST_WAIT)
        else:
            if began is not None:
                say(f"{what} works again after {time.monotonic() - began:.0f} s")
            return result
