"""Joins a name from somebody's file to a folder, and refuses one that would lead out of it."""

import os
import re
from pathlib import Path

from data.input_error import InputError

_DRIVE = re.compile(r"[a-zA-Z]:")
LONGEST_NAME = 255  # bytes, which file systems take


def inside(folder: Path, name: str, *, what: str) -> Path:
    """The path of what `name` says below the folder: `trials/t0001/best` is one.

    what: whose name it is, for the message. Raises InputError for a name that is empty, absolute, has `..`, a drive, a
    backslash or signs that cannot be printed, and for one that a link leads out of the folder.
    """
    check_inside(name, what=what)
    path = folder / name
    home = os.path.realpath(folder)
    if os.path.commonpath([home, os.path.realpath(path)]) != home:
        raise InputError(
            f"{what} {name!r} leads out of {str(folder)!r} by a link: put the file or folder itself in its place."
        )
    return path


def check_inside(name: str, *, what: str) -> None:
    """Raises InputError unless the name is a relative path that stays below whatever folder it is joined to."""
    parts = name.split("/")
    if any(not _is_name(part) for part in parts) or _DRIVE.match(name):
        raise InputError(f"{what} {name!r} is no path inside its folder: take the folder as it was written.")


def check_file_name(name: str, *, what: str) -> None:
    """Raises InputError unless the name is that of one file or folder, without any folder before it."""
    if not _is_name(name) or _DRIVE.match(name):
        raise InputError(f"{what} {name!r} makes no file name: use letters, digits, and _ - + or . between them.")


def _is_name(part: str) -> bool:
    fits = len(part.encode("utf-8", "surrogateescape")) <= LONGEST_NAME
    return part not in ("", ".", "..") and "/" not in part and "\\" not in part and part.isprintable() and fits
