"""Batches for training: random crops, image and mask warped together, on the device where the pictures lie."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from data.segmentation_data import SegmentationData, UInt8

Matrices = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ResidentPictures:
    """Pictures on the training device.

    images: uint8 (N, C, H, W). labels: uint8 (N, K + 1, H, W), the K mask planes and, last, the valid pixels.
    extents: N (height, width) in pixels, from the upper left corner, beyond which no pixel counts.
    """

    images: Tensor
    labels: Tensor
    extents: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.extents)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples for one step: images float (B, C, h, w), masks float 0/1 (B, K, h, w), valid (B, 1, h, w).

    Images are in 0..255, but for colour changes, which may lead a little out of it.
    """

    images: Tensor
    masks: Tensor
    valid: Tensor


def put_on_device(data: SegmentationData, indices: tuple[int, ...], device: torch.device) -> ResidentPictures:
    """Copies the chosen pictures to the device, channels first."""
    chosen = list(indices)
    images = torch.from_numpy(np.ascontiguousarray(data.images[chosen].transpose(0, 3, 1, 2)))
    labels = torch.from_numpy(np.concatenate([data.masks[chosen], data.valid[chosen, None]], axis=1))
    extents = tuple(_extent(data.valid[index]) for index in chosen)
    return ResidentPictures(images=images.to(device), labels=labels.to(device), extents=extents)


def crop_shape(pictures: ResidentPictures, crop_size: int) -> tuple[int, int]:
    """Height and width of a sample: `crop_size`, or whole pictures where that is 0 or larger than they are."""
    height, width = pictures.images.shape[-2:]
    return (min(crop_size, height), min(crop_size, width)) if crop_size else (height, width)


def samples_per_epoch(pictures: ResidentPictures, crop_size: int, least_pixels: int = 0) -> int:
    """As many samples as cover the pixels of all pictures once, one a picture at least.

    Small data are covered several times over, until an epoch has `least_pixels`: it is then worth judging.
    """
    height, width = crop_shape(pictures, crop_size)
    covered = sum(max(1.0, rows * columns / (height * width)) for rows, columns in pictures.extents)
    passes = math.ceil(least_pixels / (covered * height * width)) or 1
    return round(covered * passes)


def draw_batch(
    pictures: ResidentPictures, indices: list[int], *, crop_size: int, strength: float, generator: np.random.Generator
) -> Batch:
    """A random crop of each picture in `indices`, augmented with `strength` in 0..1.

    Each sample has its own flips, rotation (up to 60 degrees x strength), zoom (up to a factor e^(0.35 x strength)),
    shear, contrast, brightness and colour cast. Image and mask share one geometry: the image is read bilinearly,
    the mask by nearest neighbour. Pixels from outside the picture are mirrored in and do not count.
    The same generator state gives the same batch on one device.
    """
    height, width = crop_shape(pictures, crop_size)
    centres = _centres([pictures.extents[index] for index in indices], height, width, generator)
    if strength == 0:
        return _cut(pictures, indices, centres, height, width)
    transforms = _transforms(len(indices), strength, generator)
    images, labels, theta = _windows(pictures, indices, centres, transforms, height, width)
    device = images.device
    grid = F.affine_grid(theta.to(device, non_blocking=True), [len(indices), 1, height, width], align_corners=False)
    warped = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    # A whole number survives nearest neighbour, and zeros outside make the mirrored pixels not count.
    moved = F.grid_sample(labels.float(), grid, mode="nearest", padding_mode="zeros", align_corners=False)
    gain, offset = (
        part.to(device, non_blocking=True)
        for part in _colour_changes(len(indices), images.shape[1], strength, generator)
    )
    warped = torch.addcmul(offset, warped, gain)
    return Batch(images=warped, masks=moved[:, :-1], valid=moved[:, -1:])


def _centres(
    extents: list[tuple[int, int]], height: int, width: int, generator: np.random.Generator
) -> list[tuple[int, int]]:
    """A crop centre (row, column) for each picture such that the crop lies inside its extent where it can."""
    draws = generator.random((len(extents), 2))
    return [
        (
            height // 2 + int(draw[0] * (max(rows - height, 0) + 1)),
            width // 2 + int(draw[1] * (max(columns - width, 0) + 1)),
        )
        for (rows, columns), draw in zip(extents, draws, strict=True)
    ]


