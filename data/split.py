"""Decides which images teach, which choose, and which are kept for the very end."""

import random
import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from data.image_ids import find_images
from data.input_error import InputError
from data.segmentation_data import PARTS, Part, SegmentationData, Split, Splitting

Share = TypeVar("Share", bound=Hashable)  # whom units are dealt to: a part, or a fold


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """Images that stay together: one group, or one image without a group."""

    images: tuple[int, ...]
    classes: frozenset[int]
    part: Part | None


def split_data(
    data: SegmentationData, splitting: Splitting | None = None, *, as_before: bool = False
) -> tuple[Split, ...]:
    """The parts that a person or the owner of the data named, and where none is named, parts drawn by the seed.

    One split, or one for each fold. Groups are those of the reader, or of `group_by`, and are never parted.

    Ids stand above the owner's parts. With `train_ids`, images that no list names are kept for the end. Without,
    `validation_ids` take the place of the owner's validation part, and `test_ids` join those that the owner keeps.

    Without a validation part, `validation_fraction` of the images that may teach is drawn; without a test part,
    `test_fraction` of them (0 draws none). A class that few images hold comes into train and into validation if at
    least two images (groups) hold it; after that each part gets its share of every class.

    With folds, the validation part is not drawn: the images that may teach and those to choose by are dealt into so
    many shares, each with its share of every class, and each is what one fold chooses by, the rest what it learns
    from. The test part is the same in all folds.

    The same seed gives the same parts on any machine, in whatever order the images come.

    as_before: lets settings pass that would do nothing, for what began with them.

    Raises InputError for settings out of range, ids that name no image or two parts, a group that is parted, names
    without a group, a fraction of a part that is named already, a seed where nothing is drawn, and when there are not
    enough images or groups.
    """
    splitting = splitting or Splitting()
    check_splitting(splitting, as_before=as_before)
    groups = data.groups
    if splitting.group_by is not None:
        groups = find_groups(splitting.group_by, data.names)
        without = [name for name, group in zip(data.names, groups, strict=True) if group is None]
        if without:
            # Their patients could be torn apart, and nobody would see it.
            raise InputError(
                f"group_by {splitting.group_by!r} finds nothing in {len(without)} of {len(data.names)} names of "
                f"{data.source!r}, such as {without[0]!r}: mend it, so that every name tells its patient."
            )
    units = _units(data, groups, _find_parts(data, groups, splitting))
    owned = {part: [unit for unit in units if unit.part == part] for part in PARTS}
    if not as_before:
        _check_fractions(owned, splitting, data.source)
    pool = owned["train"] + [unit for unit in units if unit.part is None]
    if splitting.folds > 1:
        pool += owned["validation"]
    wanted: dict[Part, float] = {}
    if not owned["validation"] and splitting.folds == 1:
        wanted["validation"] = splitting.validation_fraction
    if not owned["test"] and splitting.test_fraction > 0:
        wanted["test"] = splitting.test_fraction
    if not (as_before or wanted) and splitting.folds == 1 and splitting.split_seed != Splitting().split_seed:
        raise InputError(
            f"split_seed {splitting.split_seed} would do nothing: all parts of {data.source!r} are named already, by "
            "its owner or by ids; leave it out, or let every image choose once with --folds."
        )
    _check_enough(len(pool), wanted, splitting, data.source)
    # Sorting by name makes the draw independent of the order in which the files were found.
    pool.sort(key=lambda unit: data.names[unit.images[0]])
    random.Random(splitting.split_seed).shuffle(pool)
    dealt: dict[Part, list[_Unit]] = {"train": pool, "validation": owned["validation"], "test": owned["test"]}
    if wanted:
        dealt |= _draw(pool, {"train": 1 - sum(wanted.values()), **wanted})
    if splitting.folds == 1:
        return (_split(dealt["train"], dealt["validation"], dealt["test"]),)
    shares = _draw(dealt["train"], dict.fromkeys(range(splitting.folds), 1 / splitting.folds))
    return tuple(
        _split([unit for other in shares if other != fold for unit in shares[other]], chosen, dealt["test"])
        for fold, chosen in shares.items()
    )


