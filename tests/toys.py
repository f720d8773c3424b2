"""Small data, made in memory, on which trainings learn within seconds, and ways to put it into files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import settings
from PIL import Image

from data.segmentation_data import MULTICLASS, MULTILABEL, LabelMode, Preparation, SegmentationData, Split, UInt8
from data.statistics import measure_all

# Every property test: the same examples in each run, and no limit on the time of one.
PROPERTY = settings(deadline=None, derandomize=True)

# The three kinds of task that every loss and training must cope with: label mode and number of classes.
TASKS: dict[str, tuple[LabelMode, int]] = {
    "binary": (MULTILABEL, 1),
    "multilabel": (MULTILABEL, 2),
    "multiclass": (MULTICLASS, 2),
}


def data_of(
    images: UInt8, masks: UInt8, valid: UInt8 | None = None, *, label_mode: LabelMode = MULTILABEL, **facts: Any
) -> SegmentationData:
    """Prepared data from images (N, H, W, C), masks (N, K, H, W) and valid (N, H, W), or None where all count."""
    count, height, width, channels = images.shape
    data = SegmentationData(
        images=images,
        masks=masks,
        valid=np.ones((count, height, width), np.uint8) if valid is None else valid,
        names=tuple(f"picture{index}" for index in range(count)),
        class_names=tuple(f"class{index}" for index in range(masks.shape[1])),
        label_mode=label_mode,
        parts=(None,) * count,
        groups=(None,) * count,
        sizes=((height, width),) * count,
        statistics=measure_all(images, masks, np.ones((count, height, width), np.uint8) if valid is None else valid),
        preparation=Preparation(color="rgb" if channels == 3 else "grey"),
        source="toy",
        fingerprint="toy",
    )
    return replace(data, **facts)


def colored_squares(task: str, *, count: int = 6, side: int = 32, seed: int = 0) -> SegmentationData:
    """Grey noise with a red square, the first class, and, in tasks of two classes, a green one, the second.

    "multilabel" squares lie over each other where they meet, in the sum of their colours; of "multiclass" ones the
    second hides the first.
    """
    label_mode, classes = TASKS[task]
    draw = np.random.default_rng(seed)
    images = draw.integers(30, 90, (count, side, side, 3))
    masks = np.zeros((count, classes, side, side), np.uint8)
    for picture, planes in zip(images, masks, strict=True):
        for channel, plane in enumerate(planes):
            top, left = draw.integers(0, side // 2, 2)
            place = slice(top, top + side // 2), slice(left, left + side // 2)
            if label_mode == MULTICLASS:
                planes[:, *place] = 0
                picture[*place, :channel] = 60
            plane[place] = 1
            picture[*place, channel] += 150
    return data_of(images.astype(np.uint8), masks, label_mode=label_mode)


def split_in_two(data: SegmentationData, validation: int = 2) -> Split:
    """The last pictures to validate, all others to train on."""
    count = len(data.names)
    return Split(train=tuple(range(count - validation)), validation=tuple(range(count - validation, count)))


def put_into_files(data: SegmentationData, folder: Path) -> SegmentationData:
    """The same data with their pixels in files of the folder, mapped and not to be written to."""
    arrays: dict[str, Any] = {}
    for name in ("images", "masks", "valid"):
        np.save(folder / f"{name}.npy", getattr(data, name))
        arrays[name] = np.load(folder / f"{name}.npy", mmap_mode="r")
    return replace(data, **arrays)


def write_folder(folder: Path, data: SegmentationData) -> Path:
    """Writes the data as `images/` and `masks/`: index masks, or a folder for each of several "multilabel" classes."""
    for name, image, planes in zip(data.names, data.images, data.masks, strict=True):
        save_png(folder / "images" / f"{name}.png", image)
        if data.label_mode == MULTICLASS or len(planes) == 1:
            ranks = np.arange(1, len(planes) + 1, dtype=np.uint8)
            save_png(folder / "masks" / f"{name}.png", (planes * ranks[:, None, None]).sum(axis=0, dtype=np.uint8))
            continue
        for class_name, plane in zip(data.class_names, planes, strict=True):
            save_png(folder / "masks" / class_name / f"{name}.png", plane * 255)
    return folder


def save_png(path: Path, pixels: UInt8) -> None:
    """Writes a picture, (H, W, 3) in colour or (H, W) in grey, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
