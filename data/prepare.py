"""Brings a data set's pictures into one array of one size, and keeps the result for the next time."""

import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from data.catalogue import Catalogue, Contents, Pixels, Sample, map_in_threads
from data.class_names import check_class_names
from data.input_error import InputError
from data.segmentation_data import Preparation, SegmentationData, UInt8

log = logging.getLogger(__name__)

# Part of every cache key: raise it when the same files and preparation would give other arrays than before.
_FORMAT = 2
_ARRAYS = ("images", "masks", "valid")
_DETAILS = "data.json"
# What moving a folder to a name that is taken ends with.
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST)
_SMALLEST, _LARGEST = 8, 16384


class _Prepared(NamedTuple):
    """One sample, fitted but not yet padded, and which classes it held at its own size."""

    image: UInt8  # (h, w, C)
    planes: UInt8  # (K, h, w), 0 or 1
    valid: UInt8  # (h, w), 0 or 1
    size: tuple[int, int]
    held: tuple[bool, ...]


def cache_folder() -> Path:
    """Where prepared data is kept: `UNET_SEARCH_CACHE`, or `unet-search` in the user's cache folder."""
    if chosen := os.environ.get("UNET_SEARCH_CACHE"):
        return Path(chosen).expanduser()
    users = os.environ.get("XDG_CACHE_HOME")
    return (Path(users) if users else Path.home() / ".cache") / "unet-search"


def prepare(catalogue: Catalogue, preparation: Preparation, cache: Path | None) -> SegmentationData:
    """Decodes, fits and stacks every sample of the catalogue.

    cache: folder for prepared data, or None to keep nothing. What it holds is used while the files' names, sizes and
        times of change and the preparation are the same, and made anew when it is damaged. A folder that cannot be
        written costs a warning, never the data. Pictures that are drawn, not read, are never kept.

    Raises InputError for a preparation out of range, files that cannot be used, and a class without any pixel.
    """
    check_preparation(preparation)
    entry = cache / _key(catalogue, preparation) if cache is not None and catalogue.files else None
    kept = _read_kept(entry, catalogue, preparation) if entry is not None else None
    if kept is not None:
        return kept
    data = _make(catalogue, preparation)
    if entry is not None:
        _keep(entry, data)
    return data


def fingerprint_of(
    images: UInt8, masks: UInt8, valid: UInt8, class_names: tuple[str, ...], preparation: Preparation
) -> str:
    """sha256 (hex) of the pixels, the classes and the preparation."""
    words = {"shape": images.shape, "classes": class_names, "preparation": asdict(preparation)}
    digest = hashlib.sha256(json.dumps(words, sort_keys=True).encode())
    for array in (images, masks, valid):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def fit_image(image: UInt8, preparation: Preparation) -> UInt8:
    """An RGB image (H, W, 3) in the preparation's colour and size, not padded: uint8 (h, w, C)."""
    picture = Image.fromarray(image)
    if preparation.color == "grey":
        picture = picture.convert("L")
    height, width = _fitted_size(image.shape[0], image.shape[1], preparation.size)
    if (width, height) != picture.size:
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    fitted = np.array(picture)
    return fitted if fitted.ndim == 3 else fitted[..., None]


def check_preparation(preparation: Preparation) -> None:
    """Raises InputError for a size, colour or threshold that is out of range."""
    size, threshold = preparation.size, preparation.mask_threshold
    if size is not None and not _SMALLEST <= size <= _LARGEST:
        raise InputError(f"size {size} must be from {_SMALLEST} to {_LARGEST} pixels: choose another, such as 256.")
    if preparation.color not in ("rgb", "grey"):
        raise InputError(f"color {preparation.color!r} must be rgb or grey: choose one.")
    if not 0 <= threshold < 1:
        raise InputError(f"mask_threshold {threshold} must be from 0 to below 1: choose another, such as 0.5.")


def _make(catalogue: Catalogue, preparation: Preparation) -> SegmentationData:
    """The data, from the files."""
    contents = catalogue.open()
    check_class_names(contents.class_names)
    prepared = map_in_threads(partial(_prepare_sample, contents, preparation), catalogue.samples)
    _require_every_class(catalogue, contents, preparation, prepared)
    side = preparation.size
    height = side or max(sample.image.shape[0] for sample in prepared)
    width = side or max(sample.image.shape[1] for sample in prepared)
    count, classes = len(prepared), len(contents.class_names)
    images = np.empty((count, height, width, prepared[0].image.shape[2]), np.uint8)  # (N, H, W, C)
    masks = np.zeros((count, classes, height, width), np.uint8)  # (N, K, H, W)
    valid = np.zeros((count, height, width), np.uint8)  # (N, H, W)
    for index, sample in enumerate(prepared):
        h, w = sample.valid.shape
        # Mirrored, not black: an edge that is not in the picture would be learnt as one.
        images[index] = np.pad(sample.image, ((0, height - h), (0, width - w), (0, 0)), mode="symmetric")
        masks[index, :, :h, :w] = sample.planes
        valid[index, :h, :w] = sample.valid
    return SegmentationData(
        images=images,
        masks=masks,
        valid=valid,
        names=tuple(sample.name for sample in catalogue.samples),
        class_names=contents.class_names,
        label_mode=contents.label_mode,
        parts=tuple(sample.part for sample in catalogue.samples),
        groups=tuple(sample.group for sample in catalogue.samples),
        sizes=tuple(sample.size for sample in prepared),
        preparation=preparation,
        source=catalogue.source,
        fingerprint=fingerprint_of(images, masks, valid, contents.class_names, preparation),
    )


