"""The doctor finds every fault that is planted, names its pictures, and leaves sound data alone."""

import io
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import data.mask_fit
from data.catalogue import Catalogue, Sample, planes_by_file
from data.checks.case import CERTAINTIES, LEVELS
from data.doctor import CHECKS, Finding, examine
from data.prepare import prepare
from data.readers import load
from data.segmentation_data import (
    MULTICLASS,
    MULTILABEL,
    LabelMode,
    Part,
    Preparation,
    Split,
    Splitting,
    UInt8,
)
from data.split import split_data
from tests.data.folders import write_picture
from tests.toys import data_of

DATASETS = Path(__file__).parents[3] / "shared" / "datasets"
DOCUMENT = Path(__file__).parents[2] / "docs" / "doctor.md"

COUNT, SIDE = 20, 96
SPLIT = Split(train=tuple(range(12)), validation=tuple(range(12, 17)), test=(17, 18, 19))


def draw_scene(seed: int, *, large: float = 1.0, side: int = SIDE) -> tuple[UInt8, UInt8]:
    """A picture (side, side, 3) of a bright and a dark ellipse on an uneven ground, and its planes (2, side, side)."""
    draw = np.random.default_rng(seed)
    coarse = Image.fromarray(draw.integers(60, 130, (8, 8, 3), dtype=np.uint8))
    image = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(float)
    image += draw.normal(0, 5, image.shape)
    planes = np.zeros((2, side, side), np.uint8)
    rows, columns = np.indices((side, side)) / side
    for plane, center, color in zip(planes, (0.3, 0.7), ((70, 60, 10), (-50, -45, -40)), strict=True):
        top, left = center + draw.uniform(-0.1, 0.1), draw.uniform(0.2, 0.8)
        high, wide = large * draw.uniform(0.09, 0.14), large * draw.uniform(0.1, 0.2)
        plane[((rows - top) / high) ** 2 + ((columns - left) / wide) ** 2 < 1] = 1
        image[plane == 1] += color
    planes[1] &= 1 - planes[0]
    return image.clip(0, 255).astype(np.uint8), planes


@dataclass
class Made:
    """A data set to plant faults in, array by array."""

    images: UInt8
    masks: UInt8
    valid: UInt8
    names: list[str]
    sizes: list[tuple[int, int]]
    splits: tuple[Split, ...] = (SPLIT,)
    label_mode: LabelMode = MULTICLASS
    parts: tuple[Part | None, ...] = (None,) * COUNT

    def place(self, index: int, scene: tuple[UInt8, UInt8]) -> None:
        self.images[index], self.masks[index] = scene

    def examine(self) -> tuple[Finding, ...]:
        data = data_of(
            self.images,
            self.masks,
            self.valid,
            label_mode=self.label_mode,
            names=tuple(self.names),
            sizes=tuple(self.sizes),
            parts=self.parts,
        )
        return examine(data, self.splits)


@pytest.fixture
def made() -> Made:
    scenes = [draw_scene(seed) for seed in range(COUNT)]
    return Made(
        images=np.stack([image for image, _ in scenes]),
        masks=np.stack([planes for _, planes in scenes]),
        valid=np.ones((COUNT, SIDE, SIDE), np.uint8),
        names=[f"scene{index:02}" for index in range(COUNT)],
        sizes=[(SIDE, SIDE)] * COUNT,
    )


