"""Which samples a training sees: which pictures, how often, and which piece of each."""

import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.augmentation import Augmentation
from data.sampling import Batch, Sampling, crop_shape, draw_batch, draw_batches, draw_order, samples_per_epoch
from data.windows import HostPictures, Pictures, place
from tests.toys import PROPERTY, colored_squares, data_of, put_into_files

CPU = torch.device("cpu")
TURNED = Augmentation(rotation=1.0, shift=0.5, zoom=0.5, shear=1.0, flips=1.0)
ALL = replace(TURNED, elastic=0.5, brightness=0.5, contrast=0.5, gamma=0.5, color_cast=0.5, noise=0.5)


def placed_pixels(height: int, width: int, extents: list[tuple[int, int]]) -> Pictures:
    """Pictures whose pixels hold their number, row and column, and whose masks are set beyond the extents only."""
    images = np.zeros((len(extents), height, width, 3), np.uint8)
    beyond = np.ones((len(extents), 1, height, width), np.uint8)
    for index, (rows, columns) in enumerate(extents):
        images[index] = np.stack(np.broadcast_arrays(index, *np.ogrid[:height, :width]), axis=2)
        beyond[index, :, :rows, :columns] = 0
    data = data_of(images, beyond, 1 - beyond[:, 0])
    return place(data, tuple(range(len(extents))), CPU)


@pytest.mark.parametrize("skip", [0, 1, 3, 4])
def test_batches_that_are_skipped_leave_the_others_as_they_are(skip: int) -> None:
    data = colored_squares("multilabel", count=4)
    pictures = place(data, (0, 1, 2, 3), CPU)
    order = [[0, 1], [2, 3], [1, 0], [3, 2]]
    sampling = Sampling(crop_size=16, augmentation=ALL, rare_crops=0.5)
    whole = list(draw_batches(pictures, order, sampling, np.random.default_rng(1)))
    rest = list(draw_batches(pictures, order, sampling, np.random.default_rng(1), skip=skip))
    assert len(rest) == 4 - skip
    for first, second in zip(whole[skip:], rest, strict=True):
        assert_same(first, second)


def pictures_that_hold(*classes: set[int], side: int = 32, of: int = 3) -> Pictures:
    """Pictures of nothing but a speck of each class that they hold: 2 x 2 pixels, anywhere."""
    draw = np.random.default_rng(len(classes))
    masks = np.zeros((len(classes), of, side, side), np.uint8)
    for planes, held in zip(masks, classes, strict=True):
        for index in held:
            row, column = draw.integers(0, side - 1, 2)
            planes[index, row : row + 2, column : column + 2] = 1
    data = data_of(np.zeros((len(classes), side, side, 1), np.uint8), masks)
    return place(data, tuple(range(len(classes))), CPU)


def batch_of(pictures: Pictures, indices: list[int], *, seed: int = 0, **sampling: Any) -> Batch:
    return draw_batch(pictures, indices, Sampling(**sampling), np.random.default_rng(seed))


def assert_same(first: Batch, second: Batch) -> None:
    for name in ("images", "masks", "valid"):
        assert torch.equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize(
    ("crop_size", "shape"), [(0, (20, 30)), (16, (16, 16)), (25, (20, 25)), (30, (20, 30)), (999, (20, 30))]
)
def test_a_sample_is_no_larger_than_a_picture(crop_size: int, shape: tuple[int, int]) -> None:
    pictures = placed_pixels(20, 30, [(20, 30)])
    assert crop_shape(pictures, crop_size) == shape
    for augmentation in (Augmentation(), ALL):
        batch = batch_of(pictures, [0, 0], crop_size=crop_size, augmentation=augmentation)
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
    batch = batch_of(pictures, [1, 0, 1], crop_size=crop_size, seed=data.draw(st.integers(0, 99)))
    rows_wanted, columns_wanted = crop_shape(pictures, crop_size)
    for slot, index in enumerate([1, 0, 1]):
        numbers, rows, columns = batch.images[slot].int()
        top, left = int(rows[0, 0]), int(columns[0, 0])
        assert (numbers == index).all()
        assert torch.equal(rows, (top + torch.arange(rows_wanted, dtype=torch.int32))[:, None].expand_as(rows))
        assert torch.equal(columns, (left + torch.arange(columns_wanted, dtype=torch.int32)).expand_as(columns))
        # Inside the extent where the crop fits, else from its upper left corner.
        assert top + rows_wanted <= extents[index][0] if rows_wanted <= extents[index][0] else top == 0
        assert left + columns_wanted <= extents[index][1] if columns_wanted <= extents[index][1] else left == 0
        inside = (rows < extents[index][0]) & (columns < extents[index][1])
        assert torch.equal(batch.valid[slot, 0].bool(), inside)
        assert torch.equal(batch.masks[slot, 0].bool(), ~inside)


