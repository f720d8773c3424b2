"""Losses as pure functions of logits and of what they should be, and the table of their names.

Shapes: logits float (N, K, H, W) for "multilabel", (N, K + 1, H, W) with the background first for "multiclass".
Every loss is a scalar that falls as masks fit, and 0 without a gradient where no pixel counts. None waits for the
device.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from data.segmentation_data import MULTICLASS, LabelMode
from model.config import TrainConfig

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
EDGE_REACH = 2  # pixels on either side of an edge that `edge_weight` makes heavier


@dataclass(frozen=True, kw_only=True)
class Target:
    """What logits should be, and what each pixel of it weighs.

    masks: 0/1 of the logits' type (N, K, H, W). valid: likewise (N, 1, H, W), 1 where pixels count. class_weights: (K,)
    weight of a class's own pixels against all others for "multilabel"; (K + 1,) weight of each class, background
    first, for "multiclass". edge_weight: what pixels near an edge weigh more than the 1 of all others.
    """

    masks: Tensor
    valid: Tensor
    label_mode: LabelMode
    class_weights: Tensor
    edge_weight: float = 0.0


def make_loss(config: TrainConfig, label_mode: LabelMode, class_weights: Tensor) -> Loss:
    """The config's loss as a function of logits, masks (N, K, H, W) and valid (N, 1, H, W), both 0/1 of any type."""
    loss = LOSSES[config.loss]

    def loss_of(logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        target = Target(
            masks=masks.to(logits.dtype),
            valid=valid.to(logits.dtype),
            label_mode=label_mode,
            class_weights=class_weights,
            edge_weight=config.edge_weight,
        )
        return loss(logits, target, config)

    return loss_of


def dice_loss(logits: Tensor, target: Target) -> Tensor:
    """One minus the mean over classes of soft Dice, pooled over the batch (Milletari et al. 2016, 3DV, section 3).

    One pixel is added above and below the line: a class that is absent from the batch then costs 1 - 1 / (1 + all its
    probability), which pushes that towards zero, instead of 0 / 0.
    """
    overlap, found, truth = _areas(logits, target, (0, 2, 3))  # (K,)
    return 1 - ((2 * overlap + 1) / (found + truth + 1)).mean()


def dice_loss_per_image(logits: Tensor, target: Target) -> Tensor:
    """The mean over images and classes of one minus soft Dice: a small image or mask counts as much as a large one.

    A class that an image does not hold has no Dice there. It costs its mean probability over the image: it is always
    pushed towards zero, but a single invented pixel does not weigh as much as a whole mask that was missed.
    """
    overlap, found, truth = _areas(logits, target, (2, 3))  # (N, K)
    counted = target.valid.sum(dim=(2, 3)).clamp(min=1)  # (N, 1)
    missed = 1 - (2 * overlap + 1) / (found + truth + 1)
    return torch.where(truth > 0, missed, found / counted).mean()


def tversky_loss(logits: Tensor, target: Target, *, alpha: float) -> Tensor:
    """One minus the mean over classes of the Tversky index, pooled over the batch (Salehi et al. 2017, MLMI).

    alpha: what an invented pixel counts; a missed one counts 1 - alpha. With 1/2 it is `dice_loss`. Half a pixel is
    added above and below the line, so that a class that is absent from the batch is pushed towards zero (with alpha 0,
    where invented pixels cost nothing, it is left as it is).
    """
    overlap, found, truth = _areas(logits, target, (0, 2, 3))  # (K,)
    wrong = alpha * (found - overlap) + (1 - alpha) * (truth - overlap)
    return 1 - ((overlap + 0.5) / (overlap + wrong + 0.5)).mean()


def weighted_cross_entropy(logits: Tensor, target: Target) -> Tensor:
    """Cross-entropy averaged over the pixels that count, weighted by class and along edges.

    The mean is divided by the edges' weights, and for "multiclass" also by those of the classes that took part. A
    class that is absent is pushed towards zero at every pixel; a batch of empty masks is nothing special.
    """
    return _mean_over_places(_surprise(logits, target), target)


def focal_loss(logits: Tensor, target: Target, *, gamma: float) -> Tensor:
    """`weighted_cross_entropy` that forgets what is easy (Lin et al. 2017, ICCV, equation 4).

    A pixel whose truth has probability p counts (1 - p) ** gamma times as much; with gamma 0 nothing changes. The mean
    is over all pixels that count, so the loss is small where most are easy. Empty masks are nothing special: an absent
    class is pushed towards zero, less and less the surer the network is of that.
    """
    surprise = _surprise(logits, target)
    multiclass = target.label_mode == MULTICLASS
    doubt = -torch.expm1(-surprise) if multiclass else (target.masks - logits.sigmoid()).abs()
    # A power below 1 has no slope at 0, where float32 puts every pixel that the network is sure of.
    return _mean_over_places(doubt.clamp(min=1e-6) ** gamma * surprise, target)


def dice_and_cross_entropy(logits: Tensor, target: Target) -> Tensor:
    """The sum of `dice_loss` and `weighted_cross_entropy`."""
    return dice_loss(logits, target) + weighted_cross_entropy(logits, target)


LOSSES: dict[str, Callable[[Tensor, Target, TrainConfig], Tensor]] = {
    "dice": lambda logits, target, _: dice_loss(logits, target),
    "dice_per_image": lambda logits, target, _: dice_loss_per_image(logits, target),
    "weighted_ce": lambda logits, target, _: weighted_cross_entropy(logits, target),
    "dice_ce": lambda logits, target, _: dice_and_cross_entropy(logits, target),
    "focal": lambda logits, target, config: focal_loss(logits, target, gamma=config.focal_gamma),
    "tversky": lambda logits, target, config: tversky_loss(logits, target, alpha=config.tversky_alpha),
}


def class_probabilities(logits: Tensor, label_mode: LabelMode) -> Tensor:
    """Probability of each class at each pixel, (N, K, H, W): sigmoid, or softmax without the background."""
    if label_mode == MULTICLASS:
        return logits.softmax(dim=1)[:, 1:]
    return logits.sigmoid()


def class_index(masks: Tensor) -> Tensor:
    """Index of each pixel's class, int64 (N, H, W): 0 where no plane is set, else 1 + the plane (N, K, H, W)."""
    ranks = torch.arange(1, masks.shape[1] + 1, device=masks.device)
    return (masks * ranks[:, None, None]).amax(dim=1).long()


def near_edges(masks: Tensor, valid: Tensor) -> Tensor:
    """Whether both a pixel of the plane and one outside it lie within `EDGE_REACH` pixels: bool (N, K, H, W).

    Distances are taken along rows and columns (the larger of both). Only pixels that count make an edge: neither the
    border of the picture nor that of the field of view is one.
    """
    inside, counted = masks.bool(), valid.bool()
    near = torch.cat([inside & counted, ~inside & counted], dim=1)  # (N, 2 K, H, W)
    for axis in (2, 3):
        # Maximum pooling of truth values, row on row: many times as fast as max_pool2d on a CPU.
        seen, near, length = near, near.clone(), near.shape[axis]
        for shift in range(1, min(EDGE_REACH + 1, length)):
            near.narrow(axis, shift, length - shift).logical_or_(seen.narrow(axis, 0, length - shift))
            near.narrow(axis, 0, length - shift).logical_or_(seen.narrow(axis, shift, length - shift))
    near_inside, near_outside = near.chunk(2, dim=1)
    return near_inside & near_outside


def _areas(logits: Tensor, target: Target, over: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Probability inside the truth, all probability, and all truth, in pixels, summed over these dimensions."""
    found = class_probabilities(logits, target.label_mode) * target.valid
    truth = target.masks * target.valid
    return (found * truth).sum(dim=over), found.sum(dim=over), truth.sum(dim=over)


def _surprise(logits: Tensor, target: Target) -> Tensor:
    """Cross-entropy of each place: (N, K, H, W) for "multilabel", (N, 1, H, W) for "multiclass".

    A class's own pixels are weighted already for "multilabel", and not yet for "multiclass".
    """
    if target.label_mode == MULTICLASS:
        return F.cross_entropy(logits, class_index(target.masks), reduction="none")[:, None]
    weights = target.class_weights[:, None, None]
    return F.binary_cross_entropy_with_logits(logits, target.masks, pos_weight=weights, reduction="none")


def _mean_over_places(cost: Tensor, target: Target) -> Tensor:
    """The weighted mean of what each place costs, shaped like `_surprise`; 0 where no pixel counts."""
    multiclass = target.label_mode == MULTICLASS
    weight = target.valid.expand_as(cost)
    if target.edge_weight:
        near = near_edges(target.masks, target.valid)
        weight = weight * (1 + target.edge_weight * (near.any(dim=1, keepdim=True) if multiclass else near))
    if multiclass:
        weight = weight * target.class_weights[class_index(target.masks)][:, None]
    return (cost * weight).sum() / weight.sum().clamp(min=1e-6)
