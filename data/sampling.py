"""Which samples a training sees: what pictures, which piece of each, changed in what way; batch by batch."""

import math
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from torch import Tensor

from data.augment import Changes, apply_changes, draw_changes
from data.augmentation import Augmentation
from data.read_ahead import read_ahead
from data.statistics import PLACES
from data.windows import Pictures, Window, unpack

Indices = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How samples are drawn.

    crop_size: side in pixels of a sample; whole pictures where it is 0 or larger than they are.
    augmentation: how strongly samples are changed.
    rare_crops: in 0..1, the share of the samples that are cut around a pixel of a class that the picture holds, each
        of its classes as often as the others.
    """

    crop_size: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)
    rare_crops: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples for one step: images float (B, C, h, w), masks float 0/1 (B, K, h, w), valid float 0/1 (B, 1, h, w).

    Images are in 0..255, but for colour changes, which may lead a little out of it.
    """

    images: Tensor
    masks: Tensor
    valid: Tensor


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """One batch before any pixel is read: the pieces, how large they are, and what is done to them."""

    windows: list[Window]
    height: int
    width: int
    centres: list[tuple[float, float]]
    changes: Changes | None

    def part(self, some: slice) -> "_Plan":
        """The plan of these of the samples."""
        changes = None if self.changes is None else self.changes.part(some)
        return replace(self, windows=self.windows[some], centres=self.centres[some], changes=changes)


def crop_shape(pictures: Pictures, crop_size: int) -> tuple[int, int]:
    """Height and width of a sample: `crop_size`, or whole pictures where that is 0 or larger than they are."""
    height, width = pictures.height, pictures.width
    return (min(crop_size, height), min(crop_size, width)) if crop_size else (height, width)


def samples_per_epoch(pictures: Pictures, crop_size: int, least_pixels: int = 0) -> int:
    """As many samples as cover the pixels of all pictures once, one a picture at least.

    Small data are covered several times over, until an epoch has `least_pixels`: it is then worth judging. Pictures
    without any class count like others, however often they are drawn, so that trainings compare at the same epoch.
    """
    height, width = crop_shape(pictures, crop_size)
    covered = float(np.maximum(pictures.extents.prod(axis=1) / (height * width), 1.0).sum())
    passes = math.ceil(least_pixels / (covered * height * width)) or 1
    return round(covered * passes)


def draw_order(
    pictures: Pictures, samples: int, batch_size: int, empty_images: float, generator: np.random.Generator
) -> list[list[int]]:
    """Full batches of picture indices for one epoch, `samples` in all or a few more to fill the last.

    Each picture stands there as often as any other, give or take one, but those without any class by `empty_images`
    less often. Some picture must hold a class.
    """
    steps = math.ceil(samples / batch_size)
    length = steps * batch_size
    drawn: list[int] = []
    for pictures_of_round in _draw_rounds(pictures, empty_images, generator):
        drawn += pictures_of_round.tolist()
        if len(drawn) >= length:
            break
    return [drawn[first : first + batch_size] for first in range(0, length, batch_size)]


def draw_batches(
    pictures: Pictures,
    order: list[list[int]],
    sampling: Sampling,
    generator: np.random.Generator,
    *,
    skip: int = 0,
    share: slice = slice(None),
) -> Generator[Batch, None, None]:
    """A batch for each entry of `order` after the first `skip`, which are drawn, but not looked at.

    The same generator state gives the same batches on one device. share: of the samples of each batch, those that are
    made; all are drawn, so that each is what it is in the whole batch.

    Pictures that come slowly are fetched by another thread, ahead of the batch that is asked for; closing this
    generator ends it. What is drawn at random does not depend on it.
    """
    for indices in order[:skip]:
        _plan(pictures, indices, sampling, generator)
    cuts = (_cut(pictures, indices, sampling, generator, share) for indices in order[skip:])
    fetched = read_ahead(cuts) if pictures.reads_ahead else cuts
    with closing(fetched):
        for cut in fetched:
            yield _finish(pictures, *cut)


def draw_batch(pictures: Pictures, indices: list[int], sampling: Sampling, generator: np.random.Generator) -> Batch:
    """A random piece of each picture in `indices`, changed as `sampling` says; what lies outside does not count."""
    return _finish(pictures, *_cut(pictures, indices, sampling, generator, slice(None)))


def _draw_rounds(pictures: Pictures, empty_images: float, generator: np.random.Generator) -> Iterator[Indices]:
    """Pictures in an order of chance, again and again: all that hold a class, and as many others as are due."""
    holds = pictures.class_pixels.any(axis=1)
    holding, empty = np.flatnonzero(holds), np.flatnonzero(~holds)
    assert len(holding), "a training without any class"
    waiting, due = empty[:0], generator.random()
    while True:
        due += empty_images * len(empty)
        count = int(due)
        due -= count
        if len(waiting) < count:
            waiting = np.concatenate([waiting, generator.permutation(empty)])
        yield generator.permutation(np.concatenate([holding, waiting[:count]]))
        waiting = waiting[count:]


