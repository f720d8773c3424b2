"""How strongly a training changes its pictures: one strength for each kind of change, and what strength 1 means."""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The strength of each change: 0 is none, 1 is strong (`STRONG`), and more is allowed.

    rotation, shift, zoom, shear, elastic: of image and mask together. flips: the share of the full chance, one half, to
    be mirrored, left to right and upside down. brightness, contrast, gamma, color_cast, noise: of the image alone.
    """

    rotation: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    shear: float = 0.0
    flips: float = 0.0
    elastic: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    color_cast: float = 0.0
    noise: float = 0.0

    @property
    def limits(self) -> "Augmentation":
        """How far each change goes at most, in the units of `STRONG`."""
        names = [declared.name for declared in fields(self)]
        return Augmentation(**{name: getattr(self, name) * getattr(STRONG, name) for name in names})


# How far each change goes at strength 1, drawn evenly from none to this, either way.
STRONG = Augmentation(
    # radians. Beyond 60 degrees little is new: flips turn the rest of the circle's pictures into these.
    rotation=math.radians(60),
    # of the sample's height and width. What moves out is lost, and what comes in at the other side does not count.
    shift=0.1,
    # logarithm of the scale: 0.7 to 1.4 times as large, about what two cameras or two distances differ by.
    zoom=0.35,
    # pixels sideways for each pixel down: 9 degrees.
    shear=0.15,
    # chance to be mirrored, each way.
    flips=0.5,
    # of the sample's shorter side, by which each knot of the grid is moved. Tissue bends so and thin vessels stay
    # whole: the surface between the knots is smooth, and folds nowhere below 0.125.
    elastic=0.06,
    # grey levels of 255.
    brightness=50.0,
    # logarithm of the gain about mid-grey: 0.67 to 1.5 times.
    contrast=0.4,
    # logarithm of the exponent: midtones as two cameras' curves show them, 0.67 to 1.5.
    gamma=0.4,
    # logarithm of each channel's gain, up to 16 %: another lamp, another stain.
    color_cast=0.15,
    # grey levels, standard deviation: a camera in poor light. At twice as much the thinnest vessels drown.
    noise=5.0,
)
