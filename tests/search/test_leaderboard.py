"""The leaderboard: its rows, columns, order and file, what people are shown of it, and what its page says."""

import io
import re
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from data.command_line import run_command
from data.input_error import InputError
from model.config import TrainConfig
from search import leaderboard
from search.leaderboard import SCHEMA, class_names_of, columns, read, read_run, to_frame, write
from search.objectives import COSTS
from search.record import METRICS, STATUSES, TrialRecord, records_from_study, split_warnings
from search.searcher import StudySearcher
from search.space import parse_space
from search.terminal_table import SHOWN_ORDER, render

PAGE = Path(__file__).parents[2] / "docs" / "leaderboard.md"


def record(trial_id: str, val_dice: float | None = None, status: str = "completed", **more) -> TrialRecord:
    made = TrialRecord(trial_id=trial_id, config=asdict(TrainConfig(**more.pop("config", {}))))
    ending = {"epoch": 3, "status": status, "val_dice": val_dice, "val_iou": val_dice, "seconds": 2.5, "parameters": 99}
    return made.updated(ending | more)


WARNINGS = "overfitting: the loss falls, val_dice too; stop earlier | class_never_predicted: disc; try loss=dice"
RECORDS = [
    record("t0000", 0.9, "failed", reason="=1+1 went wrong"),
    record("t0001", 0.7, warnings=WARNINGS, batch_parts=2, gflops_per_megapixel=2.5),
    record("t0002", 0.6, "running"),
    record("t0003", None, "diverged", reason="the loss is not finite"),
    record("t0004", 0.8, "stopped", val_dice_vessel=0.8),
    record("t0005", 0.7, "stopped", config={"deterministic": True, "init_from": "=models/mine"}),
    record("t0006", None, "stopped", reason="the time was up"),
]


def test_the_columns_in_order():
    assert columns(["vessel", "disc"]) == [
        *("rank", "trial_id", "status", "reason", "warnings", "pareto"),
        *("val_dice", "val_iou", "val_f1_macro", "val_f1_micro", "val_precision_macro", "val_precision_micro"),
        *("val_recall_macro", "val_recall_micro", "val_accuracy", "val_dice_additive"),
        *("val_dice_per_image", "val_auc_roc", "val_auc_pr"),
        *("val_dice_vessel", "val_dice_disc"),
        *("threshold", "folds", "best_epoch", "epochs", "seconds", "device", "images_per_second", "peak_memory_mb"),
        *("parameters", "gflops_per_megapixel", "latency_ms", "batch_parts"),
        *(declared.name for declared in fields(TrainConfig)),
        *("checkpoint", "dataset", "version", "schema"),
    ]
    assert columns([]).count("seed") == 1
    assert columns(["additive"]) == columns([]), "no column stands there twice, whatever a class is called"


def test_the_page_explains_every_column_and_status():
    page = PAGE.read_text(encoding="utf-8")
    table = re.findall(r"^\| `([^`]+)` \| (.+) \|$", page.partition("## Columns")[2], flags=re.MULTILINE)
    assert [name for name, _ in table] == columns(["<class>"])
    meanings = dict(table)
    for declared in fields(TrainConfig):
        assert meanings[declared.name] == declared.metadata["meaning"]
    statuses = page.partition("`status`")[2].partition("## Columns")[0]
    assert re.findall(r"^\| `(\w+)` \|", statuses, flags=re.MULTILINE) == list(STATUSES)


def test_every_trial_has_a_row_best_first():
    frame = to_frame(RECORDS, ["vessel"])
    assert list(frame["trial_id"]) == ["t0004", "t0001", "t0005", "t0002", "t0006", "t0000", "t0003"]
    assert list(frame["rank"]) == [1, 2, 3, 4, 5, 6, 7]
    assert list(frame["val_dice"].fillna(-1)) == [0.8, 0.7, 0.7, 0.6, -1, 0.9, -1]
    assert list(frame["val_dice_vessel"].fillna(-1)) == [0.8, -1, -1, -1, -1, -1, -1]
    assert list(frame.columns) == columns(["vessel"])


