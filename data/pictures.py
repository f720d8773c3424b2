"""Decodes one picture file: colour images, grey masks, masks of class values."""

import gzip
import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from data.input_error import InputError
from data.segmentation_data import UInt8

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm")
# Pillow knows many more, some of which run other programs on what a stranger wrote.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "PPM")
LOSSY_SUFFIXES = (".jpg", ".jpeg")

# Pillow's TIFF reader warns of damage beside raising its error, and a mistake is told in one line. The filter is the
# whole process's, because Python cannot set one for a thread alone.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")

# What Pillow, gzip and zlib raise for damaged files of the formats above.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def picture_suffix(path: Path) -> str | None:
    """The suffix of a picture file in lower case, `.gz` included (".ppm.gz"), or None for any other file."""
    name = path.name.lower()
    if name.startswith("."):
        return None
    packed = ".gz" if name.endswith(".gz") else ""
    suffix = Path(name.removesuffix(".gz")).suffix
    return suffix + packed if suffix in SUFFIXES else None


def picture_stem(path: Path) -> str:
    """The file's name without its picture suffix: "im0001" for im0001.ppm.gz."""
    return path.name[: len(path.name) - len(picture_suffix(path) or "")]


def list_pictures(folder: Path) -> list[Path]:
    """The picture files that lie directly in a folder, by name; hidden files and other kinds are left out."""
    return sorted(path for path in folder.iterdir() if picture_suffix(path) is not None and path.is_file())


def is_lossy(path: Path) -> bool:
    """Whether the format blurs pixel values, so that a mask in it no longer holds the values it was saved with."""
    return (picture_suffix(path) or "").removesuffix(".gz") in LOSSY_SUFFIXES


def read_color(path: Path) -> UInt8:
    """The picture as RGB, uint8 (H, W, 3). Raises InputError for a file that cannot be decoded."""
    picture = _decode(path)
    if picture.mode.startswith("I;16"):
        grey = _sixteen_to_eight_bits(np.asarray(picture))
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise InputError(f"picture {str(path)!r} holds 32-bit values: save it with 8 or 16 bits a channel.")
    return np.array(picture.convert("RGB"))


def read_grey(path: Path) -> UInt8:
    """The picture as brightness, uint8 (H, W), 0..255. Raises InputError for a file that cannot be decoded."""
    picture = _decode(path)
    if picture.mode.startswith("I;16"):
        return _sixteen_to_eight_bits(np.asarray(picture))
    if picture.mode in ("I", "F"):
        raise InputError(f"picture {str(path)!r} holds 32-bit values: save it with 8 or 16 bits a channel.")
    return np.array(picture.convert("L"))


def read_index(path: Path) -> npt.NDArray[np.integer[Any]]:
    """The picture as the whole numbers that it holds, (H, W): a mask whose values stand for classes.

    A palette of colours stands for its indices; a palette of greys (and a picture of grey RGB) for the greys, so
    that a black and white GIF is 0 and 255. Raises InputError for a colour picture or one that cannot be decoded.
    """
    picture = _decode(path)
    if picture.mode == "P":
        indices = np.array(picture)
        colors = np.asarray(picture.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
        # The whole palette is judged: what is used differs from file to file, and the files must agree.
        if (colors == colors[:, :1]).all() and indices.max() < len(colors):
            return np.take(colors[:, 0], indices)
        return indices
    if picture.mode in ("RGB", "RGBA", "LA"):
        channels = np.array(picture.convert("RGB"))
        if (channels != channels[..., :1]).any():
            raise InputError(
                f"mask {str(path)!r} is in colour, so its pixels name no class: save it as a grey or palette PNG "
                "whose values are the classes."
            )
        return channels[..., 0]
    if picture.mode in ("1", "L"):
        return np.array(picture.convert("L"))
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        return np.array(picture)
    raise InputError(f"mask {str(path)!r} is of mode {picture.mode}: save it as a PNG whose values are the classes.")


def require_same_size(image_path: Path, image: UInt8, mask_path: Path, mask: npt.NDArray[Any]) -> None:
    """Raises InputError when an image (H, W, C) and its mask (H, W) differ in height or width."""
    if image.shape[:2] != mask.shape[:2]:
        (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape[:2]
        raise InputError(
            f"image {str(image_path)!r} is {width} x {height} but its mask {str(mask_path)!r} is "
            f"{mask_width} x {mask_height}: both must have one size; mend or remove the pair."
        )


def _sixteen_to_eight_bits(values: npt.NDArray[Any]) -> UInt8:
    return (values >> 8).astype(np.uint8)


def _decode(path: Path) -> Image.Image:
    """The first frame, decoded to the end so that a truncated file shows itself here."""
    try:
        content = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            content = gzip.decompress(content)
        picture = Image.open(io.BytesIO(content), formats=FORMATS)
        picture.load()
    except (*_DAMAGED, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "no picture format that is known"
        raise InputError(
            f"picture {str(path)!r} cannot be read ({reason}): it may be truncated; copy it again or remove it "
            "together with its pair."
        ) from error
    return picture
