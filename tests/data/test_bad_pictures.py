"""Files that cannot be right are refused in one line that names the file and the fix, before they do harm."""

import gzip
import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data.decoding import MOST_UNPACKED_BYTES
from data.input_error import InputError
from data.masks import read_colors, read_grey, read_index, read_stack
from data.pictures import list_pictures, picture_size, read_color
from tests.data.folders import some_image, write_picture
from tests.data.test_masks import GREY
from tests.data.test_pictures import COLOR

ALL = (read_color, read_grey, read_index, read_colors)


def one_line(read: Callable[[Path], object], path: Path, message: str) -> None:
    """Reading must end in one line that names the file and holds the message."""
    with pytest.raises(InputError, match=message) as caught:
        read(path)
    assert path.name in str(caught.value) and "\n" not in str(caught.value)


def npy(shape: object, kind: str = "|u1", content: bytes = b"") -> bytes:
    """A .npy file whose head claims what it likes."""
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head) + 1) + head + b"\n" + content


def png(width: int, height: int) -> bytes:
    """The beginning of a black and white PNG of any size, which weighs next to nothing."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = b"IDAT" + zlib.compress(bytes(10))
    chunks = (
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (head, pixels)
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("suffix", [*COLOR, ".jpg", ".gif", ".pgm"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.9])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")  # pytest undoes the filter of data.decoding
def test_a_truncated_picture(tmp_path: Path, suffix: str, packed: str, share: float) -> None:
    image = some_image(height=40, width=40)
    path = write_picture(tmp_path / f"a{suffix}{packed}", image[..., 0] if suffix in (".gif", ".pgm") else image)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    one_line(read_color, path, r"cannot be read .* remove it")


@pytest.mark.parametrize("suffix", GREY)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")
def test_a_truncated_mask(tmp_path: Path, suffix: str) -> None:
    path = write_picture(tmp_path / f"a{suffix}", some_image(height=40, width=40)[..., 0])
    path.write_bytes(path.read_bytes()[:-300])
    for read in ALL[1:3]:
        one_line(read, path, r"cannot be read .* remove it")


def test_a_damaged_tiff_is_told_of_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(some_image(height=40, width=40)).save(path, compression="tiff_deflate")
    content = path.read_bytes()
    path.write_bytes(content[:200] + bytes(30) + content[230:])
    one_line(read_color, path, "cannot be read")
    assert capfd.readouterr() == ("", "")


def test_other_content_and_missing_files(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "text.png.gz").write_bytes(gzip.compress(b"no picture"))
    for name in ("text.png", "text.png.gz", "text.npy", "missing.png"):
        for read in (read_color, picture_size):
            one_line(read, tmp_path / name, "cannot be read")


def test_a_picture_under_the_name_of_another_format(tmp_path: Path) -> None:
    image = some_image()
    Image.fromarray(image).save(tmp_path / "a.jpg", "PNG")
    np.testing.assert_array_equal(read_color(tmp_path / "a.jpg"), image)  # any that is read does no harm
    Image.fromarray(image).save(tmp_path / "web.jpg", "WEBP")
    one_line(read_color, tmp_path / "web.jpg", "a WebP picture whatever its name says: save it as PNG")
    write_picture(tmp_path / "a.npy", image).rename(tmp_path / "array.png")
    one_line(read_color, tmp_path / "array.png", r"a NumPy array whatever its name says: call it \.npy")


def test_a_kind_of_tiff_that_nobody_reads(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.tif", np.zeros((2, 2), np.float32))
    content = path.read_bytes()
    # 32 bits a sample become 64: tag 258, of type SHORT.
    path.write_bytes(content.replace(struct.pack("<HHIHH", 258, 3, 1, 32, 0), struct.pack("<HHIHH", 258, 3, 1, 64, 0)))
    one_line(read_color, path, "a kind that is not known, such as 64-bit numbers")


@pytest.mark.parametrize(("name", "kind"), [("a.gif", "GIF"), ("a.png", "PNG"), ("a.tif", "TIFF")])
def test_of_several_frames_none_is_meant(tmp_path: Path, name: str, kind: str) -> None:
    frames = [Image.fromarray(some_image(seed)) for seed in range(3)]
    frames[0].save(tmp_path / name, kind, save_all=True, append_images=frames[1:])
    for read in (*ALL, picture_size):
        one_line(read, tmp_path / name, "holds 3 frames or pages, .* save that one alone")


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("suffix", [".png", ".pgm"])
def test_a_bomb_of_pixels_is_refused_by_its_head(tmp_path: Path, suffix: str, packed: str) -> None:
    content = png(60_000, 60_000) if suffix == ".png" else b"P5 60000 60000 255\n"
    path = tmp_path / f"a{suffix}{packed}"
    path.write_bytes(gzip.compress(content) if packed else content)
    for read in (*ALL, picture_size):
        one_line(
            read, path, r"is too large .*3600000000 pixels.* limit of \d+ pixels.*: cut it into tiles or shrink it"
        )


def test_a_picture_half_as_large_as_a_bomb_warns_nobody(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(10_000, 10_000))
    with warnings.catch_warnings():
        # As data.decoding sets it for every process: pytest has undone that.
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        assert picture_size(tmp_path / "a.png") == (10_000, 10_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one_line(picture_size, tmp_path / "a.png", "is too large")


def test_a_gzip_bomb_is_unpacked_no_further_than_it_may(tmp_path: Path) -> None:
    # Zeros behind a picture of four pixels, in pieces that gunzip joins.
    piece = gzip.compress(bytes(2**24))
    bomb = gzip.compress(b"P5 2 2 255\n") + piece * (MOST_UNPACKED_BYTES // 2**24 + 1)
    (tmp_path / "a.pgm.gz").write_bytes(bomb)
    assert len(bomb) < 2**20
    one_line(read_color, tmp_path / "a.pgm.gz", "unpacks to more than 256 MiB: .* unpack it yourself .* remove it")
    assert picture_size(tmp_path / "a.pgm.gz") == (2, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy((10**6, 10**6)), r"claims to hold \(1000000, 1000000\) values, and 1,073,741,824 is the most"),
        (npy((10**6, 10**30)), "claims to hold"),
        (npy((30_000, 30_000), content=bytes(100)), "its head claims 900,000,000 values, but there are 100"),
        (npy((3, 4), content=bytes(11)), "claims 12 values, but there are 11.*truncated"),
        (npy((2, 2), "|O", bytes(32)), "holds objects, not numbers: save it from an array of uint8, bool or float"),
        (npy((2, 2), "<c8", bytes(32)), "holds complex64, not numbers"),
        (npy((2, 2), "<U1", bytes(32)), "holds <U1, not numbers"),
        (npy((4,), content=bytes(4)), r"has the shape \(4,\): it must be \(height, width\)"),
        (npy((2, 0)), r"has the shape \(2, 0\)"),
        (npy((-2, 2), content=bytes(4)), r"has the shape \(-2, 2\)"),
        (npy("(2, 2) + f()"), "cannot be read"),
        (npy("(2, 2"), "cannot be read"),
        (npy("(" * 5000), "cannot be read"),
        (npy("-" * 8000 + "1"), "cannot be read .*nested deeper than any array's"),
        (npy("(True, 2)", content=bytes(2)), r"has the shape \(True, 2\)"),
        (b"\x93NUMPY\x09\x00", "version .* is not known"),
        (npy((1, 2), "<f4", struct.pack("<2f", 0.5, float("nan"))), "holds NaN or infinity in 1 of 2 pixels: give"),
        (npy((1, 2), "<f4", struct.pack("<2f", float("inf"), float("nan"))), "in 2 of 2 pixels"),
    ],
)
def test_an_array_that_lies_or_holds_no_numbers(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    for read in ALL[:3]:
        one_line(read, path, message)


def test_a_message_repeats_little_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(npy("(" + "7" * 9000 + ")"))
    with pytest.raises(InputError, match="Cannot parse header") as caught:
        read_color(path)
    assert len(str(caught.value)) < len(str(path)) + 350


def test_nan_in_a_tiff(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.tif", np.array([[np.nan, 1]], np.float32))
    for read in ALL[:3]:
        one_line(read, path, "NaN or infinity in 1 of 2 pixels")


def pixels(values: Any, kind: type) -> np.ndarray:
    return np.array([values], kind)


@pytest.mark.parametrize(
    ("read", "name", "values", "message"),
    [
        (read_color, "a.tif", pixels([0, 255], np.float32), "float32 from 0 to 255, and what is white is not said"),
        (read_color, "a.tif", pixels([-0.1, 0.5], np.float32), "float32 from -0.1 to 0.5"),
        (read_color, "a.tif", pixels([0, 255], np.int32), "int32 from 0 to 255, .* save it with 8 or 16 bits"),
        (read_color, "a.npy", pixels([-1, 255], np.int16), "int16 from -1 to 255"),
        (read_color, "a.npy", np.zeros((2, 3, 2), np.uint8), r"shape \(2, 3, 2\): an image is"),
        (picture_size, "a.npy", np.zeros((2, 3, 2), np.uint8), r"shape \(2, 3, 2\): an image is"),
        (read_grey, "a.tif", pixels([0.2, 1.5], np.float32), "float32 up to 1.5: .* floats from 0 to 1"),
        (read_grey, "a.npy", pixels([-1, 1], np.int8), "holds the value -1: masks go from 0"),
        (read_grey, "a.tif", pixels([0, 300], np.int32), "int32 up to 300"),
        (read_grey, "a.npy", np.zeros((2, 3, 4), np.uint8), r"shape \(2, 3, 4\), .* planes of all classes directly"),
        (read_grey, "a.png", pixels([0, 128, 255], np.uint16), "16 bits .* nothing above 255, as if 8 bits were saved"),
        (read_grey, "a.npy", np.array([[0, 2]], ">u2"), "16 bits .* nothing above 2, as if"),
        (read_index, "a.npy", pixels([0.5, 1], np.float32), "holds 0.5, which is no class: .* masks/<class>/"),
        (read_index, "a.npy", pixels([0, 2**40], np.int64), "too large for a class"),
        (read_index, "a.npy", pixels([0, 2**63], np.uint64), "too large for a class"),
        (read_colors, "a.npy", pixels([0, 1], np.uint8), "colours are the classes here"),
        (read_colors, "a.png", pixels([0, 300], np.uint16), "numbers of 16 bits, and colours are the classes"),
    ],
)
def test_numbers_of_which_nobody_knows_what_they_mean(
    tmp_path: Path, read: Callable[[Path], object], name: str, values: np.ndarray, message: str
) -> None:
    one_line(read, write_picture(tmp_path / name, values), message)


def test_planes_of_numbers_that_are_no_shares(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "a.npy", np.full((2, 3, 4), 7.0))
    one_line(lambda path: read_stack(path, (3, 4)), path, "float64 up to 7")


def test_an_image_that_is_transparent_all_over(tmp_path: Path) -> None:
    one_line(read_color, write_picture(tmp_path / "a.png", np.zeros((2, 2, 4), np.uint8)), "transparent all over")


def test_sixteen_bit_color_makes_no_mask(tmp_path: Path) -> None:
    buffer = io.BytesIO(b"P6 1 1 65535\n" + struct.pack(">3H", 1, 1, 1))
    (tmp_path / "a.ppm").write_bytes(buffer.getvalue())
    for read in ALL[1:]:
        one_line(read, tmp_path / "a.ppm", "several channels of 16 bits: save it as grey PNG")


def test_printing_colors_make_no_mask(tmp_path: Path) -> None:
    Image.new("CMYK", (2, 2)).save(tmp_path / "inks.tif")
    for read in ALL[1:]:
        one_line(read, tmp_path / "inks.tif", "of mode CMYK: save it as a PNG")


def test_names_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to("moved/away.png")
    with pytest.raises(
        InputError, match=r"gone\.png' is a link to 'moved/away\.png', which is not there: mend the link"
    ):
        list_pictures(tmp_path)
    (tmp_path / "gone.png").unlink()
    (tmp_path / "round.png").symlink_to("round.png")
    with pytest.raises(InputError, match=r"round\.png' is a link to 'round\.png'"):
        list_pictures(tmp_path)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    for name in (b"caf\xe9.png", b"two\nlines.png"):
        path = Path(bytes(tmp_path).decode()) / name.decode("utf-8", "surrogateescape")
        path.touch()
        with pytest.raises(InputError, match="holds signs that are no text: rename it") as caught:
            list_pictures(tmp_path)
        str(caught.value).encode()  # so that it can be printed anywhere
        path.unlink()
