"""Checks whether masks belong to their pictures and lie right on them."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from data.checks.case import Case, Check, Observation, count_of, places, some
from data.likeness import TURNS
from data.mask_fit import Fault, Misfit

# A class is usually small where nine of ten pictures hold less of it than this.
_SMALL = 0.4
# More of the frame than this is background's.
_FRAMED = 0.9
_FEWEST = 5


def _misfits(fault: Fault, case: Case) -> Iterator[Observation]:
    """Masks with this fault, in one sentence."""
    found = [misfit for misfit in case.misfits if misfit.fault == fault]
    if found:
        found.sort(key=lambda misfit: misfit.agreement - misfit.better)
        yield Observation(
            what=f"{count_of(len(found), 'mask')}: {some([_describe(case, misfit) for misfit in found])}.",
            pictures=tuple(misfit.picture for misfit in found),
        )


def _describe(case: Case, misfit: Misfit) -> str:
    """The mask's name, how it would fit, and how much better."""
    name, names = case.data.names[misfit.picture], case.data.names
    scores = f"agreement {misfit.agreement:.2f}, then {misfit.better:.2f}"
    if misfit.other is not None:
        return f"{name} would fit with the mask of {names[misfit.other]} ({scores})"
    if misfit.turn:
        return f"{name} would fit {TURNS[misfit.turn]} ({scores})"
    if misfit.shift != (0, 0):
        rows, columns = misfit.shift
        moves = [f"{abs(rows)} {'down' if rows > 0 else 'up'}"] if rows else []
        moves += [f"{abs(columns)} {'right' if columns > 0 else 'left'}"] if columns else []
        return f"{name} would fit {' and '.join(moves)}, in pixels as prepared ({scores})"
    return f"{name} (agreement {misfit.agreement:.2f}; others {misfit.better:.2f})"


def _inverted(case: Case) -> Iterator[Observation]:
    """Single masks that hold about all that a class usually leaves free."""
    frames = case.data.statistics.frame_shares
    for index, name in enumerate(case.data.class_names):
        held = case.data.statistics.class_pixels[:, index] > 0
        shares = case.shares[:, index]
        if held.sum() < _FEWEST or np.quantile(shares[held], 0.9, method="lower") > _SMALL:
            continue
        usual = float(np.median(shares[held]))
        like_background = np.abs(shares - (1 - usual)) < (1 - usual) / 3
        concerned = places(held & like_background & (frames[:, index] > _FRAMED) & (shares > 0.5))
        if concerned and float(np.median(frames[held, index])) < 0.5:
            yield Observation(
                what=f"Class {name!r} covers {shares[list(concerned)].min():.0%} or more of "
                f"{count_of(len(concerned), 'picture')} ({case.names(concerned)}), and {usual:.0%} of a usual one.",
                pictures=concerned,
            )


def _like_background(case: Case) -> Iterator[Observation]:
    """Classes that fill most of most pictures, and their frames."""
    frames = case.data.statistics.frame_shares
    for index, name in enumerate(case.data.class_names):
        held = case.data.statistics.class_pixels[:, index] > 0
        usual = float(np.median(case.shares[held, index])) if held.any() else 0.0
        if held.sum() >= _FEWEST and usual > 0.5 and float(np.median(frames[held, index])) > _FRAMED:
            yield Observation(
                what=f"Class {name!r} covers {usual:.0%} of a usual picture and nearly all of its frame.",
                pictures=places(held),
            )


def _copied_masks(case: Case) -> Iterator[Observation]:
    """Masks that stand on several pictures which are no copies of each other."""
    digests, copies = case.data.statistics.digests, {(pair.first, pair.second) for pair in case.copies}
    same: dict[bytes, list[int]] = {}
    # A mask that is empty, or full, may well stand on many pictures.
    telling = case.data.statistics.borders.any(axis=(1, 2))
    for place in places(telling):
        same.setdefault(digests[place, 1:].tobytes(), []).append(place)
    groups = [
        group
        for group in same.values()
        if len(group) > 1 and any((group[0], other) not in copies for other in group[1:])
    ]
    if groups:
        concerned = tuple(place for group in groups for place in group)
        shown = some([" = ".join(case.data.names[place] for place in group[:3]) for group in groups])
        yield Observation(
            what=f"{len(concerned)} different pictures share their mask with another in every pixel: {shown}.",
            pictures=concerned,
        )


def _same_planes(case: Case) -> Iterator[Observation]:
    """Pairs of classes that mark the same pixels."""
    counted, names = case.data.statistics, case.data.class_names
    held = counted.class_pixels > 0
    for one in range(len(names)):
        for other in range(one + 1, len(names)):
            both = held[:, one] & held[:, other]
            same = both & (counted.digests[:, 1 + one] == counted.digests[:, 1 + other])
            if same.any() and 2 * int(same.sum()) >= int((held[:, one] | held[:, other]).sum()):
                found = places(same)
                yield Observation(
                    what=f"Classes {names[one]!r} and {names[other]!r} mark the same pixels in {len(found)} of the "
                    f"{count_of(int(both.sum()), 'picture')} that hold{'s' * (int(both.sum()) == 1)} both "
                    f"({case.names(found)}).",
                    pictures=found,
                )


CHECKS: dict[str, Check] = {
    "swapped_masks": Check(
        level="warning",
        sure="likely",
        why="A mask that belongs to another picture teaches noise, and spoils the score where it is judged by.",
        remedy="Look at them in --html; give each picture its own mask.",
        look=partial(_misfits, "swapped"),
    ),
    "turned_masks": Check(
        level="warning",
        sure="likely",
        why="A mask that lies mirrored or turned on its picture teaches noise.",
        remedy="Look at them in --html; turn the masks, or save the pictures as they are meant to lie (EXIF).",
        look=partial(_misfits, "turned"),
    ),
    "shifted_masks": Check(
        level="warning",
        sure="likely",
        why="Outlines beside the edges teach to draw beside them, and thin structures are missed altogether.",
        remedy="Look at them in --html; move the masks, or see whether the pictures were cropped after annotation.",
        look=partial(_misfits, "shifted"),
    ),
    "unlike_masks": Check(
        level="warning",
        sure="possible",
        why="Masks of this set follow edges; one that does not may belong to a picture that is not here.",
        remedy="Look at them in --html; mend the masks, or take the pictures out.",
        look=partial(_misfits, "unlike"),
    ),
    "inverted_masks": Check(
        level="warning",
        sure="likely",
        why="A mask that marks the background instead of the class teaches the opposite.",
        remedy="Look at them in --html; invert these masks.",
        look=_inverted,
    ),
    "class_like_background": Check(
        level="warning",
        sure="possible",
        why="Dice is high for a mask that is full, so that scores look good and say little.",
        remedy="If the masks are inverted, invert them; else see val_dice of a full mask before you trust it.",
        look=_like_background,
    ),
    "copied_masks": Check(
        level="warning",
        sure="likely",
        why="Two different pictures hardly ever have the same outline: a mask was saved under a wrong name.",
        remedy="Make the masks of these pictures anew, or take the pictures out.",
        look=_copied_masks,
    ),
    "same_planes": Check(
        level="warning",
        sure="certain",
        why="Two classes that are always the same are one, or the masks of one were saved in place of the other's.",
        remedy="Mend the masks, or leave one of the classes out.",
        look=_same_planes,
    ),
}
