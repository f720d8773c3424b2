"""Types for pictures on their way to a training: how to prepare them, what they became, who learns from which."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

LabelMode = Literal["multilabel", "multiclass"]
Part = Literal["train", "validation", "test"]
UInt8 = npt.NDArray[np.uint8]

MULTILABEL: LabelMode = "multilabel"
MULTICLASS: LabelMode = "multiclass"


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How pictures are brought into one array.

    size: side in pixels of the square that every picture is fitted into (its aspect kept, the rest padded), or
        None to keep native sizes (smaller pictures are padded to the largest; padding never counts).
    color: "rgb" (3 channels) or "grey" (1 channel).
    mask_threshold: in 0..1; in grey per-class masks a pixel belongs to the class when value / 255 is above it.
    """

    size: int | None = field(default=None, metadata={"meaning": "Fit pictures into squares of this side; else native."})
    color: Literal["rgb", "grey"] = field(default="rgb", metadata={"meaning": "Three channels or one."})
    mask_threshold: float = field(
        default=0.5, metadata={"meaning": "Share of white above which a grey mask's pixel belongs to the class."}
    )


@dataclass(frozen=True, kw_only=True)
class SegmentationData:
    """Prepared pictures and masks, ready to be put on a device.

    images: uint8 (N, H, W, C), 0..255; C is 3 (RGB) or 1 (grey).
    masks: uint8 (N, K, H, W), 0 or 1: one plane a class. In "multiclass" data the background is no plane: a
        pixel without any class is background.
    valid: uint8 (N, H, W), 1 where a pixel counts (field of view; not padding).
    names: N unique picture names.
    class_names: K names, in the order of the planes.
    label_mode: "multilabel" (planes may overlap) or "multiclass" (they exclude each other).
    parts: N entries, the part that the owner of the data put the picture in, or None.
    groups: N entries, the patient or slide of the picture, or None.
    sizes: N (height, width) of the pictures in their files, in pixels, before preparation.
    preparation: what was done to them.
    source: the name or folder that was read.
    fingerprint: sha256 (hex) of the pixels, classes and preparation.
    """

    images: UInt8
    masks: UInt8
    valid: UInt8
    names: tuple[str, ...]
    class_names: tuple[str, ...]
    label_mode: LabelMode
    parts: tuple[Part | None, ...]
    groups: tuple[str | None, ...]
    sizes: tuple[tuple[int, int], ...]
    preparation: Preparation
    source: str
    fingerprint: str

    def __post_init__(self) -> None:
        count, height, width, _ = self.images.shape
        assert self.masks.shape == (count, len(self.class_names), height, width)
        assert self.valid.shape == (count, height, width)
        assert len(self.names) == len(self.parts) == len(self.groups) == len(self.sizes) == count
        assert len(set(self.names)) == count
        assert self.images.dtype == self.masks.dtype == self.valid.dtype == np.uint8

    @property
    def channels(self) -> int:
        """Channels of a picture: 3 for RGB, 1 for grey."""
        return int(self.images.shape[3])


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which images teach, which choose, and which are kept for the very end: indices into `SegmentationData`.

    The three are disjoint; images of one group are never parted.
    """

    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        everyone = self.train + self.validation + self.test
        assert len(set(everyone)) == len(everyone), "an image stands in two parts of the split"
