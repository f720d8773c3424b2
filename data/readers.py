"""The table of data sets that are known by name, and the one way to load any data: `load`."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from data.cache import cache_folder
from data.catalogue import Catalogue
from data.folder import read_folder
from data.input_error import InputError, unknown_name
from data.layouts.camvid import read_camvid
from data.layouts.chase_db1 import read_chase_db1
from data.layouts.diaretdb1 import read_diaretdb1
from data.layouts.diaretdb1_article import read_diaretdb1_article
from data.layouts.drive import read_drive
from data.layouts.idrid import read_idrid
from data.layouts.oxford_pet import read_oxford_pet
from data.layouts.pascal_voc import read_pascal_voc
from data.layouts.stare import read_stare
from data.layouts.wbc import read_wbc
from data.prepare import prepare
from data.segmentation_data import Preparation, SegmentationData
from data.synthetic import read_synthetic

# Drawn data: no folder needed.
DRAWN: dict[str, Callable[[], Catalogue]] = {
    "synthetic": partial(read_synthetic, lesions=False),
    "synthetic-lesions": partial(read_synthetic, lesions=True),
}
# Data in the layout of its owner, looked for in the folder `--data-root`.
OWNED: dict[str, Callable[[Path], Catalogue]] = {
    "camvid": read_camvid,
    "chasedb1": read_chase_db1,
    "chasedb1-second": partial(read_chase_db1, observer="second"),
    "diaretdb1": read_diaretdb1,
    "diaretdb1-article": read_diaretdb1_article,
    "diaretdb1-red-bright": partial(read_diaretdb1, classes="colors"),
    "drive": read_drive,
    "idrid": read_idrid,
    "oxford-pet": read_oxford_pet,
    "pascal-voc": read_pascal_voc,
    "stare": read_stare,
    "stare-second": partial(read_stare, observer="second"),
    "wbc": read_wbc,
}


def load(data: str, *, root: Path | None = None, preparation: Preparation | None = None) -> SegmentationData:
    """The prepared pictures of a data set.

    data: a name in the tables above, or a folder of images/ and masks/ (a name wins over a folder).
    root: where the files of a named data set lie; a relative folder is looked for there too.
    preparation: what is done to them; by default as `Preparation` says.

    Raises InputError for a name that is not known and is no folder, and for data that cannot be used.
    """
    return prepare(find(data, root=root), preparation or Preparation(), cache_folder())


def find(data: str, *, root: Path | None = None) -> Catalogue:
    """The catalogue of a data set by name or folder. Raises InputError as `load` does."""
    try:
        return _find(data, root)
    except OSError as error:
        raise InputError(
            f"{str(error.filename or data)!r} cannot be read ({error.strerror or error}): see to it that you may read "
            f"all of data {data!r}."
        ) from error


def _find(data: str, root: Path | None) -> Catalogue:
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
