"""Files of strangers, one by one: what would run, lead out, steer a terminal or give a secret away does not."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from data.decoding import decode_array
from data.doctor import examine
from data.doctor_page import write_page
from data.input_error import InputError
from data.segmentation_data import Splitting
from data.split import split_data
from data.summary import summarize
from model.checkpoint import CONFIG, WEIGHTS, ModelCard, load_model, save_model
from model.config import TrainConfig
from model.ensemble import open_models, write_ensemble
from model.history import HISTORY, add_to_history
from model.prediction_files import Areas
from model.transfer import check_init_from
from search import leaderboard
from search.plain_console import PlainConsole
from search.record import TrialRecord, records_from_study
from search.run import read_saved
from search.run_folder import RunFolder
from search.searcher import StudySearcher
from search.sound_study import read_record, read_record_file
from search.space import parse_space
from search.study import open_study, read_study
from search.terminal_table import render
from tests.toys import colored_squares

SMALL = TrainConfig(depth=2, width=2, precision="float32")
ESCAPE = "\x1b]0;harm\x07"


class Weapon:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.fixture
def harm(tmp_path: Path) -> Path:
    """What a weapon would leave."""
    return tmp_path / "harm"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder without a fault."""
    card = ModelCard.of(SMALL, colored_squares("binary"), thresholds=(0.5,))
    save_model(tmp_path / "model", card.build(), card, {})
    return tmp_path / "model"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run with a trial in its study."""
    searcher = StudySearcher(
        journal=tmp_path / "study.log", space=parse_space(("only,depth=2:4",)), num_trials=2, seed=0, max_concurrent=1
    )
    searcher.suggest("r0")
    searcher.on_trial_complete("r0", {"epoch": 1, "val_dice": 0.5, "status": "completed", "checkpoint": "trials/best"})
    return tmp_path


def spoil_record(run: Path, **changes: Any) -> None:
    """Adds to the journal that the trial's record is another one."""
    journal = run / "study.log"
    record = records_from_study(read_study(journal))[0]
    lines = journal.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if '"values":[0.5]' not in line]
    attribute = {"record": vars(record) | changes}
    kept.append(json.dumps({"op_code": 8, "worker_id": "x", "trial_id": 0, "user_attr": attribute}))
    journal.write_text("\n".join(kept) + "\n", encoding="utf-8")


@pytest.mark.parametrize("name", ["../../other/trials/t0001", "", ".."])
def test_a_trial_is_called_by_no_path_by_which_files_would_be_removed(run: Path, name: str) -> None:
    attribute = {"op_code": 8, "worker_id": "x", "trial_id": 0, "user_attr": {"trial_id": name}}
    journal = run / "study.log"
    lines = [line for line in journal.read_text(encoding="utf-8").splitlines() if '"values":[0.5]' not in line]
    journal.write_text("\n".join([*lines, json.dumps(attribute)]) + "\n", encoding="utf-8")
    with pytest.raises(InputError, match="trial_id of trial 0 is of another type"):
        read_study(run / "study.log")


def test_a_pickle_in_an_array_is_not_opened(tmp_path: Path, harm: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[Weapon(harm)]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="holds objects, not numbers"):
        decode_array(tmp_path / "a.npy")
    assert not harm.exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt", "w.pth"])
@pytest.mark.parametrize("by_torch", [True, False])
def test_a_pickle_in_the_place_of_weights_is_not_opened(tmp_path: Path, harm: Path, name: str, by_torch: bool) -> None:
    path = tmp_path / name
    if by_torch:
        torch.save({"a": Weapon(harm)}, path)
    else:
        path.write_bytes(pickle.dumps(Weapon(harm)))
    with pytest.raises(InputError, match="damaged"):
        check_init_from(TrainConfig(encoder="resnet18", init_from=str(path)))
    assert not harm.exists()


