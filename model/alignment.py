"""How well what a network found fits the masks: in their place, moved, and those of other images."""

from dataclasses import dataclass

import torch
from torch import Tensor

MATCHED_IMAGES = 64  # more say no more, and each is compared with each
FARTHEST = 0.25  # part of a picture's sides by which masks are moved


@dataclass(frozen=True, kw_only=True)
class Patterns:
    """Found and true planes of images that hold some of both, float32 (N, K * h * w), of mean 0 and length 1 each.

    places: N, the images' places among all. shape: (K, h, w).
    """

    found: Tensor
    truth: Tensor
    places: tuple[int, ...]
    shape: tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Move:
    """The move that lets masks fit best what was found.

    down, right: part of a picture's height and width by which the masks lie lower and further right than what was
    found. fit, fit_in_place: mean over the images of the correlation with and without it, -1..1.
    agreeing: part of the images whose own correlation the move raises.
    place: of the move among all that were tried.
    """

    down: float
    right: float
    fit: float
    fit_in_place: float
    agreeing: float
    place: int


def patterns_of(found: Tensor, truth: Tensor) -> Patterns:
    """What is compared, from probabilities and truth (N, K, h, w) of small pictures; flat images are left out."""
    count, *shape = found[:MATCHED_IMAGES].shape
    scaled = []
    for planes in (found[:MATCHED_IMAGES].cpu().float(), truth[:MATCHED_IMAGES].cpu().float()):
        centered = (planes - planes.mean(dim=(2, 3), keepdim=True)).flatten(1)  # (N, K * h * w)
        scaled.append(centered / centered.norm(dim=1, keepdim=True).clamp_min(1e-6))
    # A flat picture is centered to rounding errors, far below a length of one.
    alive = (scaled[0].norm(dim=1) > 0.5) & (scaled[1].norm(dim=1) > 0.5)
    places = tuple(torch.arange(count)[alive].tolist())
    return Patterns(found=scaled[0][alive], truth=scaled[1][alive], places=places, shape=(shape[0], shape[1], shape[2]))


def fits(patterns: Patterns) -> Tensor:
    """Correlation (Pearson's) of what was found in each image with the masks of each, (N, N), -1..1."""
    return patterns.found @ patterns.truth.T


def best_move(patterns: Patterns) -> Move:
    """The one move, up to `FARTHEST`, by which the masks of all images together fit best; needs an image at least.

    All moves are tried at once by Fourier transforms; what is moved over an edge is lost.
    """
    classes, height, width = patterns.shape
    reach = int(height * FARTHEST), int(width * FARTHEST)
    size = height + reach[0], width + reach[1]
    found, truth = (
        torch.fft.rfft2(planes.view(-1, classes, height, width), s=size) for planes in (patterns.found, patterns.truth)
    )
    correlations = torch.fft.irfft2((found.conj() * truth).sum(dim=1), s=size)  # (N, *size), at the move modulo size
    rows, columns = (torch.arange(-far, far + 1) for far in reach)
    near = correlations[:, rows[:, None] % size[0], columns % size[1]]  # (N, moves down, moves right)
    together = near.mean(dim=0)
    place = int(together.argmax())
    down, right = divmod(place, len(columns))
    in_place = near[:, reach[0], reach[1]]
    moved = near[:, down, right]
    return Move(
        down=int(rows[down]) / height,
        right=int(columns[right]) / width,
        fit=float(moved.mean()),
        fit_in_place=float(in_place.mean()),
        agreeing=float((moved > in_place).float().mean()),
        place=place,
    )