def check_splitting(splitting: Splitting, *, as_before: bool = False) -> None:
    """Raises InputError for settings that no data can be split by. as_before: as for `split_data`."""
    if not 0 < splitting.validation_fraction < 1:
        raise InputError(
            f"validation_fraction {splitting.validation_fraction} must be above 0 and below 1, such as 0.2."
        )
    drawn = splitting.validation_fraction if splitting.folds == 1 else 0.0
    if not 0 <= splitting.test_fraction < 1 - drawn:
        beside = f", with validation_fraction {drawn}," if drawn else ""
        raise InputError(
            f"test_fraction {splitting.test_fraction} must be 0 or more and{beside} leave images to teach: lower it."
        )
    if splitting.folds < 1:
        raise InputError(f"folds {splitting.folds} must be 1 or more: 1 is a single split, 5 are usual.")
    for name in ("validation_ids",) if as_before else ("validation_ids", "validation_fraction"):
        value = getattr(splitting, name)
        if splitting.folds > 1 and value != getattr(Splitting(), name):
            raise InputError(
                f"{name} {value!r} and folds {splitting.folds} cannot both be: in folds each image chooses once; leave "
                "one of them out."
            )
    if splitting.group_by is not None:
        _compile(splitting.group_by)


def _check_fractions(owned: Mapping[Part, Sequence[_Unit]], splitting: Splitting, source: str) -> None:
    """Raises InputError for a fraction that a person asks for of a part that is named, where it would do nothing."""
    asked: dict[Part, tuple[str, float, float]] = {
        "validation": ("validation_fraction", splitting.validation_fraction, Splitting().validation_fraction),
        "test": ("test_fraction", splitting.test_fraction, Splitting().test_fraction),
    }
    for part, (name, fraction, usual) in asked.items():
        there = sum(len(unit.images) for unit in owned[part])
        if there and fraction != usual:
            raise InputError(
                f"{name} {fraction} would do nothing: the {part} part of {source!r} is named already ({there} images, "
                f"by its owner or by ids); leave it out, or name others by --{part}-ids or --train-ids."
            )


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InputError(
            f"group_by {pattern!r} is no regular expression ({error}): write one such as '^[^_]+', all up to the "
            "first underscore."
        ) from None


def find_groups(pattern: str, names: Sequence[str]) -> tuple[str | None, ...]:
    """What the expression finds in each name: its first group, or else all that matches; None where it finds nothing.

    Raises InputError for what is no expression.
    """
    matches = [_compile(pattern).search(name) for name in names]
    return tuple(match and ((match[1] if match.re.groups else match[0]) or None) for match in matches)


def _find_parts(data: SegmentationData, groups: Sequence[str | None], splitting: Splitting) -> tuple[Part | None, ...]:
    """The part that each image was put into by its ids or by its owner; None where it may teach.

    Raises InputError for ids that name no image, and for an image that two lists name.
    """
    asked: dict[Part, str | None] = {
        "train": splitting.train_ids,
        "validation": splitting.validation_ids,
        "test": splitting.test_ids,
    }
    named: dict[int, Part] = {}
    for part, text in asked.items():
        if text is None:
            continue
        for index in find_images(text, data.names, groups, setting=f"{part}_ids", source=data.source):
            if index in named:
                raise InputError(
                    f"image {data.names[index]!r} stands in {named[index]}_ids and in {part}_ids: name it in one."
                )
            named[index] = part
    # What its owner kept for the end never teaches, unless it is named.
    others = [None if part == "validation" and asked["validation"] is not None else part for part in data.parts]
    if splitting.train_ids is not None:
        others = ["test"] * len(data.names)
    return tuple(named.get(index, other) for index, other in enumerate(others))


