"""Checks of what the masks hold: classes too rare, too fine, lost on the way, or laid over each other."""

from collections.abc import Iterator

import numpy as np

from data.checks.case import Case, Check, Observation, count_of, places

# Below this share of the pixels, a class is likely to be overlooked by a training that does not weigh it.
_RARE = 0.001
# Strokes of fewer pixels than this, in pictures shrunk at least so many times, lose much of their shape.
_FINE, _WIDE, _SHRUNK = 2.5, 3.0, 1.5
# Less than this share of what a grey mask marks is left: the threshold may not be the one that was meant.
_KEPT = 0.6
# Specks: at least so many of a class's pixels in a picture, and this share of them alone.
_SPECKS, _ALONE = 20, 0.5
# More than this share of a class's pixels in a picture may not lie where nothing counts.
_OUTSIDE = 0.05
# Classes that were meant to overlap do so in more than this share of the smallest.
_SLIGHT = 0.01
_STEP = 64


def _rare_class(case: Case) -> Iterator[Observation]:
    counted = case.data.statistics
    shares = counted.class_pixels.sum(axis=0) / max(1, int(counted.valid_pixels.sum()))
    for index, name in enumerate(case.data.class_names):
        if 0 < shares[index] < _RARE:
            holders = places(counted.class_pixels[:, index] > 0)
            yield Observation(
                what=f"Class {name!r} covers only {shares[index]:.3%} of the pixels; {len(holders)} of "
                f"{count_of(len(case.data.names), 'picture')} hold it.",
                pictures=holders,
            )


def _empty_images(case: Case) -> Iterator[Observation]:
    counted = case.data.statistics
    empty = places(~(counted.class_pixels > 0).any(axis=1) & (counted.valid_pixels > 0))
    if empty:
        yield Observation(
            what=f"{len(empty)} of {count_of(len(case.data.names), 'picture')} "
            f"hold{'s' * (len(empty) == 1)} no class at all ({case.names(empty)}).",
            pictures=empty,
        )


def _planes_overlap(case: Case) -> Iterator[Observation]:
    if case.data.label_mode == "multiclass":
        yield from _overlaps(case)


def _planes_may_overlap(case: Case) -> Iterator[Observation]:
    if case.data.label_mode == "multilabel" and not _slight(case):
        yield from _overlaps(case)


def _planes_touch(case: Case) -> Iterator[Observation]:
    if case.data.label_mode == "multilabel" and _slight(case):
        yield from _overlaps(case)


def _slight(case: Case) -> bool:
    """Whether so little of every class lies over another that nobody may have meant it."""
    pixels = case.data.statistics.class_pixels.sum(axis=0)
    return bool(pixels.any() and 0 < case.data.statistics.overlap_pixels.sum() < _SLIGHT * pixels[pixels > 0].min())


def _overlaps(case: Case) -> Iterator[Observation]:
    """Pixels that belong to more than one class."""
    counted = case.data.statistics
    concerned = places(counted.overlap_pixels > 0)
    if concerned:
        share = counted.overlap_pixels.sum() / max(1, int(counted.valid_pixels.sum()))
        yield Observation(
            what=f"{share:.3%} of the pixels belong to more than one class, in "
            f"{count_of(len(concerned), 'picture')} ({case.names(concerned)}).",
            pictures=concerned,
        )


def _class_lost(case: Case) -> Iterator[Observation]:
    counted = case.data.statistics
    # What lies outside the field of view was not lost by shrinking.
    lost = counted.held & (counted.class_pixels == 0) & (counted.outside_pixels == 0)
    for index, name in enumerate(case.data.class_names):
        concerned = places(lost[:, index])
        if concerned:
            yield Observation(
                what=f"Class {name!r} has pixels in the masks of {count_of(len(concerned), 'picture')} "
                f"({case.names(concerned)}) but none left at size {case.data.preparation.size}.",
                pictures=concerned,
                remedy=_larger(case, case.shrunk[list(concerned)].max()),
            )


def _fine_class(case: Case) -> Iterator[Observation]:
    counted = case.data.statistics
    shrunk = float(np.median(case.shrunk))
    if shrunk < _SHRUNK:
        return
    for index, name in enumerate(case.data.class_names):
        pixels, edge = counted.class_pixels[:, index].sum(), counted.edge_pixels[:, index].sum()
        # Half of a stroke's pixels over those of one of its sides.
        width = 2 * pixels / edge if edge else np.inf
        if width < _FINE:
            yield Observation(
                what=f"Class {name!r} is only about {width:.1f} pixels wide at size {case.data.preparation.size}, to "
                f"which pictures are shrunk {shrunk:.1f} times.",
                pictures=places(counted.class_pixels[:, index] > 0),
                remedy=_larger(case, _WIDE / width),
            )


