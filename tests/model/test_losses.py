"""The losses, against tables worked out by hand and through one contract that every loss must keep."""

from itertools import pairwise
from math import log

import pytest
import torch
from torch import Tensor

from data.segmentation_data import MULTICLASS, MULTILABEL, LabelMode
from model.config import TrainConfig
from model.losses import (
    LOSSES,
    Loss,
    Target,
    class_index,
    class_probabilities,
    dice_and_cross_entropy,
    dice_loss,
    dice_loss_per_image,
    focal_loss,
    make_loss,
    near_edges,
    tversky_loss,
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


def target_of(
    masks: Tensor,
    valid: Tensor | None = None,
    label_mode: LabelMode = MULTILABEL,
    weights: list[float] | None = None,
    edge_weight: float = 0.0,
) -> Target:
    """A target in which, where nothing else is said, every pixel counts and weighs 1."""
    return Target(
        masks=masks,
        valid=torch.ones_like(masks[:, :1]) if valid is None else valid,
        label_mode=label_mode,
        class_weights=torch.tensor(weights or [1.0] * (masks.shape[1] + (label_mode == MULTICLASS))),
        edge_weight=edge_weight,
    )


def task_tensors(task: str, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, LabelMode]:
    """Random logits, masks and valid for one task, in float64, and its label mode."""
    label_mode, classes = TASKS[task]
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes + (label_mode == MULTICLASS), 6, 7, generator=draw, dtype=torch.float64)
    masks = (torch.rand(2, classes, 6, 7, generator=draw) < 0.4).double()
    if label_mode == MULTICLASS:
        masks[:, 0] *= 1 - masks[:, 1]
    valid = (torch.rand(2, 1, 6, 7, generator=draw) < 0.8).double()
    return logits, masks, valid, label_mode


def loss_for(variant: str, task: str) -> Loss:
    """The loss of a variant with class weights that all differ, made as a training makes it."""
    label_mode, classes = TASKS[task]
    weights = torch.tensor([0.7, 1.3, 0.9], dtype=torch.float64)[: classes + (label_mode == MULTICLASS)]
    return make_loss(VARIANTS[variant], label_mode, weights)


def logits_that_show(masks: Tensor, label_mode: LabelMode) -> Tensor:
    """Logits that are sure of exactly these masks."""
    sure = 20 * masks - 10
    if label_mode == MULTICLASS:
        background = 1 - masks.amax(dim=1, keepdim=True)
        return torch.cat([20 * background - 10, sure], dim=1)
    return sure


# Every loss by itself, and what else changes how one computes.
VARIANTS = {name: TrainConfig(loss=name) for name in LOSSES} | {
    "weighted_ce, edges": TrainConfig(loss="weighted_ce", edge_weight=3.0),
    "focal, edges": TrainConfig(loss="focal", edge_weight=3.0),
    "focal, gamma 0.5": TrainConfig(loss="focal", focal_gamma=0.5),
    "tversky, alpha 0.9": TrainConfig(loss="tversky", tversky_alpha=0.9),
}

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
    assert float(dice_loss(logits, target_of(masks, valid, label_mode))) == pytest.approx(expected, abs=1e-6)


def test_dice_per_image_by_hand() -> None:
    # the first image: Dice 7/10, worked out above; the second: one pixel of four found by 3/4, all others by 1/4:
    # overlap 3/4; sums 3/2 + 1; Dice (3/2 + 1) / (5/2 + 1) = 5/7; mean of 3/10 and 2/7
    logits = torch.cat([LOGITS, plane(THREE_QUARTERS, QUARTER, QUARTER, QUARTER)])
    masks = torch.cat([MASK, plane(1, 0, 0, 0)])
    assert float(dice_loss_per_image(logits, target_of(masks))) == pytest.approx((3 / 10 + 2 / 7) / 2, abs=1e-6)
    # pooled: overlap 2; sums 7/2 + 3; Dice 5 / (15/2) = 2/3
    assert float(dice_loss(logits, target_of(masks))) == pytest.approx(1 / 3, abs=1e-6)


def test_a_class_that_an_image_does_not_hold_costs_its_mean_probability_there() -> None:
    # the first class as above: 3/10; the second is absent, and found by 1/4 and 1/4 where pixels count
    logits = torch.cat([LOGITS, plane(QUARTER, QUARTER, THREE_QUARTERS, THREE_QUARTERS)], dim=1)
    masks = torch.cat([MASK, plane(0, 0, 1, 1)], dim=1)
    assert float(dice_loss_per_image(logits[:, 1:], target_of(masks[:, 1:], plane(1, 1, 0, 0)))) == pytest.approx(1 / 4)
    # first class where two pixels count: overlap 3/4; sums 1 + 1; Dice (3/2 + 1) / 3 = 5/6
    two = dice_loss_per_image(logits, target_of(masks, plane(1, 1, 0, 0)))
    assert float(two) == pytest.approx((1 / 6 + 1 / 4) / 2, abs=1e-6)


