"""All that changes while a training goes on: to be kept in memory, written to disk, and brought back."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from data.input_error import InputError
from model.checkpoint import ModelCard, load_tensors, save_tensors
from model.config import TrainConfig
from model.device import random_state, set_random_state
from model.optimisation import MovingAverage, restore_schedule, schedule_facts
from model.progress import Progress
from model.unet import UNet

SUMS = 3  # since the last look: the losses, the norms of the gradients; and the largest of these norms


@dataclass(kw_only=True)
class TrainingState:
    """A training between two steps.

    logits_of_passes: that of the network, by which steps compute it: as it is, or compiled. average: of the network's
    weights, None where none is asked for. taken: the names of the network's entries that came from another model.
    sums: float (SUMS,), of the steps since the last look, on the device. last_rate: the largest learning rate of the
    last step.
    """

    network: UNet
    logits_of_passes: Callable[[Tensor], list[Tensor]]
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    average: MovingAverage | None
    taken: tuple[str, ...]
    sums: Tensor
    last_rate: float = 0.0
    progress: Progress = field(default_factory=Progress)

    @property
    def device(self) -> torch.device:
        """Where the training takes place."""
        return self.sums.device

    @property
    def judged(self) -> UNet:
        """The network that is judged and kept."""
        return self.network if self.average is None else self.average.network

    @property
    def learning_rate(self) -> float:
        """The largest learning rate of the next step."""
        return max(float(group["lr"]) for group in self.optimizer.param_groups)

    def moved(self, **changes: Any) -> None:
        """Takes these entries of its progress to be so from now on."""
        self.progress = replace(self.progress, **changes)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A state as numbers and words: tensors by name, on the state's device, and facts that JSON can hold."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


def retries_of(snapshot: Snapshot) -> int:
    """How often the training had gone back to its last good state by then."""
    return int(snapshot.facts["progress"]["retries"])


def take_snapshot(state: TrainingState) -> Snapshot:
    """The state as it is now, whatever becomes of it later."""
    snapshot = _look_at(state)
    return Snapshot(
        tensors={name: tensor.detach().clone() for name, tensor in snapshot.tensors.items()}, facts=snapshot.facts
    )


def _look_at(state: TrainingState) -> Snapshot:
    """The state as it is now; its tensors change with it."""
    tensors = {f"network.{name}": tensor for name, tensor in state.network.state_dict().items()}
    for index, entries in state.optimizer.state_dict()["state"].items():
        tensors |= {
            f"optimizer.{index}.{name}": entry for name, entry in entries.items() if isinstance(entry, torch.Tensor)
        }
    if state.average is not None:
        tensors |= {f"average.{name}": tensor for name, tensor in state.average.tensors().items()}
    tensors |= {f"random.{name}": tensor for name, tensor in random_state(state.device).items()}
    facts: dict[str, Any] = {"progress": state.progress.as_mapping(), "schedule": schedule_facts(state.schedule)}
    facts |= {"taken": state.taken, "last_rate": state.last_rate}
    return Snapshot(tensors={**tensors, "sums": state.sums}, facts=json.loads(json.dumps(facts)))


def restore(state: TrainingState, snapshot: Snapshot) -> None:
    """Puts everything back to how it was."""
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "optimizer": {}, "average": {}, "random": {}}
    for name, tensor in snapshot.tensors.items():
        if name != "sums":
            part, _, entry = name.partition(".")
            parts[part][entry] = tensor
    state.network.load_state_dict(parts["network"])
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, entry = name.partition(".")
        moments.setdefault(int(index), {})[entry] = tensor.clone()
    groups = state.optimizer.state_dict()["param_groups"]
    state.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    # The fused optimizers pair a weight with its moments by place in memory, so they must be laid out alike.
    for weight, entries in state.optimizer.state.items():
        for entry, tensor in entries.items():
            if tensor.shape == weight.shape:
                entries[entry] = torch.empty_like(weight).copy_(tensor)
    if state.average is not None:
        state.average.load_tensors(parts["average"])
    set_random_state(parts["random"], state.device)
    restore_schedule(state.schedule, snapshot.facts["schedule"])
    state.last_rate = snapshot.facts["last_rate"]
    state.sums.copy_(snapshot.tensors["sums"])
    state.progress = Progress.from_mapping(snapshot.facts["progress"])


def save_state(path: Path, state: TrainingState, card: ModelCard) -> None:
    """Writes all that the training needs to go on."""
    snapshot = _look_at(state)
    save_tensors(path, snapshot.tensors, {**snapshot.facts, "card": asdict(card)})


def _difference(found: Any, asked: dict[str, Any]) -> str:
    """Which settings differ, in brackets; empty where that cannot be told."""
    if not isinstance(found, dict):
        return ""
    flat = [{**card, **card.pop("config", {}), **card.pop("preparation", {})} for card in (dict(found), dict(asked))]
    names = [name for name in flat[1] if flat[0].get(name) != flat[1][name] and name not in ("config", "preparation")]
    told = [f"{name} {flat[0].get(name)} there, {flat[1][name]} here" for name in names if len(str(flat[1][name])) < 40]
    return f" ({'; '.join(told or names)})"


def load_state(path: Path, card: ModelCard) -> Snapshot:
    """What `save_state` wrote. Raises InputError for a damaged file, and for that of other data or another config."""
    tensors, facts = load_tensors(path)
    asked, found = json.loads(json.dumps(asdict(card))), facts.get("card")
    if isinstance(found, dict) and isinstance(found.get("config"), dict):
        found["config"] = {**asdict(TrainConfig()), **found["config"]}  # what it did not know yet was at its default
    if found != asked:
        raise InputError(
            f"{str(path)!r} was written by a training with another config or other data{_difference(found, asked)}; "
            "use another folder, or the old config."
        )
    return Snapshot(tensors=tensors, facts=facts)