def test_crops_reach_every_corner() -> None:
    batch = batch_of(placed_pixels(12, 11, [(10, 9)]), [0] * 300, crop_size=6)
    assert set(batch.images[:, 1, 0, 0].int().tolist()) == set(range(10 - 6 + 1))
    assert set(batch.images[:, 2, 0, 0].int().tolist()) == set(range(9 - 6 + 1))


@pytest.mark.parametrize("augmentation", [Augmentation(), ALL], ids=["plain", "changed"])
@pytest.mark.parametrize("rare_crops", [0.0, 0.5])
def test_the_same_generator_gives_the_same_batch(augmentation: Augmentation, rare_crops: float) -> None:
    pictures = placed_pixels(24, 24, [(24, 24)] * 3)
    asked: dict[str, Any] = {"crop_size": 9, "augmentation": augmentation, "rare_crops": rare_crops}
    first, again, other = (batch_of(pictures, [2, 0, 1], seed=seed, **asked) for seed in (4, 4, 5))
    assert_same(first, again)
    assert not torch.equal(first.images, other.images)


@given(
    pictures=st.integers(1, 30),
    samples=st.integers(1, 100),
    batch_size=st.integers(1, 40),
    seed=st.integers(0, 99),
    empty=st.integers(0, 12),
)
@PROPERTY
def test_every_picture_is_drawn_as_often_as_any_other(
    pictures: int, samples: int, batch_size: int, seed: int, empty: int
) -> None:
    held: list[set[int]] = [{0}] * pictures + [set()] * empty
    placed = pictures_that_hold(*held, side=2, of=1)
    batches = draw_order(placed, samples, batch_size, 1.0, np.random.default_rng(seed))
    assert all(len(batch) == batch_size for batch in batches)
    assert samples <= len(batches) * batch_size < samples + batch_size
    order = [index for batch in batches for index in batch]
    drawn = Counter(dict.fromkeys(range(pictures + empty), 0))
    drawn.update(order)
    assert len(drawn) == pictures + empty
    assert max(drawn.values()) - min(drawn.values()) <= 1
    # None comes again before all others came.
    for start in range(0, len(order), pictures + empty):
        round_of_all = order[start : start + pictures + empty]
        assert len(set(round_of_all)) == len(round_of_all)


def test_the_order_differs_from_epoch_to_epoch() -> None:
    pictures = pictures_that_hold(*[{0}] * 20)
    generator = np.random.default_rng(0)
    assert draw_order(pictures, 20, 4, 1.0, generator) != draw_order(pictures, 20, 4, 1.0, generator)


@pytest.mark.parametrize("empty_images", [0.0, 0.1, 0.25, 0.7])
@pytest.mark.parametrize("empty", [1, 3, 10])
def test_pictures_without_any_class_are_drawn_as_often_as_asked(empty_images: float, empty: int) -> None:
    held: list[set[int]] = [{0}, {1, 2}, {2}, *[set()] * empty]
    pictures = pictures_that_hold(*held)
    generator = np.random.default_rng(0)
    # Many short epochs: what is due to the rare ones is not lost at the end of each.
    epochs = [draw_order(pictures, 15, 5, empty_images, generator) for _ in range(400)]
    drawn = Counter(index for epoch in epochs for batch in epoch for index in batch)
    expected = 400 * 15 / (3 + empty_images * empty)
    for index in range(3):
        assert drawn[index] == pytest.approx(expected, rel=0.1)
    for index in range(3, 3 + empty):
        assert drawn[index] == pytest.approx(expected * empty_images, rel=0.3)
    assert empty_images > 0 or max(drawn) == 2


def test_an_epoch_is_as_long_whether_or_not_pictures_without_any_class_are_drawn() -> None:
    pictures = pictures_that_hold({0}, set(), set(), set())
    samples = samples_per_epoch(pictures, 16)
    assert samples == 4 * 4
    for empty_images in (0.0, 1.0):
        assert len(draw_order(pictures, samples, 4, empty_images, np.random.default_rng(0))) == 4


def share_that_shows(batch: Batch, plane: int) -> float:
    return float(batch.masks[:, plane].amax(dim=(1, 2)).mean())


@pytest.mark.parametrize("augmentation", [Augmentation(), TURNED, ALL], ids=["plain", "turned", "all"])
@pytest.mark.parametrize("crop_size", [8, 9, 20, 0])
def test_every_rare_crop_shows_a_class(augmentation: Augmentation, crop_size: int) -> None:
    pictures = pictures_that_hold({0}, {1}, {2}, {0, 1, 2}, side=40)
    indices = [0, 1, 2, 3] * 25
    batch = batch_of(pictures, indices, crop_size=crop_size, augmentation=augmentation, rare_crops=1.0)
    seen = batch.masks.amax(dim=(1, 2, 3))
    # A speck of 2 x 2 pixels may fall between the pixels of a sample that shows the picture smaller.
    assert float(seen.mean()) > (0.97 if augmentation.zoom else 0.999)
    plain = batch_of(pictures, indices, crop_size=crop_size, augmentation=augmentation)
    if crop_size in (8, 9):
        assert float(plain.masks.amax(dim=(1, 2, 3)).mean()) < 0.5


