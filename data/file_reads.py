"""Reads of arrays that lie in files: fetched in one go, and let go of before they fill the memory."""

import mmap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.segmentation_data import SegmentationData

# Pages of the files that a process holds at most, in bytes, before it gives them back: far less than a training needs
# besides, and far more than giving back costs time. They stay in the system's cache for as long as there is room.
HELD = 2**27


@dataclass(frozen=True)
class _File:
    """Planes of pictures in a file: the bytes of each step, from the file's first mapped byte on."""

    pages: mmap.mmap
    start: int
    picture: int
    plane: int
    row: int


class FileReads:
    """Minds what is read of those arrays of the data that are mapped files; used by one thread at a time."""

    def __init__(self, data: SegmentationData) -> None:
        rows_at = ((data.images, 1), (data.masks, 2), (data.valid, 1))
        self._files = [_file_of(array, axis) for array, axis in rows_at if isinstance(array, np.memmap)]
        self._held = 0

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._files)

    def announce(self, pieces: Sequence[tuple[int, int]], height: int) -> None:
        """Has the files read for pieces, each a (picture, first row) of so many rows, all at once.

        What is not announced comes page by page, each with megabytes around it that nobody asked for.
        """
        for file in self._files:
            length = height * file.row
            for picture, top in pieces:
                first = file.start + picture * file.picture + top * file.row
                for begin in range(first, first + file.picture, file.plane):
                    page = begin - begin % mmap.PAGESIZE
                    file.pages.madvise(mmap.MADV_WILLNEED, page, begin + length - page)
                    self._held += length

    def let_go(self) -> None:
        """Gives the pages back that were read, once they are many; whoever reads them again finds them again."""
        if self._held > HELD:
            for file in self._files:
                file.pages.madvise(mmap.MADV_DONTNEED)
            self._held = 0


def _file_of(array: np.memmap[Any, np.dtype[np.uint8]], rows_at: int) -> _File:
    """The file of pictures that lie along the first axis, their rows along the axis `rows_at`."""
    assert array.flags.c_contiguous
    pages: mmap.mmap = array._mmap  # type: ignore[attr-defined]  # numpy's only way to it
    return _File(
        pages=pages,
        start=array.ctypes.data - np.frombuffer(pages, np.uint8).ctypes.data,
        picture=array.strides[0],
        plane=array.strides[rows_at - 1],
        row=array.strides[rows_at],
    )
