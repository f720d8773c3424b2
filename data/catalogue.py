"""What a data set holds before its pixels are loaded: the names, the files, and how to read them."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from data.pictures import read_color, read_grey, read_index, require_same_size
from data.segmentation_data import LabelMode, Part, UInt8

# The key of `Sample.masks` under which a mask stands whose values name the classes.
INDEX = "*"

# Decoding leaves the interpreter's lock, so a few threads keep a few cores busy; more only hold more memory.
_THREADS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture of a data set and the files that belong to it; nothing is read yet.

    name: unique in its catalogue.
    image: the picture's file, or None when it is drawn and not read.
    masks: class name -> the file of its plane (a class without a file has no pixel here), or INDEX -> the one mask
        whose values are the classes.
    field_of_view: the file that is bright where pixels count, or None when all do.
    part: where the owner of the data put it, or None.
    group: the patient or slide that it shows, or None.
    """

    name: str
    image: Path | None = None
    masks: Mapping[str, Path] = field(default_factory=dict)
    field_of_view: Path | None = None
    part: Part | None = None
    group: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of the sample."""
        return tuple(path for path in (self.image, *self.masks.values(), self.field_of_view) if path is not None)


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """One sample, decoded at its own size.

    image: uint8 (H, W, 3), RGB.
    planes: uint8 (K, H, W), 0..255: how sure a pixel is to belong to each class; the preparation's threshold decides.
    valid: uint8 (H, W), 0 or 1, the pixels that count, or None when all do.
    """

    image: UInt8
    planes: UInt8
    valid: UInt8 | None = None


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The classes of a data set and the way to its pixels.

    read: decodes one sample; its planes are in the order of `class_names`. Called from several threads. Raises
        InputError for files that cannot be used.
    """

    class_names: tuple[str, ...]
    label_mode: LabelMode
    read: Callable[[Sample], Pixels]


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """A data set as its reader found it.

    source: the name or folder that was asked for.
    samples: sorted by name.
    open: finds out the classes (for which some readers look through all masks) and gives the way to the pixels.
    declarations: files besides the samples' own on which the contents depend.
    """

    source: str
    samples: tuple[Sample, ...]
    open: Callable[[], Contents]
    declarations: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that the data depends on; none when the pictures are drawn."""
        return (*self.declarations, *(path for sample in self.samples for path in sample.files))


def planes_by_file(class_names: tuple[str, ...], label_mode: LabelMode) -> Contents:
    """Contents whose classes have a mask file each, as in `Sample.masks`."""
    return Contents(class_names=class_names, label_mode=label_mode, read=partial(_read_planes, class_names))


def planes_by_value(classes: Mapping[int, str], label_mode: LabelMode) -> Contents:
    """Contents whose classes are the values (value -> class name) of one index mask a sample."""
    return Contents(
        class_names=tuple(classes.values()), label_mode=label_mode, read=partial(_read_values, tuple(classes))
    )


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The results in the order of the items; the first item that fails, in that order, raises its error."""
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(function, items))


def _read_planes(class_names: tuple[str, ...], sample: Sample) -> Pixels:
    assert sample.image is not None
    image = read_color(sample.image)
    height, width = image.shape[:2]
    planes = np.zeros((len(class_names), height, width), np.uint8)  # (K, H, W)
    for plane, class_name in zip(planes, class_names, strict=True):
        path = sample.masks.get(class_name)
        if path is None:
            continue
        mask = read_grey(path)
        require_same_size(sample.image, image, path, mask)
        # A mask of 0 and 1 looks black, yet its ones are meant in full.
        plane[:] = mask * 255 if mask.max() == 1 else mask
    if sample.field_of_view is None:
        return Pixels(image=image, planes=planes)
    bright = read_grey(sample.field_of_view)
    require_same_size(sample.image, image, sample.field_of_view, bright)
    return Pixels(image=image, planes=planes, valid=(bright > bright.max() // 2).astype(np.uint8))


def _read_values(values: tuple[int, ...], sample: Sample) -> Pixels:
    assert sample.image is not None
    image, path = read_color(sample.image), sample.masks[INDEX]
    mask = read_index(path)
    require_same_size(sample.image, image, path, mask)
    planes = (mask[None] == np.array(values).reshape(-1, 1, 1)).astype(np.uint8) * np.uint8(255)  # (K, H, W)
    return Pixels(image=image, planes=planes)
