import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data.catalogue import Catalogue, Contents, Pixels, Sample
from data.input_error import InputError
from data.prepare import cache_folder, fit_image, prepare
from data.readers import find
from data.segmentation_data import MULTILABEL, Preparation, SegmentationData
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


def same(one: SegmentationData, other: SegmentationData) -> bool:
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("images", "masks", "valid"))
    return arrays and one.fingerprint == other.fingerprint and one.sizes == other.sizes and one.names == other.names


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


def test_a_size_fits_the_longer_side_and_keeps_the_aspect() -> None:
    plane = np.zeros((20, 40), np.uint8)
    plane[:, 20:] = 255
    image = np.full((20, 40, 3), 50, np.uint8)
    image[:, 20:] = 150
    data = prepare(catalogue_of(Pixels(image=image, planes=plane[None])), Preparation(size=10), None)
    assert data.images.shape == (1, 10, 10, 3) and data.sizes == ((20, 40),)
    np.testing.assert_array_equal(data.valid[0], [[1] * 10] * 5 + [[0] * 10] * 5)
    np.testing.assert_array_equal(data.masks[0, 0], [[0] * 5 + [1] * 5] * 5 + [[0] * 10] * 5)
    np.testing.assert_array_equal(data.images[0, 0, [0, 9], 0], [50, 150])
    np.testing.assert_array_equal(data.images[0, 9], data.images[0, 0])  # mirrored


def test_a_smaller_picture_is_averaged_not_picked() -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 200
    assert np.abs(fit_image(stripes, Preparation(size=8)).astype(int) - 100).max() <= 10


def test_grey_is_one_channel() -> None:
    fitted = fit_image(some_image(), Preparation(color="grey"))
    assert fitted.shape == (12, 10, 1)
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(fitted[..., 0], some_image() @ weights, atol=1)


@pytest.mark.parametrize(("threshold", "expected"), [(0.0, [0, 1, 1, 1]), (0.5, [0, 0, 1, 1]), (0.9, [0, 0, 0, 1])])
def test_the_threshold_is_a_share_of_255(threshold: float, expected: list[int]) -> None:
    pixels = pixels_of([[0, 0, 0, 0]], [[0, 1, 128, 255]])
    data = prepare(catalogue_of(pixels), Preparation(mask_threshold=threshold), None)
    np.testing.assert_array_equal(data.masks[0, 0, 0], expected)


