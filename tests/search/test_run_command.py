"""One real search from the command line, and what the command says at its end."""

import json
import re
from dataclasses import asdict, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import search.run
from data.segmentation_data import Split
from model.checkpoint import load_model
from model.config import TrainConfig
from search.driver import Outcome
from search.holder import LOCK
from search.leaderboard import columns, read
from search.record import TrialRecord
from search.run import NO_MODEL, conclude, describe_splits, inspect_command, show_classes
from search.run_folder import RunFolder
from search.settings import SearchSettings
from tests.search.commands import SMALL, run_here, start
from tests.toys import colored_squares


def test_one_command_leads_from_pictures_to_a_leaderboard_and_the_best_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, errors = start("--storage", str(tmp_path), "--num-trials", "3", "--max-epochs", "2", *SMALL).communicate()
    folder = tmp_path / "synthetic-001"
    assert errors == ""
    lines = out.splitlines()
    assert lines[0].startswith(f"{folder}: 24 images of ")
    told = [line.split(":")[0] for line in lines if " completed: " in line]
    assert sorted(told) == [f"t000{number} completed" for number in range(3)]
    assert f"leaderboard: {folder}/leaderboard.csv" in lines
    assert re.fullmatch(rf"use it: +\S*python\S* -m model.predict {folder}/best PICTURES", lines[-2])
    assert lines[-1].endswith(f"-m search.finals {folder}")

    rows = read(folder / "leaderboard.csv")
    assert list(rows.columns) == columns(["vessel"])
    assert rows["rank"].to_list() == [1, 2, 3]
    assert rows.epochs.to_list() == [2, 2, 2]
    assert f"({rows.trial_id[0]}, val_dice {rows.val_dice[0]:.4f})" in next(
        line for line in lines if line.startswith("best model:")
    )
    _, card = load_model(folder / "best")
    assert (card.source, card.class_names, card.config.depth) == ("synthetic", ("vessel",), 2)
    assert {path.name for path in folder.iterdir()} == {
        *("settings.yaml", "dataset.json", "study.log", "events.log", "leaderboard.csv", "best", "trials", LOCK)
    }
    facts = json.loads((folder / "dataset.json").read_text())
    assert facts["fingerprint"] == card.fingerprint
    assert sum(map(len, facts["split"].values())) == len(facts["sizes"]) == 24

    # The settings are enough to ask for the same again.
    assert run_here("--config", str(folder / "settings.yaml"), "--print-config") == 0
    assert capsys.readouterr().out == (folder / "settings.yaml").read_text()
    assert yaml.safe_load((folder / "settings.yaml").read_text())["num_trials"] == 3


@pytest.mark.usefixtures("ray_cluster")
def test_a_dry_run_measures_and_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, largest = (
        "depth=2:3,width=2,batch_size=4,crop_size=16",
        "depth 3, width 2, batch_size 4, crop_size 16, passes 1",
    )
    assert (
        run_here(
            *("--storage", str(tmp_path / "runs"), "--dry-run", "--folds", "3", "--space", small),
            *("--num-trials", "12", "--max-time", "2h", "--objective", "val_dice,latency_ms"),
        )
        == 0
    )
    _, *space, first, second, total, time = capsys.readouterr().out.splitlines()
    assert "depth          2 to 3" in space
    assert first.startswith("smallest training (depth 2, ")
    assert second.startswith(f"largest training ({largest}): ")
    assert " parameters, " in second
    assert second.endswith(" ms a picture")
    assert total.startswith("12 trials of 60 epochs in each of 3 folds, 2 at a time: ")
    assert time.startswith("max_time 2h, 2 at a time: ")
    assert list(tmp_path.iterdir()) == []


def test_the_config_is_printed_with_the_whole_space_and_nothing_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("num_trials: 7\nmax_time: 15m\nspace: {depth: 4, loss: [dice, dice_ce]}\n")
    assert run_here("--config", str(file), "--num-trials", "9", "--print-config") == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["num_trials"], printed["max_time"]) == (9, "15m")
    assert {"depth=4", "loss=dice|dice_ce"} <= set(printed["space"])
    assert any(text.startswith("learning_rate=") for text in printed["space"])
    assert list(tmp_path.iterdir()) == [file]


def test_every_option_survives_the_way_through_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*("--clahe", "--size", "native", "--field-of-view", "found", "--train-ids", "1-27", "--test-ids", "5")]
    words += [*("--group-by", "^[a-z]+", "--folds", "3", "--split-seed", "7", "--print-config")]
    words += [*("--init-from", "models/a=b, and c", "--deterministic", "--space", "init_from=models/old|imagenet")]
    assert run_here(*words) == 0
    printed = capsys.readouterr().out
    options = yaml.safe_load(printed)
    assert {"clahe": True, "size": "native", "test_ids": "5", "folds": 3}.items() <= options.items()
    assert (options["init_from"], options["deterministic"]) == (str(Path.cwd() / "models/a=b, and c"), True)
    assert f"init_from={Path.cwd() / 'models/old'}|imagenet" in options["space"]
    (tmp_path / "mine.yaml").write_text(printed)
    assert run_here("--config", str(tmp_path / "mine.yaml"), "--print-config") == 0
    assert capsys.readouterr().out == printed


