"""Masks of one class, of values, of colours and of planes, from every kind of file."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.input_error import InputError
from data.masks import read_colors, read_grey, read_index, read_index_or_color, read_stack
from tests.data.folders import some_image, write_picture, write_white_is_zero

PACKED = ["", ".gz"]
GREY = [".png", ".tif", ".bmp", ".gif", ".pgm", ".npy"]


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("suffix", GREY)
def test_grey_comes_back_as_it_was_saved(tmp_path: Path, suffix: str, packed: str) -> None:
    grey = some_image()[..., 0]
    path = write_picture(tmp_path / f"a{suffix}{packed}", grey)
    np.testing.assert_array_equal(read_grey(path), grey)
    np.testing.assert_array_equal(read_index(path), grey)


def test_one_bit_masks_are_0_and_255(tmp_path: Path) -> None:
    bits = np.array([[True, False], [False, True]])
    path = write_picture(tmp_path / "a.pbm", bits)
    np.testing.assert_array_equal(read_index(path), [[255, 0], [0, 255]])
    np.testing.assert_array_equal(read_grey(path), [[255, 0], [0, 255]])


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("name", ["a.tif", "a.npy"])
def test_zeros_and_ones_are_meant_in_full_whatever_their_kind(tmp_path: Path, name: str, kind: type) -> None:
    for yes in (1, 255):
        path = write_picture(tmp_path / name, np.array([[0, yes], [yes, 0]], kind))
        np.testing.assert_array_equal(read_grey(path), [[0, 255], [255, 0]])
        np.testing.assert_array_equal(read_index(path), [[0, yes], [yes, 0]])


def test_a_mask_whose_white_is_stored_as_0(tmp_path: Path) -> None:
    path = write_white_is_zero(tmp_path / "a.tif", np.array([[0, 1, 255]], np.uint8))
    np.testing.assert_array_equal(read_index(path), [[0, 1, 255]])  # classes are numbers
    np.testing.assert_array_equal(read_grey(path), [[255, 254, 0]])  # how sure a class is, is a look
    np.testing.assert_array_equal(read_colors(path), [[0xFFFFFF, 0xFEFEFE, 0]])
    deep = write_white_is_zero(tmp_path / "deep.tif", np.array([[0, 1000, 65535]], np.uint16))
    np.testing.assert_array_equal(read_index(deep), [[0, 1000, 65535]])
    np.testing.assert_array_equal(read_grey(deep), [[255, 252, 0]])
    write_white_is_zero(path, np.array([[0, 255]], np.uint8))
    np.testing.assert_array_equal(read_grey(path), [[255, 0]])
    with pytest.raises(
        InputError, match=r"a\.tif' is a TIFF whose white is stored as 0 .* not known .* save it as PNG"
    ):
        read_index(path)


def test_bits_whose_white_is_0_count_by_their_look(tmp_path: Path) -> None:
    # A fax's kind of TIFF, which programs write for black and white.
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "a.tif", tiffinfo={262: 0})
    content = (tmp_path / "a.tif").read_bytes()
    assert content != content.replace(struct.pack("<HHII", 262, 3, 1, 0), b"")
    with Image.open(tmp_path / "a.tif") as picture:
        looks = np.asarray(picture) * 255
    np.testing.assert_array_equal(read_index(tmp_path / "a.tif"), looks)


def test_bools_are_masks_too(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.npy", np.array([[False, True]]))
    np.testing.assert_array_equal(read_grey(path), [[0, 255]])
    np.testing.assert_array_equal(read_index(path), [[0, 1]])


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_confidence_maps_go_from_0_to_1(tmp_path: Path, kind: type) -> None:
    shares = np.array([[0.0, 0.25, 0.5, 1.0]], kind)
    np.testing.assert_array_equal(read_grey(write_picture(tmp_path / "a.npy", shares)), [[0, 64, 128, 255]])


def test_sixteen_bits(tmp_path: Path) -> None:
    deep = np.array([[0, 300], [256 * 255, 65535]], np.uint16)
    Image.frombytes("I;16B", (2, 2), deep.astype(">u2").tobytes()).save(tmp_path / "big.tif")
    paths = [write_picture(tmp_path / name, deep) for name in ("a.png", "a.tif", "a.npy", "a.png.gz")]
    for path in [*paths, tmp_path / "big.tif"]:
        np.testing.assert_array_equal(read_index(path), deep)
        np.testing.assert_array_equal(read_grey(path), [[0, 1], [255, 255]])


@pytest.mark.parametrize("white", [1, 2, 100, 255, 1000, 65535])
@pytest.mark.parametrize("plain", [False, True])
def test_a_netpbm_mask_holds_what_stands_in_it(tmp_path: Path, white: int, plain: bool) -> None:
    values = np.array([0, 1, white])
    text = " ".join(map(str, values)).encode()
    packed = values.astype(">u2" if white > 255 else "u1").tobytes()
    header = f"{'P2' if plain else 'P5'} 3 1 {white}\n".encode()
    (tmp_path / "a.pgm").write_bytes(header + (text if plain else packed))
    np.testing.assert_array_equal(read_index(tmp_path / "a.pgm"), [values])


def test_a_palette_of_colors_stands_for_its_indices(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    picture.putpalette([0, 0, 0, 128, 0, 0, 128, 128, 128])
    path = tmp_path / "a.png"
    for transparency in (None, b"\x00\xff\xff"):
        picture.save(path, **({"transparency": transparency} if transparency else {}))
        np.testing.assert_array_equal(read_index(path), [[0, 1], [2, 1]])
        np.testing.assert_array_equal(read_colors(path), [[0, 0x800000], [0x808080, 0x800000]])
        palette = read_index_or_color(path).palette
        assert palette is not None and list(palette[:3]) == [0, 0x800000, 0x808080]
        with pytest.raises(InputError, match="is in colour"):
            read_grey(path)
    picture.putdata([0, 1, 0, 1])
    picture.save(path)
    np.testing.assert_array_equal(read_grey(path), [[0, 255], [0, 255]])


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
    color = write_picture(tmp_path / "color.png", np.array([[[255, 0, 0], [0, 16, 1]]], np.uint8))
    with pytest.raises(InputError, match=r"mask .*color\.png' is in colour"):
        read_index(color)
    with pytest.raises(InputError, match=r"mask .*color\.png' is in colour: save it grey"):
        read_grey(color)
    np.testing.assert_array_equal(read_colors(color), [[0xFF0000, 0x1001]])
    assert read_index_or_color(color).in_color


def test_a_jpeg_of_one_class_may_be_a_little_in_color(tmp_path: Path) -> None:
    mask = np.zeros((16, 16, 3), np.uint8)
    mask[4:12, 4:12] = (250, 245, 250)
    assert read_grey(write_picture(tmp_path / "a.jpg", mask))[8, 8] > 200
    mask[4:12, 4:12] = (250, 0, 0)
    with pytest.raises(InputError, match="is in colour"):
        read_grey(write_picture(tmp_path / "a.jpg", mask))


def test_transparency_of_a_mask_counts_for_nothing(tmp_path: Path) -> None:
    layers = np.zeros((1, 3, 4), np.uint8)
    layers[0, 1:] = (255, 255, 255, 90)
    path = write_picture(tmp_path / "a.png", layers)
    for read in (read_grey, read_index):
        np.testing.assert_array_equal(read(path), [[0, 255, 255]])
    layers[..., 3] = 0
    np.testing.assert_array_equal(read_index(write_picture(path, layers)), [[0, 255, 255]])


@pytest.mark.parametrize("color", [0, 255], ids=["black", "white"])
def test_a_mask_that_is_all_transparency_is_refused(tmp_path: Path, color: int) -> None:
    layers = np.full((1, 3, 4), color, np.uint8)
    layers[..., 3] = [0, 255, 255]
    path = write_picture(tmp_path / "a.png", layers)
    for read in (read_grey, read_index, read_colors):
        with pytest.raises(InputError, match="by its transparency"):
            read(path)


def test_planes_may_come_first_or_last(tmp_path: Path) -> None:
    planes = np.zeros((2, 3, 4), np.uint8)
    planes[0, 0, 0] = planes[1, 2, 3] = 1
    first = write_picture(tmp_path / "first.npy", planes)
    last = write_picture(tmp_path / "last.npy.gz", planes.transpose(1, 2, 0).astype(bool))
    sure = write_picture(tmp_path / "sure.npy", np.asfortranarray(planes * np.float32(0.5)))
    np.testing.assert_array_equal(read_stack(first, (3, 4)), planes * 255)
    np.testing.assert_array_equal(read_stack(last, (3, 4)), planes * 255)
    np.testing.assert_array_equal(read_stack(sure, (3, 4)), planes * 128)
    with pytest.raises(InputError, match=r"shape \(2, 3, 4\), and its image is 3 high and 5 wide: save it as"):
        read_stack(first, (3, 5))
    with pytest.raises(InputError, match=r"shape .*classes, height, width"):
        read_stack(write_picture(tmp_path / "cube.npy", np.zeros((3, 3, 3), bool)), (3, 3))
