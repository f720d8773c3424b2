"""A search over folds: the score is the mean, folds are trained once, and hopeless trials cost one fold."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import torch

import model.device
import search.trial
from model.checkpoint import WEIGHTS, load_tensors
from model.config import TrainConfig
from search.folds import RECORD, fold_name, mean_report, read_record, train_fold
from search.leaderboard import read
from search.record import TrialRecord
from search.resources import Needs
from search.study import read_study
from search.trial import SAMPLE, SharedWork
from tests.search.commands import SMALL, run_here, start
from tests.search.test_driver import search_in, states
from tests.search.test_resume import epochs_drawn
from tests.search.trainings import (
    QUICK,
    TRACE,
    epoch_report,
    seldom_judged,
    staged,
    staged_but_endless,
    staged_with_trouble,
)
from tests.toys import colored_squares, split_in_two


def traces(folder: Path) -> dict[str, list[int]]:
    """The epochs that each fold of each trial trained, in order."""
    return {
        f"{path.parents[1].name} {path.parent.name}": [int(line) for line in path.read_text().split()]
        for path in sorted((folder / "trials").glob(f"*/*/{TRACE}"))
    }


def kept(folder: Path) -> Any:
    """What stands beside the weights of a model."""
    return load_tensors(folder / WEIGHTS)[1]["scores"]


def wait_until_all_is_free() -> None:
    """Returns as soon as nothing runs on the cluster any more."""
    until = time.monotonic() + 20
    while ray.available_resources().get("CPU", 0) < ray.cluster_resources()["CPU"]:
        assert time.monotonic() < until, "something still runs"
        time.sleep(0.05)


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_the_score_is_the_mean_over_the_folds_whatever_happens_to_their_processes(tmp_path: Path) -> None:
    outcome = search_in(tmp_path, staged_with_trouble, num_trials=3, folds=3)
    well, died, collapsed = sorted(outcome.records, key=lambda record: record.trial_id)
    assert well.status == "completed"
    assert well.metrics == pytest.approx(
        dict.fromkeys(well.metrics, (0.6 + 0.5 + 0.8) / 3)
        | {"val_dice_red": (0.6 + 0.5 + 0.9) / 3, "val_dice_bright": (0.6 + 0.7) / 2}
    )
    assert (well.folds, well.epochs, well.seconds, well.peak_memory_mb) == (3, 9, 9.0, 30.0)
    assert (well.best_epoch, well.threshold, well.parameters) == (1, pytest.approx(0.1), 7)
    assert (well.gflops_per_megapixel, well.batch_parts) == (0.5, 3)
    assert well.warnings == "loss_flat: for 3 epochs; raise learning_rate | odd_b: so; do"
    # The model is the third fold's, which had the highest val_dice; the six images were split four to two.
    assert well.checkpoint == "trials/t0000/best"
    assert kept(tmp_path / well.checkpoint) == kept(tmp_path / "best") == {"fold": 3, "images": 4}
    sample = tmp_path / "trials/t0000" / SAMPLE
    assert sample.read_bytes() == (sample.parent / "fold-3" / SAMPLE).read_bytes()

    assert replace(died, trial_id="t0000", config=well.config, checkpoint=well.checkpoint) == well
    assert (collapsed.status, collapsed.reason) == ("collapsed", "fold 3: predicted nothing")
    assert collapsed.folds < 3
    assert states(tmp_path) == ["COMPLETE", "COMPLETE", "PRUNED"]
    whole = [f"{trial_id} fold-{fold}" for trial_id in ("t0000", "t0001") for fold in (1, 2, 3)]
    trained = traces(tmp_path)
    assert {fold: trained[fold] for fold in whole} == {fold: [1, 2, 3] for fold in whole}, "no epoch is trained twice"
    table = read(tmp_path / "leaderboard.csv")
    assert table.trial_id.to_list() == ["t0000", "t0001", "t0002"]
    assert table.folds.to_list()[:2] == [3, 3]


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_a_hopeless_trial_is_stopped_where_its_first_fold_is_judged(tmp_path: Path) -> None:
    asked = {"max_epochs": 8, "space": (*QUICK, "evaluate_every=3"), "scheduler": "asha", "folds": 2}
    first, second = search_in(tmp_path, seldom_judged, num_trials=2, **asked).records
    assert (first.status, first.folds, first.epochs) == ("completed", 2, 16)
    assert (second.status, second.folds, second.epochs) == ("stopped", 1, 3)
    assert second.reason == "best val_dice 0.8000 by epoch 3 was not among the best third (0.9000 or more)"
    assert second.checkpoint == "trials/t0001/fold-1/best"
    assert sorted(path.name for path in (tmp_path / "trials/t0001").iterdir()) == ["fold-1"]
    shown = [set(trial.intermediate_values) for trial in read_study(tmp_path / "study.log").trials]
    assert shown == [{3, 6, 8, 16}, {3}]
    wait_until_all_is_free()


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_an_interrupted_trial_leaves_nothing_running_and_keeps_the_folds_that_are_through(tmp_path: Path) -> None:
    interrupts: list[int] = []

    def interrupt_after_two_folds(records: Sequence[TrialRecord], spent: float) -> None:
        begun = (tmp_path / "trials/t0000/fold-3" / RECORD).exists()
        if not interrupts and begun and [record.folds for record in records] == [2]:
            interrupts.append(signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    outcome = search_in(tmp_path, staged_but_endless, interrupt_after_two_folds, num_trials=1, folds=3)
    assert outcome.interrupted
    (before,) = outcome.records
    assert (before.status, before.folds, before.epochs, before.val_dice) == ("running", 2, 6, pytest.approx(0.55))
    assert kept(tmp_path / before.checkpoint)["fold"] == 1
    wait_until_all_is_free()

    (after,) = search_in(tmp_path, staged, num_trials=1, folds=3).records
    assert (after.status, after.folds, after.epochs) == ("completed", 3, 9)
    assert traces(tmp_path) == {f"t0000 fold-{fold}": [1, 2, 3] for fold in (1, 2, 3)}
    assert kept(tmp_path / after.checkpoint)["fold"] == 3


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_after_kill_9_in_the_middle_no_fold_is_trained_again_or_lost(tmp_path: Path) -> None:
    where, epochs = ("--storage", str(tmp_path), "--name", "mine"), 20
    driver = start(*where, "--num-trials", "1", "--folds", "2", "--max-epochs", str(epochs), *SMALL)
    trial = tmp_path / "mine/trials/t0000"
    try:
        while driver.poll() is None and not read_record(trial / fold_name(1), "t0000", {}).epochs:
            time.sleep(0.05)
    finally:
        # All at once: those that the driver leaves behind would train on for a while.
        for process in [*psutil.Process(driver.pid).children(recursive=True), driver]:
            process.kill()
        driver.communicate()
    assert run_here("--resume", *where) == 0
    through, cut_off = (epochs_drawn(trial / fold_name(fold)) for fold in range(2))
    assert through == [list(range(1, epochs + 1))]
    first, second = cut_off
    assert first == list(range(1, first[-1] + 1)) and second == list(range(second[0], epochs + 1))
    assert first[-1] <= second[0] <= first[-1] + 1, "it goes on where it stood"
    (row,) = read(tmp_path / "mine/leaderboard.csv").itertuples()
    assert (row.status, row.folds, row.epochs) == ("completed", 2, 2 * epochs)


def test_a_fold_without_any_class_measures_nothing() -> None:
    empty = TrialRecord(trial_id="t0000", config={}).updated(epoch_report(1, (None, None)).flat())
    one, other = (empty.updated(epoch_report(2, dice).flat()) for dice in ((0.4, None), (0.6, 0.8)))
    means = mean_report([one, empty, other])
    assert means["val_dice"] == pytest.approx(0.55)
    assert (means["val_dice_red"], means["val_dice_bright"]) == (pytest.approx(0.5), pytest.approx(0.8))
    assert means["best_epoch"] == 2


def test_the_latency_is_the_mean_over_the_folds_that_have_one() -> None:
    one, other, untimed = (
        TrialRecord(trial_id="t0000", config={}).updated(epoch_report(1, (0.4, 0.4)).flat() | {"latency_ms": latency})
        for latency in (10.0, 14.0, None)
    )
    assert mean_report([one, untimed, other])["latency_ms"] == 12.0
    assert mean_report([untimed])["latency_ms"] is None


def test_a_warning_is_told_once_unless_it_is_another() -> None:
    one, other = (
        TrialRecord(trial_id="t0000", config={}).updated(epoch_report(epoch, (0.4, 0.4)).flat()) for epoch in (1, 2)
    )
    assert mean_report([one, one])["warnings"] == one.warnings
    assert mean_report([one, other])["warnings"] == (
        "loss_flat: for 1 epochs; raise learning_rate | odd_b: so; do | odd_a: so; do"
    )


def test_a_fold_knows_what_it_has_now_not_what_the_search_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: Any, **_more: Any) -> Iterator[Any]:
        raise torch.cuda.OutOfMemoryError
        yield

    monkeypatch.setattr(search.trial, "check_device", lambda _: None)
    monkeypatch.setattr(model.device, "release_memory", lambda _: None)
    monkeypatch.setattr(ray, "get", lambda work: work)
    data, began, now = colored_squares("binary"), Needs(cpus=1, gpus=0.25), Needs(cpus=1, gpus=1)
    work = SharedWork(data=data, splits=(split_in_two(data),), train=train, folder=tmp_path, needs=began)
    ((report, _),) = train_fold(asdict(TrainConfig()), "t0000", 0, now, [work])  # type: ignore[list-item]
    assert (report["status"], report["devices"]) == ("out_of_memory", 1)
    assert report["reason"].startswith("memory did not suffice")


def test_a_worker_that_a_cancelled_import_has_spoilt_ends_itself() -> None:
    # As an interrupted import leaves it: it cannot be had.
    code = (
        "import sys\nfrom search.folds import train_fold\nsys.modules['model.train'] = None\n"
        "list(train_fold({}, 't0000', 0, None, None))"
    )
    project = Path(__file__).parents[2]
    ran = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (1, "")
