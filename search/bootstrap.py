"""How far a Dice on a few images may be from that on others like them: intervals by the bootstrap over images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.metrics import PixelCounts

RESAMPLES = 2000
LEVEL = 0.95
LARGEST_TABLE = 2**22  # numbers: of how often each image is drawn

Interval = tuple[float, float]  # low, high


@dataclass(frozen=True, kw_only=True)
class DiceIntervals:
    """Intervals of a Dice: of the mean over the classes, of each class, and of the mean over the images.

    None where there is none: of a single image, and of a class that is never there and never found.
    """

    mean: Interval | None
    classes: tuple[Interval | None, ...]
    per_image: Interval | None


def bootstrap_dice(counts: PixelCounts, *, seed: int = 0, resamples: int = RESAMPLES) -> DiceIntervals:
    """Percentile intervals (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13) of 95 %.

    counts: (N, K), of each image. As many images are drawn with replacement as there are; their pixels are pooled
    again, as `model.metrics.scores` does. What 0 / 0 leaves out of a mean is left out here too, and a resample of which
    nothing is left says nothing.
    """
    images, classes = counts.tp.shape
    if images < 2:
        return DiceIntervals(mean=None, classes=(None,) * classes, per_image=None)
    draw = np.random.default_rng(seed)
    of_images = counts.dice().nanmean(dim=1)  # (N,)
    known = ~of_images.isnan()
    pooled, per_image = [], []
    together = max(1, LARGEST_TABLE // images)
    for first in range(0, resamples, together):
        # How often each image is drawn, float64 (R, N).
        shares = np.full(images, 1 / images)
        times = torch.from_numpy(draw.multinomial(images, shares, size=min(together, resamples - first))).double()
        tp, fp, fn = (times @ part.double() for part in (counts.tp, counts.fp, counts.fn))  # (R, K)
        pooled.append(2 * tp / (2 * tp + fp + fn))
        per_image.append(times @ of_images.nan_to_num(0.0) / (times @ known.double()))
    of_classes = torch.cat(pooled)
    return DiceIntervals(
        mean=_percentiles(of_classes.nanmean(dim=1)),
        classes=tuple(_percentiles(of_class) for of_class in of_classes.T),
        per_image=_percentiles(torch.cat(per_image)),
    )


def bootstrap_mean(values: Sequence[float], *, seed: int = 0) -> Interval | None:
    """The same interval of a mean, of one number for each image; None of fewer than two."""
    if len(values) < 2:
        return None
    known = np.asarray(values, np.float64)
    together = max(1, LARGEST_TABLE // len(known))
    draw = np.random.default_rng(seed)
    means = [
        known[draw.integers(len(known), size=(min(together, RESAMPLES - first), len(known)))].mean(axis=1)
        for first in range(0, RESAMPLES, together)
    ]
    return _percentiles(torch.from_numpy(np.concatenate(means)))


def _percentiles(values: Tensor) -> Interval | None:
    """What cuts an equal share off both ends of the values (B,), those that are NaN left out."""
    known = values[~values.isnan()].numpy()
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
