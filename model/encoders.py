"""The way down of a U-net: blocks of our own or the stages of a published network, and that network's weights."""

from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from data.input_error import InputError
from model.blocks import MakeBlock

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum


@dataclass(frozen=True, kw_only=True)
class PublishedNetwork:
    """How a classifier of torchvision is cut into the levels of a U-net.

    name: torchvision's own. stages: the part of it that holds what is taken, by its name in the state_dict; empty for
    the whole. levels: for each level, from half of the picture's size on, the names of the modules that lead there.
    widths: the channels of each of these levels.
    """

    name: str
    stages: str
    levels: tuple[tuple[str, ...], ...]
    widths: tuple[int, ...]

    def build(self) -> nn.Module:
        """The classifier with fresh weights."""
        from torchvision import models  # loads for seconds, and most networks have no need of it

        network: nn.Module = models.get_model(self.name, weights=None)
        return network

    @property
    def weights(self) -> "WeightsEnum":
        """What was learnt on ImageNet."""
        from torchvision import models

        known: Any = models.get_model_weights(self.name)
        weights: WeightsEnum = known.DEFAULT
        return weights


def _resnet(name: str) -> PublishedNetwork:
    return PublishedNetwork(
        name=name,
        stages="",
        levels=(("conv1", "bn1", "relu"), ("maxpool", "layer1"), ("layer2",), ("layer3",), ("layer4",)),
        widths=(64, 64, 128, 256, 512),
    )


PUBLISHED: dict[str, PublishedNetwork] = {
    # He et al. 2016, Deep Residual Learning for Image Recognition, table 1
    "resnet18": _resnet("resnet18"),
    "resnet34": _resnet("resnet34"),
    # Howard et al. 2019, Searching for MobileNetV3, table 1, up to the last stage that keeps its size
    "mobilenet_v3": PublishedNetwork(
        name="mobilenet_v3_large",
        stages="features",
        levels=(("0", "1"), ("2", "3"), ("4", "5", "6"), ("7", "8", "9", "10", "11", "12"), ("13", "14", "15")),
        widths=(16, 24, 40, 112, 160),
    ),
}


class Encoder(nn.Module):
    """The features of a picture at every level, each half as high and wide as the one before.

    kind: "own" for `depth` + 1 levels of our own blocks, of `width` channels and twice as many at each level below;
    else a name of `PUBLISHED`, whose stages are the levels from half of the picture's size on. They see the picture
    itself, and so does a block of our own at its full size, for things too thin for half of it. Where `depth` goes on
    below the last stage, so do blocks of our own. `widths`: channels of each level. dilation: of the first two levels
    of our own encoder; a published one has none.
    The published stages keep their batch normalisation, which their weights need, whatever our own blocks have.
    """

    def __init__(
        self, kind: str, *, channels: int, depth: int, width: int, make_block: MakeBlock, dilation: int = 1
    ) -> None:
        super().__init__()
        self.published = PUBLISHED.get(kind)
        spread = dilation if self.published is None else 1
        levels: list[nn.Module] = [make_block(channels, width, dilation=spread, of_pixels=True)]
        widths = [width]
        if self.published is not None:
            levels.extend(_stages(self.published, channels, depth))
            widths.extend(self.published.widths[:depth])
        for level in range(len(levels), depth + 1):
            widths.append(2 * widths[-1])
            layers: OrderedDict[str, nn.Module] = OrderedDict(pool=nn.MaxPool2d(2))
            layers["block"] = make_block(*widths[-2:], dilation=spread if level == 1 else 1)
            levels.append(nn.Sequential(layers))
        self.widths = tuple(widths)
        self.levels = nn.ModuleList(levels)

    def forward(self, picture: Tensor) -> list[Tensor]:
        """Features (N, widths[level], H / 2**level, W / 2**level), finest first, of a picture (N, C, H, W).

        H and W divide by 2**depth.
        """
        finest, *deeper = self.levels
        found: list[Tensor] = [finest(picture)]
        features = found[0] if self.published is None else picture
        for level in deeper:
            features = level(features)
            found.append(features)
        return found

    def published_names(self) -> dict[str, str]:
        """For entries of the state_dict that come from a published network, their names there."""
        if self.published is None:
            return {}
        names = {}
        for entry in self.state_dict():
            _, level, *rest = entry.split(".")
            if 1 <= int(level) <= len(self.published.levels):
                names[entry] = ".".join([self.published.stages, *rest]).removeprefix(".")
        return names


