"""Reads the segmentation part of Pascal VOC 2012 through torchvision: twenty classes of things."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from data.catalogue import Catalogue, planes_by_value
from data.layouts.layout import Layout, read_lists
from data.segmentation_data import MULTICLASS, Part

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
OUTLINE = 255
_FOLDER = "VOCdevkit/VOC2012"
LAYOUT = Layout(
    source="pascal-voc",
    homes=("pascal-voc",),
    landmarks=(f"{_FOLDER}/JPEGImages/", f"{_FOLDER}/SegmentationClass/", f"{_FOLDER}/ImageSets/Segmentation/"),
    shown=(
        f"{_FOLDER}/JPEGImages/2007_000032.jpg, {_FOLDER}/SegmentationClass/2007_000032.png and "
        f"{_FOLDER}/ImageSets/Segmentation/{{train,val}}.txt"
    ),
    origin="the Pascal VOC challenge's page, or torchvision.datasets.VOCSegmentation(download=True)",
)
_LISTS: dict[Part, str] = {"train": "train", "validation": "val"}


def read_pascal_voc(root: Path) -> Catalogue:
    """The images of the owner's lists, from `root` or `root/pascal-voc`; the outlines of things do not count.

    Raises InputError when folders or lists are not there, or when a listed image or its mask is missing.
    """
    from torchvision.datasets import VOCSegmentation

    home = LAYOUT.find_home(root)

    def read(name: str) -> tuple[Iterable[Path], Iterable[Path]]:
        scenes = VOCSegmentation(home, year="2012", image_set=name)
        return map(Path, scenes.images), map(Path, scenes.masks)

    lists = {part: home / _FOLDER / "ImageSets" / "Segmentation" / f"{name}.txt" for part, name in _LISTS.items()}
    samples = read_lists(LAYOUT, lists, read)
    classes = dict(enumerate(CLASSES, start=1))
    contents = partial(planes_by_value, classes, MULTICLASS, ignored=(OUTLINE,), background=(0,))
    return LAYOUT.catalogue(home, samples, contents)
