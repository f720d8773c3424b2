"""What cannot be searched is refused in one line, with exit code 2, and leaves nothing behind."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.search.commands import run_here, start
from tests.toys import colored_squares, save_png, write_folder


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command says when it refuses."""
    assert run_here(*words) == 2
    out, errors = capsys.readouterr()
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert out == ""
    return errors.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["--data", "sinthetic"], ["data 'sinthetic' is not known", "Did you mean 'synthetic'?"]),
        (["--data", "no/folder"], ["data 'no/folder' does not exist"]),
        (["--data", "stare"], ["data 'stare' needs --data-root"]),
        (["--scheduler", "asah"], ["asah", "asha", "none", "Did you mean"]),
        (["--space", "learning_rat=1"], ["parameter 'learning_rat' is not known", "Did you mean 'learning_rate'?"]),
        (["--space", "depth=5:3"], ["depth '5:3' is turned round", "write depth=3:5"]),
        (["--space", "learning_rate=0"], ["learning_rate 0.0 must be above 0"]),
        (["--space", "loss=dise"], ["loss 'dise' is not known", "Did you mean 'dice'?"]),
        (["--num-trials", "0"], ["num_trials 0 must be 1 or more"]),
        (["--num-trials", "many"], ["many", "--num-trials"]),
        (["--max-epochs", "0"], ["max_epochs 0 must be 1 or more"]),
        (["--max-time=-5m"], ["max_time '-5m' is no duration", "15m"]),
        (["--budget", "20"], ["budget '20' has no unit: write 20x"]),
        (["--budget", "x20"], ["budget 'x20' is turned round: write 20x."]),
        (["--stop-at", "dice=0.8"], ["stop_at 'dice' is not known", "Did you mean 'val_dice'?"]),
        (
            ["--stop-at", "val_dice=82"],
            ["stop_at 'val_dice=82' must be above 0 and at most 1: write it like val_dice=0.82"],
        ),
        (
            ["--stop-at", "val_dice_vesel=0.8"],
            ["stop_at 'val_dice_vesel' is not known", "Did you mean 'val_dice_vessel'?"],
        ),
        (["--patience", "0"], ["patience 0 must be 1 or more"]),
        (["--patience", "2.5"], ["patience 2.5 must be a whole number: leave the fraction out."]),
        (
            ["--max-epochs", "6", "--space", "max_epochs=10"],
            ["max_epochs 6 would do nothing, for the space has max_epochs=10: leave --max-epochs or the space's"],
        ),
        (["--max-epochs", "6", "--space", "max_epochs=3:10"], ["max_epochs 6 would do nothing"]),
        (["--deterministic", "--space", "deterministic=false"], ["deterministic True would do nothing"]),
        (["--init-from", "mine", "--space", "init_from=|imagenet"], ["/mine' would do nothing", "init_from=|imagenet"]),
        (["--folds", "3", "--validation-fraction", "0.3"], ["validation_fraction 0.3 and folds 3 cannot both be"]),
        (["--searcher", "grid", "--warm-start", "runs/old"], ["warm_start", "searcher 'grid'"]),
        (["--searcher", "bayes"], ["bayes", "tpe", "--searcher"]),
        (["--scheduler", "wilcoxon"], ["scheduler 'wilcoxon' compares trials fold by fold", "add --folds 4 or more"]),
        (["--size", "-1"], ["size -1 must be"]),
        (["--mask-threshold", "1.5"], ["mask_threshold 1.5 must be"]),
        (["--folds", "0"], ["folds 0 must be 1 or more"]),
        (["--folds", "99"], ["folds 99 is more than the 19 image(s)", "lower it"]),
        (["--train-ids", "1-9,99"], ["train_ids '99' names no image of 'synthetic'; there are 24"]),
        (["--group-by", "left"], ["group_by 'left' finds nothing in 24 of 24 names of 'synthetic'"]),
        (["--name", "a/b"], ["name 'a/b' makes no good folder"]),
        (["--resume"], ["--resume needs the run to go on with: add its --name"]),
        (["--resume", "--name", "gone"], ["run 'gone' does not exist", "leave --resume out"]),
        (["--config", "gone.yaml"], ["config 'gone.yaml' cannot be read"]),
        (["--nam", "x"], ["--nam", "Did you mean --name?"]),
        (["stare"], ["unexpected 'stare'", "--help"]),
        (["--address", "127.0.0.1:1"], ["address '127.0.0.1:1': no cluster answers", "leave --address out"]),
        (["--address", "head"], ["address 'head' must be host:port"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_what_is_asked_wrongly_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], messages: list[str]
) -> None:
    said = refusal(capsys, "--storage", str(tmp_path / "runs"), *words)
    for message in messages:
        assert message in said
    assert list(tmp_path.iterdir()) == []


def spoil_nothing(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()


def take_a_mask(folder: Path) -> None:
    (folder / "masks" / "picture1.png").unlink()


def shrink_a_mask(folder: Path) -> None:
    save_png(folder / "masks" / "picture1.png", np.zeros((8, 8), np.uint8))


def cut_a_picture(folder: Path) -> None:
    path = folder / "images" / "picture1.png"
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.parametrize("spoil", [spoil_nothing, take_a_mask, shrink_a_mask, cut_a_picture])
def test_a_folder_that_cannot_be_learned_from_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Any
) -> None:
    folder = write_folder(tmp_path / "cells", colored_squares("binary"))
    spoil(folder)
    before = sorted(tmp_path.rglob("*"))
    said = refusal(capsys, "--storage", str(tmp_path / "runs"), "--data", str(folder))
    assert "cells" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_a_name_that_is_taken_and_a_storage_that_cannot_be_written_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").touch()
    said = refusal(capsys, "--storage", str(tmp_path), "--name", "mine")
    assert said.startswith(f"run 'mine' exists in '{tmp_path}': add --resume, or take another --name")
    (tmp_path / "file").touch()
    for storage in (tmp_path / "file" / "below", Path("/proc/nowhere")):
        assert refusal(capsys, "--storage", str(storage)).startswith(f"storage '{storage}' cannot be written")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "mine"]
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["letter"]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("words", [["--gpus-per-trial", "2"], ["--cpus-per-trial", "99"]], ids=" ".join)
def test_more_than_the_machines_have_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    for more in ([], ["--dry-run"]):
        said = refusal(capsys, "--storage", str(tmp_path / "runs"), *words, *more)
        assert f"{words[0][2:].replace('-', '_')} {words[1]}" in said
        assert "fit on no machine: there is one with 1 CPUs and 0 GPUs" in said
    assert list(tmp_path.iterdir()) == []


def test_the_command_itself_refuses_in_one_line(tmp_path: Path) -> None:
    command = start("--storage", str(tmp_path / "runs"), "--data", "sinthetic")
    out, errors = command.communicate()
    assert (command.returncode, out) == (2, "")
    assert errors.startswith("error: data 'sinthetic' is not known")
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_is_found_before_anything_slow_is_loaded() -> None:
    """Ray, torch and pandas take seconds; a wrong name is answered without them."""
    code = (
        "import sys, search.run as it\n"
        "assert it.run_command(it.run, ['--data', 'sinthetic'], defaults=it.read_defaults) == 2\n"
        "print(*sorted({'ray', 'torch', 'pandas', 'optuna'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
