"""How well the data doctor tells wrong masks from sound ones, how far its limits lie from real data, and what it costs.

Wrong masks: of real sets at 256 pixels, in each trial two masks are swapped with each other, one is mirrored left to
right, one is turned by 180 degrees and one is moved by 4 % of the picture's longer side in any direction, all at once,
in pictures that are drawn anew for each trial. A wrong mask is found when the check that is meant for it names its
picture; a sound mask is blamed when any check of masks names it. Rates stand with their 95 % interval (Wilson), as if
trials were independent: they share a set's few pictures, so that the truth is a little wider.

Limits: the constants of `data.mask_fit` and `data.likeness` are moved until the clean sets, and copies that were made
of their pictures, show where they would begin to do harm.

Cost: milliseconds in which one picture is measured, and seconds in which a set is examined. Expects the data sets in
`../shared/datasets`, or where DATASETS says.
"""

import io
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from outcome import conclude, describe_machine, parse_arguments, print_table, spread
from PIL import Image

from data import likeness, mask_fit
from data.checks.case import Case
from data.doctor import Finding, examine
from data.likeness import find_alike
from data.mask_fit import find_misfits
from data.readers import load
from data.segmentation_data import MULTILABEL, Preparation, SegmentationData, Split, Splitting, UInt8
from data.sketch import THUMBNAIL
from data.split import split_data
from data.statistics import Statistics, measure, measure_all

DATASETS = Path(os.environ.get("DATASETS", Path(__file__).resolve().parents[2] / "shared" / "datasets"))
SETS = ("stare", "chasedb1-second", "wbc", "idrid")
TRIALS = 40
MOVED = 0.04
# Which checks are meant for which fault; the last looks at masks that fit nowhere.
MEANT = {"swapped": "swapped_masks", "turned": "turned_masks", "moved": "shifted_masks"}
BLAMING = (*MEANT.values(), "unlike_masks")
# Lesions have soft edges: of IDRiD's the doctor can tell less, as docs/doctor.md says.
GOAL_SETS, GOAL_FOUND = ("stare", "chasedb1-second", "wbc"), 0.9
# Pictures that stand twice in their set.
TWICE = {"wbc": ({"112", "139"}, {"166", "171"})}
SMALL_SET, LARGE_SET, MADE_SIDE = 300, 6000, 64
LOOKS = {SMALL_SET: 5, LARGE_SET: 3}
# A picture is measured so often and the shortest time counts, since others may use the machine.
REPEATS = 3


def rate(hits: int, count: int) -> str:
    """As `90% (82 to 95, n=80)`: with Wilson's interval of 95 %."""
    share, z = hits / count, 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return f"{share:.0%} ({100 * low:.0f} to {100 * high:.0f}, n={count})"


