"""Reads a plain folder: `images/` beside `masks/`, with or without `train/`, `validation/` and `test/` above them."""

import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from data.catalogue import INDEX, Catalogue, Sample, planes_by_file
from data.classes_file import CLASSES_FILE, read_classes_file
from data.folder_masks import name_some, open_masks
from data.groups_file import GROUPS_FILE, with_groups
from data.input_error import InputError
from data.links import refuse_links_out
from data.pictures import SUFFIXES, list_pictures, picture_stem, picture_suffix
from data.segmentation_data import MULTILABEL, Part

LAYOUT = (
    "images/ with the pictures and masks/ with a mask of the same name for each (or masks/<class>/ with a mask for "
    "each class), directly in it or in train/, validation/ and test/"
)
PART_FOLDERS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
    "testing": "test",
}
# The folders, beside images/ and masks/, of masks that are bright where pixels count.
FIELD_OF_VIEW_FOLDERS = ("field_of_view", "fov")


def read_folder(root: Path) -> Catalogue:
    """The catalogue of a folder laid out as `LAYOUT` says.

    Masks directly in `masks/` tell all classes at once, by values, colours or planes: see `open_masks`. A file
    `classes.txt` in the folder may name these: see `read_classes_file`. Masks in `masks/<class>/` are grey or 0/1 and
    make the data multilabel; a picture that has no file there has none of that class. A folder `field_of_view/` (or
    `fov/`) beside `images/` holds masks that are white where pixels count. A file `groups.txt` may say which pictures
    are of one patient: see `with_groups`.

    Names pair however their accents are written. Raises InputError for a folder that is empty or laid out otherwise,
    for images and masks that do not pair, and for links that lead out of the folder.
    """
    if not root.is_dir():
        raise InputError(f"{str(root)!r} is no folder: name one that holds {LAYOUT}.")
    homes = _find_homes(root)
    class_folders = {part: _class_folders(home) for part, home in homes.items()}
    if len({bool(folders) for folders in class_folders.values()}) == 2:
        raise InputError(f"folder {str(root)!r} has masks/<class>/ in one part and plain masks/ in another: use one.")
    samples = _with_unique_names(
        [sample for part, home in homes.items() for sample in _pair(home, part, class_folders[part])]
    )
    classes_file = root / CLASSES_FILE
    groups_file = root / GROUPS_FILE
    refuse_links_out(root, (classes_file, groups_file, *(path for sample in samples for path in sample.files)))
    samples = with_groups(samples, groups_file)
    declarations = tuple(path for path in (classes_file, groups_file) if path.exists())
    class_names = tuple(sorted({name for folders in class_folders.values() for name in folders}))
    if class_names:
        if classes_file in declarations:
            raise InputError(
                f"{str(classes_file)!r} names mask values, but masks/ has a folder for each class: remove the one or "
                "the other."
            )
        contents = partial(planes_by_file, class_names, MULTILABEL)
    else:
        contents = partial(open_masks, root, samples, read_classes_file(classes_file))
    return Catalogue(source=str(root.resolve()), samples=samples, open=contents, declarations=declarations)


def _find_homes(root: Path) -> dict[Part | None, Path]:
    """The folders that hold `images/`, by the part they stand for."""
    homes: dict[Part | None, Path] = {}
    if (root / "images").is_dir():
        homes[None] = root
    for path in sorted(path for path in root.iterdir() if path.is_dir()):
        part = PART_FOLDERS.get(path.name.lower())
        if part is None or not (path / "images").is_dir():
            continue
        if None in homes or part in homes:
            other = homes[None if None in homes else part]
            raise InputError(f"{str(other / 'images')!r} and {str(path / 'images')!r} exclude each other: keep one.")
        homes[part] = path
    if not homes:
        lack = "has no images/" if any(root.iterdir()) else "is empty"
        raise InputError(f"folder {str(root)!r} {lack}: it must hold {LAYOUT}.")
    for home in homes.values():
        if not (home / "masks").is_dir():
            raise InputError(f"folder {str(home)!r} has images/ but no masks/: it must hold {LAYOUT}.")
        if not list_pictures(home / "images"):
            raise InputError(
                f"folder {str(home / 'images')!r} holds no picture: put PNG, JPEG, TIFF, BMP... there"
                f"{_not_read(home / 'images')}."
            )
    return homes


