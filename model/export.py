"""A trained model for use elsewhere: `python -m model.export MODEL`."""

import copy
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import torch
import yaml
from torch import Tensor

from data.command_line import run_command
from data.fit import fit_image
from data.input_error import InputError
from data.pictures import read_color
from data.replacing import write_text
from data.segmentation_data import MULTICLASS, Preparation, UInt8
from data.synthetic import draw_retina
from model.checkpoint import ModelCard
from model.ensemble import Model, open_models, weighted_mean
from model.losses import class_probabilities
from model.portable import FORMATS, INPUT, OUTPUT, Run, portable, trace
from model.predict import find_pictures

DESCRIPTION = "model.yaml"
LIMIT = 1e-4  # of the difference to the original: more cannot come from rounding
MOST_PICTURES = 10  # to check with
CHECKED_SIDE = 1024  # pixels: of a larger picture the upper left is compared, for in one piece it might not fit memory


def export_model(
    models: Sequence[Model], output: Path, formats: Sequence[str], images: Iterable[UInt8]
) -> dict[str, float]:
    """Writes one model, or the mean of several, in these formats, and model.yaml, which says how to use them.

    models: whose weights come to 1, for pictures of one preparation, with the same thresholds. images: RGB pictures
    (H, W, 3) with which each file is opened again and compared to the networks. Returns the largest difference of a
    probability for each file's name. One for which that is above `LIMIT`, or no number, is not kept. The files of an
    export before this one go: they may be another model's. They stay where this one raises an error.
    """
    card = models[0].card
    pictures = [_prepared(image, card.preparation) for image in images]
    output.mkdir(parents=True, exist_ok=True)
    program = trace(portable(models), card.channels)
    differences = {}
    with TemporaryDirectory(prefix=".", suffix=".part", dir=output) as holder:
        for chosen in map(FORMATS.__getitem__, formats):
            waiting = Path(holder) / chosen.file
            chosen.write(program, waiting)
            differences[chosen.file] = largest_difference(chosen.open(waiting), models, pictures)
        kept = {file: difference for file, difference in differences.items() if difference <= LIMIT}
        described = yaml.safe_dump(describe(card, kept), sort_keys=False, allow_unicode=True)
        write_text(Path(holder) / DESCRIPTION, described)
        for file in (DESCRIPTION, *(known.file for known in FORMATS.values())):
            (output / file).unlink(missing_ok=True)
        for file in (*kept, DESCRIPTION) if kept else ():
            (Path(holder) / file).replace(output / file)
    return differences


@torch.inference_mode()
def largest_difference(run: Run, models: Sequence[Model], pictures: Sequence[Tensor]) -> float:
    """The largest difference between a file's and the models' mean probabilities over pictures (1, C, H, W), or NaN.

    The networks answer in double precision: where every channel is normalised by itself, its own rounding in single
    precision (up to 5e-4, in channels_last memory on a CPU) would else be put down to the file.
    """
    exact = [model._replace(network=copy.deepcopy(model.network).double()) for model in models]
    differences = []
    for picture in pictures:
        found = (class_probabilities(network(picture.double()), card.label_mode) for network, card, _ in exact)
        mean = weighted_mean(found, [model.weight for model in exact])
        differences.append((run(picture) - mean).abs().max())
    return float(torch.stack(differences).max())


def describe(card: ModelCard, differences: dict[str, float]) -> dict[str, Any]:
    """What somebody who has only the files must know, as plain values."""
    decision = (
        "the class of the highest probability, or the background where what is missing to 1 is higher"
        if card.label_mode == MULTICLASS
        else "each class where its probability reaches its threshold"
    )
    return {
        "classes": list(card.class_names),
        "label_mode": card.label_mode,
        "decision": decision,
        **(
            {}
            if card.label_mode == MULTICLASS
            else {"thresholds": dict(zip(card.class_names, card.thresholds, strict=True))}
        ),
        "preparation": asdict(card.preparation),
        "input": {
            "name": INPUT,
            "type": "float32",
            "shape": ["N", card.channels, "H", "W"],
            "values": f"0..255, {'red, green, blue' if card.channels == 3 else 'one colour'}, prepared as said above",
        },
        "output": {
            "name": OUTPUT,
            "type": "float32",
            "shape": ["N", len(card.class_names), "H", "W"],
            "values": "0..1",
        },
        "largest_difference": differences,
    }


def synthetic_pictures() -> list[UInt8]:
    """Two synthetic retinas (H, W, 3) of odd sizes."""
    first = draw_retina(seed=1, size=147, red=True, bright=True).image
    second = draw_retina(seed=2, size=101, red=False, bright=False).image
    return [first[20:85], second[:, :83]]


def require_packages(formats: Sequence[str]) -> None:
    """Raises InputError where something is not installed that a format needs."""
    for name in formats:
        missing = [package for package in FORMATS[name].packages if find_spec(package) is None]
        if missing:
            raise InputError(
                f"format {name!r} needs {', '.join(missing)}, which is not installed: "
                "pip install 'unet-search[export]', or use --format torch_export."
            )


def open_for_export(folder: Path) -> list[Model]:
    """The model of a folder, or all members of an ensemble's.

    Raises InputError where the folder holds neither, and for members whose pictures are not prepared alike: one file
    takes one picture.
    """
    models = open_models(folder)
    first = models[0].card
    if any((card.preparation, card.channels) != (first.preparation, first.channels) for _, card, _ in models):
        raise InputError(
            f"ensemble {str(folder)!r} has members whose pictures are prepared differently, which no one file can "
            "do: export its members one by one."
        )
    return models


def main(
    model: Annotated[Path, "model folder, such as runs/NAME/best"],
    *,
    output: Annotated[Path, "folder for the files"] = Path("exported"),
    format: Annotated[Literal["onnx", "torch_export", "both"], "which files to write"] = "both",  # noqa: A002
    images: Annotated[Path | None, "picture, or folder of them, to check with; else two synthetic retinas"] = None,
) -> int:
    """Write a trained model as ONNX and torch.export, and check that they find the same as the original."""
    formats = tuple(FORMATS) if format == "both" else (format,)
    require_packages(formats)
    models = open_for_export(model)
    if images is None:
        drawn = synthetic_pictures()
        count, pictures = len(drawn), iter(drawn)
    else:
        paths = find_pictures(images)[:MOST_PICTURES]
        count, pictures = len(paths), map(read_color, paths)
    try:
        differences = export_model(models, output, formats, pictures)
    except OSError as error:
        raise InputError(f"output {str(output)!r} cannot be written ({error}): choose another --output.") from error
    code = 0
    for file, difference in differences.items():
        if difference <= LIMIT:
            print(f"{output / file}: largest difference {difference:.1e} on {count} pictures")
        else:
            print(
                f"error: {file} differs from the original by {difference:.1e}, more than {LIMIT:g}: it was not kept.",
                file=sys.stderr,
            )
            code = 1
    if code == 0:
        print(f"{output / DESCRIPTION}: classes, thresholds, preparation, input and output")
    return code


def _prepared(image: UInt8, preparation: Preparation) -> Tensor:
    """What is compared of a picture (H, W, 3), as the network sees it: float (1, C, h, w) in 0..255."""
    compared = fit_image(image, preparation)[:CHECKED_SIDE, :CHECKED_SIDE]  # (h, w, C)
    return torch.from_numpy(compared.transpose(2, 0, 1)[None].copy()).float()


if __name__ == "__main__":
    sys.exit(run_command(main))
