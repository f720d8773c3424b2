"""Transfer: what a training takes over from another model, how fast that goes on learning, and while it is held."""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.input_error import InputError
from data.segmentation_data import MULTILABEL, SegmentationData, Split
from model.checkpoint import CONFIG, WEIGHTS, ModelCard, load_tensors, read_card, require_model
from model.config import ENCODERS, IMAGENET, TrainConfig
from model.encoders import fetch_imagenet_weights, load_encoder_weights, recognise_encoder
from model.unet import UNet, build_unet

TAKEN, NEW = "taken", "new: "  # how the words begin that say what became of a tensor
WEIGHT_FILES = (".safetensors", ".pth", ".pt")  # what may hold the weights of a published encoder
PIXEL_STATISTICS = ("pixel_mean", "pixel_deviation")
# The settings that decide on the shapes and names of a network's tensors.
STRUCTURE = ("encoder", "block", "passes", "depth", "width", "normalisation", "upsampling")
_OF_A_LEVEL = re.compile(r"(passes\.\d+\.decoder\.\w+\.)(\d+)(\..+)")


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What a network took over when its training began.

    taken: names of its parameters that were taken. report: every entry of its state_dict, in order, and in words what
    became of it; empty where a training begins from nothing.
    """

    taken: tuple[str, ...]
    report: tuple[tuple[str, str], ...]


def take_over(network: UNet, config: TrainConfig, card: ModelCard) -> Transfer:
    """Fills the network with what fits of `config.init_from`, as far as `config.transfer` lets it.

    A tensor fits that has the same name and shape; the decoder's levels count from the finest, so that networks of
    different depth share those that both have. Between colour and grey pictures, the first convolution is summed over
    the colours, or spread over them evenly: on a grey picture both find the same. The statistics of the pixels are
    never taken, and a head only where it has the same classes and label mode.

    card: of the training that begins. Raises InputError as `check_init_from` does, and when nothing at all fits.
    """
    if not config.init_from:
        return Transfer(taken=(), report=())
    if config.transfer == "none":
        fates = dict.fromkeys(network.state_dict(), NEW + "transfer=none takes nothing")
    elif _names_a_model(config.init_from):
        fates = _take_from_model(network, config, card, *_read_model(config.init_from))
    else:
        fates = _take_from_encoder(network, config, _read_encoder_weights(config))
    taken = tuple(name for name, _ in network.named_parameters() if fates[name].startswith(TAKEN))
    return Transfer(taken=taken, report=tuple(fates.items()))


def check_init_from(config: TrainConfig) -> None:
    """Raises InputError for all that is wrong with `config.init_from` and can be told before there are data.

    That is: nothing there, damaged, not finite, made for another encoder, weights that cannot be downloaded (those of
    ImageNet are, here, once), or a source of which nothing at all fits.
    """
    if not config.init_from or config.transfer == "none":
        return
    if not _names_a_model(config.init_from):
        weights = _read_encoder_weights(config)
        with torch.device("meta"):
            # The data decide on the rest of the network, of which none comes from there.
            _take_from_encoder(build_unet(config, channels=3, classes=1, label_mode=MULTILABEL), config, weights)
        return
    tensors, card = _read_model(config.init_from)
    with torch.device("meta"):
        _take_from_model(replace(card, config=config).build(), config, card, tensors, card)


def seen_before(config: TrainConfig, data: SegmentationData, split: Split) -> tuple[str, ...]:
    """A warning where the model that a training begins from has learnt from its validation images; else nothing."""
    if not _names_a_model(config.init_from):
        return ()
    card = read_card(Path(config.init_from) / CONFIG)
    names = [data.names[index] for index in split.validation]
    seen = sorted(set(card.train_images).intersection(names)) if card.source == data.source else []
    if not seen:
        return ()
    return (
        f"seen_before: the model that it begins from has learnt from {len(seen)} of the {len(names)} validation images "
        f"({', '.join(seen[:3])}{', ...' if len(seen) > 3 else ''}), so val_ scores flatter; choose by other images",
    )


def describe(transfer: Transfer) -> list[str]:
    """The report in aligned lines, a tensor each, and last of all a line that sums it up."""
    width = max((len(name) for name, _ in transfer.report), default=0)
    lines = [f"{name:<{width}}  {fate}" for name, fate in transfer.report]
    fates = [fate for _, fate in transfer.report]
    reasons = Counter(_in_short(fate) for fate in fates if fate.startswith(NEW))
    new = f"; new: {', '.join(f'{count} ({reason})' for reason, count in reasons.items())}" if reasons else ""
    return [*lines, f"{sum(fate.startswith(TAKEN) for fate in fates)} of {len(fates)} tensors taken{new}"]


def parameter_groups(network: UNet, config: TrainConfig, taken: Collection[str]) -> list[dict[str, Any]]:
    """The network's parameters for an optimizer, what was taken over at its own share of the learning rate."""
    taken_over: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        slower = name in taken and config.transfer_rate != 1
        (taken_over if slower else rest).append(parameter)
    groups = [
        {"params": taken_over, "lr": config.learning_rate * config.transfer_rate},
        {"params": rest, "lr": config.learning_rate},
    ]
    return [group for group in groups if group["params"]]


