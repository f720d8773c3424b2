"""Judges a network on whole pictures: its masks and probabilities, each picture and each class."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from math import isnan, isqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.read_ahead import read_ahead
from data.segmentation_data import MULTICLASS, LabelMode
from data.windows import Pictures, Window, unpack
from model.device import is_out_of_memory
from model.distributed import ALONE, Ranks
from model.histograms import ProbabilityHistograms, count_probabilities
from model.metrics import PixelCounts, Scores, count_pixels, predicted_planes, scores
from model.tiles import OVERLAP, TILE, predict_probabilities

JUDGED_PIXELS = 2**20  # pixels of pictures that are judged together
JUDGED_PICTURES = 256  # pictures that are judged together at most: each has a histogram for every class
SMALLEST_TILE = 128  # side of the tiles below which a network that finds no memory is given up
COARSE_SIDE = 64  # longest side of the coarse maps
COARSE_VALUES = (
    2**24
)  # values in all coarse maps of one kind: where there are more pictures and classes, they are smaller


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How a network did on N pictures with K classes; all tensors lie on the CPU.

    thresholds: of each class, which a "multilabel" probability reached to count as found. counts: (N, K), at them.
    counts_at_half: (K,), what 0.5 as every class's threshold would find; the same as `counts` for "multiclass".
    coarse_found, coarse_truth: float32 (N, K, h, w), h and w at most 64: means of the probabilities and of the
    masks over squares of the picture, over the pixels that count; 0 where none does.
    extents: int64 (N, 2), height and width in pixels beyond which no pixel of a picture counts.
    tile: side in pixels up to which the network saw a picture in one piece.
    """

    label_mode: LabelMode
    thresholds: tuple[float, ...]
    counts: PixelCounts
    counts_at_half: PixelCounts
    histograms: ProbabilityHistograms
    coarse_found: Tensor
    coarse_truth: Tensor
    extents: npt.NDArray[np.int64]
    tile: int

    def scores(self) -> Scores:
        """The metrics over all pictures."""
        return scores(self.counts, auc_roc=self.histograms.auc_roc(), auc_pr=self.histograms.auc_pr())

    def as_mapping(self, class_names: Sequence[str], image_names: Sequence[str]) -> dict[str, Any]:
        """All scores as plain JSON; None where there is none, as for the Dice of what neither is there nor was found.

        "pooled": the metrics over all pictures. "classes": for each class its metrics from all pictures' pixels, its
        threshold, and how many pixels it has ("pixels"). "images": for each picture, the Dice of each class.
        """
        pooled = asdict(self.scores())
        del pooled["class_dice"]  # a part of "classes"
        dice = self.counts.dice()  # (N, K)
        return {
            "pooled": pooled,
            "classes": dict(zip(class_names, self._of_each_class(), strict=True)),
            "images": {
                name: {label: _plain(value) for label, value in zip(class_names, of_image.tolist(), strict=True)}
                for name, of_image in zip(image_names, dice, strict=True)
            },
        }

    def _of_each_class(self) -> Iterator[dict[str, float | int | None]]:
        counts = self.counts.pooled()
        areas = zip(self.histograms.auc_roc(), self.histograms.auc_pr(), strict=True)
        for index, (threshold, (auc_roc, auc_pr)) in enumerate(zip(self.thresholds, areas, strict=True)):
            tp, fp, fn, tn = (int(part[index]) for part in (counts.tp, counts.fp, counts.fn, counts.tn))
            yield {
                "dice": _ratio(2 * tp, 2 * tp + fp + fn),
                "iou": _ratio(tp, tp + fp + fn),
                "precision": _ratio(tp, tp + fp),
                "recall": _ratio(tp, tp + fn),
                "f1": _ratio(2 * tp, 2 * tp + fp + fn),
                "accuracy": _ratio(tp + tn, tp + fp + fn + tn),
                "auc_roc": _plain(auc_roc),
                "auc_pr": _plain(auc_pr),
                "threshold": threshold,
                "pixels": tp + fn,
            }


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What was seen of B pictures.

    histograms: int32 (B, K, 2, BINS). coarse_found, coarse_truth: as in `Judgement`. counts: tp, fp, fn and tn, int64
    (4, B, K), or None where the histograms hold them.
    """

    histograms: Tensor
    coarse_found: Tensor
    coarse_truth: Tensor
    counts: Tensor | None


def judge(
    network: nn.Module,
    pictures: Pictures,
    label_mode: LabelMode,
    *,
    bfloat16: bool,
    thresholds: tuple[float, ...] | None = None,
    mirror: bool = False,
    ranks: Ranks = ALONE,
) -> Judgement:
    """Judges the network, put into evaluation mode, on whole pictures; they must be one or more.

    thresholds: of each class; None chooses those at which the Dice of all pixels together is as good as the best
    ("multilabel"; "multiclass" has no use for any and gets 0.5). mirror: with the mean over the mirrored pictures.
    ranks: the processes that share the pictures out; each gets the judgement over all of them.

    Where memory does not suffice for several pictures together, each is judged alone, then by tiles of half its
    side, and so on down to 128 pixels; only then the error is raised. The device waits for the host at the end only.
    """
    assert len(pictures), "no pictures to judge"
    network.eval()
    device = pictures.device
    look_at = partial(
        _look_at,
        network,
        label_mode=label_mode,
        classes=pictures.classes,
        bfloat16=bfloat16,
        thresholds=None if thresholds is None else torch.tensor(thresholds, dtype=torch.float32, device=device),
        mirror=mirror,
        square=_coarse_square(pictures),
    )
    together, tile = JUDGED_PICTURES, TILE
    looks: list[_Look] = []
    with closing(_whole_pictures(pictures, ranks.share(len(pictures)))) as pieces:
        for images, labels in pieces:
            first = 0
            while first < len(images):
                some = slice(first, first + together)
                try:
                    looks.append(look_at(images[some], labels[some], tile=tile))
                except (RuntimeError, MemoryError) as error:
                    seen_at_once = min(tile, max(pictures.height, pictures.width))
                    alone = len(images[some]) == 1
                    if not is_out_of_memory(error) or (alone and seen_at_once <= SMALLEST_TILE):
                        raise
                    together, tile = 1, max(seen_at_once // 2, SMALLEST_TILE) if alone else tile
                else:
                    first += together
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    return _sum_up(ranks.gather(looks), pictures, label_mode, thresholds, tile)


def _whole_pictures(pictures: Pictures, some: slice) -> Generator[tuple[Tensor, Tensor], None, None]:
    """Some of the pictures and their labels, as many together as are judged together."""
    height, width = pictures.height, pictures.width
    together = min(max(1, JUDGED_PIXELS // (height * width)), JUDGED_PICTURES)
    whole = [Window(index, 0, 0) for index in range(len(pictures))[some]]
    cuts = (pictures.cut(whole[first : first + together], height, width) for first in range(0, len(whole), together))
    with closing(read_ahead(cuts) if pictures.reads_ahead else cuts) as pieces:
        yield from pieces


@torch.inference_mode()
def _look_at(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    label_mode: LabelMode,
    classes: int,
    bfloat16: bool,
    thresholds: Tensor | None,
    mirror: bool,
    tile: int,
    square: int,
) -> _Look:
    """What the network makes of images (B, C, H, W) with these labels (B, L, H, W), on its way to the host."""
    masks, valid = unpack(labels, classes)  # (B, K, H, W), (B, 1, H, W)
    probabilities = predict_probabilities(
        network, images, label_mode, bfloat16=bfloat16, tile=tile, overlap=min(OVERLAP, tile // 2), mirror=mirror
    )
    counts = None
    if label_mode == MULTICLASS or thresholds is not None:
        planes = predicted_planes(probabilities, label_mode, () if thresholds is None else thresholds)
        counted = count_pixels(planes, masks, valid)
        counts = _send(torch.stack([counted.tp, counted.fp, counted.fn, counted.tn]))
    known = F.avg_pool2d(valid.float(), square, ceil_mode=True).clamp(min=1e-9)  # (B, 1, h, w)
    coarse_found, coarse_truth = (
        F.avg_pool2d((part * valid).float(), square, ceil_mode=True) / known for part in (probabilities, masks)
    )
    return _Look(
        histograms=_send(count_probabilities(probabilities, masks, valid)),
        coarse_found=_send(coarse_found),
        coarse_truth=_send(coarse_truth),
        counts=counts,
    )


def _send(tensor: Tensor) -> Tensor:
    """The tensor on the CPU; from a CUDA device it arrives later, without the host waiting for it."""
    return tensor.to("cpu", non_blocking=tensor.device.type == "cuda")


def _coarse_square(pictures: Pictures) -> int:
    """Side in pixels of the squares that coarse maps take the mean of."""
    side = min(COARSE_SIDE, max(1, isqrt(COARSE_VALUES // (len(pictures) * pictures.classes))))
    return -(-max(pictures.height, pictures.width) // side)


def _sum_up(
    looks: Sequence[_Look], pictures: Pictures, label_mode: LabelMode, thresholds: tuple[float, ...] | None, tile: int
) -> Judgement:
    """The judgement over all that was looked at."""
    negatives, positives = torch.cat([look.histograms for look in looks]).long().unbind(dim=2)
    histograms = ProbabilityHistograms(positives=positives, negatives=negatives)
    half = (0.5,) * pictures.classes
    if thresholds is None:
        thresholds = half if label_mode == MULTICLASS else histograms.chosen_thresholds()
    counted = [look.counts for look in looks if look.counts is not None]
    if counted:
        tp, fp, fn, tn = torch.cat(counted, dim=1)
        counts = PixelCounts(tp=tp, fp=fp, fn=fn, tn=tn)
    else:
        counts = histograms.counts(thresholds)
    return Judgement(
        label_mode=label_mode,
        thresholds=thresholds,
        counts=counts,
        counts_at_half=(counts if label_mode == MULTICLASS else histograms.counts(half)).pooled(),
        histograms=histograms,
        coarse_found=torch.cat([look.coarse_found for look in looks]),
        coarse_truth=torch.cat([look.coarse_truth for look in looks]),
        extents=pictures.extents,
        tile=tile,
    )


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _plain(value: float) -> float | None:
    """The value as JSON has it, which knows no NaN."""
    return None if isnan(value) else value