def test_dice_per_image_of_exclusive_classes_by_hand() -> None:
    # one image of two pixels; first class: 8/11, worked out above; second absent: mean probability 1/4
    logits = row_of_pixels(FIRST_CLASS, BACKGROUND)
    masks = torch.cat([plane(1, 0), plane(0, 0)], dim=1)
    loss = dice_loss_per_image(logits, target_of(masks, label_mode=MULTICLASS))
    assert float(loss) == pytest.approx((3 / 11 + 1 / 4) / 2, abs=1e-6)


def test_tversky_by_hand() -> None:
    # overlap 5/4, invented 3/4, missed 3/4: (5/4 + 1/2) / (5/4 + 1/2 + 3/4) = 7/10 whatever alpha is
    for alpha in (0.0, 0.3, 1.0):
        assert float(tversky_loss(LOGITS, target_of(MASK), alpha=alpha)) == pytest.approx(3 / 10, abs=1e-6)
    # where the last three count: overlap 1/2, invented 3/4, missed 1/2: 1 / (1 + 3/4 alpha + 1/2 (1 - alpha))
    target = target_of(MASK, plane(0, 1, 1, 1))
    for alpha, expected in ((0.0, 1 / 3), (0.4, 3 / 8), (1.0, 3 / 7)):
        assert float(tversky_loss(LOGITS, target, alpha=alpha)) == pytest.approx(expected, abs=1e-6)
    # nothing to find: invented 2: (1/2) / (1/2 + 2 alpha); with alpha 0 it costs all, but nothing can be done
    for alpha, expected in ((0.25, 1 / 2), (1.0, 4 / 5), (0.0, 0.0)):
        assert float(tversky_loss(LOGITS, target_of(0 * MASK), alpha=alpha)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_tversky_with_one_half_is_dice(task: str) -> None:
    logits, masks, valid, label_mode = task_tensors(task)
    target = target_of(masks, valid, label_mode)
    assert float(tversky_loss(logits, target, alpha=0.5)) == pytest.approx(float(dice_loss(logits, target)), rel=1e-12)


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
    weights = [float(weight) for weight in weights]
    loss = weighted_cross_entropy(logits, target_of(masks, valid, label_mode, weights))
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_focal_by_hand() -> None:
    # truth at 3/4, 3/4, 1/2, 1/2: with gamma 2 each counts 1/16, 1/16, 1/4, 1/4 of its surprise
    easy, hard = log(4 / 3) / 16, log(2) / 4
    assert float(focal_loss(LOGITS, target_of(MASK), gamma=2.0)) == pytest.approx((2 * easy + 2 * hard) / 4, abs=1e-7)
    # class weights apply: the pixels of the class, one easy and one hard, count three times
    weighted = target_of(MASK, plane(1, 1, 1, 0), weights=[3.0])
    assert float(focal_loss(LOGITS, weighted, gamma=2.0)) == pytest.approx((4 * easy + 3 * hard) / 3, abs=1e-7)
    # exclusive classes: the first class at 1/2, weight 3, counts a half; the background at 1/4, weight 1, 3/4
    masks = torch.cat([plane(1, 0), plane(0, 0)], dim=1)
    target = target_of(masks, label_mode=MULTICLASS, weights=[1.0, 3.0, 7.0])
    loss = focal_loss(row_of_pixels(FIRST_CLASS, FIRST_CLASS), target, gamma=1.0)
    assert float(loss) == pytest.approx((3 * log(2) / 2 + log(4) * 3 / 4) / 4, abs=1e-7)


@pytest.mark.parametrize("task", TASKS)
def test_focal_without_gamma_is_the_cross_entropy(task: str) -> None:
    logits, masks, valid, label_mode = task_tensors(task)
    target = target_of(masks, valid, label_mode, [2.0, 3.0, 0.5][: logits.shape[1]], edge_weight=2.0)
    assert float(focal_loss(logits, target, gamma=0.0)) == pytest.approx(float(weighted_cross_entropy(logits, target)))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 10.0])
def test_focal_has_a_gradient_where_float32_is_sure_of_the_truth_or_of_its_opposite(task: str, gamma: float) -> None:
    _, masks, valid, label_mode = task_tensors(task)
    for shown in (masks, 1 - masks):
        logits = (20 * logits_that_show(shown, label_mode)).float().requires_grad_()
        loss = focal_loss(logits, target_of(masks.float(), valid.float(), label_mode), gamma=gamma)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("task", TASKS)
