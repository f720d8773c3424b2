"""Reads the Oxford-IIIT Pet set through torchvision: cats and dogs, cut out of their background."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from data.catalogue import Catalogue, planes_by_value
from data.layouts.layout import Layout, read_lists
from data.segmentation_data import MULTILABEL, Part

# The values of the owner's masks; the outline may be either.
PET, BACKGROUND, OUTLINE = 1, 2, 3
_FOLDER = "oxford-iiit-pet"
LAYOUT = Layout(
    source="oxford-pet",
    homes=("oxford-pet",),
    landmarks=(f"{_FOLDER}/images/", f"{_FOLDER}/annotations/"),
    shown=f"{_FOLDER}/images/Abyssinian_1.jpg and {_FOLDER}/annotations/{{trainval.txt,test.txt,trimaps/}}",
    origin="the Oxford-IIIT Pet page, or torchvision.datasets.OxfordIIITPet(download=True)",
)
_LISTS: dict[Part, str] = {"train": "trainval", "test": "test"}


def read_oxford_pet(root: Path) -> Catalogue:
    """The pets of the owner's lists, from `root` or `root/oxford-pet`; their outlines do not count.

    Raises InputError when folders or lists are not there, or when a listed image or its mask is missing.
    """
    from torchvision.datasets import OxfordIIITPet

    home = LAYOUT.find_home(root)

    def read(name: str) -> tuple[Iterable[Path], Iterable[Path]]:
        pets = OxfordIIITPet(home, split=name, target_types="segmentation")
        return map(Path, pets._images), map(Path, pets._segs)

    lists = {part: home / _FOLDER / "annotations" / f"{name}.txt" for part, name in _LISTS.items()}
    samples = read_lists(LAYOUT, lists, read)
    contents = partial(planes_by_value, {PET: "pet"}, MULTILABEL, ignored=(OUTLINE,), background=(BACKGROUND,))
    return LAYOUT.catalogue(home, samples, contents)
