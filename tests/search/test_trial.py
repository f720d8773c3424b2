"""One trial without Ray: what it reports, how it words its end, and that it lets go of what it held."""

import errno
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import search.trial
from data.outlast import GaveUpError
from model.device import PROCESS_MEMORY, peak_memory_mb
from model.diagnose import TrainingFailure
from model.train import train
from search.nodes import MachineDiffersError
from search.record import TrialRecord
from search.resources import Needs
from search.trial import (
    ERROR_FILE,
    EVENT,
    SAMPLE,
    SharedWork,
    failure_reason,
    failure_status,
    last_own_line,
    train_and_report,
)
from tests.toys import colored_squares, split_in_two

PARAMS: dict[str, Any] = {"depth": 2, "width": 2, "crop_size": 16, "epoch_pixels": 0, "max_epochs": 2}


def begin(folder: Path, training: Any = None, **changes: Any) -> Any:
    """One trial of this training in `folder`/trials."""
    data = colored_squares("binary")
    split = split_in_two(data)
    (folder / "trials").mkdir(parents=True, exist_ok=True)
    work = SharedWork(
        data=data, splits=(split,), train=training, folder=folder / "trials", needs=Needs(cpus=1.0, gpus=0.0)
    )
    return train_and_report(PARAMS | changes, work.folder / "t0000", work, split)


def run(folder: Path, training: Any = None, **changes: Any) -> list[Any]:
    """The reports of one trial from its beginning to its end."""
    return list(begin(folder, training, **changes))


def test_a_trial_reports_every_epoch_and_its_end(tmp_path: Path) -> None:
    reports = run(tmp_path)
    assert [(report["epoch"], report["status"], report["done"]) for report in reports] == [
        (1, "running", False),
        (2, "completed", True),
    ]
    assert {report["checkpoint"] for report in reports} == {"trials/t0000/best"}
    assert all(0 <= report["val_dice"] <= 1 for report in reports)
    files = {path.name.split(".")[0] for path in (tmp_path / "trials/t0000").iterdir()}
    assert {"best", "last", "events", Path(SAMPLE).stem} <= files
    assert Path(ERROR_FILE).stem not in files


def test_a_trial_reports_only_what_is_judged_and_ends_all_the_same(tmp_path: Path) -> None:
    reports = run(tmp_path, max_epochs=5, evaluate_every=3)
    assert [(report["epoch"], report["status"]) for report in reports] == [(3, "running"), (5, "completed")]
    record = TrialRecord(trial_id="t0000", config=PARAMS)
    for report in reports:
        record = record.updated(report)
    assert (record.status, record.epochs, record.batch_parts, record.devices) == ("completed", 5, 1, 1.0)
    assert {"val_auc_roc", "val_auc_pr", "val_dice_per_image", "val_dice_class0"} <= set(record.metrics)
    assert record.parameters
    assert record.gflops_per_megapixel


def test_a_trial_answers_only_for_the_memory_that_it_took_itself(tmp_path: Path) -> None:
    run(tmp_path / "first")  # loads what every trial needs
    torch.ones(2**28)  # a GiB, which is free again
    before = peak_memory_mb(torch.device("cpu"))
    *_, last = run(tmp_path / "second")
    # Only Linux lets a process count its memory anew.
    assert (0 < last["peak_memory_mb"] < before - 512) == PROCESS_MEMORY.exists()


def test_a_trial_that_was_cut_off_goes_on_where_it_stood(tmp_path: Path) -> None:
    reports = begin(tmp_path)
    next(reports)
    reports.close()
    reports = run(tmp_path)
    assert [(report["epoch"], report["status"]) for report in reports] == [(1, "running"), (2, "completed")]


def test_a_trial_that_is_stopped_closes_its_training(tmp_path: Path) -> None:
    closed = []

    def training(*args: Any, **more: Any) -> Iterator[Any]:
        try:
            yield from train(*args, **more)
        finally:
            closed.append(True)

    reports = begin(tmp_path, training)
    next(reports)
    reports.close()
    assert closed == [True]
    assert not (tmp_path / "trials/t0000" / ERROR_FILE).exists()


def test_a_trial_that_dies_reports_why_and_leaves_the_whole_story(tmp_path: Path) -> None:
    def training(*args: Any, **more: Any) -> Iterator[Any]:
        yield from ()
        raise KeyError("nobody knows")

    reports = run(tmp_path, training)
    assert [(report["status"], report["done"]) for report in reports] == [("failed", True)]
    assert reports[0]["reason"].startswith("KeyError: 'nobody knows' (search/trial.py:")
    assert "Traceback" in (tmp_path / "trials/t0000" / ERROR_FILE).read_text()


@pytest.mark.parametrize(
    ("gpus", "words"), [(0.25, "beside others on its GPU, of which it had 0.25, memory"), (1, "memory did not suffice")]
)
def test_a_trial_that_shares_a_gpu_says_so_when_memory_does_not_suffice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: float, words: str
) -> None:
    def training(*args: Any, **more: Any) -> Iterator[Any]:
        yield from ()
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("search.trial.check_device", lambda _: None)  # there may be no GPU here
    monkeypatch.setattr("model.device.release_memory", lambda _: None)
    data = colored_squares("binary")
    needs = Needs(cpus=1.0, gpus=gpus)
    work = SharedWork(data=data, splits=(split_in_two(data),), train=training, folder=tmp_path, needs=needs)
    (report,) = train_and_report(PARAMS, tmp_path / "t0000", work, work.splits[0])
    assert (report["status"], report["devices"]) == ("out_of_memory", gpus)
    assert report["reason"].startswith(words)


