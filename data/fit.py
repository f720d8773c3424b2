"""Brings one picture, or one mask, into a preparation's colour, contrast and size."""

from typing import Literal

import numpy as np
from PIL import Image

from data.contrast import raise_local_contrast
from data.segmentation_data import Preparation, UInt8


def fit_image(image: UInt8, preparation: Preparation) -> UInt8:
    """An RGB image (H, W, 3) in the preparation's colour, contrast and size, not padded: uint8 (h, w, C).

    In this order: contrast is raised in the colour that the network will see, and before the picture is shrunk, so that
    faint thin structures weigh more in the average that shrinking makes of them.
    """
    picture = Image.fromarray(image)
    if preparation.color == "grey":
        picture = picture.convert("L")
    elif preparation.color == "green":
        picture = picture.getchannel("G")
    if preparation.clahe:
        picture = Image.fromarray(raise_local_contrast(np.asarray(picture)))
    height, width = fitted_size(image.shape[0], image.shape[1], preparation.size)
    if (width, height) != picture.size:
        # Pillow widens the filter when it shrinks, so that all pixels are averaged and stripes do not turn to bands.
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    fitted = np.array(picture)
    return fitted if fitted.ndim == 3 else fitted[..., None]


def fit_mask(mask: UInt8, size: int | Literal["native"]) -> UInt8:
    """A mask (H, W) of 0 and 1 at the size of its fitted picture, (h, w): of every square its middle pixel.

    This keeps each class's share of the picture, and classes that exclude each other do so still. A majority of the
    pixels would lose what is thin or small; a lower threshold makes strokes too wide, and lets classes overlap
    (benchmarks/shrinking.py).
    """
    height, width = fitted_size(mask.shape[0], mask.shape[1], size)
    if mask.shape == (height, width):
        return mask
    return np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def fitted_size(height: int, width: int, size: int | Literal["native"]) -> tuple[int, int]:
    """Height and width of a picture shrunk into a square of `size`, its aspect kept, if it is larger."""
    if size == "native" or max(height, width) <= size:
        return height, width
    scale = size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))