def test_splits_are_told_in_one_line() -> None:
    split = Split(train=tuple(range(16)), validation=(16, 17, 18, 19), test=tuple(range(20, 30)))
    assert describe_splits([split]) == "16 to train on, 4 to choose by, 10 kept for the end"
    assert describe_splits([split] * 5) == "5 folds of 16 to train on, 4 to choose by; 10 kept for the end"
    uneven = replace(split, train=tuple(range(15)), validation=(15, 16, 17, 18, 19))
    assert describe_splits([split, uneven]).startswith("2 folds of 15 to 16 to train on, 4 to 5 to choose by; 10")


def test_it_says_how_to_look_at_the_data_as_the_search_sees_them() -> None:
    plain = SearchSettings(data="my pictures")
    assert inspect_command(plain).endswith("-m data.inspect 'my pictures'")
    seen = replace(plain, data_root=Path("sets"), size="native", clahe=True, folds=3, group_by="^p.")
    assert inspect_command(seen).split("'my pictures' ")[1] == (
        "--size native --clahe --group-by '^p.' --folds 3 --data-root sets"
    )


def ended(
    outcome: Outcome, folder: Path, storage: str = "runs", test: tuple[int, ...] = (), **asked: Any
) -> tuple[int, list[str]]:
    """What the command says of this outcome: exit code and lines."""
    out = StringIO()
    settings = SearchSettings(storage=Path(storage), **asked)
    console = Console(file=out, markup=False, soft_wrap=True)
    split = Split(train=(0, 1), validation=(2,), test=test)
    code = conclude(settings, RunFolder(path=folder), colored_squares("binary"), split, outcome, None, console)
    return code, out.getvalue().splitlines()


RECORD = TrialRecord(trial_id="t0000", config=asdict(TrainConfig()), status="running", metrics={"val_dice": 0.5})


def test_an_interrupted_search_says_how_to_go_on() -> None:
    interrupted = Outcome(records=[RECORD], best=RECORD, interrupted=True)
    code, lines = ended(interrupted, Path("runs/mine"))
    assert code == 130
    assert re.fullmatch(r"interrupted; go on with: \S*python\S* -m search.run --resume --name mine", lines[-1])
    _, lines = ended(interrupted, Path("my runs/mine"), "my runs")
    assert lines[-1].endswith("--resume --name mine --storage 'my runs'")
    assert lines[-2].endswith("'my runs/mine/best' PICTURES")


@pytest.mark.parametrize("begun", [False, True])
def test_an_interrupt_before_or_after_the_trials_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    def interrupted(folder: RunFolder, *_: object) -> None:
        if begun:
            folder.begun.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(search.run, "search_in", interrupted)
    assert run_here("--storage", str(tmp_path), "--name", "mine") == 130
    out, errors = capsys.readouterr()
    if begun:
        assert (out.splitlines()[-1].split("-m ")[1], errors) == (
            f"search.run --resume --name mine --storage {tmp_path}",
            "",
        )
    else:
        assert (out, errors) == ("", "interrupted; the same command begins again\n")
        assert list(tmp_path.iterdir()) == []


def test_an_interrupted_rehearsal_of_a_run_begins_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search.run, "search_in", interrupted)
    (tmp_path / "mine/trials").mkdir(parents=True)
    (tmp_path / "mine/settings.yaml").write_text("num_trials: 12\n")
    assert run_here("--storage", str(tmp_path), "--name", "mine", "--resume", "--dry-run") == 130
    assert capsys.readouterr() == ("", "interrupted; the same command begins again\n")


def test_a_run_goes_on_with_settings_that_a_new_one_may_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search.run, "search_in", lambda *_: 0)
    (tmp_path / "mine").mkdir()
    idle = ("--folds=3", "--validation-fraction=0.3", "--max-epochs=6", "--space=max_epochs=10")
    where = ("--storage", str(tmp_path), "--name", "mine")
    saved = "folds: 3\nvalidation_fraction: 0.3\nmax_epochs: 6\nspace: [only, max_epochs=10]\n"
    (tmp_path / "mine/settings.yaml").write_text(saved)
    assert run_here(*where, "--resume") == 0
    assert run_here(*where[:-1], "other", *idle) == 2
    assert "validation_fraction 0.3 and folds 3 cannot both be" in capsys.readouterr().err


