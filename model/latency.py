"""How long a network takes for a picture: measured where it trains, as it is judged."""

import time

import torch
from torch import nn

from data.segmentation_data import LabelMode
from data.windows import Pictures, Window
from model.tiles import OVERLAP, predict_probabilities

REPEATS = 7  # looks at the picture that are timed
PAUSE_SECONDS = 0.02  # between two of them, so that what disturbs one does not disturb all


def measure_latency(
    network: nn.Module, pictures: Pictures, label_mode: LabelMode, *, bfloat16: bool, tile: int
) -> float:
    """Milliseconds that the network, in evaluation mode, takes for the first of the pictures, which lies on the device.

    From the pixels to the probabilities, in one piece or by tiles of this side. The shortest of `REPEATS` looks, after
    one that warms up: whatever else the machine does can make a look longer only.
    """
    picture, _ = pictures.cut([Window(0, 0, 0)], pictures.height, pictures.width)

    def seconds() -> float:
        began = time.perf_counter()
        predict_probabilities(
            network, picture, label_mode, bfloat16=bfloat16, tile=tile, overlap=min(OVERLAP, tile // 2)
        )
        _wait_for(pictures.device)
        return time.perf_counter() - began

    seconds()
    looks = []
    for _ in range(REPEATS):
        time.sleep(PAUSE_SECONDS)
        looks.append(seconds())
    return 1000 * min(looks)


def _wait_for(device: torch.device) -> None:
    """Lets the host wait until the device has done all that it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
