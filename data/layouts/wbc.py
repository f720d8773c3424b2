"""Reads the white blood cells of Zheng and others (2018), the first of their two sets."""

from functools import partial
from pathlib import Path

from data.catalogue import INDEX, Catalogue, Sample, planes_by_value
from data.layouts.layout import Layout, find_pictures, require_pairs
from data.segmentation_data import MULTICLASS

CLASSES = {128: "cytoplasm", 255: "nucleus"}
LAYOUT = Layout(
    source="wbc",
    homes=("wbc", "segmentation_WBC-master", "segmentation_WBC"),
    landmarks=("*/[0-9][0-9][0-9].bmp",),
    shown="images/001.bmp and masks/001.png, or both in Dataset 1/",
    origin="the repository segmentation_WBC of Zheng and others",
)
_OWNERS_FOLDER = "Dataset 1"
_LAST_THAT_TEACHES = 240


def read_wbc(root: Path) -> Catalogue:
    """The 300 blood cells from `root` or `root/wbc`: 001 to 240 teach, 241 to 300 test.

    The owners have images and masks side by side in one folder; a copy with a folder for each does as well.

    Raises InputError when the folders are not there, or when an image lacks its mask.
    """
    home = LAYOUT.find_home(root)
    owners = home / _OWNERS_FOLDER
    image_folder, mask_folder = (owners, owners) if owners.is_dir() else (home / "images", home / "masks")
    images = find_pictures(image_folder, r"\d{3}", "{}.bmp", suffixes=(".bmp",))
    masks = find_pictures(mask_folder, r"\d{3}", "{}.png", suffixes=(".png",))
    require_pairs(images, masks, mask_folder, "{}.png")
    samples = [
        Sample(
            name=name,
            image=image,
            masks={INDEX: masks[name]},
            part="train" if int(name) <= _LAST_THAT_TEACHES else "test",
        )
        for name, image in images.items()
    ]
    return LAYOUT.catalogue(home, samples, partial(planes_by_value, CLASSES, MULTICLASS, background=(0,)))
