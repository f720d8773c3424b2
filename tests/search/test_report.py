"""The report of a run: what it says, that it asks no network and runs nothing, and what becomes of gaps in a run."""

import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from data.command_line import run_command
from data.input_error import InputError
from data.readers import load
from data.split import split_data
from data.windows import place
from model.checkpoint import ModelCard, save_model
from model.config import TrainConfig
from model.judge import judge
from search.curves import Curves
from search.leaderboard import to_frame
from search.record import STATUSES, TrialRecord
from search.report.__main__ import report
from search.report.chart import STATUS_COLORS
from search.report.charts import CHARTS, some_of, timeline
from search.report.importance import SLICE, importance_chart, importances, optuna_charts
from search.report.page import draw_page, table_of
from search.report.run_facts import RunFacts, read_facts
from search.report.sentences import advice, asked, found
from search.report.winner import look_at_winner, rows_of_scores
from search.run_folder import RunFolder, describe_data, keep_data
from tests.search.made_up_run import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("runs") / "made-up", 60)


@pytest.fixture(scope="module")
def facts(run: RunFolder) -> RunFacts:
    return read_facts("runs/made-up", run.path)


@pytest.fixture(scope="module")
def page(facts: RunFacts) -> str:
    return draw_page(facts)


def embedded(page: str, name: str) -> Any:
    found = re.search(rf'<script id="{name}" type="application/json">(.*?)</script>', page, flags=re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_three_sentences_say_what_was_asked_and_found(facts: RunFacts) -> None:
    assert asked(facts).startswith("A U-net was sought for the class class0 of toy (4 pictures to learn from and 2 to")
    assert "over 13 settings, with trainings of at most 60 epochs within num trials 60." in asked(facts)
    assert facts.best is not None
    assert f"the best, {facts.best.trial_id}, reached a val_dice of {facts.best.val_dice:.4f}" in found(facts)
    assert found(facts).startswith("60 trials (") and "1 running" in found(facts)
    assert "too good" in advice(facts)
    assert "at work, or was cut off" in advice(replace(facts, under_way=True))
    nothing = replace(facts, trials=(), frame=to_frame([], ["class0"]))
    assert "none has a model yet" in found(nothing)
    assert "why trials ended badly" in advice(nothing)


def test_the_page_is_one_file_that_asks_nobody_for_anything(page: str) -> None:
    ours = re.sub(r"<script>/\*\*?[\s\S]*?plotly[\s\S]*?</script>", "", page)
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", ours)
    assert "default-src 'none'" in page
    assert len(page) < 8_000_000


def test_what_trials_say_is_text_and_no_part_of_the_page(page: str, facts: RunFacts) -> None:
    assert "<script>alert(1)" not in page
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in page
    assert "&lt;b&gt;all&lt;/b&gt; masks were empty" in page
    table = embedded(page, "table")
    names = [column["name"] for column in table["columns"]]
    assert len(table["rows"]) == 60
    assert {row[names.index("trial_id")] for row in table["rows"]} == {trial.record.trial_id for trial in facts.trials}
    assert any("</script>" in str(row[names.index("reason")]) for row in table["rows"])
    assert embedded(page, "plots").keys() >= {"best-so-far", "curves", "front", "statuses", "importance", "parallel"}


def test_every_chart_says_what_it_shows_and_what_is_along_its_axes(facts: RunFacts) -> None:
    shares = importances(facts)
    charts = [build(facts) for build in CHARTS] + [importance_chart(facts, shares)] + optuna_charts(facts, shares)
    drawn = [chart for chart in charts if chart is not None]
    assert len(drawn) >= 8 and len({chart.key for chart in drawn}) == len(drawn)
    for chart in drawn:
        assert len(chart.title) > 10, chart.key
        layout = chart.plot["layout"]
        assert "title" not in layout and "template" not in layout
        if chart.key == "parallel":
            continue
        titles = [layout[axis].get("title", {}).get("text", "") for axis in ("xaxis", "yaxis")]
        named = [trace["y"] for trace in chart.plot["data"] if trace.get("orientation") == "h"]
        assert titles[0] and (titles[1] or named), chart.key
    assert {chart.key for chart in drawn} >= {f"{SLICE}learning_rate", "contour"}


def test_the_table_leaves_out_what_is_the_same_and_what_is_empty(facts: RunFacts) -> None:
    table = table_of(facts.frame, facts.searched)
    names = [column["name"] for column in table["columns"]]
    assert table["same"]["encoder"] == "own"
    assert "encoder" not in names and "latency_ms" not in names
    assert table["first"][:4] == ["rank", "trial_id", "status", "val_dice"]
    assert set(table["first"]) <= set(names)
    assert (
        next(column for column in table["columns"] if column["name"] == "depth")["meaning"]
        == (TrainConfig.__dataclass_fields__["depth"].metadata["meaning"])
    )
    json.dumps(table, allow_nan=False)


def test_a_run_without_a_trial_has_a_page(tmp_path: Path) -> None:
    empty = read_facts("empty", make_run(tmp_path / "empty", 0).path)
    page = draw_page(empty)
    assert embedded(page, "table")["rows"] == []
    assert embedded(page, "plots") == {}
    assert "0 trials" in page


def test_very_many_trials_are_drawn_in_part() -> None:
    some = [TrialRecord(trial_id=f"t{number:04d}", config={}) for number in range(100)]
    chosen = some_of(some, 10)  # type: ignore[arg-type]
    assert [one.trial_id for one in chosen[:5]] == [f"t{number:04d}" for number in range(5)]  # type: ignore[attr-defined]
    assert len(chosen) == 10 and chosen[-1] is some[-1]
    assert some_of(some, 100) == some  # type: ignore[arg-type, comparison-overlap]


def test_the_setting_that_made_the_difference_is_found(facts: RunFacts) -> None:
    def scored(trial: Any) -> Any:
        dice = 0.5 - 0.1 * abs(math.log10(trial.record.config["learning_rate"]) + 2)
        return replace(trial, record=replace(trial.record, status="completed", metrics={"val_dice": dice}))

    one_rules = replace(facts, trials=tuple(map(scored, facts.trials)))
    first, second, *_ = importances(one_rules)
    assert first.name == "learning_rate"
    assert first.low > second.high
    chart = importance_chart(one_rules, importances(one_rules))
    assert chart is not None and chart.title == "learning_rate made the largest difference"
    assert importances(one_rules) == importances(one_rules), "the same page comes out each time"
    assert importances(replace(facts, trials=facts.trials[:5])) == []


def test_who_was_at_work_when_is_read_from_the_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", 2)
    clock = [1000.0]
    monkeypatch.setattr("search.curves.time.time", lambda: clock[0])
    for process, epochs in enumerate(((2.0, 4.0), (4.0, 7.0))):
        folder = run.trials / "t0000"
        folder.mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr("socket.gethostname", lambda process=process: f"host{process}")
        curves = Curves(folder, {})
        for seconds in epochs:
            clock[0] += 10
            curves.draw({"epoch": 1, "seconds": seconds, "warnings": ""})
        curves.close()
    files = sorted(folder.glob("events*"))
    assert len(files) == 2
    (trial, _) = read_facts("run", run.path).trials
    assert trial.at_work == ((1008.0, 1010.0), (1018.0, 1020.0), (1037.0, 1040.0)), "its last epoch is shown again"
    chart = timeline(read_facts("run", run.path))
    assert chart is not None and chart.title == "1 worker trained 22 % of the time"
    content = files[1].read_bytes()
    files[1].write_bytes(content[: content.rfind(b"seconds")])
    assert len(read_facts("run", run.path).trials[0].at_work) == 2


@pytest.fixture(scope="module")
def with_model(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on synthetic lesions whose best model has learnt nothing."""
    run = make_run(tmp_path_factory.mktemp("runs") / "lesions", 12, settings={"data": "synthetic-lesions"})
    data = load("synthetic-lesions")
    split = split_data(data)[0]
    keep_data(run, describe_data(data, (split,)))
    config = TrainConfig(depth=2, width=2)
    torch.manual_seed(0)
    card = ModelCard.of(config, data, thresholds=(0.5,) * len(data.class_names), split=split)
    network = card.build()
    judgement = judge(network, place(data, split.validation, torch.device("cpu")), data.label_mode, bfloat16=False)
    judged = judgement.as_mapping(data.class_names, [data.names[index] for index in split.validation])
    card = replace(card, thresholds=judgement.thresholds)
    save_model(run.best, network, card, {}, judged=judged)
    return run


def test_the_winner_is_shown_on_its_best_median_and_worst_picture(with_model: RunFolder) -> None:
    facts = read_facts("lesions", with_model.path)
    winner = look_at_winner(facts)
    assert winner.missing == ""
    assert " ".join(shown.what for shown in winner.gallery).split() in (
        ["best", "median", "worst"],
        ["best", "and", "median", "worst"],
        ["best", "median", "and", "worst"],
    )
    for shown in winner.gallery:
        assert shown.name in facts.dataset["split"]["validation"]
        assert list(shown.panels) == ["picture", "truth", "prediction", "errors"]
        sizes = {Image.open(io.BytesIO(panel)).size for panel in shown.panels.values()}
        assert len(sizes) == 1 and max(*sizes.pop()) <= 360
    assert [chart.key for chart in winner.charts] == ["calibration", "thresholds", "images"]
    rows = dict(rows_of_scores(winner.scores))
    assert [*rows][:-2] == facts.class_names
    assert [*rows][-2:] == ["macro: all classes alike", "micro: all pixels alike"]
    dice = [winner.scores["classes"][name]["dice"] for name in facts.class_names]
    assert rows["macro: all classes alike"][0] == f"{np.mean([one for one in dice if one is not None]):.3f}"
    page = draw_page(facts)
    assert page.count("data:image/jpeg;base64,") == 4 * len(winner.gallery)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            lambda run: keep_data(run, {**json.loads(run.dataset.read_text()), "fingerprint": "0"}),
            "cannot be read here",
        ),
        (lambda run: (run.best / "model.safetensors").unlink(), "there is no best model yet"),
    ],
)
def test_what_cannot_be_shown_is_said(with_model: RunFolder, tmp_path: Path, spoil: Any, words: str) -> None:
    import shutil

    run = RunFolder(path=tmp_path / "run")
    shutil.copytree(with_model.path, run.path)
    spoil(run)
    facts = read_facts("run", run.path)
    winner = look_at_winner(facts)
    assert words in winner.missing
    assert not winner.gallery
    assert f"No pictures, calibration and thresholds: {words[:5]}" in draw_page(facts) or words in winner.missing


def test_the_command_writes_the_page_or_says_why_not(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(report, [str(run.path)]) == 0
    assert capsys.readouterr().out.startswith(f"report: {run.path}/report.html (")
    elsewhere = tmp_path / "page.html"
    assert run_command(report, [str(run.path), "--output", str(elsewhere)]) == 0
    assert elsewhere.stat().st_size > 1_000_000
    capsys.readouterr()
    for words, told in (
        (["nowhere"], "does not exist"),
        ([str(run.path), "--output", str(tmp_path)], "is a folder: name a file in it"),
        ([str(run.path), "--output", str(tmp_path / "no/page.html")], "is in a folder that does not exist"),
        (["s3://bucket/run"], "say where the page is to be"),
    ):
        assert run_command(report, words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line


def test_each_status_has_a_colour() -> None:
    assert [*STATUS_COLORS] == sorted(STATUSES, key=[*STATUS_COLORS].index)
    assert len(set(STATUS_COLORS.values())) == len(STATUSES)


def test_a_damaged_run_is_refused_in_a_line(run: RunFolder, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    (copy / "dataset.json").write_text("[1]")
    with pytest.raises(InputError, match="does not say what the run learnt from"):
        read_facts("run", copy)
    (copy / "dataset.json").write_text("{")
    with pytest.raises(InputError, match=r"dataset\.json' cannot be read"):
        read_facts("run", copy)
