"""A search whose driver was killed goes on: nothing finished is lost, nothing saved is trained again."""

import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from search.holder import LOCK
from search.leaderboard import read
from search.record import records_from_study
from search.study import read_study
from tests.search.commands import SMALL, run_here, start

EPOCHS = 15


def epochs_drawn(trial: Path) -> list[list[int]]:
    """The epochs in the curves of a trial, session by session."""
    files = sorted(trial.glob("events.out.tfevents.*"))
    return [sorted({event.step for event in EventFileLoader(str(file)).Load()} - {0}) for file in files]


def wait_for_one_done_and_one_begun(driver: "subprocess.Popen[str]", folder: Path) -> Any:
    """The leaderboard as soon as it knows of a finished trial, and another one is in the middle."""
    while driver.poll() is None:
        time.sleep(0.1)
        # The third begins where another one is done; to look at all before would only keep them from their work.
        if (folder / "trials/t0002").exists() and (folder / "leaderboard.csv").exists():
            rows = read(folder / "leaderboard.csv").set_index("trial_id")
            now = records_from_study(read_study(folder / "study.log"))
            begun = any(one.status == "running" and 3 <= one.epochs <= EPOCHS - 5 for one in now)
            if (rows["status"] == "completed").any() and begun:
                return rows
    raise AssertionError("the search was over too soon")


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_after_kill_9_a_search_goes_on_with_a_larger_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, where = tmp_path / "mine", ("--storage", str(tmp_path), "--name", "mine")
    driver = start(*where, "--num-trials", "3", "--max-epochs", str(EPOCHS), *SMALL)
    try:
        before = wait_for_one_done_and_one_begun(driver, folder)
    finally:
        driver.kill()
        driver.communicate()
    done = before[before["status"] == "completed"]
    # A trial may have ended between the last look at the leaderboard and the kill: the study knows.
    ended = {
        one.trial_id: one for one in records_from_study(read_study(folder / "study.log")) if one.status != "running"
    }
    assert set(done.index) <= set(ended)

    assert run_here("--resume", *where, "--num-trials", "4") == 0
    after = read(folder / "leaderboard.csv").set_index("trial_id")
    assert sorted(after.index) == ["t0000", "t0001", "t0002", "t0003"]
    assert set(after["status"]) == {"completed"}
    assert set(after.epochs) == {EPOCHS}
    assert [trial.state.name for trial in read_study(folder / "study.log").trials] == ["COMPLETE"] * 4

    # What had ended is as it was, and is not told again.
    columns = ["val_dice", "seconds", "best_epoch"]
    assert after.loc[done.index, columns].equals(done[columns])
    later = {one.trial_id: one for one in records_from_study(read_study(folder / "study.log"))}
    assert {trial_id: later[trial_id] for trial_id in ended} == ended
    told = [line.split()[0] for line in capsys.readouterr().out.splitlines() if " completed: " in line]
    assert sorted(told) == sorted(set(after.index) - set(ended))

    # What it cannot go on with is refused, and not kept.
    kept = (folder / "settings.yaml").read_text()
    assert run_here("--resume", *where, "--num-trials", "5", "--budget", "2x") == 2
    assert capsys.readouterr().err.startswith("error: budget 2x used up (60 of 30 epochs) before: give a larger")
    assert (folder / "settings.yaml").read_text() == kept

    # What had not goes on from the last epoch that was saved, which is told again.
    sessions = {path.name: epochs_drawn(path) for path in (folder / "trials").iterdir()}
    resumed = [one for one in sessions.values() if len(one) == 2]
    assert resumed
    for first, second in resumed:
        assert first == list(range(1, first[-1] + 1))
        assert second == list(range(second[0], EPOCHS + 1))
        assert first[-1] <= second[0] <= first[-1] + 1
    assert all(sessions[trial_id] == [list(range(1, EPOCHS + 1))] for trial_id in ended)


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--data", "synthetic-lesions"],
            "data 'synthetic-lesions' differs from 'synthetic', with which run 'mine' began",
        ),
        (["--max-epochs", "9"], "max_epochs 9 differs from 3"),
        (["--space", "depth=5"], "space "),
    ],
)
def test_a_run_does_not_go_on_with_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    assert run_here("--max-epochs", "3", "--print-config") == 0
    settings = capsys.readouterr().out
    (folder / "settings.yaml").write_text(settings)
    assert run_here("--resume", "--name", "mine", "--storage", str(tmp_path), *words) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert sorted(path.name for path in folder.iterdir()) == [LOCK, "settings.yaml"]
    assert (folder / "settings.yaml").read_text() == settings