def test_the_columns_are_typed_even_without_rows():
    types = {name: str(dtype) for name, dtype in to_frame([], ["vessel"]).dtypes.items()}
    assert types == {name: str(dtype) for name, dtype in to_frame(RECORDS, ["vessel"]).dtypes.items()}
    assert {types[name] for name in ("rank", "epochs", "parameters", "batch_parts", "depth", "seed", "schema")} == {
        "Int64"
    }
    assert {types[name] for name in ("val_dice", "val_auc_pr", "seconds", "learning_rate")} == {"float64"}
    assert {types[name] for name in ("trial_id", "reason", "warnings", "loss", "init_from", "version")} == {"str"}
    assert types["deterministic"] == types["pareto"] == "boolean"


@pytest.mark.parametrize("records", [RECORDS, []])
def test_it_reads_back_as_it_was(tmp_path, records):
    frame = to_frame(records, ["vessel"])
    write(tmp_path / "leaderboard.csv", frame)
    pd.testing.assert_frame_equal(read(tmp_path / "leaderboard.csv"), frame)
    assert [path.name for path in tmp_path.iterdir()] == ["leaderboard.csv"]


@settings(deadline=None, max_examples=20)
@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["C"])),
    st.sampled_from(["", "=", "+", "-", "@", "'", "'="]),
)
def test_no_text_is_a_formula_and_none_is_changed(tmp_path_factory, text, start):
    path = tmp_path_factory.mktemp("run") / "leaderboard.csv"
    frame = to_frame([record("t0000", 0.5, "failed", reason=start + text)], [])
    write(path, frame)
    cell = pd.read_csv(path, dtype=str, keep_default_na=False)["reason"].item()
    assert not cell.startswith(("=", "+", "-", "@"))
    pd.testing.assert_frame_equal(read(path), frame)


def test_a_table_of_an_older_version_opens_with_the_columns_of_this_one(tmp_path):
    path = tmp_path / "leaderboard.csv"
    frame = to_frame(RECORDS, ["vessel"])
    assert set(frame["schema"]) == {SCHEMA}
    old = frame.drop(columns=["schema", "pareto", "ema", "val_auc_pr", "warnings"]).assign(note="mine")
    write(path, old)
    back = read(path)
    assert list(back.columns) == [*columns(["vessel"]), "note"]
    assert back[["schema", "pareto", "ema", "val_auc_pr"]].isna().all(axis=None)
    assert dict(back.dtypes)["schema"] == dict(frame.dtypes)["schema"]
    assert set(back["note"]) == {"mine"}
    assert set(back["warnings"]) == {""}
    pd.testing.assert_frame_equal(back[old.columns[:-1]], old[old.columns[:-1]])


def test_a_write_that_fails_leaves_the_table_before(tmp_path, monkeypatch):
    path = tmp_path / "leaderboard.csv"
    write(path, to_frame(RECORDS[:1], []))
    before = path.read_bytes()

    def half(self, target, **more):
        Path(target).write_text("rank,trial")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", half)
    with pytest.raises(OSError, match="No space left"):
        write(path, to_frame(RECORDS, []))
    assert path.read_bytes() == before


def test_it_can_be_made_again_from_the_study_alone(tmp_path):
    searcher = StudySearcher(
        journal=tmp_path / "study.log", space=parse_space(), num_trials=3, seed=0, max_concurrent=3, dataset="toy"
    )
    for ray_id, ending in [
        ("a", {"val_dice": 0.5, "val_dice_disc": 0.5, "status": "completed"}),
        ("b", {"status": "failed"}),
    ]:
        searcher.suggest(ray_id)
        searcher.on_trial_complete(ray_id, {"epoch": 1} | ending)
    searcher.suggest("c")
    frame = read_run(tmp_path)
    assert list(frame["trial_id"] + " " + frame["status"]) == ["t0000 completed", "t0002 running", "t0001 failed"]
    assert frame["val_dice_disc"][0] == 0.5
    assert set(frame["dataset"]) == {"toy"}
    pd.testing.assert_frame_equal(frame, to_frame(records_from_study(searcher.study), ["disc"]))
    write(tmp_path / "leaderboard.csv", frame.head(1))
    assert len(read_run(tmp_path)) == 1, "the file counts where it is"


