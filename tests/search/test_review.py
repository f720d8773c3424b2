"""What a person looks at of a leaderboard: rows, columns, order and format, of one run or of several."""

import io
import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from data.command_line import run_command
from search.leaderboard import leaderboard, read, to_frame, write
from search.record import TrialRecord
from search.table_formats import FORMATS
from tests.search.commands import PROJECT
from tests.search.test_leaderboard import RECORDS, record

FACTS = {
    "source": "toy",
    "fingerprint": "a" * 64,
    "label_mode": "exclusive",
    "class_names": ["vessel"],
    "preparation": {"size": 256},
    "split": {"train": ["1"], "val": ["2"], "test": ["3"]},
}


def run_of(folder: Path, records: Sequence[TrialRecord] = RECORDS, **facts: object) -> str:
    """The folder of a run with these trials."""
    folder.mkdir(parents=True)
    write(folder / "leaderboard.csv", to_frame(records, ["vessel"]))
    (folder / "dataset.json").write_text(json.dumps({**FACTS, **facts}))
    return str(folder)


@pytest.fixture
def run(tmp_path: Path) -> str:
    return run_of(tmp_path / "runs" / "one")


@pytest.fixture
def shown(capfd: pytest.CaptureFixture[str]):
    """Calls the command with these words; gives the lines that it prints, or its one line of error."""

    def call(*words: str, refused: bool = False) -> list[str]:
        assert run_command(leaderboard, words) == (2 if refused else 0)
        out, errors = capfd.readouterr()
        assert (out == "") if refused else (errors == "")
        lines = (errors if refused else out).splitlines()
        assert not refused or len(lines) == 1
        return lines

    return call


def first_cells(lines: Sequence[str], column: int) -> list[str]:
    """The cells of one column below the head."""
    return [line.split()[column] for line in lines[1:]]


def test_rows_are_kept_and_sorted(run, shown):
    lines = shown(run, "--where", "status != 'stopped' and val_dice > 0", "--sort", "val_iou:up")
    assert first_cells(lines, 1) == ["t0002", "t0001", "t0000"]
    assert first_cells(lines, 0) == ["4", "2", "6"], "the rank is that of the whole table"
    assert first_cells(shown(run, "--sort", "val_iou", "--top", "2")[:-1], 1) == ["t0000", "t0004"], "high scores first"
    assert first_cells(shown(run, "--sort", "trial_id", "--top", "2")[:-1], 1) == ["t0000", "t0001"]
    assert first_cells(shown(run, "--sort", "best_epoch:down"), 1)[-2:] == ["t0006", "t0003"], "empty cells come last"
    assert shown(run, "--where", "depth > 50") == ["none of 7 trials"]


def test_columns_are_those_that_are_asked_for(run, shown):
    lines = shown(run, "--columns", "trial_id, loss,learning_rate", "--top", "1")
    assert lines == ["trial_id  loss     learning_rate", "t0004     dice_ce  0.005", "... and 6 more"]
    lines = shown(run, "--per-class", "--top", "1")
    assert lines[0].split() == ["rank", "trial_id", "status", "val_dice", "val_dice_vessel"]
    assert lines[1].split() == ["1", "t0004", "stopped", "0.8000", "0.8000"]


def test_the_front_is_that_of_the_objectives_or_of_the_size(tmp_path, shown):
    light = record("t0007", 0.65, "stopped", parameters=7)
    bad = record("t0008", 0.99, "failed", parameters=1)
    one = run_of(tmp_path / "one", [*RECORDS, light, bad])
    assert first_cells(shown(one, "--pareto"), 1) == ["t0004", "t0007"]
    two = tmp_path / "two"
    two.mkdir()
    timed = [record("t0000", 0.5, latency_ms=1.0), record("t0001", 0.6, latency_ms=1.0)]
    write(two / "leaderboard.csv", to_frame(timed, [], ("val_dice", "latency_ms")))
    assert first_cells(shown(str(two), "--pareto"), 1) == ["t0001"]


