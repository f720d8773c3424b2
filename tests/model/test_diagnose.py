"""When a training is not worth going on with, and that it is let be otherwise."""

import pytest
import torch

from model.diagnose import MaskWatch, TrainingFailure, check_finite
from model.metrics import PixelCounts

PIXELS = 100


def found(*found_pixels: int, right: int = 0) -> PixelCounts:
    """Counts of masks that hold this many of 100 pixels, `right` of them truly; each class truly has 20."""
    positives = torch.tensor(found_pixels)
    tp = torch.full_like(positives, right)
    fn = 20 - tp
    return PixelCounts(tp=tp, fp=positives - tp, fn=fn, tn=PIXELS - positives - fn)


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_has_diverged(loss: float) -> None:
    with pytest.raises(TrainingFailure) as failure:
        check_finite(loss, epoch=3, step=50, learning_rate=0.25)
    assert failure.value.status == "diverged"
    assert failure.value.reason == (
        "the loss was no longer finite by step 50 of epoch 3, at learning rate 0.25: try a smaller learning rate"
    )
    assert str(failure.value) == f"diverged: {failure.value.reason}"


@pytest.mark.parametrize("loss", [0.0, -1.0, 3e38])
def test_a_finite_loss_is_let_be(loss: float) -> None:
    check_finite(loss, epoch=1, step=1, learning_rate=0.1)


@pytest.mark.parametrize(
    ("counts", "kind"),
    [
        (found(0), "empty"),
        (found(0, 0), "empty"),
        (found(100), "full"),
        (found(100, 100), "full"),
        (found(100, 0), "full"),
        (found(1), "fine"),
        (found(99), "fine"),
        (found(1, 0), "fine"),
        # one class still learns where the other is full
        (found(100, 30), "fine"),
        # together as many pixels as there are
        (found(60, 40), "fine"),
    ],
)
def test_masks_are_empty_or_full_or_fine(counts: PixelCounts, kind: str) -> None:
    assert MaskWatch().after(counts).kind == kind


def test_only_epochs_in_a_row_are_counted() -> None:
    watch = MaskWatch()
    seen = []
    for counts in (found(0), found(0), found(100), found(20), found(0), found(0), found(0)):
        watch = watch.after(counts)
        seen.append((watch.kind, watch.epochs))
    assert [epochs for kind, epochs in seen if kind == "empty"] == [1, 2, 1, 2, 3]
    assert seen[2] == ("full", 1)
    watch.check(4)
    with pytest.raises(TrainingFailure) as failure:
        watch.check(3)
    assert failure.value.status == "collapsed"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("empty", "predicted no pixel of any class for 8 epochs in a row: try a loss with Dice"),
        ("full", "predicted every pixel of the picture for 8 epochs in a row: try class_weight=none"),
    ],
)
def test_a_collapse_is_told_in_words(kind: str, words: str) -> None:
    with pytest.raises(TrainingFailure) as failure:
        MaskWatch(kind=kind, epochs=8).check(8)  # type: ignore[arg-type]
    assert failure.value.reason.startswith(words)


def test_fine_masks_never_end_a_training() -> None:
    MaskWatch(kind="fine", epochs=1000).check(1)
