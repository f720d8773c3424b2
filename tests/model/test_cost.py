"""What a network costs, counted by hand."""

import pytest
import torch

from model.cost import network_cost
from model.unet import UNet


def test_the_arithmetic_of_a_small_network_is_what_counting_by_hand_gives() -> None:
    cost = network_cost(UNet(channels=1, outputs=1, depth=2, width=1))
    # Multiply-adds for each pixel of the picture: two 3 x 3 convolutions a level, at full, a quarter and a sixteenth.
    down = (9 * 1 + 9 * 1) + (9 * 2 + 9 * 4) / 4 + (9 * 8 + 9 * 16) / 16
    enlarge = 4 * 4 * 2 / 16 + 4 * 2 * 1 / 4  # each pixel below becomes 2 x 2 pixels
    up = (9 * 8 + 9 * 4) / 4 + (9 * 2 + 9 * 1)
    head = 1
    assert cost.gflops_per_megapixel == pytest.approx(2 * (down + enlarge + up + head) / 1000)
    assert (
        cost.parameters
        == (9 + 2 + 9 + 2)
        + (18 + 4 + 36 + 4)
        + (72 + 8 + 144 + 8)
        + (34 + 9)
        + (72 + 4 + 36 + 4)
        + (18 + 2 + 9 + 2)
        + 2
    )


def test_two_passes_cost_about_twice_as_much() -> None:
    one, two = (network_cost(UNet(channels=3, outputs=1, depth=3, width=8, passes=passes)) for passes in (1, 2))
    assert 2 < two.gflops_per_megapixel / one.gflops_per_megapixel < 2.02
    assert 2 < two.parameters / one.parameters < 2.01


@pytest.mark.parametrize("encoder", ["own", "mobilenet_v3"])
@pytest.mark.parametrize("training", [False, True])
def test_counting_leaves_the_network_as_it_was(encoder: str, training: bool) -> None:
    network = UNet(channels=3, outputs=2, depth=4, width=2, encoder=encoder, dropout=0.5).train(training)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    drawn = torch.get_rng_state()
    cost = network_cost(network)
    assert cost.gflops_per_megapixel > 0
    assert network.training == training
    assert torch.equal(torch.get_rng_state(), drawn)
    for name, tensor in network.state_dict().items():
        assert tensor.device.type == "cpu"
        assert torch.equal(tensor, before[name])
