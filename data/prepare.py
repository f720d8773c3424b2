"""Brings a data set's pictures into arrays of one size, and keeps the result for the next time."""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.cache import Kept, NotKeptError, new_entry, read_entry, sole_access
from data.catalogue import Catalogue, Contents, Sample, map_in_threads
from data.class_names import check_class_names
from data.field_of_view import find_field_of_view
from data.fit import fit_image, fit_mask, fitted_size
from data.input_error import InputError
from data.memory import memory_limit, total_memory
from data.segmentation_data import Preparation, SegmentationData, UInt8
from data.statistics import Statistics, join, measure

log = logging.getLogger(__name__)

# Part of every cache key: raise it when the same files and preparation would give other arrays or counts than before.
_FORMAT = 6
_SMALLEST, _LARGEST = 8, 16384
# Bytes that are in use for each pixel of a picture's file while it is prepared, besides those of its planes, and what
# share of all memory pictures in the making may take together.
_IN_USE, _SHARE = 32, 1 / 16

# Takes a picture by the name of its array and its index, and puts it where it belongs.
Store = Callable[[str, int, UInt8], None]


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is known of a data set before its pictures are decoded.

    key: of the files when they were found, as `_key` gives it; None for pictures that are drawn.
    sizes: N (height, width) in the files. shapes: of the arrays, by name.
    """

    catalogue: Catalogue
    key: str | None
    contents: Contents
    preparation: Preparation
    sizes: tuple[tuple[int, int], ...]
    shapes: Mapping[str, tuple[int, ...]]


class _Stored(NamedTuple):
    """What is left of a picture once its pixels are stored."""

    statistics: Statistics
    digest: bytes


def prepare(catalogue: Catalogue, preparation: Preparation, cache: Path | None) -> SegmentationData:
    """Decodes, fits and stacks every sample of the catalogue.

    cache: folder for prepared data, or None to keep nothing. What it holds is used while the files' names, sizes and
        times of change and the preparation are the same, and made anew when it is damaged. One process at a time
        makes it, picture by picture, so that data may be far larger than memory; others wait, then read. A folder
        that cannot be written costs a warning, and the data are held in memory. Pictures that are drawn, not read,
        are never kept.

    Arrays from the cache are read-only, and are read from their files when they are looked at. Those larger than
    `memory_limit` are `numpy.memmap`, the others plain arrays.

    Raises InputError for a preparation out of range, files that cannot be used or change meanwhile, a class without any
    pixel, and data that neither the cache folder nor memory can hold.
    """
    check_preparation(preparation)
    key = _key(catalogue, preparation) if catalogue.files else None
    if cache is None or key is None:
        return _hold(_plan(catalogue, preparation, key))
    entry = cache / key
    kept, plan = read_entry(entry), None
    try:
        if kept is None:
            with sole_access(entry):
                kept = read_entry(entry)  # another process may have made it meanwhile
                if kept is None:
                    plan = _plan(catalogue, preparation, key)
                    _keep(entry, plan)
                    kept = read_entry(entry)
    except NotKeptError as reason:
        log.warning("prepared data cannot be kept in %s (%s): the next start reads the pictures again", entry, reason)
    if kept is not None:
        return _from_kept(kept, catalogue, preparation)
    plan = plan or _plan(catalogue, preparation, key)
    size = sum(math.prod(shape) for shape in plan.shapes.values())
    if size > memory_limit():
        raise InputError(
            f"data {catalogue.source!r} take {size / 1e6:,.1f} MB when prepared, more than may be held in memory "
            f"({memory_limit() / 1e6:,.1f} MB), and {str(cache)!r} cannot keep them: set UNET_SEARCH_CACHE to a folder "
            "with room for them, or lower --size."
        )
    return _hold(plan)


def fingerprint_of(
    images: UInt8, masks: UInt8, valid: UInt8, class_names: tuple[str, ...], preparation: Preparation
) -> str:
    """sha256 (hex) of the pixels, the classes and the preparation."""
    digests = [_digest(*picture) for picture in zip(images, masks, valid, strict=True)]
    return _fingerprint(digests, images.shape, class_names, preparation)


def check_preparation(preparation: Preparation) -> None:
    """Raises InputError for a value that is out of range, or for which a package is missing."""
    size, threshold = preparation.size, preparation.mask_threshold
    if size != "native" and not _SMALLEST <= size <= _LARGEST:
        raise InputError(
            f"size {size} must be from {_SMALLEST} to {_LARGEST} pixels, or native: choose another, such as 256."
        )
    if preparation.color not in ("rgb", "grey", "green"):
        raise InputError(f"color {preparation.color!r} must be rgb, grey or green: choose one.")
    if preparation.field_of_view not in ("given", "found"):
        raise InputError(f"field_of_view {preparation.field_of_view!r} must be given or found: choose one.")
    if not 0 <= threshold < 1:
        raise InputError(f"mask_threshold {threshold} must be from 0 to below 1: choose another, such as 0.5.")
    for asked, needs in (("clahe", preparation.clahe), ("field_of_view found", preparation.field_of_view == "found")):
        if needs and find_spec("cv2") is None:
            raise InputError(f"{asked} needs OpenCV, which is not installed: pip install opencv-python-headless.")


def _plan(catalogue: Catalogue, preparation: Preparation, key: str | None) -> _Plan:
    """The plan: no picture is decoded where its size stands in its file's header."""
    contents = catalogue.open()
    check_class_names(contents.class_names)
    sizes = map_in_threads(contents.size or partial(_decoded_size, contents), catalogue.samples)
    fitted = [fitted_size(*size, preparation.size) for size in sizes]
    count, height, width = len(sizes), max(size[0] for size in fitted), max(size[1] for size in fitted)
    return _Plan(
        catalogue=catalogue,
        key=key,
        contents=contents,
        preparation=preparation,
        sizes=tuple(sizes),
        shapes={
            "images": (count, height, width, 3 if preparation.color == "rgb" else 1),
            "masks": (count, len(contents.class_names), height, width),
            "valid": (count, height, width),
        },
    )