def test_every_format_holds_the_same(run, tmp_path):
    def printed(kind: str, *words: str) -> bytes:
        command = [sys.executable, "-m", "search.leaderboard", run, "--format", kind, *words]
        return subprocess.run(command, capture_output=True, check=True, cwd=PROJECT).stdout

    frame = read(Path(run))
    whole = {kind: printed(kind) for kind in FORMATS if kind != "table"}
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(whole["parquet"])), frame)
    assert whole["csv"] == (Path(run) / "leaderboard.csv").read_bytes()
    rows = json.loads(whole["json"])
    assert [row["trial_id"] for row in rows] == list(frame["trial_id"])
    assert rows[0]["val_dice"] == 0.8
    assert rows[-1]["val_dice"] is None
    assert rows[5]["reason"] == "=1+1 went wrong"
    head, line, best, *_ = whole["markdown"].decode().splitlines()
    assert head.startswith("| rank | trial_id | status | val_dice |")
    assert line.startswith("| ---: | --- | --- | ---: |")
    assert best.startswith("| 1 | t0004 | stopped | 0.8000 |")
    assert "pareto" not in head, "nobody asked for several objectives"
    latex = whole["latex"].decode()
    assert latex.startswith("\\begin{tabular}{rllr")
    assert "trial\\_id" in latex
    assert printed("csv", "--columns", "trial_id,val_dice", "--top", "1") == b"trial_id,val_dice\nt0004,0.8\n"


def test_texts_stay_in_their_cells(tmp_path, shown):
    strange = record("t0000", 0.5, "failed", reason="a | b \\ c & 50 % _x_")
    lines = shown(run_of(tmp_path / "strange", [strange]), "--columns", "reason,loss", "--format", "markdown")
    assert lines[2] == "| a \\| b \\\\ c & 50 % _x_ | dice_ce |"
    lines = shown(str(tmp_path / "strange"), "--columns", "reason", "--format", "latex")
    assert any(r"\& 50 \% \_x\_" in line for line in lines)


def test_several_runs_one_after_the_other_or_together(tmp_path, run, shown):
    better = run_of(tmp_path / "runs" / "two", [record("t0000", 0.75), record("t0001", 0.99, "failed")])
    lines = shown(run, better, "--top", "1")
    assert [line for line in lines if line.startswith("/")] == [run, better]
    lines = shown(run, better, "--compare", "--top", "3")
    assert lines[0].split()[:5] == ["run", "rank", "trial_id", "status", "val_dice"]
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["one", "1", "t0004"],
        ["two", "2", "t0000"],
        ["one", "3", "t0001"],
    ]
    assert lines[4] == "... and 6 more"
    assert [line.split()[:5] for line in lines[6:]] == [
        ["run", "best", "val_dice", "trials", "completed"],
        ["one", "t0004", "0.8000", "7", "1"],
        ["two", "t0000", "0.7500", "2", "1"],
    ]
    assert first_cells(shown(run, better, "--compare", "--where", "run == 'two'")[:2], 2) == ["t0000"]
    twin = run_of(tmp_path / "elsewhere" / "one", [record("t0000", 0.75)])
    assert shown(run, twin, "--compare", "--top", "1")[1].split()[0] == run, "by its whole name, as both are called one"
    rows = shown(run, better, "--compare", "--format", "csv", "--columns", "run,rank,trial_id")
    assert rows[:3] == ["run,rank,trial_id", "one,1,t0004", "two,2,t0000"]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"class_names": ["disc"]}, "their classes differ (vessel against disc)"),
        ({"fingerprint": "b" * 64}, "they learnt from other pictures or masks (toy aaaaaaaa against toy bbbbbbbb)"),
        ({"preparation": {"size": 512}}, "their pictures were prepared in another way or size (in size)"),
        ({"split": {**FACTS["split"], "val": ["9"]}}, "their pictures are split in another way (in val)"),
        ({"split": None, "folds": [FACTS["split"]]}, "their pictures are split in another way"),
        ({"label_mode": "multilabel"}, "one tells classes apart that the other lets overlap"),
    ],
)
def test_what_cannot_be_compared_is_not(tmp_path, run, shown, facts, words):
    other = run_of(tmp_path / "runs" / "two", **facts)
    (line,) = shown(run, other, "--compare", refused=True)
    assert f"cannot be compared: {words}" in line
    assert "leave --compare out" in line


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "no run is named"),
        (("RUN", "RUN"), "is named twice"),
        (("RUN", "--compare"), "has nothing to compare with"),
        (("RUN", "--format", "xlsx"), "format 'xlsx' is not known; allowed: csv, json, latex"),
        (("RUN", "--format", "csv", "--watch"), "leave --format csv out, or --watch"),
        (("RUN", "OTHER", "--format", "csv"), "format csv holds one table: name one run, or add --compare"),
        (("RUN", "--sort", "val_duce"), "Did you mean 'val_dice'?"),
        (("RUN", "--sort", "val_dice:left"), "direction 'left' is not known; allowed: down, up"),
        (("RUN", "--columns", "loss,lose"), "columns: column 'lose' is not known"),
        (("RUN", "--columns", "loss,loss"), "names 'loss' twice"),
        (("RUN", "--columns", "loss", "--per-class"), "give one of them"),
        (("RUN", "--where", "dept > 3"), "Did you mean 'depth'?"),
        (("RUN", "--top", "0"), "top 0 must be 1 or more"),
    ],
)
def test_wrong_words_are_told_in_one_line(tmp_path, run, shown, words, told):
    other = run_of(tmp_path / "runs" / "other")
    (line,) = shown(*({"RUN": run, "OTHER": other}.get(word, word) for word in words), refused=True)
    assert told in line


