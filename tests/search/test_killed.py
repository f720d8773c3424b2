"""A search that was killed before its first trial, or after its last, or politely with all it started, goes on."""

import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

import search.run
from data.input_error import InputError
from model.config import TrainConfig
from search.driver import check_limits
from search.searcher import StudySearcher
from search.settings import SearchSettings
from search.space import parse_space
from search.study import read_study
from tests.search.commands import SMALL, run_here, start
from tests.search.test_driver import search_in, states
from tests.search.trainings import QUICK, keep_model, traced
from tests.toys import colored_squares


def die(*_: Any, **_more: Any) -> None:
    raise InputError("killed")


@pytest.mark.usefixtures("ray_cluster")
def test_a_run_goes_on_that_was_killed_before_it_had_a_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--storage", str(tmp_path), "--name", "mine", "--max-epochs", "3")
    with monkeypatch.context() as patch:
        patch.setattr(search.run, "search_with_progress", die)
        assert run_here("--print-config", *asked) == 0
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/settings.yaml").write_text(capsys.readouterr().out)
        (tmp_path / "mine/study.log").touch()
        assert run_here("--resume", *asked) == 2
    assert capsys.readouterr().err == "error: killed\n", "it came to the search itself"


@pytest.mark.usefixtures("ray_cluster")
def test_a_search_is_concluded_that_was_killed_at_its_limit(tmp_path: Path) -> None:
    journal, asked = tmp_path / "study.log", {"num_trials": 3, "budget": "2epochs"}
    killed = StudySearcher(journal=journal, space=parse_space(QUICK), num_trials=3, seed=0, max_concurrent=1)
    killed.suggest("a")
    killed.on_trial_result("a", {"epoch": 2, "val_dice": 0.5, "checkpoint": "trials/t0000/best"})
    keep_model(TrainConfig(depth=2, width=2), colored_squares("binary"), tmp_path / "trials/t0000", {})
    limits = SearchSettings(**asked).limits(3)
    check_limits(read_study(journal), limits, 1.0)

    outcome = search_in(tmp_path, traced, **asked)
    assert outcome.ending == "budget 2epochs used up (2 of 2 epochs)"
    assert [(record.status, record.reason) for record in outcome.records] == [("stopped", outcome.ending)]
    assert states(tmp_path) == ["WAITING"]
    assert (tmp_path / "best").is_dir()
    with pytest.raises(InputError, match=r"budget 2epochs used up .* before: give a larger --budget"):
        check_limits(read_study(journal), limits, 1.0)


@pytest.mark.drill
def test_a_search_that_is_stopped_with_all_its_processes_says_how_to_go_on(tmp_path: Path) -> None:
    """As a batch system stops a job, and a system its services: SIGTERM to every process at once."""
    where = ("--storage", str(tmp_path), "--name", "mine")
    driver = start(*where, "--num-trials", "1", "--max-epochs", "300", *SMALL)
    try:
        while driver.poll() is None and not list(tmp_path.glob("mine/trials/*/best")):
            time.sleep(0.05)
    finally:
        # Ray's workers have groups of their own.
        started = psutil.Process(driver.pid).children(recursive=True)
        for process in [driver, *started]:
            process.send_signal(signal.SIGTERM)
    out, errors = driver.communicate(timeout=60)
    assert (driver.returncode, errors) == (130, "")
    assert out.splitlines()[-1].endswith(f"-m search.run --resume --name mine --storage {tmp_path}")
    assert states(tmp_path / "mine") == ["RUNNING"]
    _, left = psutil.wait_procs(started, timeout=2)
    assert not left
