"""Checks of the pictures themselves: values, exposure, size, colour, and which of their pixels count."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from data.checks.case import Case, Check, Observation, count_of, places, some

# A picture whose brightest thousandth is below this uses an eighth of the range, as 12 bits saved as 16 do.
_DARKEST = 32
# So few values in nearly all pixels are a mask's, not a photograph's.
_FEW_VALUES, _NEARLY_ALL = 4, 0.995
# Exposure: so many spreads, and grey levels, from the middle; this share of the pixels clipped where it is unusual.
_SPREADS, _LEVELS, _CLIPPED, _USUALLY = 4.0, 45.0, 0.5, 0.1
# One of the set is odd when so many of it agree and it differs by so much.
_AGREED, _ASPECT, _AREA = 0.9, 1.3, 4.0
# Corners of a photograph through a round opening, and how much brighter its inside is, in most of the pictures.
_CORNER, _BRIGHTER, _MOST = 40, 2.5, 0.7
_FEWEST = 5
# Less than this of a picture counts: its mask of what counts may be wrong.
_HARDLY = 0.05


def _no_counting_pixels(case: Case) -> Iterator[Observation]:
    concerned = places(case.data.statistics.valid_pixels == 0)
    if concerned:
        yield Observation(
            what=f"No pixel counts in {count_of(len(concerned), 'picture')} ({case.names(concerned)}).",
            pictures=concerned,
        )


def _hardly_counting(case: Case) -> Iterator[Observation]:
    share = case.data.statistics.valid_pixels / case.shapes.prod(axis=1)
    concerned = places((share > 0) & (share < _HARDLY))
    if concerned:
        yield Observation(
            what=f"Less than {_HARDLY:.0%} of the pixels count in {count_of(len(concerned), 'picture')} "
            f"({case.names(concerned)}).",
            pictures=concerned,
        )


def _nothing_to_see(case: Case) -> Iterator[Observation]:
    for label, pictures in case.in_part("train"):
        if pictures and case.blank[list(pictures)].all():
            yield Observation(
                what=f"All {count_of(len(pictures), 'picture')} of {label} hold one value only.", pictures=pictures
            )


def _blank_pictures(case: Case) -> Iterator[Observation]:
    blank = places(case.blank & (case.data.statistics.valid_pixels > 0))
    if blank:
        yield Observation(
            what=f"{count_of(len(blank), 'picture')} of {len(case.data.names)} hold{'s' * (len(blank) == 1)} one value "
            f"only ({case.names(blank)}).",
            pictures=blank,
        )


def _nearly_black(case: Case) -> Iterator[Observation]:
    above = 1 - case.brightness.cumsum(axis=1)  # (N, 256), share of the pixels brighter than this
    brightest = (above > 0.001).sum(axis=1)
    concerned = places((brightest < _DARKEST) & ~case.blank)
    if concerned:
        values = sorted({int(brightest[place]) for place in concerned})
        yield Observation(
            what=f"{count_of(len(concerned), 'picture')} of {len(case.data.names)} "
            f"{'is' if len(concerned) == 1 else 'are'} nearly black: 99.9% of the values are at most "
            f"{some(values)} of 255 ({case.names(concerned)}).",
            pictures=concerned,
        )


def _few_values(case: Case) -> Iterator[Observation]:
    # Of each channel on its own: a drawing in three colours has few in each.
    histograms = case.data.statistics.histograms
    most = np.sort(histograms, axis=2)[:, :, -_FEW_VALUES:].sum(axis=2).min(axis=1)
    second = np.sort(histograms, axis=2)[:, :, -2].max(axis=1)
    counted = case.data.statistics.valid_pixels
    concerned = places((counted > 0) & ~case.blank & (second > 0.001 * counted) & (most >= _NEARLY_ALL * counted))
    if concerned:
        yield Observation(
            what=f"{count_of(len(concerned), 'picture')} of {len(case.data.names)} "
            f"use{'s' * (len(concerned) == 1)} {_FEW_VALUES} values or fewer in nearly all pixels "
            f"({case.names(concerned)}).",
            pictures=concerned,
        )


def _odd_exposure(case: Case) -> Iterator[Observation]:
    seen = ~case.blank & (case.data.statistics.valid_pixels > 0)
    if seen.sum() < _FEWEST:
        return
    means = case.brightness @ np.arange(256)
    middle = float(np.median(means[seen]))
    # Of a normal distribution, the median distance from the middle is 0.67 of the spread.
    far = max(_SPREADS * float(np.median(np.abs(means[seen] - middle))) / 0.6745, _LEVELS)
    white, black = case.brightness[:, 250:].sum(axis=1), case.brightness[:, :6].sum(axis=1)
    kinds = {
        "over-exposed": (means > middle + far) | _clipped(white, seen),
        "under-exposed": (means < middle - far) | _clipped(black, seen),
    }
    for kind, where in kinds.items():
        concerned = places(where & seen)
        if concerned:
            shown = some([f"{case.data.names[place]} {means[place]:.0f}" for place in concerned])
            yield Observation(
                what=f"{count_of(len(concerned), 'picture')} {'is' if len(concerned) == 1 else 'are'} {kind} against "
                f"the others: mean brightness {shown}; the middle of the set is {middle:.0f}.",
                pictures=concerned,
            )


def _clipped(share: npt.NDArray[np.float64], seen: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pictures of which much is clipped, in a set where that is unusual."""
    return (share > _CLIPPED) & bool(np.median(share[seen]) < _USUALLY)