def _check_enough(units: int, wanted: Mapping[Part, float], splitting: Splitting, source: str) -> None:
    """Raises InputError when there are fewer images or groups than the parts, or the folds, need."""
    folds, named = splitting.folds, splitting.train_ids is not None
    remedy = "name more --train-ids" if named else "add images"
    if splitting.group_by is not None:
        remedy = f"see whether group_by {splitting.group_by!r} tells the patients apart, or {remedy}"
    if folds > 1:
        if units - len(wanted) < folds:
            raise InputError(
                f"folds {folds} is more than the {units - len(wanted)} image(s) or group(s) of {source!r} to learn "
                f"from and choose by: lower it, or {remedy}."
            )
    elif units < 1 + len(wanted):
        raise InputError(
            f"data {source!r} has {units} image(s) or group(s) that may teach, but {1 + len(wanted)} or more "
            f"are needed, one for each of train and validation (and test): {remedy}."
        )


def _units(data: SegmentationData, groups: Sequence[str | None], parts: Sequence[Part | None]) -> list[_Unit]:
    """The images by group. Raises InputError for a group that stands in two parts."""
    # What the files hold, and not what is left of it at this size: runs at two sizes must compare.
    held = [frozenset(np.flatnonzero(classes).tolist()) for classes in data.statistics.held]
    members: dict[tuple[str, str], list[int]] = {}
    for index, (name, group) in enumerate(zip(data.names, groups, strict=True)):
        members.setdefault(("image", name) if group is None else ("group", group), []).append(index)
    units = []
    for (_, label), images in members.items():
        of_group = {parts[index] for index in images} - {None}
        if len(of_group) > 1:
            raise InputError(
                f"group {label!r} of {data.source!r} stands in {' and '.join(sorted(map(str, of_group)))}: keep the "
                "images of one patient or slide in one part."
            )
        classes = frozenset[int]().union(*(held[index] for index in images))
        ordered = tuple(sorted(images, key=lambda index: data.names[index]))
        units.append(_Unit(images=ordered, classes=classes, part=next(iter(of_group), None)))
    return units


def _draw(pool: Sequence[_Unit], shares: Mapping[Share, float]) -> dict[Share, list[_Unit]]:
    """Deals the units out so that every part holds every class where it can, and then about its share of each."""
    holders = Counter(index for unit in pool for index in unit.classes)
    # A unit spent on a common class may be the last that holds a rare one.
    rarest_first = sorted(holders, key=lambda index: (holders[index], index))
    dealt: dict[Share, list[_Unit]] = {part: [] for part in shares}
    rest = list(pool)

    def lacks(part: Share, index: int) -> bool:
        return all(index not in unit.classes for unit in dealt[part])

    def give(part: Share, unit: _Unit) -> None:
        dealt[part].append(unit)
        rest.remove(unit)

    def fullness(part: Share) -> float:
        return sum(len(unit.images) for unit in dealt[part]) / shares[part]

    for index in rarest_first:
        # The emptiest comes first, or the first would get all that is rare.
        for part in sorted(shares, key=fullness):
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
    dealt: dict[Share, list[_Unit]], rest: Sequence[_Unit], shares: Mapping[Share, float], rarest_first: Sequence[int]
) -> None:
    """Gives each unit to the part that lacks most of the unit's rarest class, and next most images.

    The greedy step of iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011).
    """
    everyone = [*rest, *(unit for units in dealt.values() for unit in units)]
    held = Counter(index for unit in everyone for index in unit.classes)
    images = sum(len(unit.images) for unit in everyone)
    lacking = {part: {index: share * held[index] for index in held} for part, share in shares.items()}
    room = {part: share * images for part, share in shares.items()}

    def count(part: Share, unit: _Unit) -> None:
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


def _split(train: Sequence[_Unit], validation: Sequence[_Unit], test: Sequence[_Unit]) -> Split:
    """The split of these units, the images of each part in rising order."""
    parts = [tuple(sorted(index for unit in units for index in unit.images)) for units in (train, validation, test)]
    return Split(train=parts[0], validation=parts[1], test=parts[2])
