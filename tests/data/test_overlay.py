"""Masks drawn over their picture."""

import numpy as np
import pytest

from data.overlay import COLORS, FOUND, INVENTED, MISSED, class_color, draw_comparison, draw_overlay

PICTURE = np.full((2, 3, 3), 100, np.uint8)
NOTHING = np.zeros((2, 2, 3), bool)


def planes_at(*places: tuple[int, int, int]) -> np.ndarray:
    """Two planes of 2 x 3 pixels, set at these (class, row, column)."""
    planes = NOTHING.copy()
    for place in places:
        planes[place] = True
    return planes


def test_classes_have_colours_of_their_own_that_come_again_after_the_last() -> None:
    assert len(set(COLORS)) == len(COLORS)
    assert [class_color(index) for index in range(len(COLORS))] == list(COLORS)
    assert class_color(len(COLORS)) == COLORS[0]


def test_a_picture_without_masks_stays_as_it_is() -> None:
    before = PICTURE.copy()
    assert np.array_equal(draw_overlay(PICTURE, NOTHING), PICTURE)
    assert np.array_equal(PICTURE, before)


@pytest.mark.parametrize("opacity", [0.0, 0.25, 1.0])
def test_each_class_is_tinted_in_its_colour_by_the_opacity(opacity: float) -> None:
    drawn = draw_overlay(PICTURE, planes_at((0, 0, 0), (1, 1, 2)), opacity=opacity)
    for index, place in ((0, (0, 0)), (1, (1, 2))):
        expected = (1 - opacity) * 100 + opacity * np.array(class_color(index))
        assert np.abs(drawn[place] - expected).max() <= 1
        drawn[place] = 100
    assert np.array_equal(drawn, PICTURE)


def test_a_grey_picture_becomes_a_coloured_one() -> None:
    drawn = draw_overlay(PICTURE[..., :1], planes_at((0, 0, 0)), opacity=1.0)
    assert drawn.shape == (2, 3, 3)
    assert drawn.dtype == np.uint8
    assert tuple(drawn[0, 0]) == class_color(0)
    assert (drawn[1] == 100).all()


def test_a_comparison_shows_picture_truth_prediction_and_errors() -> None:
    truth = planes_at((0, 0, 0), (0, 0, 1), (1, 1, 0))
    predicted = planes_at((0, 0, 0), (1, 0, 2), (1, 1, 0))
    for image in (PICTURE, PICTURE[..., :1]):
        picture, of_truth, of_prediction, errors = np.split(draw_comparison(image, truth, predicted), 4, axis=1)
        assert np.array_equal(picture, PICTURE)
        assert np.array_equal(of_truth, draw_overlay(PICTURE, truth))
        assert np.array_equal(of_prediction, draw_overlay(PICTURE, predicted))
        assert tuple(errors[0, 0]) == tuple(errors[1, 0]) == FOUND
        assert tuple(errors[0, 1]) == MISSED
        assert tuple(errors[0, 2]) == INVENTED
        assert (errors[1, 1:] == 100 // 3).all()


def test_where_classes_overlap_the_later_one_shows_most() -> None:
    drawn = draw_overlay(PICTURE, planes_at((0, 0, 0), (1, 0, 0)), opacity=0.9)
    distance = [np.abs(drawn[0, 0].astype(int) - np.array(class_color(index))).sum() for index in (0, 1)]
    assert distance[1] < distance[0]