def _larger(case: Case, times: float) -> str:
    """The remedy that is so many times as large as now, in round numbers, and at most as large as the files."""
    size, largest = case.data.preparation.size, int(np.max(case.data.sizes))
    assert size != "native", "only what was shrunk can be lost by shrinking"
    wanted = int(np.ceil(size * max(times, 1.25) / _STEP)) * _STEP
    enough = f"--size {wanted}, or more" if wanted < largest else "--size native"
    return f"Raise it with {enough}; trials take longer then, about with its square."


def _threshold_cuts(case: Case) -> Iterator[Observation]:
    counted, threshold = case.data.statistics, case.data.preparation.mask_threshold
    for index, name in enumerate(case.data.class_names):
        marked = counted.held[:, index] | (counted.kept[:, index] < 1)
        if marked.any() and (kept := float(counted.kept[marked, index].mean())) < _KEPT:
            yield Observation(
                what=f"Of what the grey masks of class {name!r} mark, only {kept:.0%} is above the threshold "
                f"{threshold:g}.",
                pictures=places(marked & (counted.kept[:, index] < _KEPT)),
            )


def _specks(case: Case) -> Iterator[Observation]:
    counted = case.data.statistics
    # What is small because its picture was shrunk is another finding.
    full_size = case.shrunk < _SHRUNK
    for index, name in enumerate(case.data.class_names):
        pixels, lone = counted.class_pixels[:, index], counted.lone_pixels[:, index]
        concerned = places(full_size & (pixels >= _SPECKS) & (lone > _ALONE * pixels))
        if concerned:
            share = lone[list(concerned)].sum() / pixels[list(concerned)].sum()
            yield Observation(
                what=f"{share:.0%} of the pixels of class {name!r} stand alone, none of the same class beside them, in "
                f"{count_of(len(concerned), 'picture')} ({case.names(concerned)}).",
                pictures=concerned,
            )


def _outside_field(case: Case) -> Iterator[Observation]:
    counted = case.data.statistics
    for index, name in enumerate(case.data.class_names):
        outside, inside = counted.outside_pixels[:, index], counted.class_pixels[:, index]
        concerned = places(outside > _OUTSIDE * (outside + inside))
        if concerned:
            share = outside[list(concerned)].sum() / (outside + inside)[list(concerned)].sum()
            yield Observation(
                what=f"{share:.0%} of the pixels of class {name!r} lie where nothing counts, in "
                f"{count_of(len(concerned), 'picture')} ({case.names(concerned)}).",
                pictures=concerned,
            )


CHECKS: dict[str, Check] = {
    "planes_overlap": Check(
        level="error",
        sure="certain",
        why="Classes that exclude each other are learnt by choosing one: a pixel of two has no right answer.",
        remedy="Give each pixel one class, or save a folder of masks for each class, which may overlap.",
        look=_planes_overlap,
    ),
    "overlapping_planes": Check(
        level="note",
        sure="certain",
        why="Each class is learnt on its own, so that this is allowed; it is odd if they were to exclude each other.",
        remedy="If they exclude each other, save one mask with a value for each class instead of a folder for each.",
        look=_planes_may_overlap,
    ),
    "slight_overlap": Check(
        level="warning",
        sure="possible",
        why="Classes that may overlap hardly do: it looks like slips of the pen where they were to exclude each other.",
        remedy="If they exclude each other, save one mask with a value for each class instead of a folder for each.",
        look=_planes_touch,
    ),
    "rare_class": Check(
        level="warning",
        sure="certain",
        why="A network that never finds it is right nearly everywhere, and may stay so.",
        remedy="Weigh it with --space class_weight=square_root, or cut crops around it with --space rare_crops=0.9.",
        look=_rare_class,
    ),
    "empty_images": Check(
        level="warning",
        sure="certain",
        why="Fine if there is nothing in them; if they were never annotated, they teach to overlook.",
        remedy="Leave them out of training with --space empty_images=0, or take them out if masks are missing.",
        look=_empty_images,
    ),
    "class_lost": Check(
        level="warning",
        sure="certain",
        why="What has no pixel left cannot be learnt, and counts as background.",
        remedy="Raise --size.",
        look=_class_lost,
    ),
    "fine_class": Check(
        level="note",
        sure="certain",
        why="Strokes of a pixel or two lose their shape, and one pixel beside them costs much Dice.",
        remedy="Raise --size.",
        look=_fine_class,
    ),
    "threshold_cuts": Check(
        level="warning",
        sure="possible",
        why="Grey masks often say how sure somebody was; the threshold decides how much of that is to be found.",
        remedy="Choose the threshold that their owner means, such as --mask-threshold 0.1.",
        look=_threshold_cuts,
    ),
    "specks": Check(
        level="warning",
        sure="possible",
        why="Scattered single pixels are rarely drawn by anybody: they look like noise or compression in the mask.",
        remedy="Look at the masks; save them without loss (PNG), or raise --mask-threshold for grey ones.",
        look=_specks,
    ),
    "mask_outside_field": Check(
        level="warning",
        sure="certain",
        why="It is neither learnt nor judged: the field of view, or the mask, is wrong.",
        remedy="Mend the masks of the field of view; if it was found, use --field-of-view given.",
        look=_outside_field,
    ),
}
