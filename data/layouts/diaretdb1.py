"""Reads DIARETDB1: 89 retinas with maps of how sure four experts were of each lesion."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from data.catalogue import Catalogue, Contents, Pixels, Sample, planes_by_file
from data.layouts.layout import Layout, find_pictures, require_pairs
from data.segmentation_data import MULTILABEL, Part

# Class name -> the owner's folder.
LESIONS = {
    "hard_exudates": "hardexudates",
    "soft_exudates": "softexudates",
    "haemorrhages": "hemorrhages",
    "red_small_dots": "redsmalldots",
}
# Colour -> the lesions of that colour.
COLORS = {"red": ("haemorrhages", "red_small_dots"), "bright": ("hard_exudates", "soft_exudates")}
_LAST_THAT_TEACHES = 27
_IMAGES, _MAPS = "resources/images/ddb1_fundusimages", "resources/images/ddb1_groundtruth"


def read_diaretdb1(root: Path, *, classes: Literal["lesions", "colors"] = "lesions") -> Catalogue:
    """DIARETDB1 from `root` or `root/diaretdb1`: images 1 to 27 teach, 28 to 89 test.

    classes: a plane for each of the four lesions, or one for the red and one for the bright ones; a pixel of a colour
        is as sure as the surest of its lesions. The preparation's `mask_threshold` decides how sure a pixel must be:
        the published figures count above 0.1.

    Raises InputError when the folders are not there, or when an image lacks one of its four maps.
    """
    layout = Layout(
        source="diaretdb1" if classes == "lesions" else "diaretdb1-red-bright",
        homes=("diaretdb1", "diaretdb1_v_1_1", "DIARETDB1"),
        landmarks=(f"{_IMAGES}/", f"{_MAPS}/"),
        shown=f"{_IMAGES}/image001.png and {_MAPS}/{{{','.join(LESIONS.values())}}}/image001.png",
        origin="the DIARETDB1 page of Lappeenranta University of Technology",
    )
    home = layout.find_home(root)
    images = find_pictures(home / _IMAGES, r"image\d{3}", "{}.png")
    maps = {}
    for lesion, folder in LESIONS.items():
        maps[lesion] = find_pictures(home / _MAPS / folder, r"image\d{3}", "{}.png")
        require_pairs(images, maps[lesion], home / _MAPS / folder, "{}.png")
    samples = [
        Sample(
            name=name,
            image=image,
            masks={lesion: found[name] for lesion, found in maps.items()},
            part=part_of(int(name[-3:])),
        )
        for name, image in images.items()
    ]
    return layout.catalogue(home, samples, _open_colors if classes == "colors" else _open_lesions)


def part_of(number: int) -> Part:
    """The part that the image of this number belongs to."""
    return "train" if number <= _LAST_THAT_TEACHES else "test"


def _open_lesions() -> Contents:
    return planes_by_file(tuple(LESIONS), MULTILABEL)


def _open_colors() -> Contents:
    lesions = _open_lesions()
    return replace(lesions, class_names=tuple(COLORS), read=partial(_read_colors, lesions.read))


def _read_colors(read_lesions: Callable[[Sample], Pixels], sample: Sample) -> Pixels:
    pixels, order = read_lesions(sample), list(LESIONS)
    planes = [pixels.planes[[order.index(lesion) for lesion in lesions]].max(axis=0) for lesions in COLORS.values()]
    return replace(pixels, planes=np.stack(planes))
