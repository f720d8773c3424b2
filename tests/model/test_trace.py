"""What was first not finite is found, in the order in which tensors come to be, and nothing is left behind."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from model.config import TrainConfig
from model.trace import find_first_not_finite
from model.unet import UNet, build_unet

NAN, INFINITY = float("nan"), float("inf")


class TwoLayers(nn.Module):
    """Two layers and, between them, whatever a test wants."""

    def __init__(self, between: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        self.first = nn.Linear(2, 3)
        self.second = nn.Linear(3, 1)
        self.between = between
        self.register_buffer("mean", torch.zeros(2))

    def forward(self, values: Tensor) -> Tensor:
        answer: Tensor = self.second(self.between(self.first(values - self.mean)))
        return answer


def trace(network: nn.Module, values: Tensor | None = None, loss_of: Callable[[Tensor], Tensor] = torch.sum) -> str:
    """What is found, or "" for nothing, in a step on these values."""

    def run_step() -> Tensor:
        network.zero_grad()
        loss = loss_of(network(torch.ones(4, 2) if values is None else values))
        loss.backward()
        return loss

    return find_first_not_finite(network, run_step) or ""


def test_nothing_is_found_where_all_is_finite() -> None:
    network = TwoLayers()
    assert trace(network) == ""
    assert network.first.weight.grad is not None


def test_weights_and_buffers_are_looked_at_before_the_step() -> None:
    network = TwoLayers()
    with torch.no_grad():
        network.second.weight[0, 1] = INFINITY
        network.mean[:] = NAN
    ran = []
    found = find_first_not_finite(network, lambda: ran.append(1) or torch.zeros(()))  # type: ignore[func-returns-value]
    assert found == "the weights second.weight (1 of 3 values)"
    with torch.no_grad():
        network.second.weight[0, 1] = 1.0
    assert trace(network) == "the buffer mean (2 of 2 values)"
    assert ran == []


def test_pictures_that_are_not_finite_are_the_input_of_the_network() -> None:
    values = torch.ones(4, 2)
    values[2, 1] = NAN
    assert trace(TwoLayers(), values) == "the input of the network (1 of 8 values)"


def test_the_first_layer_whose_output_overflows_is_named() -> None:
    network = TwoLayers()
    with torch.no_grad():
        network.first.weight.fill_(3e38)
    assert trace(network) == "the output of first (Linear) (12 of 12 values)"


def test_what_happens_between_modules_shows_in_the_input_of_the_next() -> None:
    assert trace(TwoLayers(lambda features: features / 0.0)) == "the input of second (Linear) (12 of 12 values)"


def test_a_loss_that_is_not_finite_though_the_output_is() -> None:
    assert trace(TwoLayers(), loss_of=lambda logits: logits.sum() / 0.0) in ("the loss (inf)", "the loss (-inf)")
    assert trace(TwoLayers(), loss_of=lambda logits: logits.sum() * NAN) == "the loss (nan)"


def test_a_gradient_that_is_not_finite_though_the_loss_is() -> None:
    # the slope of a square root at 0
    network = TwoLayers(lambda features: torch.sqrt(features * 0))
    assert trace(network) == "the gradient of the output of first (Linear) (12 of 12 values)"
    # of the loss itself: it begins at the output of the last layer
    found = trace(TwoLayers(), loss_of=lambda logits: torch.sqrt((logits * 0).sum()))
    assert found == "the gradient of the output of second (Linear) (4 of 4 values)"


def test_a_gradient_of_weights_alone() -> None:
    network = TwoLayers()
    nn.init.zeros_(network.second.weight)
    nn.init.zeros_(network.second.bias)
    # four samples of 1e38 each overflow in the sum that the bias gets
    found = trace(network, loss_of=lambda logits: logits.sum() * 1e38)
    assert found == "the gradient of second.bias (1 of 1 values)"


def test_frozen_weights_have_no_gradient_to_look_at() -> None:
    network = TwoLayers()
    network.first.requires_grad_(requires_grad=False)
    assert trace(network) == ""


def test_hooks_are_gone_afterwards_whatever_happens() -> None:
    network = TwoLayers()

    def break_off() -> Tensor:
        raise KeyError("broken off")

    with pytest.raises(KeyError):
        find_first_not_finite(network, break_off)
    trace(network)
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert not any(parameter._backward_hooks for parameter in network.parameters())


def test_a_part_of_a_batch_that_goes_wrong_is_not_hidden_by_a_later_one() -> None:
    network = TwoLayers()

    def run_step() -> Tensor:
        total = torch.zeros(())
        for factor in (NAN, 1.0):
            loss = network(torch.ones(4, 2)).sum() * factor
            loss.backward()
            total += loss.detach()
        return total

    assert find_first_not_finite(network, run_step) == "the loss (nan)"


@pytest.mark.parametrize("overrides", [{}, {"block": "residual", "passes": 2}], ids=["plain", "residual W-net"])
def test_a_unet_is_traced_through_its_rectifiers_in_place(overrides: dict[str, object]) -> None:
    config = TrainConfig.from_mapping({"depth": 2, "width": 2, "normalisation": "none", **overrides})
    network: UNet = build_unet(config, channels=3, classes=1, label_mode="multilabel")
    pictures = torch.rand(2, 3, 16, 16) * 255

    def run_step() -> Tensor:
        network.zero_grad()
        loss = torch.stack([logits.mean() for logits in network.logits_of_passes(pictures)]).sum()
        loss.backward()
        return loss

    assert find_first_not_finite(network, run_step) is None
    last = network.passes[-1]
    with torch.no_grad():
        last.head.weight.fill_(3e38)
        last.head.bias.fill_(3e38)
    found = find_first_not_finite(network, run_step)
    assert found is not None
    assert found.startswith(f"the output of passes.{len(network.passes) - 1}.head (Conv2d) (")
