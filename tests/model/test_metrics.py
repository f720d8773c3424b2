"""The metrics, against a table worked out by hand and against scikit-learn."""

from math import isnan
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, jaccard_score, precision_score, recall_score  # type: ignore[import-untyped]

from data.segmentation_data import MULTICLASS, MULTILABEL
from model.metrics import PixelCounts, count_pixels, predicted_planes, scores
from tests.toys import PROPERTY

Planes = npt.NDArray[np.bool_]


def counts_of(tp: list[int], fp: list[int], fn: list[int], tn: list[int]) -> PixelCounts:
    return PixelCounts(tp=torch.tensor(tp), fp=torch.tensor(fp), fn=torch.tensor(fn), tn=torch.tensor(tn))


@st.composite
def judged_masks(draw: st.DrawFn) -> tuple[Planes, Planes, Planes]:
    """Predicted and true planes (N, K, H, W) and the pixels that count (N, 1, H, W), any of which may be all empty."""
    count, classes, height, width = (draw(st.integers(1, limit)) for limit in (3, 4, 5, 5))
    predicted, truth = (draw(arrays(np.bool_, (count, classes, height, width))) for _ in range(2))
    return predicted, truth, draw(arrays(np.bool_, (count, 1, height, width)))


def count(predicted: Planes, truth: Planes, valid: Planes) -> PixelCounts:
    return count_pixels(*(torch.from_numpy(part.astype(np.uint8)) for part in (predicted, truth, valid)))


def pixel_rows(planes: Planes, valid: Planes) -> npt.NDArray[np.int64]:
    """The classes of each pixel that counts, (pixels, K)."""
    return np.moveaxis(planes, 1, -1)[valid[:, 0]].astype(np.int64)


def test_scores_by_hand() -> None:
    # class 0: 3 found, 1 false, 2 missed; class 1: 1 found, 0 false, 3 missed; 10 pixels
    worth = scores(counts_of([3, 1], [1, 0], [2, 3], [4, 6]))
    assert worth.class_dice == pytest.approx((6 / 9, 2 / 5))
    assert worth.dice == worth.f1_macro == pytest.approx((2 / 3 + 2 / 5) / 2)
    assert worth.dice_additive == pytest.approx(2 / 3 + 2 / 5)
    assert worth.iou == pytest.approx((3 / 6 + 1 / 4) / 2)
    assert worth.precision_macro == pytest.approx((3 / 4 + 1) / 2)
    assert worth.recall_macro == pytest.approx((3 / 5 + 1 / 4) / 2)
    # pooled: 4 found, 1 false, 5 missed, 10 rightly left out
    assert worth.f1_micro == pytest.approx(8 / 14)
    assert worth.precision_micro == pytest.approx(4 / 5)
    assert worth.recall_micro == pytest.approx(4 / 9)
    assert worth.accuracy == pytest.approx(14 / 20)


def test_nothing_to_find_and_nothing_found_is_left_out_of_the_mean_over_classes() -> None:
    # the second class neither lies there nor was it found
    worth = scores(counts_of([3, 0], [1, 0], [2, 0], [4, 10]))
    assert worth.class_dice[0] == pytest.approx(6 / 9)
    assert isnan(worth.class_dice[1])
    assert (worth.dice, worth.iou) == pytest.approx((6 / 9, 3 / 6))
    assert (worth.precision_macro, worth.recall_macro) == pytest.approx((3 / 4, 3 / 5))
    assert worth.dice_additive == pytest.approx(6 / 9)


def test_a_class_that_is_found_where_there_is_none_scores_zero() -> None:
    worth = scores(counts_of([3, 0], [1, 2], [2, 0], [4, 8]))
    assert worth.class_dice == pytest.approx((6 / 9, 0))
    assert worth.dice == pytest.approx(3 / 9)
    # nothing of it could be missed, so its recall is 0 / 0; its precision is 0 / 2
    assert worth.recall_macro == pytest.approx(3 / 5)
    assert worth.precision_macro == pytest.approx(3 / 8)


@pytest.mark.parametrize("pixels", [0, 10])
def test_where_every_class_is_left_out_the_means_are_zero(pixels: int) -> None:
    worth = scores(counts_of([0, 0], [0, 0], [0, 0], [pixels, pixels]))
    assert all(isnan(dice) for dice in worth.class_dice)
    assert worth.dice == worth.iou == worth.f1_macro == worth.f1_micro == worth.dice_additive == 0
    assert worth.precision_macro == worth.precision_micro == worth.recall_macro == worth.recall_micro == 0
    assert worth.accuracy == (1 if pixels else 0)