def test_class_names_from_records():
    measured = [record("t0000"), record("t0001", **dict.fromkeys([*METRICS, "val_dice_b", "val_dice_a"], 0.5))]
    assert class_names_of(measured) == ["b", "a"]


def printed(frame: pd.DataFrame, width: int | None = None, **more) -> list[str]:
    """The lines on a terminal of that width, or in a pipe."""
    console = Console(file=io.StringIO(), width=width, force_terminal=width is not None, color_system=None)
    render(frame, console, **more)
    return console.file.getvalue().splitlines()


def test_a_pipe_gets_whole_plain_lines():
    lines = printed(to_frame(RECORDS, []))
    left_out = {"run", "folds", "pareto", *COSTS}
    assert lines[0].split() == [name for name in SHOWN_ORDER if name not in left_out]
    assert " ".join(lines[1].split()) == "1 t0004 stopped 0.8000 0.8000 3 2 3 8 0.005 dice_ce 8"
    assert lines[2].endswith(" overfitting, class_never_predicted"), "their names; the file has their words"
    assert lines[6].endswith("=1+1 went wrong")
    assert len(lines) == 1 + len(RECORDS)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_a_terminal_gets_the_columns_that_fit(width):
    long = record("t0009", None, "failed", reason="a [bold]very[/bold] long story " * 20)
    lines = printed(to_frame([*RECORDS, long], []), width)
    assert len(lines) == 2 + len(RECORDS), "no row takes two lines"
    assert max(map(len, lines)) <= width
    assert lines[0].split()[:4] == ["rank", "trial_id", "status", "val_dice"]
    assert ("reason" in lines[0]) == (width > 80)
    assert ("[bold]very" in lines[-1]) == (width > 80), "no text is taken for markup"
    assert ("batch_size" in lines[0]) == (width > 120)
    assert ("overfitting" in lines[2]) == ("warnings" in lines[0]) == (width > 120)
    assert ("learning_rate" in lines[0]) == (width > 40)


def test_no_reason_and_no_warning_no_column():
    (head, _) = printed(to_frame([record("t0000", 0.5)], []))
    assert "reason" not in head
    assert "warnings" not in head


def test_warnings_are_those_of_the_last_look():
    warned = record("t0000", 0.5, "running", warnings=WARNINGS)
    assert split_warnings(warned.warnings) == [
        "overfitting: the loss falls, val_dice too; stop earlier",
        "class_never_predicted: disc; try loss=dice",
    ]
    assert warned.updated({"status": "failed"}).warnings == WARNINGS, "an end says nothing of them"
    assert split_warnings(warned.updated({"epoch": 4, "warnings": ""}).warnings) == []


def test_more_folds_stand_above_fewer_and_are_shown():
    of_folds = [record(f"t001{folds}", 0.6, "stopped", folds=folds) for folds in (2, 5)]
    frame = to_frame([*RECORDS, *of_folds], [])
    assert list(frame["trial_id"])[:4] == ["t0015", "t0012", "t0004", "t0001"]
    assert list(frame["folds"])[:4] == [5, 2, 1, 1]
    for width in (None, 60):
        lines = printed(frame, width)
        assert lines[0].split()[:5] == ["rank", "trial_id", "status", "val_dice", "folds"]
        assert lines[1].split()[:5] == ["1", "t0015", "stopped", "0.6000", "5"]


