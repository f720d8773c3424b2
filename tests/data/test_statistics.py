"""What is counted of a picture, against counts by hand."""

import tracemalloc

import numpy as np
import pytest

from data.sketch import GRID, THUMBNAIL
from data.statistics import join, measure


def test_outlines_are_counted_by_hand() -> None:
    plane = np.array(
        [
            [1, 1, 1, 0, 0, 0],
            [1, 1, 1, 0, 0, 1],
            [1, 1, 1, 0, 0, 0],
            [0, 0, 0, 0, 0, 0],
            [0, 0, 1, 0, 1, 0],
            [0, 0, 0, 1, 0, 0],
        ],
        np.uint8,
    )
    valid = np.ones_like(plane)
    valid[4, 4] = 0
    counted = measure(np.zeros((6, 6, 1), np.uint8), np.stack([plane, 0 * plane]), valid)
    assert counted.class_pixels.tolist() == [[12, 0]] and counted.outside_pixels.tolist() == [[1, 0]]
    # The square's lower and right sides are its edge: where it leaves the picture, it goes on.
    assert counted.edge_pixels.tolist() == [[5 + 1 + 2, 0]]
    # The dot on the right stands alone; the two at the bottom touch at their corners.
    assert counted.lone_pixels.tolist() == [[1, 0]]
    assert counted.frame_shares[0] == pytest.approx([(3 + 2 + 1 + 1) / 20, 0])
    assert counted.kept.tolist() == [[1, 1]] and counted.held.tolist() == [[True, False]]


def test_equal_pictures_and_planes_have_equal_digests() -> None:
    draw = np.random.default_rng(0)
    image, planes = draw.integers(0, 256, (4, 6, 3), dtype=np.uint8), draw.integers(0, 2, (2, 4, 6), dtype=np.uint8)
    valid = np.ones((4, 6), np.uint8)
    one = measure(image, planes, valid).digests
    np.testing.assert_array_equal(one, measure(image.copy(), planes.copy(), 0 * valid).digests)
    np.testing.assert_array_equal(one[:, [0, 2, 1]], measure(image, planes[::-1], valid).digests)
    assert measure(image.reshape(6, 4, 3), planes.reshape(2, 6, 4), valid.reshape(6, 4)).digests[0, 0] != one[0, 0]


def test_a_sketch_says_where_masks_would_fit() -> None:
    image = np.full((80, 120, 3), 40, np.uint8)
    image[20:50, 30:80] = 200
    plane = np.zeros((1, 80, 120), np.uint8)
    plane[0, 23:53, 26:76] = 1
    counted = measure(image, plane, np.ones((80, 120), np.uint8))
    assert counted.shifts.tolist() == [[-3, 4]]
    unmoved, moved = counted.agreements[0]
    assert unmoved < 0.3 and moved > 0.9
    assert counted.thumbnails.shape == (1, THUMBNAIL, THUMBNAIL)
    assert counted.edges.shape == counted.borders.shape == (1, GRID, GRID)
    assert counted.thumbnails[0, THUMBNAIL // 2, THUMBNAIL // 2] > 150 > 60 > counted.thumbnails[0, 0, 0]


def test_large_pictures_are_moved_in_their_own_pixels() -> None:
    image = np.full((600, 800, 1), 40, np.uint8)
    image[200:400, 300:600] = 200
    plane = np.zeros((1, 600, 800), np.uint8)
    plane[0, 230:430, 260:560] = 1
    rows, columns = measure(image, plane, np.ones((600, 800), np.uint8)).shifts[0]
    assert abs(rows + 30) <= 2 and abs(columns - 40) <= 2


@pytest.mark.parametrize("shape", [(700, 500), (5, 70000), (70000, 5)])
def test_what_is_counted_in_bands_is_counted_in_all(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (*shape, 3), dtype=np.uint8)
    planes, valid = draw.integers(0, 2, (3, *shape), dtype=np.uint8), draw.integers(0, 2, shape, dtype=np.uint8)
    planes[0] &= draw.integers(0, 8, shape, dtype=np.uint8) == 0
    counted, inside = measure(image, planes, valid), planes & valid
    assert counted.overlap_pixels.tolist() == [(inside.sum(axis=0) > 1).sum()]
    for channel in range(3):
        expected = np.bincount(image[..., channel][valid == 1], minlength=256)
        np.testing.assert_array_equal(counted.histograms[0, channel], expected)
    around = np.pad(inside[0], 1)
    neighbours = sum(np.roll(around, (down, across), (0, 1)) for down in (-1, 0, 1) for across in (-1, 0, 1)) - around
    assert counted.lone_pixels[0, 0] == ((neighbours[1:-1, 1:-1] == 0) & (inside[0] == 1)).sum()
    around = np.pad(inside[0], 1, mode="edge")
    beside = [np.roll(around, *way)[1:-1, 1:-1] for way in ((1, 0), (-1, 0), (1, 1), (-1, 1))]
    assert counted.edge_pixels[0, 0] == ((np.min(beside, axis=0) == 0) & (inside[0] == 1)).sum()


def test_places_beyond_16_bits_are_right() -> None:
    plane = np.zeros((1, 2, 40000), np.uint8)
    plane[0, 1, 39990] = 1
    assert measure(np.zeros((2, 40000, 3), np.uint8), plane, np.ones((2, 40000), np.uint8)).places[
        0, 0, 0
    ].tolist() == [
        1,
        39990,
    ]


def test_a_large_picture_is_measured_in_little_memory() -> None:
    side = 1500
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    planes, valid = np.zeros((4, side, side), np.uint8), np.ones((side, side), np.uint8)
    planes[:, 100:900, 200:1100] = 1
    tracemalloc.start()
    try:
        measure(image, planes, valid)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * side * side


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2)])
def test_tiny_pictures_are_counted_too(shape: tuple[int, int]) -> None:
    image, ones = np.zeros((*shape, 1), np.uint8), np.ones(shape, np.uint8)
    counted = measure(image, ones[None], ones)
    both = join([counted, measure(image, 0 * ones[None], 0 * ones)])
    assert both.agreements.tolist() == [[0, 0], [0, 0]] and both.valid_pixels.tolist() == [ones.size, 0]
