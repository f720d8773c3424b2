"""What is taken over from earlier runs, and which folders are refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.input_error import InputError
from search.run import look_back
from search.run_folder import RunFolder
from search.searcher import StudySearcher
from search.settings import SearchSettings
from search.space import parse_space
from search.study import open_study, read_study
from search.warm_start import OTHER_DATA, past_trials
from tests.search.commands import run_here

SAME, OTHER = "a" * 64, "b" * 64


def run_of(folder: Path, results: list[dict[str, Any]], fingerprint: str = SAME) -> Path:
    """A run whose trials had these last results; each has its place in the list as its `seed`."""
    folder.mkdir()
    searcher = StudySearcher(
        journal=folder / "study.log",
        space=parse_space(["learning_rate=1e-3:1e-2:log"]),
        num_trials=None,
        seed=0,
        max_concurrent=99,
        dataset=f"eyes@{fingerprint[:8]}",
    )
    for number, result in enumerate(results):
        searcher.suggest(str(number))
        searcher.on_trial_complete(str(number), {"epoch": 1} | result)
    return folder


def done(val_dice: float, **more: Any) -> dict[str, Any]:
    return {"status": "completed", "val_dice": val_dice} | more


def test_the_best_fifth_of_a_run_by_rank(tmp_path):
    run = run_of(tmp_path / "run", [done(value / 20) for value in (3, 9, 1, 8, 2, 4, 7, 5, 6, 0)])
    learnt = past_trials([run], SAME)
    assert [(trial.weight, trial.first) for trial in learnt] == [(1.0, True), (0.5, False)]
    rates = [record["learning_rate"] for record in configs_of(run)]
    assert [trial.values["learning_rate"] for trial in learnt] == [rates[1], rates[3]]


def test_the_front_of_a_run_tells_more_where_a_cost_counts(tmp_path):
    # Of ten trials two tell something. The second best by val_dice is beaten by the best; the lightest one is not.
    results = [done(0.9, parameters=50), done(0.8, parameters=60), done(0.3, parameters=10)]
    results += [done(0.1, parameters=90)] * 7
    run = run_of(tmp_path / "run", results)
    configs = configs_of(run)
    for objectives, second in ((("val_dice",), 1), (("val_dice", "parameters"), 2), (("val_dice", "latency_ms"), 1)):
        learnt = past_trials([run], SAME, objectives)
        assert [trial.values for trial in learnt] == [configs[0], configs[second]]


def configs_of(run: Path) -> list[dict[str, Any]]:
    return [trial.user_attrs["record"]["config"] for trial in read_study(run / "study.log").trials]


def test_bad_endings_do_not_count_and_stopped_trials_do(tmp_path):
    results = [
        done(0.9, status="diverged", reason="NaN"),
        done(0.2),
        {"val_dice": 0.5},  # stopped by the scheduler
        {},  # stopped before it had a value
        done(0.99, status="out_of_memory", reason="too large"),
    ]
    run = run_of(tmp_path / "run", results)
    (best,) = past_trials([run], SAME)
    assert best.values == configs_of(run)[2]


def test_more_folds_count_more(tmp_path):
    run = run_of(tmp_path / "run", [done(0.9, folds=1), done(0.7, folds=3, epoch=3)])
    assert past_trials([run], SAME)[0].values == configs_of(run)[1]


def test_trials_of_fewer_folds_do_not_change_the_order_of_those_of_more(tmp_path):
    # Beside the first two alone, the one of a single fold would put the better one on the second front.
    results = [done(0.6, folds=5, parameters=50), done(0.7, folds=5, parameters=100), done(0.8, parameters=60)]
    run = run_of(tmp_path / "run", results)
    assert past_trials([run], SAME, ("val_dice", "parameters"))[0].values == configs_of(run)[1]


def test_other_data_count_less_and_come_later(tmp_path):
    other = run_of(tmp_path / "other", [done(0.9)] * 5, OTHER)
    same = run_of(tmp_path / "same", [done(0.5)] * 10)
    learnt = past_trials([other, same], SAME)
    assert [trial.weight for trial in learnt] == [1.0, 0.5, OTHER_DATA]
    assert [trial.first for trial in learnt] == [True, False, True]


def test_no_run_shows_nothing():
    assert past_trials([], SAME) == ()


def test_what_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"is no run: name a folder with a study\.log"):
        past_trials([tmp_path], SAME)
    bad = run_of(tmp_path / "bad", [done(0.9, status="failed", reason="it broke")])
    with pytest.raises(InputError, match="has no trial that came to a val_dice: leave it out"):
        past_trials([bad], SAME)
    good = run_of(tmp_path / "good", [done(0.9)])
    with pytest.raises(InputError, match="is named twice"):
        past_trials([good, tmp_path / "bad" / ".." / "good"], SAME)
    (bad / "study.log").write_text("this is a diary\n")
    with pytest.raises(InputError, match="holds no search"):
        past_trials([bad], SAME)


def test_a_run_that_goes_on_looks_back_no_second_time(tmp_path):
    run, new = run_of(tmp_path / "run", [done(0.9)]), RunFolder(path=tmp_path / "new")
    new.path.mkdir()
    settings = SearchSettings(warm_start=(run,), name="new")
    past = look_back(settings, None, SAME)
    assert len(past) == 1
    study = open_study(new.journal)
    resumed = replace(settings, resume=True)
    assert look_back(resumed, study, SAME) == past, "it was killed before it had taken note of it"
    StudySearcher(journal=new.journal, space=parse_space(()), past=past, num_trials=1, seed=0, max_concurrent=1)
    assert look_back(resumed, open_study(new.journal), SAME) == ()
    assert look_back(SearchSettings(), None, SAME) == ()


def test_the_command_refuses_a_folder_that_is_no_run_before_it_begins(tmp_path, capsys):
    assert run_here("--storage", str(tmp_path / "runs"), "--warm-start", str(tmp_path / "nowhere")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is no run: name a folder with a study.log" in line
    assert list(tmp_path.iterdir()) == []
