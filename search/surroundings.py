"""Which errors are those of a trial's surroundings: a disk that is full, a storage that is gone."""

import errno

NUMBERS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS, errno.ETIMEDOUT, errno.ENODEV})
# What libraries say that keep the words, or the number, and not the error.
WORDS = (
    "No space left on device",
    "Disk quota exceeded",
    "Input/output error",
    "Stale file handle",
    "Read-only file system",
    "OutOfDiskError",
)


def is_of_storage(error: BaseException) -> bool:
    """Whether somebody else must mend what this error speaks of, after which the same trial may well succeed."""
    return isinstance(error, OSError) and (error.errno in NUMBERS or speaks_of_storage(str(error)))


def speaks_of_storage(text: str) -> bool:
    """Whether the account of an error names one of a storage."""
    return any(words in text for words in WORDS)
