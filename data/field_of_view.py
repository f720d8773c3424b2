"""Finds the round field of view of a fundus photograph: the bright disc before a dark border."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data.segmentation_data import UInt8

Points = npt.NDArray[np.float32]  # (P, 2), x and y in pixels

# The search is done at this size: a disc needs no more, and noise is averaged away.
_SIDE = 320
# At that size, a strip that is narrower than this shows no disc.
_NARROWEST = 3
# A border is dark when it has at most this share of the brightness of the picture's middle.
_DARKEST_DISC = 0.35
# Between the border's brightness and the middle's, from where on a pixel may belong to the disc. Which is right differs
# from camera to camera; the one that shows the best circle is taken.
_RIMS = (0.1, 0.15, 0.2, 0.27, 0.35, 0.45)
# In grey values above the border, so that its noise is no disc.
_LEAST_RISE = 4.0
# Share of the brightness beside it, above the border's, that a pixel of the disc has at least: an edge is blurred, and
# lies where it is half as bright as the disc.
_HALF = 0.5
# Share of the picture that a disc takes up at least and at most: less is a bright spot, more leaves no border.
_SMALLEST, _LARGEST = 0.2, 0.985
# Share of a disc's outline that lies on its circle, at least; the rest is cut off flat, or sticks out.
_ROUND = 0.4
# The radius of that circle, as a share of the picture's shorter and longer side: a straight edge lies on circles too.
_LEAST_RADIUS, _MOST_RADIUS = 0.3, 0.7
# How far from a circle its points may lie, as a share of its radius.
_NEAR = 0.012
_CIRCLES_TRIED = 200
# Share of the picture's shorter side below which a thing is small.
_SMALL = 0.03


class _Disc(NamedTuple):
    """A bright piece. outline: its edge; centre, radius: the circle on which most of that lies; roundness: how much."""

    outline: Points
    centre: Points
    radius: float
    roundness: float


def find_field_of_view(image: UInt8) -> UInt8:
    """The pixels of an RGB photograph (H, W, 3) that its camera saw through the pupil: uint8 0/1 (H, W).

    What is brighter than the picture's own dark border is taken, and its largest piece kept. Most of that piece's edge
    must lie on one circle; what sticks out of the circle is cut off, and the convex hull of the rest is the field of
    view, for discs, also those that are cut off flat at some sides, are convex. A picture whose border is not dark, or
    that shows no such disc, counts in full.
    """
    import cv2

    height, width = image.shape[:2]
    everything = np.ones((height, width), np.uint8)
    scale = min(1.0, _SIDE / max(height, width))
    if min(height, width) * scale < _NARROWEST:
        return everything
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    light = cv2.GaussianBlur(small.max(axis=2), (0, 0), 0.8).astype(np.float32)  # (h, w)

    rows, columns = light.shape
    corner = max(1, min(rows, columns) // 32)
    corners = [light[:corner, :corner], light[:corner, -corner:], light[-corner:, :corner], light[-corner:, -corner:]]
    border = float(np.median([np.median(one) for one in corners]))
    middle = float(np.median(light[rows // 4 : -(rows // 4) or None, columns // 4 : -(columns // 4) or None]))
    if border > _DARKEST_DISC * middle:
        return everything
    side = _odd(min(rows, columns))
    beside = cv2.dilate(light, np.ones((side, side), np.uint8))
    sharp = light - border > _HALF * (beside - border)
    rises = [max(_LEAST_RISE, rim * (middle - border)) for rim in _RIMS]
    discs = [disc for rise in rises if (disc := _find_disc((light > border + rise) & sharp)) is not None]
    if not discs:
        return everything
    disc = max(discs, key=lambda disc: disc.roundness)
    if disc.roundness < _ROUND:
        return everything
    inside = disc.outline[np.hypot(*(disc.outline - disc.centre).T) <= disc.radius * (1 + _NEAR)]
    # A pixel's middle lies half a pixel behind its number, at either size.
    hull = (cv2.convexHull(inside) + 0.5) / scale - 0.5
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, np.round(hull * 16).astype(np.int32), 1, shift=4)
    return mask


def _find_disc(bright: npt.NDArray[np.bool_]) -> _Disc | None:
    """The largest bright piece and its circle, or None where it is no disc by its size."""
    import cv2

    # What is thin and sticks out, such as a line of text, is no part of a disc.
    side = _odd(min(bright.shape))
    pen = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    # The piece may end where the picture ends, which is no reason to round its corners off.
    padded = np.pad(bright.astype(np.uint8), side, mode="edge")
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, pen)[side:-side, side:-side].copy()
    outlines: list[Any] = list(cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0])
    if not outlines:
        return None
    largest = max(outlines, key=cv2.contourArea)
    if not _SMALLEST * bright.size <= cv2.contourArea(cv2.convexHull(largest)) <= _LARGEST * bright.size:
        return None
    outline: Points = largest[:, 0].astype(np.float32)
    return _Disc(outline, *_fit_circle(outline, _LEAST_RADIUS * min(bright.shape), _MOST_RADIUS * max(bright.shape)))


def _odd(length: int) -> int:
    """The width in pixels of what is small beside this length, an odd number."""
    return max(3, round(length * _SMALL)) | 1


def _fit_circle(outline: Points, least: float, most: float) -> tuple[Points, float, float]:
    """Centre, radius and share of the points on it, of the circle on which most points lie.

    It is the best of many circles through three of the points each (random sample consensus) whose radius is from
    `least` to `most`.
    """
    draw = np.random.default_rng(0)
    chosen = outline[draw.integers(0, len(outline), (_CIRCLES_TRIED, 3))].astype(np.float64)  # (T, 3, 2)
    a, b, c = chosen[:, 0], chosen[:, 1] - chosen[:, 0], chosen[:, 2] - chosen[:, 0]
    twice_area = 2 * (b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])
    usable = np.abs(twice_area) > 1e-6
    a, b, c, twice_area = a[usable], b[usable], c[usable], twice_area[usable]
    bb, cc = (b**2).sum(axis=1), (c**2).sum(axis=1)
    offsets = np.stack([c[:, 1] * bb - b[:, 1] * cc, b[:, 0] * cc - c[:, 0] * bb], axis=1) / twice_area[:, None]
    centres, radii = a + offsets, np.hypot(*offsets.T)  # (T, 2), (T,)
    distances = np.hypot(*(outline[None] - centres[:, None]).transpose(2, 0, 1))  # (T, P)
    on_it = (np.abs(distances - radii[:, None]) <= _NEAR * radii[:, None]).mean(axis=1)
    on_it[(radii < least) | (radii > most)] = 0
    best = int(on_it.argmax())
    return centres[best].astype(np.float32), float(radii[best]), float(on_it[best])
