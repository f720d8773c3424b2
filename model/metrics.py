"""What predictions are worth: whole pixel counts that are added up and divided once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data.segmentation_data import MULTICLASS, LabelMode


@dataclass(frozen=True, kw_only=True)
class PixelCounts:
    """True and false positives and negatives of each class over the pixels that count, int64.

    (N, K) for each image apart, or (K,) for all of them together.
    """

    tp: Tensor
    fp: Tensor
    fn: Tensor
    tn: Tensor

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        return PixelCounts(tp=self.tp + other.tp, fp=self.fp + other.fp, fn=self.fn + other.fn, tn=self.tn + other.tn)

    def pooled(self) -> "PixelCounts":
        """The counts (K,) of all images together."""
        if self.tp.dim() == 1:
            return self
        return PixelCounts(tp=self.tp.sum(0), fp=self.fp.sum(0), fn=self.fn.sum(0), tn=self.tn.sum(0))

    def dice(self) -> Tensor:
        """Dice of each class, or of each image and class, float64; NaN where nothing was to find and nothing found."""
        return 2 * self.tp.double() / (2 * self.tp + self.fp + self.fn)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Metrics in 0..1 (`dice_additive` in 0..K).

    "macro" is the mean over classes, "micro" pools their pixels. accuracy: the share of right answers, where each class
    gives one for each pixel. dice_per_image: for each image the mean of the Dice of the classes that it holds or that
    were found in it, then the mean over images; all else pools the pixels of all images first. auc_roc, auc_pr: areas
    under the curves of all thresholds, means over the classes of which there are both kinds of pixels.
    A ratio 0 / 0 (nothing to find and nothing found) is left out of the mean over classes, and an image of such alone
    out of the mean over images; where all is left out the mean is 0. Only class_dice may hold NaN, for such a class.
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
    dice_per_image: float
    auc_roc: float
    auc_pr: float
    class_dice: tuple[float, ...]


def predicted_planes(probabilities: Tensor, label_mode: LabelMode, thresholds: Sequence[float] | Tensor) -> Tensor:
    """Which class each pixel is taken for, bool (N, K, H, W), from probabilities (N, K, H, W).

    "multilabel": where the probability reaches the threshold of the class, one of K. "multiclass": the most probable
    class, or the background (the probability that is missing to one) when that is more probable; thresholds are not
    used.
    """
    if label_mode != MULTICLASS:
        least = torch.as_tensor(thresholds, dtype=probabilities.dtype, device=probabilities.device)
        assert least.shape == probabilities.shape[1:2], "one threshold a class"
        return probabilities >= least[:, None, None]
    best = probabilities.argmax(dim=1, keepdim=True)
    planes = torch.zeros_like(probabilities, dtype=torch.bool).scatter_(1, best, True)
    background = 1 - probabilities.sum(dim=1, keepdim=True)
    return planes & (probabilities.amax(dim=1, keepdim=True) > background)


def count_pixels(predicted: Tensor, masks: Tensor, valid: Tensor) -> PixelCounts:
    """Counts (N, K) of bool predictions (N, K, H, W) against 0/1 masks (N, K, H, W) where valid (N, 1, H, W) is set."""
    counted = valid.bool()
    predicted, truth = predicted & counted, masks.bool() & counted
    axes = (2, 3)
    tp = (predicted & truth).sum(dim=axes)
    fp = predicted.sum(dim=axes) - tp
    fn = truth.sum(dim=axes) - tp
    return PixelCounts(tp=tp, fp=fp, fn=fn, tn=counted.sum(dim=axes) - tp - fp - fn)


def scores(counts: PixelCounts, *, auc_roc: Sequence[float] = (), auc_pr: Sequence[float] = ()) -> Scores:
    """The metrics of pixel counts (Taha and Hanbury 2015, BMC Medical Imaging 15:29, table 1).

    auc_roc, auc_pr: of each class, NaN where there is none; empty where only masks are known: their means are 0 then.
    """
    pooled = counts.pooled()
    tp, fp, fn, tn = (value.cpu().double() for value in (pooled.tp, pooled.fp, pooled.fn, pooled.tn))
    dice = pooled.dice().cpu()
    f1_micro, precision_micro, recall_micro, accuracy = (
        defined_mean(part.sum() / whole.sum())
        for part, whole in (
            (2 * tp, 2 * tp + fp + fn),
            (tp, tp + fp),
            (tp, tp + fn),
            (tp + tn, tp + fp + fn + tn),
        )
    )
    return Scores(
        dice=defined_mean(dice),
        iou=defined_mean(tp / (tp + fp + fn)),
        f1_macro=defined_mean(dice),
        f1_micro=f1_micro,
        precision_macro=defined_mean(tp / (tp + fp)),
        precision_micro=precision_micro,
        recall_macro=defined_mean(tp / (tp + fn)),
        recall_micro=recall_micro,
        accuracy=accuracy,
        dice_additive=float(dice.nansum()),
        dice_per_image=defined_mean(counts.dice().nanmean(dim=-1)),
        auc_roc=defined_mean(torch.tensor(auc_roc, dtype=torch.float64)),
        auc_pr=defined_mean(torch.tensor(auc_pr, dtype=torch.float64)),
        class_dice=tuple(dice.tolist()),
    )


def defined_mean(values: Tensor) -> float:
    """The mean of what is not NaN; 0 when nothing is left."""
    return float(values.nanmean().nan_to_num(0.0))
