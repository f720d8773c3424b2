"""Decides which images teach, which choose, and which are kept for the very end."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from data.input_error import InputError
from data.segmentation_data import Part, SegmentationData, Split


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """Images that stay together: one group, or one image without a group."""

    images: tuple[int, ...]
    classes: frozenset[int]
    part: Part | None


def split_data(
    data: SegmentationData, *, seed: int = 0, validation_fraction: float = 0.2, test_fraction: float = 0.0
) -> Split:
    """The parts that the owner of the data named, and where none is named, parts drawn by the seed.

    Without the owner's validation part, `validation_fraction` of the images that may teach is drawn; without a test
    part, `test_fraction` of them (0 draws none). Groups are never parted. A class that few images hold comes into
    train and into validation if at least two images (groups) hold it; after that each part gets its share of every
    class. The same seed gives the same parts on any machine, in whatever order the images come.

    Raises InputError for fractions out of range, for a group that the owner parted, and when there is not one image
    to teach and one to choose by.
    """
    _check_fractions(validation_fraction, test_fraction)
    units = _units(data)
    owned = {part: [unit for unit in units if unit.part == part] for part in ("train", "validation", "test")}
    pool = owned["train"] + [unit for unit in units if unit.part is None]
    wanted: dict[Part, float] = {}
    if not owned["validation"]:
        wanted["validation"] = validation_fraction
    if not owned["test"] and test_fraction > 0:
        wanted["test"] = test_fraction
    if len(pool) < 1 + len(wanted):
        raise InputError(
            f"data {data.source!r} has {len(pool)} image(s) or group(s) that may teach, but {1 + len(wanted)} or more "
            "are needed, one for each of train and validation (and test): add images."
        )
    drawn: dict[Part, list[_Unit]] = {"train": pool, "validation": owned["validation"], "test": owned["test"]}
    if wanted:
        # Sorting by name makes the draw independent of the order in which the files were found.
        pool.sort(key=lambda unit: data.names[unit.images[0]])
        random.Random(seed).shuffle(pool)
        drawn |= _draw(pool, {"train": 1 - sum(wanted.values()), **wanted})
    return Split(train=_images(drawn["train"]), validation=_images(drawn["validation"]), test=_images(drawn["test"]))


def _check_fractions(validation_fraction: float, test_fraction: float) -> None:
    if not 0 < validation_fraction < 1:
        raise InputError(f"validation_fraction {validation_fraction} must be above 0 and below 1, such as 0.2.")
    if not 0 <= test_fraction < 1 - validation_fraction:
        raise InputError(
            f"test_fraction {test_fraction} must be 0 or more and, with validation_fraction {validation_fraction}, "
            "leave images to teach: lower one of them."
        )


def _units(data: SegmentationData) -> list[_Unit]:
    """The images by group. Raises InputError for a group that the owner of the data put into two parts."""
    held = [
        frozenset(index for index, plane in enumerate(planes) if (plane & valid).any())
        for planes, valid in zip(data.masks, data.valid, strict=True)
    ]
    members: dict[tuple[str, str], list[int]] = {}
    for index, (name, group) in enumerate(zip(data.names, data.groups, strict=True)):
        members.setdefault(("image", name) if group is None else ("group", group), []).append(index)
    units = []
    for (_, label), images in members.items():
        parts = {data.parts[index] for index in images} - {None}
        if len(parts) > 1:
            raise InputError(
                f"group {label!r} of {data.source!r} stands in {' and '.join(sorted(map(str, parts)))}: keep the "
                "images of one patient or slide in one part."
            )
        classes = frozenset[int]().union(*(held[index] for index in images))
        ordered = tuple(sorted(images, key=lambda index: data.names[index]))
        units.append(_Unit(images=ordered, classes=classes, part=next(iter(parts), None)))
    return units


def _draw(pool: Sequence[_Unit], shares: dict[Part, float]) -> dict[Part, list[_Unit]]:
    """Deals the units out so that every part holds every class where it can, and then about its share of each."""
    holders = Counter(index for unit in pool for index in unit.classes)
    # A unit spent on a common class may be the last that holds a rare one.
    rarest_first = sorted(holders, key=lambda index: (holders[index], index))
    dealt: dict[Part, list[_Unit]] = {part: [] for part in shares}
    rest = list(pool)

    def lacks(part: Part, index: int) -> bool:
        return all(index not in unit.classes for unit in dealt[part])

    def give(part: Part, unit: _Unit) -> None:
        dealt[part].append(unit)
        rest.remove(unit)

    for index in rarest_first:
        for part in shares:
            candidates = [unit for unit in rest if index in unit.classes]
            others_empty = sum(not dealt[other] for other in shares if other != part)
            if candidates and lacks(part, index) and len(rest) > others_empty:
                give(part, max(candidates, key=lambda unit: sum(lacks(part, held) for held in unit.classes)))
    for part in shares:
        if not dealt[part]:
            give(part, rest[0])
    _deal_by_share(dealt, rest, shares, rarest_first)
    return dealt


def _deal_by_share(
    dealt: dict[Part, list[_Unit]], rest: Sequence[_Unit], shares: dict[Part, float], rarest_first: Sequence[int]
) -> None:
    """Gives each unit to the part that lacks most of the unit's rarest class, and next most images.

    The greedy step of iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011).
    """
    everyone = [*rest, *(unit for units in dealt.values() for unit in units)]
    held = Counter(index for unit in everyone for index in unit.classes)
    images = sum(len(unit.images) for unit in everyone)
    lacking = {part: {index: share * held[index] for index in held} for part, share in shares.items()}
    room = {part: share * images for part, share in shares.items()}

    def count(part: Part, unit: _Unit) -> None:
        room[part] -= len(unit.images)
        for index in unit.classes:
            lacking[part][index] -= 1

    for part, units in dealt.items():
        for unit in units:
            count(part, unit)
    rank = {index: place for place, index in enumerate(rarest_first)}
    for unit in sorted(rest, key=lambda unit: min((rank[index] for index in unit.classes), default=len(rank))):
        rarest = min(unit.classes, key=lambda index: rank[index], default=None)
        part = max(shares, key=lambda part: (lacking[part][rarest] if rarest is not None else 0.0, room[part]))
        dealt[part].append(unit)
        count(part, unit)


def _images(units: Sequence[_Unit]) -> tuple[int, ...]:
    return tuple(sorted(index for unit in units for index in unit.images))