def _cut(
    pictures: Pictures, indices: list[int], sampling: Sampling, generator: np.random.Generator, share: slice
) -> tuple[_Plan, Tensor, Tensor]:
    """The pieces of this share of a batch on the device, and what is to be done to them."""
    plan = _plan(pictures, indices, sampling, generator).part(share)
    return plan, *pictures.cut(plan.windows, plan.height, plan.width)


def _finish(pictures: Pictures, plan: _Plan, images: Tensor, labels: Tensor) -> Batch:
    """The batch of these pieces."""
    if plan.changes is None:
        changed = images.float()
    else:
        changed, labels = apply_changes(images, labels, plan.changes, plan.centres)
    masks, valid = unpack(labels, pictures.classes)
    return Batch(images=changed, masks=masks.float(), valid=valid.float())


def _plan(pictures: Pictures, indices: list[int], sampling: Sampling, generator: np.random.Generator) -> _Plan:
    """All that is random about a batch."""
    shape = crop_shape(pictures, sampling.crop_size)
    changes, (tall, wide), shifts = None, shape, np.zeros((len(indices), 2), np.int64)
    if sampling.augmentation != Augmentation():
        changes = draw_changes(len(indices), pictures.channels, shape, sampling.augmentation, generator)
        shifts = changes.shifts.round().astype(np.int64)
        tall, wide = min(changes.reach[0], pictures.height), min(changes.reach[1], pictures.width)
    middles = _draw_middles(pictures, indices, shape, generator)
    if sampling.rare_crops:
        around = generator.random(len(indices)) < sampling.rare_crops
        rare = _draw_rare_middles(pictures, indices, shape, changes, generator)
        middles = np.where((around & pictures.class_pixels[indices].any(axis=1))[:, None], rare, middles)
    windows, centres = [], []
    for index, (row, column), (across, down) in zip(indices, middles.tolist(), shifts.tolist(), strict=True):
        top = min(max(row + down - tall // 2, 0), pictures.height - tall)
        left = min(max(column + across - wide // 2, 0), pictures.width - wide)
        windows.append(Window(index, top, left))
        # The middle of an odd side lies half a pixel behind its whole number.
        centres.append((column + shape[1] % 2 / 2 - left - wide / 2, row + shape[0] % 2 / 2 - top - tall / 2))
    return _Plan(windows=windows, height=tall, width=wide, centres=centres, changes=changes)


def _draw_middles(
    pictures: Pictures, indices: list[int], shape: tuple[int, int], generator: np.random.Generator
) -> Indices:
    """The middle (row, column) of each sample, such that the sample lies inside its picture's extent where it can."""
    room = np.maximum(pictures.extents[indices] - shape, 0)
    middles: Indices = np.array(shape) // 2 + (generator.random((len(indices), 2)) * (room + 1)).astype(np.int64)
    return middles


def _draw_rare_middles(
    pictures: Pictures,
    indices: list[int],
    shape: tuple[int, int],
    changes: Changes | None,
    generator: np.random.Generator,
) -> Indices:
    """The middle (row, column) of each sample, such that a pixel of one of the picture's classes is seen in it.

    Where a turned sample cannot both show the pixel and begin inside its picture's extent, it shows the pixel.
    Pictures without any class get a middle that means nothing.
    """
    count = len(indices)
    class_draws, *position_draws = generator.random((3, count))
    ranks = generator.integers(0, PLACES, count)
    classes = [
        int(np.flatnonzero(held)[int(draw * held.sum())]) if held.any() else 0
        for held, draw in zip(pictures.class_pixels[indices] > 0, class_draws, strict=True)
    ]
    # From here on (x, y), in pixels from the upper left corner.
    pixels = pictures.places[indices, classes, ranks][:, ::-1] + 0.5  # (B, 2)
    half: Numbers = np.array(shape[::-1]) / 2
    matrices: Numbers = np.eye(2)[None].repeat(count, axis=0)
    shifts: Numbers = np.zeros((count, 2))
    bent = shifts
    if changes is not None:
        matrices, shifts, bent = changes.matrices, changes.shifts, np.abs(changes.knots).max(axis=(2, 3))
    inverses = np.asarray(np.linalg.inv(matrices), np.float64)
    # How far from the sample's centre the pixel may lie: not where elastic distortion could move it out, and drawn
    # half a pixel nearer, for the middle is rounded.
    limits = np.maximum(half - 0.5 - _times(np.abs(inverses), bent), 0)
    wanted = (2 * np.stack(position_draws, axis=1) - 1) * np.maximum(limits - 0.5, 0)
    centres = pixels - shifts - _times(matrices, wanted)
    inside = np.clip(centres, half, np.maximum(pictures.extents[indices][:, ::-1] - half, half))
    found = np.clip(_times(inverses, pixels - shifts - inside), -limits, limits)
    centres = pixels - shifts - _times(matrices, found)
    middles: Indices = np.round(centres[:, ::-1] - np.array(shape) % 2 / 2).astype(np.int64)
    return middles


def _times(matrices: Numbers, vectors: Numbers) -> Numbers:
    """Each matrix (B, 2, 2) times its vector (B, 2)."""
    return np.asarray(np.einsum("bij,bj->bi", matrices, vectors))
