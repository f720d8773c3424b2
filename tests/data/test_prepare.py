"""Pictures of all sizes become arrays of one size: aspect, colour, thresholds, padding, and what is refused."""

import hashlib
import os
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import data.pictures
import data.prepare
from data.catalogue import Catalogue, Contents, Pixels, Sample
from data.field_of_view import find_field_of_view
from data.fit import fit_image, fit_mask
from data.input_error import InputError
from data.prepare import fingerprint_of, prepare
from data.readers import find
from data.segmentation_data import MULTICLASS, MULTILABEL, Preparation, UInt8
from data.synthetic import draw_retina
from tests.data.folders import index_folder, some_image, some_mask, write_picture


def catalogue_of(*pixels: Pixels) -> Catalogue:
    """A catalogue of pixels that lie in no file."""
    by_name = {f"{index}": one for index, one in enumerate(pixels)}
    contents = Contents(class_names=("thing",), label_mode=MULTILABEL, read=lambda sample: by_name[sample.name])
    samples = tuple(Sample(name=name) for name in by_name)
    return Catalogue(source="made", samples=samples, open=lambda: contents)


def pixels_of(image: list[list[int]], plane: list[list[int]], valid: list[list[int]] | None = None) -> Pixels:
    grey = np.array(image, np.uint8)
    return Pixels(
        image=np.repeat(grey[..., None], 3, axis=2),
        planes=np.array([plane], np.uint8),
        valid=None if valid is None else np.array(valid, np.uint8),
    )


