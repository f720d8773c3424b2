"""Where pictures lie: in memory, in files, on the device; whichever it is, the same pieces come of them."""

import mmap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data import file_reads, windows
from data.file_reads import FileReads
from data.segmentation_data import SegmentationData
from data.windows import HostPictures, Pictures, ResidentPictures, Window, label_channels, pack, place, unpack
from tests.toys import PROPERTY, data_of, put_into_files

CPU = torch.device("cpu")
STATUS = Path("/proc/self/status")


def random_data(count: int = 5, height: int = 24, width: int = 31, classes: int = 2) -> SegmentationData:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (count, height, width, 3), dtype=np.uint8)
    masks = draw.integers(0, 2, (count, classes, height, width), dtype=np.uint8)
    valid = draw.integers(0, 2, (count, height, width), dtype=np.uint8)
    valid[0, height // 2 :] = 0
    return data_of(images, masks, valid)


def on_device(data: SegmentationData, indices: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> Pictures:
    """The pictures as they lie on a device that has room for them."""
    with monkeypatch.context() as patch:
        patch.setattr(windows, "free_memory", lambda _device: 2**40)
        return place(data, indices, CPU)


@given(classes=st.integers(1, 20), height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 99))
@PROPERTY
def test_what_is_packed_is_unpacked(classes: int, height: int, width: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    planes = draw.integers(0, 2, (classes, height, width), dtype=np.uint8)
    valid = draw.integers(0, 2, (height, width), dtype=np.uint8)
    labels = draw.integers(0, 256, (label_channels(classes), height, width), dtype=np.uint8)
    pack(planes, valid, out=labels)
    masks, counted = unpack(torch.from_numpy(labels)[None], classes)
    assert torch.equal(masks[0], torch.from_numpy(planes))
    assert torch.equal(counted[0, 0], torch.from_numpy(valid))


@pytest.mark.parametrize(("classes", "channels"), [(1, 1), (7, 1), (8, 2), (15, 2), (16, 3)])
def test_a_label_channel_holds_eight_planes_one_of_them_the_pixels_that_count(classes: int, channels: int) -> None:
    assert label_channels(classes) == channels


@pytest.mark.parametrize("lies", ["in memory", "in files", "on the device"])
def test_pieces_are_what_stands_there(lies: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_data()
    if lies == "on the device":
        pictures = on_device(data, (4, 1, 0), monkeypatch)
        assert isinstance(pictures, ResidentPictures)
    else:
        pictures = place(put_into_files(data, tmp_path) if lies == "in files" else data, (4, 1, 0), CPU)
        assert isinstance(pictures, HostPictures)
    assert pictures.reads_ahead == (lies == "in files")
    assert len(pictures) == 3
    assert (pictures.height, pictures.width, pictures.channels, pictures.classes) == (24, 31, 3, 2)
    for shape in ((24, 31), (7, 10), (1, 1)):
        corners = [Window(2, 0, 0), Window(0, 24 - shape[0], 31 - shape[1]), Window(1, 0, (31 - shape[1]) // 2)]
        images, labels = pictures.cut(corners, *shape)
        masks, valid = unpack(labels, 2)
        assert images.dtype == labels.dtype == torch.uint8
        assert labels.shape == (3, 1, *shape)
        for slot, (picture, top, left) in enumerate(corners):
            index = (4, 1, 0)[picture]
            rows, columns = slice(top, top + shape[0]), slice(left, left + shape[1])
            assert np.array_equal(images[slot].permute(1, 2, 0), data.images[index, rows, columns])
            assert np.array_equal(masks[slot], data.masks[index, :, rows, columns])
            assert np.array_equal(valid[slot, 0], data.valid[index, rows, columns])


def test_facts_are_those_of_the_pictures_chosen() -> None:
    data = random_data()
    pictures = place(data, (3, 0), CPU)
    assert pictures.class_pixels.tolist() == (data.masks & data.valid[:, None])[[3, 0]].sum(axis=(2, 3)).tolist()
    assert pictures.extents[1].tolist() == [12, 31]
    for picture, index in enumerate((3, 0)):
        for plane in range(2):
            rows, columns = pictures.places[picture, plane].T
            assert (data.masks[index, plane] & data.valid[index])[rows, columns].all()


def test_pictures_go_to_a_device_with_room_and_stay_where_they_are_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_data(classes=9)
    size = 2 * 24 * 31 * (3 + 2)
    for free, kind in ((0, HostPictures), (2 * size, HostPictures), (2 * size + 1, ResidentPictures)):
        monkeypatch.setattr(windows, "free_memory", lambda _device, free=free: free)
        assert isinstance(place(data, (0, 1), CPU), kind)


def test_pictures_that_must_not_be_written_to_are_left_alone() -> None:
    data = random_data()
    before = data.images.copy()
    data.images.flags.writeable = data.masks.flags.writeable = data.valid.flags.writeable = False
    images, labels = place(data, (0, 1), CPU).cut([Window(0, 0, 0), Window(1, 0, 0)], 24, 31)
    images.fill_(7)
    labels.fill_(7)
    assert np.array_equal(data.images, before)


class Recorder:
    """Stands for the pages of a file and keeps what is announced of them."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def madvise(self, option: int, start: int, length: int) -> None:
        assert option == mmap.MADV_WILLNEED
        self.asked.append((start, length))


def test_what_is_announced_of_files_are_the_rows_that_are_read_and_no_more(tmp_path: Path) -> None:
    height, width, classes = 150, 200, 2
    data = put_into_files(random_data(4, height, width, classes), tmp_path)
    reads = FileReads(data)
    recorders = [Recorder() for _ in reads._files]
    reads._files = [
        replace(file, pages=recorder)  # type: ignore[arg-type]
        for file, recorder in zip(reads._files, recorders, strict=True)
    ]
    reads.announce([(3, 20), (0, 110)], 40)
    # Bytes of a row, and planes of a picture, in each of the files.
    for recorder, row, planes in zip(recorders, (3 * width, width, width), (1, classes, 1), strict=True):
        wanted = [
            (128 + ((picture * planes + plane) * height + top) * row, 40 * row)
            for picture, top in ((3, 20), (0, 110))
            for plane in range(planes)
        ]
        for (start, length), (begin, size) in zip(recorder.asked, wanted, strict=True):
            assert start % mmap.PAGESIZE == 0
            assert begin - mmap.PAGESIZE < start <= begin
            assert start + length == begin + size


def resident_file_bytes() -> int:
    """How much of mapped files lies in this process's memory."""
    (line,) = (line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith("RssFile"))
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(not STATUS.exists(), reason="only Linux says how much of a process lies in memory")
@pytest.mark.parametrize("gives_back", [True, False])
def test_memory_does_not_grow_with_what_was_read(
    gives_back: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side, count = 512, 96
    monkeypatch.setattr(file_reads, "HELD", 2**23 if gives_back else 2**40)
    shapes = {"images": (count, side, side, 3), "masks": (count, 1, side, side), "valid": (count, side, side)}
    arrays: dict[str, Any] = {}
    for name, shape in shapes.items():
        with (tmp_path / name).open("wb") as file:
            file.truncate(int(np.prod(shape)))
        arrays[name] = np.memmap(tmp_path / name, np.uint8, "r", shape=shape)
    small = data_of(*(np.zeros((count, *one), np.uint8) for one in ((1, 1, 3), (1, 1, 1), (1, 1))))
    pictures = place(replace(small, **arrays), tuple(range(count)), CPU)
    before, most = resident_file_bytes(), 0
    for index in range(count):
        pictures.cut([Window(index, 0, 0)], side, side)
        most = max(most, resident_file_bytes() - before)
    read = sum(array.nbytes for array in arrays.values())
    assert (most < 2**24 + 2**22) if gives_back else (most > read * 0.8)
