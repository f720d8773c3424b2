"""Writes what was found in a picture: masks, an overlay, maps of probability and of uncertainty, a row of areas."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from data.overlay import class_color, draw_overlay
from data.replacing import replacing
from data.segmentation_data import MULTICLASS, UInt8
from data.spreadsheet import defused
from model.checkpoint import ModelCard
from model.prediction import Planes, Prediction

MASKS, OVERLAYS, PROBABILITIES, UNCERTAINTY, AREAS = "masks", "overlays", "probabilities", "uncertainty", "areas.csv"

WHITE = 65535  # in a map of 16 bits: a probability, or a deviation, of 1


@dataclass(frozen=True, kw_only=True)
class Areas:
    """How much of each class was found in one picture: a row of areas.csv.

    width, height, pixels: in pixels of the picture; pixels and deviations one a class. deviations: the mean over the
    picture of the standard deviation over passes with dropout; None where there were no passes.
    """

    name: str
    width: int
    height: int
    class_names: tuple[str, ...]
    pixels: tuple[int, ...]
    deviations: tuple[float, ...] | None

    @classmethod
    def of(cls, name: str, prediction: Prediction, class_names: tuple[str, ...]) -> "Areas":
        """What the prediction for the picture of this name comes to."""
        height, width = prediction.planes.shape[1:]
        deviation = prediction.deviation
        return cls(
            name=name,
            width=width,
            height=height,
            class_names=class_names,
            pixels=tuple(int(plane.sum()) for plane in prediction.planes),
            deviations=None if deviation is None else tuple(float(plane.mean()) for plane in deviation),
        )

    @property
    def shares(self) -> tuple[float, ...]:
        """Each class's share (0..1) of the picture."""
        return tuple(count / (self.width * self.height) for count in self.pixels)

    def as_row(self) -> dict[str, str | int]:
        """The row: column -> value."""
        row: dict[str, str | int] = {"name": defused(self.name), "width": self.width, "height": self.height}
        for index, label in enumerate(map(defused, self.class_names)):
            row |= {f"{label}_pixels": self.pixels[index], f"{label}_share": f"{self.shares[index]:.6g}"}
            if self.deviations is not None:
                row[f"{label}_uncertainty"] = f"{self.deviations[index]:.6g}"
        return row


def write_prediction(
    output: Path, name: str, image: UInt8, prediction: Prediction, card: ModelCard, *, probabilities: bool
) -> None:
    """Writes all pictures that show what was found in `image` (H, W, 3), each into its folder under `output`.

    Its masks and overlay always, `probabilities` where wanted, the deviation where the prediction has one.
    """
    write_masks(output / MASKS, name, prediction.planes, card)
    _save(Image.fromarray(draw_overlay(image, prediction.planes)), output / OVERLAYS / f"{name}.png")
    if probabilities:
        write_maps(output / PROBABILITIES, name, prediction.probabilities, card)
    if prediction.deviation is not None:
        write_maps(output / UNCERTAINTY, name, prediction.deviation, card)


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
    for path, plane in zip(_paths(folder, name, card), planes, strict=True):
        _save(Image.fromarray(plane.astype(np.uint8) * 255), path)


def write_maps(folder: Path, name: str, maps: npt.NDArray[np.float32], card: ModelCard) -> None:
    """Writes maps (K, H, W) of 0..1 as grey PNGs of 16 bits, 65535 for 1; of several classes in a folder each."""
    for path, plane in zip(_paths(folder, name, card), maps, strict=True):
        _save(Image.fromarray(np.rint(plane * WHITE).clip(0, WHITE).astype(np.uint16)), path)


def _paths(folder: Path, name: str, card: ModelCard) -> list[Path]:
    """The file of each class: in a folder of its own where there are several."""
    if len(card.class_names) == 1:
        return [folder / f"{name}.png"]
    return [folder / class_name / f"{name}.png" for class_name in card.class_names]


def _save(picture: Image.Image, path: Path) -> None:
    """Writes a PNG that is replaced as a whole; what was begun goes away when it cannot be finished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as waiting:
        try:
            picture.save(waiting, format="PNG")
        except BaseException:
            waiting.unlink(missing_ok=True)
            raise
