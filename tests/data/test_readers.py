"""What every reader must do, and what each does of its own."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data.input_error import InputError
from data.readers import DRAWN, OWNED, find, load
from data.segmentation_data import Preparation, SegmentationData
from data.split import split_data
from tests.data.folders import class_folder, index_folder, some_image, some_mask, stare_folder, write_picture

DATASETS = Path(__file__).parents[3] / "shared" / "datasets"


def parted_folder(root: Path) -> Path:
    for part in ("train", "val", "test"):
        index_folder(root / part, count=2)
    return root


def binary_folder(root: Path) -> Path:
    return index_folder(root, values=(1,))


# What is read, made in a folder: name or None for the folder itself.
SOURCES: dict[str, tuple[str | None, Callable[[Path], Path] | None]] = {
    "index masks": (None, index_folder),
    "binary index masks": (None, binary_folder),
    "class folders": (None, class_folder),
    "parts": (None, parted_folder),
    "stare": ("stare", stare_folder),
    "stare inside": ("stare", lambda root: stare_folder(root / "stare").parent),
    **{name: (name, None) for name in DRAWN},
}


@pytest.fixture(params=SOURCES)
def reading(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Preparation], SegmentationData]:
    name, make = SOURCES[request.param]
    root = make(tmp_path / "made") if make else None
    return lambda preparation: load(name or str(root), root=root if name else None, preparation=preparation)


@pytest.mark.parametrize("preparation", [Preparation(), Preparation(size=16, color="grey")], ids=["native", "small"])
def test_every_reader_keeps_the_contract(
    reading: Callable[[Preparation], SegmentationData], preparation: Preparation
) -> None:
    data = reading(preparation)
    count, height, width, channels = data.images.shape
    assert channels == (3 if preparation.color == "rgb" else 1) == data.channels
    assert (height, width) == (16, 16) if preparation.size else (height, width) == tuple(np.max(data.sizes, axis=0))
    assert data.names == tuple(sorted(data.names)) and len(set(data.names)) == count
    assert set(np.unique(data.masks)) == {0, 1} and set(np.unique(data.valid)) <= {0, 1}
    assert (data.masks & data.valid[:, None]).any(axis=(0, 2, 3)).all(), "every class has a pixel that counts"
    assert data.images.std() > 0
    if data.label_mode == "multiclass":
        assert data.masks.sum(axis=1).max() == 1, "classes exclude each other"
    split = split_data(data)
    assert sorted(split.train + split.validation + split.test) == list(range(count))
    again = reading(preparation)
    np.testing.assert_array_equal(again.images, data.images)
    assert again.fingerprint == data.fingerprint
    assert replace(again, images=data.images, masks=data.masks, valid=data.valid) == data


def test_index_masks_become_planes(tmp_path: Path) -> None:
    for index, values in enumerate([(0, 128, 255), (255, 255, 0)]):
        write_picture(tmp_path / "images" / f"{index}.png", some_image(index, 1, 3))
        write_picture(tmp_path / "masks" / f"{index}.png", np.array([values], np.uint8))
    data = load(str(tmp_path))
    assert data.class_names == ("class_128", "class_255") and data.label_mode == "multiclass"
    np.testing.assert_array_equal(data.masks[:, :, 0], [[[0, 1, 0], [0, 0, 1]], [[0, 0, 0], [1, 1, 0]]])
    np.testing.assert_array_equal(data.images[1], some_image(1, 1, 3))


def test_two_values_are_one_class(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.png", some_image(0, 1, 3))
    write_picture(tmp_path / "masks" / "a.png", np.array([[2, 1, 2]], np.uint8))
    data = load(str(tmp_path))
    assert data.class_names == ("foreground",) and data.label_mode == "multilabel"
    np.testing.assert_array_equal(data.masks[0, 0], [[1, 0, 1]])  # without a 0, the smallest value is background


def test_declared_values_name_the_classes(tmp_path: Path) -> None:
    index_folder(tmp_path)
    (tmp_path / "classes.txt").write_text("# cells\n0 background\n255\tnucleus of it\n\n128   cytoplasm  # pale\n")
    data = load(str(tmp_path))
    assert data.class_names == ("nucleus of it", "cytoplasm")
    np.testing.assert_array_equal(data.masks[0, :, 0, :3], [[0, 1, 0], [1, 0, 0]])


def test_class_folders_become_planes_that_may_overlap(tmp_path: Path) -> None:
    data = load(str(class_folder(tmp_path)))
    assert data.class_names == ("bright", "red") and data.label_mode == "multilabel"
    np.testing.assert_array_equal(data.masks[1, :, 0, :3], [[1, 0, 0], [1, 1, 0]])
    assert not data.masks[0, 1].any(), "a picture without a file in a class's folder has none of it"


def test_grey_class_masks_are_thresholded_and_ones_count_in_full(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "a.png", some_image(0, 1, 4))
    write_picture(tmp_path / "masks" / "grey" / "a.png", np.array([[0, 127, 128, 255]], np.uint8))
    write_picture(tmp_path / "masks" / "ones" / "a.png", np.array([[0, 1, 0, 1]], np.uint8))
    np.testing.assert_array_equal(load(str(tmp_path)).masks[0, :, 0], [[0, 0, 1, 1], [0, 1, 0, 1]])
    low = load(str(tmp_path), preparation=Preparation(mask_threshold=0.1))
    np.testing.assert_array_equal(low.masks[0, :, 0], [[0, 1, 1, 1], [0, 1, 0, 1]])


def test_parts_come_from_folders_and_names_stay_unique(tmp_path: Path) -> None:
    data = load(str(parted_folder(tmp_path)))
    assert data.names == ("test_000", "test_001", "train_000", "train_001", "validation_000", "validation_001")
    assert data.parts == ("test", "test", "train", "train", "validation", "validation")


def test_a_folder_is_found_by_every_kind_of_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index_folder(tmp_path / "cells")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    absolute = load(str(tmp_path / "cells"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert (
        absolute
        == replace(load("../cells"), images=absolute.images, masks=absolute.masks, valid=absolute.valid)
        == replace(load("cells", root=tmp_path), images=absolute.images, masks=absolute.masks, valid=absolute.valid)
    )


def test_stare_parts_and_what_is_absent(tmp_path: Path) -> None:
    data = load("stare", root=stare_folder(tmp_path))
    assert data.names == ("im0001", "im0082", "im0162") and data.parts == ("train", "validation", "test")
    assert data.class_names == ("vessel",) and data.sizes == ((12, 10),) * 3
    (tmp_path / "labels-ah" / "im0082.ah.ppm.gz").unlink()
    with pytest.raises(InputError, match=r"im0082\.ppm\.gz' without mask"):
        load("stare", root=tmp_path)
    for path in (tmp_path / "stare-images").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="none of STARE's images"):
        load("stare", root=tmp_path)


def test_unknown_names_and_missing_roots(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"'sintetic' is not known; allowed: .*synthetic-lesions.* Did you mean 'synth"
    ):
        find("sintetic")
    with pytest.raises(InputError, match=r"data is empty: name a folder"):
        find("")
    with pytest.raises(InputError, match=r"'no/such' does not exist"):
        find("no/such")
    with pytest.raises(InputError, match=r"'stare' needs --data-root"):
        find("stare")
    with pytest.raises(InputError, match=r"--data-root .* is no folder"):
        find("stare", root=tmp_path / "none")
    with pytest.raises(InputError, match=r"stare-images/im0001\.ppm\.gz"):
        find("stare", root=tmp_path)


def test_names_are_known_once() -> None:
    assert not DRAWN.keys() & OWNED.keys()


@pytest.mark.skipif(not (DATASETS / "stare").is_dir(), reason="STARE is not in shared/datasets")
def test_stare_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load("stare", root=DATASETS)
    assert data.images.shape == (20, 605, 700, 3)
    split = split_data(data, seed=7)
    assert [data.names[index] for index in split.validation] == ["im0082", "im0139"]
    assert len(split.train) == 8 and len(split.test) == 10
    assert data.masks.mean() == pytest.approx(0.076, abs=0.0005)
    monkeypatch.chdir(DATASETS)
    assert load("stare", root=Path(os.curdir)).fingerprint == data.fingerprint


@pytest.mark.skipif(not (DATASETS / "wbc").is_dir(), reason="the blood cells are not in shared/datasets")
def test_blood_cells_through_the_folder_reader() -> None:
    data = load(str(DATASETS / "wbc"))
    assert len(data.names) == 300 and len(set(data.sizes)) == 30
    assert data.class_names == ("class_128", "class_255") and data.label_mode == "multiclass"
    shares = [float(data.masks[:, index][data.valid == 1].mean()) for index in range(2)]
    assert shares == pytest.approx([0.19, 0.12], abs=0.005)


# Each: what is done to a good folder of four pictures, and what the one line must say.
def _remove(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).unlink()


def _empty_masks(root: Path) -> None:
    for path in (root / "masks").iterdir():
        write_picture(path, some_mask())


def _empty_images(root: Path) -> None:
    for path in (root / "images").iterdir():
        path.unlink()


def _noise_masks(root: Path) -> None:
    for path in (root / "masks").iterdir():
        write_picture(path, some_image()[..., 0])


def _jpeg_masks(root: Path) -> None:
    for path in list((root / "masks").iterdir()):
        path.unlink()
        write_picture(path.with_suffix(".jpg"), some_mask(255, 255))


def _truncate(root: Path) -> None:
    path = root / "images" / "001.bmp"
    path.write_bytes(path.read_bytes()[:100])


def _declare(text: str) -> Callable[[Path], object]:
    return lambda root: (root / "classes.txt").write_text(text)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "image without mask": (_remove("masks/002.png"), r"1 of 4 images in .*images' without mask: 002; "),
    "mask without image": (_remove("images/002.bmp"), r"1 of 4 masks in .*masks' without image: 002; remove"),
    "sizes differ": (
        lambda root: write_picture(root / "masks" / "003.png", some_mask(255, width=11)),
        r"003\.bmp' is 10 x 12 but its mask .*003\.png' is 11 x 12",
    ),
    "truncated": (_truncate, r"001\.bmp' cannot be read .*remove it"),
    "undeclared": (_declare("255 nucleus"), r"mask values 128 are not in .*classes\.txt' .*000\.png"),
    "class without pixel": (_declare("128 a\n255 b\n7 c\n"), r"class 'c' has no pixel in any mask"),
    "bad declaration": (_declare("128\n"), r"line 1 of .*classes\.txt' is '128'"),
    "declared twice": (_declare("128 a\n128 b\n"), r"line 2 of .* repeats '128 b'"),
    "only background": (_empty_masks, r"hold no value but 0, so there is no class"),
    "noise": (_noise_masks, r"hold the values .*\(\d\d+ in all\), too many for classes: .*classes\.txt"),
    "blurred": (_jpeg_masks, r"000\.jpg' holds the values .* blurred by its format: save .*PNG"),
    "two of one name": (
        lambda root: write_picture(root / "images" / "002.png", some_image()),
        r"002\.bmp' and .*002\.png' differ only",
    ),
    "no masks": (lambda root: (root / "masks").rename(root / "labels"), r"has images/ but no masks/: it must hold"),
    "no images": (lambda root: (root / "images").rename(root / "pictures"), r"has no images/: it must hold images/"),
    "empty images": (_empty_images, r"images' holds no picture"),
    "images twice": (lambda root: index_folder(root / "train"), r"exclude each other: keep one"),
    "masks and class folders": (
        lambda root: write_picture(root / "masks" / "red" / "000.png", some_mask(1)),
        r"holds both masks and folders \(red\)",
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_folder_is_told_in_one_line(tmp_path: Path, broken: str) -> None:
    spoil, message = BROKEN[broken]
    root = index_folder(tmp_path / "data")
    load(str(root))  # also keeps it: what was kept must not hide the fault
    spoil(root)
    with pytest.raises(InputError, match=message) as caught:
        load(str(root))
    assert "\n" not in str(caught.value)


def test_class_folders_that_do_not_pair(tmp_path: Path) -> None:
    root = class_folder(tmp_path)
    write_picture(root / "images" / "late.png", some_image())
    with pytest.raises(InputError, match=r"1 of 5 images .* without mask: late; .* in the folder of a class"):
        load(str(root))
    (root / "images" / "late.png").unlink()
    write_picture(root / "masks" / "red" / "odd.png", some_mask(255))
    with pytest.raises(InputError, match=r"1 of 5 masks .* without image: odd"):
        load(str(root))
    (root / "masks" / "red" / "odd.png").unlink()
    (root / "classes.txt").write_text("1 red")
    with pytest.raises(InputError, match="remove the one or the other"):
        load(str(root))
    (root / "classes.txt").unlink()
    for path in (root / "masks" / "red").iterdir():
        write_picture(path, some_mask(100, 100))
    with pytest.raises(InputError, match=r"class 'red' has no pixel .* mask_threshold 0\.5"):
        load(str(root))


def test_a_missing_and_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is empty: it must hold images/"):
        load(str(tmp_path))
    with pytest.raises(InputError, match="does not exist"):
        load(str(tmp_path / "none"))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is no folder"):
        load(str(tmp_path / "file"))
