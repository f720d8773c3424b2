"""The data doctor: `python -m data.inspect DATA` says what there is, and what may go wrong with it."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from data.command_line import run_command
from data.readers import load
from data.segmentation_data import Part, Preparation, SegmentationData, Split
from data.split import split_data

PARTS: tuple[Part, ...] = ("train", "validation", "test")

# Below this share of the pixels, a class is likely to be overlooked by a training that does not weigh it.
FEW = 3  # images, by which no choice is sure
_RARE = 0.001
_NAMES_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class ClassSummary:
    """One class: its share of the pixels that count (0..1), and how many images hold it, in all and in each part."""

    name: str
    pixel_share: float
    images: int
    images_in: dict[Part, int]


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """What a data set holds, counted after its preparation.

    sizes: (height, width) in the files -> how many pictures, the most frequent first.
    height, width, channels: of the prepared pictures.
    valid_share: pixels that count, 0..1.
    owner_parts: part -> how many pictures its owner put there.
    split: part -> how many pictures of it take part in a training.
    empty: names of the pictures in which no pixel belongs to any class.
    warnings: what may go wrong, a sentence each.
    """

    source: str
    fingerprint: str
    label_mode: str
    images: int
    sizes: dict[tuple[int, int], int]
    height: int
    width: int
    channels: int
    valid_share: float
    groups: int
    owner_parts: dict[Part, int]
    split: dict[Part, int]
    classes: tuple[ClassSummary, ...]
    empty: tuple[str, ...]
    warnings: tuple[str, ...]


def summarize(data: SegmentationData, split: Split) -> DataSummary:
    """Counts what there is, for people and for a run's records. Nothing is changed and nothing is read."""
    shares, held = _count_pixels(data)
    indices: dict[Part, tuple[int, ...]] = {"train": split.train, "validation": split.validation, "test": split.test}
    classes = tuple(
        ClassSummary(
            name=name,
            pixel_share=float(shares[index]),
            images=int(held[:, index].sum()),
            images_in={part: int(held[list(images), index].sum()) for part, images in indices.items()},
        )
        for index, name in enumerate(data.class_names)
    )
    empty = tuple(name for name, holds in zip(data.names, held, strict=True) if not holds.any())
    counts = {part: len(images) for part, images in indices.items()}
    return DataSummary(
        source=data.source,
        fingerprint=data.fingerprint,
        label_mode=data.label_mode,
        images=len(data.names),
        sizes=dict(Counter(data.sizes).most_common()),
        height=data.images.shape[1],
        width=data.images.shape[2],
        channels=data.channels,
        valid_share=float(data.valid.mean()),
        groups=len(set(data.groups) - {None}),
        owner_parts={part: data.parts.count(part) for part in PARTS if part in data.parts},
        split=counts,
        classes=classes,
        empty=empty,
        warnings=tuple(_find_faults(classes, counts, empty)),
    )


def _count_pixels(data: SegmentationData) -> tuple[np.ndarray, np.ndarray]:
    """Each class's share of the pixels that count (K,), and which image holds which class (N, K)."""
    # Image by image: the planes of all images at once would be one more copy of the data.
    counts = np.array(
        [(planes & valid).sum(axis=(1, 2)) for planes, valid in zip(data.masks, data.valid, strict=True)]
    )  # (N, K)
    return counts.sum(axis=0) / max(1, int(data.valid.sum(dtype=np.int64))), counts > 0


def _find_faults(classes: Sequence[ClassSummary], split: dict[Part, int], empty: Sequence[str]) -> list[str]:
    """What may go wrong, as sentences that say what to do."""
    faults = []
    for one in classes:
        missing = [part for part, images in split.items() if images and not one.images_in[part]]
        if missing:
            faults.append(
                f"class {one.name!r} has no pixel in {' and '.join(missing)} ({one.images} image(s) hold it in all): "
                "its score there means nothing; add images of it."
            )
        if one.pixel_share < _RARE:
            faults.append(
                f"class {one.name!r} covers only {one.pixel_share:.4%} of the pixels: weigh it (class_weight above 0) "
                "or train on smaller crops."
            )
    if split["validation"] < FEW:
        faults.append(f"only {split['validation']} image(s) to choose by: val_dice will be rough; add images.")
    if empty:
        shown = ", ".join(empty[:_NAMES_SHOWN]) + (", ..." if len(empty) > _NAMES_SHOWN else "")
        faults.append(f"{len(empty)} image(s) hold no class at all ({shown}): fine if they are meant to be empty.")
    return faults


def main(
    data: Annotated[str, "name of a data set, or folder of images/ and masks/"],
    *,
    data_root: Annotated[Path | None, "folder that holds the named data sets"] = None,
    preparation: Preparation,
) -> None:
    """Says what a data set holds: pictures, sizes, classes, their shares, the split, and what may go wrong."""
    loaded = load(data, root=data_root, preparation=preparation)
    print_summary(summarize(loaded, split_data(loaded)))


def print_summary(summary: DataSummary) -> None:
    """Prints the summary: tables in a terminal, plain aligned lines in a pipe or a log."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    facts, (header, *rows) = _facts(summary), _class_table(summary)
    if console.is_terminal:
        grid = Table.grid(padding=(0, 2))
        for name, value in facts:
            grid.add_row(Text(name, style="bold"), Text(value))
        table = Table()
        for place, column in enumerate(header):
            table.add_column(column, justify="left" if place == 0 else "right")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(grid)
        console.print(table)
        for warning in summary.warnings:
            console.print(Text(f"warning: {warning}", style="yellow"))
        return
    for name, value in facts:
        print(f"{name:<12} {value}")
    widths = [max(len(row[place]) for row in (header, *rows)) for place in range(len(header))]
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells))
    for warning in summary.warnings:
        print(f"warning: {warning}")


def _facts(summary: DataSummary) -> list[tuple[str, str]]:
    """The facts about the whole set: name, value."""
    sizes = [f"{width} x {height}" for height, width in summary.sizes]
    heights, widths = zip(*summary.sizes, strict=True)
    several = f"{len(sizes)} sizes, {min(widths)} to {max(widths)} wide, {min(heights)} to {max(heights)} high"
    split = ", ".join(f"{part} {images}" for part, images in summary.split.items())
    owner = ", ".join(f"{part} {images}" for part, images in summary.owner_parts.items()) or "none"
    return [
        ("data", summary.source),
        ("images", f"{summary.images}" + (f" in {summary.groups} groups" if summary.groups else "")),
        ("in files", sizes[0] if len(sizes) == 1 else several),
        ("prepared", f"{summary.width} x {summary.height}, {summary.channels} channel(s)"),
        ("counting", f"{summary.valid_share:.1%} of the pixels"),
        ("masks", f"{summary.label_mode}, {len(summary.classes)} class(es), {len(summary.empty)} empty"),
        ("owner parts", owner),
        ("split", split),
        ("fingerprint", summary.fingerprint),
    ]


def _class_table(summary: DataSummary) -> list[tuple[str, ...]]:
    """A header and a row a class: its share of the pixels and the images that hold it."""
    header = ("class", "pixels", "images", *(f"in {part}" for part in PARTS))
    rows = [
        (one.name, f"{one.pixel_share:.2%}", str(one.images), *(str(one.images_in[part]) for part in PARTS))
        for one in summary.classes
    ]
    return [header, *rows]


if __name__ == "__main__":
    sys.exit(run_command(main))
