"""Types for pictures on their way to a training: how to prepare them, what they became, who learns from which."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from data.array_file import as_received, to_send
from data.statistics import Statistics

LabelMode = Literal["multilabel", "multiclass"]
Part = Literal["train", "validation", "test"]
UInt8 = npt.NDArray[np.uint8]

MULTILABEL: LabelMode = "multilabel"
MULTICLASS: LabelMode = "multiclass"
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How pictures are brought into one array.

    size: side in pixels of the square that larger pictures are shrunk into, their aspect kept; smaller ones stay as
        they are, for pixels that are made up teach nothing. "native" keeps all sizes. Pictures smaller than the
        largest are padded, and padding never counts.
    color: "rgb" (3 channels), "grey", or "green", the channel in which a retina's vessels show best (1 channel).
    clahe: whether local contrast is raised (contrast-limited adaptive histogram equalisation).
    field_of_view: "given" counts what the owner's mask of the field of view holds, and all pixels where there is none;
        "found" looks for the bright disc of a fundus photograph where the owner gives no mask.
    mask_threshold: in 0..1; in grey per-class masks a pixel belongs to the class when value / 255 is above it.
    """

    size: int | Literal["native"] = field(
        default=256, metadata={"meaning": "Shrink pictures that are larger into squares of this side, or: native."}
    )
    color: Literal["rgb", "grey", "green"] = field(
        default="rgb", metadata={"meaning": "Three channels, their brightness, or the green one alone."}
    )
    clahe: bool = field(default=False, metadata={"meaning": "Raise local contrast (CLAHE), as is done for retinas."})
    field_of_view: Literal["given", "found"] = field(
        default="given",
        metadata={"meaning": "Which pixels count: as the owner's mask says, or as found in fundus photographs."},
    )
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
    statistics: what was counted of them.
    preparation: what was done to them.
    source: the name or folder that was read.
    fingerprint: sha256 (hex) of the pixels, classes and preparation.

    Arrays larger than memory should hold are `numpy.memmap`. They are pickled as the names of their files, which must
    then be there, under the same names, where they are unpickled: InputError otherwise.
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
    statistics: Statistics
    preparation: Preparation
    source: str
    fingerprint: str

    def __post_init__(self) -> None:
        count, height, width, _ = self.images.shape
        assert self.masks.shape == (count, len(self.class_names), height, width)
        assert self.valid.shape == (count, height, width)
        assert len(self.names) == len(self.parts) == len(self.groups) == len(self.sizes) == count
        assert len(set(self.names)) == count
        assert self.statistics.class_pixels.shape == (count, len(self.class_names))
        assert self.images.dtype == self.masks.dtype == self.valid.dtype == np.uint8

    def __getstate__(self) -> dict[str, Any]:
        return {name: to_send(value) for name, value in vars(self).items()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({name: as_received(value) for name, value in state.items()})

    @property
    def channels(self) -> int:
        """Channels of a picture: 3 for RGB, 1 for grey."""
        return int(self.images.shape[3])


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """Who teaches, who chooses, and who is kept for the end, where the owner of the data has not said so already.

    validation_fraction, test_fraction: of the images that may teach, in 0..1.
    train_ids, validation_ids, test_ids: images by the number in their name or by name, such as "1-27,im0044"; they
        stand above the owner's parts, and whoever is named by none of them is kept for the end if train_ids is given.
    group_by: a regular expression; images in whose names it finds the same text are of one patient, never parted;
        its first parentheses count, if it has any. It must find something in every name.
    folds: how many times to split, each image choosing once; 1 is a single split.
    split_seed: of the draw. The same seed gives the same parts on any machine.
    """

    validation_fraction: float = field(
        default=0.2, metadata={"meaning": "Share of the images to choose by, where their owner has named none."}
    )
    test_fraction: float = field(
        default=0.0, metadata={"meaning": "Share of the images to keep for the end, where their owner has named none."}
    )
    train_ids: str | None = field(
        default=None, metadata={"meaning": "Images to learn from, by number or name: 1-27,im0044; others are kept."}
    )
    validation_ids: str | None = field(default=None, metadata={"meaning": "Images to choose by, by number or name."})
    test_ids: str | None = field(default=None, metadata={"meaning": "Images to keep for the end, by number or name."})
    group_by: str | None = field(
        default=None,
        metadata={"meaning": "Regular expression for the part of a name that tells the patient, who is never parted."},
    )
    folds: int = field(default=1, metadata={"meaning": "Cross-validation: a trial's score is the mean over so many."})
    split_seed: int = field(default=0, metadata={"meaning": "Seed of the split."})


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

    @property
    def parts(self) -> dict[Part, tuple[int, ...]]:
        """The images of each part, by its name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}
