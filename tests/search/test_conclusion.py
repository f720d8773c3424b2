"""What is kept of a search that is over: the best model that is whole, and the states with which trials go on."""

from pathlib import Path

import pytest

from model.checkpoint import load_model
from model.config import TrainConfig
from search.conclusion import drop_spare_states, keep_best
from search.events import Events
from search.record import TrialRecord
from search.run_folder import RunFolder
from tests.search.trainings import keep_model
from tests.toys import colored_squares


def finished(run: RunFolder, trial_id: str, val_dice: float) -> TrialRecord:
    """The record of a trial whose model lies in the run."""
    keep_model(TrainConfig(depth=2, width=2), colored_squares("binary"), run.trials / trial_id, {"epoch": 1})
    checkpoint = f"trials/{trial_id}/best"
    scores = {"val_dice": val_dice}
    return TrialRecord(trial_id=trial_id, config={}, status="completed", metrics=scores, checkpoint=checkpoint)


@pytest.mark.parametrize("damage", [b"", b"not a model"])
def test_a_damaged_model_is_passed_over_with_a_line(tmp_path: Path, damage: bytes) -> None:
    run, said = RunFolder(path=tmp_path), list[str]()
    records = [finished(run, "t0000", 0.9), finished(run, "t0001", 0.5)]
    (run.trials / "t0000/best/model.safetensors").write_bytes(damage)
    best = keep_best(run, records, Events(run.events, said.append), {}, None)
    assert best is records[1]
    (line,) = said
    assert line.startswith("the model of trial t0000 is passed over: ")
    load_model(run.best)


def test_without_any_whole_model_there_is_no_best(tmp_path: Path) -> None:
    run = RunFolder(path=tmp_path)
    record = finished(run, "t0000", 0.9)
    (run.trials / "t0000/best/model.safetensors").unlink()
    assert keep_best(run, [record], Events(run.events), {}, None) is None
    assert not run.best.exists()


def test_only_the_last_states_are_left(tmp_path: Path) -> None:
    run = RunFolder(path=tmp_path)
    folder = run.trials / "t0000/fold-1"
    folder.mkdir(parents=True)
    for name in ("last.safetensors", ".previous.safetensors", ".next.safetensors"):
        (folder / name).touch()
    drop_spare_states(run)
    assert [path.name for path in folder.iterdir()] == ["last.safetensors"]