def test_the_front_is_marked_where_there_are_several_objectives(tmp_path):
    assert to_frame(RECORDS, [])["pareto"].isna().all()
    light = record("t0007", 0.5, "stopped", parameters=7)
    frame = to_frame([*RECORDS, light], [], ("val_dice", "parameters"))
    assert set(frame["trial_id"][frame["pareto"]]) == {"t0004", "t0007"}
    assert not frame["pareto"].isna().any()
    write(tmp_path / "leaderboard.csv", frame)
    pd.testing.assert_frame_equal(read(tmp_path / "leaderboard.csv"), frame)
    for width in (None, 80):
        lines = [line.split() for line in printed(frame, width)]
        assert lines[0][:6] == ["rank", "trial_id", "status", "val_dice", "pareto", "parameters"]
        assert lines[1][:6] == ["1", "t0004", "stopped", "0.8000", "*", "99"]
        assert lines[2][:5] == ["2", "t0001", "completed", "0.7000", "99"], "not on the front"
        assert lines[5][:6] == ["5", "t0007", "stopped", "0.5000", "*", "7"]
        assert "latency_ms" not in lines[0], "nobody asked for it"
    timed = to_frame([record("t0000", 0.5, latency_ms=12.34)], [], ("val_dice", "latency_ms"))
    assert "12.3" in printed(timed, 80)[1]


def test_the_front_is_known_from_the_study_alone(tmp_path):
    objectives = ("val_dice", "parameters")
    searcher = StudySearcher(
        journal=tmp_path / "study.log",
        space=parse_space(),
        objectives=objectives,
        num_trials=2,
        seed=0,
        max_concurrent=2,
    )
    for ray_id, parameters in (("a", 10), ("b", 20)):
        searcher.suggest(ray_id)
        done = {"epoch": 1, "val_dice": 0.5, "parameters": parameters, "status": "completed"}
        searcher.on_trial_complete(ray_id, done)
    assert read_run(tmp_path)["pareto"].to_list() == [True, False]


def test_the_rest_is_counted():
    assert printed(to_frame(RECORDS, []), top=2)[-1] == "... and 5 more"
    assert printed(to_frame(RECORDS, []), 80, top=2)[-1] == "... and 5 more"


def test_the_command(tmp_path):
    write(tmp_path / "leaderboard.csv", to_frame(RECORDS, []))
    command = [sys.executable, "-m", "search.leaderboard", str(tmp_path), "--top", "3"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PAGE.parents[1])
    assert [line.split()[:2] for line in shown.stdout.splitlines()[1:4]] == [
        ["1", "t0004"],
        ["2", "t0001"],
        ["3", "t0005"],
    ]
    assert shown.stderr == ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("", None, "does not exist"),
        ("other.txt", "", "holds no search"),
        ("leaderboard.csv", "", "cannot be read"),
        ("leaderboard.csv", "a,b\n1,2\n", "it has no column trial_id"),
        ("leaderboard.csv", "trial_id,rank\nt0000,first\n", "cannot be read"),
        ("leaderboard.csv", "trial_id,deterministic\nt0000,perhaps\n", "'perhaps' is neither True nor False"),
        ("leaderboard.csv", "trial_id,status\nt0000,lost\n", "status 'lost' is none of running, completed,"),
        ("leaderboard.csv", "trial_id,rank\nt0000,1\nt0000,2\n", "2 of its rows have the trial_id 't0000'"),
        ("leaderboard.csv", "trial_id,rank\n,1\n", "1 of its rows have the trial_id ''"),
        ("leaderboard.csv", "trial_id,schema\nt0000,99\n", "its schema 99 is newer than"),
        ("study.log", "a diary", "holds no search"),
    ],
)
def test_a_folder_that_is_no_run(tmp_path, capsys, name, content, message):
    run = tmp_path / "run"
    if content is not None:
        run.mkdir()
        (run / name).write_text(content)
    assert run_command(leaderboard.leaderboard, [str(run)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert str(run) in line


def test_less_than_one_row_is_refused(tmp_path):
    with pytest.raises(InputError, match="top 0 must be 1 or more"):
        leaderboard.leaderboard(str(tmp_path), top=0)