@pytest.mark.parametrize(
    ("preparation", "message"),
    [
        (Preparation(size=0), "size 0 must be from 8 to 16384"),
        (Preparation(size=100000), "size 100000 must be"),
        (Preparation(mask_threshold=1.0), r"mask_threshold 1\.0 must be"),
        (Preparation(mask_threshold=float("nan")), "mask_threshold nan must be"),
        (Preparation(color="gray"), "color 'gray' must be rgb or grey"),  # type: ignore[arg-type]
    ],
)
def test_a_preparation_out_of_range_is_refused(preparation: Preparation, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(catalogue_of(pixels_of([[0]], [[255]])), preparation, None)


def test_a_class_that_a_small_size_swallows_is_refused() -> None:
    plane = np.zeros((100, 100), np.uint8)
    plane[0, 0] = 255
    pixels = Pixels(image=np.zeros((100, 100, 3), np.uint8), planes=plane[None])
    with pytest.raises(InputError, match="class 'thing' has no pixel left at size 10: raise --size"):
        prepare(catalogue_of(pixels), Preparation(size=10), None)


def test_the_fingerprint_knows_pixels_classes_and_preparation() -> None:
    one = pixels_of([[1, 2]], [[255, 0]])
    prints = [
        prepare(catalogue_of(pixels), preparation, None).fingerprint
        for pixels, preparation in [
            (one, Preparation()),
            (one, Preparation(mask_threshold=0.6)),
            (one, Preparation(color="grey")),
            (pixels_of([[1, 3]], [[255, 0]]), Preparation()),
            (pixels_of([[1, 2]], [[255, 255]]), Preparation()),
            (pixels_of([[1, 2]], [[255, 0]], [[1, 0]]), Preparation()),
        ]
    ]
    assert len(set(prints)) == len(prints)
    assert prints[0] == prepare(catalogue_of(one), Preparation(), None).fingerprint
    assert len(prints[0]) == len(hashlib.sha256().hexdigest())


def test_cache_round_trip_reads_no_picture_again(tmp_path: Path, cache: Path) -> None:
    root = index_folder(tmp_path / "data")
    first = prepare(find(str(root)), Preparation(size=16), cache)
    # With the same size and time of change, only what was kept can give the old pixels.
    for path in (root / "images").iterdir():
        status = path.stat()
        path.write_bytes(b"x" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert same(prepare(find(str(root)), Preparation(size=16), cache), first)
    assert [path.name for path in cache.iterdir() if path.name.startswith("draft-")] == []
    with pytest.raises(InputError, match="cannot be read"):
        prepare(find(str(root)), Preparation(size=17), cache)


def test_a_changed_file_is_read_again(tmp_path: Path, cache: Path) -> None:
    root = index_folder(tmp_path / "data")
    first = prepare(find(str(root)), Preparation(), cache)
    write_picture(root / "images" / "000.bmp", some_image(99))
    os.utime(root / "images" / "000.bmp", ns=(1, 1))
    second = prepare(find(str(root)), Preparation(), cache)
    np.testing.assert_array_equal(second.images[0], some_image(99))
    assert second.fingerprint != first.fingerprint
    (root / "classes.txt").write_text("128 a\n255 b\n")
    assert prepare(find(str(root)), Preparation(), cache).class_names == ("a", "b")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def _forge(path: Path) -> None:
    np.save(path, np.array([{"any": "object"}], dtype=object), allow_pickle=True)


def _blank(path: Path) -> None:
    path.write_text(json.dumps({"fingerprint": "0"}))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("images.npy", Path.unlink),
        ("images.npy", _cut),
        ("images.npy", _flip),
        ("masks.npy", _forge),
        ("valid.npy", lambda path: path.write_bytes(b"")),
        ("data.json", Path.unlink),
        ("data.json", _cut),
        ("data.json", _blank),
        ("data.json", lambda path: path.write_text("[]")),
    ],
)
def test_a_damaged_cache_is_made_anew(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[Path], object]
) -> None:
    root = index_folder(tmp_path / "data")
    first = prepare(find(str(root)), Preparation(), cache)
    (entry,) = cache.iterdir()
    damage(entry / name)
    caplog.set_level(logging.INFO)
    assert same(prepare(find(str(root)), Preparation(), cache), first)
    assert caplog.messages == []
    (again,) = cache.iterdir()
    assert sorted(path.name for path in again.iterdir()) == ["data.json", "images.npy", "masks.npy", "valid.npy"]
    np.testing.assert_array_equal(np.load(again / "images.npy"), first.images)


def test_a_cache_that_cannot_be_written_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = index_folder(tmp_path / "data")
    (tmp_path / "file").touch()
    data = prepare(find(str(root)), Preparation(), tmp_path / "file" / "cache")
    assert data.images.shape == (4, 12, 10, 3)
    (message,) = caplog.messages
    assert "cannot be kept" in message and "\n" not in message


def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, array: object, allow_pickle: bool) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    assert len(prepare(find(str(index_folder(tmp_path))), Preparation(), cache).names) == 4
    assert list(cache.iterdir()) == [] and len(caplog.messages) == 1


def test_many_may_prepare_at_once(tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = index_folder(tmp_path / "data")
    expected = prepare(find(str(root)), Preparation(), None)
    results: list[SegmentationData] = []
    threads = [
        threading.Thread(target=lambda: results.append(prepare(find(str(root)), Preparation(), cache)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 6 and all(same(one, expected) for one in results)
    assert len(list(cache.iterdir())) == 1 and caplog.messages == []


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path) -> None:
    assert cache_folder() == cache
    monkeypatch.delenv("UNET_SEARCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "unet-search"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "unet-search"


def test_the_first_picture_that_fails_is_told(tmp_path: Path) -> None:
    root = index_folder(tmp_path, count=12)
    for name in ("003", "007"):
        write_picture(root / "masks" / f"{name}.png", some_mask(255, height=5))
    with pytest.raises(InputError, match=r"003\.bmp"):
        prepare(find(str(root)), Preparation(), None)
