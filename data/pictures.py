"""The picture files of a folder: their names, their sizes, and one read as an RGB image."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data.decoding import NUMBER_MODES, array_shape, decode, decode_array, decoded_size, is_array
from data.input_error import InputError
from data.links import refuse_broken_link
from data.segmentation_data import UInt8

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".npy")
LOSSY_SUFFIXES = (".jpg", ".jpeg")


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
    """The picture files that lie directly in a folder, by name; hidden files and other kinds are left out.

    Raises InputError for a link that leads nowhere and for a name that is no text.
    """
    pictures = sorted(path for path in folder.iterdir() if picture_suffix(path) is not None)
    for path in pictures:
        if not path.name.isprintable():
            raise InputError(f"file name {path.name!r} in {str(folder)!r} holds signs that are no text: rename it.")
        refuse_broken_link(path)
    return [path for path in pictures if path.is_file()]


def is_lossy(path: Path) -> bool:
    """Whether the format blurs pixel values, so that a mask in it no longer holds the values it was saved with."""
    return (picture_suffix(path) or "").removesuffix(".gz") in LOSSY_SUFFIXES


def picture_size(path: Path) -> tuple[int, int]:
    """Height and width of the image that `read_color` would give, without decoding it.

    Raises InputError for a file whose head cannot be read.
    """
    if not is_array(path):
        return decoded_size(path)
    height, width = _require_image_shape(path, array_shape(path))[:2]
    return height, width


def read_color(path: Path) -> UInt8:
    """The picture as RGB, uint8 (H, W, 3), upright.

    Of 16 bits a channel the upper 8 are taken; floats go from 0 to 1; what is transparent lies on black.
    Raises InputError for a file that cannot be decoded and for numbers of which it is not known what is white.
    """
    if is_array(path):
        values = decode_array(path)
        _require_image_shape(path, values.shape)
        return _spread(_brightness(path, values))
    decoded = decode(path)
    if decoded.picture.mode in NUMBER_MODES:
        return _spread(_brightness(path, decoded.shades(path), decoded.bits))
    if decoded.picture.has_transparency_data:
        return _on_black(path, np.asarray(decoded.picture.convert("RGBA")))
    return np.array(decoded.picture.convert("RGB"))


def require_same_size(image_path: Path, image: UInt8, mask_path: Path, mask: npt.NDArray[Any]) -> None:
    """Raises InputError when an image (H, W, C) and its mask (H, W) differ in height or width."""
    if image.shape[:2] != mask.shape[:2]:
        (height, width), (mask_height, mask_width) = image.shape[:2], mask.shape[:2]
        raise InputError(
            f"image {str(image_path)!r} is {width} x {height} but its mask {str(mask_path)!r} is "
            f"{mask_width} x {mask_height}: both must have one size; mend or remove the pair."
        )


def _brightness(path: Path, values: npt.NDArray[Any], bits: int = 16) -> UInt8:
    """Numbers of any kind as 0..255. bits: how many of a 16-bit number's the file uses."""
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint16:
        upper: UInt8 = (values >> (bits - 8)).astype(np.uint8)
        return upper
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        scaled: UInt8 = np.rint(values * 255).astype(np.uint8)
        return scaled
    raise InputError(
        f"picture {str(path)!r} holds {values.dtype} from {low:g} to {high:g}, and what is white is not said: save it "
        "with 8 or 16 bits a channel, or as floats from 0 to 1."
    )


def _spread(values: UInt8) -> UInt8:
    """Grey (H, W) or (H, W, 1), or colour (H, W, 3), as RGB of its own memory."""
    channels = values.reshape(*values.shape[:2], -1)
    return np.broadcast_to(channels, (*values.shape[:2], 3)).copy()


def _on_black(path: Path, layers: UInt8) -> UInt8:
    """An RGBA picture (H, W, 4) as it looks on black."""
    colors, alpha = layers[..., :3], layers[..., 3:].astype(np.uint16)
    if not alpha.any():
        raise InputError(f"picture {str(path)!r} is transparent all over: save it without transparency.")
    return ((colors * alpha + 127) // 255).astype(np.uint8)


def _require_image_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == 3 and shape[2] not in (1, 3):
        raise InputError(
            f"picture {str(path)!r} has the shape {shape}: an image is (height, width) or (height, width, 3); save "
            "it so."
        )
    return shape
