"""Reads CHASE_DB1: both retinas of fourteen children, whose vessels two observers have drawn."""

from functools import partial
from pathlib import Path
from typing import Literal

from data.catalogue import Catalogue, Sample, planes_by_file
from data.input_error import InputError
from data.layouts.layout import Layout, find_pictures, require_pairs
from data.segmentation_data import MULTILABEL

# The last child that teaches: of the first seven children, or of all fourteen as most articles have it (20 + 8 images).
_LAST_OF_SEVEN, _LAST_OF_ALL = 5, 10
_KEY = r"Image_\d\d[LR]"
_SOURCES = {"first": "chasedb1", "second": "chasedb1-second"}
_NAMED = {"first": "{}_1stHO.png", "second": "{}_2ndHO.png"}


def read_chase_db1(root: Path, *, observer: Literal["first", "second"] = "first") -> Catalogue:
    """CHASE_DB1 with the vessels of one observer, from `root` or `root/chasedb1`.

    Children 01 to 05 teach and 06 and 07 test; where there are more children, 01 to 10 teach and the rest test. The
    eyes of a child are one group.

    Raises InputError when no image is there, when one lacks its mask, or when only the other observer's are there.
    """
    source, named = _SOURCES[observer], _NAMED[observer]
    layout = Layout(
        source=source,
        homes=("chasedb1", "CHASEDB1", "CHASE_DB1"),
        landmarks=("Image_[0-9][0-9][LR].*",),
        shown=f"Image_01L.jpg and {named.format('Image_01L')}",
        origin="the page of Kingston University's retinal image databases",
    )
    home = layout.find_home(root)
    images = find_pictures(home, _KEY, "{}.jpg")
    masks = find_pictures(home, _KEY, named)
    other: Literal["first", "second"] = "second" if observer == "first" else "first"
    if not masks and find_pictures(home, _KEY, _NAMED[other]):
        raise InputError(
            f"data {source!r} needs the masks of its {observer} observer ({named.format('Image_01L')}), but "
            f"{str(home)!r} holds only those of the {other}: ask for {_SOURCES[other]!r}, or copy the whole set."
        )
    require_pairs(images, masks, home, named)
    children = {name: int(name[-3:-1]) for name in images}
    last = _LAST_OF_SEVEN if max(children.values(), default=0) <= 7 else _LAST_OF_ALL
    samples = [
        Sample(
            name=name,
            image=image,
            masks={"vessel": masks[name]},
            part="train" if children[name] <= last else "test",
            group=f"child {children[name]:02}",
        )
        for name, image in images.items()
    ]
    return layout.catalogue(home, samples, partial(planes_by_file, ("vessel",), MULTILABEL))
