"""How probabilities are spread over the pixels of a class and over all others: what any threshold would find."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor

from model.metrics import PixelCounts

BINS = 512
AS_GOOD = 0.995  # share of the best Dice at which a threshold is as good as the best
_HALF = BINS // 2
# A float's upper bits are its power of two and, here, 4 more: 16 bins for every halving of a probability below 0.5.
_DROPPED_BITS = 23 - 4
_FIRST = (0x3F000000 >> _DROPPED_BITS) - _HALF  # upper bits of the float that is _HALF bins below 0.5

_BELOW = [float((2**-17) * 2.0 ** (place // 16) * (1 + place % 16 / 16)) for place in range(1, _HALF)]
# The smallest probability of each bin. Below 0.5 and, mirrored, above it, bins narrow towards 0 and 1, each about 0.06
# wide in logits. All are sums of few powers of two, so that float32 and any text hold them exactly.
EDGES: tuple[float, ...] = (0.0, *_BELOW, 0.5, *(1 - edge for edge in reversed(_BELOW)))


@dataclass(frozen=True, kw_only=True)
class ProbabilityHistograms:
    """For each image and class how many pixels that count have a probability in each bin, int64 (N, K, BINS).

    positives: pixels of the class; negatives: all others. Bin b holds probabilities from EDGES[b] up to, but without,
    EDGES[b + 1], so a mask with an edge as its threshold has exactly the pixels of the bins from there on.
    """

    positives: Tensor
    negatives: Tensor

    def pooled(self) -> "ProbabilityHistograms":
        """The histograms (1, K, BINS) of all images together."""
        return ProbabilityHistograms(
            positives=self.positives.sum(dim=0, keepdim=True), negatives=self.negatives.sum(dim=0, keepdim=True)
        )

    def counts(self, thresholds: Sequence[float]) -> PixelCounts:
        """Pixel counts (N, K) of masks that are set where a probability reaches its class's threshold, one of EDGES."""
        found = []
        for pixels in (self.positives, self.negatives):
            assert len(thresholds) == pixels.shape[1], "one threshold a class"
            of_class = [pixels[:, index, _bin_from(value) :].sum(dim=1) for index, value in enumerate(thresholds)]
            found.append(torch.stack(of_class, dim=1))
        tp, fp = found
        return PixelCounts(tp=tp, fp=fp, fn=self.positives.sum(dim=2) - tp, tn=self.negatives.sum(dim=2) - fp)

    def chosen_thresholds(self) -> tuple[float, ...]:
        """For each class the edge nearest to 0.5 at which the Dice of all pixels is `AS_GOOD` of the best, or more.

        Of two as near the higher one; 0.5 for a class without a pixel. The very best edge on few images is an accident:
        what it gains there is less than what it loses on others. An edge at which every pixel is found, though not all
        are of the class, is chosen only where no other one is as good: such masks tell nothing apart.
        """
        tp, fp, truth, others = _from_each_bin(self)
        dice = self._dice_from_second_bin()
        good = dice >= AS_GOOD * dice.amax(dim=1, keepdim=True)
        mixed = (truth > 0) & (others > 0)
        blind = ((tp + fp)[:, 1:] == (truth + others)[:, None]) & mixed[:, None]
        seeing = good & ~blind
        good = seeing.where(seeing.any(dim=1, keepdim=True), good)
        places = (torch.nonzero(row).flatten().add(1).tolist() for row in good)
        return tuple(EDGES[min(of_class, key=lambda edge: (abs(edge - _HALF), -edge))] for of_class in places)

    def best_dice(self) -> Tensor:
        """The highest Dice of all images' pixels that any edge gives, float64 (K,); NaN for a class without a pixel."""
        _, _, truth, _ = _from_each_bin(self)
        return self._dice_from_second_bin().amax(dim=1).where(truth > 0, nan)

    def auc_roc(self) -> tuple[float, ...]:
        """Area under each class's curve of recall over false alarms, all images' pixels pooled.

        The chance that a pixel of the class has a higher probability than another one (Hanley and McNeil 1982,
        Radiology 143:29); those in one bin count half. NaN for a class of which all pixels are, or none.
        """
        tp, fp, truth, others = _from_each_bin(self)
        recall, false_alarms = tp / truth[:, None], fp / others[:, None]  # (K, BINS), falling from 1
        recall, false_alarms = (torch.nn.functional.pad(rate, (0, 1)) for rate in (recall, false_alarms))
        heights, widths = recall[:, 1:] + recall[:, :-1], false_alarms[:, :-1] - false_alarms[:, 1:]
        return tuple((heights * widths / 2).sum(dim=1).tolist())

    def auc_pr(self) -> tuple[float, ...]:
        """Area under each class's curve of precision over recall, all images' pixels pooled.

        Inside a bin both kinds of pixels are taken to lie evenly, so that precision there goes along a hyperbola (Davis
        and Goadrich 2006, ICML, section 3; Keilwagen et al. 2014, PLOS ONE 9:e92209). For many pixels this is the
        average precision of the single pixels. NaN for a class of which all pixels are, or none.
        """
        tp, fp, truth, others = _from_each_bin(self)
        gained = self.positives.sum(dim=0).double()
        pixels = gained + self.negatives.sum(dim=0)
        tp_above, found_above = tp - gained, tp + fp - pixels
        # The mean of (tp_above + s gained) / (found_above + s pixels) over s from 0 to 1.
        share = gained / pixels.clamp(min=1)
        bend = (tp_above - found_above * share) / pixels.clamp(min=1)
        precision = share + bend * (pixels / found_above.clamp(min=1)).log1p()
        area = (gained / truth[:, None] * precision).sum(dim=1)
        return tuple(area.where(others > 0, nan).tolist())

    def _dice_from_second_bin(self) -> Tensor:
        """Dice of all images' pixels at each edge but the first, float64 (K, BINS - 1); 0 where it is not defined.

        The first edge is 0, which would find everything in every picture to come.
        """
        tp, fp, truth, _ = _from_each_bin(self)
        return (2 * tp / (tp + fp + truth[:, None])).nan_to_num(0.0)[:, 1:]


