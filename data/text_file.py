"""Reads a text file that a person wrote, and no more of it than such a file may have."""

from pathlib import Path

from data.input_error import InputError

MOST_BYTES = 2**26  # of a list of names


def read_lines(path: Path) -> list[str]:
    """The lines of a file in UTF-8, without their ends. Raises InputError when it cannot be read."""
    try:
        content = read_bytes(path, MOST_BYTES)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error.strerror}): mend it or remove it.") from error
    except ValueError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error}): mend it or remove it.") from error
    return content.decode("utf-8-sig", errors="replace").splitlines()


def read_bytes(path: Path, most: int) -> bytes:
    """All bytes of a file. Raises OSError where it cannot be read, and ValueError where it has more than `most`."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most // 2**20} MiB")
    return content