def _class_folders(home: Path) -> dict[str, Path]:
    """Class name -> its folder below `masks/`; none when the masks lie there directly."""
    masks = home / "masks"
    folders = {
        _composed(path.name): path for path in sorted(masks.iterdir()) if path.is_dir() and path.name[0] not in "._"
    }
    if folders and list_pictures(masks):
        raise InputError(
            f"folder {str(masks)!r} holds both masks and folders ({name_some(folders)}): use index masks directly in "
            "it, or one folder a class."
        )
    return folders


def _pair(home: Path, part: Part | None, class_folders: Mapping[str, Path]) -> list[Sample]:
    """The samples of one `images/` folder, each with its masks."""
    images = _by_name(home / "images")
    mask_folders = class_folders or {INDEX: home / "masks"}
    masks = {name: _by_name(folder) for name, folder in mask_folders.items()}
    masked = {name for by_name in masks.values() for name in by_name}
    if without_mask := sorted(images.keys() - masked):
        raise InputError(
            f"{len(without_mask)} of {len(images)} images in {str(home / 'images')!r} without mask: "
            f"{name_some(without_mask)}; a mask must have its image's name and lie in {str(home / 'masks')!r}"
            f"{' in the folder of a class' if class_folders else ''}{_not_read(*mask_folders.values())}."
        )
    if without_image := sorted(masked - images.keys()):
        raise InputError(
            f"{len(without_image)} of {len(masked)} masks in {str(home / 'masks')!r} without image: "
            f"{name_some(without_image)}; remove them or add images of the same name to {str(home / 'images')!r}"
            f"{_not_read(home / 'images')}."
        )
    fields_of_view = _fields_of_view(home, images)
    return [
        Sample(
            name=name,
            image=images[name],
            masks={class_name: by_name[name] for class_name, by_name in masks.items() if name in by_name},
            field_of_view=fields_of_view.get(name),
            part=part,
        )
        for name in sorted(images)
    ]


def _fields_of_view(home: Path, images: Mapping[str, Path]) -> dict[str, Path]:
    """The masks of the field of view by name: none, or one for every image."""
    folders = [home / name for name in FIELD_OF_VIEW_FOLDERS if (home / name).is_dir()]
    if not folders:
        return {}
    if len(folders) > 1:
        raise InputError(f"{str(folders[0])!r} and {str(folders[1])!r} mean the same: keep one.")
    found = _by_name(folders[0])
    if odd := sorted(found.keys() ^ images.keys()):
        raise InputError(
            f"{len(odd)} of {len(images)} images in {str(home / 'images')!r} and of {len(found)} masks in "
            f"{str(folders[0])!r} do not pair: {name_some(odd)}; each image needs the mask of its field of view, white "
            "where pixels count, under its own name."
        )
    return found


def _by_name(folder: Path) -> dict[str, Path]:
    """Name without suffix -> picture file. Raises InputError when two files share one."""
    found: dict[str, Path] = {}
    for path in list_pictures(folder):
        name = _composed(picture_stem(path))
        if name in found:
            raise InputError(
                f"{str(found[name])!r} and {str(path)!r} differ only in their format, or in how an accent is written: "
                "remove one."
            )
        found[name] = path
    return found


def _composed(name: str) -> str:
    """The name with each accent and its letter as one sign: computers differ in how they store them."""
    return unicodedata.normalize("NFC", name)


def _not_read(*folders: Path) -> str:
    """A word on the files that were left out because of their format, or nothing where there are none."""
    left_out = {
        path.suffix.lower()
        for folder in folders
        for path in folder.iterdir()
        if path.is_file() and picture_suffix(path) is None and not path.name.startswith(".")
    } - {"", ".db", ".ini", ".txt"}
    return f" ({', '.join(sorted(left_out))} files are not read, but {', '.join(SUFFIXES)})" if left_out else ""


def _with_unique_names(samples: list[Sample]) -> tuple[Sample, ...]:
    """The samples by name; each name gets its part in front where two parts share one."""
    if len({sample.name for sample in samples}) == len(samples):
        return tuple(sorted(samples, key=lambda sample: sample.name))
    renamed = [replace(sample, name=f"{sample.part}_{sample.name}") for sample in samples]
    return tuple(sorted(renamed, key=lambda sample: sample.name))
