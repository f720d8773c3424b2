"""Finds out which classes the masks of a plain folder hold: by their values, their colours, or their planes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.catalogue import INDEX, Contents, Sample, map_in_threads, planes_by_stack, planes_by_value
from data.classes_file import CLASSES_FILE, DeclaredClasses
from data.decoding import array_shape, is_array
from data.input_error import InputError
from data.masks import read_colors, read_index, read_index_or_color, stack_axis
from data.pictures import is_lossy, picture_size
from data.segmentation_data import MULTICLASS, MULTILABEL

# More different values than this, and nobody meant them all as classes.
_MOST_VALUES = 32
# How many names or values a message shows before it says how many there are.
_SHOWN = 5
_BLACK, _WHITE = 0, 0xFFFFFF
# The value that in many sets means "not labelled", in many others "yes".
_FULL = 255


class _Look(NamedTuple):
    """What one mask holds: its values, or colours, and the colours that a palette shows the values in."""

    values: tuple[int, ...]
    in_color: bool
    palette: Mapping[int, int] | None


def open_masks(root: Path, samples: Sequence[Sample], declared: DeclaredClasses | None) -> Contents:
    """The classes of the masks that the samples hold under INDEX, and the way to the pixels.

    Masks of one value a pixel become "multiclass" ("multilabel" when there is but one class), and so do masks in
    colour, each colour a class and black the background; `.npy` masks of planes become "multilabel". What the classes
    file declares stands above what is found. Raises InputError for masks of several kinds, for values and colours
    that cannot all be meant, and for what is not declared where something is.
    """
    masks = [sample.masks[INDEX] for sample in samples]
    stacks = [path for path in masks if is_array(path) and len(array_shape(path)) == 3]
    if stacks and len(stacks) < len(masks):
        other = next(path for path in masks if path not in stacks)
        raise InputError(
            f"mask {str(stacks[0])!r} holds planes but {str(other)!r} one value a pixel: save all masks of a folder in "
            "one way."
        )
    if stacks:
        return _open_stacks(samples, declared)
    if declared is not None:
        return _open_declared(masks, declared)
    looks = dict(zip(masks, map_in_threads(_look, masks), strict=True))
    if any(look.in_color for look in looks.values()):
        return _open_colors(root, looks)
    return _open_values(root, looks)


def name_some(names: Iterable[object]) -> str:
    """The first few, and how many there are when that is not all."""
    everything = [str(name) for name in names]
    shown = ", ".join(everything[:_SHOWN])
    return shown if len(everything) <= _SHOWN else f"{shown}, ... ({len(everything)} in all)"


def _open_stacks(samples: Sequence[Sample], declared: DeclaredClasses | None) -> Contents:
    first, *others = map_in_threads(_planes_in, samples)
    if different := next((sample for sample, count in zip(samples[1:], others, strict=True) if count != first), None):
        raise InputError(
            f"mask {str(samples[0].masks[INDEX])!r} holds {first} planes but {str(different.masks[INDEX])!r} "
            f"{_planes_in(different)}: all must hold one for each class."
        )
    if declared is None:
        return planes_by_stack({place: f"class_{place}" for place in range(first)} if first > 1 else {0: "foreground"})
    if declared.in_color or declared.known != frozenset(range(first)):
        raise InputError(
            f"{str(declared.path)!r} must name the {first} planes of the masks, from `0 name` to `{first - 1} name`."
        )
    _require_classes(declared.classes, f"{str(declared.path)!r} names no class")
    return planes_by_stack(declared.classes, declared.ignored)


def _planes_in(sample: Sample) -> int:
    assert sample.image is not None
    path = sample.masks[INDEX]
    return array_shape(path)[stack_axis(path, picture_size(sample.image))]


def _open_declared(masks: Sequence[Path], declared: DeclaredClasses) -> Contents:
    read = read_colors if declared.in_color else read_index

    def values_in(path: Path) -> tuple[int, ...]:
        return tuple(int(value) for value in np.unique(read(path)))

    values_of = dict(zip(masks, map_in_threads(values_in, masks), strict=True))
    found = {value for values in values_of.values() for value in values}
    if undeclared := sorted(found - declared.known - {0}):
        guilty = next(path for path, values in values_of.items() if undeclared[0] in values)
        kind, shown = (
            ("colours", [f"#{value:06x}" for value in undeclared]) if declared.in_color else ("values", undeclared)
        )
        raise InputError(
            f"mask {kind} {name_some(shown)} are not in {str(declared.path)!r} (the first is in {str(guilty)!r}): add "
            f"a line for each, such as `{shown[0]} name`, or mend the masks."
        )
    _require_classes(declared.classes, f"{str(declared.path)!r} names no class")
    return _contents(declared.classes, declared.ignored, read)


def _open_values(root: Path, looks: Mapping[Path, _Look]) -> Contents:
    _refuse_unlike_palettes(looks)
    found = _values_meant(root, looks)
    if found[0] < 0:
        guilty = next(path for path, look in looks.items() if found[0] in look.values)
        raise InputError(
            f"mask {str(guilty)!r} holds the value {found[0]}: say in a file {CLASSES_FILE} what each value is, such "
            f"as `{found[0]} ignore` for pixels that do not count."
        )
    _refuse_unclear_full(looks, found)
    if 0 not in found and len(found) > 2:
        raise InputError(
            f"no mask in {str(root)!r} holds 0 but the values {name_some(found)}, so it is not known which is "
            f"background: say so in a file {CLASSES_FILE}, such as `{found[0]} background`, with a line for each value."
        )
    background = 0 if 0 in found else found[0]
    values = [value for value in found if value != background]
    _require_classes(values, f"the masks in {str(root)!r} hold no value but {name_some(found)}")
    return _contents({value: f"class_{value}" for value in values} if len(values) > 1 else {values[0]: "foreground"})


def _open_colors(root: Path, looks: Mapping[Path, _Look]) -> Contents:
    colored = next(path for path, look in looks.items() if look.in_color)
    colors = {color for look in looks.values() if look.in_color for color in look.values} | {_BLACK, _WHITE}
    seen = {}
    for path, look in looks.items():
        if look.in_color:
            seen[path] = look
        elif look.palette is not None:
            seen[path] = look._replace(values=tuple(sorted(set(look.palette.values()))))
        else:
            # A picture that holds but one of the colours, and that a grey one, is grey.
            seen[path] = look._replace(values=tuple(value * 0x010101 for value in look.values))
            if not set(seen[path].values) <= colors:
                raise InputError(
                    f"mask {str(colored)!r} is in colour but {str(path)!r} holds the values {name_some(look.values)}: "
                    "save all masks of a folder in one way."
                )
    found = _values_meant(root, seen)
    if _BLACK not in found:
        raise InputError(
            f"no mask in {str(root)!r} holds black, so it is not known which colour is background: say so in a file "
            f"{CLASSES_FILE}, such as `#{found[-1]:06x} background`, with a line for each colour."
        )
    colors_meant = [color for color in found if color != _BLACK]
    names = [f"color_{color:06x}" for color in colors_meant] if len(colors_meant) > 1 else ["foreground"]
    return _contents(dict(zip(colors_meant, names, strict=True)), read=read_colors)


def _contents(
    classes: Mapping[int, str], ignored: Sequence[int] = (), read: Callable[[Path], np.ndarray] = read_index
) -> Contents:
    # One class alone is a yes or no; several exclude each other.
    return planes_by_value(classes, MULTICLASS if len(classes) > 1 else MULTILABEL, ignored, read=read)


def _look(path: Path) -> _Look:
    mask = read_index_or_color(path)
    values = tuple(int(value) for value in np.unique(mask.values))
    palette = None if mask.palette is None else {value: int(mask.palette[value]) for value in values}
    return _Look(values, mask.in_color, palette)


def _values_meant(root: Path, looks: Mapping[Path, _Look]) -> list[int]:
    """All values, or colours. Raises InputError when they cannot all be meant as classes."""
    remedy = (
        "save the masks without loss (PNG) with one value a class, name the values in a file "
        f"{CLASSES_FILE} (lines like `255 name`), or put grey masks into masks/<class>/"
    )
    in_color = any(look.in_color for look in looks.values())

    def show(values: Iterable[int]) -> str:
        return (
            f"colours {name_some(f'#{value:06x}' for value in values)}" if in_color else f"values {name_some(values)}"
        )

    for path, look in looks.items():
        if is_lossy(path) and len(look.values) > 2:
            raise InputError(f"mask {str(path)!r} holds the {show(look.values)}, blurred by its format: {remedy}.")
    found = sorted({value for look in looks.values() for value in look.values})
    if len(found) > _MOST_VALUES:
        raise InputError(f"the masks in {str(root)!r} hold the {show(found)}, too many for classes: {remedy}.")
    return found


def _refuse_unlike_palettes(looks: Mapping[Path, _Look]) -> None:
    """Raises InputError when one index is of several colours: then nobody knows whether indices or colours count."""
    shown_by: dict[int, tuple[int, Path]] = {}
    for path, look in looks.items():
        for value, color in (look.palette or {}).items():
            before, first = shown_by.setdefault(value, (color, path))
            if before != color:
                raise InputError(
                    f"index {value} is #{before:06x} in the palette of mask {str(first)!r} but #{color:06x} in "
                    f"{str(path)!r}: say in a file {CLASSES_FILE} which values (`{value} name`) or which colours "
                    f"(`#{color:06x} name`) are the classes."
                )


def _refuse_unclear_full(looks: Mapping[Path, _Look], found: Sequence[int]) -> None:
    """Raises InputError when 255 stands beside small values: it may be a class, or what nobody labelled."""
    others = [value for value in found if value not in (0, _FULL)]
    if _FULL not in found or not others or others[-1] > _MOST_VALUES:
        return
    full = next(path for path, look in looks.items() if _FULL in look.values)
    if others == [1] and not any({1, _FULL} <= set(look.values) for look in looks.values()):
        one = next(path for path, look in looks.items() if 1 in look.values)
        raise InputError(
            f"mask {str(one)!r} holds 1 but {str(full)!r} {_FULL}, and no mask both, as if the one were saved as 0 and "
            f"1 and the other as 0 and {_FULL}: save all in one way, or, if they are two classes, name both in a file "
            f"{CLASSES_FILE}."
        )
    raise InputError(
        f"mask {str(full)!r} holds {_FULL} beside small values ({name_some(others)}): say what it is in a file "
        f"{CLASSES_FILE}, such as `{_FULL} ignore` for pixels that do not count, with a line for each value."
    )


def _require_classes(classes: Mapping[int, str] | Sequence[int], lack: str) -> None:
    if not classes:
        raise InputError(f"{lack}, so there is no class to learn: give the pixels of each class a value of their own.")
