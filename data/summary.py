"""Says in numbers what a data set holds: pictures, sizes, classes and their shares, in all and in each part."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from data.printable import printable
from data.segmentation_data import PARTS, Part, SegmentationData, Split


@dataclass(frozen=True, kw_only=True)
class ClassSummary:
    """One class: its share of the pixels that count (0..1) and how many images hold it, in all and in each part."""

    name: str
    pixel_share: float
    images: int
    share_in: dict[Part, float]
    images_in: dict[Part, int]


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """What a data set holds, counted after its preparation.

    sizes: (height, width) in the files -> how many pictures, the most frequent first.
    height, width, channels: of the prepared pictures.
    valid_share: pixels that count, 0..1.
    owner_parts: part -> how many pictures its owner put there.
    split: part -> how many pictures of it take part in a training; of the first fold, if there are several.
    folds: in how many ways the pictures are split.
    empty: names of the pictures in which no pixel belongs to any class.
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
    folds: int
    classes: tuple[ClassSummary, ...]
    empty: tuple[str, ...]


def summarize(data: SegmentationData, splits: tuple[Split, ...]) -> DataSummary:
    """Counts what there is, and what the first of the splits puts into each part. No pixel is read."""
    counted, split = data.statistics, splits[0]
    held = counted.class_pixels > 0
    indices = split.parts

    def share(images: tuple[int, ...], index: int) -> float:
        members = list(images)
        return float(counted.class_pixels[members, index].sum() / max(1, int(counted.valid_pixels[members].sum())))

    classes = tuple(
        ClassSummary(
            name=name,
            pixel_share=share(tuple(range(len(data.names))), index),
            images=int(held[:, index].sum()),
            share_in={part: share(images, index) for part, images in indices.items()},
            images_in={part: int(held[list(images), index].sum()) for part, images in indices.items()},
        )
        for index, name in enumerate(data.class_names)
    )
    return DataSummary(
        source=data.source,
        fingerprint=data.fingerprint,
        label_mode=data.label_mode,
        images=len(data.names),
        sizes=dict(Counter(data.sizes).most_common()),
        height=data.images.shape[1],
        width=data.images.shape[2],
        channels=data.channels,
        valid_share=float(counted.valid_pixels.sum()) / int(np.prod(data.valid.shape)),
        groups=len(set(data.groups) - {None}),
        owner_parts={part: data.parts.count(part) for part in PARTS if part in data.parts},
        split={part: len(images) for part, images in indices.items()},
        folds=len(splits),
        classes=classes,
        empty=tuple(name for name, holds in zip(data.names, held, strict=True) if not holds.any()),
    )


def list_facts(summary: DataSummary) -> list[tuple[str, str]]:
    """The facts about the whole set, for people: name, value."""
    sizes = [f"{width} x {height}" for height, width in summary.sizes]
    heights, widths = zip(*summary.sizes, strict=True)
    several = f"{len(sizes)} sizes, {min(widths)} to {max(widths)} wide, {min(heights)} to {max(heights)} high"
    split = ", ".join(f"{part} {images}" for part, images in summary.split.items())
    owner = ", ".join(f"{part} {images}" for part, images in summary.owner_parts.items()) or "none"
    return [
        ("data", printable(summary.source)),
        ("images", f"{summary.images}" + (f" in {summary.groups} groups" if summary.groups else "")),
        ("in files", sizes[0] if len(sizes) == 1 else several),
        ("prepared", f"{summary.width} x {summary.height}, {summary.channels} channel(s)"),
        ("counting", f"{summary.valid_share:.1%} of the pixels"),
        ("masks", f"{summary.label_mode}, {len(summary.classes)} class(es), {len(summary.empty)} empty"),
        ("owner parts", owner),
        ("split", split if summary.folds == 1 else f"{summary.folds} folds, the first: {split}"),
        ("fingerprint", summary.fingerprint),
    ]


def list_classes(summary: DataSummary) -> list[tuple[str, ...]]:
    """A header and a row a class, for people: share of the pixels and images that hold it, in all and by part."""
    parts = [part for part in PARTS if summary.split[part]]
    header = ("class", "all", *parts)
    rows = [
        (
            printable(one.name),
            f"{write_share(one.pixel_share)} in {one.images}",
            *(f"{write_share(one.share_in[part])} in {one.images_in[part]}" for part in parts),
        )
        for one in summary.classes
    ]
    return [header, *rows]


def write_share(share: float) -> str:
    """A share in percent with three figures that mean something, so that rare classes do not read 0."""
    return f"{share:.3%}" if share < 0.01 else f"{share:.1%}"
