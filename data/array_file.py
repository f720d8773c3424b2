"""Arrays larger than memory should hold: opened in the files where they lie, and sent as the names of these."""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.input_error import InputError


@dataclass(frozen=True, kw_only=True)
class ArrayFile:
    """What is sent in place of an array's numbers. path: of an .npy file; shape: of the array in it."""

    path: Path
    shape: tuple[int, ...]


def open_array(path: Path) -> npt.NDArray[np.uint8]:
    """The array uint8 in an .npy file, read-only, none of it read yet: a `numpy.memmap`.

    Raises OSError or ValueError when the file is not there, is cut short or holds something else.
    """
    array: npt.NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    if array.dtype != np.uint8:
        raise ValueError(f"{path} holds {array.dtype}, not bytes")
    return array


def to_send(value: object) -> object:
    """A mapped array as its `ArrayFile`, anything else as it is."""
    if not isinstance(value, np.memmap):
        return value
    assert isinstance(value.base, mmap.mmap), "a part of a mapped array has no file of its own"
    return ArrayFile(path=Path(str(value.filename)), shape=value.shape)


def as_received(value: object) -> object:
    """What `to_send` was given. Raises InputError when the file is not on this machine."""
    if not isinstance(value, ArrayFile):
        return value
    try:
        array = open_array(value.path)
        if array.shape != value.shape:
            raise ValueError(f"its shape is {array.shape}, not {value.shape}")
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise InputError(
            f"prepared data {str(value.path)!r} cannot be opened on this machine ({reason}): set UNET_SEARCH_CACHE to "
            "a folder that all machines share, and start again."
        ) from error
    return array
