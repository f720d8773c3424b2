"""Reads `classes.txt`: which values, colours or planes of the masks are which class."""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from data.input_error import InputError
from data.text_file import read_lines

CLASSES_FILE = "classes.txt"
# The names that are no class: counted but of none, and not counted at all.
BACKGROUND, IGNORE = "background", "ignore"
# What people write for these, in small letters; capitals mean the same.
_MEANINGS = {BACKGROUND: BACKGROUND, **dict.fromkeys((IGNORE, "void", "unlabeled", "unlabelled"), IGNORE)}

_HEX = re.compile(r"#([0-9a-fA-F]{6})\s+(\S.*)")
_CHANNELS = re.compile(r"(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s+(\S.*)")
_VALUE = re.compile(r"(-?\d{1,9})\s+(\S.*)")


@dataclass(frozen=True, kw_only=True)
class DeclaredClasses:
    """What a classes file says.

    path: of the file.
    in_color: whether it names colours (0xRRGGBB) or values (also of planes: their places, from 0).
    classes: value or colour -> class name, in the order of the lines.
    background: values or colours of pixels that count and are of no class.
    ignored: values or colours of pixels that do not count.
    """

    path: Path
    in_color: bool
    classes: dict[int, str]
    background: tuple[int, ...]
    ignored: tuple[int, ...]

    @property
    def known(self) -> frozenset[int]:
        """All that is declared."""
        return frozenset((*self.classes, *self.background, *self.ignored))


def read_classes_file(path: Path) -> DeclaredClasses | None:
    """What the file declares, or None when there is no file.

    Lines are `128 nucleus`, `#ff0000 vessel` or `255,0,0 vessel`; what follows ` #` is a note. The names `background`
    and `ignore` (also `void`, `unlabeled`, `unlabelled`) may stand on several lines, in small or capital letters.
    Raises InputError for any other line, for a value or a name that stands twice, and for values beside colours.
    """
    if not path.exists():
        return None
    named: dict[int, str] = {}
    kinds = set()
    for number, line in enumerate(read_lines(path), start=1):
        declared = _read_line(line)
        if declared is None:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            raise InputError(
                f"line {number} of {str(path)!r} is {line!r}: write a mask value and a name, `128 nucleus`, or a "
                "colour and a name, `#ff0000 nucleus`."
            )
        in_color, value, written = declared
        name = _MEANINGS.get(written.casefold(), written)
        if value in named or (name in named.values() and name not in (BACKGROUND, IGNORE)):
            raise InputError(f"line {number} of {str(path)!r} repeats {line!r}: give each value one name of its own.")
        named[value] = name
        kinds.add(in_color)
        if len(kinds) == 2:
            raise InputError(
                f"line {number} of {str(path)!r} is {line!r}, but lines above it are of the other kind: name values or "
                "colours, not both."
            )
    return DeclaredClasses(
        path=path,
        in_color=True in kinds,
        classes={value: name for value, name in named.items() if name not in (BACKGROUND, IGNORE)},
        background=tuple(value for value, name in named.items() if name == BACKGROUND),
        ignored=tuple(value for value, name in named.items() if name == IGNORE),
    )


def _read_line(line: str) -> tuple[bool, int, str] | None:
    """Whether the line names a colour, the colour or value, and the name; None when it names nothing."""
    text = unicodedata.normalize("NFC", line.partition(" #")[0].strip())
    if found := _HEX.fullmatch(text):
        return True, int(found[1], 16), found[2]
    if (found := _CHANNELS.fullmatch(text)) and max(channels := [int(found[place]) for place in (1, 2, 3)]) <= 255:
        red, green, blue = channels
        return True, red << 16 | green << 8 | blue, found[4]
    if found := _VALUE.fullmatch(text):
        return False, int(found[1]), found[2]
    return None