def test_no_scores_by_class_and_no_word_of_the_data(tmp_path, run, shown):
    bare = tmp_path / "bare"
    bare.mkdir()
    write(bare / "leaderboard.csv", to_frame([record("t0000", 0.5)], []))
    assert "no trial has a score of a class yet" in shown(str(bare), "--per-class", refused=True)[0]
    assert (
        "does not say what it learnt from (dataset.json cannot be read"
        in shown(run, str(bare), "--compare", refused=True)[0]
    )
    (bare / "dataset.json").write_text("[]")
    assert "it holds no names" in shown(run, str(bare), "--compare", refused=True)[0]
    write(bare / "leaderboard.csv", to_frame([], []))
    assert shown(str(bare)) == ["no trial has begun"]


def read_terminal(terminal: int, until: str) -> str:
    """What a terminal shows until these words come."""
    text = ""
    while until not in text:
        assert select.select([terminal], [], [], 30)[0], f"nothing more came after {text[-200:]!r}"
        text += os.read(terminal, 65536).decode(errors="replace")
    return text


def test_a_search_is_watched_on_a_terminal_until_ctrl_c(run):
    terminal, other_end = pty.openpty()
    command = [sys.executable, "-c", "import search.review as r; r.SECONDS_BETWEEN_LOOKS = 0.2; "]
    command[-1] += "from data.command_line import run_command; from search.leaderboard import leaderboard; "
    command[-1] += f"raise SystemExit(run_command(leaderboard, [{run!r}, '--watch']))"
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    watching = subprocess.Popen(
        command, stdin=other_end, stdout=other_end, stderr=other_end, cwd=PROJECT, env=environment
    )
    os.close(other_end)
    try:
        assert "t0004" in read_terminal(terminal, "t0003")
        write(Path(run) / "leaderboard.csv", to_frame([*RECORDS, record("t0009", 0.95)], ["vessel"]))
        assert "0.9500" in read_terminal(terminal, "0.9500")
        os.write(terminal, b"\x03")
        watching.send_signal(2)
        assert watching.wait(timeout=20) == 0
    finally:
        watching.kill()
        watching.wait()
        os.close(terminal)
