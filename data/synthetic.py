"""Draws retina photographs with their masks: data to try everything on without a download, the same for each seed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from data.catalogue import Catalogue, Contents, Pixels, Sample
from data.segmentation_data import MULTILABEL, Part, UInt8

Field = npt.NDArray[np.float32]  # (H, W), a quantity in every pixel
Light = npt.NDArray[np.float32]  # (H, W, 3), red, green and blue light, 0..1
Point = npt.NDArray[np.float64]  # (2,), x and y from -1 to 1

LESION_CLASSES = ("vessel", "disc", "red_lesion", "bright_lesion")

# Shapes are drawn this many times larger and averaged down, for smooth edges.
_OVERSAMPLING = 4
# How much of the light in red, green and blue is lost in blood: green is why vessels show at all.
_BLOOD = np.array([0.34, 0.66, 0.55], np.float32)
# Of validation, and of test.
_HELD_OUT_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class Retina:
    """One drawn photograph. All fields of a class are uint8 (H, W), 0 or 1.

    image: uint8 (H, W, 3), RGB.
    valid: the round field of view.
    """

    image: UInt8
    vessel: UInt8
    disc: UInt8
    red_lesion: UInt8
    bright_lesion: UInt8
    valid: UInt8


def read_synthetic(*, lesions: bool, count: int = 24, size: int = 160, seed: int = 0) -> Catalogue:
    """A catalogue of drawn retinas, already in parts (about 60, 20 and 20 percent).

    lesions: all of `LESION_CLASSES`, or only the vessels (the lesions are in the pictures all the same).
    count: pictures, 6 or more, so that every class stands in every part.
    size: height and width in pixels.
    """
    assert count >= 6, "fewer pictures leave a part without a class"
    held_out = max(2, round(count * _HELD_OUT_SHARE))
    sizes: dict[Part, int] = {"train": count - 2 * held_out, "validation": held_out, "test": held_out}
    parts = [part for part, number in sizes.items() for _ in range(number)]
    samples = tuple(Sample(name=f"retina_{index + 1:03}", part=part) for index, part in enumerate(parts))
    class_names = LESION_CLASSES if lesions else LESION_CLASSES[:1]
    places = {sample.name: index for index, sample in enumerate(samples)}

    def read(sample: Sample) -> Pixels:
        index = places[sample.name]
        retina = draw_retina(seed=(seed, index), size=size, red=index % 2 == 0, bright=index % 3 != 1)
        planes = np.stack([getattr(retina, name) for name in class_names]) * np.uint8(255)  # (K, H, W)
        return Pixels(image=retina.image, planes=planes, valid=retina.valid)

    return Catalogue(
        source="synthetic-lesions" if lesions else "synthetic",
        samples=samples,
        open=partial(Contents, class_names=class_names, label_mode=MULTILABEL, read=read, size=lambda _: (size, size)),
    )


def draw_retina(*, seed: int | tuple[int, ...], size: int, red: bool, bright: bool) -> Retina:
    """One retina of `size` x `size` pixels; `red` and `bright` say whether it has such lesions."""
    draw = np.random.default_rng(seed)
    side = draw.choice([-1, 1])  # of the macula: left or right of the disc
    disc = np.array([-side * draw.uniform(0.36, 0.62), draw.uniform(-0.14, 0.14)])
    macula = disc + np.array([side * draw.uniform(0.56, 0.68), draw.uniform(0.02, 0.12)])
    radius = draw.uniform(0.93, 1.02)
    valid = _field_of_view(draw, size, radius)

    light = _background(draw, size, disc, macula, radius)
    disc_cover = _draw_disc(draw, size, light, disc)
    vessel_cover, vessel_depth = _draw_vessels(draw, size, disc, macula)
    red_cover, bright_cover = np.zeros((2, size, size), np.float32)
    if red:
        red_cover = _red_lesions(draw, size, macula) * (1 - disc_cover)
    if bright:
        bright_cover = _bright_lesions(draw, size, macula)
        bright_cover *= (1 - vessel_cover * 0.8) * (1 - disc_cover)
        color = np.array([1.0, 0.86, 0.46], np.float32) * draw.uniform(0.72, 0.95)
        light += (bright_cover * draw.uniform(0.55, 0.85))[..., None] * np.maximum(color - light, 0)
    light *= 1 - np.maximum(vessel_depth, red_cover * draw.uniform(0.65, 0.95))[..., None] * _BLOOD

    return Retina(
        image=_photograph(draw, light, valid),
        vessel=_mask(vessel_cover, valid),
        disc=_mask(disc_cover, valid),
        red_lesion=_mask(red_cover * (1 - vessel_cover), valid),
        bright_lesion=_mask(bright_cover, valid),
        valid=valid,
    )


def _mask(cover: Field, valid: UInt8) -> UInt8:
    """The pixels of the field of view that a shape covers by half or more."""
    return (cover >= 0.5).astype(np.uint8) * valid


def _grid(size: int) -> tuple[Field, Field]:
    """x and y of the pixels' centres, from -1 to 1."""
    line: Field = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
    x, y = np.meshgrid(line, line)
    return x, y


