"""The table of data sets that are known by name, and the one way to load any data: `load`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from data.catalogue import Catalogue
from data.folder import read_folder
from data.input_error import InputError, unknown_name
from data.prepare import cache_folder, prepare
from data.retina import read_stare
from data.segmentation_data import Preparation, SegmentationData
from data.synthetic import read_synthetic

# Drawn data: no folder needed.
DRAWN: dict[str, Callable[[], Catalogue]] = {
    "synthetic": partial(read_synthetic, lesions=False),
    "synthetic-lesions": partial(read_synthetic, lesions=True),
}
# Data in the layout of its owner, looked for in the folder `--data-root`.
OWNED: dict[str, Callable[[Path], Catalogue]] = {
    "stare": read_stare,
}


def load(data: str, *, root: Path | None = None, preparation: Preparation | None = None) -> SegmentationData:
    """The prepared pictures of a data set.

    data: a name in the tables above, or a folder of images/ and masks/ (a name wins over a folder).
    root: where the files of a named data set lie; a relative folder is looked for there too.
    preparation: size, colour and threshold; by default native size and RGB.

    Raises InputError for a name that is not known and is no folder, and for data that cannot be used.
    """
    return prepare(find(data, root=root), preparation or Preparation(), cache_folder())


def find(data: str, *, root: Path | None = None) -> Catalogue:
    """The catalogue of a data set by name or folder. Raises InputError as `load` does."""
    if data in DRAWN:
        return DRAWN[data]()
    if data in OWNED:
        if root is None:
            raise InputError(f"data {data!r} needs --data-root: the folder that holds it.")
        if not root.is_dir():
            raise InputError(f"--data-root {str(root)!r} is no folder: name the folder that holds {data!r}.")
        return OWNED[data](root)
    if not data:
        raise InputError(f"data is empty: name a folder of images/ and masks/, or one of {_names()}.")
    for folder in (Path(data).expanduser(), *((root / data,) if root is not None else ())):
        if folder.exists():
            return read_folder(folder)
    if "/" in data or "\\" in data:
        raise InputError(f"data {data!r} does not exist: name a folder of images/ and masks/, or one of {_names()}.")
    unknown = unknown_name("data", data, (*DRAWN, *OWNED))
    raise InputError(f"{unknown} A folder of images/ and masks/ works too, but there is none of that name.")


def _names() -> str:
    return ", ".join((*DRAWN, *OWNED))
