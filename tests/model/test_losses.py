"""The losses, against tables worked out by hand and through one contract that every loss must keep."""

from itertools import pairwise
from math import log

import pytest
import torch
from torch import Tensor

from data.segmentation_data import MULTICLASS, MULTILABEL, LabelMode
from model.losses import (
    LOSSES,
    class_index,
    class_probabilities,
    dice_and_cross_entropy,
    dice_loss,
    weighted_cross_entropy,
)
from tests.toys import TASKS

# Logits whose sigmoid is easy: 3/4, 1/4, and 1/2 at 0.
THREE_QUARTERS, QUARTER = log(3), -log(3)


def plane(*values: float) -> Tensor:
    """A picture of one row, (1, 1, 1, W)."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


def row_of_pixels(*pixels: list[float]) -> Tensor:
    """Logits of a picture of one row, (1, C, 1, W), from the C logits of each pixel."""
    return torch.tensor(pixels).T[None, :, None, :]


def weights_of(label_mode: LabelMode, classes: int) -> Tensor:
    """Weights that change nothing."""
    return torch.ones(classes + (label_mode == MULTICLASS))


def task_tensors(task: str, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor, LabelMode]:
    """Random logits, masks, valid and class weights for one task, in float64, and its label mode."""
    label_mode, classes = TASKS[task]
    draw = torch.Generator().manual_seed(seed)
    outputs = classes + (label_mode == MULTICLASS)
    logits = torch.randn(2, outputs, 4, 5, generator=draw, dtype=torch.float64)
    masks = (torch.rand(2, classes, 4, 5, generator=draw) < 0.4).double()
    if label_mode == MULTICLASS:
        masks[:, 0] *= 1 - masks[:, 1]
    valid = (torch.rand(2, 1, 4, 5, generator=draw) < 0.8).double()
    weights = torch.rand(outputs, generator=draw, dtype=torch.float64) + 0.5
    return logits, masks, valid, weights, label_mode


def logits_that_show(masks: Tensor, label_mode: LabelMode) -> Tensor:
    """Logits that are sure of exactly these masks."""
    sure = 20 * masks - 10
    if label_mode == MULTICLASS:
        background = 1 - masks.amax(dim=1, keepdim=True)
        return torch.cat([20 * background - 10, sure], dim=1)
    return sure


# One row of four pixels, probabilities 3/4 1/4 1/2 1/2, mask 1 0 1 0.
LOGITS = plane(THREE_QUARTERS, QUARTER, 0, 0)
MASK = plane(1, 0, 1, 0)
# Softmax of (0, ln 2, 0) is 1/4 1/2 1/4; of (ln 2, 0, 0) it is 1/2 1/4 1/4.
FIRST_CLASS, BACKGROUND = [0, log(2), 0], [log(2), 0, 0]


@pytest.mark.parametrize(
    ("logits", "masks", "valid", "label_mode", "expected"),
    [
        # overlap 3/4 + 1/2 = 5/4; sums 2 + 2 = 4; Dice (5/2 + 1) / (4 + 1) = 7/10
        pytest.param(LOGITS, MASK, plane(1, 1, 1, 1), MULTILABEL, 3 / 10, id="binary"),
        # without the last pixel: overlap 5/4; sums 3/2 + 2 = 7/2; Dice (5/2 + 1) / (7/2 + 1) = 7/9
        pytest.param(LOGITS, MASK, plane(1, 1, 1, 0), MULTILABEL, 2 / 9, id="binary-valid"),
        # nothing to find: overlap 0; sums 2 + 0; Dice 1 / 3
        pytest.param(LOGITS, 0 * MASK, plane(1, 1, 1, 1), MULTILABEL, 2 / 3, id="binary-empty"),
        # no pixel counts: Dice 1 / 1
        pytest.param(LOGITS, MASK, plane(0, 0, 0, 0), MULTILABEL, 0, id="binary-nothing-counts"),
        # the class above, 7/10, and one that is found by a half everywhere and lies everywhere:
        # overlap 2; sums 2 + 4; Dice 5 / 7; mean (7/10 + 5/7) / 2 = 99/140
        pytest.param(
            torch.cat([LOGITS, 0 * LOGITS], dim=1),
            torch.cat([MASK, 0 * MASK + 1], dim=1),
            plane(1, 1, 1, 1),
            MULTILABEL,
            41 / 140,
            id="multilabel",
        ),
        # two pixels, one of the first class and one of the background; first class: overlap 1/2; sums 3/4 + 1; Dice
        # 2 / (11/4) = 8/11; second class: overlap 0; sums 1/2 + 0; Dice 1 / (3/2) = 2/3; mean 23/33
        pytest.param(
            row_of_pixels(FIRST_CLASS, BACKGROUND),
            torch.cat([plane(1, 0), plane(0, 0)], dim=1),
            plane(1, 1),
            MULTICLASS,
            10 / 33,
            id="multiclass",
        ),
        # only the first pixel counts; first class: overlap 1/2; sums 1/2 + 1; Dice 2 / (5/2) = 4/5; second class:
        # sums 1/4; Dice 1 / (5/4) = 4/5
        pytest.param(
            row_of_pixels(FIRST_CLASS, BACKGROUND),
            torch.cat([plane(1, 0), plane(0, 0)], dim=1),
            plane(1, 0),
            MULTICLASS,
            1 / 5,
            id="multiclass-valid",
        ),
    ],
)
def test_dice_loss_by_hand(
    logits: Tensor, masks: Tensor, valid: Tensor, label_mode: LabelMode, expected: float
) -> None:
    loss = dice_loss(logits, masks, valid, label_mode, weights_of(label_mode, masks.shape[1]))
    assert float(loss) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("logits", "masks", "valid", "label_mode", "weights", "expected"),
    [
        # -ln of the probability of the truth: ln 4/3, ln 4/3, ln 2, ln 2
        pytest.param(LOGITS, MASK, plane(1, 1, 1, 1), MULTILABEL, [1], (2 * log(4 / 3) + 2 * log(2)) / 4, id="binary"),
        pytest.param(
            LOGITS, MASK, plane(1, 1, 1, 0), MULTILABEL, [1], (2 * log(4 / 3) + log(2)) / 3, id="binary-valid"
        ),
        # the two pixels of the class count three times, the mean is still over four pixels
        pytest.param(
            LOGITS, MASK, plane(1, 1, 1, 1), MULTILABEL, [3], (4 * log(4 / 3) + 4 * log(2)) / 4, id="binary-weights"
        ),
        # nothing to find: ln 4, ln 4/3, ln 2, ln 2
        pytest.param(
            LOGITS, 0 * MASK, plane(1, 1, 1, 1), MULTILABEL, [3], (log(4) + log(4 / 3) + 2 * log(2)) / 4, id="empty"
        ),
        pytest.param(LOGITS, MASK, plane(0, 0, 0, 0), MULTILABEL, [3], 0, id="binary-nothing-counts"),
        # two planes of two pixels: ln 4/3 twice, once threefold; ln 2 twice, once fivefold
        pytest.param(
            torch.cat([plane(THREE_QUARTERS, QUARTER), plane(0, 0)], dim=1),
            torch.cat([plane(1, 0), plane(1, 0)], dim=1),
            plane(1, 1),
            MULTILABEL,
            [3, 5],
            (4 * log(4 / 3) + 6 * log(2)) / 4,
            id="multilabel-weights",
        ),
        # the truth has 1/2 in both pixels
        pytest.param(
            row_of_pixels(FIRST_CLASS, BACKGROUND),
            torch.cat([plane(1, 0), plane(0, 0)], dim=1),
            plane(1, 1),
            MULTICLASS,
            [1, 1, 1],
            log(2),
            id="multiclass",
        ),
        # first class at 1/2, weight 3; background at 1/4, weight 1; divided by 4
        pytest.param(
            row_of_pixels(FIRST_CLASS, FIRST_CLASS),
            torch.cat([plane(1, 0), plane(0, 0)], dim=1),
            plane(1, 1),
            MULTICLASS,
            [1, 3, 7],
            (3 * log(2) + log(4)) / 4,
            id="multiclass-weights",
        ),
        # the first pixel does not count, nor does its weight
        pytest.param(
            row_of_pixels(FIRST_CLASS, FIRST_CLASS),
            torch.cat([plane(1, 0), plane(0, 0)], dim=1),
            plane(0, 1),
            MULTICLASS,
            [1, 3, 7],
            log(4),
            id="multiclass-valid",
        ),
        pytest.param(
            row_of_pixels(FIRST_CLASS, FIRST_CLASS),
            torch.cat([plane(1, 0), plane(0, 0)], dim=1),
            plane(0, 0),
            MULTICLASS,
            [1, 3, 7],
            0,
            id="multiclass-nothing-counts",
        ),
    ],
)
def test_weighted_cross_entropy_by_hand(
    logits: Tensor, masks: Tensor, valid: Tensor, label_mode: LabelMode, weights: list[float], expected: float
) -> None:
    loss = weighted_cross_entropy(logits, masks, valid, label_mode, torch.tensor(weights, dtype=torch.float32))
    assert float(loss) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_both_is_the_sum(task: str) -> None:
    logits, masks, valid, weights, label_mode = task_tensors(task)
    parts = [loss(logits, masks, valid, label_mode, weights) for loss in (dice_loss, weighted_cross_entropy)]
    assert dice_and_cross_entropy(logits, masks, valid, label_mode, weights) == pytest.approx(float(sum(parts)))


every_loss_and_task = pytest.mark.parametrize(("name", "task"), [(name, task) for name in LOSSES for task in TASKS])


@every_loss_and_task
def test_contract_a_scalar_with_a_true_gradient(name: str, task: str) -> None:
    logits, masks, valid, weights, label_mode = task_tensors(task)
    logits.requires_grad_()
    assert LOSSES[name](logits, masks, valid, label_mode, weights).shape == ()
    assert torch.autograd.gradcheck(lambda at: LOSSES[name](at, masks, valid, label_mode, weights), (logits,))


@every_loss_and_task
def test_contract_a_perfect_prediction_costs_next_to_nothing_and_a_wrong_one_more(name: str, task: str) -> None:
    _, masks, valid, weights, label_mode = task_tensors(task)
    wrong_masks = masks.roll(1, dims=-1)
    perfect, wrong = (
        float(LOSSES[name](logits_that_show(shown, label_mode), masks, valid, label_mode, weights))
        for shown in (masks, wrong_masks)
    )
    assert 0 <= perfect < 0.01
    assert wrong > perfect + 0.1


@every_loss_and_task
def test_contract_it_falls_along_its_gradient(name: str, task: str) -> None:
    logits, masks, valid, weights, label_mode = task_tensors(task)
    losses = []
    for _ in range(6):
        logits.requires_grad_()
        loss = LOSSES[name](logits, masks, valid, label_mode, weights)
        (gradient,) = torch.autograd.grad(loss, logits)
        losses.append(float(loss.detach()))
        logits = (logits - gradient).detach()
    assert all(later < earlier for earlier, later in pairwise(losses)), losses


@every_loss_and_task
def test_contract_pixels_that_do_not_count_change_nothing(name: str, task: str) -> None:
    logits, masks, valid, weights, label_mode = task_tensors(task)
    assert not valid.all()
    elsewhere = torch.where(valid.bool(), logits, 50 * torch.ones_like(logits).cumsum(dim=1))
    other_masks = torch.where(valid.bool(), masks, 0 * masks)
    elsewhere.requires_grad_()
    loss = LOSSES[name](elsewhere, other_masks, valid, label_mode, weights)
    (gradient,) = torch.autograd.grad(loss, elsewhere)
    assert float(loss.detach()) == float(LOSSES[name](logits, masks, valid, label_mode, weights))
    assert not (gradient * (1 - valid)).any()


@every_loss_and_task
def test_contract_nothing_that_counts_gives_no_gradient_and_no_nan(name: str, task: str) -> None:
    logits, masks, valid, weights, label_mode = task_tensors(task)
    logits.requires_grad_()
    loss = LOSSES[name](logits, masks, 0 * valid, label_mode, weights)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert float(loss.detach()) == 0
    assert not gradient.any()


@every_loss_and_task
def test_contract_a_class_that_is_absent_is_pushed_down(name: str, task: str) -> None:
    logits, masks, valid, weights, label_mode = task_tensors(task)
    masks[:, -1] = 0
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(LOSSES[name](logits, masks, valid, label_mode, weights), logits)
    before, after = (class_probabilities(at, label_mode)[:, -1:] for at in (logits, logits - gradient))
    assert (after * valid).sum() < (before * valid).sum()
    if label_mode == MULTILABEL:
        assert ((after < before) | (valid == 0)).all()


def test_probabilities_are_a_sigmoid_or_a_softmax_without_the_background() -> None:
    assert class_probabilities(LOGITS, MULTILABEL).flatten().tolist() == pytest.approx([0.75, 0.25, 0.5, 0.5])
    multiclass = class_probabilities(row_of_pixels(FIRST_CLASS, BACKGROUND), MULTICLASS)  # (1, 2, 1, 2)
    assert multiclass.flatten().tolist() == pytest.approx([0.5, 0.25, 0.25, 0.25])


def test_class_index_is_zero_where_no_plane_is_set() -> None:
    masks = torch.cat([plane(1, 0, 0, 0), plane(0, 1, 0, 0), plane(0, 0, 0, 1)], dim=1)
    assert class_index(masks).tolist() == [[[1, 2, 0, 3]]]
