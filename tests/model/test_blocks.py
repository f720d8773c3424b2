"""The blocks: what they compute, held against the formulas of their articles."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.blocks import BLOCK_KINDS, NORMALISERS, UPSAMPLERS, PlainBlock, ResidualBlock, convolution
from model.config import BLOCKS, NORMALISATIONS, UPSAMPLINGS


def features_of(channels: int, *, side: int = 9) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(1))


def test_every_name_of_the_config_has_its_block_normalisation_and_upsampling() -> None:
    assert set(BLOCK_KINDS) == set(BLOCKS)
    assert set(NORMALISERS) == set(NORMALISATIONS)
    assert set(UPSAMPLERS) == set(UPSAMPLINGS)


def test_a_plain_block_convolves_and_rectifies_twice() -> None:
    block: Any = PlainBlock(3, 4, normalisation="none", dilation=2)
    features = features_of(3)
    first, second = block.first.convolution, block.second.convolution
    between = F.conv2d(features, first.weight, first.bias, padding=2, dilation=2).relu()
    expected = F.conv2d(between, second.weight, second.bias, padding=2, dilation=2).relu()
    torch.testing.assert_close(block(features), expected)


@pytest.mark.parametrize("before", [3, 4])
def test_a_residual_block_adds_to_what_came_in(before: int) -> None:
    block: Any = ResidualBlock(before, 4, normalisation="batch")
    features = features_of(before)

    def standardise(x: Tensor) -> Tensor:
        mean, variance = x.mean(dim=(0, 2, 3), keepdim=True), x.var(dim=(0, 2, 3), keepdim=True, unbiased=False)
        return (x - mean) / (variance + 1e-5).sqrt()

    between = F.conv2d(standardise(features).relu(), block.first.convolution.weight, padding=1)
    added = F.conv2d(standardise(between).relu(), block.second.convolution.weight, padding=1)
    beside = features if before == 4 else F.conv2d(features, block.shortcut.weight, block.shortcut.bias)
    torch.testing.assert_close(block.train()(features), beside + added)


def test_a_residual_block_without_normalisation_leaves_what_came_in_as_it_was() -> None:
    block = ResidualBlock(4, 4, normalisation="none")
    features = features_of(4)
    kept = features.clone()
    block(features)
    assert torch.equal(features, kept)


def test_a_residual_block_of_pixels_sees_dark_ones_too() -> None:
    def seen(of_pixels: bool) -> bool:
        """Whether the two convolutions find anything in negative pixels, apart from the shortcut."""
        block: Any = ResidualBlock(3, 4, normalisation="none", of_pixels=of_pixels)
        return bool(block.first(-features_of(3).abs()).abs().max() > 0)

    assert seen(of_pixels=True)
    assert not seen(of_pixels=False)


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_network_of_blocks_without_normalisation_keeps_features_large_enough(kind: str) -> None:
    torch.manual_seed(0)
    blocks = nn.Sequential(*(BLOCK_KINDS[kind](32, 32, normalisation="none") for _ in range(8)))
    deviation = float(blocks(features_of(32, side=16)).detach().std())
    # Eight residual blocks each double the variance; torch's own start would leave 1e-5 of the plain ones' deviation.
    assert 0.1 < deviation < 50


@pytest.mark.parametrize(("normalisation", "bias"), [("batch", False), ("none", True)])
def test_a_convolution_has_a_bias_where_no_normalisation_brings_one(normalisation: str, bias: bool) -> None:
    assert (convolution(2, 3, normalisation, 1).bias is not None) == bias


@pytest.mark.parametrize("name", UPSAMPLINGS)
def test_upsampling_doubles_the_size(name: str) -> None:
    assert UPSAMPLERS[name](6, 4)(features_of(6)).shape == (2, 4, 18, 18)
