"""Trains a model again: what its folder says of its settings, and of the pictures it learnt from and was chosen by."""

import csv
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from data.input_error import InputError
from data.inside import inside
from data.segmentation_data import SegmentationData, Split
from data.spreadsheet import as_it_was
from model.checkpoint import CONFIG, WEIGHTS, load_tensors, read_card, require_model

LEADERBOARD = "leaderboard.csv"  # in the folder of a run


def read_like(given: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, Any]]:
    """Defaults for the command from the model folder that `--like`, or a row of a leaderboard, names."""
    sources = {}
    rank = (given.get("rank") or ("1",))[-1]
    rows = [model_of_row(Path(run), int(rank)) for run in given.get("from_", ()) if rank.isascii() and rank.isdigit()]
    for folder in (*map(Path, given.get("like", ())), *rows):
        require_model(folder)
        card = read_card(folder / CONFIG)
        values = asdict(card.config) | asdict(card.preparation) | {"data": card.source}
        sources[str(folder)] = {name: None if value is None else str(value) for name, value in values.items()}
    return sources


def model_of_row(run: Path, rank: int) -> Path:
    """The model folder of the row with this rank in the leaderboard of a run. Raises InputError where there is none."""
    table = run / LEADERBOARD
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = [
                {name: as_it_was(cell) for name, cell in row.items() if name and cell} for row in csv.DictReader(file)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"from {str(run)!r} has no leaderboard that can be read ({error}): name the folder of a run, as runs/NAME."
        ) from error
    found = [row for row in rows if row.get("rank") == str(rank)]
    if len(found) != 1:
        raise InputError(f"rank {rank} is not in {str(table)!r}, which has {len(rows)} rows: take one from 1 to that.")
    checkpoint = found[0].get("checkpoint", "")
    if not checkpoint:
        status = found[0].get("status", "unknown")
        raise InputError(f"rank {rank} of {str(table)!r} has no model, its status is {status}: take a better one.")
    return inside(run, checkpoint, what="checkpoint")


def say_how_close(model: Path, val_dice: float) -> str:
    """How close a training has come to the model that it repeats, in one line; empty where that has no score."""
    try:
        before = float(load_tensors(model / WEIGHTS)[1]["scores"]["val_dice"])
    except (InputError, KeyError, TypeError, ValueError):
        return ""
    how = "to the last digit" if val_dice == before else f"{val_dice - before:+.4f}"
    return f"repeated:   val_dice {val_dice:.4f} where {model} has {before:.4f} ({how})"


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