def test_dice_and_cross_entropy_is_the_sum(task: str) -> None:
    logits, masks, valid, label_mode = task_tensors(task)
    target = target_of(masks, valid, label_mode, [2.0, 3.0, 0.5][: logits.shape[1]], edge_weight=2.0)
    parts = [float(loss(logits, target)) for loss in (dice_loss, weighted_cross_entropy)]
    assert float(dice_and_cross_entropy(logits, target)) == pytest.approx(sum(parts))


def picture(rows: str) -> Tensor:
    """A plane (1, 1, H, W) of rows of 0 and 1, apart by spaces."""
    return torch.tensor([[float(pixel) for pixel in row] for row in rows.split()])[None, None]


@pytest.mark.parametrize(
    ("masks", "valid", "expected"),
    [
        # two pixels on either side
        pytest.param("00001111", "11111111", "00111100", id="edge"),
        # the picture's border is none
        pytest.param("11111111", "11111111", "00000000", id="full"),
        pytest.param("00000000", "11111111", "00000000", id="empty"),
        # what does not count makes no edge, though one is seen across it
        pytest.param("11110000", "11110000", "00000000", id="field-of-view"),
        pytest.param("00001111", "11101111", "00111000", id="hole"),
        # along the larger of both distances: the corner of a mask is a corner
        pytest.param(
            "000000 000000 000000 000000 000001",
            "111111 111111 111111 111111 111111",
            "000000 000000 000111 000111 000111",
            id="corner",
        ),
        pytest.param("1", "1", "0", id="one-pixel"),
        pytest.param("0 1", "1 1", "1 1", id="two-pixels"),
    ],
)
def test_edges_by_hand(masks: str, valid: str, expected: str) -> None:
    near = near_edges(picture(masks), picture(valid))
    assert near.dtype == torch.bool
    assert near.float().tolist() == picture(expected).tolist()


def test_edge_weight_by_hand() -> None:
    # of six pixels the first four lie near the edge; all cost ln 4/3 but the third, ln 4, and the last, ln 2
    masks = plane(1, 1, 0, 0, 0, 0)
    logits = plane(THREE_QUARTERS, THREE_QUARTERS, THREE_QUARTERS, QUARTER, QUARTER, 0)
    loss = weighted_cross_entropy(logits, target_of(masks, edge_weight=2.0))
    assert float(loss) == pytest.approx((9 * log(4 / 3) + 3 * log(4) + log(4 / 3) + log(2)) / 14, abs=1e-6)


def test_edge_weight_of_exclusive_classes_by_hand() -> None:
    # near the edge of any class: the first five of seven pixels; the truth at 1/2, 1/4, 1/4, 1/4, 1/2, 1/2, 1/2
    masks = torch.cat([plane(1, 0, 0, 0, 0, 0, 0), plane(0, 1, 1, 0, 0, 0, 0)], dim=1)
    logits = row_of_pixels(*[FIRST_CLASS] * 4, *[BACKGROUND] * 3)
    target = target_of(masks, label_mode=MULTICLASS, weights=[1.0, 3.0, 5.0], edge_weight=1.0)
    # weights 3, 5, 5, 1, 1, doubled, and 1, 1
    expected = (2 * (3 * log(2) + 11 * log(4) + log(2)) + 2 * log(2)) / 32
    assert float(weighted_cross_entropy(logits, target)) == pytest.approx(expected, abs=1e-6)


every_loss_and_task = pytest.mark.parametrize(
    ("variant", "task"), [(variant, task) for variant in VARIANTS for task in TASKS]
)


@every_loss_and_task
def test_contract_a_scalar_with_a_true_gradient(variant: str, task: str) -> None:
    logits, masks, valid, _ = task_tensors(task)
    logits, masks, valid = logits[..., :4], masks[..., :4], valid[..., :4]
    loss_of = loss_for(variant, task)
    logits.requires_grad_()
    assert loss_of(logits, masks, valid).shape == ()
    assert torch.autograd.gradcheck(lambda at: loss_of(at, masks, valid), (logits,))


@every_loss_and_task
def test_contract_nothing_waits_for_the_device(variant: str, task: str) -> None:
    # A tensor on "meta" has no value, so whoever asks for one fails.
    logits, masks, valid, label_mode = task_tensors(task)
    loss_of = make_loss(VARIANTS[variant], label_mode, torch.ones(logits.shape[1], device="meta"))
    logits = logits.to("meta").requires_grad_()
    loss_of(logits, masks.to("meta"), valid.to("meta")).backward()
    assert logits.grad is not None


