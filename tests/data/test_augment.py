"""The batches of a training: image and mask move together, and only pixels of the picture count."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from data.augment import Batch, ResidentPictures, crop_shape, draw_batch, put_on_device, samples_per_epoch
from data.segmentation_data import SegmentationData
from tests.toys import PROPERTY, data_of

CPU = torch.device("cpu")
EVERY_FLIP: list[tuple[int, ...]] = [(), (2,), (3,), (2, 3)]


def resident(data: SegmentationData) -> ResidentPictures:
    return put_on_device(data, tuple(range(len(data.names))), CPU)


def placed_pixels(height: int, width: int, extents: list[tuple[int, int]]) -> ResidentPictures:
    """Pictures whose pixels hold their number, row and column, and whose masks are set beyond the extents only."""
    images = np.zeros((len(extents), height, width, 3), np.uint8)
    beyond = np.ones((len(extents), 1, height, width), np.uint8)
    for index, (rows, columns) in enumerate(extents):
        images[index] = np.stack(np.broadcast_arrays(index, *np.ogrid[:height, :width]), axis=2)
        beyond[index, :, :rows, :columns] = 0
    return resident(data_of(images, beyond, 1 - beyond[:, 0]))


def batch_of(
    pictures: ResidentPictures, indices: list[int], *, crop_size: int = 0, strength: float = 1.0, seed: int = 0
) -> Batch:
    return draw_batch(pictures, indices, crop_size=crop_size, strength=strength, generator=np.random.default_rng(seed))


def crooked_shape(side: int) -> ResidentPictures:
    """One picture, black but for a white shape without any symmetry, and its mask."""
    mask = np.zeros((side, side), np.uint8)
    mask[side // 5 : side // 2, side // 8 : side // 2] = 1
    mask[side // 2 : side * 4 // 5, side // 8 : side // 4] = 1
    mask[side * 2 // 3 : side * 3 // 4, side // 2 : side * 7 // 8] = 1
    return resident(data_of(mask[None, ..., None] * np.uint8(255), mask[None, None]))


def extremes(planes: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest value among each pixel and its eight neighbours, (N, 1, H, W)."""
    return -F.max_pool2d(-planes, 3, stride=1, padding=1), F.max_pool2d(planes, 3, stride=1, padding=1)


def test_pictures_lie_on_the_device_channels_first_and_in_the_order_asked_for() -> None:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    masks, valid = (draw.integers(0, 2, shape, dtype=np.uint8) for shape in ((3, 2, 4, 5), (3, 4, 5)))
    valid[2] = 0
    valid[2, :2, :3] = 1
    valid[0] = 0
    pictures = put_on_device(data_of(images, masks, valid), (2, 0), CPU)
    assert len(pictures) == 2
    assert torch.equal(pictures.images, torch.from_numpy(images[[2, 0]]).permute(0, 3, 1, 2))
    assert torch.equal(pictures.labels[:, :2], torch.from_numpy(masks[[2, 0]]))
    assert torch.equal(pictures.labels[:, 2], torch.from_numpy(valid[[2, 0]]))
    # a picture of which nothing counts is taken as it is
    assert pictures.extents == ((2, 3), (4, 5))


def test_pictures_that_must_not_be_written_to_are_copied() -> None:
    images, masks = np.zeros((2, 4, 4, 1), np.uint8), np.zeros((2, 1, 4, 4), np.uint8)
    for array in (images, masks):
        array.flags.writeable = False
    pictures = resident(data_of(images, masks))
    pictures.images.fill_(7)
    assert not images.any()


@pytest.mark.parametrize(
    ("crop_size", "shape"), [(0, (20, 30)), (16, (16, 16)), (25, (20, 25)), (30, (20, 30)), (999, (20, 30))]
)
def test_a_sample_is_no_larger_than_a_picture(crop_size: int, shape: tuple[int, int]) -> None:
    pictures = placed_pixels(20, 30, [(20, 30)])
    assert crop_shape(pictures, crop_size) == shape
    for strength in (0.0, 1.0):
        batch = batch_of(pictures, [0, 0], crop_size=crop_size, strength=strength)
        assert batch.images.shape == (2, 3, *shape)
        assert batch.masks.shape == batch.valid.shape == (2, 1, *shape)