def load_encoder_weights(network: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Puts the weights of a classifier of torchvision into the encoder of the network's first pass.

    tensors: the classifier's state_dict. A first convolution that sees one channel gets the sum over three colours: it
    finds in a grey picture what the three find in the same picture as red, green and blue. Returns for every entry of
    the network's state_dict what became of it: "taken", "taken, summed over colours", "not in the file" or
    "other shape (64, 3, 7, 7) than (64, 4, 7, 7)", the file's first.
    """
    place, encoder = next((name, module) for name, module in network.named_modules() if isinstance(module, Encoder))
    theirs = {f"{place}.{entry}": name for entry, name in encoder.published_names().items()}
    return {entry: _take(tensor, tensors.get(theirs.get(entry, ""))) for entry, tensor in network.state_dict().items()}


def recognise_encoder(entries: Collection[str]) -> str | None:
    """The published network, such as "resnet18", from whose state_dict these entries come; None where there is none.

    What lies in the place of its stages must belong there, and not all need be there: of several such networks it is
    the one of which least is missing. What lies elsewhere, such as the head, does not matter.
    """
    missing = {}
    for kind in PUBLISHED:
        places, known = _entries_of_stages(kind)
        there = {entry for entry in entries if entry.startswith(places)}
        if there and there <= known:
            missing[kind] = len(known - there)
    return min(missing, key=lambda kind: missing[kind], default=None)


def fetch_imagenet_weights(encoder: str) -> Mapping[str, Tensor]:
    """The state_dict that torchvision publishes for an encoder, from torch hub's folder or, once, from the network.

    Raises InputError for our own encoder, which has none, and where the file can be neither read nor downloaded.
    """
    if encoder not in PUBLISHED:
        raise InputError(
            f"init_from 'imagenet' has no weights for encoder {encoder!r}; set encoder to {', '.join(PUBLISHED)}."
        )
    weights = PUBLISHED[encoder].weights
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    file = folder / Path(weights.url).name
    try:
        tensors: Mapping[str, Tensor] = weights.get_state_dict(
            progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        trouble = " ".join(str(error).split())[:120]
        if file.exists():
            raise InputError(f"{str(file)!r} is damaged ({trouble}); delete it, or put a whole one there.") from error
        raise InputError(
            f"the ImageNet weights of {encoder} could not be downloaded ({trouble}); "
            f"put {file.name} from {weights.url} into {str(folder)!r}."
        ) from error
    return tensors


@cache
def _entries_of_stages(kind: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """How the entries of a published network's stages begin in its state_dict, and all of them."""
    published = PUBLISHED[kind]
    names = [name for level in published.levels for name in level]
    places = tuple(f"{published.stages}.{name}.".removeprefix(".") for name in names)
    with torch.device("meta"):
        return places, frozenset(entry for entry in published.build().state_dict() if entry.startswith(places))


def _stages(published: PublishedNetwork, channels: int, count: int) -> list[nn.Module]:
    """The published network's first levels, with fresh weights, for pictures of so many channels.

    Weights begin as their articles say (He et al. 2015, by the outputs). The network is made without memory, for most
    of it may not be needed.
    """
    with torch.device("meta"):
        whole = published.build().get_submodule(published.stages)
    stages = nn.ModuleList(
        nn.Sequential(OrderedDict((name, whole.get_submodule(name)) for name in names))
        for names in published.levels[:count]
    )
    place, first = next((name, module) for name, module in stages.named_modules() if isinstance(module, nn.Conv2d))
    if channels != first.in_channels:
        stages.set_submodule(place, _for_channels(first, channels))
    stages.to_empty(device=torch.get_default_device())
    for module in stages.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            # MobileNet's 0.01 is made for a million steps; in a short training it would still hold what it began with.
            module.momentum = 0.1
    return list(stages)


def _for_channels(first: nn.Conv2d, channels: int) -> nn.Conv2d:
    """A first convolution like this one for pictures of so many channels, without memory."""
    kernel, stride, padding = first.weight.shape[-1], first.stride[0], first.padding[0]
    assert isinstance(padding, int)
    return nn.Conv2d(channels, first.out_channels, kernel, stride, padding, bias=False, device="meta")


def _take(ours: Tensor, theirs: Tensor | None) -> str:
    """Copies one tensor into another where it fits, and says in words what became of it."""
    if theirs is None:
        return "not in the file"
    if ours.shape == theirs.shape:
        ours.copy_(theirs)
        return "taken"
    if ours.ndim == theirs.ndim == 4 and ours.shape == theirs[:, :1].shape:
        ours.copy_(theirs.sum(dim=1, keepdim=True))
        return "taken, summed over colours"
    return f"other shape {tuple(theirs.shape)} than {tuple(ours.shape)}"
