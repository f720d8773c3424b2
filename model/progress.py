"""How far a training has come: the report of each epoch, and the state from which it can go on."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.input_error import InputError
from model.checkpoint import ModelCard, load_tensors, save_tensors
from model.diagnose import MaskWatch
from model.metrics import Scores
from model.unet import UNet


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What one epoch showed.

    epoch: 1-based. train_loss: mean over the epoch's steps. val: metrics on the validation images, pixels that count
    pooled over all of them. seconds: since the training began, interruptions left out. images_per_second:
    training samples a second, evaluation left out. learning_rate: at the epoch's last step. peak_memory_mb:
    of the device, or of the whole process on a CPU.
    """

    epoch: int
    train_loss: float
    val: Scores
    class_names: tuple[str, ...]
    threshold: float
    seconds: float
    images_per_second: float
    learning_rate: float
    peak_memory_mb: float
    parameters: int
    device: str

    def flat(self) -> dict[str, Any]:
        """The report as one level of numbers and words, named like the leaderboard's columns."""
        entries = asdict(self)
        entries.update({f"val_{name}": value for name, value in entries.pop("val").items()})
        entries["current_learning_rate"] = entries.pop("learning_rate")
        dice = zip(entries.pop("class_names"), entries.pop("val_class_dice"), strict=True)
        return entries | {f"val_dice_{name}": value for name, value in dice}


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training has come: its last report, its watch over the masks, its best validation Dice."""

    report: EpochReport | None = None
    watch: MaskWatch = field(default_factory=MaskWatch)
    best_dice: float = -1.0

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.report.epoch if self.report else 0

    @property
    def seconds(self) -> float:
        """Seconds trained."""
        return self.report.seconds if self.report else 0.0


def save_progress(
    path: Path, progress: Progress, network: UNet, optimizer: torch.optim.Optimizer, card: ModelCard
) -> None:
    """Writes all that a training needs to go on."""
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor for name, tensor in state.items()}
    save_tensors(path, tensors, {"progress": asdict(progress), "card": asdict(card)})


def load_progress(path: Path, network: UNet, optimizer: torch.optim.Optimizer, card: ModelCard) -> Progress:
    """Puts network and optimizer into the state of a file by `save_progress`.

    Raises InputError when the file is damaged or belongs to another config or other data.
    """
    tensors, facts = load_tensors(path)
    if facts.get("card") != json.loads(json.dumps(asdict(card))):
        raise InputError(
            f"{str(path)!r} was written by a training with another config or other data; "
            "use another folder, or the old config."
        )
    state: dict[int, dict[str, Tensor]] = {}
    for name in [name for name in tensors if name.startswith("optimizer.")]:
        _, index, entry = name.split(".")
        state.setdefault(int(index), {})[entry] = tensors.pop(name)
    network.load_state_dict({name.removeprefix("network."): tensor for name, tensor in tensors.items()})
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    # The fused AdamW pairs a weight with its moments by place in memory, so they must be laid out alike.
    for weight, moments in optimizer.state.items():
        for entry, tensor in moments.items():
            if tensor.shape == weight.shape:
                moments[entry] = torch.empty_like(weight).copy_(tensor)
    entries = facts["progress"]
    report = entries["report"]
    report["val"]["class_dice"] = tuple(report["val"]["class_dice"])
    report |= {"val": Scores(**report["val"]), "class_names": tuple(report["class_names"])}
    return Progress(report=EpochReport(**report), watch=MaskWatch(**entries["watch"]), best_dice=entries["best_dice"])
