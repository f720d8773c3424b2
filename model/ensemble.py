"""Models that answer together: the folder that names them, and the mean of their probabilities as one network."""

import math
import operator
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from torch import Tensor, nn

from data.input_error import InputError
from data.inside import check_file_name, inside
from data.replacing import new_folder, write_text
from data.segmentation_data import MULTICLASS
from data.typed_record import build_record
from data.yaml_file import read_yaml
from model.checkpoint import ENSEMBLE, ModelCard, load_model
from model.device import uses_bfloat16
from model.losses import class_probabilities
from model.unet import UNet


class Model(NamedTuple):
    """A network, the card of its folder, and how much its answer counts beside those of others.

    The weights of an ensemble's members come to 1: beside other models, it counts like one.
    """

    network: UNet
    card: ModelCard
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class EnsembleCard:
    """What an ensemble's folder says.

    members: for each model folder below it, how much its answer counts, above 0. thresholds: of each class, in 0..1,
    which the mean of the members' probabilities must reach.
    """

    members: Mapping[str, float]
    thresholds: tuple[float, ...]


def write_ensemble(folder: Path, members: Mapping[str, tuple[Path, float]], thresholds: Sequence[float]) -> None:
    """Makes an ensemble's folder, in place of what was there; it holds copies of its members.

    members: for each name, which becomes a folder, the model folder to copy and how much its answer counts.
    """
    shutil.rmtree(folder, ignore_errors=True)
    with new_folder(folder) as waiting:
        for name, (source, _) in members.items():
            shutil.copytree(source, waiting / name)
        described = {
            "members": {name: weight for name, (_, weight) in members.items()},
            "thresholds": list(thresholds),
        }
        write_text(waiting / ENSEMBLE, yaml.safe_dump(described, sort_keys=False, allow_unicode=True))


def read_ensemble(path: Path) -> EnsembleCard:
    """What an `ensemble.yaml` says. Raises InputError when something in it is missing or wrong."""
    try:
        entries = read_yaml(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{str(path)!r} describes no ensemble ({error!r}); take the folder of one as a whole."
        ) from error
    card = build_record(EnsembleCard, entries, what=f"ensemble {str(path)!r}")
    for name, weight in card.members.items():
        check_file_name(name, what=f"{str(path)!r}: member")
        if weight <= 0:
            raise InputError(f"{str(path)!r} gives {name!r} the weight {weight:g}: it must be above 0, such as 1.")
    if not card.members or not all(0 <= threshold <= 1 for threshold in card.thresholds):
        raise InputError(
            f"{str(path)!r} names no members, or a threshold that is not from 0 to 1: take the ensemble as a whole."
        )
    return card


def open_models(folder: Path, device: torch.device | str = "cpu") -> list[Model]:
    """The model of a folder, or all members of an ensemble's, in evaluation mode on the device.

    The cards of an ensemble's members have its thresholds. Raises InputError where the folder holds neither as a whole.
    """
    if not (folder / ENSEMBLE).is_file():
        return [Model(*load_model(folder, device))]
    ensemble = read_ensemble(folder / ENSEMBLE)
    total = math.fsum(ensemble.members.values())
    models = []
    for name, weight in ensemble.members.items():
        network, card = load_model(inside(folder, name, what="member of an ensemble"), device)
        models.append(Model(network, replace(card, thresholds=ensemble.thresholds), weight / total))
    first = models[0].card
    for name, (_, card, _) in zip(ensemble.members, models, strict=True):
        if (card.class_names, card.label_mode) != (first.class_names, first.label_mode):
            raise InputError(f"ensemble {str(folder)!r}: {name!r} has other classes; take the ensemble as a whole.")
    if len(ensemble.thresholds) != len(first.class_names):
        raise InputError(
            f"ensemble {str(folder)!r} has {len(ensemble.thresholds)} thresholds for {len(first.class_names)} classes; "
            "take the ensemble as a whole."
        )
    return models


def weighted_mean(probabilities: Iterable[Tensor], weights: Iterable[float]) -> Tensor:
    """The mean of what several models find, by weights that come to 1; in 0..1, where rounding would lead beyond."""
    parts = (weight * found for found, weight in zip(probabilities, weights, strict=True))
    return reduce(operator.add, parts).clamp(0, 1)


class MeanNetwork(nn.Module):
    """Several networks as one: logits whose probabilities are the weighted mean of theirs.

    All must have been trained on pictures of one preparation, for the same classes. Each computes in its own precision,
    whatever is asked around it.
    """

    def __init__(self, models: Sequence[Model]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(model.network for model in models)
        self._cards = [model.card for model in models]
        total = math.fsum(model.weight for model in models)
        self._weights = [model.weight / total for model in models]

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, outputs, H, W) for images (N, C, H, W) in 0..255."""
        if len(self.networks) == 1:
            return next(self._logits(images))  # not to lose digits on the way through the probabilities
        label_mode = self._cards[0].label_mode
        found = (class_probabilities(logits, label_mode) for logits in self._logits(images))
        mean = weighted_mean(found, self._weights)  # (N, K, H, W)
        if label_mode != MULTICLASS:
            return mean.logit()
        background = (1 - mean.sum(dim=1, keepdim=True)).clamp(min=0)
        return torch.cat([background, mean], dim=1).log()

    def _logits(self, images: Tensor) -> Iterator[Tensor]:
        for network, card in zip(self.networks, self._cards, strict=True):
            bfloat16 = uses_bfloat16(card.config.precision, images.device)
            with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
                logits: Tensor = network(images)
            yield logits.float()
