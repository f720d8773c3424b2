"""What every reader must do: one contract for all layouts, on small sets made here and on the real ones."""

import os
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.catalogue import Sample, map_in_threads
from data.convert import write_folder
from data.input_error import InputError
from data.readers import DRAWN, OWNED, find, load
from data.segmentation_data import MULTICLASS, Preparation, SegmentationData, Splitting
from data.split import split_data
from tests.data import layouts
from tests.data.folders import some_mask, write_picture
from tests.data.layouts import LAID_OUT, LaidOut

DATASETS = Path(__file__).parents[3] / "shared" / "datasets"
DATA_PAGE = Path(__file__).parents[2] / "docs" / "data.md"
NATIVE = Preparation(size="native")


@dataclass(frozen=True, kw_only=True)
class RealSet:
    """What a set in shared/datasets must give: the number of images in each part, and the classes' shares of pixels."""

    train: int
    test: int
    shares: dict[str, float]
    validation: int = 0


REAL = {
    "stare": RealSet(train=8, validation=2, test=10, shares={"vessel": 0.076}),
    "chasedb1-second": RealSet(train=10, test=4, shares={"vessel": 0.064}),
    "idrid": RealSet(
        train=18,
        test=6,
        shares={"microaneurysms": 0.0014, "haemorrhages": 0.014, "hard_exudates": 0.015, "soft_exudates": 0.002},
    ),
    "wbc": RealSet(train=240, test=60, shares={"cytoplasm": 0.19, "nucleus": 0.12}),
}


@pytest.fixture(params=LAID_OUT)
def laid_out(request: pytest.FixtureRequest) -> LaidOut:
    return LAID_OUT[request.param]


@pytest.fixture
def root(laid_out: LaidOut, tmp_path: Path) -> Path:
    laid_out.write(tmp_path / "made")
    return tmp_path / "made"


def read(laid_out: LaidOut, root: Path, preparation: Preparation = NATIVE) -> SegmentationData:
    return load(laid_out.data or str(root), root=root if laid_out.data else None, preparation=preparation)


def assert_sound(data: SegmentationData, preparation: Preparation) -> None:
    """What holds for every set that is read."""
    count, height, width, channels = data.images.shape
    assert channels == (3 if preparation.color == "rgb" else 1) == data.channels
    largest = max(height, width)
    assert largest == np.max(data.sizes) if preparation.size == "native" else largest <= preparation.size
    assert data.names == tuple(sorted(data.names)) and len(set(data.names)) == count
    assert set(np.unique(data.masks)) == {0, 1} and set(np.unique(data.valid)) <= {0, 1}
    assert data.valid.any(axis=(1, 2)).all(), "in each picture some pixels count"
    assert (data.masks & data.valid[:, None]).any(axis=(0, 2, 3)).all(), "every class has a pixel that counts"
    assert data.images.std() > 0
    if data.label_mode == MULTICLASS:
        assert data.masks.sum(axis=1).max() == 1, "classes exclude each other"
    for folds in (1, 2):
        splits = split_data(data, Splitting(folds=folds))
        assert len(splits) == folds
        for split in splits:
            assert sorted(split.train + split.validation + split.test) == list(range(count))
            assert_groups_are_whole(data, split.train, split.validation, split.test)
            assert set(split.test) >= {i for i, part in enumerate(data.parts) if part == "test"}


def assert_groups_are_whole(data: SegmentationData, *parts: tuple[int, ...]) -> None:
    held = [{data.groups[index] for index in part} - {None} for part in parts]
    assert sum(map(len, held)) == len(set().union(*held)), "a group is parted"


def assert_same(one: SegmentationData, other: SegmentationData) -> None:
    for declared in fields(SegmentationData):
        mine, its = getattr(one, declared.name), getattr(other, declared.name)
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, its, strict=True)
        elif declared.name != "statistics":
            assert mine == its, declared.name


def test_it_gives_what_the_owner_laid_out(laid_out: LaidOut, root: Path) -> None:
    data = read(laid_out, root)
    assert_sound(data, NATIVE)
    assert data.names == tuple(sorted(laid_out.parts))
    assert data.parts == tuple(laid_out.parts[name] for name in data.names)
    assert data.groups == tuple(laid_out.groups.get(name) for name in data.names)
    assert (data.class_names, data.label_mode) == (laid_out.class_names, laid_out.label_mode)
    np.testing.assert_array_equal(data.masks, laid_out.truth)
    np.testing.assert_array_equal(data.valid, laid_out.valid)


