"""Opens one picture file of a stranger: upright, whole, of one frame, and never larger than a machine can bear."""

import ctypes
import gzip
import io
import logging
import struct
import tokenize
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError, _imaging

from data.input_error import InputError

# Pillow knows many more, some of which run other programs on what a stranger wrote.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "PPM")
# Pillow's modes of one number a pixel that is no byte.
NUMBER_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
# A gzip file of a megabyte may unpack to a gigabyte; this many bytes hold an RGB picture of 9,000 pixels a side.
MOST_UNPACKED_BYTES = 2**28
# Values in one .npy file: 128 planes of 2,900 pixels a side.
MOST_VALUES = 2**30

# Pillow's readers warn of damage beside raising their error, and of pictures half as large as it bears; a mistake is
# told in one line. The filters are the whole process's, because Python cannot set one for a thread alone.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
logging.getLogger("PIL").addHandler(logging.NullHandler())
# libtiff writes of damage past Python, straight to the terminal. Where it is not a library of its own, it goes on so.
with suppress(AttributeError, OSError):
    _set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    _set_handler.argtypes, _set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
    _set_handler(None)

# What Pillow, NumPy, gzip and zlib raise for damaged files of the formats above.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    tokenize.TokenError,
)
_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)

_WIDTH, _HEIGHT, _SENSE = 256, 257, 262  # tags of a TIFF
# The orientations in which height and width change places.
_LYING = (5, 6, 7, 8)
# Chunks of a PNG that may tell how it is turned.
_PNG_NOTES = (b"eXIf", b"iTXt", b"zTXt", b"tEXt")

# Letters of a decoder's own words that a message repeats: some of them repeat the file.
_MOST_WORDS = 200

_NPY = b"\x93NUMPY"
# Where another format is told by the first bytes of a file whose name says otherwise: from, to, bytes, what it is.
_OTHER_FORMATS = (
    (0, 4, b"II*\0", "a TIFF that is truncated or of a kind that is not known, such as 64-bit numbers"),
    (0, 4, b"MM\0*", "a TIFF that is truncated or of a kind that is not known, such as 64-bit numbers"),
    (8, 12, b"WEBP", "a WebP picture whatever its name says: save it as PNG"),
    (4, 8, b"ftyp", "a HEIC or AVIF picture whatever its name says: save it as PNG"),
    (0, 6, _NPY, "a NumPy array whatever its name says: call it .npy"),
)


class Decoded(NamedTuple):
    """A picture, upright.

    bits: how many the file gives each channel, though Pillow keeps 8 of them where there are several channels.
    white: in a netpbm file the value that it calls white and that Pillow stretches to all bits; None in others.
    white_is_zero: whether a TIFF says that its grey goes from white, 0, to black. Pillow turns 8 bits the usual way
        round, and leaves more as they are.
    """

    picture: Image.Image
    bits: int
    white: int | None
    white_is_zero: bool

    @property
    def numbers(self) -> npt.NDArray[Any]:
        """The values (H, W) of a picture in one of `NUMBER_MODES`; uint16 where the file has so many bits or fewer."""
        values = np.asarray(self.picture)
        return values.astype(np.uint16) if self.bits <= 16 else values

    def shades(self, path: Path) -> npt.NDArray[Any]:
        """The `numbers`, larger where the picture is brighter. path: of its file.

        Raises InputError where white is 0 and it is not known what black is.
        """
        if not self.white_is_zero:
            return self.numbers
        if self.bits > 16:
            raise InputError(
                f"picture {str(path)!r} holds numbers that fall from white, 0: save it so that 0 is black."
            )
        return np.uint16(2**self.bits - 1) - self.numbers


def is_array(path: Path) -> bool:
    """Whether the file is a NumPy array by its name, `.npy` or `.npy.gz`."""
    return path.name.lower().removesuffix(".gz").endswith(".npy")