def freeze(network: UNet, taken: Collection[str], frozen: bool) -> None:
    """Lets what was taken over learn, or holds it still; call it after `network.train()`, which wakes all layers.

    Batch normalisation in a block that is held still keeps the statistics it came with. A head always learns: where it
    was taken too, there would be nothing left that could.
    """
    parts = network.taken_apart()
    held = {name for name in taken if parts[name] != "head"}
    for name, parameter in network.named_parameters():
        if name in held:
            parameter.requires_grad_(not frozen)
    if not frozen:
        return
    for place, module in network.named_modules():
        # Statistics that belong to another, fresh layer of the block would be of nothing.
        around = place.rpartition(".")[0]
        if isinstance(module, nn.BatchNorm2d) and all(
            f"{around}.{name}" in held for name, _ in network.get_submodule(around).named_parameters()
        ):
            module.eval()


def _names_a_model(init_from: str) -> bool:
    """Whether it means a model folder, rather than the weights of a published encoder."""
    path = Path(init_from)
    return init_from != IMAGENET and (path.suffix not in WEIGHT_FILES or path.is_dir())


def _read_model(folder: str) -> tuple[dict[str, Tensor], ModelCard]:
    """The weights and the card of a model folder. Raises InputError unless both are sound."""
    try:
        require_model(Path(folder))
        card = read_card(Path(folder) / CONFIG)
        tensors, _ = load_tensors(Path(folder) / WEIGHTS)
    except InputError as error:
        raise InputError(f"init_from: {error}") from error
    with torch.device("meta"):
        described = card.build().state_dict()
    if {name: tensor.shape for name, tensor in tensors.items()} != {
        name: tensor.shape for name, tensor in described.items()
    }:
        raise InputError(f"init_from {folder!r}: {WEIGHTS} does not fit its {CONFIG}; take both from one training.")
    _require_finite(tensors, folder)
    return tensors, card


def _take_from_model(
    network: UNet, config: TrainConfig, card: ModelCard, tensors: Mapping[str, Tensor], theirs: ModelCard
) -> dict[str, str]:
    """Copies what fits into the network, and says of every entry what became of it.

    theirs: the card of the model that the tensors come from. Raises InputError when nothing fits.
    """
    parts = network.taken_apart()
    fates = {}
    any_weights = False
    for entry, tensor in network.state_dict().items():
        if entry in PIXEL_STATISTICS:
            fates[entry] = NEW + "counted from the pictures at hand"
        elif config.transfer == "encoder" and parts[entry] != "encoder":
            fates[entry] = NEW + "transfer=encoder leaves it"
        elif parts[entry] == "head" and card.class_names != theirs.class_names:
            fates[entry] = NEW + "the head is made for other classes"
        elif parts[entry] == "head" and card.label_mode != theirs.label_mode:
            fates[entry] = NEW + f"the head is made for {card.label_mode} masks"
        else:
            there = _name_in_depth(entry, config.depth, theirs.config.depth)
            fates[entry] = _take(tensor, tensors.get(there), (theirs.channels, card.channels))
            if fates[entry].startswith(TAKEN) and there != entry:
                fates[entry] += f", there {there}"
            # Biases and counts, which fit nearly anywhere, are nothing without the weights of a convolution.
            any_weights |= fates[entry].startswith(TAKEN) and tensor.ndim == 4
    if not any_weights:
        differing = [
            f"{name} {there!r} there, {here!r} here"
            for name in STRUCTURE
            if (there := getattr(theirs.config, name)) != (here := getattr(config, name))
        ]
        raise InputError(
            f"init_from {config.init_from!r}: nothing of it fits this network ({'; '.join(differing)}); "
            "set these alike, or leave init_from out."
        )
    return fates


