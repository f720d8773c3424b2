"""A state of a training that was damaged on disk is noticed, and the one before it takes its place."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data.input_error import InputError
from data.segmentation_data import SegmentationData, Split
from model import kept_states
from model.checkpoint import WEIGHTS, load_model, load_tensors, save_tensors
from model.kept_states import PREVIOUS, drop_states, mend_state
from model.train import BEST, LAST, train
from tests.model.trainings import SHORT, assert_same_tensors, tensors_of, without_clock
from tests.toys import colored_squares, split_in_two


@pytest.fixture(scope="module")
def squares() -> tuple[SegmentationData, Split]:
    data = colored_squares("multilabel", count=6, side=16)
    return data, split_in_two(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


DAMAGES: list[Callable[[Path], None]] = [cut_short, flip_a_bit, Path.unlink]


def train_until(epoch: int, squares: tuple[SegmentationData, Split], folder: Path) -> None:
    epochs = train(SHORT, *squares, folder=folder)
    assert next(report.epoch for report in epochs if report.epoch == epoch)
    epochs.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_gives_way_to_the_one_before_it_and_the_training_ends_as_if_nothing_had_happened(
    squares: tuple[SegmentationData, Split], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    whole = list(train(SHORT, *squares, folder=tmp_path / "whole"))
    train_until(3, squares, tmp_path / "hurt")
    damage(tmp_path / "hurt" / LAST)
    told = mend_state(tmp_path / "hurt" / LAST)
    what = "missing" if damage is Path.unlink else "damaged"
    assert told == f"last.safetensors was {what}, and the state before it was taken"
    assert mend_state(tmp_path / "hurt" / LAST) == ""

    resumed = list(train(SHORT, *squares, folder=tmp_path / "hurt", resume=True))
    assert without_clock(resumed) == without_clock(whole)[1:], "it repeats its second epoch and goes on"
    for file in (LAST, f"{BEST}/{WEIGHTS}"):
        assert_same_tensors(tensors_of(tmp_path / "whole" / file), tensors_of(tmp_path / "hurt" / file))
    assert sorted(path.name for path in (tmp_path / "hurt").iterdir()) == [BEST, LAST], "spares go at the end"


@pytest.mark.parametrize("damage", [cut_short, flip_a_bit])
def test_where_no_state_is_whole_it_says_so_and_touches_none(
    squares: tuple[SegmentationData, Split], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    train_until(2, squares, tmp_path)
    for name in (LAST, PREVIOUS):
        damage(tmp_path / name)
    with pytest.raises(InputError, match=r"previous.safetensors' is damaged"):
        mend_state(tmp_path / LAST)
    (tmp_path / PREVIOUS).unlink()
    with pytest.raises(InputError, match=r"last.safetensors' is damaged"):
        mend_state(tmp_path / LAST)
    assert (tmp_path / LAST).exists()
    drop_states(tmp_path / LAST, all_of_them=True)
    assert mend_state(tmp_path / LAST) == "", "nothing is nothing to mend"


def test_a_state_that_was_cut_short_takes_no_good_ones_place(
    squares: tuple[SegmentationData, Split], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = train(SHORT, *squares, folder=tmp_path)
    for report in epochs:
        if report.epoch == 2:
            before = (tmp_path / PREVIOUS).read_bytes()
            cut_short(tmp_path / LAST)
        if report.epoch == 3:
            break
    assert (tmp_path / PREVIOUS).read_bytes() == before, "the damaged one was not kept in its place"

    last = (tmp_path / LAST).read_bytes()
    monkeypatch.setattr(kept_states, "save_state", lambda path, *_: path.write_bytes(b"half of it"))
    with pytest.raises(OSError, match="cannot be read after it was written"):
        next(epochs)
    assert ((tmp_path / LAST).read_bytes(), (tmp_path / PREVIOUS).read_bytes()) == (last, before)


def test_a_flipped_bit_of_a_model_is_noticed(squares: tuple[SegmentationData, Split], tmp_path: Path) -> None:
    train_until(1, squares, tmp_path)
    load_model(tmp_path / BEST)
    flip_a_bit(tmp_path / BEST / WEIGHTS)
    with pytest.raises(InputError, match=r"damaged .*checksum"):
        load_model(tmp_path / BEST)


def test_words_and_names_belong_to_what_is_checked(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).bfloat16(), "flags": torch.tensor([True, False]), "none": torch.zeros(0, 3)}
    save_tensors(tmp_path / "x.safetensors", {**tensors, "scalar": torch.tensor(3)}, {"epoch": 1})
    assert load_tensors(tmp_path / "x.safetensors")[1] == {"epoch": 1}
    content = (tmp_path / "x.safetensors").read_bytes()
    for old, new in ((b'epoch\\": 1', b'epoch\\": 2'), (b'"flags"', b'"flogs"')):
        assert old in content
        (tmp_path / "x.safetensors").write_bytes(content.replace(old, new))
        with pytest.raises(InputError, match="checksum"):
            load_tensors(tmp_path / "x.safetensors")
