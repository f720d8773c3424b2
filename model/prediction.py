"""What trained models make of one new picture: masks, class probabilities, and how unsure they are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from data.field_of_view import find_field_of_view
from data.fit import fit_image, fitted_size
from data.input_error import InputError
from data.segmentation_data import MULTICLASS, UInt8
from model.checkpoint import ModelCard
from model.device import is_out_of_memory, seeded, uses_bfloat16
from model.ensemble import Model, open_models
from model.metrics import predicted_planes
from model.tiles import OVERLAP, TILE, predict_probabilities
from model.unet import UNet, has_dropout, keep_dropping

Planes = npt.NDArray[np.bool_]

SMALLEST_TILE = 32  # pixels: smaller ones show a network too little to be of use


@dataclass(frozen=True, kw_only=True)
class PredictionSettings:
    """How models look at a picture. Raises InputError for a value out of range."""

    threshold: float | None = field(
        default=None,
        metadata={"meaning": "probability (0..1) from which a class is found, instead of the model's own"},
    )
    mirror: bool = field(
        default=False, metadata={"meaning": "average over the picture and its three mirrored versions: slower, better"}
    )
    uncertainty: int = field(
        default=0,
        metadata={"meaning": "passes with dropout left on: their mean is used, their spread written to uncertainty/"},
    )
    tile: int = field(
        default=TILE, metadata={"meaning": "side in pixels of what is seen at once; less takes less memory"}
    )
    overlap: int | None = field(
        default=None,
        metadata={"meaning": f"pixels that neighbouring tiles share, instead of {OVERLAP}, or half of a small tile"},
    )

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise InputError(f"threshold {self.threshold} must be from 0 to 1: choose another, such as 0.5.")
        if self.uncertainty < 0 or self.uncertainty == 1:
            raise InputError(f"uncertainty {self.uncertainty} must be 2 or more passes, or 0 for none: try 20.")
        if self.tile < SMALLEST_TILE:
            raise InputError(f"tile {self.tile} must be {SMALLEST_TILE} pixels or more: raise it.")
        if not 0 <= self.shared_pixels < self.tile:
            raise InputError(f"overlap {self.overlap} must be from 0 to below the tile, {self.tile}: choose another.")

    @property
    def shared_pixels(self) -> int:
        """Pixels that neighbouring tiles share: what was asked for, else what suits the tile."""
        return min(OVERLAP, self.tile // 2) if self.overlap is None else self.overlap


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What is found in one picture of K classes.

    planes: bool (K, H, W), the masks. probabilities: float32 (K, H, W), 0..1. deviation: float32 (K, H, W), the
    standard deviation of the probabilities over the passes with dropout of all models, which holds how far the models
    differ too, or None where there were none.
    """

    planes: Planes
    probabilities: npt.NDArray[np.float32]
    deviation: npt.NDArray[np.float32] | None


def load_models(folders: Sequence[Path], settings: PredictionSettings, device: torch.device) -> list[Model]:
    """The models of these folders, and the members of those that are ensembles, which are to answer together.

    Raises InputError for a folder without a whole model, for models whose classes or label mode differ, and for
    settings that one of them cannot follow: passes with dropout without any dropout, a threshold where the likeliest
    class wins.
    """
    opened = [(folder, model) for folder in folders for model in open_models(folder, device)]
    first = opened[0][1].card
    for folder, (network, card, _) in opened:
        if (card.class_names, card.label_mode) != (first.class_names, first.label_mode):
            raise InputError(
                f"model {str(folder)!r} knows {_in_words(card)}, but {str(folders[0])!r} {_in_words(first)}: "
                "only models of the same classes can be averaged."
            )
        if settings.uncertainty and not has_dropout(network):
            raise InputError(
                f"uncertainty needs a model with dropout, and {str(folder)!r} has none: leave --uncertainty out, or "
                "train with --dropout 0.2."
            )
    if settings.threshold is not None and first.label_mode == MULTICLASS:
        raise InputError(
            f"threshold {settings.threshold} has no meaning for {str(folders[0])!r}: its classes exclude each other, "
            "and the likeliest one wins. Leave --threshold out."
        )
    return [model for _, model in opened]


