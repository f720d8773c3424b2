"""What is counted of each picture once, when it is prepared, so that no training and no check counts it again."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from data.sketch import draw_sketch

# How many pixels of each class are remembered by their place.
PLACES = 64
# How many pixels are counted at a time.
_AT_ONCE = 2**16


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Counts of N pictures of K classes and C channels; only pixels that count are counted.

    class_pixels: int64 (N, K), pixels of each class.
    valid_pixels: int64 (N,), pixels that count.
    overlap_pixels: int64 (N,), pixels that belong to more than one class.
    histograms: int64 (N, C, 256), how often each value stands in each channel.
    extents: int64 (N, 2), height and width of the smallest upper left corner that holds every pixel that counts; the
        whole picture where none does.
    places: int32 (N, K, PLACES, 2), row and column of pixels of the class, evenly taken from all of them; zeros where
        the picture has none.
    held: bool (N, K), whether the class had a pixel in the file, before it was fitted to its size.
    kept: float32 (N, K), of the pixels that a grey mask marks clearly (above a tenth of white), the share that the
        threshold makes the class's; 1 where the file marks none.
    outside_pixels: int64 (N, K), pixels of each class that do not count.
    edge_pixels: int64 (N, K), pixels of each class beside one, above, below, left or right, that is not.
    lone_pixels: int64 (N, K), pixels of each class with none of the eight around them.
    frame_shares: float32 (N, K), share of the picture's outermost pixels that are of the class.
    thumbnails, edges, borders, shifts, agreements: what `data.sketch.Sketch` says, uint8 (N, side, side) thrice,
        int32 (N, 2) and float32 (N, 2).
    digests: uint64 (N, 1 + K), equal for equal pictures, and for equal planes of one size.
    """

    class_pixels: npt.NDArray[np.int64]
    valid_pixels: npt.NDArray[np.int64]
    overlap_pixels: npt.NDArray[np.int64]
    histograms: npt.NDArray[np.int64]
    extents: npt.NDArray[np.int64]
    places: npt.NDArray[np.int32]
    held: npt.NDArray[np.bool_]
    kept: npt.NDArray[np.float32]
    outside_pixels: npt.NDArray[np.int64]
    edge_pixels: npt.NDArray[np.int64]
    lone_pixels: npt.NDArray[np.int64]
    frame_shares: npt.NDArray[np.float32]
    thumbnails: npt.NDArray[np.uint8]
    edges: npt.NDArray[np.uint8]
    borders: npt.NDArray[np.uint8]
    shifts: npt.NDArray[np.int32]
    agreements: npt.NDArray[np.float32]
    digests: npt.NDArray[np.uint64]


def measure(
    image: npt.NDArray[np.uint8],
    planes: npt.NDArray[np.uint8],
    valid: npt.NDArray[np.uint8],
    held: Sequence[bool] | None = None,
    kept: Sequence[float] | None = None,
) -> Statistics:
    """The statistics of one picture: image uint8 (H, W, C), planes 0/1 (K, H, W), valid 0/1 (H, W).

    held: which classes the file held; by default those that have a pixel here.
    kept: of the pixels that the file marks, the share above the threshold, for each class; by default all.
    """
    counted = valid.view(np.bool_)
    class_pixels = np.zeros(len(planes), np.int64)
    places, outlines = [], []
    once, twice = np.zeros(counted.shape, np.bool_), np.zeros(counted.shape, np.bool_)
    # Plane by plane, and the picture by a few rows: a large one would not fit into memory several times over.
    for index, plane in enumerate(planes):
        inside = plane.view(np.bool_) & counted  # (H, W)
        class_pixels[index] = np.count_nonzero(inside)
        twice |= once & inside
        once |= inside
        places.append(_places(inside))
        outlines.append(_outline(inside))
    overlap = np.count_nonzero(twice)
    del once, twice
    edge_pixels, lone_pixels, frame_shares = zip(*outlines, strict=True)
    rows, columns = np.flatnonzero(counted.any(axis=1)), np.flatnonzero(counted.any(axis=0))
    extent = (rows[-1] + 1, columns[-1] + 1) if len(rows) else valid.shape
    sketch = draw_sketch(image, planes, valid)
    return Statistics(
        class_pixels=class_pixels[None],
        valid_pixels=np.array([np.count_nonzero(counted)], np.int64),
        overlap_pixels=np.array([overlap], np.int64),
        histograms=_histograms(image, counted)[None],
        extents=np.array([extent], np.int64),
        places=np.stack(places)[None],
        held=np.array([class_pixels > 0 if held is None else held], np.bool_),
        kept=np.array([np.ones(len(planes)) if kept is None else kept], np.float32),
        outside_pixels=np.array([list(map(np.count_nonzero, planes))], np.int64) - class_pixels,
        edge_pixels=np.array([edge_pixels], np.int64),
        lone_pixels=np.array([lone_pixels], np.int64),
        frame_shares=np.array([frame_shares], np.float32),
        thumbnails=sketch.thumbnail[None],
        edges=sketch.edges[None],
        borders=sketch.borders[None],
        shifts=np.array([sketch.shift], np.int32),
        agreements=np.array([sketch.agreement], np.float32),
        digests=np.array([[_digest(image), *map(_digest, planes)]], np.uint64),
    )


