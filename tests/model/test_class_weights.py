"""The weights that make rare classes count, against tables worked out by hand."""

from itertools import pairwise
from math import sqrt

import numpy as np
import pytest

from data.segmentation_data import MULTICLASS, MULTILABEL, LabelMode, SegmentationData, Split
from model.class_weights import CLASS_WEIGHTS as RULES
from model.class_weights import class_weights
from model.config import CLASS_WEIGHTS
from tests.toys import data_of

LONG = 1000  # pixels of a picture


def pictures_of(*pixels: list[int], label_mode: LabelMode, counted: int = 100) -> SegmentationData:
    """Pictures of one row; each holds so many pixels of each class, side by side, and `counted` that count."""
    masks = np.zeros((len(pixels), len(pixels[0]), 1, LONG), np.uint8)
    valid = np.zeros((len(pixels), 1, LONG), np.uint8)
    valid[:, 0, :counted] = 1
    for planes, sizes in zip(masks, pixels, strict=True):
        ends = [sum(sizes[: rank + 1]) for rank in range(len(sizes))]
        for plane, size, end in zip(planes, sizes, ends, strict=True):
            plane[0, end - size : end] = 1
        # What does not count is full of everything.
        planes[:, 0, counted:] = 1
    return data_of(np.zeros((len(pixels), 1, LONG, 1), np.uint8), masks, valid, label_mode=label_mode)


@pytest.mark.parametrize(
    ("name", "pixels", "label_mode", "expected"),
    [
        ("none", [[20]], MULTILABEL, [1]),
        ("none", [[20, 0]], MULTILABEL, [1, 1]),
        ("none", [[10, 15]], MULTICLASS, [1, 1, 1]),
        ("inverse", [[20]], MULTILABEL, [4]),  # 80 others for 20 own
        ("square_root", [[20]], MULTILABEL, [2]),
        ("inverse", [[20, 50]], MULTILABEL, [4, 1]),
        ("square_root", [[20, 50]], MULTILABEL, [2, 1]),
        ("inverse", [[0]], MULTILABEL, [99]),  # as if one pixel were there
        ("square_root", [[10, 0]], MULTILABEL, [3, sqrt(99)]),
        ("inverse", [[100]], MULTILABEL, [0.01]),  # as if one pixel were another
        # 1 / share is 4/3, 10, 20/3; each class then weighs 1 in the sum over pixels, 3 in all
        ("inverse", [[10, 15]], MULTICLASS, [4 / 9, 10 / 3, 20 / 9]),
        # 1 / sqrt(share) is 10/8 and 10/6; their mean over pixels 0.64 * 10/8 + 0.36 * 10/6 = 1.4
        ("square_root", [[36]], MULTICLASS, [1.25 / 1.4, 5 / 3 / 1.4]),
        # Two pictures of 100 pixels. The class is in one of them: 20 of its 100; all others are 180 of 200. The median
        # of 0.2 and 0.9 is 0.55, and 0.55 / 0.2 over 0.55 / 0.9 is 4.5.
        ("median_frequency", [[20], [0]], MULTILABEL, [4.5]),
        # In both pictures: 20 + 40 of 200 against 140 of 200.
        ("median_frequency", [[20], [40]], MULTILABEL, [7 / 3]),
        # The first class as above; the second is in both, 30 + 50 of 200 against 120.
        ("median_frequency", [[20, 30], [0, 50]], MULTILABEL, [4.5, 1.5]),
        # A class without a pixel: one of one picture's, that is of 1 pixel, against 199 of 200.
        ("median_frequency", [[0], [0]], MULTILABEL, [0.995]),
        # Background 40 + 60 of 200; the first class 10 of the 100 of its one picture; the second 50 + 40 of 200:
        # frequencies 0.5, 0.1, 0.45 with median 0.45, over which 0.9, 4.5, 1. Over the pixels, 0.9 * 100 + 4.5 * 10 +
        # 1 * 90 = 225 on 200 pixels.
        ("median_frequency", [[10, 50], [0, 40]], MULTICLASS, [0.9 / 1.125, 4.5 / 1.125, 1 / 1.125]),
    ],
)
def test_class_weights_by_hand(
    name: str, pixels: list[list[int]], label_mode: LabelMode, expected: list[float]
) -> None:
    data = pictures_of(*pixels, label_mode=label_mode)
    weights = class_weights(name, data, Split(train=tuple(range(len(pixels))), validation=()))
    assert weights.dtype.is_floating_point
    assert weights.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_table_has_the_names_of_the_config() -> None:
    assert tuple(RULES) == CLASS_WEIGHTS


@pytest.mark.parametrize("label_mode", [MULTILABEL, MULTICLASS])
@pytest.mark.parametrize("name", CLASS_WEIGHTS)
def test_only_training_pictures_have_a_say(name: str, label_mode: LabelMode) -> None:
    few = pictures_of([10, 30], [20, 5], label_mode=label_mode)
    more = pictures_of([10, 30], [20, 5], [70, 1], [0, 99], label_mode=label_mode)
    expected = class_weights(name, few, Split(train=(0, 1), validation=()))
    assert class_weights(name, more, Split(train=(0, 1), validation=(2,), test=(3,))).equal(expected)


@pytest.mark.parametrize("label_mode", [MULTILABEL, MULTICLASS])
@pytest.mark.parametrize("name", [name for name in CLASS_WEIGHTS if name != "none"])
def test_the_rarer_class_weighs_more(name: str, label_mode: LabelMode) -> None:
    data = pictures_of([1, 4, 20], [2, 4, 20], label_mode=label_mode)
    weights = class_weights(name, data, Split(train=(0, 1), validation=()))[-3:].tolist()
    assert all(rarer > commoner for rarer, commoner in pairwise(weights))


@pytest.mark.parametrize("name", CLASS_WEIGHTS)
def test_the_weights_of_exclusive_classes_are_one_on_average(name: str) -> None:
    data = pictures_of([7, 21], [0, 40], label_mode=MULTICLASS)
    weights = class_weights(name, data, Split(train=(0, 1), validation=()))
    pixels = [132, 7, 61]
    assert float(sum(weight * count for weight, count in zip(weights, pixels, strict=True))) == pytest.approx(200)


@pytest.mark.parametrize("name", CLASS_WEIGHTS)
def test_a_class_that_is_absent_gives_no_infinity(name: str) -> None:
    data = pictures_of([0, 30], [0, 70], label_mode=MULTICLASS)
    weights = class_weights(name, data, Split(train=(0, 1), validation=()))
    assert weights.isfinite().all()
    assert (weights > 0).all()


def test_pictures_that_are_drawn_less_often_count_less() -> None:
    data = pictures_of([20], [0], [0], label_mode=MULTILABEL)
    split = Split(train=(0, 1, 2), validation=())
    # 80 others beside the class, and 200 in pictures without it, all of which count, half, or not at all.
    for empty_images, weight in ((1.0, 280 / 20), (0.5, 180 / 20), (0.0, 80 / 20)):
        assert class_weights("inverse", data, split, empty_images).tolist() == pytest.approx([weight])
