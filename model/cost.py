"""What a network costs: how many parameters it has, and how much arithmetic a picture takes."""

from dataclasses import dataclass

import torch
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from model.unet import UNet

SIDE = 256  # of the picture that is counted, in pixels: whole multiples of 2**depth at every depth


@dataclass(frozen=True, kw_only=True)
class NetworkCost:
    """parameters: numbers that are learnt. gflops_per_megapixel: 1e9 operations that 1e6 pixels take, forward only.

    A multiplication and its addition are two operations. Convolutions are counted, not what is done to single pixels.
    """

    parameters: int
    gflops_per_megapixel: float


def network_cost(network: UNet) -> NetworkCost:
    """The cost of a network, counted without computing: it goes once through a picture that has only a shape."""
    shapes = {name: tensor.to("meta") for name, tensor in network.state_dict().items()}
    picture = torch.empty(1, len(network.pixel_mean), SIDE, SIDE, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        functional_call(network, shapes, (picture,))
    return NetworkCost(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        gflops_per_megapixel=counter.get_total_flops() / 1e9 / (SIDE**2 / 1e6),
    )