def _name_in_depth(entry: str, depth: int, depth_there: int) -> str:
    """The name that an entry has in a network of another depth, whose decoder counts its levels from the lowest too."""
    match = _OF_A_LEVEL.fullmatch(entry)
    return entry if match is None else f"{match[1]}{int(match[2]) + depth_there - depth}{match[3]}"


def _take(here: Tensor, there: Tensor | None, channels: tuple[int, int]) -> str:
    """Copies a tensor into its place if it fits, and says what became of it.

    channels: of the pictures, there and here.
    """
    if there is None:
        return NEW + "not in the model"
    if here.shape == there.shape:
        here.copy_(there)
        return TAKEN
    if here.ndim == there.ndim == 4 and channels == (there.shape[1], here.shape[1]) and 1 in channels:
        # One of the two sees a single channel, so that this is the sum over all, or an even share for each.
        adapted = there.sum(dim=1, keepdim=True).expand(-1, here.shape[1], -1, -1) / here.shape[1]
        if adapted.shape == here.shape:
            here.copy_(adapted)
            return TAKEN + (", summed over colours" if here.shape[1] == 1 else ", spread over colours")
    return NEW + f"shape {tuple(there.shape)} there, {tuple(here.shape)} here"


def _take_from_encoder(network: UNet, config: TrainConfig, weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Copies the weights of a published encoder into the network, and says of every entry what became of it.

    Raises InputError for weights of another one, though they may fit in part: nobody trained such a mixture.
    """
    recognised = recognise_encoder(weights)
    if recognised not in (None, config.encoder):
        raise InputError(
            f"init_from {config.init_from!r} holds weights of encoder {recognised!r}, and encoder is "
            f"{config.encoder!r}; set encoder to {recognised}, or give weights of {config.encoder}."
        )
    found = load_encoder_weights(network, weights)
    if recognised is None or not any(words.startswith(TAKEN) for words in found.values()):
        raise InputError(
            f"init_from {config.init_from!r} holds no weights of encoder {config.encoder!r}: give torchvision's "
            "state_dict of that network; for a model of unet-search, name its folder."
        )
    return {entry: words if words.startswith(TAKEN) else NEW + words for entry, words in found.items()}


def _read_encoder_weights(config: TrainConfig) -> Mapping[str, Tensor]:
    """The weights of a published encoder, by their names in torchvision. Raises InputError unless they are sound."""
    name, path = config.init_from, Path(config.init_from)
    if name == IMAGENET:
        return fetch_imagenet_weights(config.encoder)
    if config.encoder == "own":
        raise InputError(
            f"init_from {name!r} is read as weights of a published encoder, and encoder is 'own'; set encoder to "
            f"{', '.join(ENCODERS[1:])}, or give the folder of a model."
        )
    if not path.is_file():
        raise InputError(f"init_from {name!r} is not there: give a file of weights, or the folder of a model.")
    tensors = load_tensors(path)[0] if path.suffix == ".safetensors" else _read_pickled(path)
    _require_finite(tensors, name)
    return tensors


def _read_pickled(path: Path) -> Mapping[str, Tensor]:
    """The state_dict in a file by `torch.save`; nothing in the file is run. Raises InputError for any other file."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file makes torch raise nearly anything
        raise InputError(
            f"init_from {str(path)!r} cannot be read as weights ({type(error).__name__}): it is damaged, or holds "
            "more than tensors; give a state_dict."
        ) from error
    if not isinstance(content, Mapping) or not all(isinstance(entry, Tensor) for entry in content.values()):
        raise InputError(f"init_from {str(path)!r} holds no plain state_dict: save network.state_dict() alone.")
    return content


def _require_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Raises InputError for weights that would spoil a training from its first step."""
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise InputError(f"init_from {source!r}: tensor {name!r} is not finite; take another model.")


def _in_short(fate: str) -> str:
    """Why a tensor is new, without its shapes."""
    reason = fate.removeprefix(NEW)
    return "of another shape" if "shape" in reason else reason
