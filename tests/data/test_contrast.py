"""Local contrast is raised where it is faint, in lightness alone."""

import numpy as np
import pytest

from data.contrast import raise_local_contrast
from data.segmentation_data import UInt8
from data.synthetic import draw_retina


def faint_texture(low: int) -> UInt8:
    """A texture (64, 64) of sixteen greys that lie side by side."""
    return np.random.default_rng(0).integers(low, low + 16, (64, 64), dtype=np.uint8)


@pytest.mark.parametrize("low", [20, 120, 230])
def test_a_faint_texture_stands_out_at_any_brightness(low: int) -> None:
    faint = faint_texture(low)
    grey = raise_local_contrast(faint)
    assert grey.shape == (64, 64) and grey.dtype == np.uint8
    assert grey.std() > 1.5 * faint.std()
    color = raise_local_contrast(np.repeat(faint[..., None], 3, axis=2))
    assert color.shape == (64, 64, 3) and color[..., 1].std() > 1.5 * faint.std()
    assert (np.ptp(color.astype(int), axis=2) <= 2).all()  # grey stays grey


def test_vessels_of_a_retina_stand_out_and_its_colours_stay() -> None:
    retina = draw_retina(seed=2, size=160, red=False, bright=False)
    raised = raise_local_contrast(retina.image)
    # Of the rows' own brightness, so that uneven light does not count as contrast.
    before, after = (picture[..., 1][retina.valid == 1].std() for picture in (retina.image, raised))
    assert after > 1.2 * before
    hue = [picture[retina.valid == 1].astype(float) for picture in (retina.image, raised)]
    shares = [pixels.sum(axis=0) / pixels.sum() for pixels in hue]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.06)


def test_the_picture_given_is_left_as_it_is() -> None:
    picture = draw_retina(seed=2, size=32, red=False, bright=False).image
    before = picture.copy()
    raise_local_contrast(picture)
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 8), (37, 91), (5, 5, 3), (1, 40, 3)])
def test_any_size_will_do(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    assert raise_local_contrast(picture).shape == shape
