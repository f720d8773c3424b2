"""Writes a data set as a plain folder of pictures and masks: `python -m data.convert synthetic my-pictures`."""

import sys
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image

from data.classes_file import CLASSES_FILE
from data.command_line import run_command
from data.folder import FIELD_OF_VIEW_FOLDERS
from data.groups_file import GROUPS_FILE, write_groups
from data.input_error import InputError
from data.readers import load
from data.replacing import new_folder
from data.segmentation_data import MULTICLASS, Preparation, SegmentationData

# Values of 8 bits, but for the background.
_MOST_CLASSES = 255


def write_folder(data: SegmentationData, folder: Path) -> None:
    """Writes data of native size as images/ and masks/, in a folder for each part where the data's owner named parts.

    "multiclass" data get one mask of class values a picture and a file that names the values; others one folder of
    black and white masks a class. Where pixels do not count, every picture gets a mask of its field of view; where
    patients are known, a file says which pictures are whose. Raises InputError for more exclusive classes than the
    masks have values.
    """
    if data.label_mode == MULTICLASS and len(data.class_names) > _MOST_CLASSES:
        raise InputError(
            f"data {data.source!r} has {len(data.class_names)} classes that exclude each other, and masks of 8 bits "
            f"tell {_MOST_CLASSES}: leave classes out."
        )
    partly_valid = not all(data.valid[index, :height, :width].all() for index, (height, width) in enumerate(data.sizes))
    for index, (name, part, (height, width)) in enumerate(zip(data.names, data.parts, data.sizes, strict=True)):
        inside = folder / part if part is not None else folder
        image = data.images[index, :height, :width]
        planes = data.masks[index, :, :height, :width]
        _save(image if data.channels == 3 else image[..., 0], inside / "images" / f"{name}.png")
        if partly_valid:
            _save(data.valid[index, :height, :width] * np.uint8(255), inside / FIELD_OF_VIEW_FOLDERS[0] / f"{name}.png")
        if data.label_mode == MULTICLASS:
            values = (planes * np.arange(1, len(planes) + 1)[:, None, None]).max(axis=0).astype(np.uint8)
            _save(values, inside / "masks" / f"{name}.png")
            continue
        for class_name, plane in zip(data.class_names, planes, strict=True):
            _save(plane * np.uint8(255), inside / "masks" / class_name / f"{name}.png")
    if data.label_mode == MULTICLASS:
        lines = [f"{value} {name}\n" for value, name in enumerate(data.class_names, start=1)]
        (folder / CLASSES_FILE).write_text("".join(lines), encoding="utf-8")
    if groups := {name: group for name, group in zip(data.names, data.groups, strict=True) if group is not None}:
        write_groups(groups, folder / GROUPS_FILE)


def main(
    data: Annotated[str, "name of a data set, or folder of images/ and masks/"],
    folder: Annotated[Path, "new folder to write to"],
    *,
    data_root: Annotated[Path | None, "folder that holds the named data sets"] = None,
) -> None:
    """Write a data set as a plain folder of pictures and masks: the layout to imitate for your own."""
    loaded = load(data, root=data_root, preparation=Preparation(size="native"))
    try:
        with new_folder(folder) as draft:
            write_folder(loaded, draft)
    except FileExistsError:
        raise InputError(f"folder {str(folder)!r} exists: name a new one.") from None
    except OSError as error:
        raise InputError(f"folder {str(folder)!r} cannot be written ({error.strerror}): name another.") from error
    print(f"{len(loaded.names)} pictures with masks in {folder}; search them: python -m search.run --data {folder}")


def _save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


if __name__ == "__main__":
    sys.exit(run_command(main))
