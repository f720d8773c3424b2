"""The trainings of the finals on a running Ray: whatever happens to them is known, and none is made twice."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import ray

from data.split import split_data
from model.config import TrainConfig
from search.final_training import RECORD, RESTARTS, FinalTraining, give_up, plan, read_training, train_all
from search.record import TrialRecord
from search.resources import Needs
from search.trial import SharedWork
from tests.search.test_folds import wait_until_all_is_free
from tests.search.trainings import TRACE, epoch_report
from tests.toys import colored_squares

TRIAL = TrialRecord(trial_id="t0007", config=asdict(TrainConfig(max_epochs=3)))


def staged(config: Any, data: Any, split: Any, *, folder: Path, **more: Any) -> Iterator[Any]:
    """Learns nothing, goes on from its trace, and ends well, badly, or not by itself, as its folder is named."""
    trace = folder / TRACE
    before = len(trace.read_text().split()) if trace.exists() else 0
    for epoch in range(max(1, before), config.max_epochs + 1):
        if epoch > before:
            with trace.open("a") as file:
                file.write(f"{epoch}\n")
        yield epoch_report(epoch, (config.seed / 10, config.seed / 10))
        match folder.name, epoch:
            case "seed-2", 2 if not (folder / "died").exists():
                (folder / "died").touch()
                os._exit(1)
            case "seed-3", 2:
                raise ValueError("it went wrong")
            case "seed-4", 1 if not before:  # until it is interrupted
                while folder.exists():
                    time.sleep(0.05)


def start(folder: Path, trainings: list[FinalTraining], look: Any, workers: int = 1) -> None:
    data, needs = colored_squares("binary"), Needs(cpus=1, gpus=0, workers=workers)
    work = SharedWork(data=data, splits=split_data(data), train=staged, folder=folder.absolute(), needs=needs)
    train_all(trainings, work, ray.put(work), look)


def traces(folder: Path) -> dict[str, str]:
    """The epochs that each training made, in order."""
    return {path.parent.name: path.read_text().replace("\n", "") for path in sorted(folder.glob(f"*/*/{TRACE}"))}


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_whatever_happens_is_known_and_nothing_is_trained_twice(tmp_path: Path) -> None:
    seen: dict[str, TrialRecord] = {}
    trainings = plan([TRIAL], 4, 1)
    interrupts: list[int] = []

    def interrupt_the_last(training: FinalTraining, record: TrialRecord) -> None:
        if training.seed_number == 4 and not interrupts:
            interrupts.append(record.epochs)
            os.kill(os.getpid(), signal.SIGINT)

    # Only the fourth, which is interrupted.
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path, trainings[3:], interrupt_the_last)
    wait_until_all_is_free()

    def look(training: FinalTraining, record: TrialRecord) -> None:
        seen[training.place] = record

    start(tmp_path, trainings, look)
    assert {place.split("-")[1]: record.status for place, record in seen.items()} == {
        **{"1": "completed", "2": "completed", "3": "failed", "4": "completed"}
    }
    assert traces(tmp_path) == {"seed-1": "123", "seed-2": "123", "seed-3": "12", "seed-4": "123"}
    well, died, failed, _ = (seen[training.place] for training in trainings)
    assert (well.val_dice, well.epochs, died.val_dice) == (0.1, 3, 0.2)
    assert well.checkpoint == f"{tmp_path.name}/t0007/seed-1/best"
    assert failed.reason.startswith("ValueError: it went wrong")
    assert {training.place: read_training(tmp_path, training) for training in trainings} == seen

    # With the next call only what failed is tried again, from where it stood.
    seen.clear()
    start(tmp_path, trainings, look)
    assert [*seen] == ["t0007/seed-3"]
    assert traces(tmp_path)["seed-3"] == "12"


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_a_training_of_several_processes_has_places_of_its_own_and_leaves_them(tmp_path: Path) -> None:
    seen: list[TrialRecord] = []
    start(tmp_path, plan([TRIAL], 1, 1), lambda _, record: seen.append(record), workers=2)
    assert (seen[-1].status, seen[-1].epochs) == ("completed", 3)
    wait_until_all_is_free()


def test_one_whose_process_dies_again_and_again_has_failed(tmp_path: Path) -> None:
    (training,) = plan([TRIAL], 1, 1)
    record = give_up(training, tmp_path, RuntimeError("The worker\ndied."))
    assert (record.status, record.reason) == ("failed", f"its process died {RESTARTS + 1} times: The worker died.")
    assert read_training(tmp_path, training) == record
    assert (tmp_path / "t0007/seed-1" / RECORD).is_file()