def test_it_fits_any_preparation(laid_out: LaidOut, root: Path) -> None:
    preparation = Preparation(size=10 * len(laid_out.class_names), color="grey", mask_threshold=0.3)
    assert_sound(read(laid_out, root, preparation), preparation)


def test_it_reads_the_same_again_in_threads_and_after_a_journey(
    laid_out: LaidOut, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = read(laid_out, root)
    assert_same(read(laid_out, root), first)  # what was kept
    monkeypatch.setenv("UNET_SEARCH_CACHE", str(tmp_path / "another"))
    assert_same(read(laid_out, root), first)  # read anew
    catalogue = find(laid_out.data or str(root), root=root)
    moved = pickle.loads(pickle.dumps(catalogue))
    assert moved.samples == catalogue.samples
    contents = pickle.loads(pickle.dumps(moved.open()))
    decoded = map_in_threads(contents.read, moved.samples * 4)
    for index, pixels in enumerate(decoded):
        image = pixels.image
        np.testing.assert_array_equal(image, first.images[index % len(first.names)])
        assert pixels.planes.dtype == np.uint8 and pixels.planes.shape == (len(first.class_names), *image.shape[:2])


def test_it_names_every_file_that_it_depends_on(laid_out: LaidOut, root: Path) -> None:
    files = set(find(laid_out.data or str(root), root=root).files)
    there = {path for path in root.rglob("*") if path.is_file()}
    unnamed = {path for path in there if not any(path.match(pattern) for pattern in laid_out.others)} - files
    assert files <= there and not unnamed


def test_it_notices_a_changed_picture(laid_out: LaidOut, root: Path) -> None:
    before = read(laid_out, root)
    changed = find(laid_out.data or str(root), root=root).samples[0]
    assert changed.image is not None
    write_picture(changed.image, 255 - before.images[0])
    after = read(laid_out, root)
    assert after.fingerprint != before.fingerprint
    np.testing.assert_array_equal(after.images[1:], before.images[1:])


def test_it_converts_to_a_plain_folder_and_back(laid_out: LaidOut, root: Path, tmp_path: Path) -> None:
    data = read(laid_out, root)
    write_folder(data, tmp_path / "plain")
    plain = load(str(tmp_path / "plain"), preparation=NATIVE)
    assert plain.names == data.names and plain.parts == data.parts and plain.label_mode == data.label_mode
    order = [data.class_names.index(name) for name in plain.class_names]
    assert sorted(order) == list(range(len(data.class_names)))
    np.testing.assert_array_equal(plain.masks, data.masks[:, order])
    np.testing.assert_array_equal(plain.images, data.images)


def _remove_masks(sample: Sample) -> None:
    for path in set(sample.masks.values()):
        path.unlink()


def _remove_image(sample: Sample) -> None:
    assert sample.image is not None
    sample.image.unlink()


def _truncate_image(sample: Sample) -> None:
    assert sample.image is not None
    content = sample.image.read_bytes()
    sample.image.write_bytes(content[: len(content) // 2])


def _resize_mask(sample: Sample) -> None:
    path = next(iter(sample.masks.values()))
    if path.suffix == ".npy":
        np.save(path, np.zeros((5, 5, 7), np.uint8))
    else:
        write_picture(path, some_mask(height=5, width=7))


SPOILT: dict[Callable[[Sample], None], str] = {
    _remove_masks: r"without mask: .*(copy|must have its image's name)",
    _remove_image: r"without image.*remove|is missing, but .* copy",
    _truncate_image: r"cannot be read .*: .* copy it again",
    _resize_mask: r"is 7 x 5: .*mend|has the shape \(5, 5, 7\), .*: save it",
}


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__.strip("_"))
def test_it_tells_what_is_broken_in_one_line(laid_out: LaidOut, root: Path, spoil: Callable[[Sample], None]) -> None:
    read(laid_out, root)  # also keeps it: what was kept must not hide the fault
    sample = find(laid_out.data or str(root), root=root).samples[0]
    spoil(sample)
    with pytest.raises(InputError, match=SPOILT[spoil]) as caught:
        read(laid_out, root)
    message = str(caught.value)
    assert "\n" not in message
    assert any(str(path) in message for path in sample.files) or (sample.name in message and str(root) in message)


def assert_absence_is_told(name: str, laid_out: LaidOut, root: Path) -> None:
    """That the set's reader says what it misses: without a root, without the set, and without a single picture."""
    with pytest.raises(InputError, match=f"data '{name}' needs --data-root"):
        find(name)
    with pytest.raises(InputError, match=r"--data-root .* is no folder"):
        find(name, root=root / "none")
    with pytest.raises(InputError, match=r"must name the folder that holds .*\.(png|jpg|tif|ppm\.gz).*; get it from"):
        find(name, root=root)
    laid_out.write(root)
    for path in [path for path in root.rglob("*") if path.is_file() and path.suffix != ".txt"]:
        path.unlink()
    with pytest.raises(InputError, match=r"holds none of the images|must name the folder|is missing") as caught:
        find(name, root=root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", OWNED)
def test_a_named_set_that_is_not_there_is_told_with_its_layout(name: str, tmp_path: Path) -> None:
    assert_absence_is_told(name, next(laid_out for laid_out in LAID_OUT.values() if laid_out.data == name), tmp_path)


def test_the_example_of_the_docs_keeps_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, line, small_set = re.findall(r"^```python\n(.*?)^```$", DATA_PAGE.read_text(encoding="utf-8"), re.M | re.S)
    names: dict[str, Any] = {**vars(layouts), "LAID_OUT": {}}
    exec(reader, names)
    exec(small_set, names)
    for name, read_set in eval(f"{{{line}}}", names).items():
        monkeypatch.setitem(OWNED, name, read_set)
    ((name, laid_out),) = names["LAID_OUT"].items()
    assert name == laid_out.data
    laid_out.write(tmp_path / "made")
    test_it_gives_what_the_owner_laid_out(laid_out, tmp_path / "made")
    test_it_names_every_file_that_it_depends_on(laid_out, tmp_path / "made")
    (tmp_path / "empty").mkdir()
    assert_absence_is_told(name, laid_out, tmp_path / "empty")
    for index, spoil in enumerate(SPOILT):
        laid_out.write(tmp_path / str(index))
        test_it_tells_what_is_broken_in_one_line(laid_out, tmp_path / str(index), spoil)


def test_the_docs_tell_of_every_named_set() -> None:
    told = re.findall(r"^\| (`.*?`) \|", DATA_PAGE.read_text(encoding="utf-8"), re.M)
    assert sorted(name.strip("`") for cell in told for name in cell.split(", ")) == sorted((*DRAWN, *OWNED))


def test_every_named_set_is_in_the_contract() -> None:
    assert {laid_out.data for laid_out in LAID_OUT.values()} - {None} == set(OWNED)
    assert not DRAWN.keys() & OWNED.keys()


@pytest.mark.parametrize("name", DRAWN)
def test_drawn_sets_keep_the_contract_too(name: str) -> None:
    data = load(name, preparation=NATIVE)
    assert_sound(data, NATIVE)
    assert_same(load(name, preparation=NATIVE), data)
    assert find(name).files == ()


@pytest.mark.usefixtures("cache_of_public_sets")
@pytest.mark.parametrize("name", REAL)
def test_the_real_set(name: str) -> None:
    if not (DATASETS / name.removesuffix("-second")).is_dir():
        pytest.skip(f"{name} is not in shared/datasets")
    real = REAL[name]
    data = load(name, root=DATASETS)
    assert_sound(data, Preparation())
    counts = {part: data.parts.count(part) for part in ("train", "validation", "test")}
    assert counts == {"train": real.train, "validation": real.validation, "test": real.test}
    shares = data.statistics.class_pixels.sum(axis=0) / data.statistics.valid_pixels.sum()
    found = dict(zip(data.class_names, shares.tolist(), strict=True))
    assert found == pytest.approx(real.shares, rel=0.06)
    catalogue = find(name, root=DATASETS)
    assert all(path.is_file() for path in catalogue.files)


@pytest.mark.usefixtures("cache_of_public_sets")
@pytest.mark.skipif(not (DATASETS / "stare").is_dir(), reason="STARE is not in shared/datasets")
def test_a_set_is_the_same_however_its_place_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load("stare", root=DATASETS)
    split = split_data(data, Splitting())[0]
    assert [data.names[index] for index in split.validation] == ["im0082", "im0139"]
    monkeypatch.chdir(DATASETS)
    assert load("stare", root=Path(os.curdir)).fingerprint == data.fingerprint
    assert load("stare", root=DATASETS / "stare").fingerprint == data.fingerprint


def test_unknown_names() -> None:
    with pytest.raises(
        InputError, match=r"'sintetic' is not known; allowed: .*synthetic-lesions.* Did you mean 'synth"
    ):
        find("sintetic")
    with pytest.raises(InputError, match=r"data is empty: name a folder"):
        find("")
    with pytest.raises(InputError, match=r"'no/such' does not exist"):
        find("no/such")
