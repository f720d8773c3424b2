"""Reads the Oxford-IIIT Pet set through torchvision: cats and dogs, cut out of their background."""

from functools import partial
from pathlib import Path

from data.catalogue import INDEX, Catalogue, Sample, planes_by_value
from data.input_error import InputError
from data.layouts.layout import Layout, require_files
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
    samples = []
    for part, name in _LISTS.items():
        listed_in = home / _FOLDER / "annotations" / f"{name}.txt"
        try:
            pets = OxfordIIITPet(home, split=name, target_types="segmentation")
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"list {str(listed_in)!r} cannot be read ({error}): data {LAYOUT.source!r} must hold {LAYOUT.shown}; "
                f"get it from {LAYOUT.origin}."
            ) from error
        images, masks = [Path(path) for path in pets._images], [Path(path) for path in pets._segs]
        require_files(images, masks, listed_in)
        samples += [
            Sample(name=image.stem, image=image, masks={INDEX: mask}, part=part)
            for image, mask in zip(images, masks, strict=True)
        ]
    contents = partial(planes_by_value, {PET: "pet"}, MULTILABEL, ignored=(OUTLINE,), background=(BACKGROUND,))
    return LAYOUT.catalogue(home, samples, contents)