def _smooth_noise(draw: np.random.Generator, size: int, cells: int) -> Field:
    """Noise of mean 0 and deviation 1 whose bumps are `size / cells` pixels wide."""
    coarse = Image.fromarray(draw.standard_normal((cells + 3, cells + 3)).astype(np.float32))
    noise = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    return np.asarray((noise - noise.mean()) / noise.std(), np.float32)


def _field_of_view(draw: np.random.Generator, size: int, radius: float) -> UInt8:
    """A disc, cut off flat above and below in some cameras."""
    x, y = _grid(size)
    inside = np.hypot(x, y) < radius * 0.97
    if draw.random() < 0.4:
        inside &= np.abs(y) < radius * draw.uniform(0.82, 0.92)
    return inside.astype(np.uint8)


def _background(draw: np.random.Generator, size: int, disc: Point, macula: Point, radius: float) -> Light:
    """The fundus without vessels, (H, W, 3), 0..1: its own colour, unevenly lit, darker in the macula and outwards."""
    x, y = _grid(size)
    color = np.array([draw.uniform(0.66, 0.92), draw.uniform(0.30, 0.47), draw.uniform(0.09, 0.24)], np.float32)
    lamp = draw.uniform(-0.35, 0.35, 2)
    shade = 1.08 - draw.uniform(0.22, 0.42) * np.hypot(x - lamp[0], y - lamp[1]) ** 2
    shade *= 1 - 0.25 * np.clip((np.hypot(x, y) / radius - 0.8) / 0.2, 0, 1) ** 2
    shade *= 1 + 0.06 * _smooth_noise(draw, size, 3) + 0.025 * _smooth_noise(draw, size, 14)
    from_macula = np.hypot(x - macula[0], y - macula[1])
    dark = draw.uniform(0.25, 0.45) * np.exp(-((from_macula / 0.2) ** 2))
    from_disc = np.hypot(x - disc[0], y - disc[1])
    glow = draw.uniform(0.05, 0.25) * np.exp(-((from_disc / 0.35) ** 2))
    light = color * shade[..., None]
    light[..., 1:] *= (1 + 0.09 * _smooth_noise(draw, size, 5))[..., None]
    light *= (1 - dark[..., None] * np.array([0.7, 1.0, 0.8], np.float32)) * (1 + glow[..., None])
    return np.asarray(light, np.float32)


def _draw_disc(draw: np.random.Generator, size: int, light: Light, disc: Point) -> Field:
    """Puts the optic disc with its paler cup into the light; returns its cover, 0..1."""
    x, y = _grid(size)
    width, height = draw.uniform(0.125, 0.155), draw.uniform(0.145, 0.18)
    angle = np.arctan2(y - disc[1], x - disc[0])
    wobble = 1 + 0.04 * np.sin(2 * angle + draw.uniform(0, 6)) + 0.03 * np.sin(3 * angle + draw.uniform(0, 6))
    distance = np.hypot((x - disc[0]) / width, (y - disc[1]) / height) / wobble
    cover: Field = np.clip((1 - distance) * 6 + 0.5, 0, 1).astype(np.float32)
    cup = np.exp(-((distance / draw.uniform(0.4, 0.6)) ** 2)) * draw.uniform(0.3, 0.8)
    rim = np.array([1.0, draw.uniform(0.68, 0.8), draw.uniform(0.36, 0.5)], np.float32)
    pale = np.array([1.0, 0.95, 0.8], np.float32)
    color = rim + cup[..., None] * (pale - rim)
    strength = (cover * draw.uniform(0.6, 0.9))[..., None]
    light += strength * (color * draw.uniform(0.85, 1.0) - light)
    return cover


