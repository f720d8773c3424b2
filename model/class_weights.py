"""Weights that make rare classes count, from the pixels of the training images: a table of names."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data.segmentation_data import MULTICLASS, SegmentationData, Split

Numbers = npt.NDArray[np.float64]


def class_weights(name: str, data: SegmentationData, split: Split, empty_images: float = 1.0) -> Tensor:
    """The weights of this name, as `weighted_cross_entropy` takes them, float32.

    For "multilabel" (K,): what a class's own pixels weigh against all others. For "multiclass" (K + 1,), the background
    first, with mean 1 over the pixels. A class without any training pixel is taken to have one.

    empty_images: how often pictures without any class are drawn, against the others: so much do their pixels count.
    """
    chosen = list(split.train)
    own = np.maximum(data.statistics.class_pixels[chosen].sum(axis=0), 1).astype(np.float64)  # (K,)
    drawn = np.where(data.statistics.class_pixels[chosen].any(axis=1), 1.0, empty_images)
    counted = data.statistics.valid_pixels[chosen] * drawn  # (N,)
    holding = np.array([counted[held].sum() for held in (data.statistics.class_pixels[chosen] > 0).T], np.float64)
    rule = CLASS_WEIGHTS[name]
    if data.label_mode == MULTICLASS:
        background = max(float(counted.sum() - own.sum()), 1.0)
        pixels = np.array([background, *own])
        weights = rule(pixels, np.array([counted.sum(), *np.maximum(holding, own)], np.float64))
        weights = weights * pixels.sum() / (weights @ pixels)
    else:
        others = np.maximum(counted.sum() - own, 1.0)
        pairs = [
            rule(np.array(pixels), np.array([max(held, pixels[0]), counted.sum()]))
            for pixels, held in zip(zip(own, others, strict=True), holding, strict=True)
        ]
        weights = np.array([weight / against for weight, against in pairs])
    return torch.from_numpy(weights.astype(np.float32))


def _none(pixels: Numbers, _holding: Numbers) -> Numbers:
    return np.ones_like(pixels)


def _square_root(pixels: Numbers, _holding: Numbers) -> Numbers:
    return np.asarray(np.sqrt(pixels.sum() / pixels))


def _inverse(pixels: Numbers, _holding: Numbers) -> Numbers:
    return np.asarray(pixels.sum() / pixels)


def _median_frequency(pixels: Numbers, holding: Numbers) -> Numbers:
    """The median frequency over a class's own (Eigen and Fergus 2015, ICCV, section 6.3.2).

    A class's frequency is its share of the pixels of those images that hold it.
    """
    frequencies = pixels / holding
    return np.asarray(np.median(frequencies) / frequencies)


# Each takes the pixels of every class, and the pixels of all images that hold the class.
CLASS_WEIGHTS: dict[str, Callable[[Numbers, Numbers], Numbers]] = {
    "none": _none,
    "square_root": _square_root,
    "inverse": _inverse,
    "median_frequency": _median_frequency,
}
