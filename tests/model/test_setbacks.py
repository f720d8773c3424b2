"""What training does when it diverges, collapses, or has too little memory."""

import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data.segmentation_data import SegmentationData, Split
from model import epoch as stepping
from model import train as training
from model.diagnose import TrainingFailure
from model.losses import LOSSES as LOSS_FUNCTIONS
from model.train import (
    LAST,
    train,
)
from tests.model.trainings import QUICK, SHORT, assert_same_tensors, script_judgement, tensors_of, without_clock
from tests.toys import colored_squares, data_of, split_in_two


def test_a_diverged_training_goes_on_from_its_last_good_state_at_a_third_of_the_learning_rate(tmp_path: Path) -> None:
    data = colored_squares("binary")
    split = split_in_two(data)
    config = replace(DIVERGING, retries=8, max_epochs=3)
    reports = list(train(config, data, split, folder=tmp_path))
    assert reports[-1].epoch == 3
    [note] = [warning for warning in reports[-1].warnings if warning.startswith("diverged: ")][-1:]
    assert "first not finite: the " in note
    assert "at a third of the learning rate" in note
    # Weights that are no numbers are never kept.
    for path in tmp_path.rglob("*.safetensors"):
        assert all(tensor.isfinite().all() for name, tensor in tensors_of(path).items() if "network" in name)


def test_what_a_retry_has_changed_outlives_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = colored_squares("binary", side=16)
    split = split_in_two(data)
    config = replace(SHORT, retries=1, max_epochs=4)
    calls = []

    def fails_once(state: Any, lesson: Any, **named: Any) -> float:
        calls.append(state.progress.epoch)
        if len(calls) == 2:
            time.sleep(0.3)
            raise stepping.NotFinite(1)
        return stepping.train_epoch(state, lesson, **named)

    monkeypatch.setattr(training, "train_epoch", fails_once)
    whole = list(train(config, data, split, folder=tmp_path / "whole"))
    calls.clear()
    epochs = train(config, data, split, folder=tmp_path / "pieces")
    assert [next(epochs).epoch, next(epochs).epoch] == [1, 2]
    resumed = list(train(config, data, split, folder=tmp_path / "pieces", resume=True))
    assert without_clock(resumed) == without_clock(whole)[1:]
    assert_same_tensors(tensors_of(tmp_path / "whole" / LAST), tensors_of(tmp_path / "pieces" / LAST))
    steady = list(train(replace(config, retries=0), data, split))
    assert whole[0].learning_rate == steady[0].learning_rate
    assert whole[2].learning_rate == pytest.approx(steady[2].learning_rate / 3)
    assert [len(report.warnings) for report in whole[:2]] == [0, 1]
    # What was in vain took its time, too.
    assert whole[1].seconds > whole[0].seconds + 0.3


def short_of_memory(monkeypatch: pytest.MonkeyPatch, samples: int) -> list[int]:
    """A device whose memory suffices for so many samples at once; gives the sizes of what was computed on it."""
    computed: list[int] = []
    loss_on = stepping.loss_on

    def limited(state: Any, lesson: Any, images: Tensor, *rest: Tensor) -> Tensor:
        if len(images) > samples:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        computed.append(len(images))
        return loss_on(state, lesson, images, *rest)

    monkeypatch.setattr(stepping, "loss_on", limited)
    return computed


def test_a_batch_for_which_memory_does_not_suffice_is_computed_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = colored_squares("binary", count=10, side=16)
    split = split_in_two(data)
    config = replace(SHORT, batch_size=8, max_epochs=2, dropout=0.0, normalisation="none", loss="weighted_ce")
    unlimited = list(train(config, data, split))
    computed = short_of_memory(monkeypatch, samples=3)
    reports = list(train(config, data, split, folder=tmp_path))
    assert set(computed) == {2}
    assert [report.batch_parts for report in reports] == [4, 4]
    [warning] = reports[-1].warnings
    assert warning.startswith("batch_split: memory did not suffice for 4 samples at once, so each batch of 8 is")
    # Where no layer looks at the whole batch, nothing else changes.
    assert reports[-1].train_loss == pytest.approx(unlimited[-1].train_loss, rel=1e-3)
    # A resumed training does not try its luck again.
    computed.clear()
    resumed = list(train(replace(config), data, split, folder=tmp_path, resume=True))
    assert resumed[-1].batch_parts == 4


