"""Reads DIARETDB1 as the article lays it out: `train/images/` and `train/GT/`, and `test/` likewise if it is there."""

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from data.catalogue import INDEX, Catalogue, Contents, Pixels, Sample, planes_by_file
from data.input_error import InputError
from data.layouts.diaretdb1 import COLORS, part_of
from data.layouts.layout import Layout, find_pictures, require_pairs
from data.pictures import list_pictures, read_color, require_same_size
from data.segmentation_data import MULTILABEL, Part

LAYOUT = Layout(
    source="diaretdb1-article",
    homes=("diaretdb1-article", "diaretdb1"),
    landmarks=("train/images/", "train/GT/"),
    shown=(
        "train/images/image001.png and train/GT/hemorrhages/image001.png (a folder of grey maps for each class) or "
        "train/GT/image001.png (red lesions, bright lesions and background in the three channels)"
    ),
    origin="the DIARETDB1 page of Lappeenranta University of Technology",
)
_FOLDERS: tuple[Part, ...] = ("train", "test")


def read_diaretdb1_article(root: Path) -> Catalogue:
    """DIARETDB1 in the article's layout, from `root` or `root/diaretdb1-article`.

    Folders in `GT/` are the classes; without folders its pictures hold the red lesions in their first channel and the
    bright ones in their second. Without `test/`, images 1 to 27 teach and the others test. As for DIARETDB1 itself,
    the article counts above a `mask_threshold` of 0.1.

    Raises InputError when the folders are not there, when train/ and test/ differ in their classes or share an image,
    and when an image lacks its masks.
    """
    home = LAYOUT.find_home(root)
    parts = [part for part in _FOLDERS if (home / part / "images").is_dir()]
    classes = {part: _class_names(home / part / "GT") for part in parts}
    class_names = classes["train"]
    for part in parts:
        if classes[part] != class_names:
            raise InputError(
                f"{str(home / part / 'GT')!r} has the classes {_named(classes[part])}, but train/GT has "
                f"{_named(class_names)}: give both the same folders."
            )
    samples = [sample for part in parts for sample in _samples(home / part, part, class_names)]
    names = [sample.name for sample in samples]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"image {twice[0]!r} of {str(home)!r} stands in train/ and in test/: remove one of the two.")
    if "test" not in parts:
        samples = [replace(sample, part=_part_by_number(sample.name)) for sample in samples]
    contents = partial(planes_by_file, class_names, MULTILABEL) if class_names else _open_channels
    return LAYOUT.catalogue(home, samples, contents)


def _class_names(folder: Path) -> tuple[str, ...]:
    """The folders of the classes; none when the masks lie in the folder itself."""
    if not folder.is_dir():
        raise InputError(f"folder {str(folder)!r} is missing: it must hold a folder of masks for each class.")
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._"))
    if names and list_pictures(folder):
        raise InputError(f"folder {str(folder)!r} holds both masks and folders ({_named(names)}): keep the one kind.")
    return names


def _samples(home: Path, part: Part, class_names: tuple[str, ...]) -> list[Sample]:
    """The samples of `home`, which is `train/` or `test/`."""
    images = find_pictures(home / "images", r".+", "{}.png")
    folders = {name: home / "GT" / name for name in class_names} or {INDEX: home / "GT"}
    masks = {name: find_pictures(folder, r".+", "{}.png") for name, folder in folders.items()}
    require_pairs(
        images, {name: path for found in masks.values() for name, path in found.items()}, home / "GT", "{}.png"
    )
    return [
        Sample(
            name=name,
            image=image,
            masks={class_name: found[name] for class_name, found in masks.items() if name in found},
            part=part,
        )
        for name, image in images.items()
    ]


def _part_by_number(name: str) -> Part | None:
    number = re.search(r"\d+$", name)
    return part_of(int(number[0])) if number else None


def _open_channels() -> Contents:
    return replace(planes_by_file(tuple(COLORS), MULTILABEL), read=_read_channels)


def _read_channels(sample: Sample) -> Pixels:
    assert sample.image is not None
    image, path = read_color(sample.image), sample.masks[INDEX]
    mask = read_color(path)  # (H, W, 3)
    require_same_size(sample.image, image, path, mask)
    if mask.any() and (mask == mask[..., :1]).all():
        raise InputError(
            f"mask {str(path)!r} is grey, but its channels must be red lesions, bright lesions and background: save it "
            "in colour, or put grey masks into a folder for each class."
        )
    # A mask of 0 and 1 looks black, yet its ones are meant in full.
    planes = np.moveaxis(mask[..., : len(COLORS)], 2, 0) * np.uint8(255 if mask.max() == 1 else 1)  # (K, H, W)
    return Pixels(image=image, planes=np.ascontiguousarray(planes))


def _named(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "of its three channels"
