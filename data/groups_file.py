"""Reads and writes `groups.txt`: which pictures of a folder are of one patient, and so are never parted."""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from data.catalogue import Sample
from data.input_error import InputError
from data.text_file import read_lines

GROUPS_FILE = "groups.txt"


def with_groups(samples: Iterable[Sample], path: Path) -> tuple[Sample, ...]:
    """The samples with the groups that the file names; unchanged when there is no file.

    Lines are `im0001 patient7`: a picture's name without suffix, then its patient, slide or the like, which is all
    behind the tab or, where there is none, behind the last space. A picture without a line is a group of its own. One
    whose name stands in several parts is named with its part: `train_im0001`. Raises InputError for a line that is
    none, a name that no picture or several have, and a picture in two groups.
    """
    unchanged = tuple(samples)
    if not path.exists():
        return unchanged
    names = _names_of(unchanged)
    groups: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        where = f"line {number} of {str(path)!r} is {line!r}"
        written, group = _read_line(line)
        if not written or not group:
            raise InputError(f"{where}: write the name of a picture and its patient, `im0001 patient7`.")
        found = names.get(written, ())
        if not found:
            raise InputError(f"{where}, but no picture is called {written!r}: write its name without .png or the like.")
        if len(found) > 1:
            raise InputError(f"{where}, but {written!r} is in several parts: write {' or '.join(found)}.")
        if groups.setdefault(found[0], group) != group:
            raise InputError(f"{where}, but a line above it says {groups[found[0]]!r}: give each picture one group.")
    return tuple(replace(sample, group=groups.get(sample.name)) for sample in unchanged)


def write_groups(groups: Mapping[str, str], path: Path) -> None:
    """Writes the groups (picture name -> group) so that `with_groups` reads them."""
    path.write_text("".join(f"{name}\t{group}\n" for name, group in groups.items()), encoding="utf-8")


def _names_of(samples: Iterable[Sample]) -> dict[str, tuple[str, ...]]:
    """What a picture may be called -> the samples that are: their names, which tell the part where they must, alone."""
    names: dict[str, tuple[str, ...]] = {}
    for sample in samples:
        bare = sample.name.removeprefix(f"{sample.part}_")
        for name in dict.fromkeys((sample.name, bare)):
            names[name] = (*names.get(name, ()), sample.name)
    return {name: (name,) if name in found else found for name, found in names.items()}


def _read_line(line: str) -> tuple[str, str]:
    """The picture's name and its group; one of them empty where it is missing."""
    text = unicodedata.normalize("NFC", line.strip())
    name, _, group = text.partition("\t") if "\t" in text else text.rpartition(" ")
    return name.strip(), group.strip()
