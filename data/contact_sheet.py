"""Draws small pictures beside their masks, for a person to look over many at a glance."""

import io

import numpy as np
from PIL import Image

from data.fit import fitted_size
from data.overlay import draw_overlay
from data.segmentation_data import SegmentationData, UInt8

_OPACITY = 0.55
# Pixels that do not count are this bright beside those that do.
_DIMMED = 0.4
# A quarter of a pixel in the class, of 255: less would be lost, and a lesion that is not seen looks as if it were not
# marked; more would make strokes too wide.
_SHOWN = 64
_GAP = 2
_QUALITY = 82


def choose_evenly(count: int, most: int) -> list[int]:
    """At most so many of the places 0..count - 1, at even distances."""
    return [int(place) for place in np.linspace(0, count - 1, min(count, most)).round()]


def draw_pair(data: SegmentationData, place: int, side: int) -> UInt8:
    """A picture and, to the right, the same with its masks laid over it, as RGB; each fits into a square of `side`.

    Pixels that do not count are dark on the right.
    """
    height, width = fitted_size(*data.sizes[place], data.preparation.size)
    image = np.asarray(data.images[place, :height, :width])
    planes, valid = data.masks[place, :, :height, :width], data.valid[place, :height, :width]
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    small = max(1, round(width * scale)), max(1, round(height * scale))
    plain = Image.fromarray(np.repeat(image, 3 // image.shape[2], axis=2)).resize(small, Image.Resampling.BOX)
    shares = [np.asarray(Image.fromarray(plane * 255).resize(small, Image.Resampling.BOX)) for plane in planes]
    marked = draw_overlay(np.asarray(plain), np.stack(shares) >= _SHOWN, opacity=_OPACITY)
    counts = np.asarray(Image.fromarray(valid).resize(small, Image.Resampling.NEAREST))[..., None]
    shown = np.where(counts > 0, marked, marked * _DIMMED).astype(np.uint8)
    return np.concatenate([np.asarray(plain), np.full((small[1], _GAP, 3), 128, np.uint8), shown], axis=1)


def encode_jpeg(picture: UInt8) -> bytes:
    """An RGB picture (H, W, 3) as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=_QUALITY, optimize=True)
    return file.getvalue()
