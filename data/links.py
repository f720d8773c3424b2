"""Refuses symbolic links that a data set cannot keep: it must be whole to travel, and show no files but its own."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from data.input_error import InputError


def refuse_broken_link(path: Path) -> None:
    """Raises InputError when the path is a link that leads nowhere."""
    if path.is_symlink() and not path.exists():
        raise InputError(
            f"{str(path)!r} is a link to {str(path.readlink())!r}, which is not there: mend the link or put the file "
            "itself in its place."
        )


def refuse_links_out(root: Path, files: Iterable[Path]) -> None:
    """Raises InputError for a link to something outside of `root`, or to nothing, among the files and their folders.

    files: below `root`, which may be a link itself.
    """
    home = os.path.realpath(root)
    for path in _with_folders(root, list(files)):
        refuse_broken_link(path)
        if path.is_symlink() and os.path.commonpath([home, os.path.realpath(path)]) != home:
            raise InputError(
                f"{str(path)!r} is a link to {str(path.readlink())!r}, outside of {str(root)!r}: a data set must be "
                "whole, so put the file or folder itself in its place."
            )


def _with_folders(root: Path, files: Sequence[Path]) -> list[Path]:
    """The folders below `root` on the way to the files, then the files."""
    holding = {path.parent for path in files}
    above = {parent for folder in holding for parent in (folder, *folder.parents)}
    folders = {folder for folder in above if folder != root and folder.is_relative_to(root)}
    return [*sorted(folders), *files]
