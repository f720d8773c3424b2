"""Reads IDRiD's segmentation part: 81 retinas with the lesions of diabetic retinopathy."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from data.catalogue import Catalogue, Sample, planes_by_file
from data.layouts.layout import Layout, find_pictures, require_pairs
from data.pictures import read_color
from data.segmentation_data import MULTILABEL, Part, UInt8

_IMAGES, _MASKS = "1. Original Images", "2. All Segmentation Groundtruths"
_TRAINING, _TESTING = "a. Training Set", "b. Testing Set"
LAYOUT = Layout(
    source="idrid",
    homes=("idrid/A. Segmentation", "IDRiD/A. Segmentation", "A. Segmentation"),
    landmarks=(f"{_IMAGES}/{_TRAINING}/", f"{_MASKS}/{_TRAINING}/"),
    shown=(
        f"A. Segmentation/{_IMAGES}/{_TRAINING}/IDRiD_01.jpg and A. Segmentation/{_MASKS}/{_TRAINING}/"
        "1. Microaneurysms/IDRiD_01_MA.tif"
    ),
    origin="the IDRiD page of IEEE DataPort",
)
# Class name -> the owner's folder and the letters at the end of its files.
LESIONS = {
    "microaneurysms": ("1. Microaneurysms", "MA"),
    "haemorrhages": ("2. Haemorrhages", "HE"),
    "hard_exudates": ("3. Hard Exudates", "EX"),
    "soft_exudates": ("4. Soft Exudates", "SE"),
}
_KEY = r"IDRiD_\d+"


def read_idrid(root: Path) -> Catalogue:
    """The four lesions of IDRiD, from `root` or `root/idrid`; an image without a lesion's file has none of it.

    The owner's testing set tests. Where only the training set is there, its last quarter by number tests.

    Raises InputError when the folders are not there, when an image has no mask of any lesion, or a mask no image.
    """
    home = LAYOUT.find_home(root)
    samples = _samples(home, _TRAINING, "train")
    if (home / _IMAGES / _TESTING).is_dir():
        samples += _samples(home, _TESTING, "test")
    else:
        last = len(samples) - len(samples) // 4
        samples[last:] = [replace(sample, part="test") for sample in samples[last:]]
    return LAYOUT.catalogue(home, samples, partial(planes_by_file, tuple(LESIONS), MULTILABEL, read=_read_painted))


def _samples(home: Path, folder: str, part: Part) -> list[Sample]:
    """The samples of one of the owner's two sets, by name."""
    images = find_pictures(home / _IMAGES / folder, _KEY, "{}.jpg")
    masks = {
        lesion: find_pictures(home / _MASKS / folder / inside, _KEY, f"{{}}_{letters}.tif")
        for lesion, (inside, letters) in LESIONS.items()
    }
    of_any = {name: path for found in masks.values() for name, path in found.items()}
    require_pairs(images, of_any, home / _MASKS / folder, "{}_MA.tif (or _HE, _EX, _SE)")
    return [
        Sample(
            name=name,
            image=images[name],
            masks={lesion: found[name] for lesion, found in masks.items() if name in found},
            part=part,
        )
        for name in sorted(images)
    ]


def _read_painted(path: Path) -> UInt8:
    """The plane (H, W) of a mask that is red, and so dark as a grey, on black: what is not black is meant in full."""
    painted = read_color(path).any(axis=2)  # (H, W)
    return np.where(painted, np.uint8(255), np.uint8(0))
