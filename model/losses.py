"""Losses as pure functions of logits, masks and the pixels that count, and the table of their names.

Shapes: logits float (N, K, H, W) for "multilabel", (N, K + 1, H, W) with the background first for "multiclass";
masks 0/1 of the logits' type (N, K, H, W); valid 0/1 (N, 1, H, W). Every loss is a scalar that falls as masks fit.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from data.segmentation_data import MULTICLASS, LabelMode

Loss = Callable[[Tensor, Tensor, Tensor, LabelMode, Tensor], Tensor]


def class_probabilities(logits: Tensor, label_mode: LabelMode) -> Tensor:
    """Probability of each class at each pixel, (N, K, H, W): sigmoid, or softmax without the background."""
    if label_mode == MULTICLASS:
        return logits.softmax(dim=1)[:, 1:]
    return logits.sigmoid()


def dice_loss(logits: Tensor, masks: Tensor, valid: Tensor, label_mode: LabelMode, class_weights: Tensor) -> Tensor:  # noqa: ARG001
    """One minus the mean over classes of soft Dice, pooled over the batch (Milletari et al. 2016, 3DV, section 3).

    One pixel is added above and below the line: a class that is absent from the batch then still pushes its
    probability towards zero instead of giving 0 / 0. `class_weights` are not used.
    """
    probabilities = class_probabilities(logits, label_mode) * valid
    truth = masks * valid
    overlap = (probabilities * truth).sum(dim=(0, 2, 3))
    total = probabilities.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
    return 1 - ((2 * overlap + 1) / (total + 1)).mean()


def weighted_cross_entropy(
    logits: Tensor, masks: Tensor, valid: Tensor, label_mode: LabelMode, class_weights: Tensor
) -> Tensor:
    """Cross-entropy, averaged over the pixels that count, each weighted by `class_weights`.

    class_weights: (K,) weight of a class's own pixels against all others for "multilabel"; (K + 1,) weight of
    each class, background first, for "multiclass", where the mean is divided by the weights that took part.
    """
    if label_mode == MULTICLASS:
        target = class_index(masks)
        surprise = F.cross_entropy(logits, target, reduction="none")
        weight = class_weights[target] * valid[:, 0]
        return (surprise * weight).sum() / weight.sum().clamp(min=1e-6)
    surprise = F.binary_cross_entropy_with_logits(
        logits, masks, pos_weight=class_weights[:, None, None], reduction="none"
    )
    return (surprise * valid).sum() / (valid.sum() * masks.shape[1]).clamp(min=1)


def dice_and_cross_entropy(
    logits: Tensor, masks: Tensor, valid: Tensor, label_mode: LabelMode, class_weights: Tensor
) -> Tensor:
    """The sum of `dice_loss` and `weighted_cross_entropy`."""
    dice = dice_loss(logits, masks, valid, label_mode, class_weights)
    return dice + weighted_cross_entropy(logits, masks, valid, label_mode, class_weights)


LOSSES: dict[str, Loss] = {
    "dice": dice_loss,
    "weighted_ce": weighted_cross_entropy,
    "both": dice_and_cross_entropy,
}


def class_index(masks: Tensor) -> Tensor:
    """Index of each pixel's class, int64 (N, H, W): 0 where no plane is set, else 1 + the plane (N, K, H, W)."""
    ranks = torch.arange(1, masks.shape[1] + 1, device=masks.device, dtype=masks.dtype)
    return (masks * ranks[:, None, None]).amax(dim=1).long()