def test_a_search_says_why_it_is_over_and_how_to_go_on() -> None:
    for ending, told in (
        ("num_trials 12 reached", "num_trials 12 reached; to go on, --resume it with a larger --num-trials"),
        ("nothing is left to try", "nothing is left to try"),
    ):
        outcome = Outcome(records=[RECORD], best=RECORD, interrupted=False, ending=ending)
        _, lines = ended(outcome, Path("runs/mine"))
        assert f"ended:       {told}" in lines
    _, lines = ended(Outcome(records=[RECORD], best=RECORD, interrupted=True), Path("runs/mine"))
    assert not any(line.startswith("ended:") for line in lines)


@pytest.mark.parametrize(("test", "interrupted"), [((3, 4), False), ((), False), ((3, 4), True)])
def test_the_finals_are_offered_where_images_were_kept_for_them(test: tuple[int, ...], interrupted: bool) -> None:
    outcome = Outcome(records=[RECORD], best=RECORD, interrupted=interrupted)
    _, lines = ended(outcome, Path("runs/mine"), test=test)
    offers = [line for line in lines if line.startswith("test it: ")]
    assert bool(offers) == (bool(test) and not interrupted)
    assert all(line.endswith("-m search.finals runs/mine") for line in offers)


def test_a_best_model_that_was_not_judged_on_all_folds_is_no_secret() -> None:
    for through, told in ((1, True), (3, False)):
        best = replace(RECORD, folds=through)
        _, lines = ended(Outcome(records=[best], best=best, interrupted=False), Path("runs/mine"), folds=3)
        assert any(f"(t0000, val_dice 0.5000, mean of {through} of 3 folds)" in line for line in lines)
        assert any("no trial came through all its 3 folds" in line for line in lines) == told


def test_what_does_not_look_right_with_the_best_model_is_told() -> None:
    best = replace(RECORD, warnings="overfitting: it does; stop | loss_flat: it is; raise learning_rate")
    _, lines = ended(Outcome(records=[best], best=best, interrupted=False), Path("runs/mine"))
    assert [line for line in lines if line.startswith("warning: ")] == [
        "warning: the best model: overfitting: it does; stop",
        "warning: the best model: loss_flat: it is; raise learning_rate",
    ]


def test_the_front_is_told_with_what_each_model_costs_and_where_it_lies() -> None:
    heavy, light, beaten = (
        replace(
            RECORD,
            trial_id=f"t000{number}",
            status="completed",
            metrics={"val_dice": dice},
            parameters=parameters,
            epochs=5,
            checkpoint=f"trials/t000{number}/best",
        )
        for number, (dice, parameters) in enumerate([(0.8, 9000), (0.6, 1000), (0.5, 2000)])
    )
    outcome = Outcome(records=[light, heavy, beaten], best=heavy, interrupted=False)
    _, lines = ended(outcome, Path("runs/mine"), objective=("val_dice", "parameters"))
    start = lines.index("front:       2 trials that no other beats in val_dice and parameters at once")
    assert lines[start + 1 : start + 3] == [
        "  t0000  val_dice 0.8000 after 5 epochs, 9,000 parameters: runs/mine/trials/t0000/best",
        "  t0001  val_dice 0.6000 after 5 epochs, 1,000 parameters: runs/mine/trials/t0001/best",
    ]
    _, plain = ended(outcome, Path("runs/mine"))
    assert not any(line.startswith("front:") for line in plain)
    many = [
        replace(light, trial_id=f"t{number:04d}", metrics={"val_dice": number / 20}, parameters=number)
        for number in range(1, 13)
    ]
    _, lines = ended(
        Outcome(records=many, best=many[-1], interrupted=False), Path("runs/mine"), objective=("val_dice", "parameters")
    )
    assert "  ... and 2 more, which have pareto in the leaderboard" in lines


def test_a_search_without_any_model_says_why() -> None:
    failed = replace(RECORD, status="failed", reason="[Errno 28] no space left", metrics={})
    code, lines = ended(Outcome(records=[failed], best=None, interrupted=False), Path("runs/mine"))
    assert (code, lines[-1]) == (NO_MODEL, "no trial gave a model: [Errno 28] no space left")


def test_a_class_that_the_best_model_does_not_find_is_told() -> None:
    best = replace(RECORD, metrics={"val_dice": 0.4, "val_dice_red": 0.0, "val_dice_bright": 0.8})
    out = StringIO()
    show_classes(best, ("red", "bright"), Console(file=out, markup=False, soft_wrap=True))
    told, warning = out.getvalue().splitlines()
    assert told == "by class:    red 0.0000, bright 0.8000"
    assert warning.startswith("warning: the best model hardly finds red (Dice 0.0000), so empty masks there mean")