@dataclass(frozen=True)
class _Stroke:
    """A short straight piece of a vessel: both ends in -1..1, its width in the same unit, its depth of colour 0..1."""

    start: tuple[float, float]
    end: tuple[float, float]
    width: float
    depth: float


def _draw_vessels(draw: np.random.Generator, size: int, disc: Point, macula: Point) -> tuple[Field, Field]:
    """The vessel tree: its cover 0..1, and how dark it is 0..1 (thin vessels are paler)."""
    scale = size * _OVERSAMPLING / 2
    cover = Image.new("L", (size * _OVERSAMPLING,) * 2)
    depth = Image.new("L", (size * _OVERSAMPLING,) * 2)
    pens = ImageDraw.Draw(cover), ImageDraw.Draw(depth)
    # Thin ones first, so that where two cross the wide one lies on top.
    for stroke in sorted(_grow_tree(draw, disc, macula), key=lambda stroke: stroke.width):
        ends = [((x + 1) * scale, (y + 1) * scale) for x, y in (stroke.start, stroke.end)]
        half = max(stroke.width * scale / 2, 0.5)
        for pen, ink in zip(pens, (255, round(stroke.depth * 255)), strict=True):
            pen.line(ends, fill=ink, width=max(1, round(2 * half)))
            (x, y) = ends[1]
            pen.ellipse((x - half, y - half, x + half, y + half), fill=ink)
    small = (size, size)
    # Pillow shrinks to bytes, which is exact enough for edges.
    shrunk = [np.asarray(picture.resize(small, Image.Resampling.BOX)) for picture in (cover, depth)]
    return shrunk[0].astype(np.float32) / np.float32(255), shrunk[1].astype(np.float32) / np.float32(255)


def _grow_tree(draw: np.random.Generator, disc: Point, macula: Point) -> Iterator[_Stroke]:
    """Strokes of four arcades out of the disc, each an artery and a vein, with their branches."""
    side = math.copysign(1.0, macula[0] - disc[0])
    pale = draw.uniform(0.75, 1.0)
    for vertical in (-1.0, 1.0):
        for towards_macula in (True, False):
            for vein in (True, False):
                horizontal = side if towards_macula else -side
                steep = draw.uniform(1.0, 1.35) if towards_macula else draw.uniform(0.5, 1.1)
                heading = math.atan2(vertical * math.sin(steep), horizontal * math.cos(steep))
                # The arcades bend round the macula; towards the nose they run nearly straight.
                bend = -vertical * horizontal * (draw.uniform(0.8, 1.25) if towards_macula else draw.uniform(-0.3, 0.5))
                width = draw.uniform(0.033, 0.042) if vein else draw.uniform(0.024, 0.031)
                depth = pale * (draw.uniform(0.75, 0.98) if vein else draw.uniform(0.56, 0.75))
                width *= 1.0 if towards_macula else 0.8
                start = (disc[0] + draw.uniform(-0.03, 0.03), disc[1] + draw.uniform(-0.03, 0.03))
                yield from _grow(draw, macula, start, heading, bend, width, depth, 0)