def move(planes: UInt8, down: int, right: int) -> UInt8:
    """Planes (K, h, w), moved; what leaves the picture is lost, and nothing comes in."""
    _, height, width = planes.shape
    moved = np.zeros_like(planes)
    moved[:, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = planes[
        :, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
    ]
    return moved


def own_pixels(data: SegmentationData, picture: int, shape: Sequence[int]) -> tuple[UInt8, UInt8, UInt8]:
    """Image (h, w, C), planes (K, h, w) and valid pixels (h, w) of one picture, without padding."""
    height, width = shape
    inside = np.s_[:height, :width]
    return data.images[picture][inside], data.masks[picture][:, *inside], data.valid[picture][inside]


def draw_faults(case: Case, draw: np.random.Generator) -> dict[str, dict[int, UInt8]]:
    """For each fault the pictures that have it, and their wrong planes (K, h, w)."""
    data = case.data
    copied = {picture for pair in case.copies for picture in (pair.first, pair.second)}
    outlined = set(np.flatnonzero(data.statistics.borders.any(axis=(1, 2))).tolist())
    usable = [picture for picture in draw.permutation(len(data.names)).tolist() if picture in outlined - copied]
    planes = {picture: own_pixels(data, picture, case.shapes[picture])[1] for picture in usable}
    # A mask of another size than its picture would be refused by the reader.
    pairs = combinations(usable, 2)
    one, other = next(pair for pair in pairs if np.array_equal(case.shapes[pair[0]], case.shapes[pair[1]]))
    mirrored, upside_down, moved = [picture for picture in usable if picture not in (one, other)][:3]
    angle, far = draw.uniform(0, 2 * math.pi), MOVED * float(case.shapes[moved].max())
    return {
        "swapped": {one: planes[other], other: planes[one]},
        "turned": {mirrored: planes[mirrored][:, :, ::-1], upside_down: planes[upside_down][:, ::-1, ::-1]},
        "moved": {moved: move(planes[moved], round(far * math.sin(angle)), round(far * math.cos(angle)))},
    }


def plant(case: Case, wrong: Mapping[int, UInt8]) -> SegmentationData:
    """The data with other planes in some pictures, counted again where they changed."""
    data = case.data
    masks = data.masks.copy()
    counted: dict[str, Any] = {one.name: getattr(data.statistics, one.name).copy() for one in fields(Statistics)}
    for picture, planes in wrong.items():
        image, _, valid = own_pixels(data, picture, planes.shape[1:])
        masks[picture][:, : planes.shape[1], : planes.shape[2]] = planes
        new = measure(image, planes, valid)
        for name, values in counted.items():
            values[picture] = getattr(new, name)[0]
    return replace(data, masks=masks, statistics=Statistics(**counted))


def named(findings: Sequence[Finding], checks: Sequence[str], data: SegmentationData) -> set[int]:
    """The places of the pictures that these checks name."""
    return {data.names.index(name) for found in findings if found.check in checks for name in found.pictures}


def detect(case: Case, report: dict[str, Any]) -> tuple[dict[str, tuple[int, int]], tuple[int, int]]:
    """Of each fault how many were found, of how many; and how many sound masks were blamed, of how many."""
    found = {fault: [0, 0] for fault in MEANT}
    blamed = sound = 0
    for trial in range(TRIALS):
        faults = draw_faults(case, np.random.default_rng(trial))
        wrong = {picture: planes for pictures in faults.values() for picture, planes in pictures.items()}
        findings = examine(plant(case, wrong), case.splits)
        for fault, pictures in faults.items():
            found[fault][0] += len(named(findings, (MEANT[fault],), case.data) & set(pictures))
            found[fault][1] += len(pictures)
        blamed += len(named(findings, BLAMING, case.data) - set(wrong))
        sound += len(case.data.names) - len(wrong)
    report.update({"found": found, "blamed": (blamed, sound)})
    return {fault: (hits, count) for fault, (hits, count) in found.items()}, (blamed, sound)


# Constants of `data.mask_fit`, and what else they might be, from the strictest on.
LIMITS: dict[str, list[float]] = {
    "_GAIN": [step / 100 for step in range(10, -1, -1)],
    "_NO_CHANCE": [step / 4 for step in range(14, 3, -1)],
    "_LOST": [step / 20 for step in range(5, 20)],
}


def blamed_with(case: Case, constant: str, value: float) -> int:
    """How many sound masks are blamed once a constant of `data.mask_fit` is another."""
    seen = case.data.statistics
    with patch.object(mask_fit, constant, value):
        return len(find_misfits(seen.edges, seen.borders, seen.shifts, seen.agreements, case.shapes))


def first_harm(case: Case, constant: str, values: Sequence[float]) -> str:
    """The first of the values with which a sound mask is blamed, and how many are."""
    for value in values:
        if blamed := blamed_with(case, constant, value):
            return f"{value:.2f} ({blamed} blamed)"
    return f"none as far as {values[-1]:.2f}"


def saved_as_jpeg(image: UInt8) -> UInt8:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=50)
    return np.asarray(Image.open(file))