def test_a_pickle_in_the_place_of_a_model_is_not_opened(model: Path, harm: Path) -> None:
    (model / WEIGHTS).write_bytes(pickle.dumps(Weapon(harm)))
    with pytest.raises(InputError, match="is damaged"):
        load_model(model)
    assert not harm.exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:pathlib.Path.touch", "!!python/object/new:pathlib.Path"])
def test_yaml_runs_nothing(model: Path, harm: Path, tag: str) -> None:
    (model / CONFIG).write_text(f"config: {tag} ['{harm}']\n", encoding="utf-8")
    with pytest.raises(InputError, match="could not determine a constructor"):
        load_model(model)
    (model / "settings.yaml").write_text(f"data: {tag} ['{harm}']\n", encoding="utf-8")
    with pytest.raises(InputError, match="holds no settings"):
        read_saved(RunFolder(path=model))
    assert not harm.exists()


def test_a_card_that_says_its_network_is_larger_than_any_memory_is_refused_before_it_is_built(model: Path) -> None:
    card = yaml.safe_load((model / CONFIG).read_text(encoding="utf-8"))
    card["config"] |= {"depth": 6, "width": 1024, "passes": 4}
    (model / CONFIG).write_text(yaml.safe_dump(card), encoding="utf-8")
    with pytest.raises(InputError, match="does not fit its"):
        load_model(model)


@pytest.mark.parametrize("name", ["../model", "/etc", "a/b", "..", "C:x", "a\\b", "x\x1b"])
def test_a_member_of_an_ensemble_lies_in_its_folder(tmp_path: Path, model: Path, name: str) -> None:
    write_ensemble(tmp_path / "both", {"first": (model, 1.0)}, (0.5,))
    (tmp_path / "both" / "ensemble.yaml").write_text(yaml.safe_dump({"members": {name: 1.0}, "thresholds": [0.5]}))
    with pytest.raises(InputError, match="makes no file name"):
        open_models(tmp_path / "both")


def test_a_member_that_is_a_link_out_of_the_ensemble_is_refused(tmp_path: Path, model: Path) -> None:
    write_ensemble(tmp_path / "both", {"first": (model, 1.0)}, (0.5,))
    (tmp_path / "both" / "second").symlink_to(model)
    (tmp_path / "both" / "ensemble.yaml").write_text(yaml.safe_dump({"members": {"second": 1.0}, "thresholds": [0.5]}))
    with pytest.raises(InputError, match="leads out of"):
        open_models(tmp_path / "both")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"checkpoint": "../../x"}, "is no path inside its folder"),
        ({"checkpoint": "/etc"}, "is no path inside its folder"),
        ({"trial_id": "../x"}, "makes no file name"),
        ({"trial_id": ESCAPE}, "makes no file name"),
        ({"metrics": {"val_dice": "high"}}, "must be a finite number"),
        ({"metrics": {"val_dice": float("nan")}}, "must be a finite number"),
        ({"config": {"depth": "3"}}, "is of another type"),
        ({"config": None}, "must be names with values"),
        ({"status": "won"}, "status 'won' must be running or"),
        ({"sudo": 1}, "entry 'sudo' is not known"),
    ],
)
def test_a_study_with_a_record_that_is_none_of_ours_is_refused(run: Path, changes: dict[str, Any], words: str) -> None:
    spoil_record(run, **changes)
    for opened in (read_study, open_study):
        with pytest.raises(InputError, match=words):
            opened(run / "study.log")
    file = run / "record.json"
    file.write_text(json.dumps(vars(TrialRecord(trial_id="t0", config={})) | changes), encoding="utf-8")
    with pytest.raises(InputError, match="is damaged"):
        read_record_file(file)


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b"[1]",
        b'{"op_code":99,"worker_id":"x"}',
        b'{"op_code":4,"worker_id":"x","study_id":"0"}',
        b'{"op_code":4,"worker_id":"x","study_id":0,"datetime_start":"never"}',
        b'{"op_code":2,"worker_id":"x","study_id":0,"user_attr":{"past":7}}',
        b'{"op_code":2,"worker_id":"x","study_id":0,"user_attr":{"seconds":"x"}}',
        b'{"op_code":2,"worker_id":"x","study_id":0,"user_attr":{"concluded":"no"}}',
    ],
)
def test_a_line_that_makes_no_sense_is_refused(run: Path, line: bytes) -> None:
    journal = run / "study.log"
    journal.write_bytes(journal.read_bytes() + line + b"\n")
    before = journal.read_bytes()
    for opened in (read_study, open_study):
        with pytest.raises(InputError, match=r"^study .* is (damaged|no Optuna journal)"):
            opened(journal)
    assert journal.read_bytes() == before