def test_a_rare_crop_shows_each_class_of_its_picture_alike_and_anywhere() -> None:
    masks = np.zeros((1, 3, 64, 64), np.uint8)
    masks[0, 0, :, :30] = 1  # thousands of pixels
    masks[0, 1, 40, 40] = 1  # and one
    pictures = place(data_of(np.zeros((1, 64, 64, 1), np.uint8), masks), (0,), CPU)
    batch = batch_of(pictures, [0] * 1000, crop_size=8, rare_crops=1.0)
    assert share_that_shows(batch, 1) == pytest.approx(0.5, abs=0.06)
    assert share_that_shows(batch, 2) == 0
    rows, columns = batch.masks[:, 1].nonzero()[:, 1:].T
    for positions in (rows, columns):
        assert {1, 2, 3, 4, 5, 6} <= set(positions.tolist())
        assert max(Counter(positions.tolist()).values()) < 0.3 * len(positions)


def test_as_many_crops_are_rare_as_asked() -> None:
    masks = np.zeros((1, 1, 400, 400), np.uint8)
    masks[0, 0, 200, 200] = 1
    pictures = place(data_of(np.zeros((1, 400, 400, 1), np.uint8), masks), (0,), CPU)
    for rare_crops in (0.25, 0.75):
        batch = batch_of(pictures, [0] * 600, crop_size=6, rare_crops=rare_crops)
        assert share_that_shows(batch, 0) == pytest.approx(rare_crops, abs=0.06)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 29), (19, 0), (19, 29), (10, 3)])
@pytest.mark.parametrize("crop_size", [1, 2, 7, 20, 25])
def test_a_rare_crop_that_is_not_changed_lies_inside_the_extent(row: int, column: int, crop_size: int) -> None:
    masks, valid = np.zeros((1, 1, 32, 32), np.uint8), np.zeros((1, 32, 32), np.uint8)
    masks[0, 0, row, column] = 1
    valid[0, :20, :30] = 1
    pictures = place(data_of(np.zeros((1, 32, 32, 1), np.uint8), masks, valid), (0,), CPU)
    batch = batch_of(pictures, [0] * 40, crop_size=crop_size, rare_crops=1.0)
    assert share_that_shows(batch, 0) == 1
    assert batch.valid[:, :, :20, :].all()


def test_pictures_without_any_class_are_cut_anywhere() -> None:
    pictures = pictures_that_hold(set(), {0}, side=64)
    batch = batch_of(pictures, [0] * 4 + [1] * 4, crop_size=8, rare_crops=1.0)
    assert not batch.masks[:4].any()
    assert batch.masks[4:].amax(dim=(1, 2, 3)).all()
    assert batch.valid.all()


class Failing(HostPictures):
    """Pictures that can no longer be read after the second batch."""

    def cut(self, *arguments: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            raise AssertionError("not read ahead")
        if self.__dict__.setdefault("reads", 0) == 2:
            raise OSError("the disk is gone")
        self.__dict__["reads"] += 1
        return super().cut(*arguments)


def threads_alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


@pytest.mark.parametrize("rare_crops", [0.0, 0.5])
def test_reading_ahead_gives_the_same_batches(rare_crops: float, tmp_path: Path) -> None:
    data = colored_squares("multilabel", count=6, side=32)
    sampling = Sampling(crop_size=16, augmentation=ALL, rare_crops=rare_crops)
    indices = tuple(range(6))
    in_files = place(put_into_files(data, tmp_path), indices, CPU)
    assert in_files.reads_ahead
    in_memory = place(data, indices, CPU)
    assert not in_memory.reads_ahead
    order = draw_order(in_memory, 40, 4, 1.0, np.random.default_rng(1))
    batches = [
        list(draw_batches(pictures, order, sampling, np.random.default_rng(2))) for pictures in (in_memory, in_files)
    ]
    assert len(batches[0]) == len(batches[1]) == 10
    for first, second in zip(*batches, strict=True):
        assert_same(first, second)
    assert threads_alive() == []


def test_an_error_while_reading_ahead_ends_the_training_and_the_thread() -> None:
    placed = place(colored_squares("binary"), (0, 1, 2), CPU)
    assert isinstance(placed, HostPictures)
    pictures = Failing(**(vars(placed) | {"reads_ahead": True}))
    batches = draw_batches(pictures, [[0, 1, 2]] * 5, Sampling(), np.random.default_rng(0))
    assert [next(batches).images.shape[0] for _ in range(2)] == [3, 3]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert threads_alive() == []


def test_a_training_that_is_given_up_ends_the_thread(tmp_path: Path) -> None:
    pictures = place(put_into_files(colored_squares("binary"), tmp_path), (0, 1, 2), CPU)
    batches = draw_batches(pictures, [[0, 1, 2]] * 50, Sampling(), np.random.default_rng(0))
    next(batches)
    assert threads_alive() != []
    batches.close()
    assert threads_alive() == []
