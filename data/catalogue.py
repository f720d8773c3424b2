"""What a data set holds before its pixels are loaded: the names, the files, and how to read them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from data.input_error import InputError
from data.masks import Integers, read_grey, read_index, read_stack
from data.pictures import picture_size, read_color, require_same_size
from data.segmentation_data import MULTILABEL, LabelMode, Part, UInt8

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
    size: height and width in pixels of a sample's picture, found without decoding it; None where only `read` tells.
    """

    class_names: tuple[str, ...]
    label_mode: LabelMode
    read: Callable[[Sample], Pixels]
    size: Callable[[Sample], tuple[int, int]] | None = None


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


def planes_by_file(
    class_names: tuple[str, ...], label_mode: LabelMode, read: Callable[[Path], UInt8] = read_grey
) -> Contents:
    """Contents whose classes have a mask file each, as in `Sample.masks`.

    read: gives the plane in a mask file, (H, W), 0..255.
    """
    read_sample = partial(_read_planes, read, class_names)
    return Contents(class_names=class_names, label_mode=label_mode, read=read_sample, size=size_in_file)


def planes_by_value(
    classes: Mapping[int, str],
    label_mode: LabelMode,
    ignored: Sequence[int] = (),
    background: Sequence[int] | None = None,
    read: Callable[[Path], Integers] = read_index,
) -> Contents:
    """Contents whose classes are the values (value -> class name) of one index mask a sample.

    ignored: the values of pixels that do not count, such as what the owner left unlabelled.
    background: the values of pixels that count and are of no class; None for all others. When they are named, a mask
        that holds yet another value ends in InputError.
    read: gives the values of a mask file, (H, W).
    """
    known = None if background is None else (*classes, *ignored, *background)
    read_sample = partial(_read_values, read, tuple(classes), tuple(ignored), known)
    return Contents(class_names=tuple(classes.values()), label_mode=label_mode, read=read_sample, size=size_in_file)


def planes_by_stack(classes: Mapping[int, str], ignored: Sequence[int] = ()) -> Contents:
    """Contents whose classes are planes (place -> class name) of one `.npy` mask a sample; they may overlap.

    ignored: the places of planes that tell where pixels do not count.
    """
    read = partial(_read_stacked, tuple(classes), tuple(ignored))
    return Contents(class_names=tuple(classes.values()), label_mode=MULTILABEL, read=read, size=size_in_file)


def size_in_file(sample: Sample) -> tuple[int, int]:
    """Height and width of a sample's picture in pixels, as its file's header says."""
    assert sample.image is not None
    return picture_size(sample.image)


def map_in_threads(function: Callable[[Item], Result], items: Iterable[Item], most: int = _THREADS) -> list[Result]:
    """The results in the order of the items; the first item that fails, in that order, raises its error.

    most: how many may be worked on at a time, where each takes much memory.
    """
    with ThreadPoolExecutor(min(most, _THREADS)) as threads:
        return list(threads.map(function, items))


def _read_planes(read: Callable[[Path], UInt8], class_names: tuple[str, ...], sample: Sample) -> Pixels:
    assert sample.image is not None
    image = read_color(sample.image)
    height, width = image.shape[:2]
    planes = np.zeros((len(class_names), height, width), np.uint8)  # (K, H, W)
    for plane, class_name in zip(planes, class_names, strict=True):
        path = sample.masks.get(class_name)
        if path is None:
            continue
        mask = read(path)
        require_same_size(sample.image, image, path, mask)
        plane[:] = mask
    return Pixels(image=image, planes=planes, valid=_read_field_of_view(sample, image))


def _read_values(
    read: Callable[[Path], Integers],
    values: tuple[int, ...],
    ignored: tuple[int, ...],
    known: tuple[int, ...] | None,
    sample: Sample,
) -> Pixels:
    assert sample.image is not None
    image, path = read_color(sample.image), sample.masks[INDEX]
    mask = read(path)
    require_same_size(sample.image, image, path, mask)
    if known is not None and (strange := np.isin(mask, known, invert=True)).any():
        raise InputError(
            f"mask {str(path)!r} holds the value {mask[strange][0]}, but only {', '.join(map(str, sorted(known)))} "
            "mean anything here: copy it again."
        )
    planes = (mask[None] == np.array(values).reshape(-1, 1, 1)).astype(np.uint8) * np.uint8(255)  # (K, H, W)
    valid = _read_field_of_view(sample, image)
    if ignored:
        counts: UInt8 = np.isin(mask, ignored, invert=True).astype(np.uint8)
        valid = counts if valid is None else valid & counts
    return Pixels(image=image, planes=planes, valid=valid)


def _read_stacked(places: tuple[int, ...], ignored: tuple[int, ...], sample: Sample) -> Pixels:
    assert sample.image is not None
    image = read_color(sample.image)
    stack = read_stack(sample.masks[INDEX], (image.shape[0], image.shape[1]))  # (K, H, W)
    valid = _read_field_of_view(sample, image)
    if ignored:
        counts: UInt8 = (stack[list(ignored)].max(axis=0) < 128).astype(np.uint8)
        valid = counts if valid is None else valid & counts
    return Pixels(image=image, planes=stack[list(places)], valid=valid)


def _read_field_of_view(sample: Sample, image: UInt8) -> UInt8 | None:
    """1 where pixels count, (H, W), or None when all do."""
    if sample.field_of_view is None:
        return None
    assert sample.image is not None
    bright = read_grey(sample.field_of_view)
    require_same_size(sample.image, image, sample.field_of_view, bright)
    counts: UInt8 = (bright > bright.max() // 2).astype(np.uint8)
    return counts
