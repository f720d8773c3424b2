"""A training that was cut off goes on as if nothing had happened, and only where it can."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from data.input_error import InputError
from data.segmentation_data import SegmentationData, Split
from model import epoch as stepping
from model import train as training
from model.checkpoint import WEIGHTS, load_tensors, save_tensors
from model.progress import EpochReport
from model.train import (
    BEST,
    LAST,
    train,
)
from tests.model.trainings import SHORT, assert_same_tensors, tensors_of, without_clock
from tests.toys import colored_squares, split_in_two

# What a state on disk must hold besides the weights.
RESUMED: dict[str, dict[str, Any]] = {
    "moments": {"upsampling": "bilinear"},
    "average": {"ema": 0.9, "gradient_clip": 0.5},
    "momentum": {"optimizer": "sgd", "schedule": "one_cycle"},
    "adam": {"optimizer": "adam", "schedule": "constant", "passes": 2},
    "blocks": {"block": "residual", "dropout_place": "blocks", "accumulation": 2, "deterministic": True},
}


@pytest.mark.parametrize(
    ("stops", "kind"),
    [((1, 2, 3), "moments"), *(((2,), kind) for kind in RESUMED if kind != "moments")],
    ids=str,
)
def test_a_resumed_training_goes_the_way_of_an_uninterrupted_one(
    squares: tuple[SegmentationData, Split], tmp_path: Path, stops: tuple[int, ...], kind: str
) -> None:
    config = replace(SHORT, **RESUMED[kind])
    whole = list(train(config, *squares, folder=tmp_path / "whole"))
    pieces: list[EpochReport] = []
    for stop in stops:
        epochs = train(config, *squares, folder=tmp_path / "pieces", resume=True)
        for report in epochs:
            pieces.append(report)
            if report.epoch == stop:
                break
        epochs.close()  # type: ignore[attr-defined]
    pieces += train(config, *squares, folder=tmp_path / "pieces", resume=True)
    # Each start reports the epoch again that it goes on from.
    expected = sorted([*range(1, config.max_epochs + 1), *stops])
    assert [report.epoch for report in pieces] == expected
    assert without_clock(pieces) == [without_clock(whole)[epoch - 1] for epoch in expected]
    assert_same_tensors(tensors_of(tmp_path / "whole" / LAST), tensors_of(tmp_path / "pieces" / LAST))
    best = Path(BEST) / WEIGHTS
    assert_same_tensors(tensors_of(tmp_path / "whole" / best), tensors_of(tmp_path / "pieces" / best))
    seconds = [report.seconds for report in pieces]
    assert seconds == sorted(seconds)


class Killed(BaseException):
    """What ends a process in the middle of its work."""


@pytest.mark.parametrize(
    ("step", "kind"), [(1, "moments"), (8, "moments"), *((5, kind) for kind in RESUMED if kind != "moments")]
)
def test_a_training_goes_on_after_the_step_at_which_it_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, kind: str
) -> None:
    data = colored_squares("multilabel", side=16)
    split = split_in_two(data)
    # Four steps an epoch, and none of them is lost.
    config = replace(SHORT, max_epochs=3, batch_size=1, **(RESUMED[kind] | {"accumulation": 1}))
    monkeypatch.setattr(stepping, "STEPS_BETWEEN_CHECKS", 1)
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0.0)
    whole = list(train(config, data, split, folder=tmp_path / "whole"))
    taken = []
    take_step = stepping.take_step

    def killed_after(*arguments: Any) -> None:
        if len(taken) == step:
            raise Killed
        take_step(*arguments)
        taken.append(step)

    pieces: list[EpochReport] = []
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(stepping, "take_step", killed_after)
        pieces += train(config, data, split, folder=tmp_path / "pieces")

    def counted(*arguments: Any) -> None:
        taken.append(-1)
        take_step(*arguments)

    monkeypatch.setattr(stepping, "take_step", counted)
    resumed = list(train(config, data, split, folder=tmp_path / "pieces", resume=True))
    assert without_clock(resumed)[-3:] == without_clock(whole)[-len(resumed[-3:]) :]
    assert_same_tensors(tensors_of(tmp_path / "whole" / LAST), tensors_of(tmp_path / "pieces" / LAST))
    # The step before the kill was written down when the one after it began, but the first of an epoch comes again.
    assert taken.count(-1) == 12 - step


def test_a_finished_training_that_is_resumed_only_reports_its_last_epoch_again(
    squares: tuple[SegmentationData, Split], tmp_path: Path
) -> None:
    whole = list(train(SHORT, *squares, folder=tmp_path))
    before = (tmp_path / LAST).read_bytes()
    assert list(train(SHORT, *squares, folder=tmp_path, resume=True)) == whole[-1:]
    assert (tmp_path / LAST).read_bytes() == before


def test_without_resume_a_training_begins_anew(squares: tuple[SegmentationData, Split], tmp_path: Path) -> None:
    whole = list(train(SHORT, *squares, folder=tmp_path))
    assert without_clock(list(train(SHORT, *squares, folder=tmp_path))) == without_clock(whole)


def test_resume_with_nothing_to_go_on_from_begins_at_the_first_epoch(
    squares: tuple[SegmentationData, Split], tmp_path: Path
) -> None:
    assert next(iter(train(SHORT, *squares, folder=tmp_path / "new", resume=True))).epoch == 1


@pytest.mark.parametrize("change", [{"learning_rate": 0.01}, {"width": 3}, {"seed": 1}, {"max_epochs": 9}], ids=str)
def test_the_state_of_another_config_is_refused(
    squares: tuple[SegmentationData, Split], tmp_path: Path, change: dict[str, Any]
) -> None:
    next(iter(train(SHORT, *squares, folder=tmp_path)))
    with pytest.raises(InputError, match="was written by a training with another config or other data") as refused:
        next(iter(train(replace(SHORT, **change), *squares, folder=tmp_path, resume=True)))
    assert str(tmp_path / LAST) in str(refused.value)


def test_a_training_goes_on_that_began_before_a_setting_was_known(
    squares: tuple[SegmentationData, Split], tmp_path: Path
) -> None:
    next(iter(train(SHORT, *squares, folder=tmp_path)))
    tensors, facts = load_tensors(tmp_path / LAST)
    del facts["card"]["config"]["compiled"]
    save_tensors(tmp_path / LAST, tensors, facts)
    assert next(iter(train(SHORT, *squares, folder=tmp_path, resume=True))).epoch == 1, "that which it repeats"
    with pytest.raises(InputError, match="compiled False there, True here"):
        next(iter(train(replace(SHORT, compiled=True), *squares, folder=tmp_path, resume=True)))


def test_the_state_of_other_data_is_refused(squares: tuple[SegmentationData, Split], tmp_path: Path) -> None:
    data, split = squares
    next(iter(train(SHORT, data, split, folder=tmp_path)))
    with pytest.raises(InputError, match="another config or other data"):
        next(iter(train(SHORT, replace(data, fingerprint="other"), split, folder=tmp_path, resume=True)))


def test_the_state_of_another_split_is_refused(squares: tuple[SegmentationData, Split], tmp_path: Path) -> None:
    data, split = squares
    next(iter(train(SHORT, data, split, folder=tmp_path)))
    turned_round = replace(split, train=split.validation, validation=split.train)
    with pytest.raises(InputError, match="another config or other data"):
        next(iter(train(SHORT, data, turned_round, folder=tmp_path, resume=True)))


@pytest.mark.parametrize("kept", [0, 50, -1])
def test_a_damaged_state_is_refused(squares: tuple[SegmentationData, Split], tmp_path: Path, kept: int) -> None:
    next(iter(train(SHORT, *squares, folder=tmp_path)))
    (tmp_path / LAST).write_bytes((tmp_path / LAST).read_bytes()[:kept])
    with pytest.raises(InputError, match="is damaged"):
        next(iter(train(SHORT, *squares, folder=tmp_path, resume=True)))


def test_a_state_that_no_training_wrote_is_refused(squares: tuple[SegmentationData, Split], tmp_path: Path) -> None:
    save_tensors(tmp_path / LAST, {"weight": torch.ones(1)}, {})
    with pytest.raises(InputError, match="another config or other data"):
        next(iter(train(SHORT, *squares, folder=tmp_path, resume=True)))
