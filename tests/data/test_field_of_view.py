"""The field of view of a fundus photograph is found from its pixels alone; other pictures count in full."""

from pathlib import Path

import numpy as np
import pytest

from data.field_of_view import find_field_of_view
from data.pictures import read_color
from data.segmentation_data import UInt8
from data.synthetic import draw_retina

DATASETS = Path(__file__).parents[3] / "shared" / "datasets"


def overlap(found: UInt8, truth: UInt8) -> float:
    """Intersection over union."""
    return float((found & truth).sum() / (found | truth).sum())


def photograph(valid: UInt8, inside: int = 140, border: int = 6, noise: float = 2.0) -> UInt8:
    """A noisy picture (H, W, 3) that is bright where `valid` is 1."""
    light = np.where(valid == 1, inside, border)[..., None] * np.array([1.0, 0.5, 0.3])
    noisy = light + np.random.default_rng(0).normal(0, noise, light.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def disc(height: int, width: int, radius: float, *, cut: float = 1.0) -> UInt8:
    """A disc in the middle, cut off above and below at this share of its radius."""
    y, x = np.mgrid[:height, :width]
    dy, dx = y + 0.5 - height / 2, x + 0.5 - width / 2
    return ((np.hypot(dy, dx) < radius) & (np.abs(dy) < cut * radius)).astype(np.uint8)


@pytest.mark.parametrize("size", [96, 160, 256, 512])
def test_drawn_retinas_are_found_as_they_were_drawn(size: int) -> None:
    for index in range(8):
        retina = draw_retina(seed=(1, index), size=size, red=index % 2 == 0, bright=index % 3 == 0)
        found = find_field_of_view(retina.image)
        assert found.dtype == np.uint8 and set(np.unique(found)) == {0, 1}
        assert overlap(found, retina.valid) > 0.97


@pytest.mark.parametrize("cut", [1.0, 0.85])
@pytest.mark.parametrize(("inside", "border"), [(140, 6), (60, 20), (30, 0), (250, 60)])
def test_discs_of_any_brightness_are_found(inside: int, border: int, cut: float) -> None:
    valid = disc(300, 340, 140, cut=cut)
    assert overlap(find_field_of_view(photograph(valid, inside, border)), valid) > 0.98


def test_text_notch_and_a_dark_spot_change_nothing() -> None:
    valid = disc(400, 400, 170)
    seen = valid.copy()
    seen[10:18, 10:120] = 1  # a line of text in the border
    seen[60:90, 310:330] = 1  # a notch
    seen[200:300, 150:250] = 0  # a bleeding
    assert overlap(find_field_of_view(photograph(seen)), valid) > 0.98


def test_a_disc_that_touches_three_sides_is_found() -> None:
    valid = disc(300, 300, 160)[:, 40:]
    assert overlap(find_field_of_view(photograph(valid)), valid) > 0.98


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((60, 80, 3), np.uint8),
        np.full((60, 80, 3), 200, np.uint8),
        np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8),
        photograph(np.pad(np.ones((100, 160), np.uint8), 20)),  # a bright rectangle before a dark border
        photograph(disc(200, 200, 30)),  # a small bright spot
        photograph(1 - disc(200, 200, 60)),  # dark in the middle
        np.zeros((1, 1, 3), np.uint8),
        np.eye(3, dtype=np.uint8)[:, :, None].repeat(3, axis=2) * 200,
        np.full((2, 500, 3), 90, np.uint8),
        *(np.pad(np.full((1, size, 3), 200, np.uint8), ((0, 0), (size, size), (0, 0))) for size in (200, 333, 5000)),
        np.pad(np.full((333, 1, 3), 200, np.uint8), ((333, 333), (0, 0), (0, 0))),
        np.pad(np.full((2, 300, 3), 200, np.uint8), ((0, 0), (300, 300), (0, 0))),
        np.pad(np.full((3, 300, 3), 200, np.uint8), ((1, 1), (300, 300), (0, 0))),
    ],
)
def test_what_shows_no_disc_before_a_dark_border_counts_in_full(image: UInt8) -> None:
    found = find_field_of_view(image)
    assert found.shape == image.shape[:2] and found.dtype == np.uint8
    assert found.all()


@pytest.mark.skipif(not DATASETS.is_dir(), reason="the real pictures are not in shared/datasets")
@pytest.mark.parametrize(
    ("pattern", "low", "high"),
    [
        # All cameras of one set see through the same hole; STARE's im0044 was enlarged.
        ("stare/stare-images/*", 0.72, 0.80),
        ("chasedb1/*.jpg", 0.685, 0.695),
        ("idrid/A. Segmentation/1. Original Images/*/*.jpg", 0.86, 0.895),
        ("wbc/images/*", 1.0, 1.0),
    ],
)
def test_real_pictures_show_the_share_that_their_camera_sees(pattern: str, low: float, high: float) -> None:
    paths = sorted(DATASETS.glob(pattern))[::3]
    shares = [float(find_field_of_view(read_color(path)).mean()) for path in paths]
    assert len(shares) >= 5 and low <= min(shares) and max(shares) <= high