def measure_all(
    images: npt.NDArray[np.uint8], masks: npt.NDArray[np.uint8], valid: npt.NDArray[np.uint8]
) -> Statistics:
    """The statistics of prepared pictures: images (N, H, W, C), masks (N, K, H, W), valid (N, H, W)."""
    return join([measure(*picture) for picture in zip(images, masks, valid, strict=True)])


def join(parts: Sequence[Statistics]) -> Statistics:
    """The statistics of all the pictures of the parts, in their order."""
    names = [declared.name for declared in fields(Statistics)]
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return Statistics(**joined)


def _places(plane: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """Rows and columns (PLACES, 2) of pixels that are set, evenly taken from all of them; some stand more than once."""
    found = np.flatnonzero(plane)
    if not len(found):
        return np.zeros((PLACES, 2), np.int32)
    chosen = found[np.linspace(0, len(found) - 1, PLACES).round().astype(int)]
    return np.stack(np.unravel_index(chosen, plane.shape), axis=1).astype(np.int32)


def _outline(plane: npt.NDArray[np.bool_]) -> tuple[int, int, float]:
    """Of one plane (H, W): pixels at its edge, pixels that stand alone, and its share of the picture's frame."""
    if not plane.any():
        return 0, 0, 0.0
    height, width = plane.shape
    edge = lone = 0
    for some in _bands(height, width):
        # Beyond the picture a plane goes on: its edge is where it ends in sight.
        beyond = (int(some.start == 0), int(some.stop >= height)), (1, 1)
        seen = plane[max(0, some.start - 1) : some.stop + 1]
        around = np.pad(seen, beyond, mode="edge")
        own = around[1:-1, 1:-1]
        within = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
        edge += int(np.count_nonzero(own & ~within))
        around = np.pad(seen, beyond)
        beside = around[:, :-2] | around[:, 2:]  # (rows + 2, W)
        near = beside[:-2] | beside[1:-1] | beside[2:] | around[:-2, 1:-1] | around[2:, 1:-1]
        lone += int(np.count_nonzero(own & ~near))
    frame = np.concatenate([plane[0], plane[-1], plane[1:-1, 0], plane[1:-1, -1]])
    return edge, lone, float(frame.mean())


def _histograms(image: npt.NDArray[np.uint8], counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """How often each value stands in each channel of an image (H, W, C) where it counts: (C, 256)."""
    counts = np.zeros((image.shape[2], 256), np.int64)
    for some in _bands(*counted.shape):
        counts += [np.bincount(values, minlength=256) for values in image[some][counted[some]].T]
    return counts


def _bands(height: int, width: int) -> list[slice]:
    """Rows that follow each other, so many at a time that they hold few pixels."""
    rows = max(1, _AT_ONCE // width)
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


def _digest(pixels: npt.NDArray[np.uint8]) -> int:
    """A number that is the same for the same pixels in the same shape."""
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=8)
    digest.update(np.ascontiguousarray(pixels).data)
    return int.from_bytes(digest.digest(), "little")
