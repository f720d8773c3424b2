"""What a check of the data doctor is, and what it looks at: a data set, its splits, and what was seen of them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, islice
from typing import Literal

import numpy as np
import numpy.typing as npt

from data.fit import fitted_size
from data.likeness import MOST_PAIRS, Alike, find_alike, share_alike
from data.mask_fit import Misfit, find_misfits
from data.segmentation_data import PARTS, Part, SegmentationData, Split

Level = Literal["error", "warning", "note"]
Certainty = Literal["certain", "likely", "possible"]

# The worst first, and the surest first.
LEVELS: tuple[Level, ...] = ("error", "warning", "note")
CERTAINTIES: tuple[Certainty, ...] = ("certain", "likely", "possible")

_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One thing that a check saw.

    what: a sentence with numbers and names. pictures: the places of those concerned. remedy: what deals with it, where
    it depends on what was seen; else the check's own.
    """

    what: str
    pictures: tuple[int, ...] = ()
    remedy: str | None = None


@dataclass(frozen=True, kw_only=True)
class PicturePair:
    """Two pictures, by their places, that are copies; exact ones have the same pixels once they are prepared."""

    first: int
    second: int
    exact: bool
    turn: int


@dataclass(frozen=True, kw_only=True)
class Case:
    """A data set and the splits it is used in, one or a fold each, with what several checks want to know of them."""

    data: SegmentationData
    splits: tuple[Split, ...]

    @cached_property
    def shares(self) -> npt.NDArray[np.float64]:
        """Of each picture's counting pixels, the share of each class: (N, K)."""
        counted = self.data.statistics
        return counted.class_pixels / np.maximum(counted.valid_pixels, 1)[:, None]

    @cached_property
    def shapes(self) -> npt.NDArray[np.int64]:
        """Height and width of each prepared picture, without padding: (N, 2)."""
        size = self.data.preparation.size
        return np.array([fitted_size(height, width, size) for height, width in self.data.sizes], np.int64)

    @cached_property
    def shrunk(self) -> npt.NDArray[np.float64]:
        """How many times smaller than its file each picture is: (N,), 1 where it is as large."""
        ratio: npt.NDArray[np.float64] = np.array(self.data.sizes)[:, 0] / self.shapes[:, 0]
        return ratio

    @cached_property
    def brightness(self) -> npt.NDArray[np.float64]:
        """How often each brightness stands in each picture, over its channels: (N, 256), each row's sum 1 or 0."""
        counts = self.data.statistics.histograms.sum(axis=1)
        shares: npt.NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        return shares

    @cached_property
    def blank(self) -> npt.NDArray[np.bool_]:
        """Which pictures hold one value only in each channel: (N,)."""
        blank: npt.NDArray[np.bool_] = ((self.data.statistics.histograms > 0).sum(axis=2) <= 1).all(axis=1)
        return blank

    @cached_property
    def copies(self) -> tuple[PicturePair, ...]:
        """Pairs of pictures that show the same, the surest first."""
        alike: dict[tuple[int, int], Alike] = {
            (pair.first, pair.second): pair for pair in find_alike(self.data.statistics.thumbnails)
        }
        same: dict[int, list[int]] = {}
        for place in np.flatnonzero(~self.blank):
            same.setdefault(int(self.data.statistics.digests[place, 0]), []).append(int(place))
        pairs_of = (pair for places in same.values() for pair in combinations(places, 2))
        exact = dict.fromkeys(islice(pairs_of, MOST_PAIRS))
        likely = [pair for pair in alike if pair not in exact]
        pairs = [PicturePair(first=first, second=second, exact=True, turn=0) for first, second in exact]
        pairs += [PicturePair(first=pair[0], second=pair[1], exact=False, turn=alike[pair].turn) for pair in likely]
        return tuple(pairs)

    @cached_property
    def share_alike(self) -> float:
        """How many of the pairs of different pictures are near copies, 0..1: much where a camera stood still."""
        _, first = np.unique(self.data.statistics.digests[:, 0], return_index=True)
        return share_alike(self.data.statistics.thumbnails[np.sort(first)])

    @cached_property
    def misfits(self) -> tuple[Misfit, ...]:
        """Masks that do not fit their pictures."""
        seen = self.data.statistics
        return tuple(find_misfits(seen.edges, seen.borders, seen.shifts, seen.agreements, self.shapes))

    def in_part(self, part: Part) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The part of each split by what it is called, such as "train" or "train of fold 2", with its pictures."""
        for number, split in enumerate(self.splits, start=1):
            yield (part if len(self.splits) == 1 else f"{part} of fold {number}"), split.parts[part]

    def part_of(self, picture: int) -> tuple[Part | None, ...]:
        """Where the picture stands in each split."""
        return tuple(parts.get(picture) for parts in self._parts)

    def parted(self, first: int, second: int) -> str | None:
        """Between which parts two pictures are torn apart, such as "train and test".

        Of several splits, the first counts that puts one of them into train, where a picture gives the other away.
        """
        torn = [
            " and ".join(sorted((one, other), key=PARTS.index))
            for one, other in zip(self.part_of(first), self.part_of(second), strict=True)
            if one is not None and other is not None and one != other
        ]
        return next((between for between in torn if between.startswith("train")), torn[0] if torn else None)

    @cached_property
    def _parts(self) -> tuple[dict[int, Part], ...]:
        return tuple({picture: part for part, own in split.parts.items() for picture in own} for split in self.splits)

    def names(self, pictures: Iterable[int]) -> str:
        """The pictures' names, the first few, with dots when that is not all."""
        return some([self.data.names[picture] for picture in pictures])


def some(words: Sequence[object]) -> str:
    """The first few words, with dots when that is not all."""
    shown = ", ".join(map(str, words[:_SHOWN]))
    return shown if len(words) <= _SHOWN else f"{shown}, ..."


def count_of(number: int, noun: str) -> str:
    """The number and the noun, in the plural unless it is one: "1 picture", "2 pictures"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def places(where: npt.NDArray[np.bool_] | np.bool_) -> tuple[int, ...]:
    """The places at which an array (N,) is true."""
    return tuple(int(place) for place in np.flatnonzero(where))


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that the doctor looks for.

    level: an "error" makes a search worthless, a "warning" may spoil it, a "note" is good to know. sure: of what is
    reported. why: the reason to care, one sentence. remedy: the flag or the action that deals with it. look: what is
    there to see.
    """

    level: Level
    sure: Certainty
    why: str
    remedy: str
    look: Callable[[Case], Iterator[Observation]]
