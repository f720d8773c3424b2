"""What predictions are worth: whole pixel counts that are added over batches and divided once."""

from dataclasses import dataclass

import torch
from torch import Tensor

from data.segmentation_data import MULTICLASS, LabelMode


@dataclass(frozen=True, kw_only=True)
class PixelCounts:
    """True and false positives and negatives of each class, int64 (K,), over the pixels that count."""

    tp: Tensor
    fp: Tensor
    fn: Tensor
    tn: Tensor

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        return PixelCounts(tp=self.tp + other.tp, fp=self.fp + other.fp, fn=self.fn + other.fn, tn=self.tn + other.tn)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Metrics in 0..1 (`dice_additive` in 0..K).

    "macro" is the mean over classes, "micro" pools their pixels. accuracy: the share of right answers, where each class
    gives one for each pixel.
    A ratio 0 / 0 (nothing to find and nothing found) is left out of the mean over classes; where every class is
    left out the mean is 0. Only class_dice may hold NaN, for such a class.
    """

    dice: float
    iou: float
    f1_macro: float
    f1_micro: float
    precision_macro: float
    precision_micro: float
    recall_macro: float
    recall_micro: float
    accuracy: float
    dice_additive: float
    class_dice: tuple[float, ...]


def predicted_planes(probabilities: Tensor, label_mode: LabelMode, threshold: float) -> Tensor:
    """Which class each pixel is taken for, bool (N, K, H, W), from probabilities (N, K, H, W).

    "multilabel": where the probability is above the threshold. "multiclass": the most probable class, or the
    background (the probability that is missing to one) when that is more probable; the threshold is not used.
    """
    if label_mode != MULTICLASS:
        return probabilities > threshold
    best = probabilities.argmax(dim=1, keepdim=True)
    planes = torch.zeros_like(probabilities, dtype=torch.bool).scatter_(1, best, True)
    background = 1 - probabilities.sum(dim=1, keepdim=True)
    return planes & (probabilities.amax(dim=1, keepdim=True) > background)


def count_pixels(predicted: Tensor, masks: Tensor, valid: Tensor) -> PixelCounts:
    """Counts of bool predictions (N, K, H, W) against 0/1 masks (N, K, H, W) where valid (N, 1, H, W) is set."""
    counted = valid.bool()
    predicted, truth = predicted & counted, masks.bool() & counted
    axes = (0, 2, 3)
    tp = (predicted & truth).sum(dim=axes)
    fp = predicted.sum(dim=axes) - tp
    fn = truth.sum(dim=axes) - tp
    return PixelCounts(tp=tp, fp=fp, fn=fn, tn=counted.sum() - tp - fp - fn)


def scores(counts: PixelCounts) -> Scores:
    """The metrics of pixel counts (Taha and Hanbury 2015, BMC Medical Imaging 15:29, table 1)."""
    tp, fp, fn, tn = (value.cpu().double() for value in (counts.tp, counts.fp, counts.fn, counts.tn))
    dice = 2 * tp / (2 * tp + fp + fn)
    f1_micro, precision_micro, recall_micro, accuracy = (
        _defined_mean(part.sum()[None] / whole.sum()[None])
        for part, whole in (
            (2 * tp, 2 * tp + fp + fn),
            (tp, tp + fp),
            (tp, tp + fn),
            (tp + tn, tp + fp + fn + tn),
        )
    )
    return Scores(
        dice=_defined_mean(dice),
        iou=_defined_mean(tp / (tp + fp + fn)),
        f1_macro=_defined_mean(dice),
        f1_micro=f1_micro,
        precision_macro=_defined_mean(tp / (tp + fp)),
        precision_micro=precision_micro,
        recall_macro=_defined_mean(tp / (tp + fn)),
        recall_micro=recall_micro,
        accuracy=accuracy,
        dice_additive=float(dice.nansum()),
        class_dice=tuple(dice.tolist()),
    )


def _defined_mean(ratios: Tensor) -> float:
    """The mean of what is not NaN; 0 when nothing is left."""
    return float(ratios.nanmean().nan_to_num(0.0))
