"""What a training would cost: seconds an epoch and memory, learnt from the trials that a search has had so far."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import exp
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from data.segmentation_data import LabelMode, SegmentationData, Split
from model.config import TrainConfig
from search.record import TrialRecord

if TYPE_CHECKING:
    from model.unet import UNet

Numbers = npt.NDArray[np.float64]

FEWEST_TRIALS = 3  # from which anything is learnt
MOST_TRIALS = 50  # the newest; more would take time and tell little
GROUPS = 10  # of trials, each left out in turn, at most
SURE = 0.8  # share of the trials that lie within the factor that a prediction names
RIDGE = 1e-3  # keeps terms that few trials cannot tell apart from growing at each other's cost
SWEEPS = 300
FORWARD_AND_BACK = 3  # times the work of a look at a picture is what a step takes on it
SIDE = 128  # pixels of the picture on which planes are counted: needs no padding at any depth


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a training would take.

    peak_memory_mb: on its device, or of its process on a CPU. seconds_within, memory_within: the factor, 1 or more,
    within which four of five such predictions came true when each trial was left out in turn.
    """

    seconds_an_epoch: float
    seconds_within: float
    peak_memory_mb: float
    memory_within: float


@dataclass(frozen=True)
class Law:
    """A sum of terms, each with a weight of 0 or more, and the factor within which it held for what it had not seen."""

    weights: Numbers  # (terms,)
    within: float

    def of(self, terms: Numbers) -> float:
        """Its value for these terms (terms,)."""
        return float(terms @ self.weights)


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """Predicts what trainings of one search cost. Fitted by `fit_costs`.

    What the terms do not see, such as arithmetic in another precision or trials on unlike devices, makes the factors
    wider.
    """

    seconds: Law
    memory: Law
    terms: Callable[[TrainConfig], tuple[Numbers, Numbers]]

    def predict(self, config: TrainConfig) -> Cost:
        """What a training with this config would take."""
        of_seconds, of_memory = self.terms(config)
        return Cost(
            seconds_an_epoch=self.seconds.of(of_seconds),
            seconds_within=self.seconds.within,
            peak_memory_mb=self.memory.of(of_memory),
            memory_within=self.memory.within,
        )


def fit_costs(records: Sequence[TrialRecord], data: SegmentationData, split: Split) -> CostModel | None:
    """The cost model of a search on these data, by all trials with an epoch behind them; None of fewer than three.

    Seconds and megabytes are sums of physical terms (see `cost_terms`), so that what is learnt from small trainings
    holds for larger ones; their weights are found by non-negative least squares on the relative errors.
    """
    told = [record for record in records if record.epochs and record.seconds and record.peak_memory_mb]
    if len(told) < FEWEST_TRIALS:
        return None

    told = told[-MOST_TRIALS:]
    configs = [TrainConfig.from_mapping(record.config) for record in told]
    rows = [
        cost_terms(config, record.batch_parts or config.accumulation, data, split)
        for config, record in zip(configs, told, strict=True)
    ]
    return CostModel(
        seconds=fit_law([row for row, _ in rows], [record.seconds / record.epochs for record in told]),
        memory=fit_law([row for _, row in rows], [record.peak_memory_mb or 0.0 for record in told]),
        terms=lambda config: cost_terms(config, config.accumulation, data, split),
    )


def cost_terms(config: TrainConfig, parts: int, data: SegmentationData, split: Split) -> tuple[Numbers, Numbers]:
    """What the seconds of an epoch, and the memory of a training, are made up of.

    Seconds: the arithmetic of all pixels that are trained on and judged, the planes that are written for them, cutting
    and changing samples, steps, weights that steps move, and what each epoch takes. Memory: what is always there, the
    planes of one part of a batch, those of a picture that is judged, and the weights.
    """
    from torch import device

    from data.sampling import crop_shape, samples_per_epoch
    from data.windows import place
    from model.transfer import STRUCTURE

    pictures = place(data, split.train, device("cpu"))
    height, width = crop_shape(pictures, config.crop_size)
    samples = samples_per_epoch(pictures, config.crop_size, config.epoch_pixels)
    trained = samples * height * width / 1e6
    picture = pictures.height * pictures.width / 1e6
    judged = len(split.validation) * picture / config.evaluate_every
    gflops, planes, parameters = _measured_network(
        TrainConfig(**{name: getattr(config, name) for name in STRUCTURE}),
        data.images.shape[-1],
        len(data.class_names),
        data.label_mode,
    )
    steps = samples / config.batch_size * parts
    seen = FORWARD_AND_BACK * trained + judged
    part = config.batch_size / parts * height * width / 1e6
    return (
        np.array([gflops * seen, planes * seen, trained, steps, parameters * steps, 1.0]),
        np.array([1.0, planes * part, planes * picture, parameters]),
    )


def fit_law(rows: Sequence[Numbers], measured: Sequence[float]) -> Law:
    """The law that gives what was measured (above 0) for these rows of terms, as nearly as its form allows."""
    terms, values = np.stack(rows), np.array(measured)
    groups = np.arange(len(values)) % GROUPS
    errors = np.concatenate(
        [
            np.abs(np.log(np.maximum(terms[out] @ _weights(terms[~out], values[~out]), 1e-12) / values[out]))
            for out in (groups == group for group in np.unique(groups))
        ]
    )
    return Law(weights=_weights(terms, values), within=exp(float(np.quantile(errors, SURE))))


def _weights(terms: Numbers, values: Numbers) -> Numbers:
    """Weights (terms,) of 0 or more for rows (n, terms) and what was measured (n,).

    They make the squared relative errors small, with a little ridge, by coordinate descent (Franc, Hlavac and Navara
    2005, Sequential coordinate-wise algorithm for the non-negative least squares problem).
    """
    relative = terms / values[:, None]
    scale = relative.mean(axis=0)
    scale[scale == 0] = 1.0
    relative = relative / scale
    gram = relative.T @ relative + RIDGE * len(values) * np.eye(len(scale))
    aim = relative.sum(axis=0)
    weights = np.zeros(len(scale))
    for _ in range(SWEEPS):
        for term in range(len(weights)):
            weights[term] = max(0.0, weights[term] + (aim[term] - gram[term] @ weights) / gram[term, term])
    weights /= scale
    return weights


@cache
def _measured_network(
    config: TrainConfig, channels: int, classes: int, label_mode: LabelMode
) -> tuple[float, float, float]:
    """Of the network of a config: 10^9 operations for a megapixel, planes written for a pixel, millions of weights."""
    import torch

    from model.cost import network_cost
    from model.unet import build_unet

    with torch.device("meta"):
        network = build_unet(config, channels=channels, classes=classes, label_mode=label_mode)
    cost = network_cost(network)
    return cost.gflops_per_megapixel, count_planes(network), cost.parameters / 1e6


def count_planes(network: "UNet") -> float:
    """Numbers that the convolutions of a network on the meta device write for each pixel of a picture."""
    import torch
    from torch import nn

    written: list[int] = []

    def count(_module: nn.Module, _given: Any, output: Any) -> None:
        written.append(output.numel())

    hooks = [
        module.register_forward_hook(count)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]
    with torch.no_grad():
        network(torch.empty(1, len(network.pixel_mean), SIDE, SIDE, device="meta"))
    for hook in hooks:
        hook.remove()
    return sum(written) / SIDE**2