def find_bins(probabilities: Tensor) -> Tensor:
    """The bin of each probability, int32 in 0..BINS - 1, from float32 of any shape.

    The same as searching the EDGES, but by arithmetic on a float's bits, which takes a tenth of the time. What is not
    a number lies below 0.5.
    """
    upper = probabilities >= 0.5
    # 1 - p is exact from 0.5 on (Sterbenz 1974), where bins are closed at the other end: hence one step down.
    nearest = torch.where(upper, 1 - probabilities, probabilities).view(torch.int32).sub_(upper.int())
    place = nearest.bitwise_right_shift_(_DROPPED_BITS).sub_(_FIRST).clamp_(0, _HALF - 1)
    return torch.where(upper, BINS - 1 - place, place)


def count_probabilities(probabilities: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
    """Histograms, int32 (N, K, 2, BINS): of the pixels outside the masks and of those inside, in this order.

    probabilities: float32 (N, K, H, W). masks: 0/1 (N, K, H, W). valid: 0/1 (N, 1, H, W), the pixels that count.
    The device does not wait for the host.
    """
    count, classes = probabilities.shape[:2]
    planes = torch.arange(count * classes, dtype=torch.int32, device=probabilities.device)
    rows = planes.view(count, classes, 1, 1) * 2 + masks
    places = find_bins(probabilities).add_(rows, alpha=BINS)
    counts = torch.zeros(count * classes * 2 * BINS, dtype=torch.int32, device=probabilities.device)
    counts.index_add_(0, places.flatten(), valid.int().expand_as(masks).flatten())
    return counts.view(count, classes, 2, BINS)


def _bin_from(threshold: float) -> int:
    """The bin that begins at a threshold."""
    place = bisect_left(EDGES, threshold)
    assert place < BINS and EDGES[place] == threshold, f"threshold {threshold} is no edge of a bin"
    return place


def _from_each_bin(histograms: ProbabilityHistograms) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """True and false positives, float64 (K, BINS), at each edge, and all pixels of and not of the class, (K,)."""
    positives, negatives = (part.sum(dim=0).double() for part in (histograms.positives, histograms.negatives))
    tp, fp = (part.flip(1).cumsum(dim=1).flip(1) for part in (positives, negatives))
    return tp, fp, tp[:, 0], fp[:, 0]
