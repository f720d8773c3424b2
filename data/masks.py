"""Reads one mask file as what it is meant to be: how sure of one class, values or colours of classes, or planes."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from data.decoding import NUMBER_MODES, Decoded, array_shape, decode, decode_array, is_array
from data.input_error import InputError
from data.pictures import is_lossy
from data.segmentation_data import UInt8

Integers = npt.NDArray[np.integer[Any]]

# Class values are small: beyond this a number is no class.
_LARGEST_VALUE = 2**31 - 1
# How far JPEG may pull the channels of a grey pixel apart.
_BLUR = 40


class IndexMask(NamedTuple):
    """A mask whose pixels name classes.

    values: (H, W), whole numbers; where the mask is in colour, 0xRRGGBB.
    in_color: whether the values are colours.
    palette: the colours (0xRRGGBB) that the values are shown in, where they are indices of a palette; or None.
    """

    values: Integers
    in_color: bool
    palette: Integers | None = None


def read_grey(path: Path) -> UInt8:
    """A mask of one class as how sure its pixels are, uint8 (H, W), 0..255.

    Zeros and ones, and zeros and 255s, are meant in full, whatever kind of number they are; so are the indices 0 and 1
    of a palette of colours. Of 16 bits the upper 8 are taken; floats go from 0 to 1. Transparency counts for nothing.
    Raises InputError for a file that cannot be decoded, one in colour, numbers out of these ranges, and 8 bits that
    were saved as 16.
    """
    if is_array(path):
        return _shares(path, _require_flat(path, decode_array(path)))
    decoded = decode(path)
    if decoded.picture.mode in NUMBER_MODES:
        return _shares(path, decoded.shades(path), decoded.bits)
    if decoded.picture.mode == "P":
        indices, palette = _read_palette(decoded.picture)
        if palette is None or indices.max() <= 1:
            return _shares(path, indices)
    channels = _opaque(path, decoded)
    if np.ptp(channels, axis=2).max() > (_BLUR if is_lossy(path) else 0):
        raise InputError(f"mask {str(path)!r} is in colour: save it grey, with white where its class is.")
    return _shares(path, channels[..., 0])


def read_index(path: Path) -> Integers:
    """The whole numbers that a mask holds, (H, W), which stand for classes. Raises InputError for a mask in colour.

    Otherwise as `read_index_or_color`.
    """
    mask = read_index_or_color(path)
    if mask.in_color:
        raise InputError(
            f"mask {str(path)!r} is in colour, so its pixels name no class: save it as a grey or palette PNG whose "
            "values are the classes."
        )
    return mask.values


def read_colors(path: Path) -> Integers:
    """The colours of a mask as 0xRRGGBB, int32 (H, W); a palette is looked up, and grey is a colour too.

    Raises InputError for a file that cannot be decoded and for numbers that are no bytes.
    """
    if is_array(path):
        raise InputError(f"mask {str(path)!r} holds numbers, and colours are the classes here: save it as RGB PNG.")
    decoded = decode(path)
    if decoded.picture.mode in NUMBER_MODES:
        raise InputError(
            f"mask {str(path)!r} holds numbers of {decoded.bits} bits, and colours are the classes here: save it as "
            "RGB PNG of 8 bits a channel."
        )
    return _codes(_opaque(path, decoded))


def read_index_or_color(path: Path) -> IndexMask:
    """A mask whose values, or whose colours, stand for classes.

    A palette of colours stands for its indices; a palette of greys (and a picture of grey RGB) for the greys, so
    that a black and white GIF is 0 and 255. Transparency counts for nothing. In a TIFF whose white is 0 the numbers
    count as they are stored. Raises InputError for numbers that are not whole or out of range, for black and white of
    which it is not known whether the look or the number counts, and for a file that cannot be decoded.
    """
    if is_array(path):
        return IndexMask(_require_whole(path, _require_flat(path, decode_array(path))), False)
    decoded = decode(path)
    if decoded.picture.mode == "P":
        indices, palette = _read_palette(decoded.picture)
        return IndexMask(indices, False, palette)
    if decoded.picture.mode in NUMBER_MODES:
        return IndexMask(_require_whole(path, _without_stretch(decoded.numbers, decoded.white, 65535)), False)
    channels = _opaque(path, decoded)
    if (channels != channels[..., :1]).any():
        return IndexMask(_codes(channels), True)
    values = channels[..., 0]
    if decoded.white_is_zero and decoded.picture.mode == "L":
        values = _as_stored(path, values)
    return IndexMask(_without_stretch(values, decoded.white, 255), False)


def read_stack(path: Path, size: tuple[int, int]) -> UInt8:
    """The planes of a `.npy` mask, uint8 (K, H, W), 0..255, whether the file has the classes first or last.

    size: height and width of the image. Zeros and ones are meant in full, and floats go from 0 to 1. Raises InputError
    for a file that cannot be read or does not fit the image.
    """
    classes_last = stack_axis(path, size) == 2
    planes = decode_array(path)
    return np.ascontiguousarray(_shares(path, planes.transpose(2, 0, 1) if classes_last else planes))


def stack_axis(path: Path, size: tuple[int, int]) -> int:
    """The axis, 0 or 2, along which a `.npy` mask of three dimensions has its planes. Raises as `read_stack` does."""
    shape = array_shape(path)
    fits = [axis for axis in (0, 2) if len(shape) == 3 and tuple(np.delete(shape, axis)) == size]
    if len(fits) != 1:
        raise InputError(
            f"mask {str(path)!r} has the shape {shape}, and its image is {size[0]} high and {size[1]} wide: save it as "
            "(classes, height, width) or (height, width, classes)."
        )
    return fits[0]


def _shares(path: Path, values: npt.NDArray[Any], bits: int = 16) -> UInt8:
    """Numbers of any shape as shares of 255. bits: how many of a 16-bit number's the file uses."""
    low, high = values.min(), values.max()
    if low < 0:
        raise InputError(f"mask {str(path)!r} holds the value {low:g}: masks go from 0 (no) to white (yes); mend it.")
    if values.dtype == bool or (high == 1 and np.isin(values, (0, 1)).all()):
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype == np.uint8 or (high == 255 and np.isin(values, (0, 255)).all()):
        return values.astype(np.uint8)
    if values.dtype.kind == "f" and high <= 1:
        scaled: UInt8 = np.rint(values * 255).astype(np.uint8)
        return scaled
    if values.dtype == np.uint16 and 1 < high <= 255:
        raise InputError(
            f"mask {str(path)!r} has 16 bits a pixel but holds nothing above {high}, as if 8 bits were saved as 16: "
            "save it with 8 bits, or so that white is 65535."
        )
    if values.dtype == np.uint16:
        upper: UInt8 = (values >> (bits - 8)).astype(np.uint8)
        return upper
    raise InputError(
        f"mask {str(path)!r} holds {values.dtype} up to {high:g}: a mask of one class holds 0 and 1, floats from 0 "
        "to 1, or 8 or 16 bits; save it so."
    )


