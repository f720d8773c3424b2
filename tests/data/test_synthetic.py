import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data.catalogue import Catalogue
from data.prepare import prepare
from data.segmentation_data import Preparation, SegmentationData
from data.split import split_data
from data.synthetic import LESION_CLASSES, draw_retina, read_synthetic


def prepared(catalogue: Catalogue) -> SegmentationData:
    return prepare(catalogue, Preparation(), None)


@pytest.fixture(scope="module")
def retinas() -> SegmentationData:
    return prepared(read_synthetic(lesions=True))


def test_the_same_in_another_process(retinas: SegmentationData) -> None:
    script = (
        "from data.prepare import prepare; from data.synthetic import read_synthetic; "
        "from data.segmentation_data import Preparation; "
        "print(prepare(read_synthetic(lesions=True), Preparation(), None).fingerprint)"
    )
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == retinas.fingerprint


def test_another_seed_draws_others(retinas: SegmentationData) -> None:
    small = [prepared(read_synthetic(lesions=True, count=6, size=64, seed=seed)) for seed in (0, 1)]
    assert small[0].fingerprint != small[1].fingerprint
    assert len({image.tobytes() for image in retinas.images}) == len(retinas.names)


def test_every_class_occurs_in_every_part_and_some_pictures_lack_lesions(retinas: SegmentationData) -> None:
    assert retinas.class_names == LESION_CLASSES and retinas.label_mode == "multilabel"
    held = np.array([[plane.any() for plane in planes] for planes in retinas.masks])  # (N, K)
    split = split_data(retinas)[0]
    assert (len(split.train), len(split.validation), len(split.test)) == (14, 5, 5)
    for part in (split.train, split.validation, split.test):
        assert held[list(part)].any(axis=0).all()
        assert held[list(part), :2].all(), "each retina has vessels and a disc"
        assert not held[list(part), 2:].all(axis=0).any(), "not each retina has lesions"


def test_classes_have_the_shares_of_a_retina(retinas: SegmentationData) -> None:
    shares = [retinas.masks[:, index][retinas.valid == 1].mean() for index in range(4)]
    for share, (low, high) in zip(shares, [(0.07, 0.16), (0.015, 0.04), (0.002, 0.02), (0.002, 0.02)], strict=True):
        assert low < share < high


def test_outside_the_field_of_view_is_black_and_no_class(retinas: SegmentationData) -> None:
    outside = retinas.valid == 0
    assert 0.15 < outside.mean() < 0.45
    assert retinas.images[outside].max() < 40 and retinas.images[~outside].mean() > 70
    assert not (retinas.masks & outside[:, None]).any()


def test_vessels_are_darker_and_bright_lesions_lighter_than_their_surroundings() -> None:
    retina = draw_retina(seed=5, size=160, red=True, bright=True)
    green = retina.image[..., 1].astype(float)
    plain = (retina.valid == 1) & (retina.vessel + retina.disc + retina.red_lesion + retina.bright_lesion == 0)
    assert green[retina.vessel == 1].mean() < green[plain].mean() - 10
    assert green[retina.red_lesion == 1].mean() < green[plain].mean() - 10
    assert green[retina.bright_lesion == 1].mean() > green[plain].mean() + 10
    assert green[(retina.disc == 1) & (retina.vessel == 0)].mean() > green[plain].mean() + 10


def test_lesions_are_drawn_where_asked() -> None:
    retina = draw_retina(seed=5, size=96, red=False, bright=False)
    assert not retina.red_lesion.any() and not retina.bright_lesion.any() and retina.vessel.any()


def test_the_binary_set_has_the_vessels_of_the_same_pictures(retinas: SegmentationData) -> None:
    binary = prepared(read_synthetic(lesions=False))
    assert binary.class_names == ("vessel",)
    np.testing.assert_array_equal(binary.images, retinas.images)
    np.testing.assert_array_equal(binary.masks[:, 0], retinas.masks[:, 0])


@pytest.mark.parametrize("count", [6, 9, 30])
def test_parts_for_any_count(count: int) -> None:
    samples = read_synthetic(lesions=True, count=count).samples
    assert len(samples) == count
    assert all([sample.part for sample in samples].count(part) >= 2 for part in ("train", "validation", "test"))
