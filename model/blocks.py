"""What a U-net is built of: blocks of two 3 x 3 convolutions, normalisations, and ways to double the size."""

from collections import OrderedDict
from collections.abc import Callable
from math import gcd
from typing import Any, Protocol

from torch import Tensor, nn


class MakeBlock(Protocol):
    """What makes a block of a network whose kind, normalisation and dropout are decided."""

    def __call__(self, before: int, after: int, *, dilation: int = 1, of_pixels: bool = False) -> nn.Module:
        """A block from `before` to `after` channels that keeps height and width."""
        ...


class PlainBlock(nn.Sequential):
    """Two 3 x 3 convolutions, each normalised and rectified (Ronneberger et al. 2015).

    (N, before, H, W) becomes (N, after, H, W). dilation: distance in pixels between what a convolution sees. dropout:
    share of channels dropped between the two. of_pixels: whether pixels come in, rather than features; the same here.
    """

    def __init__(
        self,
        before: int,
        after: int,
        *,
        normalisation: str,
        dropout: float = 0.0,
        dilation: int = 1,
        of_pixels: bool = False,  # noqa: ARG002
    ) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["first"] = self._convolve_then_rectify(before, after, normalisation, dilation)
        if dropout:
            layers["dropout"] = nn.Dropout2d(dropout)
        layers["second"] = self._convolve_then_rectify(after, after, normalisation, dilation)
        super().__init__(layers)

    @staticmethod
    def _convolve_then_rectify(before: int, after: int, normalisation: str, dilation: int) -> nn.Sequential:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["convolution"] = convolution(before, after, normalisation, dilation)
        layers["normalisation"] = NORMALISERS[normalisation](after)
        layers["rectifier"] = nn.ReLU(inplace=True)
        return nn.Sequential(layers)


class ResidualBlock(nn.Module):
    """What comes in, plus what two 3 x 3 convolutions make of it, each after normalising and rectifying.

    The unit with full pre-activation of Zhang, Liu, Wang 2018, Road Extraction by Deep Residual U-Net (IEEE Geoscience
    and Remote Sensing Letters, figure 1b); a 1 x 1 convolution leads past it where the number of channels changes.
    of_pixels: pixels come in, which the first convolution sees as they are: rectified, the dark half of a picture
    would be lost. dilation and dropout as in `PlainBlock`.
    """

    def __init__(
        self,
        before: int,
        after: int,
        *,
        normalisation: str,
        dropout: float = 0.0,
        dilation: int = 1,
        of_pixels: bool = False,
    ) -> None:
        super().__init__()
        self.first = (
            convolution(before, after, normalisation, dilation)
            if of_pixels
            else self._rectify_then_convolve(before, after, normalisation, dilation)
        )
        self.dropout = nn.Dropout2d(dropout) if dropout else nn.Identity()
        self.second = self._rectify_then_convolve(after, after, normalisation, dilation)
        self.shortcut = nn.Identity() if before == after else nn.Conv2d(before, after, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """What came in and what the two convolutions add to it."""
        added: Tensor = self.second(self.dropout(self.first(features))) + self.shortcut(features)
        return added

    @staticmethod
    def _rectify_then_convolve(before: int, after: int, normalisation: str, dilation: int) -> nn.Sequential:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["normalisation"] = NORMALISERS[normalisation](before)
        # With nothing in between, rectifying in place would overwrite what the shortcut still needs.
        layers["rectifier"] = nn.ReLU(inplace=normalisation != "none")
        layers["convolution"] = convolution(before, after, normalisation, dilation)
        return nn.Sequential(layers)


def convolution(before: int, after: int, normalisation: str, dilation: int) -> nn.Conv2d:
    """A 3 x 3 convolution that keeps height and width; with a bias only where no normalisation brings one.

    Where nothing normalises, the weights begin as He et al. 2015 (Delving Deep into Rectifiers) draw them, so that
    features are as large at the end of a deep network as at its beginning.
    """
    bare = normalisation == "none"
    layer = nn.Conv2d(before, after, kernel_size=3, padding=dilation, dilation=dilation, bias=bare)
    if layer.bias is not None:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    return layer


def _interpolate(mode: str) -> Any:
    return lambda below, here: nn.Sequential(nn.Upsample(scale_factor=2, mode=mode), nn.Conv2d(below, here, 1))


BLOCK_KINDS: dict[str, Callable[..., nn.Module]] = {"plain": PlainBlock, "residual": ResidualBlock}

NORMALISERS: dict[str, Any] = {
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.GroupNorm(channels, channels),
    "group": lambda channels: nn.GroupNorm(gcd(channels, 8), channels),
    "none": lambda channels: nn.Identity(),  # noqa: ARG005
}

UPSAMPLERS: dict[str, Any] = {
    "transposed": lambda below, here: nn.ConvTranspose2d(below, here, kernel_size=2, stride=2),
    "bilinear": _interpolate("bilinear"),
    "nearest": _interpolate("nearest"),
}
