"""The network of a run's best model as TensorBoard draws it: its graph, in a file of events beside the model."""

import warnings
from contextlib import closing
from pathlib import Path

import torch

from model.checkpoint import load_model

LEAST_SIDE = 64  # pixels of the picture that goes through it


def draw_network(folder: Path) -> None:
    """Writes the graph of the model in the folder, in place of an older one. Raises InputError for a damaged model."""
    from torch.utils.tensorboard import SummaryWriter

    network, card = load_model(folder)
    for older in folder.glob("events.out.tfevents.*"):
        older.unlink()
    side = max(LEAST_SIDE, 2 ** (card.config.depth + 1))
    with warnings.catch_warnings(), closing(SummaryWriter(str(folder))) as writer:
        warnings.simplefilter("ignore")  # tracing warns of sizes that it takes for constants, which they are here
        writer.add_graph(network, torch.zeros(1, card.channels, side, side))
