"""Reads STARE: twenty retinas whose vessels two observers have drawn."""

from functools import partial
from pathlib import Path
from typing import Literal

from data.catalogue import Catalogue, Sample, planes_by_file
from data.layouts.layout import Layout, find_pictures, require_pairs
from data.segmentation_data import MULTILABEL, Part

# The article's ten training images, two of them kept to choose by, and its ten test images.
PARTS: dict[Part, str] = {
    "train": "im0001 im0002 im0003 im0004 im0005 im0044 im0077 im0081",
    "validation": "im0082 im0139",
    "test": "im0162 im0163 im0235 im0236 im0239 im0240 im0255 im0291 im0319 im0324",
}
_LETTERS = {"first": "ah", "second": "vk"}


def read_stare(root: Path, *, observer: Literal["first", "second"] = "first") -> Catalogue:
    """STARE with the vessels of one observer, from `root` or `root/stare`; other images than the twenty are left out.

    Raises InputError when the folders are not there, when none of the images is, or when one lacks its mask.
    """
    letters = _LETTERS[observer]
    folder, named = f"labels-{letters}", f"{{}}.{letters}.ppm.gz"
    layout = Layout(
        source="stare" if observer == "first" else "stare-second",
        homes=("stare", "STARE"),
        landmarks=("stare-images/", f"{folder}/"),
        shown=f"stare-images/im0001.ppm.gz and {folder}/{named.format('im0001')}",
        origin="the STARE project's page on vessel segmentation",
    )
    home = layout.find_home(root)
    part_of = {name: part for part, names in PARTS.items() for name in names.split()}
    key = "|".join(part_of)
    images = find_pictures(home / "stare-images", key, "{}.ppm.gz")
    masks = find_pictures(home / folder, key, named)
    require_pairs(images, masks, home / folder, named)
    samples = [
        Sample(name=name, image=image, masks={"vessel": masks[name]}, part=part_of[name])
        for name, image in images.items()
    ]
    return layout.catalogue(home, samples, partial(planes_by_file, ("vessel",), MULTILABEL))