def _decoded_size(contents: Contents, sample: Sample) -> tuple[int, int]:
    height, width = contents.read(sample).image.shape[:2]
    return height, width


def _keep(entry: Path, plan: _Plan) -> None:
    """Makes the entry of the cache. Raises NotKeptError when it cannot be written."""
    with new_entry(entry, plan.shapes) as draft:
        statistics, fingerprint = _fill(plan, draft.write)
        details = {
            "class_names": plan.contents.class_names,
            "label_mode": plan.contents.label_mode,
            "sizes": plan.sizes,
            "fingerprint": fingerprint,
        }
        draft.finish(statistics, details)


def _from_kept(kept: Kept, catalogue: Catalogue, preparation: Preparation) -> SegmentationData:
    """The data of an entry. Arrays that memory can hold pass for plain ones: they are sent by their numbers."""
    arrays, details = kept.arrays, kept.details
    if sum(array.nbytes for array in arrays.values()) <= memory_limit():
        arrays = {name: array.view(np.ndarray) for name, array in arrays.items()}
    return _assemble(
        catalogue,
        preparation,
        arrays,
        statistics=kept.statistics,
        class_names=tuple(details["class_names"]),
        label_mode=details["label_mode"],
        sizes=tuple((height, width) for height, width in details["sizes"]),
        fingerprint=details["fingerprint"],
    )


def _hold(plan: _Plan) -> SegmentationData:
    """The data, made in memory."""
    arrays = {name: np.empty(shape, np.uint8) for name, shape in plan.shapes.items()}

    def store(name: str, index: int, picture: UInt8) -> None:
        arrays[name][index] = picture

    statistics, fingerprint = _fill(plan, store)
    return _assemble(
        plan.catalogue,
        plan.preparation,
        arrays,
        statistics=statistics,
        class_names=plan.contents.class_names,
        label_mode=plan.contents.label_mode,
        sizes=plan.sizes,
        fingerprint=fingerprint,
    )


def _assemble(
    catalogue: Catalogue, preparation: Preparation, arrays: Mapping[str, UInt8], **facts: Any
) -> SegmentationData:
    return SegmentationData(
        images=arrays["images"],
        masks=arrays["masks"],
        valid=arrays["valid"],
        names=tuple(sample.name for sample in catalogue.samples),
        parts=tuple(sample.part for sample in catalogue.samples),
        groups=tuple(sample.group for sample in catalogue.samples),
        preparation=preparation,
        source=catalogue.source,
        **facts,
    )


def _fill(plan: _Plan, store: Store) -> tuple[Statistics, str]:
    """Stores every picture, a few at a time; the statistics of all, and their fingerprint."""
    stored = map_in_threads(partial(_prepare_sample, plan, store), range(len(plan.sizes)), _most_at_once(plan))
    if plan.key is not None and plan.key != _key(plan.catalogue, plan.preparation):
        raise InputError(
            f"data {plan.catalogue.source!r} changed while it was read: leave the files alone, and start again."
        )
    statistics = join([one.statistics for one in stored])
    _require_every_class(plan, statistics)
    digests = [one.digest for one in stored]
    return statistics, _fingerprint(digests, plan.shapes["images"], plan.contents.class_names, plan.preparation)


