"""Finds a set's files in its owner's layout and says in one line what is missing and how it should look."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.catalogue import INDEX, Catalogue, Contents, Sample
from data.input_error import InputError
from data.links import refuse_links_out
from data.pictures import SUFFIXES, list_pictures, picture_stem, picture_suffix
from data.segmentation_data import Part


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a set's owner lays it out.

    source: the name that the set is asked for by.
    homes: folders below the root in which people keep it; the root itself is tried after them.
    landmarks: what its home must hold: names or patterns, folders with a slash at the end.
    shown: what it looks like, for messages.
    origin: where people get it, in words.
    """

    source: str
    homes: tuple[str, ...]
    landmarks: tuple[str, ...]
    shown: str
    origin: str

    def find_home(self, root: Path) -> Path:
        """The folder that holds the set, `root` or one of its homes in it. Raises InputError when none does."""
        homes = [*(root / name for name in self.homes), root]
        lacking = {home: [landmark for landmark in self.landmarks if not any(home.glob(landmark))] for home in homes}
        nearest = min(homes, key=lambda home: len(lacking[home]))
        if not lacking[nearest]:
            return nearest
        for home in homes:
            if home.is_dir():
                next(home.iterdir(), None)  # fails where it may not be read, which a search by pattern passes over
        if len(lacking[nearest]) < len(self.landmarks):
            raise InputError(
                f"folder {str(nearest)!r} lacks {', '.join(lacking[nearest])}: for data {self.source!r} it must hold "
                f"{self.shown}; copy what is missing from {self.origin}."
            )
        raise InputError(
            f"data {self.source!r} is not in {str(root)!r}: --data-root must name the folder that holds {self.shown}, "
            f"directly or in {self.homes[0]}/; get it from {self.origin}."
        )

    def catalogue(self, home: Path, samples: Iterable[Sample], contents: Callable[[], Contents]) -> Catalogue:
        """The catalogue of the samples found in `home`.

        Raises InputError when there are none, and for links that lead out of it.
        """
        by_name = tuple(sorted(samples, key=lambda sample: sample.name))
        if not by_name:
            raise InputError(
                f"folder {str(home)!r} holds none of the images of {self.source!r}: it must hold {self.shown}; get "
                f"it from {self.origin}."
            )
        refuse_links_out(home, (path for sample in by_name for path in sample.files))
        return Catalogue(source=self.source, samples=by_name, open=contents)


def read_lists(
    layout: Layout, lists: Mapping[Part, Path], read: Callable[[str], tuple[Iterable[Path], Iterable[Path]]]
) -> list[Sample]:
    """The samples of a set whose owner lists the names of each part in a file.

    lists: part -> the file. read: gives the images and index masks of a list, called by its name without suffix.

    Raises InputError for a list that cannot be read, and when a listed image or its mask is missing.
    """
    samples = []
    for part, listed_in in lists.items():
        try:
            images, masks = (list(paths) for paths in read(listed_in.stem))
        except (OSError, RuntimeError, ValueError) as error:
            raise InputError(
                f"list {str(listed_in)!r} cannot be read ({error}): data {layout.source!r} must hold {layout.shown}; "
                f"get it from {layout.origin}."
            ) from error
        require_files(images, masks, listed_in)
        samples += [
            Sample(name=image.stem, image=image, masks={INDEX: mask}, part=part)
            for image, mask in zip(images, masks, strict=True)
        ]
    return samples


def find_pictures(folder: Path, key: str, named: str, suffixes: Sequence[str] = SUFFIXES) -> dict[str, Path]:
    """The pictures of a folder by the part of their names that pairs them.

    key: regular expression of that part, which stands for `{}` in `named`.
    named: a file's name as its owner writes it, such as "{}_manual1.gif"; other picture formats, gzipped or not, and
        capital or small letters around the key do as well.
    suffixes: the formats that do.

    Raises InputError for a folder that is not there and for two files that differ only in their format.
    """
    if not folder.is_dir():
        raise InputError(f"folder {str(folder)!r} is missing: it must hold pictures named like {named.format('*')}.")
    before, after = (re.escape(part) for part in picture_stem(Path(named)).split("{}"))
    pattern = re.compile(f"(?i:{before})({key})(?i:{after})")
    found: dict[str, Path] = {}
    for path in list_pictures(folder):
        match = pattern.fullmatch(picture_stem(path))
        if match is None or (picture_suffix(path) or "").removesuffix(".gz") not in suffixes:
            continue
        other = found.setdefault(match[1], path)
        if other != path:
            raise InputError(f"{str(other)!r} and {str(path)!r} differ only in their format: remove one.")
    return found


def require_pairs(images: Mapping[str, Path], masks: Mapping[str, Path], folder: Path, named: str) -> None:
    """Raises InputError for an image without mask, or a mask without image.

    images, masks: as `find_pictures` gives them.
    folder, named: where the masks lie and how they are named.
    """
    if lacking := sorted(images.keys() - masks.keys()):
        raise InputError(
            f"image {str(images[lacking[0]])!r} without mask: {named.format(lacking[0])} is missing in "
            f"{str(folder)!r}{_count(lacking, images)}; copy the set again or remove the image."
        )
    if lacking := sorted(masks.keys() - images.keys()):
        raise InputError(
            f"mask {str(masks[lacking[0]])!r} without image{_count(lacking, masks)}: copy the set again or remove "
            "the mask."
        )


def require_files(images: Iterable[Path], masks: Iterable[Path], listed_in: Path) -> None:
    """Raises InputError when an image that the owner's list names, or its mask, is not there."""
    for image, mask in zip(images, masks, strict=True):
        if not image.is_file():
            raise InputError(f"image {str(image)!r} is missing, but {str(listed_in)!r} names it: copy the set again.")
        if not mask.is_file():
            raise InputError(f"image {str(image)!r} without mask: {str(mask)!r} is missing; copy the set again.")


def _count(some: Sequence[str], everything: Mapping[str, Path]) -> str:
    return f" (and {len(some) - 1} more of {len(everything)})" if len(some) > 1 else ""
