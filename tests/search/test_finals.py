"""`python -m search.finals`: from a search to a winner, one reading of the test images, and a model to predict with."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from PIL import Image
from rich.console import Console

import search.final_training
import search.finals
import search.run_data
from data.command_line import run_command
from data.input_error import InputError
from data.readers import load
from data.split import split_data
from model.checkpoint import ENSEMBLE, ModelCard, save_model
from model.config import TrainConfig
from model.predict import main as predict
from model.prediction import PredictionSettings
from search import finalists
from search.ensemble import Together
from search.finals import Finals, finals, read_trials
from search.held_out import hash_weights
from search.holder import LOCK
from search.leaderboard import to_frame, write
from search.record import TrialRecord
from search.resources import Needs
from search.run import NO_MODEL
from search.run_folder import RunFolder, describe_data, held, keep_data
from search.settings import SearchSettings
from search.study import open_study
from search.trial import SharedWork
from tests.toys import colored_squares, write_folder

QUICK: dict[str, Any] = {
    **{"depth": 2, "batch_size": 4, "crop_size": 16, "epoch_pixels": 0},
    **{"precision": "float32", "collapse_epochs": 99},
}


def finals_here(run: Path, *words: str) -> int:
    return run_command(finals, [str(run), *words])


def all_files(folder: Path) -> dict[str, bytes]:
    """What lies in a run's folder, but for what the finals make."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] not in ("finals", finalists.TABLE)
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run of two trials on twelve images, two of which were kept for the end."""
    cells = write_folder(tmp_path / "cells", colored_squares("binary", count=12))
    settings = SearchSettings(data=str(cells), test_fraction=0.2, max_epochs=3)
    data = load(settings.data, preparation=settings.preparation)
    splits = split_data(data, settings.splitting)
    folder = RunFolder(path=tmp_path / "run")
    folder.path.mkdir()
    folder.settings.write_text(settings.as_yaml())
    keep_data(folder, describe_data(data, splits))
    study, records = open_study(folder.journal), []
    for number in range(2):
        config = TrainConfig(width=2 + number, max_epochs=3, **QUICK)
        record = TrialRecord(
            trial_id=f"t000{number}",
            config=asdict(config),
            status="completed",
            metrics={"val_dice": 0.8 + number / 10},
            checkpoint=f"trials/t000{number}/best",
        )
        study.ask().set_user_attr("record", asdict(record))
        records.append(record)
        card = ModelCard.of(config, data, thresholds=(0.5,), split=splits[0])
        save_model(folder.path / record.checkpoint, card.build(), card, {})
    write(folder.leaderboard, to_frame(records, data.class_names))
    return folder.path


@pytest.mark.usefixtures("ray_cluster")
def test_the_best_trials_are_trained_again_and_the_test_images_read_after_the_choice(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = all_files(run)
    assert finals_here(run, "--top", "2", "--seeds", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{run}: finalists: 2 of 2 trials; seeds: 2; trainings: 4 to do, 0 done; 2 at a time"
    trained = sorted(line.split()[0] for line in lines[1:5])
    assert trained == [*("t0000/seed-1", "t0000/seed-2", "t0001/seed-1", "t0001/seed-2")]
    assert lines[-1].endswith(f"-m model.predict {run}/finals/best PICTURES")
    assert all_files(run) == before | {LOCK: b""}, "the search's own files stay as they are"

    table = finalists.read(run)
    assert table["seeds"].to_list() == [2, 2]
    assert table["val_dice_lower"].is_monotonic_decreasing
    winner = table.iloc[0]
    assert winner["search_val_dice"] == {"t0000": 0.8, "t0001": 0.9}[winner["trial_id"]]
    assert winner["optimism"] == pytest.approx(winner["search_val_dice"] - winner["val_dice_mean"])
    assert winner["test_dice_low"] <= winner["test_dice"] <= winner["test_dice_high"]
    assert table["test_dice"].isna().to_list() == [False, True], "only what was chosen is shown the test images"

    choice = json.loads((run / "finals/choice.json").read_text())
    record = json.loads((run / "finals/test.json").read_text())
    reading = record["readings"][0]
    facts = json.loads((run / "dataset.json").read_text())
    assert record["times_read"] == 1
    assert reading["when"] >= choice["when"]
    assert (reading["images"], reading["fingerprint"]) == (facts["split"]["test"], facts["fingerprint"])
    assert len(reading["images"]) == 2
    assert choice["winner"]["model"] == winner["checkpoint"] == reading["models"][-1]["model"]
    assert reading["models"][-1]["weights_sha256"] == hash_weights(run / winner["checkpoint"])
    assert reading["models"][-1]["dice"]["value"] == winner["test_dice"]
    assert choice["weights_sha256"] == reading["models"][0]["weights_sha256"] == hash_weights(run / "finals/best")
    assert not any("reading number" in line for line in lines)

    # The same again trains nothing, chooses the same, and shows what was read.
    assert finals_here(run, "--top", "2", "--seeds", "2") == 0
    again = capsys.readouterr().out.splitlines()
    assert "trainings: 0 to do, 4 done" in again[0]
    assert [line for line in again if line.startswith("test:")] == [line for line in lines if line.startswith("test:")]
    assert json.loads((run / "finals/test.json").read_text()) == record

    # More seeds add to what there is; an ensemble that wins is read, too, and predicts like any other model.
    def wins(candidates: Any, work: Any) -> Together:
        weights = (2, 1, *[0] * (len(candidates) - 2))
        return Together(weights=weights, thresholds=(0.5,), dice=0.9, single=2, single_dice=0.8)

    monkeypatch.setattr("search.ensemble.choose_together", wins)
    assert finals_here(run, "--top", "1", "--seeds", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "seeds: 3; trainings: 1 to do, 2 done" in lines[0]
    assert sorted(finalists.read(run)["seeds"]) == [2, 3]
    second = json.loads((run / "finals/test.json").read_text())
    assert second["times_read"] == 2
    assert second["readings"][0] == reading
    ensemble, alone = (model["model"] for model in second["readings"][1]["models"])
    assert (ensemble, alone) == ("finals/best", finalists.read(run)["checkpoint"][0])
    warning = next(line for line in lines if line.startswith("warning: "))
    assert "this was reading number 2 of the test images" in warning
    assert "no longer honest" in warning
    best = run / "finals/best"
    assert len([path for path in best.iterdir() if path.is_dir()]) == 2
    assert (best / ENSEMBLE).read_bytes() == (run / "finals/ensemble" / ENSEMBLE).read_bytes()
    images = Path(json.loads((run / "dataset.json").read_text())["source"]) / "images"
    out = tmp_path / "out"
    assert predict(best, images / "picture0.png", output=out, device="cpu", settings=PredictionSettings()) == 0
    with Image.open(out / "masks/picture0.png") as mask:
        assert np.asarray(mask).shape == (32, 32)


@pytest.mark.usefixtures("ray_cluster")
def test_without_sound_finalists_or_test_images_it_says_so(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (run / "settings.yaml").read_text()
    (run / "settings.yaml").write_text(settings.replace("test_fraction: 0.2", "test_fraction: 0.0"))
    (run / "dataset.json").write_text(json.dumps({"fingerprint": None}))
    ended: dict[int, str] = {1: "diverged", 2: "completed"}

    def pretend(trainings: Any, work: Any, shared: Any, look: Any) -> None:
        """Ends each training as is written above, with the model of its trial."""
        for training in trainings:
            folder, status = work.folder / training.place, ended[training.seed_number]
            shutil.copytree(run / "trials" / training.trial_id, folder)
            record = TrialRecord(
                trial_id=training.trial_id,
                config=training.config,
                status=status,  # type: ignore[arg-type]
                reason="" if status == "completed" else "the loss is not finite",
                metrics={"val_dice": 0.4 + training.seed_number / 100},
                checkpoint=f"finals/{training.place}/best",
            )
            search.final_training.keep_record(folder, record)
            look(training, record)

    monkeypatch.setattr(search.finals, "train_all", pretend)
    monkeypatch.setattr(search.run_data, "check_same_data", lambda *_: None)
    assert finals_here(run, "--top", "2", "--seeds", "2") == NO_MODEL
    lines = capsys.readouterr().out.splitlines()
    assert "t0000/seed-1 diverged: the loss is not finite" in lines
    assert lines[-1] == (
        "no finalist came through with all its seeds, so nothing is chosen: seed 1: the loss is not finite"
    )
    assert finalists.read(run)["status"].to_list() == ["diverged", "diverged"]
    assert sorted(path.name for path in (run / "finals").iterdir()) == ["t0000", "t0001"]

    shutil.rmtree(run / "finals")
    ended[1] = "completed"
    assert finals_here(run, "--top", "1", "--seeds", "2") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("no images were kept for the end" in line and "--test-fraction" in line for line in lines)
    assert not (run / "finals/test.json").exists()
    assert finalists.read(run)["test_dice"].isna().all()
    # Twice the same model: no ensemble is better.
    assert not (run / "finals/ensemble").exists()
    assert hash_weights(run / "finals/best") == hash_weights(run / finalists.read(run)["checkpoint"][0])


@pytest.mark.usefixtures("ray_cluster")
def test_an_interrupt_says_how_to_go_on(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search.finals, "train_all", interrupt)
    for words in ("--top 2 --seeds 4", "--top 3 --seeds 2 --cpus-per-trial 0.5 --gpus-per-trial 0.0"):
        assert finals_here(run, *words.split()) == 130
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.startswith("interrupted; go on with: ")
        assert last.endswith(f"-m search.finals {run} {words}")


def refuse_the_model(folder: Path, _: Any) -> None:
    raise InputError(f"model {str(folder)!r} is gone")


@pytest.mark.usefixtures("ray_cluster")
def test_a_mistake_that_a_worker_meets_is_told_in_its_own_words(tmp_path: Path) -> None:
    data = colored_squares("binary")
    work = SharedWork(data=data, splits=split_data(data), train=None, folder=tmp_path, needs=Needs(cpus=1, gpus=0))
    stage = Finals(
        run=RunFolder(path=tmp_path), work=work, shared=ray.put(work), records=(), console=Console(quiet=True)
    )
    with pytest.raises(InputError) as told:
        stage.in_worker(refuse_the_model, tmp_path)
    assert str(told.value) == f"model {str(tmp_path)!r} is gone"


def refusal(capsys: pytest.CaptureFixture[str], run: Path, *words: str) -> str:
    """What the command says when it refuses."""
    capsys.readouterr()
    assert finals_here(run, *words) == 2
    out, errors = capsys.readouterr()
    assert errors.startswith("error: ") and errors.count("\n") == 1
    assert out == ""
    return errors


@pytest.mark.usefixtures("ray_cluster")
def test_what_is_asked_wrongly_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (("--top", "0"), "top 0 must be 1 or more"),
        (("--seeds", "1"), "seeds 1 must be 2 or more"),
        (("--cpus-per-trial", "0"), "cpus_per_trial 0 must be above 0"),
        (("--gpus-per-trial", "1.5"), "gpus_per_trial 1.5 must be whole"),
        (("--cpus-per-trial", "99"), "cpus_per_trial 99 and gpus_per_trial 0 fit on no machine"),
        (("--address", "head"), "address 'head' must be host:port"),
    ):
        assert message in refusal(capsys, run, *words)
    assert f"run {str(tmp_path / 'gone')!r} does not exist" in refusal(capsys, tmp_path / "gone")
    assert f"run {str(tmp_path)!r} holds no search" in refusal(capsys, tmp_path)
    with held(RunFolder(path=run)):
        assert "is being searched by" in refusal(capsys, run)
    (run / "finals").mkdir()
    (run / "finals/test.json").write_text("{}")
    assert "nobody knows how often" in refusal(capsys, run)
    assert sorted(path.name for path in run.iterdir() if "final" in path.name) == ["finals"]


def test_a_run_without_a_finished_trial_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "study.log").unlink()
    assert "does not exist" in refusal(capsys, run)
    study = open_study(run / "study.log")
    record = TrialRecord(trial_id="t0000", config=asdict(TrainConfig()), status="running", metrics={"val_dice": 0.5})
    study.ask().set_user_attr("record", asdict(record))
    assert "has no trial that completed or was stopped" in refusal(capsys, run)
    study.ask().set_user_attr("record", asdict(record) | {"trial_id": "t0001", "status": "stopped"})
    assert [trial.trial_id for trial in read_trials(RunFolder(path=run), 3)[1]] == ["t0001"]


def test_data_that_are_gone_or_others_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells, settings = tmp_path / "cells", (run / "settings.yaml").read_text()
    (run / "settings.yaml").write_text(settings.replace(str(cells), str(tmp_path / "gone")))
    assert f"data {str(tmp_path / 'gone')!r} does not exist" in refusal(capsys, run)
    others = write_folder(tmp_path / "others", colored_squares("binary", count=12, seed=1))
    (run / "settings.yaml").write_text(settings.replace(str(cells), str(others)))
    assert "has not the fingerprint with which run 'run' began" in refusal(capsys, run)
    (run / "settings.yaml").write_text("data: [cells")
    assert "settings.yaml' holds no settings" in refusal(capsys, run)
    (run / "settings.yaml").write_text(settings)
    (run / "dataset.json").unlink()
    assert "does not say what it learnt from" in refusal(capsys, run)
