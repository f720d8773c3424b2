"""The U-net (Ronneberger et al. 2015, MICCAI, figure 1) with batch normalisation and padded convolutions."""

from math import gcd
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.segmentation_data import MULTICLASS, LabelMode
from model.config import TrainConfig


class UNet(nn.Module):
    """Pictures in, one logit a class and pixel out, for pictures of any size.

    channels: channels of the pictures. outputs: planes of logits. depth: down-samplings. width: channels of the
    first level, doubled at each level below. Weights are kept in channels_last memory.
    """

    def __init__(
        self,
        *,
        channels: int,
        outputs: int,
        depth: int,
        width: int,
        normalisation: str = "batch",
        dropout: float = 0.0,
        upsampling: str = "transposed",
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.depth = depth
        self.pixel_mean: Tensor
        self.pixel_deviation: Tensor
        self.register_buffer("pixel_mean", torch.full((channels,), 127.5))
        self.register_buffer("pixel_deviation", torch.full((channels,), 64.0))
        self.down = nn.ModuleList(
            double_convolution(before, after, normalisation)
            for before, after in zip([channels, *widths[:-2]], widths[:-1], strict=True)
        )
        self.bottom = double_convolution(widths[-2], widths[-1], normalisation)
        self.dropout = nn.Dropout2d(dropout)
        self.enlarge = nn.ModuleList(
            UPSAMPLERS[upsampling](below, here) for here, below in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.up = nn.ModuleList(double_convolution(2 * here, here, normalisation) for here in widths[-2::-1])
        self.head = nn.Conv2d(width, outputs, kernel_size=1)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, float (N, outputs, H, W), of pictures, float (N, C, H, W) in 0..255, of any height and width."""
        height, width = images.shape[-2:]
        features = (images - self.pixel_mean[:, None, None]) / self.pixel_deviation[:, None, None]
        features = pad_to_multiple(features, 2**self.depth)
        skipped: list[Tensor] = []
        for block in self.down:
            features = block(features)
            skipped.append(features)
            features = F.max_pool2d(features, 2)
        features = self.dropout(self.bottom(features))
        for enlarge, block in zip(self.enlarge, self.up, strict=True):
            features = block(torch.cat([skipped.pop(), enlarge(features)], dim=1))
        logits: Tensor = self.head(features)
        return logits[..., :height, :width]


def build_unet(config: TrainConfig, *, channels: int, classes: int, label_mode: LabelMode) -> UNet:
    """The network that a config asks for; "multiclass" gets one more output than classes, for the background."""
    return UNet(
        channels=channels,
        outputs=classes + (label_mode == MULTICLASS),
        depth=config.depth,
        width=config.width,
        normalisation=config.normalisation,
        dropout=config.dropout,
        upsampling=config.upsampling,
    )


def double_convolution(before: int, after: int, normalisation: str) -> nn.Sequential:
    """Two 3 x 3 convolutions, each normalised and rectified; keeps height and width."""
    layers: list[nn.Module] = []
    for incoming in (before, after):
        layers.append(nn.Conv2d(incoming, after, kernel_size=3, padding=1, bias=normalisation == "none"))
        layers.append(NORMALISERS[normalisation](after))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Repeats the lower and right edge until both sides divide by `multiple`, twice it at least.

    Twice, because a normalisation layer cannot train on a single pixel.
    """
    height, width = images.shape[-2:]
    missing = [max(-(-side // multiple), 2) * multiple - side for side in (width, height)]
    if not any(missing):
        return images
    return F.pad(images, (0, missing[0], 0, missing[1]), mode="replicate")


NORMALISERS: dict[str, Any] = {
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.GroupNorm(channels, channels),
    "group": lambda channels: nn.GroupNorm(gcd(channels, 8), channels),
    "none": lambda channels: nn.Identity(),  # noqa: ARG005
}


def _interpolate(mode: str) -> Any:
    return lambda below, here: nn.Sequential(nn.Upsample(scale_factor=2, mode=mode), nn.Conv2d(below, here, 1))


UPSAMPLERS: dict[str, Any] = {
    "transposed": lambda below, here: nn.ConvTranspose2d(below, here, kernel_size=2, stride=2),
    "bilinear": _interpolate("bilinear"),
    "nearest": _interpolate("nearest"),
}
