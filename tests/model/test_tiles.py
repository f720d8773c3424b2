"""Large pictures by tiles: the same as in one piece wherever a tile sees what it needs."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from data.segmentation_data import MULTICLASS, MULTILABEL, LabelMode
from model.losses import class_probabilities
from model.tiles import predict_probabilities
from model.unet import UNet
from tests.toys import PROPERTY


class SeenPictures(nn.Module):
    """A network that looks at each pixel alone, and remembers the sizes of the pictures that it saw."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.pointwise = nn.Conv2d(3, outputs, kernel_size=1)
        with torch.no_grad():
            self.pointwise.weight.copy_(torch.linspace(-0.02, 0.02, 3 * outputs).reshape(outputs, 3, 1, 1))
            self.pointwise.bias.zero_()  # type: ignore[union-attr]
        self.sizes: list[tuple[int, int]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append((images.shape[2], images.shape[3]))
        logits: Tensor = self.pointwise(images)
        return logits


def picture(height: int, width: int, count: int = 1) -> Tensor:
    draw = torch.Generator().manual_seed(height * 100 + width)
    return torch.randint(0, 256, (count, 3, height, width), generator=draw, dtype=torch.uint8)


@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    tile=st.integers(1, 40),
    shared=st.floats(0, 1, exclude_max=True),
    label_mode=st.sampled_from([MULTILABEL, MULTICLASS]),
)
@settings(PROPERTY, max_examples=60)
def test_tiles_of_a_network_that_looks_at_each_pixel_alone_equal_the_whole(
    height: int, width: int, tile: int, shared: float, label_mode: LabelMode
) -> None:
    network: Any = SeenPictures(outputs=3)
    # Tiles that share nearly all of their pixels are hundreds; 20 in a row are enough.
    overlap = max(0, min(int(tile * shared), tile - max(height, width) // 20 - 1))
    images = picture(height, width, count=2)
    tiled = predict_probabilities(network, images, label_mode, bfloat16=False, tile=tile, overlap=overlap)
    assert all(rows <= tile and columns <= tile for rows, columns in network.sizes)
    with torch.inference_mode():
        whole = class_probabilities(network(images.float()), label_mode)
    torch.testing.assert_close(tiled, whole)


def test_a_picture_up_to_the_tile_is_seen_in_one_piece() -> None:
    network: Any = SeenPictures(outputs=1)
    predict_probabilities(network, picture(16, 9), MULTILABEL, bfloat16=False, tile=16, overlap=4)
    predict_probabilities(network, picture(17, 9), MULTILABEL, bfloat16=False, tile=16, overlap=4)
    assert network.sizes == [(16, 9), (16, 9), (16, 9)]


@pytest.mark.parametrize(("width", "tiles"), [(16, 1), (17, 2), (28, 2), (29, 3), (40, 3), (41, 4)])
def test_tiles_are_as_few_as_share_the_overlap(width: int, tiles: int) -> None:
    network: Any = SeenPictures(outputs=1)
    predict_probabilities(network, picture(8, width), MULTILABEL, bfloat16=False, tile=16, overlap=4)
    assert len(network.sizes) == tiles


class FirstAndSecond(nn.Module):
    """Sees 1 / 4 everywhere in its first tile and 3 / 4 everywhere in its second."""

    def __init__(self) -> None:
        super().__init__()
        self.tiles = 0

    def forward(self, images: Tensor) -> Tensor:
        self.tiles += 1
        return torch.full_like(images[:, :1], 3.0).log() * (1 if self.tiles == 2 else -1)


@pytest.mark.parametrize(
    ("width", "counts_of_first", "counts_of_second"),
    [
        # tiles from 0 to 16 and from 12 to 28 share four columns
        (28, [4, 3, 2, 1], [1, 2, 3, 4]),
        # tiles from 0 to 16 and from 6 to 22 share ten: each counts in full but for its outer four
        (22, [4, 4, 4, 4, 4, 4, 4, 3, 2, 1], [1, 2, 3, 4, 4, 4, 4, 4, 4, 4]),
    ],
)
def test_neighbouring_tiles_fade_into_each_other(
    width: int, counts_of_first: list[int], counts_of_second: list[int]
) -> None:
    network: Any = FirstAndSecond()
    seen = predict_probabilities(network, picture(8, width), MULTILABEL, bfloat16=False, tile=16, overlap=4)[0, 0]
    assert network.tiles == 2
    torch.testing.assert_close(seen, seen[:1].expand_as(seen))
    shared = [
        (0.25 * first + 0.75 * second) / (first + second)
        for first, second in zip(counts_of_first, counts_of_second, strict=True)
    ]
    alone = width - 16
    assert seen[0].tolist() == pytest.approx([0.25] * alone + shared + [0.75] * alone, abs=1e-6)


class FartherRight(nn.Module):
    """Sees more of the class the farther right and the lower a pixel lies in what it is shown."""

    def forward(self, images: Tensor) -> Tensor:
        rows, columns = (torch.arange(side, dtype=torch.float32) for side in images.shape[2:])
        return (rows[:, None] + 2 * columns).expand(len(images), 1, -1, -1)


def test_mirrored_pictures_are_averaged_by_hand() -> None:
    network: Any = FartherRight()
    seen = predict_probabilities(network, picture(2, 2), MULTILABEL, bfloat16=False, mirror=True)[0, 0]
    # each corner is seen once at each corner, where the logits are 0, 1, 2 and 3
    expected = float(torch.tensor([0.0, 1.0, 2.0, 3.0]).sigmoid().mean())
    assert seen.flatten().tolist() == pytest.approx([expected] * 4)


@pytest.mark.parametrize("label_mode", [MULTILABEL, MULTICLASS])
@pytest.mark.parametrize("tile", [64, 16])
def test_mirrored_predictions_do_not_depend_on_how_the_picture_lies(label_mode: LabelMode, tile: int) -> None:
    network = UNet(channels=3, outputs=3, depth=2, width=2).eval()
    images = picture(20, 30)
    options: dict[str, Any] = {"bfloat16": False, "tile": tile, "overlap": 8}
    plain, seen, turned = (
        predict_probabilities(network, pixels, label_mode, mirror=mirror, **options)
        for pixels, mirror in ((images, False), (images, True), (images.flip(-1), True))
    )
    torch.testing.assert_close(turned.flip(-1), seen)
    assert not torch.allclose(plain, seen)


def test_a_picture_of_bytes_and_one_of_floats_give_the_same() -> None:
    network = UNet(channels=3, outputs=1, depth=2, width=2).eval()
    images = picture(20, 30)
    of_bytes, of_floats = (
        predict_probabilities(network, pixels, MULTILABEL, bfloat16=False, tile=16, overlap=8)
        for pixels in (images, images.float())
    )
    assert torch.equal(of_bytes, of_floats)


@pytest.mark.parametrize("tile", [64, 16])
def test_bfloat16_gives_float32_probabilities_close_to_those_of_float32(tile: int) -> None:
    network = UNet(channels=3, outputs=2, depth=2, width=4).eval()
    rough, fine = (
        predict_probabilities(network, picture(24, 24), MULTILABEL, bfloat16=bfloat16, tile=tile, overlap=8)
        for bfloat16 in (True, False)
    )
    assert rough.dtype == fine.dtype == torch.float32
    assert not torch.equal(rough, fine)
    torch.testing.assert_close(rough, fine, atol=0.05, rtol=0)
