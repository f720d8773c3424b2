"""Class probabilities for whole pictures of any size, by overlapping tiles where a picture is large."""

import torch
from torch import Tensor, nn

from data.segmentation_data import LabelMode
from model.losses import class_probabilities

TILE = 1024  # pixels: a side up to this is seen in one piece
OVERLAP = 128  # pixels that neighbouring tiles share
_MIRRORS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))  # axes along which a picture is turned over


def predict_probabilities(
    network: nn.Module,
    images: Tensor,
    label_mode: LabelMode,
    *,
    bfloat16: bool,
    tile: int = TILE,
    overlap: int = OVERLAP,
    mirror: bool = False,
) -> Tensor:
    """Probabilities, float32 (N, K, H, W), of pictures (N, C, H, W) in 0..255, uint8 or float.

    Tiles are blended: each counts less towards its own edges, where the network sees less of the surroundings.
    mirror: the mean over the picture and its three mirror images (left to right, upside down, both), each turned
    back; takes four times as long. The network must be in evaluation mode.
    """
    assert 0 <= overlap < tile
    if not mirror:
        return _tiled_probabilities(network, images, label_mode, bfloat16, tile, overlap)
    total: Tensor | None = None
    for axes in _MIRRORS:
        part = _tiled_probabilities(network, images.flip(axes), label_mode, bfloat16, tile, overlap).flip(axes)
        total = part if total is None else total + part
    assert total is not None
    return total / len(_MIRRORS)


def _tiled_probabilities(
    network: nn.Module, images: Tensor, label_mode: LabelMode, bfloat16: bool, tile: int, overlap: int
) -> Tensor:
    height, width = images.shape[-2:]
    tops, lefts = _tile_starts(height, tile, overlap), _tile_starts(width, tile, overlap)
    if len(tops) == len(lefts) == 1:
        return _probabilities(network, images, label_mode, bfloat16)
    weight = _blend_weight(min(tile, height), min(tile, width), overlap, images.device)
    total: Tensor | None = None
    weights = torch.zeros(height, width, device=images.device)
    for top in tops:
        for left in lefts:
            rows, columns = slice(top, top + tile), slice(left, left + tile)
            part = _probabilities(network, images[..., rows, columns], label_mode, bfloat16)
            if total is None:
                total = part.new_zeros(*part.shape[:2], height, width)
            total[..., rows, columns] += part * weight
            weights[rows, columns] += weight
    assert total is not None
    return total / weights


@torch.inference_mode()
def _probabilities(network: nn.Module, images: Tensor, label_mode: LabelMode, bfloat16: bool) -> Tensor:
    pixels = images.float().contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
        logits = network(pixels)
    return class_probabilities(logits.float(), label_mode)


def _tile_starts(side: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles that cover a side, evenly spread, sharing `overlap` pixels or more."""
    if side <= tile:
        return [0]
    gaps = -(-(side - tile) // (tile - overlap))
    return [round(index * (side - tile) / gaps) for index in range(gaps + 1)]


def _blend_weight(height: int, width: int, overlap: int, device: torch.device) -> Tensor:
    """Weight of a tile's pixels (h, w): 1 inside, falling towards 0 over the outer `overlap` pixels."""
    ramps = []
    for side in (height, width):
        inwards = torch.arange(side, device=device, dtype=torch.float32) + 1
        ramps.append(torch.minimum(inwards, inwards.flip(0)).div(max(overlap, 1)).clamp(max=1))
    return ramps[0][:, None] * ramps[1]
