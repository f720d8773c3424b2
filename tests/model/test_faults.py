"""Faults planted into real trainings, each of which must be called by its name, and sound ones that must not be."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data.segmentation_data import SegmentationData
from model.checkpoint import ModelCard
from model.config import TrainConfig
from model.cost import NetworkCost
from model.diagnose import TrainingFailure
from model.losses import Loss, make_loss
from model.train import train
from model.unet import UNet
from tests.toys import TASKS, colored_squares, data_of, split_in_two

# Learns the squares in a second.
SOUND = TrainConfig(
    depth=2,
    width=4,
    learning_rate=0.02,
    batch_size=4,
    max_epochs=9,
    crop_size=0,
    epoch_pixels=0,
    augmentation=0.0,
    precision="float32",
)


def outcome(config: TrainConfig, data: SegmentationData, validation: int = 2) -> tuple[str, dict[str, str]]:
    """How the training failed, or "", and the first warning of each name that it gave."""
    said: dict[str, str] = {}
    try:
        for report in train(config, data, split_in_two(data, validation)):
            for warning in report.warnings:
                said.setdefault(warning.partition(":")[0], warning)
    except TrainingFailure as failure:
        return str(failure), said
    return "", said


def squares(task: str = "binary", *, count: int = 10, side: int = 16) -> SegmentationData:
    return colored_squares(task, count=count, side=side)


def with_masks(data: SegmentationData, change: Callable[[Any], Any]) -> SegmentationData:
    masks = data.masks.copy()
    change(masks)
    return data_of(data.images, masks, label_mode=data.label_mode)


def plant_loss(monkeypatch: pytest.MonkeyPatch, change: Callable[[Loss, Tensor, Tensor, Tensor], Tensor]) -> None:
    """Makes trainings use what `change` makes of the loss, the logits, the masks and the valid pixels."""

    def make(config: TrainConfig, *others: Any) -> Loss:
        sound = make_loss(config, *others)
        return lambda logits, masks, valid: change(sound, logits, masks, valid)

    monkeypatch.setattr("model.start.make_loss", make)


def plant_weights(monkeypatch: pytest.MonkeyPatch, change: Callable[[UNet], Any]) -> None:
    """Makes trainings begin with a network that `change` has changed."""
    sound = ModelCard.build

    def build(card: ModelCard) -> UNet:
        network = sound(card)
        with torch.no_grad():
            change(network)
        return network

    monkeypatch.setattr(ModelCard, "build", build)


@pytest.mark.parametrize("task", TASKS)
def test_a_sound_training_is_let_be(task: str) -> None:
    assert outcome(SOUND, squares(task)) == ("", {})


# A loss, a gradient, a weight or an output that is not finite: the training diverges, and the first of them is named.


def test_an_unguarded_division_in_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    data = with_masks(squares(), lambda masks: masks[3].fill(0))
    config = replace(SOUND, batch_size=1)

    def divided(_sound: Loss, logits: Tensor, masks: Tensor, _valid: Tensor) -> Tensor:
        return logits.sigmoid().square().mean() * masks.sum() / masks.sum()

    plant_loss(monkeypatch, divided)
    failure, _ = outcome(config, data)
    assert failure.startswith("diverged: ")
    assert "the loss (nan)" in failure
    assert "of epoch 1 (picture3), at learning rate" in failure


def test_a_root_of_zero_in_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_loss(monkeypatch, lambda sound, logits, masks, valid: sound(logits, masks, valid) + (logits * 0).sum().sqrt())
    failure, _ = outcome(SOUND, squares())
    assert failure.startswith("diverged: ")
    assert "the gradient of the output of passes.0.head (Conv2d)" in failure
    assert "in step 1 of epoch 1" in failure


def test_a_weight_that_is_not_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_weights(monkeypatch, lambda network: network.passes[0].head.bias.fill_(float("nan")))
    failure, _ = outcome(SOUND, squares())
    assert failure.startswith("diverged: ")
    assert "the weights passes.0.head.bias (1 of 1 values)" in failure


def test_features_that_overflow(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_weights(monkeypatch, lambda network: network.passes[0].head.weight.fill_(3e38))
    failure, _ = outcome(SOUND, squares())
    assert failure.startswith("diverged: ")
    assert "the output of passes.0.head (Conv2d)" in failure


@pytest.mark.parametrize("seed", [0, 1])
def test_a_learning_rate_far_too_large(seed: int) -> None:
    config = replace(SOUND, depth=4, normalisation="none", upsampling="nearest", learning_rate=10.0, warm_up=0.0)
    failure, _ = outcome(replace(config, seed=seed), squares())
    assert failure.startswith("diverged: ")
    # one step went far astray, and in the next one features overflowed
    assert "the output of passes.0.decoder." in failure
    assert "in step 2 of epoch 1" in failure
    assert "at learning rate 9.8" in failure


# Masks that never come to anything: the training collapses.


def test_masks_without_a_pixel() -> None:
    def nearly_empty(masks: Any) -> None:
        masks[:8] = 0
        masks[0, :, 0, 0] = 1

    config = replace(SOUND, max_epochs=20, collapse_epochs=4, learning_rate=0.05)
    failure, _ = outcome(config, with_masks(squares(), nearly_empty))
    assert failure.startswith(
        "collapsed: masks_empty: predicted no pixel of any class in 4 looks in a row, and no threshold helps; try"
    )


def test_masks_that_cover_everything() -> None:
    config = replace(SOUND, max_epochs=20, collapse_epochs=4, learning_rate=0.05)
    failure, _ = outcome(config, with_masks(squares(), lambda masks: masks[:8].fill(1)))
    assert failure.startswith(
        "collapsed: masks_full: predicted every pixel of the picture in 4 looks in a row, and no threshold helps; try"
    )


def test_a_loss_that_is_cut_off_from_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_loss(
        monkeypatch,
        lambda sound, logits, masks, valid: sound(logits.detach(), masks, valid) + 0 * logits.sum(),
    )
    failure, _ = outcome(SOUND, squares())
    assert failure.startswith("collapsed: dead_network: the gradient was exactly zero for a whole epoch; try")


def test_features_that_are_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(network: UNet) -> None:
        for name, bias in network.named_parameters():
            if name.endswith("convolution.bias"):
                bias.fill_(-1e6)

    plant_weights(monkeypatch, kill)
    failure, _ = outcome(replace(SOUND, normalisation="none", collapse_epochs=3), squares())
    assert failure.startswith("collapsed: constant_output: all pixels of the validation images had one probability")


# What a training survives, with a warning.


def test_a_class_too_rare_to_be_found() -> None:
    def nearly_without_second(masks: Any) -> None:
        masks[:8, 1] = 0
        masks[0, :, 0, 0] = [0, 1]

    config = replace(SOUND, loss="weighted_ce", max_epochs=12)
    failure, said = outcome(config, with_masks(squares("multiclass"), nearly_without_second))
    assert failure == ""
    assert "class_never_predicted: no pixel of class1 was found in 6 looks" in said["class_never_predicted"]


def test_a_learning_rate_far_too_small() -> None:
    failure, said = outcome(replace(SOUND, learning_rate=1e-7, collapse_epochs=100), squares())
    assert (failure, [*said]) == ("", ["loss_flat"])


def test_masks_that_have_nothing_to_do_with_their_pictures() -> None:
    def noise(masks: Any) -> None:
        masks[:] = np.random.default_rng(0).random(masks.shape) < 0.3

    config = replace(SOUND, augmentation=0.5, max_epochs=14, collapse_epochs=100)
    failure, said = outcome(config, with_masks(squares(), noise))
    assert (failure, [*said]) == ("", ["loss_flat"])


def test_wrong_masks_that_are_learnt_by_heart() -> None:
    def mistaken(masks: Any) -> None:
        masks[:8] ^= np.random.default_rng(0).random(masks[:8].shape) < 0.4

    config = replace(SOUND, width=16, learning_rate=0.01, schedule="constant", max_epochs=10)
    failure, said = outcome(config, with_masks(squares(), mistaken))
    assert (failure, [*said]) == ("", ["overfitting"])


def test_validation_images_of_another_kind() -> None:
    data = squares()
    images = data.images.copy()
    images[8:] = 255 - images[8:]
    config = replace(SOUND, learning_rate=0.05, max_epochs=14)
    failure, said = outcome(config, data_of(images, data.masks))
    assert (failure, [*said]) == ("", ["validation_lags"])


def test_a_loss_that_goes_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def turned(sound: Loss, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        steps.append(len(steps))
        # from the seventh of twelve epochs on, of two steps each, the masks are turned round
        return sound(logits, masks if len(steps) <= 12 else 1 - masks, valid)

    plant_loss(monkeypatch, turned)
    config = replace(SOUND, max_epochs=12, schedule="constant", learning_rate=0.005, collapse_epochs=100)
    failure, said = outcome(config, squares())
    assert failure == ""
    assert "the training loss rose from" in said["loss_rising"]


@pytest.mark.parametrize("evaluate_every", [1, 2])
def test_one_batch_with_a_gradient_out_of_all_proportion(evaluate_every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []

    def once_huge(sound: Loss, logits: Tensor, masks: Tensor, valid: Tensor) -> Tensor:
        steps.append(len(steps))
        # in the ninth epoch, of two steps each, after which nothing is judged where every second epoch is
        return sound(logits, masks, valid) * (1000 if len(steps) == 17 else 1)

    plant_loss(monkeypatch, once_huge)
    _, said = outcome(replace(SOUND, max_epochs=10, evaluate_every=evaluate_every), squares())
    assert f"by epoch {8 + evaluate_every}, where" in said["exploding_gradients"]
    assert "try gradient_clip=1" in said["exploding_gradients"]


def test_gradients_that_are_far_too_long_from_the_first_step_on() -> None:
    config = replace(SOUND, normalisation="none", learning_rate=3.0, warm_up=0.0, max_epochs=2)
    _, said = outcome(config, squares())
    assert said["exploding_gradients"].startswith("exploding_gradients: the gradient's norm reached ")
    assert " by epoch 1; try gradient_clip=1" in said["exploding_gradients"]


def test_masks_that_lie_beside_what_they_show() -> None:
    def shift(masks: Any) -> None:
        masks[8:] = np.roll(masks[8:], (0, 6), axis=(2, 3))

    failure, said = outcome(replace(SOUND, max_epochs=5), with_masks(squares(count=12, side=32), shift), validation=4)
    assert (failure, [*said]) == ("", ["masks_shifted"])
    assert "19% to the right of the picture" in said["masks_shifted"]


def test_masks_of_two_images_that_were_exchanged() -> None:
    def exchange(masks: Any) -> None:
        masks[[8, 10]] = masks[[10, 8]]

    config = replace(SOUND, max_epochs=5)
    failure, said = outcome(config, with_masks(squares(count=12, side=32), exchange), validation=4)
    assert (failure, [*said]) == ("", ["masks_swapped"])
    assert "picture8 by that of picture10, picture10 by that of picture8" in said["masks_swapped"]


def test_memory_that_does_not_suffice_for_one_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_others: Any) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(UNet, "logits_of_passes", refuse)
    # neither the cost of the network nor the training can run it
    monkeypatch.setattr("model.train.network_cost", lambda network: NetworkCost(parameters=1, gflops_per_megapixel=1.0))
    failure, _ = outcome(SOUND, squares())
    assert failure.startswith("out_of_memory: memory did not suffice for one sample of 16 x 16 pixels")


def test_memory_that_suffices_for_half_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = UNet.logits_of_passes

    def refuse_many(network: UNet, images: Tensor) -> list[Tensor]:
        if network.training and len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return sound(network, images)

    monkeypatch.setattr(UNet, "logits_of_passes", refuse_many)
    failure, said = outcome(replace(SOUND, max_epochs=2), squares())
    assert failure == ""
    assert "each batch of 4 is computed in 2 parts" in said["batch_split"]