def test_a_trial_whose_record_stands_twice_is_refused(run: Path) -> None:
    study = open_study(run / "study.log")
    study.add_trial(study.trials[0])
    with pytest.raises(InputError, match="two trials are called 't0000'"):
        read_study(run / "study.log")


def test_a_formula_is_text_in_every_table(tmp_path: Path) -> None:
    name = '=HYPERLINK("http://x")'
    records = [TrialRecord(trial_id="t0000", config=vars(SMALL), reason=name, metrics={f"val_dice_{name}": 0.5})]
    frame = leaderboard.to_frame(records, [name]).rename(columns={f"val_dice_{name}": name})
    leaderboard.write(tmp_path / "leaderboard.csv", frame)
    text = (tmp_path / "leaderboard.csv").read_text(encoding="utf-8")
    assert f"'{name}".replace('"', '""') in text
    assert ",=" not in text
    assert ',"=' not in text
    back = leaderboard.read(tmp_path / "leaderboard.csv")
    assert name in back.columns
    assert list(back["reason"]) == [name]
    areas = Areas(name="=1+1", width=2, height=2, class_names=("@x",), pixels=(1,), deviations=None).as_row()
    assert areas["name"] == "'=1+1"
    assert "'@x_pixels" in areas


def test_names_on_the_page_of_the_doctor_are_text(tmp_path: Path) -> None:
    script = "<script>alert(1)</script>"
    data = colored_squares("binary")
    from dataclasses import replace

    data = replace(
        data, class_names=(script,), names=tuple(f"{script}{name}\u202e" for name in data.names), source=f'"{script}'
    )
    splits = split_data(data, Splitting())
    write_page(tmp_path / "page.html", data, splits, summarize(data, splits), examine(data, splits))
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\u202e" not in page


def test_what_a_trial_says_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    record = TrialRecord(trial_id="t0000", config=vars(SMALL))
    told = record.updated({"status": "failed", "reason": f"{ESCAPE}\nit [red]died"})
    assert told.reason == "\\x1b]0;harm\\x07 it [red]died"
    strange = TrialRecord(trial_id="t0001", config=vars(SMALL), status="failed", reason=f"{ESCAPE} [red]died")
    console = PlainConsole()
    console.print(f"warning: {ESCAPE}[bold]x[/]")
    render(leaderboard.to_frame([strange], []), console)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b]0;harm\\x07[bold]x[/]" in out
    assert "[red]died" in out


def test_a_record_of_ours_is_read_as_it_was() -> None:
    record = TrialRecord(
        trial_id="t0000", config=vars(SMALL), metrics={"val_dice": 1.0}, checkpoint="trials/t0000/best"
    )
    assert read_record(json.loads(json.dumps(vars(record)))) == record


def test_a_damaged_history_is_added_to(tmp_path: Path) -> None:
    from tests.search.trainings import epoch_report

    (tmp_path / HISTORY).write_text("nothing\nof ours\n", encoding="utf-8")
    add_to_history(tmp_path / HISTORY, epoch_report(1, (0.5, 0.5)))
    assert (tmp_path / HISTORY).read_text(encoding="utf-8").startswith("nothing\n")
