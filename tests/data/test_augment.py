"""Changes of pictures: each does what it says and only that, and image and mask move together."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from data import augment
from data.augment import Changes, apply_changes, draw_changes
from data.augmentation import STRONG, Augmentation
from tests.toys import PROPERTY

PIECES = [declared.name for declared in fields(Augmentation)]
MOVING = ["rotation", "shift", "zoom", "shear", "flips", "elastic"]
COLORING = ["brightness", "contrast", "gamma", "color_cast", "noise"]
ALL = Augmentation(**dict.fromkeys(PIECES, 1.0))
ALL_MOVING = Augmentation(**dict.fromkeys(MOVING, 1.0))

strengths = st.builds(Augmentation, **{name: st.sampled_from([0.0, 0.3, 1.0]) for name in PIECES})
sides = st.integers(4, 40)


def only(name: str, strength: float = 1.0) -> Augmentation:
    return Augmentation(**{name: strength})


def changed(
    image: Tensor,
    labels: Tensor,
    augmentation: Augmentation,
    *,
    count: int = 16,
    shape: tuple[int, int] | None = None,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Changes]:
    """Samples from the middle of one picture (C, H, W) with labels (H, W), and what was done to them."""
    shape = shape or (image.shape[1], image.shape[2])
    changes = draw_changes(count, len(image), shape, augmentation, np.random.default_rng(seed))
    images, packed = image.expand(count, -1, -1, -1), labels.expand(count, 1, -1, -1)
    samples, moved = apply_changes(images, packed, changes, [(0.0, 0.0)] * count)
    assert samples.shape == (count, len(image), *shape)
    assert samples.dtype == torch.float32
    assert moved.shape == (count, 1, *shape)
    assert moved.dtype == torch.uint8
    return samples, moved, changes


def crooked_shape(height: int, width: int) -> Tensor:
    """Labels (H, W): bit 0 is a shape without any symmetry, bit 1 is set everywhere."""
    mask = torch.zeros(height, width, dtype=torch.uint8)
    mask[height // 5 : height // 2, width // 8 : width // 2] = 1
    mask[height // 2 : height * 4 // 5, width // 8 : width // 4] = 1
    mask[height * 2 // 3 : height * 3 // 4, width // 2 : width * 7 // 8] = 1
    return mask | 2


def picture_of(labels: Tensor) -> Tensor:
    """A picture (3, H, W) that is white where bit 0 of the labels is set, else black."""
    return ((labels & 1) * 255).expand(3, -1, -1)


def places(height: int, width: int) -> Tensor:
    """A picture (2, H, W) whose pixels say where they are: column and row. Read bilinearly it says so in between."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([columns, rows]).to(torch.uint8)


def read_places(
    augmentation: Augmentation, *, piece: tuple[int, int], shape: tuple[int, int], count: int = 200
) -> tuple[Tensor, Tensor, Changes]:
    """For each pixel of the samples its offset (x, y) from the sample's centre, in pixels, float (h, w, 2), and the
    offset from the piece's centre of where it was read, (B, h, w, 2)."""
    samples, moved, changes = changed(
        places(*piece), torch.full(piece, 2, dtype=torch.uint8), augmentation, count=count, shape=shape
    )
    assert (moved == 2).all(), "a sample reaches beyond its piece"
    there = samples.permute(0, 2, 3, 1) - torch.tensor([piece[1] - 1, piece[0] - 1]) / 2
    here = places(*shape).permute(1, 2, 0) - torch.tensor([shape[1] - 1, shape[0] - 1]) / 2
    return here, there, changes