def test_a_trial_on_a_machine_of_other_versions_goes_on_elsewhere(tmp_path: Path) -> None:
    data = colored_squares("binary")
    work = SharedWork(
        data=data,
        splits=(split_in_two(data),),
        train=None,
        folder=tmp_path,
        needs=Needs(cpus=1.0, gpus=0.0),
        versions={"torch": "1.0"},
    )
    with pytest.raises(MachineDiffersError, match=r"this machine has torch .* \(here 1\.0\)"):
        next(train_and_report(PARAMS, tmp_path / "t0000", work, work.splits[0]))
    assert list(tmp_path.iterdir()) == []


def test_a_trial_makes_nothing_where_the_folder_of_the_run_is_not_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, away = tmp_path / "trials", tmp_path / "away"
    waited = []

    def mounted_after_a_while(seconds: float) -> None:
        assert not trials.exists()
        waited.append(seconds)
        if len(waited) == 3:
            away.rename(trials)

    reports = begin(tmp_path)
    trials.rename(away)
    monkeypatch.setattr("search.trial.time.sleep", mounted_after_a_while)
    first, last = reports
    assert first["event"].startswith("could not write (No such file or directory), and goes on")
    assert (last["status"], last["done"], len(waited)) == ("completed", True, 3)


def test_a_failure_is_told_with_the_line_of_ours_wherever_the_packages_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "elsewhere" / "package_elsewhere"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "part.py").write_text("import json\n\n\ndef fails():\n    return json.loads('nonsense')\n")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setattr("search.trial.PACKAGES", ("not_imported", package.name))
    part = importlib.import_module("package_elsewhere.part")
    assert last_own_line(raised(part.fails)) == "package_elsewhere/part.py:5"


def test_parameters_are_checked_in_the_worker_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARAMS, "depth", 99)
    assert run(tmp_path)[0]["reason"].startswith("InputError: depth 99 must be 6 or less: lower it (model/config.py:")


def raised(function: Callable[[], Any]) -> Exception:
    """What the function raises."""
    with pytest.raises(Exception) as caught:
        function()
    return caught.value


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (TrainingFailure("diverged", "the loss was no number"), "diverged", "the loss was no number"),
        (TrainingFailure("out_of_memory", "one sample is too much"), "out_of_memory", "one sample is too much"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to"), "out_of_memory", "(CUDA out of memory)"),
        (MemoryError(), "out_of_memory", "(no message): try a smaller batch_size"),
        (raised(lambda: torch.empty(2**60)), "out_of_memory", "try a smaller batch_size, crop_size, width or depth"),
        (raised(lambda: 1 / 0), "failed", "ZeroDivisionError: division by zero ("),
        (RuntimeError("first\nsecond"), "failed", "RuntimeError: first (unknown line)"),
    ],
)
def test_every_end_has_a_status_and_words(error: Exception, status: str, words: str) -> None:
    assert failure_status(error) == status
    assert words in failure_reason(error)
    assert "\n" not in failure_reason(error)


FULL_DISK = Path("/dev/full")  # every write to it finds no space left


def test_a_full_disk_takes_nothing_from_a_training_that_is_done(tmp_path: Path) -> None:
    folder = tmp_path / "trials/t0000"
    folder.mkdir(parents=True)
    (folder / SAMPLE).symlink_to(FULL_DISK)
    assert [report["status"] for report in run(tmp_path)] == ["running", "completed"]


def test_a_disk_that_is_full_for_a_while_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.trial, "LONGEST_WAIT", 0.01)
    fill_disk(tmp_path)  # once: what is half-written is taken away again
    assert [report["status"] for report in run(tmp_path)] == ["running", "completed"]


def test_a_trial_that_waits_for_its_disk_shows_that_it_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FIRST_WAIT", "LONGEST_WAIT"):
        monkeypatch.setattr(search.trial, name, 0.01)
    failures = iter(range(3))

    def full_at_times(*given: Any, **named: Any) -> Iterator[Any]:
        for report in train(*given, **named):
            yield report
            if report.epoch == 1 and next(failures, None) is not None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    reports = run(tmp_path, full_at_times)
    # The epoch itself; three times a sign of life, and what the resumed training begins with; the next epoch.
    assert [report["epoch"] for report in reports] == [1, *[1, 1] * 3, 2]
    assert [report["status"] for report in reports[-2:]] == ["running", "completed"]
    events = [report[EVENT] for report in reports if report[EVENT]]
    assert len(events) == 3
    assert all(event.startswith("could not write (No space left on device), and goes on") for event in events)


def test_a_disk_that_stays_full_is_no_fault_of_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search.trial, "PATIENCE", 0.0)
    fill_disk(tmp_path)
    with pytest.raises(GaveUpError, match=r"t0000' cannot be written .*No space left on device"):
        run(tmp_path)


def fill_disk(tmp_path: Path) -> None:
    """Makes the card of the best model find no room."""
    best = tmp_path / "trials/t0000/best"
    best.mkdir(parents=True)
    (best / "config.yaml.part").symlink_to(FULL_DISK)