def test_padding_mirrors_the_image_and_never_counts() -> None:
    small = pixels_of([[1, 2]], [[255, 255]])
    large = pixels_of([[5, 6, 7], [8, 9, 10]], [[0, 0, 255], [0, 0, 0]], [[1, 1, 1], [0, 0, 0]])
    data = prepare(catalogue_of(small, large), Preparation(), None)
    np.testing.assert_array_equal(data.images[0, ..., 0], [[1, 2, 2], [1, 2, 2]])
    np.testing.assert_array_equal(data.masks[0, 0], [[1, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(data.valid[0], [[1, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(data.images[1, ..., 2], [[5, 6, 7], [8, 9, 10]])
    np.testing.assert_array_equal(data.valid[1], [[1, 1, 1], [0, 0, 0]])
    assert data.sizes == ((1, 2), (2, 3))
    assert data.statistics.valid_pixels.tolist() == [2, 3]
    assert data.statistics.extents.tolist() == [[1, 2], [1, 3]]


def test_a_size_fits_the_longer_side_and_keeps_the_aspect() -> None:
    plane = np.zeros((20, 40), np.uint8)
    plane[:, 20:] = 255
    image = np.full((20, 40, 3), 50, np.uint8)
    image[:, 20:] = 150
    data = prepare(catalogue_of(Pixels(image=image, planes=plane[None])), Preparation(size=10), None)
    assert data.images.shape == (1, 5, 10, 3) and data.sizes == ((20, 40),)
    assert data.valid.all()
    np.testing.assert_array_equal(data.masks[0, 0], [[0] * 5 + [1] * 5] * 5)
    np.testing.assert_array_equal(data.images[0, 0, [0, 9], 0], [50, 150])


@pytest.mark.parametrize(("size", "expected"), [(8, (8, 7)), (12, (12, 10)), (256, (12, 10)), ("native", (12, 10))])
def test_pictures_are_shrunk_never_enlarged(size: int, expected: tuple[int, int]) -> None:
    preparation = Preparation(size=size)
    assert fit_image(some_image(), preparation).shape == (*expected, 3)
    assert fit_mask(some_mask(1), size).shape == expected


def test_a_shrunk_picture_is_averaged_not_picked() -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(fit_image(stripes, Preparation(size=8)).astype(int) - 100).max() <= 10


def test_a_shrunk_mask_keeps_its_share_and_classes_exclude_each_other_still() -> None:
    draw = np.random.default_rng(0)
    classes = np.kron(draw.integers(0, 4, (70, 90)), np.ones((3, 3), int))
    planes = np.stack([(classes == value).astype(np.uint8) for value in range(4)])
    fitted = np.stack([fit_mask(plane, 128) for plane in planes])
    assert (fitted.sum(axis=0) == 1).all()
    np.testing.assert_allclose(fitted.mean(axis=(1, 2)), planes.mean(axis=(1, 2)), atol=0.01)


def test_grey_is_one_channel() -> None:
    fitted = fit_image(some_image(), Preparation(color="grey"))
    assert fitted.shape == (12, 10, 1)
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(fitted[..., 0], some_image() @ weights, atol=1)


def test_green_is_the_green_channel() -> None:
    np.testing.assert_array_equal(fit_image(some_image(), Preparation(color="green")), some_image()[..., 1:2])


@pytest.mark.parametrize("color", ["rgb", "grey", "green"])
def test_contrast_is_raised_before_the_picture_is_shrunk(color: str) -> None:
    image = draw_retina(seed=1, size=96, red=True, bright=True).image
    preparation = Preparation(color=color, clahe=True, size=48)  # type: ignore[arg-type]
    raised = fit_image(image, Preparation(color=color, clahe=True, size="native"))  # type: ignore[arg-type]
    again = raised if color == "rgb" else np.repeat(raised, 3, axis=2)
    expected = fit_image(again, Preparation(color=color, size=48))  # type: ignore[arg-type]
    assert np.abs(fit_image(image, preparation).astype(int) - expected).max() <= 1
    assert fit_image(image, preparation).std() > fit_image(image, Preparation(color=color, size=48)).std()  # type: ignore[arg-type]


@pytest.mark.parametrize(("threshold", "expected"), [(0.0, [0, 1, 1, 1]), (0.5, [0, 0, 1, 1]), (0.9, [0, 0, 0, 1])])
def test_the_threshold_is_a_share_of_255(threshold: float, expected: list[int]) -> None:
    pixels = pixels_of([[0, 0, 0, 0]], [[0, 1, 128, 255]])
    data = prepare(catalogue_of(pixels), Preparation(mask_threshold=threshold), None)
    np.testing.assert_array_equal(data.masks[0, 0, 0], expected)
    # Of the two pixels that are marked clearly.
    assert data.statistics.kept.tolist() == [[sum(expected[2:]) / 2]]


def test_the_field_of_view_is_looked_for_where_the_owner_gives_none(tmp_path: Path) -> None:
    retina = draw_retina(seed=3, size=96, red=False, bright=False)
    own = np.zeros((96, 96), np.uint8)
    own[20:60, :] = 1
    pixels = {
        "no_mask": Pixels(image=retina.image, planes=retina.vessel[None] * np.uint8(255)),
        "unlabelled_parts": Pixels(image=retina.image, planes=retina.vessel[None] * np.uint8(255), valid=own),
        "own_mask": Pixels(image=retina.image, planes=retina.vessel[None] * np.uint8(255), valid=own),
    }
    contents = Contents(class_names=("thing",), label_mode=MULTILABEL, read=lambda sample: pixels[sample.name])
    mask = write_picture(tmp_path / "mask.png", own * np.uint8(255))
    samples = tuple(Sample(name=name, field_of_view=mask if name == "own_mask" else None) for name in pixels)
    catalogue = Catalogue(source="made", samples=samples, open=lambda: contents)
    found = find_field_of_view(retina.image)
    assert 0.5 < found.mean() < 0.95
    data = prepare(catalogue, Preparation(field_of_view="found"), None)
    np.testing.assert_array_equal(data.valid, [found, found & own, own])
    given = prepare(catalogue, Preparation(), None)
    np.testing.assert_array_equal(given.valid, [np.ones_like(own), own, own])


@pytest.mark.parametrize(
    ("preparation", "message"),
    [
        (Preparation(size=0), "size 0 must be from 8 to 16384"),
        (Preparation(size=100000), "size 100000 must be"),
        (Preparation(mask_threshold=1.0), r"mask_threshold 1\.0 must be"),
        (Preparation(mask_threshold=float("nan")), "mask_threshold nan must be"),
        (Preparation(color="gray"), "color 'gray' must be rgb, grey or green"),  # type: ignore[arg-type]
        (Preparation(field_of_view="all"), "field_of_view 'all' must be given or found"),  # type: ignore[arg-type]
    ],
)
def test_a_preparation_out_of_range_is_refused(preparation: Preparation, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(catalogue_of(pixels_of([[0]], [[255]])), preparation, None)


@pytest.mark.parametrize("preparation", [Preparation(clahe=True), Preparation(field_of_view="found")])
def test_without_opencv_what_needs_it_is_refused(preparation: Preparation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.prepare, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs OpenCV, which is not installed: pip install opencv-python-headless"):
        prepare(catalogue_of(pixels_of([[0]], [[255]])), preparation, None)
    assert prepare(catalogue_of(pixels_of([[0]], [[255]])), Preparation(), None).names == ("0",)


def test_a_class_that_a_small_size_swallows_is_refused() -> None:
    plane = np.zeros((100, 100), np.uint8)
    plane[0, 0] = 255
    pixels = Pixels(image=np.zeros((100, 100, 3), np.uint8), planes=plane[None])
    with pytest.raises(InputError, match="class 'thing' has no pixel left at size 10: raise --size"):
        prepare(catalogue_of(pixels), Preparation(size=10), None)


def test_a_class_that_lies_where_nothing_counts_is_refused() -> None:
    with pytest.raises(InputError, match="class 'thing' has pixels only where none counts"):
        prepare(catalogue_of(pixels_of([[1, 2]], [[255, 0]], [[0, 1]])), Preparation(), None)


def test_a_class_without_any_pixel_is_refused() -> None:
    with pytest.raises(InputError, match=r"class 'thing' has no pixel in any mask of 'made' .* mask_threshold 0\.5"):
        prepare(catalogue_of(pixels_of([[1, 2]], [[127, 0]])), Preparation(), None)


def test_statistics_tell_what_was_held_and_what_overlaps() -> None:
    plane = np.zeros((30, 30), np.uint8)
    plane[0, 0] = 255  # lost when shrunk to a third
    planes = np.stack([np.full((30, 30), 255, np.uint8), plane])
    whole = Pixels(image=np.zeros((30, 30, 3), np.uint8), planes=np.full((2, 30, 30), 255, np.uint8))
    pixels = {"a": Pixels(image=np.zeros((30, 30, 3), np.uint8), planes=planes), "b": whole}
    contents = Contents(class_names=("one", "two"), label_mode=MULTICLASS, read=lambda sample: pixels[sample.name])
    catalogue = Catalogue(source="made", samples=(Sample(name="a"), Sample(name="b")), open=lambda: contents)
    statistics = prepare(catalogue, Preparation(size=10), None).statistics
    assert statistics.class_pixels.tolist() == [[100, 0], [100, 100]]
    assert statistics.held.all()
    assert statistics.overlap_pixels.tolist() == [0, 100]


def test_the_fingerprint_knows_pixels_classes_and_preparation() -> None:
    one = pixels_of([[1, 2]], [[255, 0]])
    prints = [
        prepare(catalogue_of(pixels), preparation, None).fingerprint
        for pixels, preparation in [
            (one, Preparation()),
            (one, Preparation(mask_threshold=0.6)),
            (one, Preparation(color="grey")),
            (one, Preparation(color="green")),
            (pixels_of([[1, 3]], [[255, 0]]), Preparation()),
            (pixels_of([[1, 2]], [[255, 255]]), Preparation()),
            (pixels_of([[1, 2]], [[255, 0]], [[1, 0]]), Preparation()),
        ]
    ]
    assert len(set(prints)) == len(prints)
    again = prepare(catalogue_of(one), Preparation(), None)
    assert prints[0] == again.fingerprint
    assert prints[0] == fingerprint_of(again.images, again.masks, again.valid, ("thing",), Preparation())
    assert len(prints[0]) == len(hashlib.sha256().hexdigest())


def test_the_first_picture_that_fails_is_told(tmp_path: Path) -> None:
    root = index_folder(tmp_path, count=12)
    for name in ("003", "007"):
        write_picture(root / "masks" / f"{name}.png", some_mask(255, height=5))
    with pytest.raises(InputError, match=r"003\.bmp"):
        prepare(find(str(root)), Preparation(), None)


def test_a_picture_that_changes_while_it_is_read_is_told() -> None:
    sizes = iter([(4, 4), (5, 4)])

    def read(sample: Sample) -> Pixels:
        height, width = next(sizes)
        return Pixels(image=np.zeros((height, width, 3), np.uint8), planes=np.full((1, height, width), 255, np.uint8))

    contents = Contents(class_names=("thing",), label_mode=MULTILABEL, read=read)
    catalogue = Catalogue(source="made", samples=(Sample(name="one"),), open=lambda: contents)
    with pytest.raises(InputError, match="'one' changed while it was read"):
        prepare(catalogue, Preparation(), None)


@pytest.mark.parametrize(("memory", "most"), [(2**40, 8), (2**26, 2), (2**20, 1)])
def test_large_pictures_are_prepared_few_at_a_time(monkeypatch: pytest.MonkeyPatch, memory: int, most: int) -> None:
    monkeypatch.setattr(data.prepare, "total_memory", lambda: memory)
    lock, running, highest = threading.Lock(), 0, 0

    def read(sample: Sample) -> Pixels:
        nonlocal running, highest
        with lock:
            running += 1
            highest = max(highest, running)
        time.sleep(0.03)
        with lock:
            running -= 1
        image = np.zeros((200, 300, 3), np.uint8)
        return Pixels(image=image, planes=np.full((1, 200, 300), 255, np.uint8))

    contents = Contents(class_names=("thing",), label_mode=MULTILABEL, read=read, size=lambda sample: (200, 300))
    samples = tuple(Sample(name=f"{index:02}") for index in range(16))
    prepare(Catalogue(source="made", samples=samples, open=lambda: contents), Preparation(), None)
    assert highest == most


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("change", ["replaced", "removed"])
def test_a_file_that_is_replaced_while_others_are_read_is_told(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, kept: bool, change: str
) -> None:
    root = index_folder(tmp_path)

    def read_color(path: Path) -> UInt8:
        image = data.pictures.read_color(path)
        if path.stem == "001" and change == "replaced":  # by one of the same size
            write_picture(path, some_image(99))
            os.utime(path, ns=(1, 1))
        elif path.stem == "001":
            path.unlink()
        return image

    monkeypatch.setattr("data.catalogue.read_color", read_color)
    with pytest.raises(InputError, match=r"changed while it was read|001\.bmp' cannot be read any more"):
        prepare(find(str(root)), Preparation(), cache if kept else None)
    assert list(cache.iterdir()) == []


def test_only_a_few_pictures_are_held_at_a_time(tmp_path: Path, cache: Path) -> None:
    def big(value: int) -> UInt8:
        return np.full((200, 200, 3), value, np.uint8)

    for index in range(60):
        write_picture(tmp_path / "images" / f"{index:03}.bmp", big(index))
        write_picture(tmp_path / "masks" / f"{index:03}.png", some_mask(255, height=200, width=200))
    catalogue = find(str(tmp_path))
    tracemalloc.start()
    try:
        data = prepare(catalogue, Preparation(), cache)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert data.images.nbytes + data.masks.nbytes + data.valid.nbytes == 60 * 200 * 200 * 5
    assert peak < 60 * 200 * 200 * 5
    assert [int(image.min()) for image in data.images] == list(range(60))