@pytest.mark.parametrize(
    ("extents", "crop_size", "least_pixels", "samples"),
    [
        ([(64, 64)], 0, 0, 1),
        ([(64, 64)] * 3, 0, 0, 3),
        ([(64, 64)], 32, 0, 4),
        ([(64, 64), (32, 64), (16, 16)], 32, 0, 4 + 2 + 1),
        ([(64, 40)], 32, 0, 2),  # 2.5, rounded to the even neighbour
        ([(64, 64)], 999, 0, 1),
        # 4 samples of 1,024 pixels show 4,096: another pass as soon as that is too little
        ([(64, 64)], 32, 4096, 4),
        ([(64, 64)], 32, 4097, 8),
        ([(64, 64)] * 2, 0, 40_000, 2 * 5),
    ],
)
def test_an_epoch_covers_all_pixels_and_every_picture(
    extents: list[tuple[int, int]], crop_size: int, least_pixels: int, samples: int
) -> None:
    assert samples_per_epoch(placed_pixels(64, 64, extents), crop_size, least_pixels) == samples


@given(st.data())
@settings(PROPERTY, max_examples=50)
def test_without_augmentation_a_sample_is_a_piece_of_its_picture_inside_its_extent(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    extents = [(data.draw(st.integers(1, height)), data.draw(st.integers(1, width))) for _ in range(2)]
    pictures = placed_pixels(height, width, extents)
    crop_size = data.draw(st.integers(0, 45))
    batch = batch_of(pictures, [1, 0, 1], crop_size=crop_size, strength=0, seed=data.draw(st.integers(0, 99)))
    rows_wanted, columns_wanted = crop_shape(pictures, crop_size)
    for place, index in enumerate([1, 0, 1]):
        numbers, rows, columns = batch.images[place].int()
        top, left = int(rows[0, 0]), int(columns[0, 0])
        assert (numbers == index).all()
        assert torch.equal(rows, (top + torch.arange(rows_wanted, dtype=torch.int32))[:, None].expand_as(rows))
        assert torch.equal(columns, (left + torch.arange(columns_wanted, dtype=torch.int32)).expand_as(columns))
        # Inside the extent where the crop fits, else from its upper left corner.
        assert top + rows_wanted <= extents[index][0] if rows_wanted <= extents[index][0] else top == 0
        assert left + columns_wanted <= extents[index][1] if columns_wanted <= extents[index][1] else left == 0
        inside = (rows < extents[index][0]) & (columns < extents[index][1])
        assert torch.equal(batch.valid[place, 0].bool(), inside)
        assert torch.equal(batch.masks[place, 0].bool(), ~inside)


def test_crops_reach_every_corner() -> None:
    batch = batch_of(placed_pixels(12, 11, [(10, 9)]), [0] * 300, crop_size=6, strength=0)
    assert set(batch.images[:, 1, 0, 0].int().tolist()) == set(range(10 - 6 + 1))
    assert set(batch.images[:, 2, 0, 0].int().tolist()) == set(range(9 - 6 + 1))


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_the_same_generator_gives_the_same_batch(strength: float) -> None:
    pictures = placed_pixels(24, 24, [(24, 24)] * 3)
    first, again, other = (batch_of(pictures, [2, 0, 1], crop_size=9, strength=strength, seed=s) for s in (4, 4, 5))
    for name in ("images", "masks", "valid"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.images, other.images)


def test_each_sample_of_a_batch_is_augmented_in_its_own_way() -> None:
    batch = batch_of(crooked_shape(32), [0] * 8)
    assert len({tuple(mask.flatten().tolist()) for mask in batch.masks}) == 8


@pytest.mark.parametrize("crop_size", [0, 30, 31, 50])
@pytest.mark.parametrize("side", [60, 61])
def test_image_and_mask_move_together(side: int, crop_size: int) -> None:
    batch = batch_of(crooked_shape(side), [0] * 24, crop_size=crop_size, seed=side + crop_size)
    # Colours change by one gain and one offset for each sample, so the brighter half of its range is the shape.
    low, high = batch.images.amin(dim=(2, 3), keepdim=True), batch.images.amax(dim=(2, 3), keepdim=True)
    both = (high - low).flatten() > 60
    assert both.sum() > 12
    shown = (batch.images > (low + high) / 2).float()
    counts = batch.valid.bool() & both[:, None, None, None]
    # Away from the edge of the shape there is no doubt; on it, bilinear and nearest differ by a pixel at most.
    least, most = extremes(batch.masks)
    sure = (least == most) & counts
    assert torch.equal(shown[sure], batch.masks[sure])
    assert (shown == batch.masks)[counts].float().mean() > 0.97


@pytest.mark.parametrize(("height", "width"), [(30, 90), (90, 30)])
def test_a_disc_stays_round_in_a_picture_that_is_not_square(height: int, width: int) -> None:
    rows, columns = np.ogrid[:height, :width]
    disc = (np.hypot(rows - (height - 1) / 2, columns - (width - 1) / 2) < 9).astype(np.uint8)
    batch = batch_of(resident(data_of(disc[None, ..., None], disc[None, None])), [0] * 32)
    lengths = []
    for mask in batch.masks[:, 0]:
        places = mask.nonzero().double()
        short, long = torch.linalg.eigvalsh(places.T.cov()).sqrt().tolist()
        # Shear alone makes it an ellipse, by less than a fifth.
        assert long / short < 1.2
        lengths.append(long)
    # The zoom is up to e^0.35 either way.
    assert 1.5 < max(lengths) / min(lengths) < 2.2


@pytest.mark.parametrize("side", [24, 25])
@pytest.mark.parametrize("crop_size", [0, 10, 11])
def test_the_faintest_augmentation_is_a_flip_of_the_plain_crop(side: int, crop_size: int) -> None:
    pictures = placed_pixels(side, side, [(side, side)])
    flips_seen = set()
    for seed in range(12):
        plain, faint = (
            batch_of(pictures, [0], crop_size=crop_size, strength=strength, seed=seed) for strength in (0.0, 1e-6)
        )
        flips = [flip for flip in EVERY_FLIP if torch.allclose(plain.images, faint.images.flip(flip), atol=0.01)]
        assert len(flips) == 1, f"seed {seed}: the crop was moved"
        flips_seen.update(flips)
        assert faint.valid.all()
    assert flips_seen == set(EVERY_FLIP)


@given(
    height=st.integers(4, 40),
    width=st.integers(4, 40),
    crop_size=st.integers(0, 45),
    strength=st.floats(0, 1),
    seed=st.integers(0, 99),
)
@settings(PROPERTY, max_examples=50)
def test_padding_and_what_lies_outside_never_count(
    height: int, width: int, crop_size: int, strength: float, seed: int
) -> None:
    pictures = placed_pixels(height, width, [(height, width), (height // 2, width // 2)])
    batch = batch_of(pictures, [0, 1, 0, 1], crop_size=crop_size, strength=strength, seed=seed)
    for planes in (batch.masks, batch.valid):
        assert ((planes == 0) | (planes == 1)).all()
    # The masks are set in the padding only, so no pixel of them may count.
    assert not (batch.masks * batch.valid).any()
    assert batch.valid.sum() > 0
    assert batch.images.isfinite().all()


def test_pixels_from_outside_are_mirrored_and_do_not_count() -> None:
    white = data_of(np.full((1, 20, 20, 3), 255, np.uint8), np.ones((1, 1, 20, 20), np.uint8))
    batch = batch_of(resident(white), [0] * 16)
    # the mask holds no pixel from outside, and neither does what counts
    assert torch.equal(batch.masks, batch.valid)
    assert not batch.valid.all()
    # the picture has no black corners: each channel is of one value
    assert ((batch.images.amax(dim=(2, 3)) - batch.images.amin(dim=(2, 3))) < 0.01).all()


def test_colours_change_within_their_strength() -> None:
    grey = data_of(np.full((1, 8, 8, 3), 127, np.uint8), np.zeros((1, 1, 8, 8), np.uint8))
    changes = [
        (batch_of(resident(grey), [0] * 64, strength=strength).images[:, :, 4, 4] - 127).abs().max()
        for strength in (0.0, 0.25, 1.0)
    ]
    assert changes[0] == 0
    assert 5 < changes[1] < 25
    assert 25 < changes[2] < 100
