"""The U-net (Ronneberger et al. 2015, MICCAI, figure 1), padded, assembled from an encoder and blocks."""

from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.segmentation_data import MULTICLASS, LabelMode
from model.blocks import BLOCK_KINDS, UPSAMPLERS, MakeBlock
from model.config import TrainConfig
from model.encoders import Encoder

Part = Literal["encoder", "decoder", "head"]


class UNet(nn.Module):
    """Pictures in, one logit a class and pixel out, for pictures of any size.

    channels: channels of the pictures. outputs: planes of logits. depth: down-samplings. width: channels of the
    first level, doubled at each level below; with a published encoder, of the way up alone. The other settings are
    those of `TrainConfig`.

    passes: U-nets in a row. Each after the first sees the picture and, as numbers in -1..1, how sure the one before
    was of each class; the last one's logits count, all are taught. Two are the W-net of Galdran et al. 2022,
    State-of-the-art retinal vessel segmentation with minimalistic models (Scientific Reports 12:6174).

    The parts lie in `passes`, each with `encoder`, `decoder` and `head`, its last convolution. `pixel_mean` and
    `pixel_deviation` (channels,) bring pixels of 0..255 to mean 0 and deviation 1. Weights are kept in channels_last
    memory.
    """

    def __init__(
        self,
        *,
        channels: int,
        outputs: int,
        depth: int,
        width: int,
        encoder: str = "own",
        block: str = "plain",
        passes: int = 1,
        dilation: int = 1,
        normalisation: str = "batch",
        dropout: float = 0.0,
        dropout_place: str = "bottom",
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        self.depth = depth
        self.pixel_mean: Tensor
        self.pixel_deviation: Tensor
        self.register_buffer("pixel_mean", torch.full((channels,), 127.5))
        self.register_buffer("pixel_deviation", torch.full((channels,), 64.0))
        at_bottom = dropout_place == "bottom"
        make_block: MakeBlock = partial(
            BLOCK_KINDS[block], normalisation=normalisation, dropout=0.0 if at_bottom else dropout
        )
        self.passes = nn.ModuleList(
            UNetPass(
                Encoder(encoder, channels=seen, depth=depth, width=width, make_block=make_block, dilation=dilation),
                outputs=outputs,
                width=width,
                make_block=make_block,
                dropout=dropout if at_bottom else 0.0,
                upsampling=upsampling,
            )
            for seen in [channels, *[channels + outputs] * (passes - 1)]
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float (N, outputs, H, W), of pictures, float (N, C, H, W) in 0..255, of any height and width."""
        return self.logits_of_passes(images)[-1]

    def logits_of_passes(self, images: Tensor) -> list[Tensor]:
        """The logits of each pass, as `forward` returns them for the last one."""
        height, width = images.shape[-2:]
        picture = (images - self.pixel_mean[:, None, None]) / self.pixel_deviation[:, None, None]
        picture = pad_to_multiple(picture, 2**self.depth)
        found: list[Tensor] = []
        for unet in self.passes:
            # tanh(x / 2) is 2 sigmoid(x) - 1: a pass may be as sure as it likes and cannot drown the picture.
            seen = torch.cat([picture, torch.tanh(found[-1] / 2)], dim=1) if found else picture
            found.append(unet(seen))
        return [logits[..., :height, :width] for logits in found]

    def taken_apart(self) -> dict[str, Part]:
        """Which part of the network each entry of its state_dict belongs to; the statistics of pixels: the encoder."""
        parts: dict[str, Part] = {"encoder": "encoder", "decoder": "decoder", "head": "head"}
        return {entry: parts[entry.split(".")[2]] if "." in entry else "encoder" for entry in self.state_dict()}


class UNetPass(nn.Module):
    """One U-net of a network: down through an encoder, up again beside it, and a logit for each class.

    dropout: share of the channels of the lowest level that is dropped.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        outputs: int,
        width: int,
        make_block: MakeBlock,
        dropout: float,
        upsampling: str,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout2d(dropout)
        self.decoder = Decoder(encoder.widths, width=width, make_block=make_block, upsampling=upsampling)
        self.head = nn.Conv2d(width, outputs, kernel_size=1)

    def forward(self, picture: Tensor) -> Tensor:
        """Logits (N, outputs, H, W) of a picture (N, C, H, W) whose sides divide by 2**depth."""
        *skipped, lowest = self.encoder(picture)
        logits: Tensor = self.head(self.decoder(self.dropout(lowest), skipped))
        return logits


class Decoder(nn.Module):
    """The way up: at each level the size is doubled and what the encoder saw there is put beside it.

    skipped: the channels of each level of the encoder, finest first. width: channels of the finest level on the way up.
    """

    def __init__(self, skipped: tuple[int, ...], *, width: int, make_block: MakeBlock, upsampling: str) -> None:
        super().__init__()
        *beside, below = skipped
        widths = [width * 2**level for level in range(len(beside))]
        self.enlarge = nn.ModuleList(
            UPSAMPLERS[upsampling](before, here)
            for before, here in zip([below, *widths[:0:-1]], widths[::-1], strict=True)
        )
        self.up = nn.ModuleList(
            make_block(seen + here, here) for seen, here in zip(beside[::-1], widths[::-1], strict=True)
        )

    def forward(self, features: Tensor, skipped: list[Tensor]) -> Tensor:
        """Features (N, width, H, W) from those of the lowest level and all others of the encoder, finest first."""
        for enlarge, block, beside in zip(self.enlarge, self.up, reversed(skipped), strict=True):
            features = block(torch.cat([beside, enlarge(features)], dim=1))
        return features


def build_unet(config: TrainConfig, *, channels: int, classes: int, label_mode: LabelMode) -> UNet:
    """The network that a config asks for, with fresh weights; "multiclass" gets one more output, for the background."""
    names = ("encoder", "block", "passes", "depth", "width", "dilation", "normalisation", "dropout", "dropout_place")
    settings: dict[str, Any] = {name: getattr(config, name) for name in (*names, "upsampling")}
    return UNet(channels=channels, outputs=classes + (label_mode == MULTICLASS), **settings)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Repeats the lower and right edge until both sides divide by `multiple`, twice it at least.

    Twice, because a normalisation layer cannot train on a single pixel.
    """
    height, width = images.shape[-2:]
    missing = [max(-(-side // multiple), 2) * multiple - side for side in (width, height)]
    if not any(missing):
        return images
    return F.pad(images, (0, missing[0], 0, missing[1]), mode="replicate")


def has_dropout(network: nn.Module) -> bool:
    """Whether the network drops channels while it trains."""
    return any(layer.p > 0 for layer in _dropouts(network))


def keep_dropping(network: nn.Module) -> None:
    """Lets an evaluated network drop channels as while it trained, and nothing else.

    Its answers then differ from one to the next, the more the less sure it is (Gal, Ghahramani 2016, Dropout as a
    Bayesian Approximation). `network.eval()` ends it.
    """
    for layer in _dropouts(network):
        layer.train()


def _dropouts(network: nn.Module) -> list[nn.Dropout2d]:
    return [module for module in network.modules() if isinstance(module, nn.Dropout2d)]