def test_a_batch_that_memory_did_not_suffice_for_is_let_go_before_the_next_try(
    squares: tuple[SegmentationData, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs: list[weakref.ref[Tensor]] = []
    loss_on = stepping.loss_on

    def watched(state: Any, lesson: Any, images: Tensor, *rest: Tensor) -> Tensor:
        assert [graph() for graph in graphs] == [None] * len(graphs)
        loss = loss_on(state, lesson, images, *rest)
        if len(images) > 1:
            loss.register_hook(fail)
            graphs.append(weakref.ref(loss))
        return loss

    def fail(_gradient: Tensor) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(stepping, "loss_on", watched)
    assert next(iter(train(SHORT, *squares))).batch_parts == 2
    assert len(graphs) == 1


@pytest.mark.parametrize("place", ["clip_gradients", "judge", "take_snapshot"])
def test_memory_that_does_not_suffice_anywhere_else_ends_a_training_in_words(
    squares: tuple[SegmentationData, Split], monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    def full(*_arguments: Any, **_named: Any) -> None:
        raise MemoryError("Unable to allocate 3 GiB")

    monkeypatch.setattr(stepping if place == "clip_gradients" else training, place, full)
    with pytest.raises(TrainingFailure, match=r"memory did not suffice \(Unable to allocate 3 GiB\)") as failure:
        next(iter(train(SHORT, *squares)))
    assert failure.value.status == "out_of_memory"


def test_weights_that_are_not_finite_are_never_written_down(
    squares: tuple[SegmentationData, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def poisoned(logits: Tensor, *_others: Any) -> Tensor:
        steps.append(1)
        loss = logits.square().mean()
        if len(steps) == 2:  # the loss is finite, its gradient is not
            loss.register_hook(lambda gradient: gradient * float("nan"))
        return loss

    monkeypatch.setitem(LOSS_FUNCTIONS, "dice_ce", poisoned)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0.0)
    with pytest.raises(TrainingFailure, match="diverged"):
        list(train(SHORT, *squares, folder=tmp_path))
    for path in tmp_path.rglob("*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in tensors_of(path).values() if tensor.is_floating_point())


def test_what_happens_in_an_epoch_that_is_not_judged_is_told_with_the_next_that_is(
    squares: tuple[SegmentationData, Split], tmp_path: Path
) -> None:
    config = replace(SHORT, max_epochs=5)
    each = list(train(config, *squares))
    rarely = list(train(replace(config, evaluate_every=3), *squares, folder=tmp_path))
    assert rarely[0].train_loss == pytest.approx(np.mean([report.train_loss for report in each[:3]]))
    assert rarely[1].train_loss == pytest.approx(np.mean([report.train_loss for report in each[3:]]))
    assert rarely[1].gradient_norm == pytest.approx(np.mean([report.gradient_norm for report in each[3:]]))


def test_a_training_for_which_no_memory_suffices_ends_and_says_so(
    squares: tuple[SegmentationData, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    short_of_memory(monkeypatch, samples=0)
    with pytest.raises(TrainingFailure, match=r"memory did not suffice for one sample of 16 x 16 pixels") as failure:
        next(iter(train(SHORT, *squares)))
    assert failure.value.status == "out_of_memory"


def test_other_errors_than_of_memory_are_not_taken_for_one(
    squares: tuple[SegmentationData, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Tensor:
        raise RuntimeError("something else")

    monkeypatch.setattr(stepping, "loss_on", broken)
    with pytest.raises(RuntimeError, match="something else"):
        next(iter(train(SHORT, *squares)))


def test_a_batch_in_parts_has_the_gradient_of_the_whole(squares: tuple[SegmentationData, Split]) -> None:
    config = replace(SHORT, batch_size=4, dropout=0.0, normalisation="none", loss="weighted_ce", augmentation=0.0)
    whole, parts = (list(train(replace(config, accumulation=count), *squares)) for count in (1, 4))
    assert [report.train_loss for report in parts] == pytest.approx([report.train_loss for report in whole], rel=1e-3)
    assert (whole[0].batch_parts, parts[0].batch_parts) == (1, 4)


# Steps far too widely.
DIVERGING = replace(QUICK, depth=5, normalisation="none", upsampling="nearest", learning_rate=10.0, max_epochs=2)


def first_divergence(data: SegmentationData, folder: Path) -> TrainingFailure | None:
    """How a training that steps far too widely ends, for the first seed whose features do not all die instead."""
    for seed in range(8):
        try:
            list(train(replace(DIVERGING, seed=seed), data, split_in_two(data), folder=folder))
        except TrainingFailure as failure:
            if failure.status == "diverged":
                return failure
    return None


def test_a_training_without_normalisation_at_a_huge_learning_rate_diverges(tmp_path: Path) -> None:
    failure = first_divergence(colored_squares("binary"), tmp_path)
    assert failure is not None
    assert failure.status == "diverged"
    # which tensor, which step, which pictures, at what learning rate, what to do
    assert failure.reason.startswith("first not finite: the ")
    assert ", in step " in failure.reason
    assert "(picture" in failure.reason
    assert "at learning rate " in failure.reason
    assert failure.reason.endswith("try a smaller learning_rate, or gradient_clip=1")
    # Weights that are no numbers are never kept.
    for path in tmp_path.rglob("*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in tensors_of(path).values())


def test_a_loss_that_is_not_a_number_once_ends_the_epoch_at_its_next_check(
    squares: tuple[SegmentationData, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def poisoned(logits: Tensor, *_others: Any) -> Tensor:
        steps.append(logits)
        return logits.square().mean() * (float("nan") if len(steps) == 4 else 1.0)

    monkeypatch.setitem(LOSS_FUNCTIONS, "dice_ce", poisoned)
    monkeypatch.setattr(stepping, "STEPS_BETWEEN_CHECKS", 3)
    epochs = train(replace(SHORT, batch_size=1, crop_size=8), *squares, folder=tmp_path)
    # It does not come back when the steps are gone through again, so nothing more can be said.
    with pytest.raises(TrainingFailure, match="diverged: the loss was no longer finite by step 6 of epoch 1, at"):
        next(iter(epochs))
    assert len(steps) == 6 + 6
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("found", "words"),
    [((0, 0), "masks_empty: predicted no pixel of any class in 3 looks in a row, and no threshold helps; try"),
     ((20, 80), "masks_full: predicted every pixel of the picture in 3 looks in a row, and no threshold helps; try")],
    ids=["empty", "full"],
)  # fmt: skip
def test_masks_that_stay_empty_or_full_end_a_training(
    squares: tuple[SegmentationData, Split],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    found: tuple[int, int],
    words: str,
) -> None:
    config = replace(SHORT, max_epochs=9, collapse_epochs=3)
    script_judgement(monkeypatch, iter([found, found, (15, 5), *[found] * 6]))
    reports = []
    with pytest.raises(TrainingFailure) as failure:
        for report in train(config, *squares, folder=tmp_path):
            reports.append(report)
            if report.epoch == 4:
                break
        # An interruption does not make it forget what it saw.
        reports += train(config, *squares, folder=tmp_path, resume=True)
    # Three in a row after the good third epoch are complete with the sixth; the fourth is reported at both starts.
    assert [report.epoch for report in reports] == [1, 2, 3, 4, 4, 5]
    assert failure.value.status == "collapsed"
    assert failure.value.reason.startswith(words)


def test_a_network_that_learns_empty_masks_collapses() -> None:
    data = colored_squares("binary", side=16)
    masks = data.masks.copy()
    masks[:4] = 0
    masks[0, :, 0, 0] = 1  # one pixel, or there would be nothing to learn
    data = data_of(data.images, masks)
    config = replace(QUICK, crop_size=0, max_epochs=40, collapse_epochs=6, learning_rate=0.05)
    with pytest.raises(TrainingFailure, match="predicted no pixel of any class in 6 looks in a row"):
        list(train(config, data, split_in_two(data)))
