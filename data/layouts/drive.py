"""Reads DRIVE: forty retinas with their vessels and fields of view."""

import logging
from functools import partial
from pathlib import Path

from data.catalogue import Catalogue, Sample, planes_by_file
from data.layouts.layout import Layout, find_pictures, require_pairs
from data.segmentation_data import MULTILABEL, Part

log = logging.getLogger(__name__)

LAYOUT = Layout(
    source="drive",
    homes=("drive", "DRIVE"),
    landmarks=("training/images/", "training/1st_manual/", "training/mask/"),
    shown=(
        "training/images/21_training.tif, training/1st_manual/21_manual1.gif, training/mask/21_training_mask.gif, and "
        "test/ likewise"
    ),
    origin="the DRIVE challenge's page",
)
_FOLDERS: dict[Part, str] = {"train": "training", "test": "test"}


def read_drive(root: Path) -> Catalogue:
    """DRIVE with the vessels of its first observer and the owner's field of view, from `root` or `root/drive`.

    Its challenge hands out the test images without their vessels. These cannot be judged, so they are left out, and
    the log says so.

    Raises InputError when the folders are not there, or when an image lacks its vessels or its field of view.
    """
    home = LAYOUT.find_home(root)
    samples = []
    for part, folder in _FOLDERS.items():
        inside = home / folder
        if part == "test" and not (inside / "1st_manual").is_dir():
            if inside.is_dir():
                log.warning("drive: the images in %s are left out, for there is no 1st_manual/ to judge by", inside)
            continue
        images = find_pictures(inside / "images", r"\d+", f"{{}}_{folder}.tif")
        pairs = {
            kind: find_pictures(inside / kind, r"\d+", named)
            for kind, named in (("1st_manual", "{}_manual1.gif"), ("mask", f"{{}}_{folder}_mask.gif"))
        }
        require_pairs(images, pairs["1st_manual"], inside / "1st_manual", "{}_manual1.gif")
        require_pairs(images, pairs["mask"], inside / "mask", f"{{}}_{folder}_mask.gif")
        samples += [
            Sample(
                name=f"{number}_{folder}",
                image=image,
                masks={"vessel": pairs["1st_manual"][number]},
                field_of_view=pairs["mask"][number],
                part=part,
            )
            for number, image in images.items()
        ]
    return LAYOUT.catalogue(home, samples, partial(planes_by_file, ("vessel",), MULTILABEL))
