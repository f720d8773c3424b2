"""Masks and overlays for new pictures: `python -m model.predict MODEL IMAGES`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional as F

from data.command_line import run_command
from data.field_of_view import find_field_of_view
from data.fit import fit_image
from data.input_error import InputError
from data.overlay import class_color, color_name, draw_overlay
from data.pictures import list_pictures, picture_stem, read_color
from data.segmentation_data import MULTICLASS, UInt8
from model.checkpoint import ModelCard, load_model
from model.device import choose_device, uses_bfloat16
from model.metrics import predicted_planes
from model.tiles import predict_probabilities
from model.unet import UNet

Planes = npt.NDArray[np.bool_]


def predict_planes(network: UNet, card: ModelCard, image: UInt8, device: torch.device) -> Planes:
    """The masks of one RGB picture (H, W, 3) of any size, bool (K, H, W).

    They are empty outside the field of view where the model has learnt inside fields of view that were found.
    """
    fitted = fit_image(image, card.preparation)  # (h, w, C)
    pixels = torch.from_numpy(fitted.transpose(2, 0, 1)[None].copy()).to(device)
    probabilities = predict_probabilities(
        network, pixels, card.label_mode, bfloat16=uses_bfloat16(card.config.precision, device)
    )
    if fitted.shape[:2] != image.shape[:2]:
        probabilities = F.interpolate(probabilities, size=image.shape[:2], mode="bilinear", align_corners=False)
    planes: Planes = predicted_planes(probabilities, card.label_mode, card.threshold)[0].cpu().numpy()
    if card.preparation.field_of_view == "found":
        planes &= find_field_of_view(image).astype(bool)
    return planes


def find_pictures(images: Path) -> list[Path]:
    """The picture files in a folder, or the one file. Raises InputError when there is none."""
    if images.is_file():
        return [images]
    if not images.is_dir():
        raise InputError(f"images {str(images)!r} do not exist: name a picture or a folder of pictures.")
    pictures = list_pictures(images)
    if not pictures:
        raise InputError(f"images {str(images)!r} hold no picture: name a folder of PNG, JPEG, TIFF, BMP or PPM files.")
    stems = [picture_stem(path) for path in pictures]
    for stem in stems:
        if stems.count(stem) > 1:
            raise InputError(f"images {str(images)!r} hold two pictures called {stem!r}: rename one of them.")
    return pictures


def write_masks(folder: Path, name: str, planes: Planes, card: ModelCard) -> None:
    """Writes the masks of one picture, in a layout that `--data` reads again.

    One class: 0 and 255. "multiclass": one palette PNG of class indices, 0 the background. Several "multilabel"
    classes: a folder each.
    """
    if card.label_mode == MULTICLASS:
        index = (planes * np.arange(1, len(planes) + 1)[:, None, None]).sum(axis=0).astype(np.uint8)
        mask = Image.fromarray(index, mode="P")
        mask.putpalette([0, 0, 0, *(value for place in range(len(planes)) for value in class_color(place))])
        _save(mask, folder / f"{name}.png")
        return
    for class_name, plane in zip(card.class_names, planes, strict=True):
        inside = folder if len(planes) == 1 else folder / class_name
        _save(Image.fromarray(plane.astype(np.uint8) * 255), inside / f"{name}.png")


def predict_pictures(
    model: Path, pictures: list[Path], output: Path, device: torch.device
) -> Iterator[tuple[str, dict[str, float]]]:
    """Writes `output/masks` and `output/overlays` for every picture.

    Yields each picture's name and, for each class, the share (0..1) of its pixels. Every picture is decoded once before
    the first mask is written, so that a damaged one is found in time: InputError.
    """
    network, card = load_model(model, device)
    for path in pictures:
        read_color(path)
    for path in pictures:
        image, name = read_color(path), picture_stem(path)
        planes = predict_planes(network, card, image, device)
        write_masks(output / "masks", name, planes, card)
        _save(Image.fromarray(draw_overlay(image, planes)), output / "overlays" / f"{name}.png")
        yield name, dict(zip(card.class_names, planes.mean(axis=(1, 2)).tolist(), strict=True))


def main(
    model: Annotated[Path, "model folder, such as runs/NAME/best"],
    images: Annotated[Path, "a picture, or a folder of pictures of any size"],
    *,
    output: Annotated[Path, "folder for masks/ and overlays/"] = Path("predictions"),
    device: Annotated[str, "auto, cpu, cuda, cuda:N or mps"] = "auto",
) -> int:
    """Write masks and overlays for new pictures with a trained model."""
    chosen, pictures = choose_device(device), find_pictures(images)
    try:
        for number, (name, shares) in enumerate(predict_pictures(model, pictures, output, chosen), start=1):
            found = ", ".join(f"{label} {share:.1%}" for label, share in shares.items())
            print(f"{number}/{len(pictures)}  {name}: {found} of the picture", flush=True)
    except OSError as error:
        raise InputError(f"output {str(output)!r} cannot be written ({error}): choose another --output.") from error
    legend = ", ".join(f"{label} {color_name(index)}" for index, label in enumerate(shares))
    print(f"\nmasks:    {output / 'masks'}\noverlays: {output / 'overlays'} ({legend})")
    return 0


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


if __name__ == "__main__":
    sys.exit(run_command(main))
