import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.input_error import InputError
from data.pictures import (
    SUFFIXES,
    is_lossy,
    list_pictures,
    picture_stem,
    picture_suffix,
    read_color,
    read_grey,
    read_index,
)
from tests.data.folders import some_image, write_picture

COLOR = [".png", ".tif", ".tiff", ".bmp", ".ppm", ".pnm"]
GREY = [".png", ".tif", ".bmp", ".gif", ".pgm"]
PACKED = ["", ".gz"]


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("suffix", COLOR)
def test_color_comes_back_as_it_was_saved(tmp_path: Path, suffix: str, packed: str) -> None:
    image = some_image()
    path = write_picture(tmp_path / f"a{suffix}{packed}", image)
    np.testing.assert_array_equal(read_color(path), image)


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("suffix", GREY)
def test_grey_comes_back_as_it_was_saved(tmp_path: Path, suffix: str, packed: str) -> None:
    grey = some_image()[..., 0]
    path = write_picture(tmp_path / f"a{suffix}{packed}", grey)
    np.testing.assert_array_equal(read_grey(path), grey)
    np.testing.assert_array_equal(read_index(path), grey)
    np.testing.assert_array_equal(read_color(path), np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG", ".jpg.gz"])
def test_jpeg_is_read_and_known_to_blur(tmp_path: Path, suffix: str) -> None:
    image = np.full((16, 16, 3), 200, np.uint8)
    path = write_picture(tmp_path / f"a{suffix}", image)
    assert is_lossy(path)
    assert np.abs(read_color(path).astype(int) - 200).max() <= 2


def test_one_bit_masks_are_0_and_255(tmp_path: Path) -> None:
    bits = np.array([[True, False], [False, True]])
    path = write_picture(tmp_path / "a.pbm", bits)
    np.testing.assert_array_equal(read_index(path), [[255, 0], [0, 255]])
    np.testing.assert_array_equal(read_grey(path), [[255, 0], [0, 255]])


def test_a_palette_of_colors_stands_for_its_indices(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    picture.putpalette([0, 0, 0, 128, 0, 0, 128, 128, 128])
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_index(tmp_path / "a.png"), [[0, 1], [2, 1]])


def test_a_palette_of_greys_stands_for_the_greys(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1], [1, 1]], np.uint8))
    picture.putpalette([0, 0, 0, 255, 255, 255])
    for name in ("a.gif", "a.png"):
        picture.save(tmp_path / name)
        np.testing.assert_array_equal(read_index(tmp_path / name), [[0, 255], [255, 255]])
        np.testing.assert_array_equal(read_grey(tmp_path / name), [[0, 255], [255, 255]])


def test_grey_saved_as_rgb_is_an_index_mask_and_color_is_not(tmp_path: Path) -> None:
    grey = write_picture(tmp_path / "grey.png", np.repeat(np.array([[[0], [7]]], np.uint8), 3, axis=2))
    np.testing.assert_array_equal(read_index(grey), [[0, 7]])
    with pytest.raises(InputError, match=r"mask .*color\.png' is in colour"):
        read_index(write_picture(tmp_path / "color.png", some_image()))


def test_sixteen_bits(tmp_path: Path) -> None:
    deep = np.array([[0, 300], [256 * 255, 65535]], np.uint16)
    path = write_picture(tmp_path / "a.png", deep)
    np.testing.assert_array_equal(read_index(path), deep)
    np.testing.assert_array_equal(read_grey(path), [[0, 1], [255, 255]])
    assert read_color(path).shape == (2, 2, 3)


def test_floats_are_refused(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.tif", np.zeros((2, 2), np.float32))
    for read in (read_color, read_grey, read_index):
        with pytest.raises(InputError, match=r"a\.tif"):
            read(path)


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("suffix", [*COLOR, ".jpg", ".gif", ".pgm"])
@pytest.mark.filterwarnings(
    "ignore::UserWarning:PIL.TiffImagePlugin"
)  # pytest undoes the filter that data.pictures sets
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
def test_a_truncated_picture_is_named_with_the_fix(tmp_path: Path, suffix: str, packed: str, share: float) -> None:
    image = some_image(height=40, width=40)
    path = write_picture(tmp_path / f"a{suffix}{packed}", image[..., 0] if suffix in (".gif", ".pgm") else image)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=r"cannot be read .* remove it") as caught:
        read_color(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_other_content_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "text.png.gz").write_bytes(gzip.compress(b"no picture"))
    for name in ("text.png", "text.png.gz", "missing.png"):
        with pytest.raises(InputError, match=name):
            read_color(tmp_path / name)


def test_names(tmp_path: Path) -> None:
    assert picture_stem(Path("x/im0001.ah.ppm.gz")) == "im0001.ah"
    assert picture_suffix(Path("a.PPM.GZ")) == ".ppm.gz"
    assert picture_stem(Path("a.b.TIF")) == "a.b"
    for name in ("notes.txt", "archive.gz", "._a.png", ".DS_Store", "png"):
        assert picture_suffix(Path(name)) is None
    for suffix in SUFFIXES:
        (tmp_path / f"a{suffix}").touch()
    for name in ("Thumbs.db", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in list_pictures(tmp_path)] == sorted(f"a{suffix}" for suffix in SUFFIXES)
