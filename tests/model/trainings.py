"""Trainings that are done in a moment, and how two of them are compared."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data.segmentation_data import MULTILABEL
from model import train as training
from model.checkpoint import load_tensors
from model.config import TrainConfig
from model.histograms import BINS, ProbabilityHistograms
from model.judge import Judgement
from model.progress import EpochReport

CPU = torch.device("cpu")

# Learns the toy tasks in half a second.
QUICK = TrainConfig(
    depth=2,
    width=4,
    learning_rate=0.02,
    batch_size=4,
    max_epochs=10,
    crop_size=16,
    epoch_pixels=0,
    augmentation=0.3,
    precision="float32",
)
# Runs four epochs of two steps, with all that a training has: dropout, augmentation, class weights.
SHORT = replace(QUICK, width=2, max_epochs=4, dropout=0.2, class_weight="square_root", crop_size=0, batch_size=2)
# What a resumed training may show otherwise: it has another clock and another process.
CLOCK = ("seconds", "images_per_second", "peak_memory_mb")


def without_clock(reports: list[EpochReport]) -> list[dict[str, Any]]:
    return [{name: value for name, value in asdict(report).items() if name not in CLOCK} for report in reports]


def tensors_of(path: Path) -> dict[str, Tensor]:
    return load_tensors(path)[0]


def assert_same_tensors(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


def judged_as(tp: int, fp: int) -> Judgement:
    """A judgement by which two classes have these pixels found in one picture, of 20 true ones among 100.

    The other picture has nothing to find, and nothing was found in it.
    """
    positives, negatives = torch.zeros(2, 2, 2, BINS, dtype=torch.int64)
    for pixels, found, left_out in ((positives, tp, 20 - tp), (negatives, fp, 80 - fp)):
        # Not all in one bin, for no network that learns has the same probability everywhere.
        for count, bins in ((found, (-1, -2)), (left_out, (0, 1))):
            pixels[0, :, bins[0]], pixels[0, :, bins[1]] = count // 2, count - count // 2
    histograms = ProbabilityHistograms(positives=positives, negatives=negatives)
    counts = histograms.counts((0.5, 0.5))
    return Judgement(
        label_mode=MULTILABEL,
        thresholds=(0.5, 0.5),
        counts=counts,
        counts_at_half=counts.pooled(),
        histograms=histograms,
        coarse_found=torch.zeros(2, 2, 4, 4),
        coarse_truth=torch.zeros(2, 2, 4, 4),
        extents=np.full((2, 2), 10),
        tile=1024,
    )


def script_judgement(monkeypatch: pytest.MonkeyPatch, found: Iterator[tuple[int, int]]) -> None:
    """Lets each epoch be judged by true and false positives of a script."""
    monkeypatch.setattr(training, "judge", lambda *_arguments, **_named: judged_as(*next(found)))