def _odd_size(case: Case) -> Iterator[Observation]:
    sizes = np.array(case.data.sizes, float)
    if len(sizes) < _FEWEST:
        return
    aspect, area = np.log(sizes[:, 1] / sizes[:, 0]), np.log(sizes.prod(axis=1))
    for kind, values, times in (("shape", aspect, _ASPECT), ("size", area, _AREA)):
        distance = np.abs(values - np.median(values))
        odd = distance > np.log(times)
        # Where sizes are mixed, none is odd.
        if odd.any() and (distance < np.log(times) / 4).mean() >= _AGREED:
            concerned = places(odd)
            shown = some([f"{case.data.names[place]} {_size(case, place)}" for place in concerned])
            usual = _size(case, int(np.argmin(distance)))
            yield Observation(
                what=f"{count_of(len(concerned), 'picture')} {'has' if len(concerned) == 1 else 'have'} another "
                f"{kind} than the others: {shown}; most are like {usual}.",
                pictures=concerned,
            )


def _size(case: Case, place: int) -> str:
    height, width = case.data.sizes[place]
    return f"{width} x {height}"


def _odd_color(case: Case) -> Iterator[Observation]:
    histograms = case.data.statistics.histograms
    if case.data.channels != 3 or len(histograms) < _FEWEST:
        return
    grey = (histograms == histograms[:, :1]).all(axis=(1, 2))
    for kind, where in (("grey among colour pictures", grey), ("in colour among grey pictures", ~grey)):
        concerned = places(where & ~case.blank)
        if concerned and where.mean() <= 1 - _AGREED:
            yield Observation(
                what=f"{count_of(len(concerned), 'picture')} {'is' if len(concerned) == 1 else 'are'} {kind} "
                f"({case.names(concerned)}).",
                pictures=concerned,
            )


def _field_of_view_ignored(case: Case) -> Iterator[Observation]:
    counted = case.data.statistics
    all_count = counted.valid_pixels == case.shapes.prod(axis=1)
    if case.data.preparation.field_of_view != "given" or not all_count.all():
        return
    drawn = counted.thumbnails.astype(float)
    corners = [drawn[:, top, left].mean(axis=(1, 2)) for top in _ENDS for left in _ENDS]
    darkness = np.max(corners, axis=0)
    side = drawn.shape[1]
    rows, columns = np.indices((side, side)) - (side - 1) / 2
    inside = np.quantile(drawn[:, np.hypot(rows, columns) < side / 3], 0.1, axis=1)
    round_ones = (darkness < _CORNER) & (inside > _BRIGHTER * np.maximum(darkness, 8))
    if round_ones.mean() >= _MOST and round_ones.sum() > 1:
        concerned = places(round_ones)
        yield Observation(
            what=f"{len(concerned)} of {count_of(len(round_ones), 'picture')} show a bright disc on a dark border, and "
            "the border counts.",
            pictures=concerned,
        )


_ENDS = (slice(0, 2), slice(-2, None))

CHECKS: dict[str, Check] = {
    "no_counting_pixels": Check(
        level="error",
        sure="certain",
        why="A picture of which nothing counts teaches nothing and cannot be judged: something is wrong with its mask "
        "of what counts.",
        remedy="Mend its mask of the field of view, or take it out; if it was found, use --field-of-view given.",
        look=_no_counting_pixels,
    ),
    "nothing_to_see": Check(
        level="error",
        sure="certain",
        why="Nothing can be learnt from empty pictures.",
        remedy="Look at the files: they may be masks, or hold values from 0 to 1; save them with values up to 255.",
        look=_nothing_to_see,
    ),
    "hardly_counting": Check(
        level="warning",
        sure="possible",
        why="What does not count is neither learnt nor judged; masks of the field of view are sometimes inverted.",
        remedy="Look at the masks of what counts; invert them, or leave them out.",
        look=_hardly_counting,
    ),
    "blank_pictures": Check(
        level="warning",
        sure="certain",
        why="There is nothing to see in them; whatever their masks mark cannot be learnt.",
        remedy="Take them out, or save them again from where they came.",
        look=_blank_pictures,
    ),
    "nearly_black": Check(
        level="warning",
        sure="likely",
        why="Values of 0 to 1, or 12 bits in 16, leave a few grey levels of what was there, and contrast is gone.",
        remedy="Save the pictures again, their values stretched to 0 to 255.",
        look=_nearly_black,
    ),
    "few_values": Check(
        level="warning",
        sure="possible",
        why="So few values are a mask's or a drawing's: images and masks may have changed places.",
        remedy="Look at the files in images/; put photographs there.",
        look=_few_values,
    ),
    "odd_exposure": Check(
        level="note",
        sure="likely",
        why="What is white or black throughout cannot be told apart, and a few such pictures to choose by weigh much.",
        remedy="Look at them; take out what nobody could mark, or raise --space brightness=2 to learn to bear it.",
        look=_odd_exposure,
    ),
    "odd_size": Check(
        level="note",
        sure="likely",
        why="A picture of another shape or size is often turned, cropped, a thumbnail, or from another source.",
        remedy="See whether it belongs to the set.",
        look=_odd_size,
    ),
    "odd_color": Check(
        level="note",
        sure="certain",
        why="What is learnt from colour does not help where there is none.",
        remedy="See whether they belong to the set; with --color grey all are treated alike.",
        look=_odd_color,
    ),
    "field_of_view_ignored": Check(
        level="note",
        sure="likely",
        why="The dark border counts as background: it is easy, makes accuracy look high, and takes part of each epoch.",
        remedy="Leave it out with --field-of-view found.",
        look=_field_of_view_ignored,
    ),
}
