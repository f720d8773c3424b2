"""Trains a model again: what its folder says of its settings, and of the pictures it learnt from and was chosen by."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.segmentation_data import SegmentationData, Split
from model.checkpoint import CONFIG, read_card, require_model


def read_like(given: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, Any]]:
    """Defaults for the command from the model folder that `--like` names: its config, preparation and data."""
    sources = {}
    for folder in given.get("like", ()):
        require_model(Path(folder))
        card = read_card(Path(folder) / CONFIG)
        values = asdict(card.config) | asdict(card.preparation) | {"data": card.source}
        sources[folder] = {name: None if value is None else str(value) for name, value in values.items()}
    return sources


def split_like(model: Path, data: SegmentationData) -> Split | None:
    """The split by which the model in this folder was trained; None where these are not its pictures."""
    card = read_card(model / CONFIG)
    if card.source != data.source:
        return None
    places = {name: index for index, name in enumerate(data.names)}
    parts = card.train_images, card.validation_images
    if not all(parts) or not all(name in places for part in parts for name in part):
        return None
    train_part, validation_part = (tuple(places[name] for name in part) for part in parts)
    return Split(train=train_part, validation=validation_part)
