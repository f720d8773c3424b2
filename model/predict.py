"""Masks and overlays for new pictures: `python -m model.predict MODEL IMAGES`."""

import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import torch

from data.command_line import run_command
from data.input_error import InputError
from data.overlay import color_name
from data.pictures import list_pictures, picture_stem, read_color
from data.printable import printable
from model.device import choose_device
from model.ensemble import Model
from model.prediction import PredictionSettings, load_models, predict_picture
from model.prediction_files import AREAS, MASKS, OVERLAYS, PROBABILITIES, UNCERTAINTY, Areas, write_prediction

LINES = 20  # in which a long list of pictures is summed up; areas.csv has them all


def find_pictures(images: Path) -> list[Path]:
    """The picture files in a folder, or the one file. Raises InputError when there is none."""
    if images.is_file():
        return [images]
    if not images.is_dir():
        raise InputError(f"images {str(images)!r} do not exist: name a picture or a folder of pictures.")
    pictures = list_pictures(images)
    if not pictures:
        raise InputError(f"images {str(images)!r} hold no picture: name a folder of PNG, JPEG, TIFF, BMP or PPM files.")
    seen: set[str] = set()
    for stem in map(picture_stem, pictures):
        if stem in seen:
            raise InputError(f"images {str(images)!r} hold two pictures called {stem!r}: rename one of them.")
        seen.add(stem)
    return pictures


def predict_pictures(
    models: Sequence[Model],
    pictures: Sequence[Path],
    output: Path,
    settings: PredictionSettings,
    device: torch.device,
    *,
    probabilities: bool = False,
) -> Iterator[Areas]:
    """Writes what the models find in each picture into `output`, and yields its areas once its files are there.

    probabilities: whether to write these too. Pictures are put into their places as a whole and areas.csv grows by
    whole lines, so that whoever stops this finds no half of a file. Raises InputError for a damaged picture.
    """
    card = models[0].card
    with ExitStack() as stack:
        table: csv.DictWriter[str] | None = None
        for path in pictures:
            image, name = read_color(path), picture_stem(path)
            prediction = predict_picture(models, image, settings, device)
            write_prediction(output, name, image, prediction, card, probabilities=probabilities)
            areas = Areas.of(name, prediction, card.class_names)
            row = areas.as_row()
            if table is None:
                file = stack.enter_context((output / AREAS).open("w", buffering=1, newline="", encoding="utf-8"))
                table = csv.DictWriter(file, list(row), lineterminator="\n")
                table.writeheader()
            table.writerow(row)
            yield areas


def main(
    model: Annotated[Path, "model folder, or an ensemble's, such as runs/NAME/best"],
    images: Annotated[Path, "a picture, or a folder of pictures of any size"],
    *,
    output: Annotated[Path, "folder for masks/, overlays/ and areas.csv"] = Path("predictions"),
    device: Annotated[str, "auto, cpu, cuda, cuda:N or mps"] = "auto",
    also: Annotated[tuple[Path, ...], "another model of the same classes to average with; can be repeated"] = (),
    probabilities: Annotated[bool, "write each class's probabilities to probabilities/ as 16-bit PNGs"] = False,
    settings: PredictionSettings,
) -> int:
    """Write masks and overlays for new pictures with a trained model, or with several."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    chosen, pictures = choose_device(device), find_pictures(images)
    models = load_models([model, *also], settings, chosen)
    what = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), what)
    console = Console()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("looking through the pictures", total=len(pictures))
        # Every picture is decoded once before the first mask is written, so that a damaged one is found in time.
        for path in pictures:
            read_color(path)
            bar.advance(task)
        bar.reset(task)
        try:
            every = -(-len(pictures) // LINES)
            found = predict_pictures(models, pictures, output, settings, chosen, probabilities=probabilities)
            for number, areas in enumerate(found, start=1):
                if number % every == 0 or number == len(pictures):
                    print(f"{number}/{len(pictures)}  {printable(areas.name)}: {_in_words(areas)}", flush=True)
                bar.update(task, advance=1, description=printable(areas.name))
        except OSError as error:
            raise InputError(f"output {str(output)!r} cannot be written ({error}): choose another --output.") from error
    _print_places(
        output, models[0].card.class_names, probabilities=probabilities, uncertainty=bool(settings.uncertainty)
    )
    return 0


def _print_places(output: Path, class_names: Sequence[str], *, probabilities: bool, uncertainty: bool) -> None:
    """Says where everything is, and which colour is which class."""
    legend = ", ".join(f"{label} {color_name(index)}" for index, label in enumerate(class_names))
    print(f"\nmasks:         {output / MASKS}\noverlays:      {output / OVERLAYS} ({legend})")
    if probabilities:
        print(f"probabilities: {output / PROBABILITIES}")
    if uncertainty:
        print(f"uncertainty:   {output / UNCERTAINTY}")
    print(f"areas:         {output / AREAS}")


def _in_words(areas: Areas) -> str:
    shares = (f"{label} {share:.1%}" for label, share in zip(areas.class_names, areas.shares, strict=True))
    return f"{', '.join(shares)} of the picture"


if __name__ == "__main__":
    sys.exit(run_command(main))
