"""Finds masks that lie wrong on their pictures: another picture's, turned, or moved, by where outlines meet edges."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from data.likeness import TURNS, turned

Fault = Literal["swapped", "turned", "shifted", "unlike"]
Drawings = npt.NDArray[np.uint8]  # (N, side, side)
Features = npt.NDArray[np.float32]  # (N, side * side), each of length 1
Scores = npt.NDArray[np.float32]  # (N,)

# By so much must a mask fit better elsewhere, in correlation. How far this and the limits below are from blaming sound
# masks of retinas, lesions and blood cells: benchmarks/doctor.py.
_GAIN = 0.1
# So many spreads above what masks of other pictures score is no chance.
_NO_CHANCE = 3.5
# In a set whose middle mask is so many spreads above others', one that stands out less than this share of it is lost.
# Sound ones of that benchmark all stand out 0.4 of it.
_READABLE, _LOST = 6, 0.25
# Lower agreements than this arise anywhere.
_LOWEST = 0.15
# Below so many pictures, what all have in common cannot be told from what each has of its own.
_FEWEST = 6
# In smaller pictures, some place fits better by chance.
_SMALLEST = 64
_AT_ONCE = 2048
# Of how many masks all pictures' scores are looked at to learn what is usual.
_SAMPLED = 200
# So many pairs of a picture and a mask are compared, for time grows with them: in sets of more than 6,000, those
# pictures first whose own masks fit worst.
_MOST_PAIRS = 6000**2
# Which of TURNS leave a picture as high and as wide as it was.
_KEEPS_SHAPE = (2, 4, 6)


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """A mask that does not fit its picture.

    picture: its place. agreement: of the mask's outlines with the picture's edges, 0 by chance, 1 perfectly.
    better: the same, for the mask as it would fit, or, of an "unlike" mask, as others of the set do.
    other: the picture whose mask would fit, of a "swapped" one. turn: of TURNS, of a "turned" one.
    shift: rows and columns by which a "shifted" one must be moved.
    """

    picture: int
    fault: Fault
    agreement: float
    better: float
    other: int | None = None
    turn: int = 0
    shift: tuple[int, int] = (0, 0)


def find_misfits(
    edges: Drawings,
    borders: Drawings,
    shifts: npt.NDArray[np.int32],
    agreements: npt.NDArray[np.float32],
    shapes: npt.NDArray[np.int64],
) -> list[Misfit]:
    """The masks that do not fit, at most one fault a picture: the one that explains most.

    edges, borders (N, side, side), shifts (N, 2), agreements (N, 2): as in `data.statistics.Statistics`.
    shapes: int64 (N, 2), height and width of the prepared pictures.
    """
    found: list[Misfit] = _find_shifted(shifts, agreements, shapes)
    drawn = np.flatnonzero(edges.any(axis=(1, 2)) & borders.any(axis=(1, 2)))
    if len(drawn) >= _FEWEST:
        found += _find_strangers(drawn, edges[drawn], borders[drawn], (shapes[:, 0] == shapes[:, 1])[drawn])
    best: dict[int, Misfit] = {}
    for misfit in sorted(found, key=lambda misfit: (misfit.fault != "unlike", misfit.better - misfit.agreement)):
        best[misfit.picture] = misfit
    return [best[picture] for picture in sorted(best)]


def _find_shifted(
    shifts: npt.NDArray[np.int32], agreements: npt.NDArray[np.float32], shapes: npt.NDArray[np.int64]
) -> list[Misfit]:
    """Masks that would fit better a few pixels from where they are."""
    gain = agreements[:, 1] - agreements[:, 0]
    moved = (
        (gain > _GAIN)
        & (agreements[:, 1] > _LOWEST)
        & (np.abs(shifts).max(axis=1) >= 2)
        & (shapes.min(axis=1) >= _SMALLEST)
    )
    return [
        Misfit(
            picture=int(picture),
            fault="shifted",
            agreement=float(agreements[picture, 0]),
            better=float(agreements[picture, 1]),
            shift=(int(shifts[picture, 0]), int(shifts[picture, 1])),
        )
        for picture in np.flatnonzero(moved)
    ]


def _find_strangers(
    pictures: npt.NDArray[np.int64], edges: Drawings, borders: Drawings, square: npt.NDArray[np.bool_]
) -> list[Misfit]:
    """Masks that fit another picture, or their own when it is mirrored or turned, or none, and do not fit as they are.

    pictures: the places of those whose drawings (M, side, side) are given.
    square: (M,), which may stand on their sides.
    """
    drawn = _Drawn(edges, borders)
    own = drawn.agreements()
    typical, spread = drawn.usual_of_others()
    no_chance = max(typical + _NO_CHANCE * spread, _LOWEST)
    # A mask can only fit better elsewhere where it fits badly here.
    worst = np.sort(np.argsort(own, kind="stable")[: max(1, _MOST_PAIRS // len(own))])
    misfits: list[Misfit] = []

    def note(fault: Fault, where: npt.NDArray[np.bool_], better: Scores, **facts: npt.NDArray[np.int64]) -> None:
        for place in np.flatnonzero(where):
            details: dict[str, Any] = {name: int(values[place]) for name, values in facts.items()}
            picture, score, best_score = worst[place], float(own[worst[place]]), float(better[place])
            misfits.append(
                Misfit(picture=int(pictures[picture]), fault=fault, agreement=score, better=best_score, **details)
            )

    # A mask belongs to another picture when it fits there better than here, and better than that picture's own.
    best, partner = drawn.best_of_others(worst)
    elsewhere = (best > own[worst] + _GAIN) & (best > own[partner] + _GAIN) & (best > no_chance)
    note("swapped", elsewhere, best, other=pictures[partner])
    for turn in range(1, len(TURNS)):
        fit = drawn.agreements(worst, turn)
        possible = square[worst] | (turn in _KEEPS_SHAPE)
        turns = np.full(len(worst), turn)
        note("turned", possible & (fit > own[worst] + _GAIN) & (fit > no_chance), fit, turn=turns)
    # Only in a set whose masks clearly follow edges does one that does not stand out.
    usual = np.full(len(worst), np.median(own))
    lost = own[worst] < typical + _LOST * (usual - typical)
    note("unlike", lost & (usual > typical + _READABLE * spread), usual)
    return misfits


class _Drawn:
    """Drawings (M, side, side) of edges and of masks' outlines, compared a few at a time: as numbers they are large."""

    def __init__(self, edges: Drawings, borders: Drawings) -> None:
        self._edges, self._borders = edges, borders
        # What all pictures have in common, such as the rim of the field of view, says nothing about one of them.
        self._middles = edges.mean(axis=0, dtype=np.float32), borders.mean(axis=0, dtype=np.float32)

    def agreements(self, places: npt.NDArray[np.int64] | None = None, turn: int = 0) -> Scores:
        """How well masks fit their own pictures, at these places or all, once laid down as TURNS[turn] says."""
        chosen = np.arange(len(self._edges)) if places is None else places
        fits = [
            np.einsum("ij,ij->i", self._edge_features(some), self._border_features(some, turn))
            for some in _in_parts(chosen)
        ]
        return np.concatenate(fits)

    def usual_of_others(self) -> tuple[float, float]:
        """How well masks fit other pictures: the middle and the spread."""
        every = np.arange(len(self._edges))
        columns = every[:: max(1, len(every) // _SAMPLED)]
        borders = self._border_features(columns)
        scores = np.concatenate([self._edge_features(some) @ borders.T for some in _in_parts(every)])
        others = scores[every[:, None] != columns]
        middle = float(np.median(others))
        # Of a normal distribution, the median distance from the middle is 0.67 of the spread.
        return middle, float(np.median(np.abs(others - middle))) / 0.6745

    def best_of_others(self, places: npt.NDArray[np.int64]) -> tuple[Scores, npt.NDArray[np.int64]]:
        """Of each picture at these places, the best score of another's mask, and whose mask that is."""
        best, partner = np.full(len(places), -1, np.float32), np.zeros(len(places), np.int64)
        edges = self._edge_features(places)
        for some in _in_parts(np.arange(len(self._edges))):
            scores = edges @ self._border_features(some).T
            scores[places[:, None] == some] = -1
            highest = scores.argmax(axis=1)
            values = scores[np.arange(len(places)), highest]
            better = values > best
            best[better], partner[better] = values[better], some[highest[better]]
        return best, partner

    def _edge_features(self, places: npt.NDArray[np.int64]) -> Features:
        return _features(self._edges[places] - self._middles[0])

    def _border_features(self, places: npt.NDArray[np.int64], turn: int = 0) -> Features:
        return _features(turned(self._borders[places], turn) - self._middles[1])


def _in_parts(places: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
    return [places[start : start + _AT_ONCE] for start in range(0, len(places), _AT_ONCE)]


def _features(drawings: npt.NDArray[np.float32]) -> Features:
    """Drawings (N, side, side) as rows that have the mean 0 and the length 1."""
    rows = drawings.reshape(len(drawings), -1)
    flat: Features = rows - rows.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), np.float32(1e-6))
    return flat
