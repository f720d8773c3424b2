"""What every network must do with every loss on every kind of task: learn, with finite gradients, and be kept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from data.segmentation_data import MULTICLASS, LabelMode, SegmentationData
from model.checkpoint import ModelCard, load_model, save_model
from model.config import BLOCKS, ENCODERS, LOSSES, TrainConfig
from model.losses import class_probabilities, make_loss
from model.portable import PortableNetwork, open_onnx, trace, write_onnx
from model.tiles import predict_probabilities
from model.unet import UNet, build_unet
from tests.toys import TASKS, colored_squares

# Every network that a config can ask for, about as small as it still is itself.
NETWORKS: dict[str, dict[str, Any]] = {
    "plain": {"depth": 2},
    "plain_deep": {"depth": 4},
    # The article's: nothing normalises, the first two levels are dilated, every block drops.
    "article": {
        "depth": 3,
        "dilation": 2,
        "dropout": 0.05,
        "dropout_place": "blocks",
        "normalisation": "none",
        "learning_rate": 5e-3,
    },
    "residual": {"depth": 2, "block": "residual"},
    "w_net": {"depth": 2, "passes": 2, "learning_rate": 1e-2},
    "resnet18": {"depth": 3, "encoder": "resnet18"},
    "resnet34": {"depth": 3, "encoder": "resnet34"},
    "mobilenet_v3": {"depth": 3, "encoder": "mobilenet_v3"},
}
# Those that are written as ONNX, too: the task, and parts that stand in none of those above. Networks of our own blocks
# alone are for test_export.py.
EXPORTED: dict[str, tuple[str, dict[str, Any]]] = {
    "resnet18": ("binary", {"depth": 2, "block": "residual", "normalisation": "group", "upsampling": "nearest"}),
    "mobilenet_v3": ("multiclass", {"depth": 2, "normalisation": "instance", "upsampling": "bilinear"}),
}
# Smaller than what a network looks at, as large, and larger, never the size by which it was written down.
SIZES = ((1, 1, 1), (3, 8, 8), (1, 16, 45), (2, 33, 64), (1, 45, 83))
MOST_STEPS = 400
LEARNT = 0.75  # Dice of every class on two pictures; to mark all squares for each class comes to 0.67


def config_of(network_name: str, loss_name: str = "dice") -> TrainConfig:
    return TrainConfig.from_mapping({"learning_rate": 2e-2, **NETWORKS[network_name], "loss": loss_name})


def batch_of(data: SegmentationData) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, C, H, W), masks (N, K, H, W) and valid (N, 1, H, W) of all of the data, float."""
    images = torch.from_numpy(data.images).permute(0, 3, 1, 2).float()
    return images, torch.from_numpy(data.masks).float(), torch.from_numpy(data.valid)[:, None].float()


def network_for(config: TrainConfig, data: SegmentationData) -> UNet:
    network = build_unet(config, channels=3, classes=len(data.class_names), label_mode=data.label_mode)
    images, _, _ = batch_of(data)
    network.pixel_mean.copy_(images.mean(dim=(0, 2, 3)))
    network.pixel_deviation.copy_(images.std(dim=(0, 2, 3)))
    return network


def lowest_dice(logits: Tensor, masks: Tensor, label_mode: LabelMode) -> float:
    """The Dice, pooled over the batch, of the class that is found worst."""
    found = (class_probabilities(logits, label_mode) >= 0.5).float()
    return float((2 * (found * masks).sum(dim=(0, 2, 3)) / (found + masks).sum(dim=(0, 2, 3))).min())


def test_every_part_that_a_config_can_name_is_among_the_networks() -> None:
    configs = [config_of(name) for name in NETWORKS]
    assert {config.encoder for config in configs} == set(ENCODERS)
    assert {config.block for config in configs} == set(BLOCKS)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("loss_name", LOSSES)
@pytest.mark.parametrize("network_name", NETWORKS)
def test_a_network_learns_with_a_loss_and_is_kept(network_name: str, loss_name: str, task: str, tmp_path: Path) -> None:
    config = config_of(network_name, loss_name)
    data = colored_squares(task, count=2)
    images, masks, valid = batch_of(data)
    network = network_for(config, data).train()
    loss_of = make_loss(config, data.label_mode, torch.ones(masks.shape[1] + (data.label_mode == MULTICLASS)))
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=True)
    losses: list[float] = []
    dice = 0.0
    while dice < LEARNT and len(losses) < MOST_STEPS:
        optimizer.zero_grad()
        logits = network.logits_of_passes(images)
        loss = torch.stack([loss_of(each, masks, valid) for each in logits]).sum()
        loss.backward()
        if not losses:
            broken = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
            assert broken == []
        optimizer.step()
        losses.append(loss.item())
        dice = lowest_dice(logits[-1], masks, data.label_mode)
    assert dice >= LEARNT, losses
    assert losses[-1] < 0.9 * losses[0]

    card = ModelCard.of(config, data, thresholds=(0.5,) * masks.shape[1])
    save_model(tmp_path, network, card, {})
    loaded, again = load_model(tmp_path)
    assert again == card
    with torch.inference_mode():
        torch.testing.assert_close(loaded(images), network.eval()(images), rtol=0, atol=0)


@pytest.mark.parametrize("network_name", NETWORKS)
def test_a_network_is_exported_for_pictures_of_any_number_and_size(network_name: str, tmp_path: Path) -> None:
    task, config = EXPORTED.get(network_name, ("multiclass", {}))
    data = colored_squares(task, count=2)
    network = network_for(replace(config_of(network_name), width=2, **config), data).eval()
    for tensor in network.state_dict().values():  # none is as a fresh one's
        if tensor.is_floating_point():
            tensor.mul_(1 + 0.2 * torch.rand_like(tensor)).add_(0.02 * torch.rand_like(tensor))
    program = trace(PortableNetwork(network, data.label_mode), channels=3)
    files: list[Any] = [program.module()]
    if network_name in EXPORTED:
        write_onnx(program, tmp_path / "model.onnx")
        files.append(open_onnx(tmp_path / "model.onnx"))
    for count, height, width in SIZES:
        pictures = torch.rand(count, 3, height, width) * 255
        expected = predict_probabilities(network, pictures, data.label_mode, bfloat16=False)
        for file in files:
            torch.testing.assert_close(file(pictures), expected, rtol=0, atol=2e-4)
