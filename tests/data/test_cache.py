"""Prepared data is kept whole or not at all, made once by whoever comes first, and never from a damaged entry."""

import json
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import data.prepare
from data.array_file import open_array
from data.cache import NotKeptError, cache_folder, new_entry, read_entry, sole_access
from data.input_error import InputError
from data.prepare import prepare
from data.readers import find
from data.segmentation_data import Preparation, SegmentationData
from data.statistics import Statistics, measure_all
from tests.data.folders import index_folder, some_image, write_picture

PROJECT = Path(__file__).parents[2]
FILES = ["data.json", "images.npy", "masks.npy", "statistics.npz", "valid.npy"]
SHAPES = {"images": (2, 4, 5, 3)}

# Prepares the folder of its first argument, and writes down each picture that it decodes into that of its second. It
# says so and waits before it decodes the picture of its third argument, until a file `go` stands in the second.
PREPARES = """
import sys, time
from pathlib import Path
import data.catalogue
from data.cache import cache_folder
from data.prepare import prepare
from data.readers import find
from data.segmentation_data import Preparation

decode = data.catalogue.read_color

def read_color(path):
    if path.stem in sys.argv[3:]:
        print("stopped", flush=True)
        while not (Path(sys.argv[2]) / "go").exists():
            time.sleep(0.01)
    with open(Path(sys.argv[2]) / "decoded", "a") as log:
        log.write(path.stem + "\\n")
    return decode(path)

data.catalogue.read_color = read_color
print("begun", flush=True)
print(prepare(find(sys.argv[1]), Preparation(), cache_folder()).fingerprint, flush=True)
"""


def same(one: SegmentationData, other: SegmentationData) -> bool:
    """Whether everything that is kept is equal."""
    arrays = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("images", "masks", "valid"))
    counts = [declared.name for declared in fields(Statistics)]
    counted = all(np.array_equal(getattr(one.statistics, name), getattr(other.statistics, name)) for name in counts)
    facts = ("fingerprint", "sizes", "names", "class_names", "label_mode", "parts", "groups", "preparation", "source")
    return arrays and counted and all(getattr(one, name) == getattr(other, name) for name in facts)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process that runs the code."""
    words = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(words, cwd=PROJECT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(process: subprocess.Popen[str], *words: str) -> None:
    """Waits until a process has printed these words, a line each."""
    assert process.stdout is not None
    assert [process.stdout.readline().strip() for _ in words] == list(words)


def outcome(process: subprocess.Popen[str]) -> str:
    """What a process printed, once it has ended well."""
    printed, complaints = process.communicate(timeout=60)
    assert process.returncode == 0, complaints
    assert complaints == ""
    return printed.strip()


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory for arrays: all data are too large for it."""
    monkeypatch.setattr(data.prepare, "memory_limit", lambda: 0)


def test_a_second_start_reads_no_picture_again(tmp_path: Path, cache: Path) -> None:
    root = index_folder(tmp_path / "data")
    first = prepare(find(str(root)), Preparation(size=16), cache)
    assert same(first, prepare(find(str(root)), Preparation(size=16), None))
    # With the same size and time of change, only what was kept can give the old pixels.
    for path in (root / "images").iterdir():
        status = path.stat()
        path.write_bytes(b"x" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert same(prepare(find(str(root)), Preparation(size=16), cache), first)
    (entry,) = cache.iterdir()
    assert sorted(path.name for path in entry.iterdir()) == FILES
    with pytest.raises(InputError, match="cannot be read"):
        prepare(find(str(root)), Preparation(size=17), cache)
    assert list(cache.iterdir()) == [entry]


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


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"0")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _forge(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([{"any": "object"}], dtype=object), allow_pickle=True)


def _other_words(path: Path) -> None:
    record = json.loads(path.read_text())
    record["facts"]["details"]["class_names"] = ["b", "a"]
    path.write_text(json.dumps(record))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [Path.unlink, _cut, _lengthen, _flip, _empty, _zero, _forge])
def test_a_damaged_entry_is_made_anew(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture, name: str, damage: Callable[[Path], object]
) -> None:
    root = index_folder(tmp_path / "data")
    first = prepare(find(str(root)), Preparation(), None)
    prepare(find(str(root)), Preparation(), cache)
    (entry,) = cache.iterdir()
    damage(entry / name)
    caplog.set_level(logging.INFO)
    assert same(prepare(find(str(root)), Preparation(), cache), first)
    assert caplog.messages == []
    assert list(cache.iterdir()) == [entry]
    assert sorted(path.name for path in entry.iterdir()) == FILES
    assert read_entry(entry) is not None


@pytest.mark.parametrize("content", ["[]", "{}", '{"facts": 1, "digest": 2}', "null", "{"])
def test_details_of_another_kind_are_damage(tmp_path: Path, cache: Path, content: str) -> None:
    prepare(find(str(index_folder(tmp_path))), Preparation(), cache)
    (entry,) = cache.iterdir()
    (entry / "data.json").write_text(content)
    assert read_entry(entry) is None


