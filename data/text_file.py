"""Reads the lines of a text file that a person wrote."""

from pathlib import Path

from data.input_error import InputError


def read_lines(path: Path) -> list[str]:
    """The lines of a file in UTF-8, without their ends. Raises InputError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read ({error.strerror}): mend it or remove it.") from error
