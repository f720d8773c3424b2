"""Finds pictures that are copies of each other, whatever was done to one of them, from their thumbnails."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Drawings = npt.NDArray[np.float32]  # (N, side, side)
Number = TypeVar("Number", np.uint8, np.float32)
Features = npt.NDArray[np.float32]  # (N, side * side), each of length 1

# Names of the eight ways to lay a picture down: mirrored or not, then turned by quarters against the clock.
TURNS = (
    "as it is",
    "turned by 90 degrees",
    "turned by 180 degrees",
    "turned by 270 degrees",
    "mirrored left to right",
    "mirrored left to right and turned by 90 degrees",
    "mirrored upside down",
    "mirrored left to right and turned by 270 degrees",
)

# Correlation of what thumbnails show in detail. Copies that were compressed, resized, brightened or given noise lie
# above 0.9; different eyes and cells of one set below 0.85 (benchmarks/doctor.py).
_ALIKE = 0.88
# The same, of thumbnails half as large: a quick look that spares most pairs the close one.
_WORTH_A_LOOK = 0.7
# Above so many pictures, only copies that lie the same way are looked for: each turn costs as much again.
_MOST_TURNED = 6000
# Frames of a film may all be alike: after so many pairs, nothing new is learnt.
MOST_PAIRS = 20_000
_AT_ONCE = 512
# Of so many pictures all pairs are looked at to tell how many are alike.
_SAMPLED = 200


@dataclass(frozen=True, kw_only=True)
class Alike:
    """Two pictures, by their places, that show the same: `second`, laid down as TURNS[turn] says, is like `first`."""

    first: int
    second: int
    turn: int
    likeness: float


def turned(drawings: npt.NDArray[Number], turn: int) -> npt.NDArray[Number]:
    """Square drawings (N, side, side), laid down as TURNS[turn] says."""
    mirrored = drawings[:, :, ::-1] if turn >= 4 else drawings
    return np.rot90(mirrored, turn % 4, axes=(1, 2))


def find_alike(thumbnails: npt.NDArray[np.uint8]) -> list[Alike]:
    """Every pair of pictures that are likely one, each pair once, the most alike first; thumbnails (N, side, side).

    Looks past compression, size, brightness, contrast and noise, and, in sets of up to 6,000 pictures, past mirroring
    and quarter turns; not past a crop. Pictures without any detail are like no other.
    """
    best: dict[tuple[int, int], Alike] = {}
    if not len(thumbnails):
        return []
    starts = range(0, len(thumbnails), _AT_ONCE)
    details = np.concatenate([_details(thumbnails[start : start + _AT_ONCE]) for start in starts])
    features = _features(details)
    for turn in range(len(TURNS) if len(thumbnails) <= _MOST_TURNED else 1):
        laid_down = _features(turned(details, turn)) if turn else features
        for first, second, likeness in _close_pairs(features, laid_down):
            known = best.get((first, second))
            if known is None or likeness > known.likeness:
                best[first, second] = Alike(first=first, second=second, turn=turn, likeness=likeness)
            if len(best) >= MOST_PAIRS:
                break
    return sorted(best.values(), key=lambda pair: (-pair.likeness, pair.first, pair.second))


def share_alike(thumbnails: npt.NDArray[np.uint8]) -> float:
    """How many of all pairs are near copies that lie the same way, 0..1, from pictures evenly taken from all."""
    count = min(len(thumbnails), _SAMPLED)
    if count < 2:
        return 0.0
    chosen = np.linspace(0, len(thumbnails) - 1, count).round().astype(int)
    features = _features(_details(thumbnails[chosen]))
    return sum(1 for _ in _close_pairs(features, features)) / (count * (count - 1) / 2)


def _details(drawings: npt.NDArray[np.uint8]) -> Drawings:
    """What is left of drawings (N, side, side) when brightness and contrast are evened out everywhere."""
    values = drawings.astype(np.float32)
    raised = values - _smoothed(values, 2)
    spread = np.sqrt(np.maximum(_smoothed(np.square(raised), 3), 0))
    # Less than a grey level or two is noise.
    details: Drawings = raised / (spread + 2) * (spread > 0.3)
    return details


def _smoothed(values: Drawings, reach: int) -> Drawings:
    """The mean over the square of `reach` around each value of (N, side, side)."""
    side = 2 * reach + 1
    wide = np.pad(values, ((0, 0), (reach, reach), (reach, reach)), mode="edge")
    sums = wide.cumsum(axis=1, dtype=np.float64).cumsum(axis=2)
    sums = np.pad(sums, ((0, 0), (1, 0), (1, 0)))
    total = sums[:, side:, side:] - sums[:, :-side, side:] - sums[:, side:, :-side] + sums[:, :-side, :-side]
    smoothed: Drawings = (total / (side * side)).astype(np.float32)
    return smoothed


def _halved(values: Drawings) -> Drawings:
    """Means of two by two values of (N, side, side)."""
    count, side, _ = values.shape
    halved: Drawings = values.reshape(count, side // 2, 2, side // 2, 2).mean(axis=(2, 4))
    return halved


def _of_length_one(values: Drawings) -> Features:
    flat = values.reshape(len(values), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    features: Features = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), np.float32(1e-6))
    return features


def _features(details: Drawings) -> tuple[Features, Features]:
    """What pictures are compared by: for a quick look, and for a close one."""
    return _of_length_one(_halved(details)), _of_length_one(details)


def _close_pairs(
    first: tuple[Features, Features], second: tuple[Features, Features]
) -> Iterator[tuple[int, int, float]]:
    """Pairs (i, j), i below j, of what lies close together, and how close."""
    (coarse, fine), (coarse_second, fine_second) = first, second
    for start in range(0, len(coarse), _AT_ONCE):
        products = coarse[start : start + _AT_ONCE] @ coarse_second[start:].T
        # Places in the flat array are found several times faster than rows and columns.
        rows, columns = np.divmod(np.flatnonzero(products > _WORTH_A_LOOK), products.shape[1])
        rows, columns = rows[rows < columns], columns[rows < columns]
        for some in range(0, len(rows), _AT_ONCE):
            i, j = rows[some : some + _AT_ONCE] + start, columns[some : some + _AT_ONCE] + start
            likeness = np.einsum("ij,ij->i", fine[i], fine_second[j])
            for place in np.flatnonzero(likeness > _ALIKE):
                yield int(i[place]), int(j[place]), float(likeness[place])
