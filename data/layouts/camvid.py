"""Reads CamVid as SegNet's authors serve it: street scenes of eleven classes."""

from functools import partial
from pathlib import Path

from data.catalogue import INDEX, Catalogue, Sample, planes_by_value
from data.layouts.layout import Layout, find_pictures, require_pairs
from data.segmentation_data import MULTICLASS, Part

CLASSES = (
    *("Sky", "Building", "Pole", "Road", "Pavement", "Tree"),
    *("SignSymbol", "Fence", "Car", "Pedestrian", "Bicyclist"),
)
UNLABELLED = 11
LAYOUT = Layout(
    source="camvid",
    homes=("camvid", "CamVid"),
    landmarks=("train/", "trainannot/", "val/", "valannot/", "test/", "testannot/"),
    shown="train/0001TP_006690.png and trainannot/0001TP_006690.png, and val, valannot, test, testannot likewise",
    origin="the SegNet tutorial's copy of CamVid",
)
_FOLDERS: dict[Part, str] = {"train": "train", "validation": "val", "test": "test"}


def read_camvid(root: Path) -> Catalogue:
    """CamVid in its three parts, from `root` or `root/camvid`; what nobody labelled does not count.

    Raises InputError when the folders are not there, or when an image lacks its mask.
    """
    home = LAYOUT.find_home(root)
    samples = []
    for part, folder in _FOLDERS.items():
        images = find_pictures(home / folder, r".+", "{}.png")
        masks = find_pictures(home / f"{folder}annot", r".+", "{}.png")
        require_pairs(images, masks, home / f"{folder}annot", "{}.png")
        samples += [
            Sample(name=name, image=image, masks={INDEX: masks[name]}, part=part) for name, image in images.items()
        ]
    contents = partial(planes_by_value, dict(enumerate(CLASSES)), MULTICLASS, ignored=(UNLABELLED,), background=())
    return LAYOUT.catalogue(home, samples, contents)
