"""Makes small data folders and arrays for tests."""

import errno
import gzip
import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from data.prepare import fingerprint_of
from data.segmentation_data import LabelMode, Part, Preparation, SegmentationData
from data.statistics import measure_all

PILLOW_NAMES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".ppm": "PPM",
    ".pgm": "PPM",
    ".pnm": "PPM",
    ".pbm": "PPM",
}


def write_picture(path: Path, pixels: npt.NDArray[Any]) -> Path:
    """Saves an array in the format that the path's suffix names, `.npy` too, gzipped for `.gz`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    buffer = io.BytesIO()
    if suffix == ".npy":
        np.save(buffer, pixels)
    else:
        Image.fromarray(pixels).save(buffer, PILLOW_NAMES[suffix])
    content = buffer.getvalue()
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path


def write_white_is_zero(path: Path, stored: npt.NDArray[np.unsignedinteger[Any]]) -> Path:
    """Saves numbers (H, W) of 8 or 16 bits as a TIFF that says that its white is 0, which Pillow does not write."""
    height, width = stored.shape
    content = stored.astype(f"<u{stored.itemsize}").tobytes()
    numbers = {256: width, 257: height, 258: 8 * stored.itemsize, 259: 1, 262: 0, 273: 8, 277: 1, 278: height}
    tags = {**numbers, 279: len(content)}
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 8 + len(content)) + content
    path.write_bytes(head + struct.pack("<H", len(tags)) + entries + bytes(4))
    return path


def some_image(seed: int = 0, height: int = 12, width: int = 10) -> npt.NDArray[np.uint8]:
    """A random RGB image (H, W, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def some_mask(*values: int, height: int = 12, width: int = 10) -> npt.NDArray[np.uint8]:
    """A mask (H, W) of zeros whose first row begins with the values."""
    mask = np.zeros((height, width), np.uint8)
    mask[0, : len(values)] = values
    return mask


def index_folder(root: Path, count: int = 4, values: tuple[int, ...] = (128, 255)) -> Path:
    """`images/` of BMPs and `masks/` of PNGs in which each value stands once a picture."""
    for index in range(count):
        write_picture(root / "images" / f"{index:03}.bmp", some_image(index))
        write_picture(root / "masks" / f"{index:03}.png", some_mask(*values))
    return root


def class_folder(root: Path, classes: tuple[str, ...] = ("bright", "red"), count: int = 4) -> Path:
    """`images/` and `masks/<class>/`: the first class in every picture, each further class in one less."""
    for index in range(count):
        write_picture(root / "images" / f"{index:03}.png", some_image(index))
        for place, name in enumerate(classes):
            if index >= place:
                write_picture(root / "masks" / name / f"{index:03}.png", some_mask(*[255] * (place + 1)))
    return root


def close(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets nobody list or enter the folder, not even root, as whom tests run in many a container."""
    list_folder, scan, ask = Path.iterdir, os.scandir, Path.stat

    def refuse_if(closed: bool, path: Any) -> None:
        if closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    def iterdir(path: Path) -> Iterator[Path]:
        refuse_if(path == folder, path)
        return list_folder(path)

    def scandir(path: Any) -> Any:
        refuse_if(Path(path) == folder, path)
        return scan(path)

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        refuse_if(folder in path.parents, path)
        return ask(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(Path, "stat", stat)


def data_of(
    held: npt.NDArray[np.bool_],
    *,
    parts: tuple[Part | None, ...] | None = None,
    groups: tuple[str | None, ...] | None = None,
    names: tuple[str, ...] | None = None,
    counting: tuple[bool, ...] | None = None,
) -> SegmentationData:
    """Data of 2 x 2 pixels in which image n holds class k where `held` (N, K) says so, if `counting` lets it count."""
    count, classes = held.shape
    images = np.zeros((count, 2, 2, 1), np.uint8)
    masks = np.zeros((count, classes, 2, 2), np.uint8)
    masks[..., 0, 0] = held
    valid = np.ones((count, 2, 2), np.uint8)
    valid[:, 0, 0] = True if counting is None else counting
    class_names = tuple(f"class_{index}" for index in range(classes))
    mode: LabelMode = "multilabel"
    return SegmentationData(
        images=images,
        masks=masks,
        valid=valid,
        names=names or tuple(f"image_{index:03}" for index in range(count)),
        class_names=class_names,
        label_mode=mode,
        parts=parts or (None,) * count,
        groups=groups or (None,) * count,
        sizes=((2, 2),) * count,
        statistics=measure_all(images, masks, valid),
        preparation=Preparation(color="grey"),
        source="made",
        fingerprint=fingerprint_of(images, masks, valid, class_names, Preparation(color="grey")),
    )
