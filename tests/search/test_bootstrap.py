"""Intervals over images: as worked out by hand for two of them, and as the theory has it for many."""

import numpy as np
import pytest
import torch

from model.metrics import PixelCounts
from search.bootstrap import bootstrap_dice


def counts_of(*images: list[tuple[int, int, int]]) -> PixelCounts:
    """Counts of images, for each class tp, fp and fn."""
    tp, fp, fn = torch.tensor(images).permute(2, 0, 1)
    return PixelCounts(tp=tp, fp=fp, fn=fn, tn=torch.zeros_like(tp))


def test_of_two_images_it_is_as_worked_out_by_hand() -> None:
    # One is right, the other wrong. A quarter of the resamples holds the first alone (1), a quarter the second (0), and
    # half hold both (by pixels 2 x 90 / (2 x 90 + 10 + 10) = 0.9, by images 0.5).
    found = bootstrap_dice(counts_of([(90, 0, 0)], [(0, 10, 10)]))
    assert (found.mean, found.classes, found.per_image) == ((0, 1), ((0, 1),), (0, 1))
    # As good as sure is the middle: of 100 images like these, Dice by pixels stays near 0.9, by images near 0.5.
    many = bootstrap_dice(counts_of(*[[(90, 0, 0)], [(0, 10, 10)]] * 50))
    assert many.mean is not None and many.per_image is not None
    assert 0.85 < many.mean[0] < 0.9 < many.mean[1] < 0.95
    assert many.per_image == pytest.approx((0.4, 0.6), abs=0.011)  # 0.5 -+ 1.96 x 0.5 / 10, in steps of 0.01


def test_equal_images_leave_no_doubt() -> None:
    found = bootstrap_dice(counts_of(*[[(3, 1, 1), (1, 1, 1)]] * 4))
    assert found.mean == pytest.approx((0.625, 0.625))
    assert found.classes == (pytest.approx((0.75, 0.75)), pytest.approx((0.5, 0.5)))


def test_what_is_neither_there_nor_found_is_left_out() -> None:
    found = bootstrap_dice(counts_of([(1, 0, 0), (0, 0, 0)], [(1, 2, 0), (0, 0, 0)]))
    assert found.classes == (pytest.approx((0.5, 1.0)), None)
    assert found.mean == found.classes[0]
    nothing = bootstrap_dice(counts_of([(0, 0, 0)], [(0, 0, 0)]))
    assert (nothing.mean, nothing.classes, nothing.per_image) == (None, (None,), None)


def test_one_image_has_no_interval() -> None:
    found = bootstrap_dice(counts_of([(1, 1, 1), (2, 0, 0)]))
    assert (found.mean, found.classes, found.per_image) == (None, (None, None), None)


def test_the_same_seed_gives_the_same_intervals() -> None:
    counts = counts_of(*[[(int(tp), 5, 5)] for tp in np.random.default_rng(0).integers(0, 50, 30)])
    assert bootstrap_dice(counts) == bootstrap_dice(counts)
    assert bootstrap_dice(counts) != bootstrap_dice(counts, seed=1)
