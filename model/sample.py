"""Shows what a model makes of one prepared picture whose truth is known."""

from pathlib import Path

import numpy as np
import torch

from data.overlay import draw_comparison
from data.segmentation_data import SegmentationData, UInt8
from model.checkpoint import load_model
from model.device import uses_bfloat16
from model.metrics import predicted_planes
from model.tiles import predict_probabilities


def draw_sample(model: Path, data: SegmentationData, index: int) -> UInt8:
    """Picture, truth, prediction and errors of the picture at `index`, side by side, as RGB (H, 4 x W, 3).

    model: folder of a model that was trained on this data's preparation. Only pixels that count are shown as found.
    """
    network, card = load_model(model)
    image = data.images[index]  # (H, W, C)
    pixels = torch.from_numpy(image.transpose(2, 0, 1)[None].copy())
    bfloat16 = uses_bfloat16(card.config.precision, torch.device("cpu"))
    probabilities = predict_probabilities(network, pixels, card.label_mode, bfloat16=bfloat16)
    predicted = predicted_planes(probabilities, card.label_mode, card.thresholds)[0].numpy()
    counted = data.valid[index].astype(np.bool_)
    rows, columns = counted.any(axis=1), counted.any(axis=0)
    inside = np.s_[..., : rows.nonzero()[0].max() + 1, : columns.nonzero()[0].max() + 1]  # padding is not shown
    truth = data.masks[index].astype(np.bool_) & counted
    return draw_comparison(image[inside[1:]], truth[inside], (predicted & counted)[inside])
