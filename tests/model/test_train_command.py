"""`python -m model.train`, from the words typed to the files written."""

import csv
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data import readers, sampling
from data.command_line import python
from data.input_error import InputError
from data.readers import load
from data.segmentation_data import Preparation
from data.split import split_data
from model import history
from model import train as training
from model.checkpoint import CONFIG, WEIGHTS, ModelCard, load_model, load_tensors, read_card, save_model
from model.config import TrainConfig
from model.history import HISTORY
from model.kept_states import PREVIOUS
from model.start import TRANSFER
from model.train import BEST, FAILURE, LAST, train
from tests.toys import colored_squares, split_in_two, write_folder

TINY = TrainConfig(depth=2, width=2, crop_size=16, epoch_pixels=0, batch_size=4, max_epochs=1, precision="float32")
TINY_OPTIONS = [
    *("--depth", 2, "--width", 2, "--crop-size", 16, "--epoch-pixels", 0, "--batch-size", 4),
    *("--precision", "float32", "--device", "cpu"),
]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "pictures", colored_squares("multilabel"))


def names_in(folder: Path) -> Iterable[str]:
    return sorted(path.name for path in folder.iterdir())


def test_one_epoch_leaves_a_model_and_says_what_to_type_next(
    run_module: Callable[..., int], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "runs" / "first"
    options = ["--data", pictures, "--folder", folder, "--max-epochs", 1, *TINY_OPTIONS]
    assert run_module("model.train", *options) == 0
    assert names_in(folder) == [BEST, HISTORY, LAST]
    card = load_model(folder / BEST)[1]
    assert card.config == TINY
    assert (card.source, card.class_names) == (str(pictures), ("class0", "class1"))
    shown = capsys.readouterr()
    assert shown.err == ""
    lines = shown.out.splitlines()
    assert lines[0] == f"{pictures}: 5 images to train on, 1 to validate, on cpu"
    # what the doctor says of so few pictures
    assert lines[1].startswith("warning: There is only 1 picture to choose by")
    [epoch] = [line for line in lines if line.startswith("epoch 1/1  loss ")]
    score = load_tensors(folder / BEST / WEIGHTS)[1]["scores"]["val_dice"]
    assert f"val_dice {score:.4f} (best {score:.4f}, epoch 1)" in epoch
    assert lines[-1] == f"next: {python()} -m model.predict {folder / BEST} PICTURES"


def test_an_interrupt_says_how_to_go_on(
    run_module: Callable[..., int],
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(*_: object, **_more: object) -> None:
        raise KeyboardInterrupt

    options = ["--data", pictures, "--folder", tmp_path / "run", "--max-epochs", 2, *TINY_OPTIONS]
    with monkeypatch.context() as patch:
        patch.setattr(readers, "load", interrupted)
        assert run_module("model.train", *options) == 130
    assert capsys.readouterr().err == "interrupted; the same command begins again\n"
    monkeypatch.setattr(history, "add_to_history", interrupted)
    assert run_module("model.train", *options) == 130
    assert capsys.readouterr().err == "interrupted; the same command with --resume goes on\n"


def test_like_trains_a_model_again_bit_for_bit_and_takes_changes(
    run_module: Callable[..., int], pictures: Path, tmp_path: Path
) -> None:
    preparation = ["--color", "grey", "--size", 24, "--mask-threshold", 0.25, "--field-of-view", "found"]
    first, again, changed = (tmp_path / name for name in ("first", "again", "changed"))
    options = ["--data", pictures, "--folder", first, "--max-epochs", 2, "--seed", 5, *preparation, *TINY_OPTIONS]
    assert run_module("model.train", *options) == 0
    assert run_module("model.train", "--like", first / BEST, "--folder", again, "--device", "cpu") == 0
    card = read_card(first / BEST / CONFIG)
    assert card.preparation == Preparation(color="grey", size=24, mask_threshold=0.25, field_of_view="found")
    assert read_card(again / BEST / CONFIG) == card
    for file in (LAST, f"{BEST}/{WEIGHTS}"):
        expected, found = (load_tensors(folder / file)[0] for folder in (first, again))
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)

    other = ["--validation-fraction", 0.6, "--split-seed", 3]
    elsewhere, repeated = tmp_path / "elsewhere", tmp_path / "repeated"
    assert run_module("model.train", "--like", first / BEST, "--folder", elsewhere, "--device", "cpu", *other) == 0
    assert run_module("model.train", "--like", elsewhere / BEST, "--folder", repeated, "--device", "cpu") == 0
    cards = [read_card(folder / BEST / CONFIG) for folder in (first, elsewhere, repeated)]
    assert cards[0].validation_images != cards[1].validation_images == cards[2].validation_images
    assert cards[1].train_images == cards[2].train_images

    changes = ["--depth", 3, "--color", "rgb", "--size", "native", "--max-epochs", 1, "--device", "cpu"]
    assert run_module("model.train", *changes, "--like", first / BEST, "--folder", changed) == 0
    expected_config = replace(card.config, depth=3, max_epochs=1)
    expected_preparation = replace(card.preparation, color="rgb", size="native")
    changed_card = read_card(changed / BEST / CONFIG)
    assert (changed_card.config, changed_card.preparation) == (expected_config, expected_preparation)


def test_a_row_of_a_leaderboard_is_trained_again_and_compared(
    run_module: Callable[..., int], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    options = ["--data", pictures, "--max-epochs", 2, "--seed", 5, *TINY_OPTIONS]
    assert run_module("model.train", *options, "--folder", run / "trials/t0003") == 0
    rows = [
        "rank,trial_id,status,checkpoint",
        "1,t0003,completed,trials/t0003/best",
        "2,t1,diverged,",
        "3,t2,failed,../x",
    ]
    (run / "leaderboard.csv").write_text("\n".join(rows) + "\n")
    capsys.readouterr()
    assert run_module("model.train", "--from", run, "--folder", again, "--device", "cpu") == 0
    assert "t0003/best has" in (said := capsys.readouterr().out) and "(to the last digit)" in said
    other = ["--from", run, "--seed", 6, "--folder", tmp_path / "other", "--device", "cpu"]
    assert run_module("model.train", *other) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("repeated:"))
    assert "last digit" not in line
    for words, told in (
        ([run, "--rank", 2], "rank 2 of"),
        ([run, "--rank", 9], "rank 9 is not in"),
        ([run, "--rank", 3], "is no path inside its folder"),
        ([tmp_path / "nowhere"], "has no leaderboard that can be read"),
        ([run, "--like", again / BEST], "both name a model to repeat"),
    ):
        assert run_module("model.train", "--from", *words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line


@pytest.mark.parametrize("clahe", [True, False])
def test_like_takes_over_every_kind_of_value(
    run_module: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clahe: bool
) -> None:
    config = TrainConfig(class_weight="inverse", dropout=0.1, deterministic=clahe, seed=7)
    preparation = Preparation(size="native", clahe=clahe, field_of_view="found")
    card = ModelCard.of(config, replace(colored_squares("binary"), preparation=preparation), thresholds=(0.5,))
    save_model(tmp_path / BEST, card.build(), card, {})
    asked: list[Preparation] = []

    def load_nothing(data: str, *, root: Path | None, preparation: Preparation) -> None:
        asked.append(preparation)
        raise InputError("enough")

    monkeypatch.setattr(readers, "load", load_nothing)
    assert run_module("model.train", "--like", tmp_path / BEST) == 2
    assert asked == [preparation]


def test_a_training_that_begins_from_another_model_says_what_it_took(
    run_module: Callable[..., int], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = replace(colored_squares("binary"), class_names=("other",))
    [*_] = train(TINY, source, split_in_two(source), folder=tmp_path / "source")
    options = ["--data", pictures, "--folder", tmp_path / "run", "--max-epochs", 1, *TINY_OPTIONS]
    assert run_module("model.train", *options, "--init-from", tmp_path / "source" / BEST) == 0
    [introduced] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("from ")]
    assert introduced.startswith(f"from {tmp_path / 'source' / BEST}: ")
    assert "head" in introduced
    assert introduced.endswith(f"tensor by tensor: {tmp_path / 'run' / TRANSFER}")
    told = (tmp_path / "run" / TRANSFER).read_text(encoding="utf-8")
    assert "passes.0.head.weight" in told
    assert "new: " in told


def test_a_model_that_has_seen_the_validation_images_is_warned_of(
    run_module: Callable[..., int], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", pictures, "--max-epochs", 1, *TINY_OPTIONS]
    assert run_module("model.train", *options, "--folder", tmp_path / "first", "--validation-ids", "picture0") == 0
    again = [*options, "--init-from", tmp_path / "first" / BEST]
    capsys.readouterr()
    assert run_module("model.train", *again, "--folder", tmp_path / "a", "--validation-ids", "picture0") == 0
    assert "seen_before" not in capsys.readouterr().out
    assert run_module("model.train", *again, "--folder", tmp_path / "b", "--validation-ids", "picture1") == 0
    shown = capsys.readouterr().out
    assert (
        "warning: seen_before: the model that it begins from has learnt from 1 of the 1 validation images (pic" in shown
    )


def test_the_history_has_a_row_for_each_epoch_however_often_a_training_was_resumed(
    run_module: Callable[..., int], pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    options = ["--data", pictures, "--folder", folder, "--max-epochs", 3, *TINY_OPTIONS]
    for resume in ([], ["--resume"]):
        assert run_module("model.train", *options, *resume) == 0
    with (folder / HISTORY).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert {"train_loss", "val_dice", "val_auc_pr", "warnings", "gradient_norm"} < rows[0].keys()


def test_a_fresh_start_drops_the_history_of_a_training_that_was_taken_away(
    run_module: Callable[..., int], pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    options = ["--data", pictures, "--folder", folder, *TINY_OPTIONS]
    assert run_module("model.train", *options, "--max-epochs", 2) == 0
    (folder / LAST).unlink()
    (folder / TRANSFER).write_text("of old\n")
    assert run_module("model.train", *options, "--max-epochs", 1) == 0
    with (folder / HISTORY).open(encoding="utf-8", newline="") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1"]
    assert not (folder / TRANSFER).exists()


def test_a_training_goes_on_when_what_it_began_from_is_gone(
    run_module: Callable[..., int], refusal: Callable[..., str], pictures: Path, tmp_path: Path
) -> None:
    options = ["--data", pictures, "--max-epochs", 1, *TINY_OPTIONS]
    assert run_module("model.train", *options, "--folder", tmp_path / "source") == 0
    options += ["--init-from", tmp_path / "source" / BEST, "--folder", tmp_path / "run"]
    assert run_module("model.train", *options) == 0
    shutil.rmtree(tmp_path / "source")
    assert run_module("model.train", *options, "--resume") == 0
    assert (tmp_path / "run" / TRANSFER).exists()
    (tmp_path / "run" / LAST).unlink()
    assert "init_from" in refusal("model.train", *options, "--resume")


def test_an_interrupted_training_goes_on_only_with_resume(
    run_module: Callable[..., int],
    refusal: Callable[..., str],
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    data = load(str(pictures))
    interrupted = train(replace(TINY, max_epochs=3), data, split_data(data)[0], folder=folder)
    next(interrupted)
    interrupted.close()  # type: ignore[attr-defined]
    before = (folder / LAST).read_bytes()

    options = ["--data", pictures, "--folder", folder, "--max-epochs", 3, *TINY_OPTIONS]
    assert f"folder {str(folder)!r} holds a training: add --resume to go on" in refusal("model.train", *options)
    words = refusal("model.train", *options, "--resume", "--learning-rate", 0.5)
    assert "written by a training with another config or other data (learning_rate 0.005 there, 0.5 here)" in words
    assert (folder / LAST).read_bytes() == before
    assert run_module("model.train", *options, "--resume") == 0
    epochs = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert epochs == ["1/3", "2/3", "3/3"]


def test_a_resumed_training_still_shows_the_best_epoch_from_before(
    run_module: Callable[..., int], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    options = ["--data", pictures, "--folder", folder, "--max-epochs", 1, *TINY_OPTIONS]
    assert run_module("model.train", *options) == 0
    network, card = load_model(folder / BEST)
    save_model(folder / BEST, network, card, {"epoch": 0, "val_dice": 0.9876})
    capsys.readouterr()
    assert run_module("model.train", *options, "--resume") == 0
    assert "(best 0.9876, epoch 0)" in capsys.readouterr().out


def test_a_training_that_was_killed_before_it_was_judged_goes_on(
    run_module: Callable[..., int], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    options = ["--data", pictures, "--folder", folder, "--max-epochs", 3, "--evaluate-every", 3, *TINY_OPTIONS]
    data = load(str(pictures), preparation=Preparation())
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0.0)
    monkeypatch.setattr(training, "judge", None)
    with pytest.raises(TypeError):
        list(train(replace(TINY, max_epochs=3, evaluate_every=3), data, split_data(data)[0], folder=folder))
    assert list(names_in(folder)) == [PREVIOUS, LAST]
    assert run_module("model.train", *options, "--resume") == 0
    assert list(names_in(folder)) == [BEST, HISTORY, LAST]


def test_a_training_that_collapses_ends_with_1_and_its_reason(
    run_module: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = colored_squares("binary", side=16)
    speck = np.zeros_like(data.masks)
    speck[:, :, 8, 8] = 1
    pictures = write_folder(tmp_path / "pictures", replace(data, masks=speck))
    options = ["--data", pictures, "--folder", tmp_path / "run", "--loss", "weighted_ce", "--learning-rate", 0.05]
    options += ["--max-epochs", 40, "--collapse-epochs", 2, *TINY_OPTIONS]
    assert run_module("model.train", *options) == 1
    error = capsys.readouterr().err
    assert error.startswith(
        "collapsed: masks_empty: predicted no pixel of any class in 2 looks in a row, and no threshold helps; try"
    )
    assert error.count("\n") == 1
    assert (tmp_path / "run" / FAILURE).read_text(encoding="utf-8") == error


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--data", "nowhere/at/all"], "data 'nowhere/at/all' does not exist"),
        (["--data", "sintetic"], "Did you mean 'synthetic'?"),
        (["--depth", "9"], "depth 9 must be 6 or less"),
        (["--depth", "three"], "three"),
        (["--loss", "dise"], "Did you mean 'dice'?"),
        (["--learning-rate", "0"], "learning_rate 0.0 must be above 0"),
        (["--learning-rat", "0.1"], "--learning-rat"),
        (["--size", "2"], "size 2 must be from"),
        (["--color", "gray"], "gray"),
        (["--class-weight", "0.5"], "class_weight '0.5' is not known; allowed: inverse, median_frequency, none"),
        (["--folds", "2"], "folds 2 belong to a search: leave --folds out"),
        (["--group-by", "("], "group_by '(' is no regular expression"),
        (["--train-ids", "99"], "train_ids '99' names no image"),
        (["--device", "cuda:99"], "device 'cuda:99' cannot be used here"),
        (["--like", "nowhere/best"], "model 'nowhere/best' does not exist"),
        (["--init-from", "nowhere/best"], "nowhere/best"),
        (["--init-from", "imagenet"], "encoder"),
        (["stray"], "stray"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_ends_with_2_and_one_line_and_leaves_nothing_behind(
    refusal: Callable[..., str], pictures: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    folder = tmp_path / "run"
    data = [] if "--data" in options else ["--data", pictures]
    assert words in refusal("model.train", *data, "--folder", folder, *options)
    assert not folder.exists()


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_step(
    refusal: Callable[..., str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The module is loaded anew by the command and takes its batches from here.
    monkeypatch.setattr(sampling, "draw_batches", None)
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    folder = tmp_path / "file" / "run"
    words = refusal("model.train", "--data", pictures, "--folder", folder, *TINY_OPTIONS)
    assert f"folder {str(folder)!r} cannot be written" in words


def test_help_names_every_hyperparameter_with_its_meaning(
    run_module: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_module("model.train", "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--learning-rate" in shown
    assert "down-samplings of the U-net" in shown
    assert "--like" in shown