def decode(path: Path) -> Decoded:
    """The file's one picture, decoded to its end and turned as its EXIF says.

    Raises InputError for a file that cannot be read, of several frames, or of more pixels than Pillow bears.
    """
    with _opened(path) as stream, _refusing(path):
        picture = Image.open(stream, formats=FORMATS)
        _require_one_frame(path, picture)
        bits, white = _depth(picture)
        white_is_zero = _is_tiff(picture) and _falls_from_white(picture)
        picture.load()
        if _orientation(picture) != 1:
            ImageOps.exif_transpose(picture, in_place=True)
        if picture.mode == "F":
            require_finite(path, np.asarray(picture))
        # From grey that its transparency has darkened Pillow knows but one way on.
        return Decoded(picture.convert("LA") if picture.mode == "La" else picture, bits, white, white_is_zero)


def decoded_size(path: Path) -> tuple[int, int]:
    """Height and width of what `decode` would give, from the file's head alone. Raises InputError as it does."""
    with _opened(path, head=True) as stream, _refusing(path):
        picture = Image.open(stream, formats=FORMATS)
        _require_one_frame(path, picture)
        if picture.format == "PNG" and _has_late_notes(stream):
            picture.load()
        # Pillow's own size of a TIFF that lies on its side differs between its versions.
        width, height = (picture.tag_v2[_WIDTH], picture.tag_v2[_HEIGHT]) if _is_tiff(picture) else picture.size  # type: ignore[attr-defined]
        return (width, height) if _orientation(picture) in _LYING else (height, width)


def decode_array(path: Path) -> npt.NDArray[Any]:
    """The array of a `.npy` file, of numbers or bools; nothing in the file is ever run.

    Raises InputError for a file that cannot be read or holds other things, less than its head claims, or NaN.
    """
    with _opened(path) as stream, _refusing(path):
        shape, in_columns, kind = _read_array_head(path, stream)
        count = int(np.prod(shape, dtype=object))
        start = stream.tell()
        there = stream.seek(0, io.SEEK_END) - start
        if there < count * kind.itemsize:
            raise EOFError(f"its head claims {count:,} values, but there are {there // kind.itemsize:,}")
        stream.seek(start)
        values = np.frombuffer(stream.read(count * kind.itemsize), kind)
    native = values.astype(kind.newbyteorder("="), copy=False)
    return require_finite(path, native.reshape(shape, order="F" if in_columns else "C"))


def array_shape(path: Path) -> tuple[int, ...]:
    """The shape of what `decode_array` would give, from the file's head alone."""
    with _opened(path, head=True) as stream, _refusing(path):
        return _read_array_head(path, stream)[0]


