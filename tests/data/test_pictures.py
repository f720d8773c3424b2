"""Names of picture files, their sizes, and every kind of picture as RGB."""

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data.input_error import InputError
from data.pictures import (
    SUFFIXES,
    is_lossy,
    list_pictures,
    picture_size,
    picture_stem,
    picture_suffix,
    read_color,
)
from tests.data.folders import some_image, write_picture, write_white_is_zero

COLOR = [".png", ".tif", ".tiff", ".bmp", ".ppm", ".pnm", ".npy"]
GREY = [".png", ".tif", ".bmp", ".gif", ".pgm", ".npy"]
PACKED = ["", ".gz"]
ORIENTATION = 274
# What turns an upright picture so that a camera's note of this number turns it back.
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: image.transpose(1, 0, 2)[::-1],
    7: lambda image: image[::-1, ::-1].transpose(1, 0, 2),
    8: lambda image: image.transpose(1, 0, 2)[:, ::-1],
}


def noted(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("suffix", COLOR)
def test_color_comes_back_as_it_was_saved(tmp_path: Path, suffix: str, packed: str) -> None:
    image = some_image()
    path = write_picture(tmp_path / f"a{suffix}{packed}", image)
    np.testing.assert_array_equal(read_color(path), image)
    assert picture_size(path) == (12, 10)


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("suffix", GREY)
def test_grey_comes_back_as_it_was_saved(tmp_path: Path, suffix: str, packed: str) -> None:
    grey = some_image()[..., 0]
    path = write_picture(tmp_path / f"a{suffix}{packed}", grey)
    np.testing.assert_array_equal(read_color(path), np.repeat(grey[..., None], 3, axis=2))
    assert picture_size(path) == (12, 10)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG", ".jpg.gz"])
def test_jpeg_is_read_and_known_to_blur(tmp_path: Path, suffix: str) -> None:
    image = np.full((16, 16, 3), 200, np.uint8)
    path = write_picture(tmp_path / f"a{suffix}", image)
    assert is_lossy(path)
    assert np.abs(read_color(path).astype(int) - 200).max() <= 2


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".jpg.gz", ".tif.gz"])
@pytest.mark.parametrize("orientation", TURNS)
def test_a_picture_stands_as_its_camera_noted(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255  # one bright corner tells all eight orientations apart
    upright[8:, 16:] = 90
    buffer = io.BytesIO()
    kinds = {".png": "PNG", ".jpg": "JPEG", ".tif": "TIFF"}
    picture = Image.fromarray(np.ascontiguousarray(TURNS[orientation](upright)))
    picture.save(buffer, kinds[suffix.removesuffix(".gz")], exif=noted(orientation))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(buffer.getvalue()) if suffix.endswith(".gz") else buffer.getvalue())
    assert picture_size(path) == (16, 24)
    assert np.abs(read_color(path).astype(int) - upright).max() <= 5 * is_lossy(path)


def test_a_png_may_note_its_orientation_behind_its_pixels(tmp_path: Path) -> None:
    upright = some_image()
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(TURNS[6](upright))).save(buffer, "PNG")
    content, note = buffer.getvalue(), noted(6).tobytes()[6:]
    chunk = struct.pack(">I", len(note)) + b"eXIf" + note + struct.pack(">I", zlib.crc32(b"eXIf" + note))
    end = content.rindex(b"IEND") - 4
    (tmp_path / "a.png").write_bytes(content[:end] + chunk + content[end:])
    np.testing.assert_array_equal(read_color(tmp_path / "a.png"), upright)
    assert picture_size(tmp_path / "a.png") == (12, 10)


def test_damaged_exif_turns_nothing(tmp_path: Path) -> None:
    image = some_image()
    Image.fromarray(image).save(tmp_path / "a.png", exif=b"Exif\0\0no directory at all")
    np.testing.assert_array_equal(read_color(tmp_path / "a.png"), image)
    assert picture_size(tmp_path / "a.png") == (12, 10)


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_printing_colors_become_rgb(tmp_path: Path, kind: str) -> None:
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:8, :, 1:3] = 255  # magenta and yellow: red
    inks[8:, :, 3] = 255  # black
    path = tmp_path / {"TIFF": "a.tif", "JPEG": "a.jpg"}[kind]
    Image.fromarray(inks, "CMYK").save(path, kind, quality=95) if kind == "JPEG" else Image.fromarray(
        inks, "CMYK"
    ).save(path)
    red_over_black = np.zeros((16, 16, 3), np.uint8)
    red_over_black[:8] = (255, 0, 0)
    assert np.abs(read_color(path).astype(int) - red_over_black).max() <= 12 * is_lossy(path)


def test_what_is_transparent_lies_on_black(tmp_path: Path) -> None:
    layers = np.full((1, 3, 4), 200, np.uint8)
    layers[0, :, 3] = (255, 0, 128)
    path = write_picture(tmp_path / "a.png", layers)
    np.testing.assert_array_equal(read_color(path)[0, :, 0], [200, 0, 100])
    layers[..., 3] = 255
    np.testing.assert_array_equal(read_color(write_picture(path, layers)), layers[..., :3])
    write_picture(path, layers[..., 2:])  # grey and alpha
    np.testing.assert_array_equal(read_color(path), layers[..., :3])
    palette = Image.fromarray(np.array([[0, 1]], np.uint8))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.save(path, transparency=b"\xff\x00")
    np.testing.assert_array_equal(read_color(path), [[[10, 20, 30], [0, 0, 0]]])
    Image.fromarray(np.array([[7, 9]], np.uint8)).save(path, transparency=9)
    np.testing.assert_array_equal(read_color(path)[..., 0], [[7, 0]])


