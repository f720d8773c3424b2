"""Reads the public sets of retina photographs in the layouts that their owners serve."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from data.catalogue import Catalogue, Sample, planes_by_file
from data.input_error import InputError
from data.segmentation_data import MULTILABEL, Part

# The article's ten training images, two of them kept to choose by, and its ten test images.
_STARE_PARTS: Mapping[Part, tuple[str, ...]] = {
    "train": ("im0001", "im0002", "im0003", "im0004", "im0005", "im0044", "im0077", "im0081"),
    "validation": ("im0082", "im0139"),
    "test": (
        "im0162",
        "im0163",
        "im0235",
        "im0236",
        "im0239",
        "im0240",
        "im0255",
        "im0291",
        "im0319",
        "im0324",
    ),
}


def read_stare(root: Path) -> Catalogue:
    """STARE's twenty retinas with the vessels of its first observer, from `root` or `root/stare`.

    Pictures of the owner's list that are not there are left out. Raises InputError when none is there, or when one
    lacks its mask.
    """
    home = _find_home(
        root, "stare", "stare-images/im0001.ppm.gz and labels-ah/im0001.ah.ppm.gz", ("stare-images", "labels-ah")
    )
    samples = []
    for part, names in _STARE_PARTS.items():
        for name in names:
            image = _packed_or_not(home / "stare-images" / f"{name}.ppm")
            mask = _packed_or_not(home / "labels-ah" / f"{name}.ah.ppm")
            if image is None:
                continue
            if mask is None:
                raise InputError(f"image {str(image)!r} without mask: {name}.ah.ppm.gz is missing in labels-ah/.")
            samples.append(Sample(name=name, image=image, masks={"vessel": mask}, part=part))
    if not samples:
        raise InputError(f"folder {str(home / 'stare-images')!r} holds none of STARE's images: unpack them there.")
    return Catalogue(
        source="stare",
        samples=tuple(sorted(samples, key=lambda sample: sample.name)),
        open=partial(planes_by_file, ("vessel",), MULTILABEL),
    )


def _find_home(root: Path, name: str, layout: str, folders: tuple[str, ...]) -> Path:
    """`root/name` or `root`, whichever has the owner's folders. Raises InputError when neither has."""
    for home in (root / name, root):
        if all((home / folder).is_dir() for folder in folders):
            return home
    raise InputError(
        f"data {name!r} is not in {str(root)!r}: --data-root must name the folder that holds {layout}, directly or in "
        f"{name}/."
    )


def _packed_or_not(path: Path) -> Path | None:
    """The file, gzipped or not, or None when there is neither."""
    for candidate in (path.with_name(path.name + ".gz"), path):
        if candidate.is_file():
            return candidate
    return None