def _grow(
    draw: np.random.Generator,
    macula: Point,
    start: tuple[float, float],
    heading: float,
    bend: float,
    width: float,
    depth: float,
    order: int,
) -> Iterator[_Stroke]:
    """Strokes of one vessel with its branches, to where it is too thin, leaves the picture or meets the macula."""
    step = 0.035
    x, y = start
    wander = 0.0
    until_branch = draw.uniform(0.12, 0.3)
    length = draw.uniform(1.2, 1.9) if order == 0 else draw.uniform(0.3, 0.9) * (0.5 + width / 0.03)
    travelled = 0.0
    while travelled < length and width > 0.0085 and math.hypot(x, y) < 1.05:
        to_macula = macula[0] - x, macula[1] - y
        if (distance := math.hypot(*to_macula)) < 0.14:
            return
        if distance < 0.42:  # vessels go round the macula
            on_the_left = math.cos(heading) * to_macula[1] - math.sin(heading) * to_macula[0]
            heading -= math.copysign(0.3 * (1 - distance / 0.42), on_the_left)
        wander = 0.8 * wander + draw.normal(0, 0.055)
        heading += bend * step + wander
        end = (x + step * math.cos(heading), y + step * math.sin(heading))
        paleness = min(1.0, 0.55 + width / 0.036)
        yield _Stroke((x, y), end, width, depth * paleness)
        x, y = end
        travelled += step
        width *= 0.985
        until_branch -= step
        if until_branch <= 0 and order < 2:
            turn = draw.choice([-1, 1]) * draw.uniform(0.45, 1.05)
            child = width * draw.uniform(0.5, 0.8)
            back = bend * 0.3 - turn * draw.uniform(0.2, 0.9)
            yield from _grow(draw, macula, (x, y), heading + turn, back, child, depth * 0.95, order + 1)
            heading -= 0.15 * turn
            width *= 0.93
            until_branch = draw.uniform(0.14, 0.4)


def _blob(draw: np.random.Generator, size: int, center: Point, radius: float, rough: float, soft: float) -> Field:
    """The cover, 0..1, of an irregular spot: `radius` and `soft` (width of its edge) in the unit -1..1."""
    x, y = _grid(size)
    dx, dy = x - center[0], y - center[1]
    angle = np.arctan2(dy, dx)
    edge = np.ones_like(angle)
    for waves in (2, 3, 5):
        edge += rough / waves * draw.normal() * np.sin(waves * angle + draw.uniform(0, 6.3))
    cover: Field = np.clip((radius * edge - np.hypot(dx, dy)) / max(soft, 1.0 / size) + 0.5, 0, 1).astype(np.float32)
    return cover


def _red_lesions(draw: np.random.Generator, size: int, macula: Point) -> Field:
    """Microaneurysms (dots) and haemorrhages (blotches): their cover, 0..1."""
    cover = np.zeros((size, size), np.float32)
    for _ in range(draw.integers(3, 12)):
        center = macula + draw.normal(0, 0.4, 2)
        cover = np.maximum(cover, _blob(draw, size, center, draw.uniform(0.014, 0.026), 0.1, 0.012))
    for _ in range(draw.integers(1, 5)):
        center = macula + draw.normal(0, 0.42, 2)
        cover = np.maximum(cover, _blob(draw, size, center, draw.uniform(0.035, 0.09), 0.5, 0.02))
    return cover


def _bright_lesions(draw: np.random.Generator, size: int, macula: Point) -> Field:
    """Hard exudates (sharp specks in clusters) and cotton-wool spots (soft): their cover, 0..1."""
    cover = np.zeros((size, size), np.float32)
    for _ in range(draw.integers(1, 4)):
        cluster = macula + draw.normal(0, 0.25, 2)
        spread = draw.uniform(0.04, 0.11)
        for _ in range(draw.integers(4, 14)):
            center = cluster + draw.normal(0, spread, 2)
            cover = np.maximum(cover, _blob(draw, size, center, draw.uniform(0.013, 0.036), 0.5, 0.01))
    if draw.random() < 0.4:
        center = macula + draw.normal(0, 0.4, 2)
        cover = np.maximum(cover, _blob(draw, size, center, draw.uniform(0.05, 0.09), 0.4, 0.05))
    return cover


def _photograph(draw: np.random.Generator, light: Light, valid: UInt8) -> UInt8:
    """What the camera makes of the light: exposure, softness, grain, and black outside its field of view."""
    exposed = np.clip(light * draw.uniform(0.8, 1.1), 0, 1) ** draw.uniform(0.9, 1.15)
    picture = Image.fromarray((exposed * 255).astype(np.uint8))
    width, height = picture.size
    blurred = picture.resize((width * 5 // 6, height * 5 // 6), Image.Resampling.BILINEAR)
    soft = np.asarray(blurred.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    grain = draw.normal(0, draw.uniform(2.0, 5.5), (*soft.shape[:2], 1)) + draw.normal(0, 2.0, soft.shape)
    seen = np.where(valid[..., None] == 1, soft + grain, draw.uniform(2, 9) + np.abs(grain) * 0.3)
    return np.clip(seen, 0, 255).astype(np.uint8)