def _require_whole(path: Path, values: npt.NDArray[Any]) -> Integers:
    """The values as integers. Raises InputError when one is not whole or too large to be a class."""
    if values.dtype.kind == "f":
        if (uneven := values != np.rint(values)).any():
            raise InputError(
                f"mask {str(path)!r} holds {values[uneven][0]:g}, which is no class: save whole numbers, or put maps "
                "of how sure a class is into masks/<class>/."
            )
    elif values.dtype == bool:
        values = values.astype(np.uint8)
    if max(-float(values.min()), float(values.max())) > _LARGEST_VALUE:
        raise InputError(f"mask {str(path)!r} holds the value {values.max():g}, too large for a class: mend it.")
    return values.astype(np.int32) if values.dtype.kind == "f" or values.dtype.itemsize > 4 else values


def _require_flat(path: Path, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        return values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2:
        raise InputError(
            f"mask {str(path)!r} has the shape {values.shape}, and one of (height, width) is needed here: save each "
            "class by itself, or put planes of all classes directly into masks/."
        )
    return values


def _without_stretch(values: npt.NDArray[Any], white: int | None, full: int) -> Integers:
    """Values as they stand in a netpbm file, whose white Pillow stretches to all bits."""
    if white is None:
        return values
    return np.rint(values * (white / full)).astype(np.int32)


def _as_stored(path: Path, shades: UInt8) -> UInt8:
    """The numbers (H, W) in a file whose white is 0, of the shades that it shows."""
    if (shades.min(), shades.max()) == (0, 255) and np.isin(shades, (0, 255)).all():
        raise InputError(
            f"mask {str(path)!r} is a TIFF whose white is stored as 0 and black as 255, so it is not known which of "
            "them is background: save it as PNG."
        )
    return np.uint8(255) - shades


def _read_palette(picture: Image.Image) -> tuple[UInt8, Integers | None]:
    """The values and their colours, or None for these where the palette is grey and the values are its greys."""
    indices = np.array(picture)
    colors = np.asarray(picture.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    # The whole palette is judged: what is used differs from file to file, and the files must agree.
    if (colors == colors[:, :1]).all() and indices.max() < len(colors):
        return np.take(colors[:, 0], indices), None
    codes = np.zeros(256, np.int32)
    codes[: len(colors)] = _codes(colors)
    return indices, codes


def _codes(colors: UInt8) -> Integers:
    """Colours (..., 3) as 0xRRGGBB (...)."""
    return colors @ np.array([1 << 16, 1 << 8, 1], np.int32)


def _opaque(path: Path, decoded: Decoded) -> UInt8:
    """The channels (H, W, 3) of a mask without its transparency.

    Raises InputError when transparency says more than the colours do, and for 16 bits of which Pillow keeps 8.
    """
    picture = decoded.picture
    if picture.mode in ("1", "L") and not picture.has_transparency_data:
        return np.array(picture.convert("L"))[..., None].repeat(3, axis=2)
    if decoded.bits > 8:
        raise InputError(
            f"mask {str(path)!r} has several channels of {decoded.bits} bits: save it as grey PNG of 8 or 16 bits."
        )
    if picture.mode == "CMYK":
        raise InputError(f"mask {str(path)!r} is of mode CMYK: save it as a PNG whose values are the classes.")
    if not picture.has_transparency_data:
        return np.array(picture.convert("RGB"))
    layers = np.array(picture.convert("RGBA"))
    colors, alpha = layers[..., :3], layers[..., 3]
    if alpha.min() < alpha.max() and (colors[alpha == 0].any() or not (colors != colors[0, 0]).any()):
        raise InputError(
            f"mask {str(path)!r} says by its transparency where something is: save it without, black where nothing is."
        )
    return colors
