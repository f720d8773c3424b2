"""Refuses symbolic links that a data set cannot keep: it must be whole to travel, and show no files but its own."""

import os
from collections.abc import Iterable
from pathlib import Path

from data.input_error import InputError


def refuse_broken_link(path: Path) -> None:
    """Raises InputError when the path is a link that leads nowhere."""
    if path.is_symlink() and not path.exists():
        raise InputError(
            f"{str(path)!r} is a link to {str(path.readlink())!r}, which is not there: mend the link or put the file "
            "itself in its place."
        )


def refuse_links_out(root: Path, paths: Iterable[Path]) -> None:
    """Raises InputError for the first of the paths below `root` that is a link to something outside of it, or broken.

    `root` itself may be a link. Folders on the way to a path must be among the paths to be looked at.
    """
    home = os.path.realpath(root)
    for path in paths:
        refuse_broken_link(path)
        if path.is_symlink() and os.path.commonpath([home, os.path.realpath(path)]) != home:
            raise InputError(
                f"{str(path)!r} is a link to {str(path.readlink())!r}, outside of {str(root)!r}: a data set must be "
                "whole, so put the file or folder itself in its place."
            )
