"""Reads which images a person means by numbers and names: `1-27,im0044`."""

import re
from collections.abc import Sequence
from difflib import get_close_matches

from data.input_error import InputError

_NUMBER = re.compile(r"\d{1,18}")
_RANGE = re.compile(r"(\d{1,18})\s*-\s*(\d{1,18})")


def find_images(
    text: str, names: Sequence[str], groups: Sequence[str | None], *, setting: str, source: str
) -> tuple[int, ...]:
    """The indices of the images that the text names, in rising order.

    text: names, numbers and ranges of numbers (both ends included, and not every number between them need be there),
        with commas between them. A text that is an image's name is that image, whatever number it may be.
    names, groups: of all images; a number may stand for several images only where they are of one group.
    setting, source: what the text was given for, and the data, for messages.

    A number means the last number in a name: 1 is IDRiD_01, 21 is 21_training. Where names hold several numbers it is
    the one, at the same place from the end, that differs most between the names: 7 is scan_007_v2.

    Raises InputError for what names no image, a number that stands for several, and a range turned round.
    """
    places = {name: index for index, name in enumerate(names)}
    numbers = _numbers(names)
    found: set[int] = set()
    for word in filter(None, map(str.strip, text.split(","))):
        bounds = _RANGE.fullmatch(word)
        if word in places:
            found.add(places[word])
            continue
        if bounds:
            low, high = int(bounds[1]), int(bounds[2])
            if low > high:
                raise InputError(f"{setting} {word!r} is turned round: write {high}-{low}.")
            meant = [index for index, number in enumerate(numbers) if number is not None and low <= number <= high]
        elif _NUMBER.fullmatch(word):
            meant = [index for index, number in enumerate(numbers) if number == int(word)]
        else:
            meant = []
        if not meant:
            raise _unknown(word, names, setting, source)
        _check_unambiguous(meant, numbers, names, groups, setting, source)
        found.update(meant)
    if not found:
        raise InputError(f"{setting} {text!r} names no image: write numbers or names, such as 1-27,im0044.")
    return tuple(sorted(found))


def _numbers(names: Sequence[str]) -> list[int | None]:
    """The number that each image is known by; None where its name has none at that place."""
    found = [[int(digits) for digits in re.findall(r"\d+", name)] for name in names]
    columns: list[list[int | None]] = [
        [numbers[-place] if place <= len(numbers) else None for numbers in found]
        for place in range(1, max(map(len, found), default=0) + 1)
    ]
    return max(columns, key=lambda column: len(set(column) - {None}), default=[None] * len(names))


def _check_unambiguous(
    meant: Sequence[int],
    numbers: Sequence[int | None],
    names: Sequence[str],
    groups: Sequence[str | None],
    setting: str,
    source: str,
) -> None:
    """Raises InputError when two of the images have the same number and are not of one group."""
    first: dict[int | None, int] = {}
    for index in meant:
        other = first.setdefault(numbers[index], index)
        if other != index and (groups[index] is None or groups[index] != groups[other]):
            raise InputError(
                f"{setting}: number {numbers[index]} stands for several images of {source!r} ({names[other]!r}, "
                f"{names[index]!r}): write their names, or say by --group-by which are of one patient."
            )


def _unknown(word: str, names: Sequence[str], setting: str, source: str) -> InputError:
    """The error for a word that names no image: says what there is and guesses what was meant."""
    close = get_close_matches(word, names, n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    ordered = sorted(names)
    return InputError(
        f"{setting} {word!r} names no image of {source!r}; there are {len(names)}, from {ordered[0]!r} to "
        f"{ordered[-1]!r}: write their numbers or names, such as 1-27,im0044.{guess}"
    )