def require_finite(path: Path, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same values. Raises InputError when one of them is NaN or infinite."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        wrong = np.count_nonzero(~np.isfinite(values))
        raise InputError(
            f"picture {str(path)!r} holds NaN or infinity in {wrong:,} of {values.size:,} pixels: give them a number, "
            "such as 0."
        )
    return values


@contextmanager
def _opened(path: Path, *, head: bool = False) -> Iterator[BinaryIO]:
    """The file's bytes as a stream that can go back, unpacked if it is gzipped.

    head: whether its first bytes will do where they hold all that is asked of the format.
    """
    with _refusing(path):
        stream: BinaryIO = path.open("rb")
    with stream:
        if not path.name.lower().endswith(".gz"):
            yield stream
            return
        with _refusing(path):
            content = _unpack(path, stream, head)
        yield io.BytesIO(content)


def _unpack(path: Path, stream: BinaryIO, head: bool) -> bytes:
    with gzip.GzipFile(fileobj=stream) as packed:
        content = packed.read(2**16)
        if head and (content.startswith(_NPY) or content[:1] == b"P"):
            return content
        content += packed.read(MOST_UNPACKED_BYTES + 1 - len(content))
    if len(content) > MOST_UNPACKED_BYTES:
        raise InputError(
            f"picture {str(path)!r} unpacks to more than {MOST_UNPACKED_BYTES // 2**20} MiB: if that is right, unpack "
            "it yourself (gunzip); if not, remove it together with its pair."
        )
    return content


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turns what the decoders raise into one line that names the file and the fix."""
    try:
        yield
    except InputError:
        raise
    except _TOO_LARGE as error:
        raise InputError(
            f"picture {str(path)!r} is too large ({_words_of(error)}): cut it into tiles or shrink it, and its "
            "pair with it."
        ) from error
    except _DAMAGED as error:
        reason = _words_of(error)
        if isinstance(error, UnidentifiedImageError):
            reason = _what_it_is(path)
        raise InputError(
            f"picture {str(path)!r} cannot be read ({reason}): it may be truncated; copy it again or remove it "
            "together with its pair."
        ) from error


def _words_of(error: BaseException) -> str:
    words = " ".join(str(error).split()).rstrip(".")
    return words[:_MOST_WORDS] or type(error).__name__


def _what_it_is(path: Path) -> str:
    """What a file that Pillow did not know seems to be."""
    with _opened(path, head=True) as stream:
        first = stream.read(12)
    for start, end, signature, words in _OTHER_FORMATS:
        if first[start:end] == signature:
            return words
    return "no picture format that is known"


def _require_one_frame(path: Path, picture: Image.Image) -> None:
    # The further pictures in a phone's JPEG ("MPO") are previews and depths of the first.
    frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    if frames > 1:
        raise InputError(
            f"picture {str(path)!r} holds {frames} frames or pages, and which one is meant is not said: save that one "
            "alone in its place."
        )


def _depth(picture: Image.Image) -> tuple[int, int | None]:
    """Bits a channel and, of a netpbm file, the value of white, as `Decoded` has them; before the picture is loaded."""
    raw: Any = picture.tile[0][3] if getattr(picture, "tile", None) else ""  # type: ignore[attr-defined]
    mode = str(raw if isinstance(raw, str) else raw[0])
    if picture.format == "PPM" and not isinstance(raw, str) and picture.mode != "F":
        return (16 if raw[1] > 255 else 8), raw[1]
    if mode.endswith("S"):
        # Signed numbers of 16 bits come as 32, which hold them all.
        return 32, None
    return next((bits for bits in (16, 12, 32) if str(bits) in mode), 8), None


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except _DAMAGED:
        # Every viewer shows a picture whose EXIF is damaged as it lies.
        return 1


def _is_tiff(picture: Image.Image) -> bool:
    return picture.format == "TIFF"


def _falls_from_white(picture: Image.Image) -> bool:
    """Whether the grey of a TIFF goes from white, 0, to black."""
    # Pillow turns 8 bits of which the file does not say it, too.
    unsaid = 0 if picture.mode == "L" else 1
    return bool(picture.tag_v2.get(_SENSE, unsaid) == 0)  # type: ignore[attr-defined]


def _has_late_notes(stream: BinaryIO) -> bool:
    """Whether a PNG has notes behind its pixels, which Pillow reads only when it has decoded them."""
    back, seen_pixels = stream.tell(), False
    try:
        stream.seek(8)
        while len(head := stream.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            seen_pixels |= kind == b"IDAT"
            if seen_pixels and kind in _PNG_NOTES:
                return True
            stream.seek(length + 4, io.SEEK_CUR)
        return False
    finally:
        stream.seek(back)


def _read_array_head(path: Path, stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and kind of number; the stream then stands at the first value."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the .npy format is not known")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    try:
        shape, in_columns, kind = read(stream)
    except (MemoryError, RecursionError) as error:
        raise ValueError("its head is nested deeper than any array's") from error
    if kind.kind not in "buif":
        raise InputError(
            f"picture {str(path)!r} holds {'objects' if kind.hasobject else str(kind)}, not numbers: save it from an "
            "array of uint8, bool or float."
        )
    if any(length < 1 or isinstance(length, bool) for length in shape) or not 2 <= len(shape) <= 3:
        raise InputError(
            f"picture {str(path)!r} has the shape {shape}: it must be (height, width), with channels or planes as a "
            "third at most."
        )
    if np.prod(shape, dtype=object) > MOST_VALUES:
        raise InputError(
            f"picture {str(path)!r} claims to hold {shape} values, and {MOST_VALUES:,} is the most: cut it into tiles "
            "or shrink it, its pair with it."
        )
    return shape, in_columns, kind