def _prepare_sample(contents: Contents, preparation: Preparation, sample: Sample) -> _Prepared:
    pixels: Pixels = contents.read(sample)
    planes = (pixels.planes > 255 * preparation.mask_threshold).astype(np.uint8)
    height, width = pixels.image.shape[:2]
    valid = pixels.valid if pixels.valid is not None else np.ones((height, width), np.uint8)
    fitted = _fitted_size(height, width, preparation.size)
    return _Prepared(
        image=fit_image(pixels.image, preparation),
        planes=np.stack([_resize_mask(plane, fitted) for plane in planes]),
        valid=_resize_mask(valid, fitted),
        size=(height, width),
        held=tuple(bool(plane.any()) for plane in planes),
    )


def _fitted_size(height: int, width: int, size: int | None) -> tuple[int, int]:
    """Height and width of a picture fitted into a square of `size`, its aspect kept."""
    if size is None:
        return height, width
    scale = size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _resize_mask(mask: UInt8, size: tuple[int, int]) -> UInt8:
    """A mask (H, W) at another size by its nearest pixels, so that no value arises that was not there."""
    if mask.shape == size:
        return mask
    return np.array(Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST))


def _require_every_class(
    catalogue: Catalogue, contents: Contents, preparation: Preparation, prepared: list[_Prepared]
) -> None:
    """Raises InputError when a class has no pixel in any picture: nothing could be learnt or judged."""
    for index, name in enumerate(contents.class_names):
        if any(sample.planes[index].any() for sample in prepared):
            continue
        if any(sample.held[index] for sample in prepared):
            raise InputError(f"class {name!r} has no pixel left at size {preparation.size}: raise --size.")
        raise InputError(
            f"class {name!r} has no pixel in any mask of {catalogue.source!r} (grey masks count above "
            f"mask_threshold {preparation.mask_threshold:g}): remove the class, mend its masks or lower the threshold."
        )


def _key(catalogue: Catalogue, preparation: Preparation) -> str:
    """A name for what the arrays depend on, found without opening a picture."""
    samples = [
        [sample.name, sample.part, sample.group, sorted(sample.masks), len(sample.files)]
        for sample in catalogue.samples
    ]
    files = []
    for path in catalogue.files:
        status = path.stat()
        files.append([str(path.resolve()), status.st_size, status.st_mtime_ns])
    words = [_FORMAT, catalogue.source, asdict(preparation), samples, files]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:40]


def _read_kept(entry: Path, catalogue: Catalogue, preparation: Preparation) -> SegmentationData | None:
    """What an earlier run kept, or None when there is nothing or it is damaged."""
    try:
        details: dict[str, Any] = json.loads((entry / _DETAILS).read_text(encoding="utf-8"))
        arrays = {name: np.load(entry / f"{name}.npy", allow_pickle=False) for name in _ARRAYS}
        class_names = tuple(details["class_names"])
        if fingerprint_of(**arrays, class_names=class_names, preparation=preparation) != details["fingerprint"]:
            raise ValueError("the pixels are not those that were kept")
        return SegmentationData(
            **arrays,
            names=tuple(sample.name for sample in catalogue.samples),
            class_names=class_names,
            label_mode=details["label_mode"],
            parts=tuple(sample.part for sample in catalogue.samples),
            groups=tuple(sample.group for sample in catalogue.samples),
            sizes=tuple((height, width) for height, width in details["sizes"]),
            preparation=preparation,
            source=catalogue.source,
            fingerprint=details["fingerprint"],
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        log.debug("prepared data in %s is damaged (%s): it is made anew", entry, error)
        return None


def _keep(entry: Path, data: SegmentationData) -> None:
    """Writes the data beside its place and moves it there whole, so that nobody ever reads half of it."""
    details = {
        "class_names": data.class_names,
        "label_mode": data.label_mode,
        "sizes": data.sizes,
        "fingerprint": data.fingerprint,
    }
    draft = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix="draft-", dir=entry.parent))
        for name in _ARRAYS:
            np.save(draft / f"{name}.npy", getattr(data, name), allow_pickle=False)
        (draft / _DETAILS).write_text(json.dumps(details), encoding="utf-8")
        _put_in_place(draft, entry)
    except OSError as error:
        log.warning("prepared data cannot be kept in %s (%s): the next start reads the pictures again", entry, error)
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def _put_in_place(draft: Path, entry: Path) -> None:
    """Makes the draft the entry. An entry that is there goes away in one move too, never file by file."""
    try:
        draft.rename(entry)
    except OSError as error:
        if error.errno not in _OCCUPIED:
            raise
    else:
        return
    old = draft.with_name(f"{draft.name}-old")
    try:
        with suppress(FileNotFoundError):
            entry.rename(old)
        draft.rename(entry)
    except OSError as error:
        # Another process put the same data there in between: as good as ours.
        if error.errno not in _OCCUPIED:
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
