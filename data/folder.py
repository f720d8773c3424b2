"""Reads a plain folder: `images/` beside `masks/`, with or without `train/`, `validation/` and `test/` above them."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from data.catalogue import (
    INDEX,
    Catalogue,
    Contents,
    Sample,
    map_in_threads,
    planes_by_file,
    planes_by_value,
)
from data.input_error import InputError
from data.pictures import is_lossy, list_pictures, picture_stem, read_index
from data.segmentation_data import MULTICLASS, MULTILABEL, LabelMode, Part

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
CLASSES_FILE = "classes.txt"
BACKGROUND = "background"

# More different values than this, and nobody meant them all as classes.
_MOST_VALUES = 32
# How many names or values a message shows before it says how many there are.
_SHOWN = 5


def read_folder(root: Path) -> Catalogue:
    """The catalogue of a folder laid out as `LAYOUT` says.

    Masks directly in `masks/` are index masks: every value is a class but the background, which is 0 or, where no
    mask holds a 0, the smallest value. A file `classes.txt` in the folder may name the values, one a line: `128
    cytoplasm`. One class makes the data multilabel (binary), several make it multiclass. Masks in `masks/<class>/`
    are grey or 0/1 and make it multilabel; a picture that has no file there has none of that class.

    Raises InputError for a folder that is empty or laid out otherwise, and for images and masks that do not pair.
    """
    if not root.is_dir():
        raise InputError(f"{str(root)!r} is no folder: name one that holds {LAYOUT}.")
    homes = _find_homes(root)
    class_folders = {part: _class_folders(home) for part, home in homes.items()}
    if len({bool(folders) for folders in class_folders.values()}) == 2:
        raise InputError(f"folder {str(root)!r} has masks/<class>/ in one part and plain masks/ in another: use one.")
    samples = [sample for part, home in homes.items() for sample in _pair(home, part, class_folders[part])]
    classes_file = root / CLASSES_FILE
    class_names = tuple(sorted({name for folders in class_folders.values() for name in folders}))
    if class_names:
        if classes_file.exists():
            raise InputError(
                f"{str(classes_file)!r} names mask values, but masks/ has a folder for each class: remove the one or "
                "the other."
            )
        contents = partial(planes_by_file, class_names, MULTILABEL)
    else:
        contents = partial(_open_index_masks, root, tuple(sample.masks[INDEX] for sample in samples))
    return Catalogue(
        source=str(root.resolve()),
        samples=_with_unique_names(samples),
        open=contents,
        declarations=(classes_file,) if classes_file.exists() else (),
    )


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
            raise InputError(f"folder {str(home / 'images')!r} holds no picture: put PNG, JPEG, TIFF, BMP... there.")
    return homes


def _class_folders(home: Path) -> dict[str, Path]:
    """Class name -> its folder below `masks/`; none when the masks lie there directly."""
    masks = home / "masks"
    folders = {path.name: path for path in sorted(masks.iterdir()) if path.is_dir() and path.name[0] not in "._"}
    if folders and list_pictures(masks):
        raise InputError(
            f"folder {str(masks)!r} holds both masks and folders ({_some(folders)}): use index masks directly in it, "
            "or one folder a class."
        )
    return folders


def _pair(home: Path, part: Part | None, class_folders: Mapping[str, Path]) -> list[Sample]:
    """The samples of one `images/` folder, each with its masks."""
    images = _by_stem(home / "images")
    mask_folders = class_folders or {INDEX: home / "masks"}
    masks = {name: _by_stem(folder) for name, folder in mask_folders.items()}
    masked = {stem for by_stem in masks.values() for stem in by_stem}
    if without_mask := sorted(images.keys() - masked):
        raise InputError(
            f"{len(without_mask)} of {len(images)} images in {str(home / 'images')!r} without mask: "
            f"{_some(without_mask)}; a mask must have its image's name and lie in {str(home / 'masks')!r}"
            f"{' in the folder of a class' if class_folders else ''}."
        )
    if without_image := sorted(masked - images.keys()):
        raise InputError(
            f"{len(without_image)} of {len(masked)} masks in {str(home / 'masks')!r} without image: "
            f"{_some(without_image)}; remove them or add images of the same name to {str(home / 'images')!r}."
        )
    return [
        Sample(
            name=stem,
            image=images[stem],
            masks={name: by_stem[stem] for name, by_stem in masks.items() if stem in by_stem},
            part=part,
        )
        for stem in sorted(images)
    ]


def _by_stem(folder: Path) -> dict[str, Path]:
    """Name without suffix -> picture file. Raises InputError when two files share one."""
    found: dict[str, Path] = {}
    for path in list_pictures(folder):
        stem = picture_stem(path)
        if stem in found:
            raise InputError(f"{str(found[stem])!r} and {str(path)!r} differ only in their format: remove one.")
        found[stem] = path
    return found


def _with_unique_names(samples: list[Sample]) -> tuple[Sample, ...]:
    """The samples by name; each name gets its part in front where two parts share one."""
    if len({sample.name for sample in samples}) == len(samples):
        return tuple(sorted(samples, key=lambda sample: sample.name))
    renamed = [
        Sample(name=f"{sample.part}_{sample.name}", image=sample.image, masks=sample.masks, part=sample.part)
        for sample in samples
    ]
    return tuple(sorted(renamed, key=lambda sample: sample.name))


def _open_index_masks(root: Path, masks: tuple[Path, ...]) -> Contents:
    """The classes that the values of the masks stand for, declared in the classes file or found."""
    values_of = dict(zip(masks, map_in_threads(_values_in, masks), strict=True))
    found = sorted({value for values in values_of.values() for value in values})
    declared = _read_declared(root / CLASSES_FILE)
    if declared is not None:
        classes = {value: name for value, name in declared.items() if name != BACKGROUND}
        undeclared = [value for value in found if value not in declared and value != 0]
        if undeclared:
            guilty = next(path for path, values in values_of.items() if undeclared[0] in values)
            raise InputError(
                f"mask values {_some(undeclared)} are not in {str(root / CLASSES_FILE)!r} (the first is in "
                f"{str(guilty)!r}): add a line for each, such as `{undeclared[0]} name`, or mend the masks."
            )
    else:
        _refuse_nonsense(root, values_of, found)
        background = 0 if 0 in found else found[0]
        values = [value for value in found if value != background]
        classes = {values[0]: "foreground"} if len(values) == 1 else {value: f"class_{value}" for value in values}
    if not classes:
        raise InputError(
            f"the masks in {str(root)!r} hold no value but {_some(found)}, so there is no class to learn: give the "
            "pixels of each class a value of their own."
        )
    mode: LabelMode = MULTILABEL if len(classes) == 1 else MULTICLASS
    return planes_by_value(classes, mode)


def _values_in(path: Path) -> tuple[int, ...]:
    return tuple(int(value) for value in np.unique(read_index(path)))


def _refuse_nonsense(root: Path, values_of: Mapping[Path, tuple[int, ...]], found: list[int]) -> None:
    """Raises InputError when values that nobody declared cannot all be meant as classes."""
    remedy = (
        "save the masks without loss (PNG) with one value a class, name the values in a file "
        f"{CLASSES_FILE} (lines like `255 name`), or put grey masks into masks/<class>/"
    )
    for path, values in values_of.items():
        if is_lossy(path) and len(values) > 2:
            raise InputError(f"mask {str(path)!r} holds the values {_some(values)}, blurred by its format: {remedy}.")
    if len(found) > _MOST_VALUES:
        raise InputError(f"the masks in {str(root)!r} hold the values {_some(found)}, too many for classes: {remedy}.")


def _read_declared(path: Path) -> dict[int, str] | None:
    """Mask value -> class name, from lines such as `128 cytoplasm`; None without the file."""
    if not path.exists():
        return None
    declared: dict[int, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        words = line.partition("#")[0].split(maxsplit=1)
        if not words:
            continue
        value, name = words[0], words[-1].strip()
        if len(words) != 2 or not value.isdecimal():
            raise InputError(
                f"line {number} of {str(path)!r} is {line!r}: write a mask value and a name, `128 nucleus`."
            )
        if int(value) in declared or name in declared.values():
            raise InputError(f"line {number} of {str(path)!r} repeats {line!r}: give each value one name of its own.")
        declared[int(value)] = name
    return declared


def _some(names: Iterable[object]) -> str:
    """The first few, and how many there are when that is not all."""
    everything = [str(name) for name in names]
    shown = ", ".join(everything[:_SHOWN])
    return shown if len(everything) <= _SHOWN else f"{shown}, ... ({len(everything)} in all)"