def _most_at_once(plan: _Plan) -> int:
    """How many of the largest picture may be in the making at a time, one at least."""
    pixels = max(height * width for height, width in plan.sizes)
    return max(1, int(_SHARE * total_memory()) // (pixels * (_IN_USE + 2 * len(plan.contents.class_names))))


def _prepare_sample(plan: _Plan, store: Store, index: int) -> _Stored:
    preparation, sample = plan.preparation, plan.catalogue.samples[index]
    pixels = plan.contents.read(sample)
    if pixels.image.shape[:2] != plan.sizes[index]:
        raise InputError(f"picture {sample.name!r} changed while it was read: leave the files alone, and start again.")
    count = len(pixels.planes)
    held, marked = np.zeros(count, np.int64), np.zeros(count, np.int64)
    fitted = []
    for number, plane in enumerate(pixels.planes):
        # Less than a tenth of white is what compression leaves around a mask.
        marked[number] = np.count_nonzero(plane > 25)
        on = plane > 255 * preparation.mask_threshold  # (H, W)
        held[number] = np.count_nonzero(on)
        fitted.append(fit_mask(on.view(np.uint8), preparation.size))
    masks = np.stack(fitted)  # (K, h, w)
    valid = np.ones(pixels.image.shape[:2], np.uint8) if pixels.valid is None else pixels.valid
    if preparation.field_of_view == "found" and sample.field_of_view is None:
        # What counts by its label, such as all that is not unlabelled, is no field of view.
        valid = valid & find_field_of_view(pixels.image)
    image = fit_image(pixels.image, preparation)  # (h, w, C)
    valid = fit_mask(valid, preparation.size)  # (h, w)
    del pixels, fitted
    kept = np.where(marked > 0, np.minimum(held / np.maximum(marked, 1), 1), 1.0)
    statistics = measure(image, masks, valid, held=(held > 0).tolist(), kept=kept.tolist())
    padded = _pad(image, masks, valid, plan.shapes["valid"][1:])
    for name, picture in zip(("images", "masks", "valid"), padded, strict=True):
        store(name, index, picture)
    return _Stored(statistics, _digest(*padded))


def _pad(image: UInt8, planes: UInt8, valid: UInt8, shape: tuple[int, ...]) -> tuple[UInt8, UInt8, UInt8]:
    """Everything with rows below and columns to the right that do not count, up to `shape`."""
    if valid.shape == shape:
        return image, planes, valid
    below, right = (0, shape[0] - valid.shape[0]), (0, shape[1] - valid.shape[1])
    # Mirrored, not black: an edge that is not in the picture would be learnt as one.
    return (
        np.pad(image, (below, right, (0, 0)), mode="symmetric"),
        np.pad(planes, ((0, 0), below, right)),
        np.pad(valid, (below, right)),
    )


def _require_every_class(plan: _Plan, statistics: Statistics) -> None:
    """Raises InputError when a class has no pixel that counts in any picture: nothing could be learnt or judged."""
    size = plan.preparation.size
    shrunk = np.array([fitted_size(*one, size) != one for one in plan.sizes])
    for index, name in enumerate(plan.contents.class_names):
        if statistics.class_pixels[:, index].any():
            continue
        held = statistics.held[:, index]
        if (held & shrunk & (statistics.outside_pixels[:, index] == 0)).any():
            raise InputError(f"class {name!r} has no pixel left at size {size}: raise --size.")
        if held.any():
            raise InputError(
                f"class {name!r} has pixels only where none counts, outside the field of view: mend its masks, or the "
                "masks of the field of view."
            )
        raise InputError(
            f"class {name!r} has no pixel in any mask of {plan.catalogue.source!r} (grey masks count above "
            f"mask_threshold {plan.preparation.mask_threshold:g}): remove the class, mend its masks or lower the "
            "threshold."
        )


def _digest(image: UInt8, planes: UInt8, valid: UInt8) -> bytes:
    digest = hashlib.sha256()
    for array in (image, planes, valid):
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _fingerprint(
    digests: Sequence[bytes], shape: tuple[int, ...], class_names: tuple[str, ...], preparation: Preparation
) -> str:
    words = {"shape": shape, "classes": class_names, "preparation": asdict(preparation)}
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode() + b"".join(digests)).hexdigest()


def _key(catalogue: Catalogue, preparation: Preparation) -> str:
    """A name for what the arrays depend on, found without opening a picture.

    Raises InputError for a file that is no longer there.
    """
    samples = [
        [sample.name, sample.part, sample.group, sorted(sample.masks), len(sample.files)]
        for sample in catalogue.samples
    ]
    folders: dict[Path, str] = {}
    files = []
    for path in catalogue.files:
        if path.parent not in folders:
            folders[path.parent] = str(path.parent.resolve())
        try:
            status = path.stat()
        except OSError as error:
            raise InputError(
                f"file {str(path)!r} cannot be read any more ({error.strerror}): leave the files of "
                f"{catalogue.source!r} alone while they are read, and start again."
            ) from error
        files.append([folders[path.parent], path.name, status.st_size, status.st_mtime_ns])
    words = [_FORMAT, catalogue.source, asdict(preparation), samples, files]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:40]
