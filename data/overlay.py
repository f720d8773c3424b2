"""Draws masks over their picture, for a person to look at."""

import numpy as np
import numpy.typing as npt

from data.segmentation_data import UInt8

# Colours that people with any colour vision tell apart (Okabe and Ito 2008), those that stand out on tissue first.
COLORS = ((86, 180, 233), (240, 228, 66), (0, 158, 115), (230, 159, 0), (204, 121, 167), (0, 114, 178), (213, 94, 0))
COLOR_NAMES = ("sky blue", "yellow", "green", "orange", "pink", "blue", "red")
FOUND, INVENTED, MISSED = (0, 190, 100), (230, 50, 40), (70, 130, 255)


def class_color(index: int) -> tuple[int, int, int]:
    """The colour (R, G, B) of the class at this place; there are seven, taken in turn."""
    return COLORS[index % len(COLORS)]


def color_name(index: int) -> str:
    """What people call the colour of the class at this place."""
    return COLOR_NAMES[index % len(COLOR_NAMES)]


def draw_overlay(image: UInt8, planes: npt.NDArray[np.bool_], opacity: float = 0.7) -> UInt8:
    """A picture, uint8 (H, W, C), with each plane of (K, H, W) tinted in its class's colour, as RGB (H, W, 3).

    Where planes overlap, the later class shows most.
    """
    painted = np.repeat(image, 3 // image.shape[2], axis=2).astype(np.float32)
    for index, plane in enumerate(planes):
        painted[plane] = (1 - opacity) * painted[plane] + opacity * np.array(class_color(index), np.float32)
    return painted.astype(np.uint8)


def draw_comparison(image: UInt8, truth: npt.NDArray[np.bool_], predicted: npt.NDArray[np.bool_]) -> UInt8:
    """Picture, truth, prediction and errors side by side, as RGB (H, 4 x W, 3).

    image: uint8 (H, W, C). truth, predicted: planes (K, H, W). Errors, over all classes: green was found, red was
    found where nothing is, blue was missed.
    """
    found, invented, missed = (part.any(axis=0) for part in (truth & predicted, predicted & ~truth, truth & ~predicted))
    plain = np.repeat(image, 3 // image.shape[2], axis=2)
    errors = plain // 3
    for where, color in ((found, FOUND), (missed, MISSED), (invented, INVENTED)):
        errors[where] = color
    return np.concatenate([plain, draw_overlay(image, truth), draw_overlay(image, predicted), errors], axis=1)
