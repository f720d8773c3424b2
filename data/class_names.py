"""Which names a class may have: they become folders, file names and columns."""

from collections.abc import Sequence

from data.input_error import InputError

RESERVED = ("additive",)  # its column would be that of Dice added over classes


def check_class_names(names: Sequence[str]) -> None:
    """Raises InputError for names that are no safe file name, that are reserved, or that stand twice."""
    for name in names:
        if not name or name in (".", "..") or not name.isprintable() or any(sign in name for sign in "/\\"):
            raise InputError(f"class name {name!r} makes no file name: use letters, digits, spaces, - and _.")
        if name in RESERVED:
            raise InputError(f"class name {name!r} is the name of a metric: choose another.")
        if list(names).count(name) > 1:
            raise InputError(f"class name {name!r} stands for two classes: give each its own.")
