"""What trainings of a search begin from: found from everywhere, checked before anything starts, and searched over."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from data.input_error import InputError
from model.checkpoint import ModelCard, save_model
from model.config import TrainConfig
from search.dry_run import Estimate
from search.leaderboard import read
from search.sources import check_sources, structure_of, with_whole_sources
from search.space import Choice, Space, parse_space
from tests.search.commands import SMALL, run_here
from tests.toys import colored_squares


def kept_model(folder: Path, **changes: Any) -> Path:
    """A model folder with a fresh network of this config, for grey pictures of two classes."""
    data = colored_squares("multilabel")
    card = ModelCard.of(TrainConfig(depth=2, width=2, **changes), data, thresholds=(0.5, 0.5))
    save_model(folder / "best", card.build(), card, {"epoch": 1})
    return folder / "best"


def space_from(source: Path | str, *words: str) -> Space:
    """The default space of a search that begins from this."""
    return parse_space(words, pinned={**structure_of(str(source)), "init_from": str(source)})


def test_sources_are_named_for_workers_in_other_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space = with_whole_sources(parse_space(["init_from=a|./a|imagenet||b/c"]))
    assert space.domains["init_from"] == Choice((str(tmp_path / "a"), "imagenet", "", str(tmp_path / "b/c")))
    assert with_whole_sources(parse_space()) == parse_space()


def test_the_network_is_that_of_the_model_unless_something_else_is_said(tmp_path: Path) -> None:
    best = kept_model(tmp_path, block="residual")
    space = space_from(best, "depth=2:3")
    assert (space.domains["width"], space.domains["block"]) == (Choice((2,)), Choice(("residual",)))
    assert space.domains["depth"] == parse_space(["depth=2:3"]).domains["depth"]
    assert space.domains["loss"] == parse_space().domains["loss"]
    assert structure_of(None) == structure_of("imagenet") == structure_of(str(tmp_path)) == {}


def test_what_can_be_begun_from_is_not_refused(tmp_path: Path) -> None:
    check_sources(parse_space())
    check_sources(parse_space(["init_from="]))
    check_sources(space_from(kept_model(tmp_path), "depth=2:3"))


def test_weights_of_an_encoder_are_read_once_for_each_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[TrainConfig] = []
    monkeypatch.setattr("model.transfer.check_init_from", checked.append)
    check_sources(space_from("imagenet", "large", "encoder=resnet18|resnet34"))
    assert [config.encoder for config in checked] == ["resnet18", "resnet34"]


@pytest.mark.parametrize(
    ("source", "words", "message"),
    [
        ("nowhere", (), "nowhere"),
        ("imagenet", (), "'own'"),
        ("imagenet", ("encoder=own|resnet18",), "'own'"),
        ("best", ("block=plain|residual", "width=2|4"), "width"),
    ],
)
def test_what_a_training_could_not_begin_from_is_refused_at_once(
    tmp_path: Path, source: str, words: tuple[str, ...], message: str
) -> None:
    kept_model(tmp_path)
    asked = source if source == "imagenet" else str(tmp_path / source)
    with pytest.raises(InputError, match=message) as refusal:
        check_sources(space_from(asked, *words))
    assert "\n" not in str(refusal.value)


def test_the_command_refuses_it_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("--init-from", str(tmp_path / "nowhere"), "--storage", str(tmp_path / "runs")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path / "nowhere") in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_a_search_over_folds_finds_out_how_much_of_a_model_is_worth_taking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_model(tmp_path / "old")
    where = ("--storage", str(tmp_path / "runs"), "--name", "mine")
    with monkeypatch.context() as elsewhere:
        elsewhere.chdir(tmp_path)
        words = ("--init-from", "old/best", "--num-trials", "3", "--max-epochs", "1", "--folds", "2", *SMALL)
        assert run_here(*where, *words) == 0
    rows = read(tmp_path / "runs/mine/leaderboard.csv")
    assert set(rows.status) == {"completed"}
    assert (set(rows.folds), set(rows.epochs)) == ({2}, {2})
    first, *lines = capsys.readouterr().out.splitlines()
    assert "; 2 folds of 9 to 10 to train on, 9 to 10 to choose by; 5 kept for the end; " in first
    assert f"({rows.trial_id[0]}, val_dice {rows.val_dice[0]:.4f}, mean of 2 of 2 folds)" in next(
        line for line in lines if line.startswith("best model:")
    )
    both = [json.loads(path.read_text()) for path in (tmp_path / "runs/mine/trials/t0000").glob("fold-*/fold.json")]
    mean = sum(fold["metrics"]["val_dice"] for fold in both) / 2
    assert rows.set_index("trial_id").val_dice["t0000"] == pytest.approx(mean)
    assert set(rows.init_from) == {str(tmp_path / "old/best")}
    assert rows.set_index("trial_id").transfer["t0000"] == "all", "the first trial is the defaults"
    assert len(set(rows.transfer)) > 1
    assert set(rows.transfer_rate) == {1.0}
    settings = yaml.safe_load((tmp_path / "runs/mine/settings.yaml").read_text())
    assert settings["init_from"] == str(tmp_path / "old/best")
    assert not any(text.startswith(("init_from", "transfer")) for text in settings["space"])
    # A dry run of a run that goes on also says what its trials have shown.
    monkeypatch.setattr(
        "search.dry_run.estimate_extremes", lambda *_: [Estimate(config=TrainConfig(), problem="no")] * 2
    )
    capsys.readouterr()
    assert run_here("--resume", *where, "--dry-run") == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "by the trials so far" in line]
    assert [line.split()[0] for line in told] == ["smallest", "largest"]