def saved_smaller(image: UInt8) -> UInt8:
    height, width = image.shape[:2]
    return np.asarray(Image.fromarray(image).resize((width // 2, height // 2), Image.Resampling.BILINEAR))


def brightened(image: UInt8) -> UInt8:
    return (image * 0.75 + 50).clip(0, 255).astype(np.uint8)


def with_noise(image: UInt8) -> UInt8:
    noise = np.random.default_rng(0).normal(0, 10, image.shape)
    return (image + noise).clip(0, 255).astype(np.uint8)


COPIES: dict[str, Callable[[UInt8], UInt8]] = {
    "JPEG of quality 50": saved_as_jpeg,
    "half as large": saved_smaller,
    "brightened": brightened,
    "noise of 10 levels": with_noise,
}


def thumbnail(image: UInt8) -> UInt8:
    """The thumbnail (side, side) that the doctor compares, of an image (h, w, 3)."""
    grey = Image.fromarray(image).convert("L")
    return np.asarray(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))


def compare_copies(case: Case) -> tuple[list[list[float]], float, float]:
    """Likenesses of each kind of copy with its picture; the highest of different pictures, and of one patient's."""
    data = case.data
    images = [own_pixels(data, picture, shape)[0] for picture, shape in enumerate(case.shapes)]
    originals = np.stack([thumbnail(image) for image in images])
    copies = []
    # However little alike they are, this asks for it.
    with patch.multiple(likeness, _ALIKE=0.0, _WORTH_A_LOOK=0.0):
        for change in COPIES.values():
            changed = np.stack([thumbnail(change(image)) for image in images])
            pairs = (find_alike(np.stack(both)) for both in zip(originals, changed, strict=True))
            copies.append([max((pair.likeness for pair in found), default=0.0) for found in pairs])
    with patch.multiple(likeness, _ALIKE=0.5, _WORTH_A_LOOK=0.3):
        alike = find_alike(originals)
    different, one_patient = [0.0], [0.0]
    for pair in alike:
        both = (pair.first, pair.second)
        if {data.names[place] for place in both} in TWICE.get(data.source, ()):
            continue
        different.append(pair.likeness)
        groups = {data.groups[place] for place in both}
        if len(groups) == 1 and None not in groups:
            one_patient.append(pair.likeness)
    return copies, max(different), max(one_patient)


def stroke_widths(data: SegmentationData) -> dict[str, float]:
    """How wide each class is in pixels: twice its area over its outline."""
    counted = data.statistics
    widths = 2 * counted.class_pixels.sum(axis=0) / counted.edge_pixels.sum(axis=0)
    return dict(zip(data.class_names, widths.tolist(), strict=True))


def make_set(count: int) -> tuple[SegmentationData, tuple[Split, ...]]:
    """Different small pictures, each with a bright blob that its mask holds, and one split."""
    draw = np.random.default_rng(0)
    side = MADE_SIDE
    coarse = draw.integers(0, 160, (count, side // 8, side // 8, 3), dtype=np.uint8)
    images = coarse.repeat(8, axis=1).repeat(8, axis=2)
    rows, columns = np.indices((side, side)) / side
    middles = draw.uniform(0.3, 0.7, (2, count, 1, 1))
    blobs = np.hypot(rows - middles[0], columns - middles[1]) < draw.uniform(0.1, 0.25, (count, 1, 1))
    images[blobs] += 90
    masks, valid = blobs[:, None].astype(np.uint8), np.ones((count, side, side), np.uint8)
    data = SegmentationData(
        images=images,
        masks=masks,
        valid=valid,
        names=tuple(map(str, range(count))),
        class_names=("blob",),
        label_mode=MULTILABEL,
        parts=(None,) * count,
        groups=(None,) * count,
        sizes=((side, side),) * count,
        statistics=measure_all(images, masks, valid),
        preparation=Preparation(),
        source="made",
        fingerprint="0" * 64,
    )
    return data, split_data(data, Splitting(test_fraction=0.2))


def seconds(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def print_detection(cases: Mapping[str, Case], report: dict[str, Any]) -> tuple[float, int]:
    """Prints what was found of planted faults; of the sets in the goal, the lowest rate and the sound masks blamed."""
    rows = [("set", "pictures", *MEANT, "sound masks blamed")]
    lowest, all_blamed = 1.0, 0  # of the sets in the goal
    for name, case in cases.items():
        found, (blamed, sound) = detect(case, report.setdefault(name, {}))
        if name in GOAL_SETS:
            all_blamed += blamed
            lowest = min(lowest, found["swapped"][0] / found["swapped"][1])
        rates = (rate(*found[fault]) for fault in MEANT)
        rows.append((name, str(len(case.data.names)), *rates, f"{blamed} of {sound}"))
    print_table(rows)
    return lowest, all_blamed


def print_limits(cases: Mapping[str, Case], report: dict[str, Any]) -> None:
    """Prints where the constants would do harm, and how alike copies and different pictures are."""
    rows = [("clean set", *(f"{name} = {getattr(mask_fit, name)} would blame at" for name in LIMITS))]
    for name, case in cases.items():
        harms = [first_harm(case, constant, values) for constant, values in LIMITS.items()]
        report[name]["harmful"] = dict(zip(LIMITS, harms, strict=True))
        rows.append((name, *harms))
    print_table(rows)
    print()
    rows_of_copies = [("likeness", "n", *COPIES, "different pictures, highest", "of one patient, highest")]
    for name, case in cases.items():
        copies, different, one_patient = compare_copies(case)
        report[name]["likeness"] = {"copies": copies, "different": different, "one_patient": one_patient}
        shown = [f"lowest {min(kind):.3f}, {sum(one > likeness._ALIKE for one in kind)} found" for kind in copies]
        patient = f"{one_patient:.3f}" if one_patient else "-"
        rows_of_copies.append((name, str(len(case.data.names)), *shown, f"{different:.3f}", patient))
    print_table(rows_of_copies)


def print_clean(cases: Mapping[str, Case], native: Mapping[str, SegmentationData], report: dict[str, Any]) -> None:
    """Prints what is found in the sets as they are, how wide their classes are in the files, and what counts."""
    for name, case in cases.items():
        print(f"{name}, as it is, at 256 pixels:")
        for found in examine(case.data, case.splits):
            print(f"  {found.check}: {found.what}")
        if name in native:
            widths = stroke_widths(native[name])
            report[name]["widths"] = widths
            print("  pixels wide in the files:", ", ".join(f"{what} {width:.1f}" for what, width in widths.items()))
    found_field = load("stare", root=DATASETS, preparation=Preparation(field_of_view="found"))
    inside = found_field.valid[:, : found_field.valid.shape[1]].mean(axis=(1, 2)).tolist()
    print("stare, share of each picture inside the field of view that is found:", spread(inside, 2))


def print_cost(cases: Mapping[str, Case], native: Mapping[str, SegmentationData], report: dict[str, Any]) -> None:
    """Prints what it costs to measure a picture and to examine a set."""
    rows = [("measuring", "pixels", "classes", f"ms a picture, best of {REPEATS}")]
    measured = [("256", cases[name].data, cases[name].shapes) for name in ("stare", "idrid")]
    measured += [("native", data, np.array(data.sizes)) for name, data in native.items() if name in ("stare", "idrid")]
    for size, data, shapes in measured:
        pictures = [own_pixels(data, picture, shapes[picture]) for picture in range(len(data.names))]
        times = [1000 * min(seconds(partial(measure, *picture)) for _ in range(REPEATS)) for picture in pictures]
        report[data.source][f"measure_{size}_ms"] = times
        shape = " x ".join(map(str, sorted(shapes[0], reverse=True)))
        rows.append((data.source, shape, str(len(data.class_names)), spread(times)))
    print_table(rows)
    print()
    rows_of_looks = [("examining", "pictures", "seconds")]
    made, splits = make_set(LARGE_SET)
    for name, data, parts in (("wbc", cases["wbc"].data, cases["wbc"].splits), ("made", made, splits)):
        looks = [seconds(partial(examine, data, parts)) for _ in range(LOOKS[len(data.names)])]
        report.setdefault(name, {})["examine_seconds"] = looks
        rows_of_looks.append((name, str(len(data.names)), spread(looks, 2)))
    print_table(rows_of_looks)


def main() -> int:
    arguments = parse_arguments(str(__doc__).splitlines()[0])
    print(describe_machine(), end="\n\n")
    report: dict[str, Any] = {}
    cases = {}
    for name in SETS:
        data = load(name, root=DATASETS)
        cases[name] = Case(data=data, splits=split_data(data))
    lowest, blamed = print_detection(cases, report)
    print()
    print_limits(cases, report)
    print()
    unshrunk = Preparation(size="native")
    native = {name: load(name, root=DATASETS, preparation=unshrunk) for name in SETS if name != "wbc"}
    print_clean(cases, native, report)
    print()
    print_cost(cases, native, report)
    print()
    figure = f"in {', '.join(GOAL_SETS)} {lowest:.1%} of swapped masks found where fewest, {blamed} sound masks blamed"
    goal = f"at least {GOAL_FOUND:.0%}, none blamed"
    return conclude("doctor", figure, goal, lowest >= GOAL_FOUND and not blamed, report, arguments.json)


if __name__ == "__main__":
    raise SystemExit(main())
