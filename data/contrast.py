"""Raises local contrast, so that faint structures show in bright and dark regions alike (CLAHE)."""

import numpy as np

from data.segmentation_data import UInt8

# As is usual for retinas: how far a tile's histogram may be steepened, and how many tiles a side.
_CLIP_LIMIT = 2.0
_TILES = 8


def raise_local_contrast(image: UInt8) -> UInt8:
    """Contrast-limited adaptive histogram equalisation of a picture, uint8 (H, W, 3) in RGB or (H, W).

    Of an RGB picture only the lightness is changed (of CIE Lab), so that colours stay what they are. The tiles are
    eighths of the picture's sides, whatever its size. Zuiderveld, "Contrast limited adaptive histogram equalization",
    Graphics Gems IV, 1994.
    """
    import cv2

    equalise = cv2.createCLAHE(clipLimit=_CLIP_LIMIT, tileGridSize=(_TILES, _TILES)).apply
    if image.ndim == 2:
        return np.asarray(equalise(image), np.uint8)
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = equalise(lab[..., 0])
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)