def _cut(
    pictures: ResidentPictures, indices: list[int], centres: list[tuple[int, int]], height: int, width: int
) -> Batch:
    """Plain crops."""
    places = [
        (
            index,
            slice(row - height // 2, row - height // 2 + height),
            slice(column - width // 2, column - width // 2 + width),
        )
        for index, (row, column) in zip(indices, centres, strict=True)
    ]
    images = torch.stack([pictures.images[index, :, rows, columns] for index, rows, columns in places]).float()
    labels = torch.stack([pictures.labels[index, :, rows, columns] for index, rows, columns in places]).float()
    return Batch(images=images, masks=labels[:, :-1], valid=labels[:, -1:])


def _transforms(count: int, strength: float, generator: np.random.Generator) -> Matrices:
    """Matrices (B, 2, 2) that take an offset from a sample's centre (x, y), in pixels, to one in the picture."""
    angle = generator.uniform(-1, 1, count) * math.radians(60) * strength
    zoom = np.exp(generator.uniform(-1, 1, (count, 1, 1)) * 0.35 * strength)
    shear = generator.uniform(-1, 1, count) * 0.15 * strength
    flips = generator.choice([-1.0, 1.0], (count, 2))
    rotation = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=1).reshape(count, 2, 2)
    sheared = np.zeros((count, 2, 2))
    sheared[:, 0, 0] = flips[:, 0]
    sheared[:, 1, 1] = flips[:, 1]
    sheared[:, 0, 1] = shear
    matrices: Matrices = zoom * rotation @ sheared
    return matrices


def _windows(
    pictures: ResidentPictures,
    indices: list[int],
    centres: list[tuple[int, int]],
    transforms: Matrices,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Cuts from each picture the part that its transform can reach, and fits the transform to that part.

    Returns images (B, C, h, w) and labels (B, K + 1, h, w), uint8, and theta (B, 2, 3) for `affine_grid`.
    """
    full_height, full_width = pictures.images.shape[-2:]
    half = np.array([width / 2, height / 2])
    reach = np.ceil((np.abs(transforms) * half).sum(axis=2).max(axis=0)) + 1  # (x, y)
    tall, wide = min(2 * int(reach[1]), full_height), min(2 * int(reach[0]), full_width)
    images, labels, shifts = [], [], []
    for index, (row, column) in zip(indices, centres, strict=True):
        top = min(max(row - tall // 2, 0), full_height - tall)
        left = min(max(column - wide // 2, 0), full_width - wide)
        images.append(pictures.images[index, :, top : top + tall, left : left + wide])
        labels.append(pictures.labels[index, :, top : top + tall, left : left + wide])
        # The middle of an odd side lies half a pixel behind its whole number.
        shifts.append((column + width % 2 / 2 - left - wide / 2, row + height % 2 / 2 - top - tall / 2))
    window_half = np.array([wide / 2, tall / 2])
    theta = np.concatenate(
        [transforms * half / window_half[:, None], (np.array(shifts) / window_half)[:, :, None]], axis=2
    )
    return torch.stack(images), torch.stack(labels), torch.from_numpy(theta.astype(np.float32))


def _colour_changes(
    count: int, channels: int, strength: float, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Gain and offset (B, C, 1, 1): contrast about mid-grey, brightness, and a slight cast of each channel."""
    contrast = np.exp(generator.uniform(-1, 1, (count, 1)) * 0.4 * strength)
    cast = np.exp(generator.uniform(-1, 1, (count, channels)) * 0.15 * strength)
    brightness = generator.uniform(-1, 1, (count, 1)) * 50 * strength
    gain = contrast * cast
    offset = 127.5 * (1 - contrast) * cast + brightness
    return tuple(torch.from_numpy(part.astype(np.float32))[:, :, None, None] for part in (gain, offset))  # type: ignore[return-value]


def _extent(valid: UInt8) -> tuple[int, int]:
    """Rows and columns of the smallest upper left corner that holds every valid pixel (H, W)."""
    rows, columns = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
    return (int(rows[-1]) + 1, int(columns[-1]) + 1) if len(rows) else valid.shape
