"""The network: any size in, the same size out; every variant learns."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from data.segmentation_data import MULTICLASS, MULTILABEL, LabelMode
from model.config import BLOCKS, DROPOUT_PLACES, ENCODERS, NORMALISATIONS, UPSAMPLINGS, TrainConfig
from model.unet import UNet, build_unet, has_dropout, keep_dropping, pad_to_multiple
from tests.toys import PROPERTY

SIDES = st.integers(1, 70)
VARIANTS = [(normalisation, upsampling) for normalisation in NORMALISATIONS for upsampling in UPSAMPLINGS]


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@given(
    settings=st.fixed_dictionaries(
        {
            "depth": st.integers(2, 6),
            "channels": st.sampled_from([1, 3]),
            "outputs": st.integers(1, 3),
            "encoder": st.sampled_from(["own", "own", *ENCODERS]),
            "block": st.sampled_from(BLOCKS),
            "passes": st.sampled_from([1, 1, 2, 3]),
            "dilation": st.integers(1, 3),
            "normalisation": st.sampled_from(NORMALISATIONS),
            "dropout": st.sampled_from([0.0, 0.5]),
            "dropout_place": st.sampled_from(DROPOUT_PLACES),
            "upsampling": st.sampled_from(UPSAMPLINGS),
        }
    ),
    height=SIDES,
    width=SIDES,
)
@settings(PROPERTY, max_examples=60)
def test_logits_are_as_large_as_the_picture_whatever_the_settings(
    settings: dict[str, Any], height: int, width: int
) -> None:
    network = UNet(width=1, **settings).eval()
    pictures = torch.rand(2, settings["channels"], height, width) * 255
    with torch.inference_mode():
        logits = network.logits_of_passes(pictures)
        assert torch.equal(network(pictures), logits[-1])
    assert len(logits) == settings["passes"]
    for each in logits:
        assert each.shape == (2, settings["outputs"], height, width)
        assert each.isfinite().all()


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(("normalisation", "upsampling"), VARIANTS)
@pytest.mark.parametrize("side", [1, 21])
def test_every_variant_trains_even_on_one_tiny_picture(
    block: str, normalisation: str, upsampling: str, side: int
) -> None:
    network = UNet(
        channels=3,
        outputs=1,
        depth=2,
        width=8,
        block=block,
        normalisation=normalisation,
        dropout=0.2,
        upsampling=upsampling,
    ).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    images = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 255
    network(images).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    optimizer.step()
    moved = [name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])]
    # A picture of one pixel is flat, and what is flat is normalised to nothing: then only biases learn.
    learning = {"passes.0.head.bias"}
    if side > 1:
        first = "passes.0.encoder.levels.0.first"
        learning |= {"passes.0.head.weight", f"{first}{'' if block == 'residual' else '.convolution'}.weight"}
    assert learning <= set(moved)


def test_parameters_of_the_reference_network() -> None:
    assert parameters_of(UNet(channels=3, outputs=1, depth=3, width=8)) == 121_177


def test_each_level_down_has_twice_as_many_channels() -> None:
    unet: Any = UNet(channels=1, outputs=2, depth=3, width=4).passes[0]
    assert [level.shape[1] for level in unet.encoder(torch.rand(1, 1, 16, 16))] == [4, 8, 16, 32]
    assert unet.encoder.widths == (4, 8, 16, 32)
    assert [block.first.convolution.in_channels for block in unet.decoder.up] == [32, 16, 8]
    assert (unet.head.in_channels, unet.head.out_channels) == (4, 2)


@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_weights_and_features_lie_in_channels_last_memory(upsampling: str) -> None:
    network = UNet(channels=3, outputs=2, depth=2, width=4, upsampling=upsampling).eval()
    kernels = [parameter for parameter in network.parameters() if parameter.ndim == 4]
    assert kernels
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    seen: list[bool] = []
    unet: Any = network.passes[0]
    for module in (unet.encoder.levels[-1], unet.decoder):
        module.register_forward_hook(
            lambda _module, _inputs, features: seen.append(features.is_contiguous(memory_format=torch.channels_last))
        )
    network(torch.rand(1, 3, 16, 16).contiguous(memory_format=torch.channels_last))
    assert seen == [True, True]


@pytest.mark.parametrize(("label_mode", "outputs"), [(MULTILABEL, 3), (MULTICLASS, 4)])
def test_the_config_decides_on_the_network(label_mode: LabelMode, outputs: int) -> None:
    config = TrainConfig(
        depth=4, width=2, normalisation="group", dropout=0.3, upsampling="bilinear", block="residual", passes=2
    )
    network = build_unet(config, channels=1, classes=3, label_mode=label_mode)
    assert network.depth == 4
    assert len(network.passes) == 2
    for unet, channels in zip(network.passes, (1, 1 + outputs), strict=True):
        assert unet.head.out_channels == outputs
        assert len(unet.encoder.levels) == 5
        assert unet.encoder.levels[0].first.in_channels == channels
        assert unet.dropout.p == 0.3
    kinds = {type(module) for module in network.modules()}
    assert {nn.GroupNorm, nn.Upsample} <= kinds
    assert not {nn.BatchNorm2d, nn.ConvTranspose2d} & kinds


def test_dilation_is_that_of_the_first_two_levels_on_the_way_down() -> None:
    config = TrainConfig(depth=3, width=2, dilation=3)
    network = build_unet(config, channels=3, classes=1, label_mode=MULTILABEL)
    dilated = [name for name, module in network.named_modules() if getattr(module, "dilation", (1, 1)) == (3, 3)]
    levels = ("0", "1.block")
    assert dilated == [
        f"passes.0.encoder.levels.{level}.{place}.convolution" for level in levels for place in ("first", "second")
    ]


def test_a_second_pass_sees_the_picture_and_how_sure_the_first_was() -> None:
    network: Any = UNet(channels=3, outputs=2, depth=2, width=2, passes=2).eval()
    seen: list[torch.Tensor] = []
    network.passes[1].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    images = torch.rand(2, 3, 16, 24) * 255
    first, _ = network.logits_of_passes(images)
    torch.testing.assert_close(seen[0][:, :3], (images - 127.5) / 64)
    torch.testing.assert_close(seen[0][:, 3:], 2 * first.sigmoid() - 1)


def test_all_passes_learn_from_the_last_ones_logits() -> None:
    network = UNet(channels=3, outputs=2, depth=2, width=2, passes=2)
    network(torch.rand(2, 3, 16, 24) * 255).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_network_can_be_taken_apart() -> None:
    network = UNet(channels=3, outputs=2, depth=2, width=2, passes=2)
    parts = network.taken_apart()
    assert list(parts) == list(network.state_dict())
    assert {name for name, part in parts.items() if part == "head"} == {
        f"passes.{number}.head.{kind}" for number in (0, 1) for kind in ("weight", "bias")
    }
    assert parts["pixel_mean"] == parts["pixel_deviation"] == "encoder"
    assert parts["passes.1.encoder.levels.2.block.first.convolution.weight"] == "encoder"
    assert parts["passes.0.decoder.enlarge.0.weight"] == "decoder"


@pytest.mark.parametrize(
    ("normalisation", "kind", "groups"),
    [("batch", nn.BatchNorm2d, None), ("instance", nn.GroupNorm, 12), ("group", nn.GroupNorm, 4)],
)
def test_normalisation_is_what_its_name_says(normalisation: str, kind: type[nn.Module], groups: int | None) -> None:
    # 12 channels divide by 4 but not by 8
    network: Any = UNet(channels=3, outputs=1, depth=2, width=12, normalisation=normalisation)
    layer = network.passes[0].encoder.levels[0].first.normalisation
    assert isinstance(layer, kind)
    assert getattr(layer, "num_groups", None) == groups


def share_of_dropped_channels(features: torch.Tensor) -> float:
    return float((features == 0).all(dim=(2, 3)).float().mean())


def test_dropout_drops_whole_channels_of_the_lowest_level_while_training_only() -> None:
    network: Any = UNet(channels=1, outputs=1, depth=2, width=8, dropout=0.5)
    seen: list[torch.Tensor] = []
    network.passes[0].dropout.register_forward_hook(lambda _module, _inputs, features: seen.append(features))
    images = torch.rand(1, 1, 32, 32) * 255
    network.train()
    network(images)
    network.eval()
    assert torch.equal(network(images), network(images))
    dropped, *kept = map(share_of_dropped_channels, seen)
    assert seen[0].shape == (1, 32, 8, 8)
    assert 0.2 < dropped < 0.8
    assert max(kept) < 0.2


@pytest.mark.parametrize("block", BLOCKS)
def test_dropout_may_be_between_the_convolutions_of_every_block(block: str) -> None:
    network: Any = UNet(channels=1, outputs=1, depth=2, width=16, block=block, dropout=0.5, dropout_place="blocks")
    drops = [module for module in network.modules() if isinstance(module, nn.Dropout2d) and module.p > 0]
    assert len(drops) == 5
    shares: list[float] = []
    for module in drops:
        module.register_forward_hook(lambda _m, _inputs, features: shares.append(share_of_dropped_channels(features)))
    network.train()(torch.rand(4, 1, 32, 32) * 255)
    assert all(0.2 < share < 0.8 for share in shares)
    assert len(shares) == 5


@pytest.mark.parametrize("place", DROPOUT_PLACES)
def test_an_evaluated_network_can_keep_dropping_and_nothing_else_trains(place: str) -> None:
    network = UNet(channels=3, outputs=1, depth=2, width=8, dropout=0.5, dropout_place=place).eval()
    images = torch.rand(2, 3, 24, 24) * 255
    assert has_dropout(network)
    settled = network(images)
    statistics = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    keep_dropping(network)
    assert not torch.equal(network(images), network(images))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, statistics[name]), name
    assert torch.equal(network.eval()(images), settled)


def test_a_network_without_dropout_says_so() -> None:
    assert not has_dropout(UNet(channels=3, outputs=1, depth=2, width=2))
    assert not has_dropout(UNet(channels=3, outputs=1, depth=2, width=2, encoder="mobilenet_v3"))


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