@every_loss_and_task
def test_contract_masks_may_be_of_any_type(variant: str, task: str) -> None:
    logits, masks, valid, _ = task_tensors(task)
    loss_of = loss_for(variant, task)
    expected = float(loss_of(logits, masks, valid))
    for kind in (torch.bool, torch.uint8, torch.float32):
        assert float(loss_of(logits, masks.to(kind), valid.to(kind))) == expected


@every_loss_and_task
def test_contract_a_perfect_prediction_costs_next_to_nothing_and_a_wrong_one_more(variant: str, task: str) -> None:
    _, masks, valid, label_mode = task_tensors(task)
    loss_of = loss_for(variant, task)
    perfect, wrong = (
        float(loss_of(logits_that_show(shown, label_mode), masks, valid)) for shown in (masks, masks.roll(1, dims=-1))
    )
    assert 0 <= perfect < 0.01
    assert wrong > perfect + 0.1


@every_loss_and_task
def test_contract_it_falls_along_its_gradient(variant: str, task: str) -> None:
    logits, masks, valid, _ = task_tensors(task)
    loss_of = loss_for(variant, task)
    losses = []
    for _ in range(6):
        logits.requires_grad_()
        loss = loss_of(logits, masks, valid)
        (gradient,) = torch.autograd.grad(loss, logits)
        losses.append(float(loss.detach()))
        logits = (logits - gradient).detach()
    assert all(later < earlier for earlier, later in pairwise(losses)), losses


@every_loss_and_task
def test_contract_pixels_that_do_not_count_change_nothing(variant: str, task: str) -> None:
    logits, masks, valid, _ = task_tensors(task)
    assert not valid.all()
    loss_of = loss_for(variant, task)
    elsewhere = torch.where(valid.bool(), logits, 50 * torch.ones_like(logits).cumsum(dim=1))
    other_masks = torch.where(valid.bool(), masks, 0 * masks)
    elsewhere.requires_grad_()
    loss = loss_of(elsewhere, other_masks, valid)
    (gradient,) = torch.autograd.grad(loss, elsewhere)
    assert float(loss.detach()) == float(loss_of(logits, masks, valid))
    assert not (gradient * (1 - valid)).any()


@every_loss_and_task
def test_contract_nothing_that_counts_gives_no_gradient_and_no_nan(variant: str, task: str) -> None:
    logits, masks, valid, _ = task_tensors(task)
    logits.requires_grad_()
    loss = loss_for(variant, task)(logits, masks, 0 * valid)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert float(loss.detach()) == 0
    assert not gradient.any()


@every_loss_and_task
def test_contract_an_image_of_which_nothing_counts_leaves_no_trace_in_the_others(variant: str, task: str) -> None:
    logits, masks, valid, _ = task_tensors(task)
    valid[1] = 0
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(loss_for(variant, task)(logits, masks, valid), logits)
    assert gradient.isfinite().all()
    assert gradient[0].any()
    assert not gradient[1].any()


@every_loss_and_task
def test_contract_a_class_that_is_absent_is_pushed_down(variant: str, task: str) -> None:
    logits, masks, valid, label_mode = task_tensors(task)
    masks[:, -1] = 0
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(loss_for(variant, task)(logits, masks, valid), logits)
    before, after = (class_probabilities(at, label_mode)[:, -1:] for at in (logits, logits - gradient))
    assert (after * valid).sum() < (before * valid).sum()
    if label_mode == MULTILABEL:
        assert ((after < before) | (valid == 0)).all()


@every_loss_and_task
def test_contract_empty_masks_empty_the_prediction(variant: str, task: str) -> None:
    logits, masks, valid, label_mode = task_tensors(task)
    logits.requires_grad_()
    loss = loss_for(variant, task)(logits, 0 * masks, valid)
    (gradient,) = torch.autograd.grad(loss, logits)
    before, after = (class_probabilities(at, label_mode) for at in (logits, logits - gradient))
    assert loss.isfinite()
    assert (after * valid).sum() < (before * valid).sum()


def test_probabilities_are_a_sigmoid_or_a_softmax_without_the_background() -> None:
    assert class_probabilities(LOGITS, MULTILABEL).flatten().tolist() == pytest.approx([0.75, 0.25, 0.5, 0.5])
    multiclass = class_probabilities(row_of_pixels(FIRST_CLASS, BACKGROUND), MULTICLASS)  # (1, 2, 1, 2)
    assert multiclass.flatten().tolist() == pytest.approx([0.5, 0.25, 0.25, 0.25])


def test_class_index_is_zero_where_no_plane_is_set() -> None:
    masks = torch.cat([plane(1, 0, 0, 0), plane(0, 1, 0, 0), plane(0, 0, 0, 1)], dim=1)
    for kind in (torch.float32, torch.uint8, torch.bool):
        assert class_index(masks.to(kind)).tolist() == [[[1, 2, 0, 3]]]
