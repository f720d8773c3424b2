"""Draws a picture and its masks so small that all pictures of a set can be compared with each other."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

Field = npt.NDArray[np.float32]  # (H, W)

# Sides of the thumbnail, and of the drawings of edges: small enough to keep for each picture, large enough that a
# mask is told from another's in retinas, lesions and blood cells.
THUMBNAIL = 32
GRID = 48

# Edges are looked at in pictures of at most this size: finer misfits cannot be told from coarse outlines.
_LONGEST = 256
# The strongest edges (the rim of the field of view, reflections) would outweigh all others.
_CLIPPED = 95
# How far a mask is tried elsewhere: this part of the picture's sides.
_REACH = 8


class Sketch(NamedTuple):
    """What one picture looks like, and how well its masks' outlines lie on its edges.

    thumbnail: uint8 (THUMBNAIL, THUMBNAIL), its brightness.
    edges: uint8 (GRID, GRID), how much changes there in the picture.
    borders: uint8 (GRID, GRID), how much of the masks' outlines lies there, 255 where most does.
    shift: rows and columns by which the masks would have to be moved to lie best on the edges, in pixels.
    agreement: how well they lie where they are, and moved by `shift`: correlations, 0 by chance, 1 perfectly.
    """

    thumbnail: npt.NDArray[np.uint8]
    edges: npt.NDArray[np.uint8]
    borders: npt.NDArray[np.uint8]
    shift: tuple[int, int]
    agreement: tuple[float, float]


def draw_sketch(image: npt.NDArray[np.uint8], planes: npt.NDArray[np.uint8], valid: npt.NDArray[np.uint8]) -> Sketch:
    """The sketch of one picture: image uint8 (H, W, C), planes 0/1 (K, H, W), valid 0/1 (H, W)."""
    height, width = valid.shape
    picture = Image.fromarray(image if image.shape[2] == 3 else image[..., 0]).convert("L")
    scale = min(1.0, _LONGEST / max(height, width))
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    counted = _averaged(valid.astype(np.float32), shape)
    edges = _edges(_averaged(np.asarray(picture, np.float32), shape), counted)
    borders = _averaged((_borders(planes) & valid.astype(bool)).astype(np.float32), shape)
    shift, agreement = _best_shift(edges, borders)
    grid = (GRID, GRID)
    drawn = _averaged(borders, grid)
    return Sketch(
        thumbnail=np.asarray(picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)),
        edges=np.round(_averaged(edges, grid) * 255).astype(np.uint8),
        borders=np.round(drawn * (255 / max(float(drawn.max()), 1e-9))).astype(np.uint8),
        shift=(round(shift[0] * height / shape[0]), round(shift[1] * width / shape[1])),
        agreement=agreement,
    )


def _averaged(field: Field, shape: tuple[int, int]) -> Field:
    """The field at another size, each value the mean of the area that it stands for."""
    if field.shape == shape:
        return field
    return np.asarray(Image.fromarray(field).resize((shape[1], shape[0]), Image.Resampling.BOX))


def _edges(brightness: Field, counted: Field) -> Field:
    """How much the brightness changes at each pixel, 0..1, and 0 where pixels do not count."""
    change = np.zeros_like(brightness)
    change[1:-1] += np.square(brightness[2:] - brightness[:-2])
    change[:, 1:-1] += np.square(brightness[:, 2:] - brightness[:, :-2])
    edges: Field = np.where(counted > 0.5, np.sqrt(change), np.float32(0))
    strong = max(float(np.percentile(edges, _CLIPPED)), 1e-9)
    return (np.minimum(edges, strong) / strong).astype(np.float32)


def _borders(planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Where neighbouring pixels (H, W) differ in any of the planes (K, H, W)."""
    borders = np.zeros(planes.shape[1:], bool)
    for plane in planes:
        if not plane.any():
            continue
        changes = plane[1:] != plane[:-1]
        borders[1:] |= changes
        borders[:-1] |= changes
        changes = plane[:, 1:] != plane[:, :-1]
        borders[:, 1:] |= changes
        borders[:, :-1] |= changes
    return borders


def _best_shift(edges: Field, borders: Field) -> tuple[tuple[int, int], tuple[float, float]]:
    """Where the borders would lie best on the edges: rows and columns, and the agreement without and with them."""
    edges, borders = edges - edges.mean(), borders - borders.mean()
    strength = float(np.linalg.norm(edges) * np.linalg.norm(borders))
    if strength < 1e-6:
        return (0, 0), (0.0, 0.0)
    height, width = edges.shape
    down, across = height // _REACH, width // _REACH
    # Room at the end keeps what is moved out on one side from coming in again on the other.
    room = (height + down, width + across)
    products = np.fft.irfft2(np.fft.rfft2(edges, room) * np.conj(np.fft.rfft2(borders, room)), room)
    rows, columns = np.arange(-down, down + 1), np.arange(-across, across + 1)
    near = products[np.ix_(rows, columns)] / strength
    row, column = np.unravel_index(int(near.argmax()), near.shape)
    return (int(rows[row]), int(columns[column])), (float(near[down, across]), float(near[row, column]))
