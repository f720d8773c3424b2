"""Masks that lie beside what was found, or belong to another image, are told from masks in their place."""

import pytest
import torch
from torch import Tensor

from model.alignment import MATCHED_IMAGES, best_move, fits, patterns_of


def spots(count: int = 4, classes: int = 1, side: int = 32) -> Tensor:
    """Some rectangles in the middle half of each plane, float (N, K, h, w), 0 or 1."""
    draw = torch.Generator().manual_seed(0)
    planes = torch.zeros(count, classes, side, side)
    for plane in planes.flatten(0, 1):
        for top, left, height, width in torch.randint(0, side // 4, (3, 4), generator=draw).tolist():
            plane[side // 4 + top :, side // 4 + left :][: height + 2, : width + 2] = 1
    return planes


def test_what_lies_in_its_place_is_not_moved() -> None:
    truth = spots(classes=2)
    move = best_move(patterns_of(truth * 0.7 + 0.1, truth))
    assert (move.down, move.right) == (0, 0)
    assert move.fit == move.fit_in_place == pytest.approx(1)
    assert move.agreeing == 0


@pytest.mark.parametrize(("down", "right"), [(4, 0), (0, -6), (-3, 5), (8, 8), (-8, -8)])
def test_the_move_is_where_the_masks_lie_seen_from_what_was_found(down: int, right: int) -> None:
    found = spots(classes=2)
    truth = found.roll((down, right), dims=(2, 3))
    move = best_move(patterns_of(found, truth))
    assert (move.down, move.right) == (down / 32, right / 32)
    assert move.fit == pytest.approx(1, abs=0.05)
    assert move.fit_in_place < 0.6
    assert move.agreeing == 1


def test_a_move_further_than_a_quarter_is_not_tried() -> None:
    found = spots(count=1)
    move = best_move(patterns_of(found, found.roll(9, dims=3)))
    assert max(abs(move.down), abs(move.right)) <= 0.25
    assert move.fit < 0.95


def test_only_images_that_the_move_helps_agree() -> None:
    found = spots(count=4)
    truth = found.clone()
    truth[:3] = truth[:3].roll(5, dims=2)
    move = best_move(patterns_of(found, truth))
    assert move.down == 5 / 32
    assert move.agreeing == 0.75


def test_pictures_may_be_wider_than_high() -> None:
    found = spots(side=32)[:, :, 8:24]
    move = best_move(patterns_of(found, found.roll(-4, dims=3)))
    assert (move.down, move.right) == (0, -4 / 32)


def test_fits_by_hand() -> None:
    found = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]], [[[0.0, 0.0], [0.0, 1.0]]]])  # (2, 1, 2, 2)
    # of mean 0: (3, -1, -1, -1) / 4 and the like; of length 1: over sqrt(12); (3 + 3 - 1 - 1 ...) as they overlap
    expected = torch.tensor([[1.0, -1 / 3], [-1 / 3, 1.0]])
    torch.testing.assert_close(fits(patterns_of(found, found)), expected)
    swapped = fits(patterns_of(found, found.flip(0) * 5 + 1))
    torch.testing.assert_close(swapped, expected.flip(0))


def test_flat_images_are_left_out_and_the_others_keep_their_places() -> None:
    truth = spots(count=5)
    found = truth.clone()
    truth[1] = 0
    found[3] = 0.123
    patterns = patterns_of(found, truth)
    assert patterns.places == (0, 2, 4)
    assert patterns.found.shape == (3, 32 * 32)
    assert patterns_of(found[3:4], truth[3:4]).places == ()


def test_no_more_images_are_compared_than_say_something() -> None:
    many = spots(count=1, side=8).expand(MATCHED_IMAGES + 5, 1, 8, 8)
    assert len(patterns_of(many, many).places) == MATCHED_IMAGES


def test_moves_are_told_apart_by_their_place() -> None:
    found = spots()
    places = {best_move(patterns_of(found, found.roll(move, dims=(2, 3)))).place for move in [(0, 0), (3, 0), (0, 3)]}
    assert len(places) == 3
