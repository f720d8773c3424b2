"""The network: any size in, the same size out; every variant learns."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from data.segmentation_data import MULTICLASS, MULTILABEL, LabelMode
from model.config import NORMALISATIONS, UPSAMPLINGS, TrainConfig
from model.unet import UNet, build_unet, pad_to_multiple
from tests.toys import PROPERTY

SIDES = st.integers(1, 70)
VARIANTS = [(normalisation, upsampling) for normalisation in NORMALISATIONS for upsampling in UPSAMPLINGS]


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@given(
    depth=st.integers(2, 6),
    height=SIDES,
    width=SIDES,
    channels=st.sampled_from([1, 3]),
    outputs=st.integers(1, 3),
    variant=st.sampled_from(VARIANTS),
)
@settings(PROPERTY, max_examples=80)
def test_logits_are_as_large_as_the_picture(
    depth: int, height: int, width: int, channels: int, outputs: int, variant: tuple[str, str]
) -> None:
    normalisation, upsampling = variant
    network = UNet(
        channels=channels,
        outputs=outputs,
        depth=depth,
        width=1,
        normalisation=normalisation,
        upsampling=upsampling,
    ).eval()
    with torch.inference_mode():
        logits = network(torch.rand(2, channels, height, width) * 255)
    assert logits.shape == (2, outputs, height, width)
    assert logits.isfinite().all()


@pytest.mark.parametrize(("normalisation", "upsampling"), VARIANTS)
@pytest.mark.parametrize("side", [1, 21])
def test_every_variant_trains_even_on_one_tiny_picture(normalisation: str, upsampling: str, side: int) -> None:
    network = UNet(
        channels=3, outputs=1, depth=2, width=8, normalisation=normalisation, dropout=0.2, upsampling=upsampling
    ).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 255
    network(images).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    optimizer.step()
    moved = [name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])]
    # A picture of one pixel is flat, and what is flat is normalised to nothing: then only biases learn.
    learning = {"head.bias"} if side == 1 else {"head.weight", "head.bias", "down.0.0.weight"}
    assert learning <= set(moved)


def test_parameters_of_the_reference_network() -> None:
    assert parameters_of(UNet(channels=3, outputs=1, depth=3, width=8)) == 121_177


def test_each_level_down_has_twice_as_many_channels() -> None:
    network: Any = UNet(channels=1, outputs=2, depth=3, width=4)
    assert [block[0].out_channels for block in [*network.down, network.bottom]] == [4, 8, 16, 32]
    assert [block[0].in_channels for block in network.up] == [32, 16, 8]
    assert (network.head.in_channels, network.head.out_channels) == (4, 2)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_weights_and_features_lie_in_channels_last_memory(upsampling: str) -> None:
    network = UNet(channels=3, outputs=2, depth=2, width=4, upsampling=upsampling).eval()
    kernels = [parameter for parameter in network.parameters() if parameter.ndim == 4]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    seen: list[bool] = []
    network.bottom.register_forward_hook(
        lambda _module, _inputs, features: seen.append(features.is_contiguous(memory_format=torch.channels_last))
    )
    network(torch.rand(1, 3, 16, 16).contiguous(memory_format=torch.channels_last))
    assert seen == [True]


@pytest.mark.parametrize(("label_mode", "outputs"), [(MULTILABEL, 3), (MULTICLASS, 4)])
def test_the_config_decides_on_the_network(label_mode: LabelMode, outputs: int) -> None:
    config = TrainConfig(depth=4, width=2, normalisation="group", dropout=0.3, upsampling="bilinear")
    network = build_unet(config, channels=1, classes=3, label_mode=label_mode)
    assert network.head.out_channels == outputs
    assert len(network.down) == network.depth == 4
    assert network.dropout.p == 0.3
    kinds = {type(module) for module in network.modules()}
    assert {nn.GroupNorm, nn.Upsample} <= kinds
    assert not {nn.BatchNorm2d, nn.ConvTranspose2d} & kinds


@pytest.mark.parametrize(
    ("normalisation", "kind", "groups"),
    [("batch", nn.BatchNorm2d, None), ("instance", nn.GroupNorm, 12), ("group", nn.GroupNorm, 4)],
)
def test_normalisation_is_what_its_name_says(normalisation: str, kind: type[nn.Module], groups: int | None) -> None:
    # 12 channels divide by 4 but not by 8
    network: Any = UNet(channels=3, outputs=1, depth=2, width=12, normalisation=normalisation)
    layers = network.down[0]
    assert isinstance(layers[1], kind)
    assert getattr(layers[1], "num_groups", None) == groups


def test_dropout_drops_whole_channels_of_the_lowest_level_while_training_only() -> None:
    network = UNet(channels=1, outputs=1, depth=2, width=8, dropout=0.5)
    seen: list[torch.Tensor] = []
    network.dropout.register_forward_hook(lambda _module, _inputs, features: seen.append(features))
    images = torch.rand(1, 1, 32, 32) * 255
    network.train()
    network(images)
    network.eval()
    assert torch.equal(network(images), network(images))
    dropped, *kept = (int((features == 0).all(dim=(2, 3)).sum()) for features in seen)
    assert seen[0].shape == (1, 32, 8, 8)
    assert 4 < dropped < 28
    assert max(kept) < 4


def test_pixels_are_brought_to_mean_zero_and_deviation_one_by_the_stored_statistics() -> None:
    network = UNet(channels=3, outputs=1, depth=2, width=2).eval()
    images = torch.rand(1, 3, 8, 8) * 255
    expected = network(images)
    network.pixel_mean += torch.tensor([10.0, 20.0, 30.0])
    shifted = network(images + torch.tensor([10.0, 20.0, 30.0])[:, None, None])
    torch.testing.assert_close(shifted, expected, rtol=1e-4, atol=1e-5)
    network.pixel_mean.zero_()
    network.pixel_deviation.fill_(1.0)
    as_they_are = network(images)
    network.pixel_deviation.fill_(2.0)
    torch.testing.assert_close(network(2 * images), as_they_are)


@given(height=SIDES, width=SIDES, multiple=st.sampled_from([4, 8, 64]))
@PROPERTY
def test_padding_repeats_the_edge_up_to_two_multiples_or_more(height: int, width: int, multiple: int) -> None:
    images = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)
    padded = pad_to_multiple(images, multiple)
    for side, grown in ((height, padded.shape[2]), (width, padded.shape[3])):
        assert grown % multiple == 0
        assert grown >= 2 * multiple
        assert grown - side < multiple or grown == 2 * multiple
    rows, columns = (torch.arange(padded.shape[axis]).clamp(max=images.shape[axis] - 1) for axis in (2, 3))
    assert torch.equal(padded, images[:, :, rows][:, :, :, columns])
