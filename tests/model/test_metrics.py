"""The metrics, against a table worked out by hand and against scikit-learn."""

from math import isnan, nan
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


def counts_of(tp: list[Any], fp: list[Any], fn: list[Any], tn: list[Any]) -> PixelCounts:
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
        pooled = counts.pooled()
        assert (tp, fp, fn, tn) == tuple(int(part[index]) for part in (pooled.tp, pooled.fp, pooled.fn, pooled.tn))


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
def test_counts_of_images_apart_add_up_to_the_counts_of_all(masks: tuple[Planes, Planes, Planes]) -> None:
    apart = [count(*(part[[index]] for part in masks)) for index in range(len(masks[0]))]
    added = sum((one.pooled() for one in apart[1:]), start=apart[0].pooled())
    at_once = count(*masks)
    for name in ("tp", "fp", "fn", "tn"):
        assert torch.equal(torch.cat([getattr(one, name) for one in apart]), getattr(at_once, name))
        assert torch.equal(getattr(added, name), getattr(at_once.pooled(), name))
        assert torch.equal(getattr(added.pooled(), name), getattr(added, name))


def test_dice_per_image_is_the_mean_over_images_of_the_mean_over_their_classes() -> None:
    # Dice of the first image: 6 / 9 and 0, where the second class was found though it is not there; of the second
    # image: 2 / 4, and nothing of the second class; of the third: nothing at all
    apart = counts_of(
        [[3, 0], [1, 0], [0, 0]], [[1, 2], [0, 0], [0, 0]], [[2, 0], [2, 0], [0, 0]], [[4, 8], [7, 10], [10, 10]]
    )
    worth = scores(apart)
    assert worth.dice_per_image == pytest.approx(((6 / 9 + 0) / 2 + 2 / 4) / 2)
    assert worth.class_dice == pytest.approx((8 / 13, 0))  # pooled: 4 found, 1 false, 4 missed
    assert worth.dice == pytest.approx(4 / 13)
    pooled = scores(apart.pooled())
    assert pooled.class_dice == worth.class_dice
    assert pooled.dice_per_image == worth.dice


def test_where_no_image_holds_anything_the_dice_per_image_is_zero() -> None:
    assert scores(counts_of([[0], [0]], [[0], [0]], [[0], [0]], [[5], [5]])).dice_per_image == 0


def test_areas_are_means_over_the_classes_that_have_one() -> None:
    counts = counts_of([3, 1], [1, 0], [2, 3], [4, 6])
    worth = scores(counts, auc_roc=(0.5, nan), auc_pr=(0.25, 0.75))
    assert (worth.auc_roc, worth.auc_pr) == (0.5, 0.5)
    assert (scores(counts).auc_roc, scores(counts, auc_pr=(nan, nan)).auc_pr) == (0, 0)


def test_multilabel_planes_are_what_reaches_the_threshold_of_the_class() -> None:
    probabilities = torch.tensor([[0.2, 0.3, 0.8], [0.2, 0.5, 0.8]]).reshape(1, 2, 1, 3)
    for thresholds in ((0.3, 0.5), torch.tensor([0.3, 0.5])):
        planes = predicted_planes(probabilities, MULTILABEL, thresholds)
        assert planes[0, :, 0].tolist() == [[False, True, True], [False, True, True]]
    assert predicted_planes(probabilities, MULTILABEL, (0.9, 0.0))[0, :, 0].tolist() == [[False] * 3, [True] * 3]


def test_a_threshold_is_met_in_float32_whatever_its_text_says() -> None:
    probabilities = torch.tensor(0.1).reshape(1, 1, 1, 1)  # a little more than the float64 of that text
    assert predicted_planes(probabilities, MULTILABEL, (0.1,)).all()


def test_there_must_be_a_threshold_for_each_class() -> None:
    with pytest.raises(AssertionError, match="one threshold a class"):
        predicted_planes(torch.rand(1, 2, 1, 3), MULTILABEL, (0.5,))


def test_multiclass_planes_are_the_most_probable_class_or_none() -> None:
    # first class, second class, and what is missing to one: the background
    pixels = [(0.5, 0.2), (0.2, 0.5), (0.2, 0.2), (0.4, 0.35), (0.0, 0.0), (0.0, 1.0)]
    planes = predicted_planes(torch.tensor(pixels).T[None, :, None, :], MULTICLASS, (0.99, 0.99))
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
    planes = predicted_planes(logits.softmax(dim=1)[:, 1:], MULTICLASS, ())
    index = logits.argmax(dim=1)
    assert torch.equal(planes, torch.stack([index == place for place in (1, 2, 3)], dim=1))