def test_grey_that_its_transparency_has_darkened(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.new("LA", (2, 2), (100, 128)).save(path)
    # Tag 338 says what the second channel is: 2 is transparency, 1 is transparency that the first is multiplied with.
    apart, multiplied = (struct.pack("<HHIH", 338, 3, 1, kind) for kind in (2, 1))
    assert apart in path.read_bytes()
    np.testing.assert_array_equal(read_color(path), np.full((2, 2, 3), 50))
    path.write_bytes(path.read_bytes().replace(apart, multiplied))
    assert np.abs(read_color(path).astype(int) - 100).max() <= 1


def test_sixteen_bits_lose_the_lower_eight(tmp_path: Path) -> None:
    deep = np.array([[0, 300], [256 * 255, 65535]], np.uint16)
    small = np.array([[0, 1], [255, 255]])
    big_endian = Image.frombytes("I;16B", (2, 2), deep.astype(">u2").tobytes())
    big_endian.save(tmp_path / "big.tif")
    names = ["a.png", "a.tif", "a.npy"]
    for path in [*(write_picture(tmp_path / name, deep) for name in names), tmp_path / "big.tif"]:
        np.testing.assert_array_equal(read_color(path), np.repeat(small[..., None], 3, axis=2))


def test_sixteen_bit_color_loses_the_lower_eight_too(tmp_path: Path) -> None:
    # Pillow writes none: one pixel by hand.
    chunks = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in [
            (b"IHDR", struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)),
            (b"IDAT", zlib.compress(b"\0" + struct.pack(">3H", 0x1234, 0x80FF, 0xFFFF))),
            (b"IEND", b""),
        ]
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    np.testing.assert_array_equal(read_color(tmp_path / "a.png"), [[[0x12, 0x80, 0xFF]]])


def test_a_file_that_says_it_has_twelve_bits_is_as_bright_as_it_should(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(twelve_bit_tiff(0x000, 0xFFF))
    np.testing.assert_array_equal(read_color(tmp_path / "a.tif")[..., 0], [[0, 255]])


def test_a_picture_whose_white_is_0_looks_as_it_should(tmp_path: Path) -> None:
    shallow = write_white_is_zero(tmp_path / "a.tif", np.array([[0, 5, 255]], np.uint8))
    deep = write_white_is_zero(tmp_path / "b.tif", np.array([[0, 5 * 257, 65535]], np.uint16))
    for path in (shallow, deep):
        np.testing.assert_array_equal(read_color(path)[..., 0], [[255, 250, 0]])


def twelve_bit_tiff(left: int, right: int) -> bytes:
    """Two pixels of 12 bits, which Pillow reads and does not write."""
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 3)]
    pixels = (left << 12 | right).to_bytes(3, "big") + b"\0"
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 12) + pixels + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


def test_floats_go_from_0_to_1(tmp_path: Path) -> None:
    values = np.array([[0.0, 0.5, 1.0]], np.float32)
    for name in ("a.tif", "a.npy"):
        np.testing.assert_array_equal(read_color(write_picture(tmp_path / name, values))[..., 1], [[0, 128, 255]])
    np.testing.assert_array_equal(
        read_color(write_picture(tmp_path / "a.npy", np.array([[False, True]])))[..., 2], [[0, 255]]
    )


def test_arrays_may_be_in_any_order_and_of_one_channel(tmp_path: Path) -> None:
    image = some_image()
    np.testing.assert_array_equal(read_color(write_picture(tmp_path / "f.npy", np.asfortranarray(image))), image)
    one = write_picture(tmp_path / "one.npy", image[..., :1])
    np.testing.assert_array_equal(read_color(one), np.repeat(image[..., :1], 3, axis=2))
    assert picture_size(one) == (12, 10)
    foreign = write_picture(tmp_path / "foreign.npy", (image * np.uint16(257)).astype(">u2"))
    np.testing.assert_array_equal(read_color(foreign), image)


def test_a_phones_picture_with_a_preview_is_the_picture(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((16, 16, 3), 90, np.uint8))
    preview = Image.fromarray(np.zeros((8, 8, 3), np.uint8))
    image.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[preview])
    assert read_color(tmp_path / "a.jpg").shape == (16, 16, 3) and picture_size(tmp_path / "a.jpg") == (16, 16)
    assert abs(int(read_color(tmp_path / "a.jpg").mean()) - 90) <= 2


def test_the_size_needs_no_pixels(tmp_path: Path) -> None:
    image = some_image(height=40, width=30)
    for suffix in [*COLOR, ".jpg"]:
        path = write_picture(tmp_path / f"a{suffix}", image)
        # Only a TIFF's head stands behind its pixels.
        if suffix not in (".tif", ".tiff"):
            path.write_bytes(path.read_bytes()[: 800 if suffix == ".jpg" else 400])
            with pytest.raises(InputError):
                read_color(path)
        assert picture_size(path) == (40, 30)


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