def fit(here: Tensor, there: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The affine map from here to there of each sample: matrices (B, 2, 2), shifts (B, 2), and what is left over."""
    design = torch.cat([here.reshape(-1, 2), torch.ones(here[..., 0].numel(), 1)], dim=1).double()
    wanted = there.flatten(1, 2).double()  # (B, h w, 2)
    solved = torch.linalg.lstsq(design.expand(len(there), -1, -1), wanted).solution  # (B, 3, 2)
    return solved[:, :2].mT, solved[:, 2], (design @ solved - wanted).reshape(there.shape)


SAMPLES = [((200, 200), (64, 64)), ((161, 220), (41, 64)), ((220, 161), (64, 41))]


@pytest.mark.parametrize("name", [*MOVING, "all"])
@pytest.mark.parametrize(("height", "width"), [(60, 60), (61, 61), (40, 90)])
def test_image_and_mask_move_together(name: str, height: int, width: int) -> None:
    labels = crooked_shape(height, width)
    augmentation = ALL_MOVING if name == "all" else only(name)
    samples, moved, _ = changed(picture_of(labels), labels, augmentation, count=24)
    assert not torch.equal(samples, picture_of(labels).expand_as(samples).float())
    sure = check_together(samples, moved)
    assert sure.float().mean() > 0.6
    assert len({tuple(one.flatten().tolist()) for one in samples}) == (24 if name != "flips" else 4)


def check_together(samples: Tensor, moved: Tensor) -> Tensor:
    """Asserts that a white shape and its mask lie on each other; returns where there is no doubt, (B, 1, h, w).

    The nearest of four pixels has a quarter of the weight at least: above three quarters of white it is white, and
    below a quarter black.
    """
    share = samples.mean(dim=1, keepdim=True) / 255
    mask, counts = moved & 1, moved & 2 > 0
    white, black = counts & (share > 0.76), counts & (share < 0.24)
    assert (mask[white] == 1).all()
    assert (mask[black] == 0).all()
    return white | black


@given(height=sides, width=sides, augmentation=strengths, seed=st.integers(0, 99))
@settings(PROPERTY, max_examples=60)
def test_any_mask_moves_with_the_picture_of_it(height: int, width: int, augmentation: Augmentation, seed: int) -> None:
    labels = torch.from_numpy(np.random.default_rng(seed).integers(2, 4, (height, width), dtype=np.uint8))
    moving = Augmentation(**{name: getattr(augmentation, name) for name in MOVING})
    samples, moved, _ = changed(picture_of(labels), labels, moving, count=5, seed=seed)
    check_together(samples, moved)


@pytest.mark.parametrize(("piece", "shape"), SAMPLES)
def test_rotation_turns_by_up_to_60_degrees_about_the_centre(piece: tuple[int, int], shape: tuple[int, int]) -> None:
    for strength in (1.0, 0.25):
        matrices, shifts, left = fit(*read_places(only("rotation", strength), piece=piece, shape=shape)[:2])
        angles = torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0])
        turned = torch.stack([angles.cos(), -angles.sin(), angles.sin(), angles.cos()], dim=1).reshape(-1, 2, 2)
        torch.testing.assert_close(matrices, turned, atol=1e-4, rtol=0)
        assert_even(angles.rad2deg(), 60 * strength)
        assert shifts.abs().max() < 1e-2
        assert left.abs().max() < 1e-2


@pytest.mark.parametrize(("piece", "shape"), SAMPLES)
def test_a_shift_is_up_to_a_tenth_of_the_side(piece: tuple[int, int], shape: tuple[int, int]) -> None:
    matrices, shifts, left = fit(*read_places(only("shift"), piece=piece, shape=shape)[:2])
    torch.testing.assert_close(matrices, torch.eye(2).double().expand_as(matrices), atol=1e-4, rtol=0)
    assert_even(shifts[:, 0], 0.1 * shape[1])
    assert_even(shifts[:, 1], 0.1 * shape[0])
    assert left.abs().max() < 1e-2


@pytest.mark.parametrize(("piece", "shape"), SAMPLES)
def test_zoom_keeps_the_aspect(piece: tuple[int, int], shape: tuple[int, int]) -> None:
    matrices, shifts, left = fit(*read_places(only("zoom"), piece=piece, shape=shape)[:2])
    scales = matrices[:, 0, 0]
    torch.testing.assert_close(matrices, scales[:, None, None] * torch.eye(2), atol=1e-4, rtol=0)
    assert_even(scales.log(), 0.35)
    assert shifts.abs().max() < 1e-2
    assert left.abs().max() < 1e-2


def test_shear_moves_rows_sideways() -> None:
    matrices, shifts, left = fit(*read_places(only("shear"), piece=(200, 200), shape=(64, 64))[:2])
    assert_even(matrices[:, 0, 1].clone(), 0.15)
    matrices[:, 0, 1] = 0
    torch.testing.assert_close(matrices, torch.eye(2).double().expand_as(matrices), atol=1e-4, rtol=0)
    assert shifts.abs().max() < 1e-2
    assert left.abs().max() < 1e-2


# A sample whose side is odd where its piece's is even lies half a pixel beside the middle.
@pytest.mark.parametrize("shape", [(24, 24), (25, 25), (24, 33)])
@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_flips_mirror_exactly_and_as_often_as_they_should(shape: tuple[int, int], strength: float) -> None:
    here, there, _ = read_places(only("flips", strength), piece=shape, shape=shape)
    signs = torch.sign(there[:, 0, 0] * here[0, 0])
    torch.testing.assert_close(there, signs[:, None, None] * here, atol=1e-3, rtol=0)
    for mirrored in (signs < 0).T.tolist():
        assert sum(mirrored) == pytest.approx(len(mirrored) * 0.5 * strength, abs=25)
    # each way by itself
    assert {(-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0), (1.0, 1.0)} == {(x, y) for x, y in signs.tolist()}


@pytest.mark.parametrize(("piece", "shape"), SAMPLES)
@pytest.mark.parametrize("strength", [1.0, 2.0])
def test_elastic_distortion_is_smooth_bounded_and_never_folds(
    piece: tuple[int, int], shape: tuple[int, int], strength: float
) -> None:
    here, there, changes = read_places(only("elastic", strength), piece=piece, shape=shape)
    moved = there - here
    limit = 0.06 * strength * min(shape)
    assert moved.abs().max() <= limit
    # a few percent of the side, not a tremble
    assert 0.15 * limit < moved.std() < 0.5 * limit
    assert moved.std(dim=(1, 2)).min() > 0.05 * limit
    # neighbours stay neighbours, in their order
    assert (there.diff(dim=2)[..., 0] > 0.05).all()
    assert (there.diff(dim=1)[..., 1] > 0.05).all()
    # a cubic spline bends no more than its knots do, which are four pieces of the side apart
    for axis, side in ((1, shape[0]), (2, shape[1])):
        assert moved.diff(dim=axis).diff(dim=axis).abs().max() < 4 * limit * (4 / side) ** 2 + 1e-3
    assert (changes.matrices == np.eye(2)).all()
    assert not changes.shifts.any()


def test_knots_that_move_alike_move_the_whole_sample() -> None:
    shape = (30, 41)
    still = draw_changes(1, 2, shape, Augmentation(), np.random.default_rng(0))
    together = replace(still, knots=np.broadcast_to(np.array([9.0, -6.0])[:, None, None], still.knots.shape))
    height, width = together.reach
    # centred as a draw would be: the middle of an odd side lies half a pixel behind its whole number
    samples, moved = apply_changes(
        places(height, width)[None], torch.full((1, 1, height, width), 2, dtype=torch.uint8), together, [(0.5, 0.0)]
    )
    assert (moved == 2).all(), "the sample reaches beyond its piece"
    expected = places(*shape) + torch.tensor([(width - 41) / 2 + 0.5 + 9, (height - 30) / 2 - 6])[:, None, None]
    torch.testing.assert_close(samples[0], expected, atol=1e-3, rtol=0)


def assert_even(values: Tensor, limit: float) -> None:
    """The values lie within the limit, either way, and go nearly as far."""
    slack = 1e-3 * limit
    assert -limit - slack <= values.min() < -0.9 * limit
    assert 0.9 * limit < values.max() <= limit + slack
    assert values.mean().abs() < 0.2 * limit


def test_a_disc_stays_round_in_a_picture_that_is_not_square() -> None:
    for height, width in ((30, 90), (90, 30)):
        rows, columns = np.ogrid[:height, :width]
        disc = torch.from_numpy((np.hypot(rows - (height - 1) / 2, columns - (width - 1) / 2) < 9).astype(np.uint8))
        _, moved, _ = changed(picture_of(disc), disc, Augmentation(rotation=1, zoom=1, flips=1), count=32)
        lengths = []
        for mask in moved[:, 0]:
            inside = mask.nonzero().double()
            short, long = torch.linalg.eigvalsh(inside.T.cov()).sqrt().tolist()
            assert long / short < 1.05
            lengths.append(long)
        assert 1.5 < max(lengths) / min(lengths) < 2.2


def ramp(channels: int = 3) -> Tensor:
    """A picture (C, 16, 16) of every grey level."""
    return torch.arange(256, dtype=torch.uint8).reshape(16, 16).expand(channels, -1, -1)


@pytest.mark.parametrize("name", COLORING)
def test_colours_leave_every_pixel_in_its_place(name: str) -> None:
    labels = torch.arange(256, dtype=torch.uint8).reshape(16, 16)
    samples, moved, changes = changed(ramp(), labels, only(name))
    assert torch.equal(moved, labels.expand_as(moved))
    assert not torch.equal(samples, ramp().expand_as(samples).float())
    assert not changes.moves
    assert changes.reach == (16, 16)


def test_brightness_adds_one_number_to_all_channels() -> None:
    added = changed(ramp(), ramp()[0], only("brightness"), count=200)[0] - ramp()
    torch.testing.assert_close(added, added[:, :1, :1, :1].expand_as(added), atol=1e-3, rtol=0)
    assert_even(added[:, 0, 0, 0], 50)


def test_contrast_keeps_mid_grey() -> None:
    samples = changed(ramp(), ramp()[0], only("contrast"), count=200)[0]
    gain = (samples[:, 0, -1, -1] - samples[:, 0, 0, 0]) / 255
    torch.testing.assert_close(samples, 127.5 + gain[:, None, None, None] * (ramp() - 127.5), atol=1e-3, rtol=0)
    assert_even(gain.log(), 0.4)


def test_gamma_keeps_black_and_white() -> None:
    samples = changed(ramp(), ramp()[0], only("gamma"), count=200)[0]
    exponents = (samples[:, 0, 8, 0] / 255).log() / math.log(128 / 255)
    expected = 255 * (ramp() / 255) ** exponents[:, None, None, None]
    torch.testing.assert_close(samples, expected, atol=5e-3, rtol=0)
    assert (samples[:, :, 0, 0] == 0).all()
    assert_even(exponents.log(), 0.4)


def test_a_cast_of_colour_multiplies_each_channel() -> None:
    samples = changed(ramp(), ramp()[0], only("color_cast"), count=200)[0]
    gain = samples[:, :, -1, -1] / 255
    torch.testing.assert_close(samples, gain[:, :, None, None] * ramp(), atol=1e-3, rtol=0)
    for channel in gain.T:
        assert_even(channel.log(), 0.15)
    assert abs(float(gain.T.corrcoef()[0, 1])) < 0.3


# As one piece of the bank, and put together of many.
@pytest.mark.parametrize("piece", [augment.NOISE_PIECE, 1000])
def test_noise_is_normal_and_everywhere_its_own(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(augment, "NOISE_PIECE", piece)
    grey = torch.full((3, 64, 64), 100, dtype=torch.uint8)
    added = changed(grey, grey[0], only("noise"), count=60)[0] - 100
    deviations = added.std(dim=(1, 2, 3))
    assert deviations.max() < 5.25
    assert deviations.max() > 4.25
    assert deviations.min() < 1
    standard = (added / deviations[:, None, None, None]).double()
    assert standard.mean(dim=(1, 2, 3)).abs().max() < 0.05
    # of a normal distribution 68.3 % lie within one deviation and 95.4 % within two
    assert (standard.abs() < 1).double().mean() == pytest.approx(0.683, abs=0.01)
    assert (standard.abs() < 2).double().mean() == pytest.approx(0.954, abs=0.005)
    for one, other in (
        (standard[..., 1:], standard[..., :-1]),
        (standard[..., 1:, :], standard[..., :-1, :]),
        (standard[:, 1:], standard[:, :-1]),
        (standard[1:], standard[:-1]),
    ):
        assert abs(float((one * other).mean())) < 0.02
    assert standard.std(dim=(1, 3)).min() > 0.7, "a row without noise"


@pytest.mark.parametrize("name", PIECES)
def test_strength_0_is_exactly_none_and_leaves_the_others_as_they_were(name: str) -> None:
    every, without = (
        draw_changes(6, 3, (20, 30), augmentation, np.random.default_rng(3))
        for augmentation in (ALL, Augmentation(**{other: float(other != name) for other in PIECES}))
    )
    touched = {
        "rotation": {"matrices"},
        "zoom": {"matrices"},
        "shear": {"matrices"},
        "flips": {"matrices"},
        "shift": {"shifts"},
        "elastic": {"knots"},
        "brightness": {"offset"},
        "contrast": {"gain", "offset"},
        "color_cast": {"gain", "offset"},
        "gamma": {"gamma"},
        "noise": {"noise"},
    }
    differing = {
        part.name
        for part in fields(Changes)
        if not np.array_equal(getattr(every, part.name), getattr(without, part.name))
    }
    assert differing == touched[name]


def test_without_any_change_a_sample_is_its_piece() -> None:
    labels = torch.arange(256, dtype=torch.uint8).reshape(16, 16)
    samples, moved, changes = changed(ramp(), labels, Augmentation())
    assert torch.equal(samples, ramp().expand_as(samples).float())
    assert torch.equal(moved, labels.expand_as(moved))
    assert changes.reach == (16, 16)


@given(augmentation=strengths, height=sides, width=sides, seed=st.integers(0, 99))
@settings(PROPERTY, max_examples=30)
def test_the_same_generator_gives_the_same_batch_and_another_gives_another(
    augmentation: Augmentation, height: int, width: int, seed: int
) -> None:
    labels = crooked_shape(height, width)
    first, again, other = (
        changed(picture_of(labels), labels, augmentation, count=4, seed=one)[:2] for one in (seed, seed, seed + 100)
    )
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    if augmentation != Augmentation(flips=augmentation.flips):
        assert not torch.equal(first[0], other[0])


@given(
    height=sides,
    width=sides,
    smaller=st.tuples(sides, sides),
    centre=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
    augmentation=strengths,
    seed=st.integers(0, 99),
)
@settings(PROPERTY, max_examples=60)
def test_padding_and_what_lies_outside_never_count(
    height: int,
    width: int,
    smaller: tuple[int, int],
    centre: tuple[float, float],
    augmentation: Augmentation,
    seed: int,
) -> None:
    # Bit 0 is set in the padding only and bit 1 in the picture only.
    labels = torch.ones(height, width, dtype=torch.uint8)
    labels[: height // 2, : width // 2] = 2
    image = torch.full((1, height, width), 255, dtype=torch.uint8)
    shape = (min(height, smaller[0]), min(width, smaller[1]))
    changes = draw_changes(5, 1, shape, augmentation, np.random.default_rng(seed))
    if not changes.moves:
        return
    samples, moved = apply_changes(
        image.expand(5, -1, -1, -1), labels.expand(5, 1, -1, -1), changes, [centre, (0.0, 0.0)] * 2 + [centre]
    )
    assert ((moved == 0) | (moved == 1) | (moved == 2)).all()
    assert samples.isfinite().all()


def test_pixels_from_outside_are_mirrored_and_do_not_count() -> None:
    white = torch.full((3, 20, 20), 255, dtype=torch.uint8)
    samples, moved, _ = changed(white, torch.full((20, 20), 3, dtype=torch.uint8), ALL_MOVING)
    assert set(moved.flatten().tolist()) == {0, 3}
    # the picture has no black corners
    torch.testing.assert_close(samples, torch.full_like(samples, 255.0))


def test_a_shifted_picture_goes_on_as_its_mirror_image() -> None:
    height, width = 30, 40
    samples, _, changes = changed(places(height, width), torch.zeros(height, width, dtype=torch.uint8), only("shift"))
    for sample, shift in zip(samples, changes.shifts, strict=True):
        for axis, side in ((0, width), (1, height)):
            wanted = np.arange(side) + shift[axis]
            # the mirrors stand at the edges of the outermost pixels, within which no pixel differs from its middle
            wanted = np.where(wanted < -0.5, -1 - wanted, np.where(wanted > side - 0.5, 2 * side - 1 - wanted, wanted))
            line = sample[0, 0] if axis == 0 else sample[1, :, 0]
            np.testing.assert_allclose(line, wanted.clip(0, side - 1), atol=1e-3)


@given(
    augmentation=strengths,
    height=st.integers(5, 40),
    width=st.integers(5, 40),
    row=st.integers(115, 125),
    column=st.integers(115, 125),
    seed=st.integers(0, 99),
)
@settings(PROPERTY, max_examples=60)
def test_a_piece_as_large_as_the_reach_holds_all_that_its_samples_need(
    augmentation: Augmentation, height: int, width: int, row: int, column: int, seed: int
) -> None:
    side = 240
    moving = Augmentation(**{name: getattr(augmentation, name) for name in MOVING})
    picture, labels = places(side, side), torch.full((1, side, side), 2, dtype=torch.uint8)
    changes = draw_changes(3, 2, (height, width), moving, np.random.default_rng(seed))
    if not changes.moves:
        return
    tall, wide = changes.reach
    centre = np.array([column + width % 2 / 2, row + height % 2 / 2])
    windows, centres = [], []
    for across, down in changes.shifts.round().astype(int).tolist():
        top, left = row + down - tall // 2, column + across - wide // 2
        windows.append((top, left))
        centres.append(tuple(centre - (left + wide / 2, top + tall / 2)))
    pieces = torch.stack([picture[:, top : top + tall, left : left + wide] for top, left in windows])
    samples, moved = apply_changes(pieces, labels[:, :tall, :wide].expand(3, -1, -1, -1), changes, centres)
    assert (moved == 2).all(), "a sample reaches beyond its piece"
    whole, _ = apply_changes(
        picture.expand(3, -1, -1, -1), labels.expand(3, -1, -1, -1), changes, [tuple(centre - side / 2)] * 3
    )
    torch.testing.assert_close(samples, whole, atol=0.01, rtol=0)


def test_samples_do_not_depend_on_how_many_are_changed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = crooked_shape(48, 40)
    few, few_labels, _ = changed(picture_of(labels), labels, ALL, count=11)
    monkeypatch.setattr(augment, "CACHED", 1)
    many, many_labels, _ = changed(picture_of(labels), labels, ALL, count=11)
    torch.testing.assert_close(few, many, atol=0.05, rtol=0)
    assert (few_labels == many_labels).float().mean() > 0.999


def test_samples_lie_in_memory_as_the_network_wants_them() -> None:
    labels = crooked_shape(20, 24)
    for augmentation in (ALL, only("noise")):
        samples, _, _ = changed(picture_of(labels), labels, augmentation)
        assert samples.is_contiguous(memory_format=torch.channels_last)


def test_every_change_has_a_range() -> None:
    assert all(getattr(STRONG, name) > 0 for name in PIECES)
    half = Augmentation(**dict.fromkeys(PIECES, 0.5)).limits
    assert half.rotation == pytest.approx(math.radians(30))
    assert half.flips == 0.25