def predict_picture(
    models: Sequence[Model], image: UInt8, settings: PredictionSettings, device: torch.device
) -> Prediction:
    """What the models find in one RGB picture (H, W, 3) of any size.

    Each model sees the picture through its own preparation. Probabilities are averaged over models, passes and mirrored
    pictures, thresholds over models, by the models' weights. With `uncertainty`, dropout stays on and each model passes
    over the picture that often (Gal and Ghahramani 2016, ICML, section 4, Monte Carlo dropout); which channels are
    dropped is the same for all tiles and mirrored pictures of a pass, and in every run. Nothing is found outside the
    field of view where a model has learnt inside fields of view that were found. Raises InputError when memory does not
    suffice.
    """
    try:
        return _predict(models, image, settings, device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        height, width = image.shape[:2]
        sizes = (fitted_size(height, width, model.card.preparation.size) for model in models)
        seen_at_once = min(settings.tile, max(map(max, sizes)))
        raise InputError(
            f"a picture of {width} x {height} pixels needs more memory than {device} has: "
            + (
                f"choose a --tile below {seen_at_once}."
                if seen_at_once > SMALLEST_TILE
                else "shrink it, or train a model with a smaller --size."
            )
        ) from error


def mean_thresholds(models: Sequence[Model]) -> tuple[float, ...]:
    """For each class, the mean of the models' thresholds, by their weights."""
    weights = [model.weight for model in models]
    of_classes = zip(*(model.card.thresholds for model in models), strict=True)
    return tuple(float(np.average(of_class, weights=weights)) for of_class in of_classes)


def _predict(models: Sequence[Model], image: UInt8, settings: PredictionSettings, device: torch.device) -> Prediction:
    """As `predict_picture`, where memory suffices."""
    cards = [model.card for model in models]
    mean, deviation = _average(models, image, settings, device)
    if settings.threshold is not None:
        thresholds: tuple[float, ...] = (settings.threshold,) * len(cards[0].class_names)
    else:
        thresholds = mean_thresholds(models)
    planes: Planes = predicted_planes(mean[None], cards[0].label_mode, thresholds)[0].cpu().numpy()
    maps = [mean.cpu().numpy(), None if deviation is None else deviation.cpu().numpy()]
    if any(card.preparation.field_of_view == "found" for card in cards):
        inside = find_field_of_view(image).astype(bool)  # (H, W)
        planes = planes & inside
        maps = [None if one is None else one * inside for one in maps]
    probabilities, spread = maps
    assert probabilities is not None
    return Prediction(planes=planes, probabilities=probabilities, deviation=spread)


def _average(
    models: Sequence[Model], image: UInt8, settings: PredictionSettings, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Mean and standard deviation of the probabilities, float32 (K, H, W), over models and passes.

    Added up one by one (West 1979, Communications of the ACM 22:532), so that memory does not grow with their number.
    Each counts by its model's weight, by the sum of which the variance is divided. The deviation is None where dropout
    is off.
    """
    mean: Tensor | None = None
    squares = torch.zeros((), device=device)
    seen, total = 0, 0.0
    for network, card, weight in models:
        pixels = torch.from_numpy(fit_image(image, card.preparation).transpose(2, 0, 1)[None].copy()).to(device)
        network.eval()
        if settings.uncertainty:
            keep_dropping(network)
        for _ in range(max(1, settings.uncertainty)):
            with seeded(0, seen, device), _same_draws_at_each_look(network):
                found = _probabilities(network, card, pixels, image.shape[:2], settings)
            seen += 1
            total += weight
            if mean is None:
                mean = torch.zeros_like(found)
            step = found - mean
            mean = mean + step / (total / weight)
            if settings.uncertainty:
                squares = squares + weight * step * (found - mean)
    assert mean is not None
    return mean, (squares / total).sqrt() if settings.uncertainty else None


@contextmanager
def _same_draws_at_each_look(network: UNet) -> Iterator[None]:
    """Inside, the network starts from the same random state at each look, and so drops the same channels.

    A pass with dropout asks one network that was drawn. If each tile and mirrored picture drew its own, their mean
    would be taken for one answer, and how far answers differ for less than it is.
    """

    def draw_again(*_: object) -> None:
        torch.manual_seed(torch.initial_seed())

    hook = network.register_forward_pre_hook(draw_again)
    try:
        yield
    finally:
        hook.remove()


def _probabilities(
    network: UNet, card: ModelCard, pixels: Tensor, size: tuple[int, ...], settings: PredictionSettings
) -> Tensor:
    """One model's probabilities, float32 (K, H, W), of a prepared picture (1, C, h, w), in the size of the original."""
    probabilities = predict_probabilities(
        network,
        pixels,
        card.label_mode,
        bfloat16=uses_bfloat16(card.config.precision, pixels.device),
        tile=settings.tile,
        overlap=settings.shared_pixels,
        mirror=settings.mirror,
    )
    if pixels.shape[2:] != size:
        probabilities = F.interpolate(probabilities, size=size, mode="bilinear", align_corners=False)
    return probabilities[0]


def _in_words(card: ModelCard) -> str:
    return f"{', '.join(card.class_names)} ({card.label_mode})"