def saved_again(image: UInt8) -> UInt8:
    """A picture after a look through a phone: smaller and back, brighter, and compressed."""
    small = Image.fromarray(image).resize((SIDE * 2 // 3, SIDE * 2 // 3), Image.Resampling.BILINEAR)
    brighter = Image.fromarray((np.asarray(small) * 0.9 + 20).astype(np.uint8)).resize((SIDE, SIDE))
    file = io.BytesIO()
    brighter.save(file, "JPEG", quality=60)
    return np.asarray(Image.open(file))


def nothing_to_learn(made: Made) -> set[int]:
    made.masks[:12] = 0
    return set(range(12))


def nothing_to_choose_by(made: Made) -> set[int]:
    made.masks[12:17] = 0
    return set(range(12, 17))


def class_not_in_train(made: Made) -> set[int]:
    made.masks[:12, 1] = 0
    return set(range(12, 20))


def class_not_in_validation(made: Made) -> set[int]:
    made.masks[12:17, 1] = 0
    return set(range(COUNT)) - set(range(12, 17))


def class_not_in_test(made: Made) -> set[int]:
    made.masks[17:, 0] = 0
    return set(range(17))


def few_to_choose_by(made: Made) -> set[int]:
    made.splits = (Split(train=tuple(range(15)), validation=(15, 16), test=(17, 18, 19)),)
    return {15, 16}


def one_to_choose_by(made: Made) -> set[int]:
    made.masks[13:17, 1] = 0
    return {12}


def uneven_parts(made: Made) -> set[int]:
    for index in range(12, 17):
        made.place(index, draw_scene(index, large=1.8))
    return set()


def groups_torn_apart(made: Made) -> set[int]:
    made.names = [f"patient{index % 10:02}_{'LR'[index // 10]}" for index in range(COUNT)]
    return {2, 12}


def groups_in_names(made: Made) -> set[int]:
    made.names = [f"patient{index // 2:02}_{'LR'[index % 2]}" for index in range(COUNT)]
    return {16, 17}


def parts_share_pictures(made: Made) -> set[int]:
    for index in (12, 13, 14):
        made.images[index], made.masks[index] = made.images[index - 12], made.masks[index - 12]
    return {12, 13, 14}


def copies_across_parts(made: Made) -> set[int]:
    made.images[12], made.masks[12] = made.images[3], made.masks[3]
    return {3, 12}


def near_copies_across_parts(made: Made) -> set[int]:
    made.images[18], made.masks[18] = saved_again(made.images[5]), made.masks[5]
    return {5, 18}


def mirrored_copies_across_parts(made: Made) -> set[int]:
    made.images[18], made.masks[18] = saved_again(made.images[5][:, ::-1]), made.masks[5][..., ::-1]
    return {5, 18}


def alike_throughout(made: Made) -> set[int]:
    """A camera that stands still: the same scene, and only the noise differs."""
    draw, image, planes = np.random.default_rng(0), *draw_scene(0)
    for index in range(COUNT):
        noisy = image + draw.normal(0, 5, image.shape)
        made.images[index], made.masks[index] = noisy.clip(0, 255), np.roll(planes, index - 10, axis=2)
    return set()


def copies_in_a_part(made: Made) -> set[int]:
    made.images[7], made.masks[7] = made.images[3], made.masks[3]
    return {3, 7}


def copies_with_other_masks(made: Made) -> set[int]:
    made.images[7], made.masks[7] = made.images[3], made.masks[3]
    made.masks[7] = np.roll(made.masks[3], 1, axis=2)
    return {3, 7}


def swapped_masks(made: Made) -> set[int]:
    made.masks[[4, 14]] = made.masks[[14, 4]]
    return {4, 14}


def masks_off_by_one(made: Made) -> set[int]:
    made.masks = np.roll(made.masks, 1, axis=0)
    return set(range(COUNT))


def mirrored_mask(made: Made) -> set[int]:
    made.masks[6] = made.masks[6][..., ::-1]
    return {6}


def mask_on_its_side(made: Made) -> set[int]:
    made.masks[6] = np.rot90(made.masks[6], axes=(1, 2))
    return {6}


def shifted_masks(made: Made) -> set[int]:
    made.masks[9] = np.roll(made.masks[9], (5, -4), axis=(1, 2))
    return {9}


def unlike_masks(made: Made) -> set[int]:
    made.masks[8] = draw_scene(99)[1]
    return {8}


def inverted_masks(made: Made) -> set[int]:
    made.label_mode = MULTILABEL
    made.masks = made.masks[:, :1]
    made.masks[11] = 1 - made.masks[11]
    return {11}


def class_like_background(made: Made) -> set[int]:
    made.label_mode = MULTILABEL
    made.masks = 1 - made.masks[:, :1]
    return set(range(COUNT))


def copied_masks(made: Made) -> set[int]:
    made.masks[5] = made.masks[15]
    return {5, 15}


def same_planes(made: Made) -> set[int]:
    made.label_mode = MULTILABEL
    made.masks[:, 1] = made.masks[:, 0]
    return set(range(COUNT))


def planes_overlap(made: Made) -> set[int]:
    made.masks[2, 1] |= made.masks[2, 0]
    return {2}


def overlapping_planes(made: Made) -> set[int]:
    made.label_mode = MULTILABEL
    return planes_overlap(made)


def slight_overlap(made: Made) -> set[int]:
    made.label_mode = MULTILABEL
    rows, columns = np.nonzero(made.masks[2, 0])
    made.masks[2, 1, rows[0], columns[0]] = 1
    return {2}


def rare_class(made: Made) -> set[int]:
    small = np.zeros_like(made.masks[:, 1])
    for index in range(COUNT):
        rows, columns = np.nonzero(made.masks[index, 1])
        small[index, rows.min() : rows.min() + 3, columns[rows.argmin()] - 1 : columns[rows.argmin()] + 2] = 1
    made.masks[:, 1] = small
    return set(range(COUNT))


def empty_images(made: Made) -> set[int]:
    made.masks[[1, 13]] = 0
    return {1, 13}


def specks(made: Made) -> set[int]:
    noise = np.random.default_rng(0).random((SIDE, SIDE)) < 0.04
    made.masks[10, 0] = noise & ~made.masks[10, 1].astype(bool)
    return {10}


def mask_outside_field(made: Made) -> set[int]:
    made.valid[:, :4] = 0
    made.masks[3, 0, :4] = 1
    return {3}


def no_counting_pixels(made: Made) -> set[int]:
    made.valid[4] = 0
    made.masks[4] = 0
    return {4}


def hardly_counting(made: Made) -> set[int]:
    made.valid[4] = 0
    rows, columns = np.nonzero(made.masks[4, 0])
    made.valid[4, rows[0] : rows[0] + 12, columns[0] : columns[0] + 20] = 1
    made.masks[4] &= made.valid[4]
    return {4}


def nothing_to_see(made: Made) -> set[int]:
    made.images[:12] = 1
    return set(range(12))


def blank_pictures(made: Made) -> set[int]:
    made.images[14] = 200
    return {14}


def nearly_black(made: Made) -> set[int]:
    made.images //= 16  # twelve bits in sixteen
    return set(range(COUNT))


def few_values(made: Made) -> set[int]:
    made.images[2] = made.masks[2, 0][..., None] * 128 + made.masks[2, 1][..., None] * 64
    return {2}


def over_exposed(made: Made) -> set[int]:
    made.images[2] = np.minimum(made.images[2].astype(int) + 70, 255)
    return {2}


def under_exposed(made: Made) -> set[int]:
    made.images[17] = made.images[17] // 3
    return {17}


def odd_shape(made: Made) -> set[int]:
    made.sizes = [(640, 960)] * COUNT
    made.sizes[16] = (960, 640)
    return {16}


def odd_size(made: Made) -> set[int]:
    made.sizes[16] = (40, 40)
    return {16}


def odd_color(made: Made) -> set[int]:
    made.images[0] = made.images[0].mean(axis=2, keepdims=True).astype(np.uint8)
    return {0}


def field_of_view_ignored(made: Made) -> set[int]:
    rows, columns = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    outside = np.hypot(rows, columns) > SIDE / 2
    made.images[:, outside] = 3
    made.masks[:, :, outside] = 0
    return set(range(COUNT))


# What is planted, which check must find it, and what else is a true finding then.
FAULTS: dict[str, tuple[Callable[[Made], set[int]], str, set[str]]] = {
    **{
        plant.__name__: (plant, plant.__name__, also)
        for plant, also in {
            nothing_to_learn: {"empty_images"},
            nothing_to_choose_by: {"empty_images"},
            class_not_in_train: set[str](),
            class_not_in_validation: set[str](),
            class_not_in_test: set[str](),
            few_to_choose_by: set[str](),
            one_to_choose_by: {"uneven_parts"},
            uneven_parts: set[str](),
            groups_torn_apart: set[str](),
            groups_in_names: set[str](),
            parts_share_pictures: {"copies_across_parts"},
            copies_across_parts: set[str](),
            near_copies_across_parts: set[str](),
            copies_in_a_part: set[str](),
            alike_throughout: {"turned_masks", "swapped_masks", "shifted_masks", "unlike_masks"},
            copies_with_other_masks: {"copies_in_a_part"},
            swapped_masks: set[str](),
            shifted_masks: set[str](),
            unlike_masks: set[str](),
            inverted_masks: set[str](),
            class_like_background: set[str](),
            copied_masks: {"unlike_masks"},
            same_planes: {"overlapping_planes"},
            planes_overlap: set[str](),
            overlapping_planes: set[str](),
            slight_overlap: set[str](),
            rare_class: set[str](),
            empty_images: set[str](),
            specks: {"unlike_masks"},
            mask_outside_field: set[str](),
            no_counting_pixels: set[str](),
            hardly_counting: set[str](),
            nothing_to_see: {"blank_pictures"},
            blank_pictures: set[str](),
            nearly_black: set[str](),
            few_values: {"odd_color", "odd_exposure"},
            odd_size: set[str](),
            odd_color: set[str](),
            field_of_view_ignored: set[str](),
        }.items()
    },
    "mirrored_copies": (mirrored_copies_across_parts, "near_copies_across_parts", set()),
    "masks_off_by_one": (masks_off_by_one, "swapped_masks", set()),
    "mirrored_mask": (mirrored_mask, "turned_masks", set()),
    "mask_on_its_side": (mask_on_its_side, "turned_masks", set()),
    "over_exposed": (over_exposed, "odd_exposure", set()),
    "under_exposed": (under_exposed, "odd_exposure", set()),
    "odd_shape": (odd_shape, "odd_size", set()),
}
# Faults that only show on the way from files to arrays; each has a test of its own below.
FROM_FILES = {"class_lost", "fine_class", "threshold_cuts"}


def test_sound_data_raises_nothing(made: Made) -> None:
    assert made.examine() == ()
    drawn = load("synthetic")
    assert examine(drawn, split_data(drawn, Splitting(folds=4))) == ()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(made: Made, fault: str) -> None:
    plant, check, also = FAULTS[fault]
    pictures = plant(made)
    findings = made.examine()
    assert {found.check for found in findings} - also == {check}, "\n".join(map(str, findings))
    found = next(found for found in findings if found.check == check)
    assert set(found.pictures) == {made.names[index] for index in pictures}
    assert (found.level, found.sure, found.why) == (CHECKS[check].level, CHECKS[check].sure, CHECKS[check].why)
    assert found.remedy and found.what[0].isupper() | found.what[0].isdigit() and found.what.endswith(".")
    ranks = [(LEVELS.index(one.level), CERTAINTIES.index(one.sure)) for one in findings]
    assert ranks == sorted(ranks), "the worst comes first"


def test_every_check_has_its_fault() -> None:
    assert {check for _, check, _ in FAULTS.values()} | FROM_FILES == set(CHECKS)


def test_nothing_is_said_of_a_class_that_was_outside_the_field_rather_than_lost(made: Made) -> None:
    made.valid[:, :4] = 0
    made.masks[3] = 0
    made.masks[3, 0, :4] = 1
    checks = {found.check for found in made.examine()}
    assert "mask_outside_field" in checks and "class_lost" not in checks


def test_a_fold_is_looked_at_like_a_split(made: Made) -> None:
    copies_in_a_part(made)  # both in train of the single split
    folds = [range(start, start + 5) for start in range(0, COUNT, 5)]
    made.splits = tuple(
        Split(train=tuple(place for place in range(COUNT) if place not in fold), validation=tuple(fold))
        for fold in folds
    )
    made.masks[5:10, 1] = 0
    checks = {found.check: found for found in made.examine()}
    assert set(checks) == {"copies_across_parts", "class_not_in_validation", "copies_with_other_masks"}
    assert checks["class_not_in_validation"].what.startswith(
        "Class 'class1' has no pixel in validation of fold 2; 15 of"
    )
    assert "torn apart between train and validation: scene03 = scene07" in checks["copies_across_parts"].what


def test_what_is_said_of_misfits_can_be_acted_on(made: Made) -> None:
    shifted_masks(made)
    mirrored_mask(made)
    swapped_masks(made)
    what = {found.check: found.what for found in made.examine()}
    assert re.search(
        r"scene09 would fit [45] up and [345] right, in pixels as prepared \(agreement 0", what["shifted_masks"]
    )
    assert "scene06 would fit mirrored left to right (" in what["turned_masks"]
    assert "scene04 would fit with the mask of scene14 (" in what["swapped_masks"]


def test_many_equal_pictures_are_no_burden() -> None:
    count = 250  # more pairs than are looked at
    image, planes = draw_scene(0, side=32)
    data = data_of(np.repeat(image[None], count, axis=0), np.repeat(planes[None], count, axis=0))
    split = Split(train=tuple(range(count - 100)), validation=tuple(range(count - 100, count)))
    checks = {found.check for found in examine(data, (split,))}
    assert {"parts_share_pictures", "copies_across_parts"} <= checks and "alike_throughout" not in checks


def test_near_copies_never_stop_a_search(made: Made) -> None:
    for index in (12, 13, 14, 15, 16):
        made.images[index], made.masks[index] = saved_again(made.images[index - 12]), made.masks[index - 12]
    findings = made.examine()
    assert {found.check for found in findings} == {"near_copies_across_parts"}
    assert findings[0].level == "warning" and findings[0].what.startswith("5 pairs of pictures, nearly the same, are")


def test_exact_copies_are_told_where_all_is_alike(made: Made) -> None:
    alike_throughout(made)
    made.images[12], made.masks[12] = made.images[3], made.masks[3]
    findings = {found.check: found for found in made.examine()}
    assert set(findings["copies_across_parts"].pictures) == {"scene03", "scene12"}
    assert "alike_throughout" in findings and "near_copies_across_parts" not in findings


def test_masks_of_how_many_copies_were_compared_is_told(made: Made) -> None:
    made.images[:8] = made.images[0]
    (found,) = [found for found in made.examine() if found.check == "copies_with_other_masks"]
    assert re.search(r"^28 pairs of equal pictures have .* or more in the first 20 pairs\.$", found.what)
    made.images[2:8] = [draw_scene(seed)[0] for seed in range(2, 8)]
    (found,) = [found for found in made.examine() if found.check == "copies_with_other_masks"]
    assert re.search(r"Dice with each other is 0\.\d+\.$", found.what)


@pytest.mark.parametrize(
    ("pattern", "expression"),
    [
        ("p{:02}_{}", "^[^_]+"),
        ("p_{:02}_{}", r"^(.+)_\d+$"),
        ("slide-{:02}-{}", r"^(.+)-\d+$"),
        ("Image_{:02}{}", "^(.+)[LR]$"),
        ("eye {:02}.{}", "^[^.]+"),
        ("a_{:02}b{}", r"^(.+?)[-_. ]*\d+$"),
        ("a_{:02}-{}", None),
    ],
)
def test_the_expression_for_groups_does_what_is_said(made: Made, pattern: str, expression: str | None) -> None:
    sides = "LR" if pattern == "Image_{:02}{}" else ("left", "right") if expression is None else "12"
    made.names = [pattern.format(index % 10, sides[index // 10]) for index in range(COUNT)]
    (found,) = made.examine()
    assert found.check == "groups_torn_apart" and found.level == "warning"
    *_, option, written = shlex.split(found.remedy.removesuffix("."))
    assert option == "--group-by" and (expression is None or written == expression)
    data = data_of(made.images, made.masks, label_mode=MULTICLASS, names=tuple(made.names))
    for folds in (1, 4):
        splits = split_data(data, Splitting(group_by=written, folds=folds))
        for split in splits:
            parts = [{index % 10 for index in part} for part in split.parts.values()]
            assert sum(map(len, parts)) == 10, "the two pictures of a patient stand in one part"
        assert not examine(data, splits) or "groups_torn_apart" not in {one.check for one in examine(data, splits)}


def test_remedies_fit_folds(made: Made) -> None:
    made.masks[5:10] = 0
    made.images[12] = made.images[3]
    made.splits = tuple(
        Split(train=tuple({*range(COUNT)} - {*fold}), validation=tuple(fold))
        for fold in (range(start, start + 5) for start in range(0, COUNT, 5))
    )
    remedies = {found.check: found.remedy for found in made.examine()}
    assert {"nothing_to_choose_by", "copies_across_parts"} <= set(remedies)
    assert not [check for check, remedy in remedies.items() if "--validation-ids" in remedy]


def test_remedies_fit_parts_that_the_owner_has_named(made: Made) -> None:
    made.parts = ("train",) * 18 + ("validation",) * 2
    made.splits = (Split(train=tuple(range(18)), validation=(18, 19)),)
    made.masks[18:] = 0
    remedies = {found.check: found.remedy for found in made.examine()}
    assert {"nothing_to_choose_by", "few_to_choose_by"} <= set(remedies)
    assert all("--validation-ids" in remedies[check] for check in ("nothing_to_choose_by", "few_to_choose_by"))
    assert not [check for check, remedy in remedies.items() if re.search("--(validation-fraction|split-seed)", remedy)]


def test_a_reader_whose_exclusive_classes_overlap_is_refused(tmp_path: Path) -> None:
    root = write_scenes(tmp_path, by_class=True)
    samples = []
    for index in range(12):
        masks = {name: root / "masks" / name / f"{index:02}.png" for name in ("bright", "dark")}
        samples.append(Sample(name=f"{index:02}", image=root / "images" / f"{index:02}.png", masks=masks))
    write_picture(samples[3].masks["dark"], np.full((SIDE, SIDE), 255, np.uint8))
    contents = partial(planes_by_file, ("bright", "dark"), MULTICLASS)
    data = prepare(Catalogue(source="own", samples=tuple(samples), open=contents), Preparation(), None)
    errors = [found for found in examine(data, split_data(data)) if found.level == "error"]
    assert [(found.check, found.pictures) for found in errors] == [("planes_overlap", ("03",))]


def test_in_large_sets_the_masks_that_fit_worst_are_compared(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    swapped_masks(made)
    made.masks[6] = made.masks[6][..., ::-1]
    monkeypatch.setattr(data.mask_fit, "_MOST_PAIRS", 4 * COUNT)
    found = {one.check: set(one.pictures) for one in made.examine()}
    assert found == {"swapped_masks": {"scene04", "scene14"}, "turned_masks": {"scene06"}}


def test_tiny_and_single_pictures_are_looked_at_too() -> None:
    for count, side, channels in ((1, 1, 1), (2, 2, 3), (3, 5, 1)):
        data = data_of(np.zeros((count, side, side, channels), np.uint8), np.ones((count, 1, side, side), np.uint8))
        split = Split(train=(0,), validation=tuple(range(1, count)))
        assert "blank_pictures" in {found.check for found in examine(data, (split,))}


def write_scenes(root: Path, *, side: int = SIDE, by_class: bool = False) -> Path:
    """A folder of scenes with index masks, or with grey masks for each class."""
    for index in range(12):
        image, planes = draw_scene(index, side=side)
        write_picture(root / "images" / f"{index:02}.png", image)
        if by_class:
            for name, plane in zip(("bright", "dark"), planes, strict=True):
                write_picture(root / "masks" / name / f"{index:02}.png", plane * np.uint8(255))
        else:
            write_picture(root / "masks" / f"{index:02}.png", planes[0] + 2 * planes[1])
    return root


def findings_of(root: Path, preparation: Preparation | None = None) -> dict[str, Finding]:
    data = load(str(root), preparation=preparation)
    return {one.check: one for one in examine(data, split_data(data, Splitting(validation_fraction=0.4)))}


def test_a_class_lost_by_shrinking_is_found(tmp_path: Path) -> None:
    root = write_scenes(tmp_path, side=3 * SIDE)
    for index in (3, 7):
        planes = draw_scene(index, side=3 * SIDE)[1]
        small = np.zeros_like(planes[1])
        small[6, 6] = 2  # not the middle of any square of three by three
        write_picture(root / "masks" / f"{index:02}.png", planes[0] + small)
    found = findings_of(root, Preparation(size=SIDE))
    assert set(found) == {"class_lost"}
    assert found["class_lost"].pictures == ("03", "07") and "--size native" in found["class_lost"].remedy
    assert set(findings_of(root, Preparation(size="native"))) == set()


def test_a_class_too_fine_for_the_size_is_noted(tmp_path: Path) -> None:
    root = write_scenes(tmp_path, side=3 * SIDE)
    for index in range(12):
        planes = draw_scene(index, side=3 * SIDE)[1]
        planes[1] = 0
        planes[1, 100:220:20] = 1  # hairs, one pixel wide
        planes[1, 101:221:20] = planes[1, 102:222:20] = planes[1, 99:219:20] = 1
        write_picture(root / "masks" / f"{index:02}.png", planes[0] + 2 * planes[1] * (1 - planes[0]))
    found = findings_of(root, Preparation(size=SIDE))
    assert found["fine_class"].level == "note" and "'class_2'" in found["fine_class"].what
    assert "--size 192" in found["fine_class"].remedy
    assert "fine_class" not in findings_of(root, Preparation(size="native"))


def test_a_threshold_that_cuts_most_of_grey_masks_is_warned_of(tmp_path: Path) -> None:
    root = write_scenes(tmp_path, by_class=True)
    for index in range(12):
        planes = draw_scene(index)[1]
        inner = np.asarray(Image.fromarray(planes[0] * np.uint8(255)).resize((24, 24)).resize((SIDE, SIDE)))
        unsure = np.where(planes[0] == 1, 90, 0).astype(np.uint8)
        unsure[: SIDE // 4] = inner[: SIDE // 4]
        write_picture(root / "masks" / "bright" / f"{index:02}.png", unsure)
    found = findings_of(root)
    assert "'bright'" in found["threshold_cuts"].what and "above the threshold 0.5" in found["threshold_cuts"].what
    assert "threshold_cuts" not in findings_of(root, Preparation(mask_threshold=0.1))


def document_rows(heading: str) -> list[list[str]]:
    """The cells of a table of the document, without its header, up to the next heading."""
    section = DOCUMENT.read_text(encoding="utf-8").split(heading, 1)[1].split("\n#", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return rows[2:]


@pytest.mark.parametrize("level", LEVELS)
def test_the_document_tells_of_every_check(level: str) -> None:
    written = {
        name.strip("`"): (sure, why, remedy) for name, sure, _, why, remedy in document_rows(f"### {level.title()}")
    }
    assert written == {
        name: (check.sure, check.why, check.remedy) for name, check in CHECKS.items() if check.level == level
    }


@pytest.mark.usefixtures("cache_of_public_sets")
@pytest.mark.skipif(not DATASETS.is_dir(), reason="the shared data sets are not here")
@pytest.mark.parametrize("size", [256, "native"])
@pytest.mark.parametrize("name", ["stare", "chasedb1-second", "idrid", "wbc"])
def test_public_sets_raise_what_the_document_justifies(name: str, size: int) -> None:
    justified = {
        check.strip("`")
        for source, sizes, check, _ in document_rows("## What it finds in public sets")
        if source == f"`{name}`" and str(size) in sizes
    }
    data = load(name, root=DATASETS / name.partition("-")[0], preparation=Preparation(size=size))
    assert {found.check for found in examine(data, split_data(data))} == justified
