"""Where the pictures of a training lie, and how pieces of them come to its device."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from data.file_reads import FileReads
from data.segmentation_data import SegmentationData, UInt8

Counts = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]

LABEL_BITS = 8
# Part of a GPU's free memory that pictures may take: the network and its gradients need room, too.
RESIDENT_SHARE = 0.5


class Window(NamedTuple):
    """Where a piece of a picture begins. picture: its place among those chosen; top, left: in pixels."""

    picture: int
    top: int
    left: int


@dataclass(frozen=True, kw_only=True)
class Pictures(ABC):
    """Pictures that a training draws from: N of them, all of height H and width W, with C channels and K classes.

    device: where pieces of them come to.
    reads_ahead: whether a piece takes so long to come that it should be fetched while the device computes.
    extents: int64 (N, 2), height and width in pixels, from the upper left corner, beyond which no pixel counts.
    class_pixels: int64 (N, K), pixels of each class.
    places: int32 (N, K, PLACES, 2), row and column of some pixels of each class.
    """

    device: torch.device
    reads_ahead: bool
    height: int
    width: int
    channels: int
    classes: int
    extents: Counts
    class_pixels: Counts
    places: Places

    def __len__(self) -> int:
        return len(self.extents)

    @abstractmethod
    def cut(self, windows: Sequence[Window], height: int, width: int) -> tuple[Tensor, Tensor]:
        """Pieces of this height and width, which must lie inside the pictures, on the device.

        Returns images uint8 (B, C, h, w), channels last in memory, and labels uint8 (B, L, h, w) as `pack` makes them.
        """


@dataclass(frozen=True, kw_only=True)
class HostPictures(Pictures):
    """Pictures that stay where they are, in memory or files that many trainings share; only pieces are copied."""

    data: SegmentationData
    indices: tuple[int, ...]

    @cached_property
    def _arrays(self) -> tuple[UInt8, UInt8, UInt8]:
        """Images, masks and valid as plain arrays: numpy's own type for files is slow to index."""
        return np.asarray(self.data.images), np.asarray(self.data.masks), np.asarray(self.data.valid)

    @cached_property
    def _reads(self) -> FileReads:
        return FileReads(self.data)

    def cut(self, windows: Sequence[Window], height: int, width: int) -> tuple[Tensor, Tensor]:
        """As `Pictures.cut` says."""
        # From memory that cannot be swapped, a GPU fetches by itself.
        pinned = self.device.type == "cuda"
        images = torch.empty(len(windows), height, width, self.channels, dtype=torch.uint8, pin_memory=pinned)
        labels = torch.empty(
            len(windows), label_channels(self.classes), height, width, dtype=torch.uint8, pin_memory=pinned
        )
        image_slots, label_slots = images.numpy(), labels.numpy()
        all_images, all_masks, all_valid = self._arrays
        self._reads.announce([(self.indices[picture], top) for picture, top, _ in windows], height)
        for slot, (picture, top, left) in enumerate(windows):
            piece = self.indices[picture], slice(top, top + height), slice(left, left + width)
            image_slots[slot] = all_images[piece]
            pack(all_masks[piece[0], :, piece[1], piece[2]], all_valid[piece], out=label_slots[slot])
        self._reads.let_go()
        return (
            images.permute(0, 3, 1, 2).to(self.device, non_blocking=pinned),
            labels.to(self.device, non_blocking=pinned),
        )


@dataclass(frozen=True, kw_only=True)
class ResidentPictures(Pictures):
    """Pictures that lie on the device: images uint8 (N, H, W, C), labels uint8 (N, L, H, W) as `pack` makes them."""

    images: Tensor
    labels: Tensor

    def cut(self, windows: Sequence[Window], height: int, width: int) -> tuple[Tensor, Tensor]:
        """As `Pictures.cut` says."""
        corners = torch.tensor(windows, pin_memory=self.device.type == "cuda").to(self.device, non_blocking=True)
        picture, top, left = corners[:, :, None, None].unbind(dim=1)  # (B, 1, 1) each
        rows = top + torch.arange(height, device=self.device)[:, None]  # (B, h, 1)
        columns = left + torch.arange(width, device=self.device)  # (B, 1, w)
        images = self.images[picture, rows, columns]  # (B, h, w, C)
        planes = torch.arange(self.labels.shape[1], device=self.device)[:, None, None]
        labels = self.labels[picture[:, None], planes, rows[:, None], columns[:, None]]  # (B, L, h, w)
        return images.permute(0, 3, 1, 2), labels


def place(data: SegmentationData, indices: tuple[int, ...], device: torch.device) -> Pictures:
    """The chosen pictures, ready for a training on the device: on it where they fit, else where they are now."""
    if device.type == "cuda" and device.index is None:
        # The thread that reads ahead has its own notion of the present device.
        device = torch.device("cuda", torch.cuda.current_device())
    chosen = list(indices)
    count, height, width, channels = (len(chosen), *data.images.shape[1:])
    classes = len(data.class_names)
    facts: dict[str, Any] = {
        "device": device,
        "height": height,
        "width": width,
        "channels": channels,
        "classes": classes,
        "extents": data.statistics.extents[chosen],
        "class_pixels": data.statistics.class_pixels[chosen],
        "places": data.statistics.places[chosen],
    }
    far = device.type != "cpu" or bool(FileReads(data))
    host = HostPictures(**facts, reads_ahead=far, data=data, indices=indices)
    size = count * height * width * (channels + label_channels(classes))
    if size >= RESIDENT_SHARE * free_memory(device):
        return host
    images = torch.empty(count, height, width, channels, dtype=torch.uint8, device=device)
    labels = torch.empty(count, label_channels(classes), height, width, dtype=torch.uint8, device=device)
    for index in range(count):
        image, label = host.cut([Window(index, 0, 0)], height, width)
        images[index], labels[index] = image[0].permute(1, 2, 0), label[0]
    return ResidentPictures(**facts, reads_ahead=False, images=images, labels=labels)


def free_memory(device: torch.device) -> int:
    """Bytes for pictures on a device with memory of its own; 0 where there is none, or none that can be known."""
    if device.type != "cuda":
        return 0
    kept_for_tensors = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept_for_tensors


def label_channels(classes: int) -> int:
    """How many channels hold K classes and the pixels that count, a bit each."""
    return -(-(classes + 1) // LABEL_BITS)


def pack(planes: UInt8, valid: UInt8, out: UInt8) -> None:
    """Writes planes 0/1 (K, h, w) and valid 0/1 (h, w) as bits into uint8 (L, h, w).

    Plane k is bit k % 8 of channel k // 8; valid comes after the last plane.
    """
    every = [*planes, valid]
    for index, channel in enumerate(out):
        *others, channel[:] = every[index * LABEL_BITS : (index + 1) * LABEL_BITS]
        # By doubling and setting the lowest bit: numpy adds faster than it shifts.
        for plane in reversed(others):
            np.add(channel, channel, out=channel)
            np.bitwise_or(channel, plane, out=channel)


def unpack(labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Masks uint8 0/1 (B, K, h, w) and valid uint8 0/1 (B, 1, h, w) from labels (B, L, h, w) that `pack` made."""
    bits = [(labels[:, index // LABEL_BITS] >> (index % LABEL_BITS)) & 1 for index in range(classes + 1)]
    return torch.stack(bits[:-1], dim=1), bits[-1][:, None]
