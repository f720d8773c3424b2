"""What a training costs, told from its hyperparameters alone: roughly, at once, and only to compare two."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from model.config import TrainConfig

# Multiplications for each pixel of a picture: of the published encoders (torchvision's figures for 224 x 224 pixels,
# over that many), and, for a square of the width, of a way down, a way up, and the finest level.
ENCODERS = {"resnet18": 36_000, "resnet34": 73_000, "mobilenet_v3": 4_400}
DOWN, UP, FINEST = 13.5, 29.0, 9.0
WHOLE_IMAGE = 2**16  # side in pixels to reckon with where crops are whole images


def rough_cost(values: Mapping[str, Any]) -> float:
    """Multiplications that a network takes for a pixel; parameters that are not given have their defaults.

    An epoch shows as many pixels whatever the batch and the crop, so nothing else differs much. On each level of a
    U-net a quarter of the pixels meets twice the channels, so that all levels cost alike: two convolutions of 3 x 3 on
    the way down, of which the first halves, and the same on the way up, where the first sees twice as much, after an
    up-sampling.
    """
    config = {**_defaults(), **values}
    encoder = ENCODERS.get(config["encoder"])
    down = DOWN * config["depth"] if encoder is None else 0.0
    own = config["width"] ** 2 * (FINEST + down + UP * config["depth"])
    return float(config["passes"] * (own + (encoder or 0)))


def rough_cost_of_step(values: Mapping[str, Any]) -> float:
    """Multiplications that a step takes, where whole images are taken to be larger than any crop."""
    config = {**_defaults(), **values}
    return rough_cost(config) * float(config["batch_size"] * (config["crop_size"] or WHOLE_IMAGE) ** 2)


@cache
def _defaults() -> dict[str, Any]:
    return asdict(TrainConfig())