def test_details_that_were_edited_are_damage(tmp_path: Path, cache: Path) -> None:
    prepare(find(str(index_folder(tmp_path))), Preparation(), cache)
    (entry,) = cache.iterdir()
    _other_words(entry / "data.json")
    assert read_entry(entry) is None


def test_what_was_read_stays_when_its_entry_goes(tmp_path: Path, cache: Path) -> None:
    root = index_folder(tmp_path)
    first = prepare(find(str(root)), Preparation(), cache)
    shutil.rmtree(cache)
    assert same(first, prepare(find(str(root)), Preparation(), None))


def test_a_cache_that_cannot_be_made_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = index_folder(tmp_path / "data")
    (tmp_path / "file").touch()
    found = prepare(find(str(root)), Preparation(), tmp_path / "file" / "cache")
    assert found.images.shape == (4, 12, 10, 3)
    (message,) = caplog.messages
    assert "cannot be kept" in message and "(Not a directory)" in message and "\n" not in message


FULL = """
import resource, sys
import data.prepare
from data.cache import cache_folder
from data.input_error import InputError
from data.prepare import prepare
from data.readers import find
from data.segmentation_data import Preparation

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
data.prepare.memory_limit = lambda: int(sys.argv[3])
try:
    print(prepare(find(sys.argv[1]), Preparation(size="native"), cache_folder()).fingerprint)
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("room", [0, 100, 700, 2000])
def test_a_file_that_cannot_be_finished_costs_one_warning(tmp_path: Path, cache: Path, room: int) -> None:
    """The system lets files grow to so many bytes and no further, as a full disk does."""
    root = index_folder(tmp_path)
    expected = prepare(find(str(root)), Preparation(size="native"), None)
    printed, complaints = start(FULL, root, room, 10**9).communicate(timeout=60)
    assert printed.strip() == expected.fingerprint, complaints
    assert complaints.count("\n") == 1 and "cannot be kept" in complaints and "(File too large)" in complaints
    assert list(cache.iterdir()) == []


def test_data_for_which_there_is_no_room_anywhere_are_refused(tmp_path: Path, cache: Path) -> None:
    for index in range(4):
        write_picture(tmp_path / "images" / f"{index}.bmp", some_image(index, 380, 380))
        write_picture(tmp_path / "masks" / f"{index}.png", some_image(index, 380, 380)[..., 0] // 128 * 255)
    message, _ = start(FULL, tmp_path, 700, 10**6).communicate(timeout=60)
    assert "take 2.9 MB when prepared, more than may be held in memory (1.0 MB)" in message
    assert message.count("\n") == 1 and "set UNET_SEARCH_CACHE" in message and "--size" in message


def test_a_disk_without_room_is_seen_before_any_work(
    tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(cache)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert len(prepare(find(str(index_folder(tmp_path))), Preparation(), cache).names) == 4
    (message,) = caplog.messages
    assert "takes 0.0 MB and 0.0 MB are free" in message
    assert list(cache.iterdir()) == []


def test_threads_make_an_entry_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = index_folder(tmp_path / "data")
    expected = prepare(find(str(root)), Preparation(), None)
    made: list[Path] = []
    keep = data.prepare._keep
    monkeypatch.setattr(data.prepare, "_keep", lambda entry, plan: (made.append(entry), keep(entry, plan)))
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
    assert list(cache.iterdir()) == made  # one, and no lock left


def test_two_processes_make_an_entry_once(tmp_path: Path, cache: Path) -> None:
    root = index_folder(tmp_path / "data", count=8)
    maker = start(PREPARES, root, tmp_path, "003")
    wait_for(maker, "begun", "stopped")
    waiter = start(PREPARES, root, tmp_path)
    wait_for(waiter, "begun")
    time.sleep(0.5)  # in which it would decode, did it not wait
    assert waiter.poll() is None
    (tmp_path / "go").touch()
    fingerprint = prepare(find(str(root)), Preparation(), None).fingerprint
    assert outcome(maker) == outcome(waiter) == fingerprint
    decoded = (tmp_path / "decoded").read_text().split()
    assert sorted(decoded) == [f"{index:03}" for index in range(8)]
    assert len(list(cache.iterdir())) == 1


def test_a_killed_process_blocks_nobody_and_its_draft_is_removed(tmp_path: Path, cache: Path) -> None:
    root, other = index_folder(tmp_path / "data"), index_folder(tmp_path / "other", count=2)
    killed = []
    for folder, last in ((root, "003"), (other, "001")):
        process = start(PREPARES, folder, tmp_path, last)
        wait_for(process, "begun", "stopped")
        killed.append(process)
    locks = sorted(path.suffix for path in cache.iterdir())
    assert locks == [".draft", ".draft", ".lock", ".lock"]
    for process in killed:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    data = prepare(find(str(root)), Preparation(), cache)
    assert same(data, prepare(find(str(root)), Preparation(), None))
    (entry,) = cache.iterdir()  # the half-made entry of the other data is gone, too
    assert sorted(path.name for path in entry.iterdir()) == FILES


def test_the_draft_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    with sole_access(tmp_path / "one"), new_entry(tmp_path / "one", SHAPES) as draft:
        with sole_access(tmp_path / "two"), new_entry(tmp_path / "two", SHAPES):
            assert draft.folder.is_dir()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["one.draft", "one.lock"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at_once", [7, 1000])
def test_pictures_may_come_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    write = os.pwrite
    # A system may write less than it was asked to.
    monkeypatch.setattr(os, "pwrite", lambda file, content, place: write(file, content[:at_once], place))
    pictures = np.random.default_rng(0).integers(0, 256, SHAPES["images"], dtype=np.uint8)
    planes = np.zeros((2, 1, 4, 5), np.uint8)
    statistics = measure_all(pictures, planes, planes[:, 0])
    with sole_access(tmp_path / "one"), new_entry(tmp_path / "one", SHAPES) as draft:
        draft.write("images", 1, pictures[1])
        draft.write("images", 0, pictures[0, ::-1][::-1])
        draft.finish(statistics, {"sizes": ((1, 2),)})
    kept = read_entry(tmp_path / "one")
    assert kept is not None
    np.testing.assert_array_equal(kept.arrays["images"], pictures)
    np.testing.assert_array_equal(np.load(tmp_path / "one" / "images.npy"), pictures)
    assert kept.details == {"sizes": [[1, 2]]}
    assert not kept.arrays["images"].flags.writeable


def test_entries_that_nobody_reads_go_when_another_is_made(tmp_path: Path, cache: Path) -> None:
    root = index_folder(tmp_path)
    names = {}
    for size in (12, 13, 14):
        before = set(cache.iterdir())
        prepare(find(str(root)), Preparation(size=size), cache)
        (names[size],) = set(cache.iterdir()) - before
    (cache / "own").mkdir()  # not one of ours
    for folder in cache.iterdir():
        os.utime(folder, (0, time.time() - 31 * 24 * 3600))
    prepare(find(str(root)), Preparation(size=13), cache)  # is read, so it is in use
    prepare(find(str(root)), Preparation(size=15), cache)
    assert not names[12].exists() and not names[14].exists() and names[13].is_dir() and (cache / "own").is_dir()
    assert len(list(cache.iterdir())) == 3


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotKeptError, match="Not a directory"), sole_access(tmp_path / "file" / "cache" / "entry"):
        pass


@pytest.mark.usefixtures("large")
def test_large_data_are_mapped_and_sent_as_the_names_of_their_files(tmp_path: Path, cache: Path) -> None:
    for index in range(3):
        write_picture(tmp_path / "images" / f"{index}.bmp", some_image(index, 200, 200))
        write_picture(tmp_path / "masks" / f"{index}.png", some_image(index, 200, 200)[..., 0] // 128 * 255)
    first = prepare(find(str(tmp_path)), Preparation(), cache)
    second = prepare(find(str(tmp_path)), Preparation(), cache)
    for one in (first, second):
        assert all(isinstance(array, np.memmap) for array in (one.images, one.masks, one.valid))
        sent = pickle.dumps(one)
        assert len(sent) < one.images.nbytes / 3
        received = pickle.loads(sent)
        assert same(received, one) and isinstance(received.images, np.memmap)
        assert isinstance(one.images, np.memmap) and received.images.filename == one.images.filename


@pytest.mark.usefixtures("large")
def test_mapped_data_that_are_not_on_this_machine_are_told(tmp_path: Path, cache: Path) -> None:
    sent = pickle.dumps(prepare(find(str(index_folder(tmp_path))), Preparation(), cache))
    (entry,) = cache.iterdir()
    masks = open_array(entry / "masks.npy")
    np.save(entry / "masks.npy", masks[:2])
    with pytest.raises(InputError, match=r"masks\.npy' cannot be opened on this machine .* UNET_SEARCH_CACHE"):
        pickle.loads(sent)
    shutil.rmtree(entry)
    with pytest.raises(InputError, match=r"images\.npy' cannot be opened on this machine \(No such file"):
        pickle.loads(sent)


def test_data_that_fit_into_memory_are_sent_whole(tmp_path: Path, cache: Path) -> None:
    first = prepare(find(str(index_folder(tmp_path))), Preparation(), cache)
    assert type(first.images) is np.ndarray
    sent = pickle.dumps(first)
    shutil.rmtree(cache)
    assert same(pickle.loads(sent), first)


@pytest.mark.usefixtures("large")
def test_drawn_data_stay_in_memory(cache: Path) -> None:
    assert type(prepare(find("synthetic"), Preparation(size=32), cache).images) is np.ndarray
    assert list(cache.iterdir()) == []


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, cache: Path, tmp_path: Path) -> None:
    assert cache_folder() == cache
    monkeypatch.delenv("UNET_SEARCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "unet-search"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "unet-search"