@given(judged_masks())
@PROPERTY
def test_counts_are_those_of_scikit_learn(masks: tuple[Planes, Planes, Planes]) -> None:
    predicted, truth, valid = masks
    counts = count(*masks)
    for index in range(truth.shape[1]):
        answers, guesses = pixel_rows(truth, valid)[:, index], pixel_rows(predicted, valid)[:, index]
        (tn, fp), (fn, tp) = confusion_matrix(answers, guesses, labels=[0, 1]) if len(answers) else np.zeros((2, 2))
        assert (tp, fp, fn, tn) == tuple(int(part[index]) for part in (counts.tp, counts.fp, counts.fn, counts.tn))


@given(judged_masks())
@PROPERTY
def test_scores_are_those_of_scikit_learn(masks: tuple[Planes, Planes, Planes]) -> None:
    predicted, truth, valid = masks
    guesses, answers = pixel_rows(predicted, valid), pixel_rows(truth, valid)
    if not len(answers):
        return
    worth = scores(count(*masks))

    def of_class(score: Any, index: int, **options: Any) -> float:
        return float(score(answers[:, index], guesses[:, index], zero_division=np.nan, **options))

    def macro(score: Any) -> float:
        defined = [value for index in range(answers.shape[1]) if not isnan(value := of_class(score, index))]
        return float(np.mean(defined)) if defined else 0.0

    def micro(score: Any) -> float:
        return float(score(answers.ravel(), guesses.ravel(), zero_division=0))

    def jaccard(answer: Any, guess: Any, zero_division: float) -> float:
        return jaccard_score(answer, guess, zero_division=0) if (answer | guess).any() else zero_division

    assert worth.class_dice == pytest.approx([of_class(f1_score, k) for k in range(answers.shape[1])], nan_ok=True)
    assert worth.dice == pytest.approx(macro(f1_score))
    assert worth.iou == pytest.approx(macro(jaccard))
    assert worth.precision_macro == pytest.approx(macro(precision_score))
    assert worth.recall_macro == pytest.approx(macro(recall_score))
    assert worth.f1_micro == pytest.approx(micro(f1_score))
    assert worth.precision_micro == pytest.approx(micro(precision_score))
    assert worth.recall_micro == pytest.approx(micro(recall_score))
    assert worth.accuracy == pytest.approx(accuracy_score(answers.ravel(), guesses.ravel()))


@given(judged_masks())
@PROPERTY
def test_counts_added_over_batches_are_the_counts_of_all(masks: tuple[Planes, Planes, Planes]) -> None:
    first, *others = (count(*(part[[index]] for part in masks)) for index in range(len(masks[0])))
    added = sum(others, start=first)
    at_once = count(*masks)
    for name in ("tp", "fp", "fn", "tn"):
        assert torch.equal(getattr(added, name), getattr(at_once, name))


def test_multilabel_planes_are_what_lies_above_the_threshold() -> None:
    probabilities = torch.tensor([0.2, 0.3, 0.8]).reshape(1, 1, 1, 3)
    assert predicted_planes(probabilities, MULTILABEL, 0.2).flatten().tolist() == [False, True, True]
    assert predicted_planes(probabilities, MULTILABEL, 0.5).flatten().tolist() == [False, False, True]


def test_multiclass_planes_are_the_most_probable_class_or_none() -> None:
    # first class, second class, and what is missing to one: the background
    pixels = [(0.5, 0.2), (0.2, 0.5), (0.2, 0.2), (0.4, 0.35), (0.0, 0.0), (0.0, 1.0)]
    planes = predicted_planes(torch.tensor(pixels).T[None, :, None, :], MULTICLASS, 0.99)
    assert planes[0, :, 0].T.tolist() == [
        [True, False],
        [False, True],
        [False, False],
        [True, False],
        [False, False],
        [False, True],
    ]


@given(st.lists(st.permutations([-3.0, 0.0, 1.0, 4.0]), min_size=1, max_size=9))
@PROPERTY
def test_multiclass_planes_are_the_largest_logit(pixels: list[list[float]]) -> None:
    logits = torch.tensor(pixels).T[None, :, None, :]  # (1, 4, 1, W)
    planes = predicted_planes(logits.softmax(dim=1)[:, 1:], MULTICLASS, 0.5)
    index = logits.argmax(dim=1)
    assert torch.equal(planes, torch.stack([index == place for place in (1, 2, 3)], dim=1))
