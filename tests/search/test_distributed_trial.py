"""Trials of several processes on the cluster: they report, they end together, and they leave nothing behind."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.util import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

import search.driver
from data.split import split_data
from model.checkpoint import load_model
from model.distributed import RankLostError, ranks_here
from model.train import LAST, train
from search import distributed_trial
from search.distributed_trial import COORDINATOR, Rank, options_of_task, places_of, train_together
from search.resources import Machine, Needs, choose_needs
from search.run_folder import RunFolder
from search.settings import SearchSettings
from search.space import parse_space
from search.trial import ERROR_FILE, SAMPLE, SharedWork
from tests.search.test_driver import states
from tests.search.test_folds import wait_until_all_is_free
from tests.search.trainings import QUICK
from tests.toys import colored_squares, split_in_two

TWO = Needs(cpus=1, gpus=0, workers=2)
PARAMS: dict[str, Any] = {"depth": 2, "width": 2, "crop_size": 16, "epoch_pixels": 0, "max_epochs": 500}


def mortal(*arguments: Any, folder: Path, **more: Any) -> Iterator[Any]:
    """The training itself, whose second process dies once."""
    for report in train(*arguments, folder=folder, **more):
        yield report
        if ranks_here().index == 1 and report.epoch == 2 and not (folder / "died").exists():
            (folder / "died").touch()
            os._exit(1)


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_a_search_over_trials_of_two_processes(tmp_path: Path) -> None:
    settings = SearchSettings(max_epochs=3, scheduler="none", space=QUICK, num_trials=1)
    data = colored_squares("binary")
    outcome = search.driver.search(
        settings,
        parse_space(settings.space, pinned=settings.pinned),
        data,
        split_data(data, settings.splitting),
        RunFolder(path=tmp_path),
        TWO,
        look=lambda records, spent: None,
        train=mortal,
    )
    (record,) = outcome.records
    assert (record.status, record.epochs, record.device) == ("completed", 3, "2 x cpu")
    assert (tmp_path / "trials/t0000/died").exists()
    assert (tmp_path / "trials/t0000" / SAMPLE).exists()
    assert load_model(tmp_path / "best")[1].config.batch_size == 4
    assert states(tmp_path) == ["COMPLETE"]
    wait_until_all_is_free()


def report_of(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "done": False}


def first_process(folder: Path) -> Iterator[dict[str, Any]]:
    """Reports two epochs, and then waits for another process, which does not come."""
    for epoch in (1, 2):
        yield report_of(epoch)
    (folder / "told").touch()
    while folder.exists():
        time.sleep(0.05)


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_what_the_first_process_has_shown_comes_before_the_bad_ending_of_another(tmp_path: Path) -> None:
    ending = {"status": "failed", "done": True}
    leader = ray.remote(num_cpus=0)(first_process).remote(tmp_path)
    while not (tmp_path / "told").exists():
        time.sleep(0.05)
    assert list(distributed_trial._listen(leader, ray.put(ending), ray.put(None))) == [
        report_of(1),
        report_of(2),
        ending,
    ]
    ray.cancel(leader)


def fails(*_: Any, **_more: Any) -> Iterator[Any]:
    yield from ()
    raise ValueError("what nobody thought of")


def lost(*_: Any, **_more: Any) -> Iterator[Any]:
    yield from ()
    raise RankLostError("another process is gone")


def test_a_process_that_fails_says_why_but_one_that_is_left_alone_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.distributed.come_to_meeting", lambda host, port: None)
    monkeypatch.setattr("model.distributed.meet", lambda *_: None)
    data = colored_squares("binary")

    def rank(training: Any) -> Rank:
        work = SharedWork(data=data, splits=(split_in_two(data),), train=training, folder=tmp_path, needs=TWO)
        return Rank(work, 1)

    ending = rank(fails).follow(("127.0.0.1", 1), PARAMS, tmp_path, 0)
    assert ending is not None
    assert (ending["status"], ending["done"]) == ("failed", True)
    assert ending["reason"].startswith("ValueError: what nobody thought of (search/distributed_trial.py:")
    assert "in fails" in (tmp_path / ERROR_FILE).read_text()
    with pytest.raises(RankLostError):
        rank(lost).follow(("127.0.0.1", 1), PARAMS, tmp_path, 0)
    with pytest.raises(RankLostError):
        list(rank(lost).lead(PARAMS, tmp_path, 0))


class Trial:
    """A trial's own process, which starts those of its training."""

    def begin(self, folder: Path, shared: "list[ray.ObjectRef[SharedWork]]") -> Any:
        """The first report of a long training."""
        self._reports = train_together(PARAMS, folder, 0, TWO, shared[0])
        return next(self._reports)


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_a_trial_that_is_killed_takes_its_processes_with_it(tmp_path: Path) -> None:
    data = colored_squares("binary")
    folder = tmp_path / "t0000"
    work = SharedWork(data=data, splits=(split_in_two(data),), train=None, folder=tmp_path, needs=TWO)
    places = placement_group([COORDINATOR, {"CPU": 1}, {"CPU": 1}])
    first, *others = (
        PlacementGroupSchedulingStrategy(places, placement_group_bundle_index=index) for index in range(3)
    )
    trial: Any = ray.remote(num_cpus=0, scheduling_strategy=first)(Trial).remote()
    report = ray.get(trial.begin.remote(folder, [ray.put(work)]))
    assert (report["epoch"], report["status"], report["device"]) == (1, "running", "2 x cpu")
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1
    assert (folder / LAST).exists()
    ray.kill(trial)
    # Their places are free for others.
    look = ray.remote(num_cpus=1)(Path.exists)
    assert ray.get([look.options(scheduling_strategy=place).remote(folder) for place in others]) == [True, True]
    remove_placement_group(places)


@pytest.mark.parametrize(
    ("needs", "there", "count"),
    [
        (Needs(cpus=1, gpus=1, workers=4), [Machine(cpus=16, gpus=8)], 2),
        (Needs(cpus=1, gpus=1, workers=4), [Machine(cpus=8, gpus=3), Machine(cpus=8, gpus=1)], 1),
        (Needs(cpus=4, gpus=1, workers=2), [Machine(cpus=4, gpus=8), Machine(cpus=3, gpus=1)], 0),
        (TWO, [Machine(cpus=1, gpus=0)] * 5, 2),
    ],
)
def test_the_processes_of_a_trial_may_be_on_several_machines(
    needs: Needs, there: Sequence[Machine], count: int
) -> None:
    assert needs.fit(there) == count


def test_each_gpu_of_a_trial_has_a_process_and_its_part_of_the_cores() -> None:
    there = [Machine(cpus=16, gpus=4)]
    assert choose_needs(8, 4, there) == Needs(cpus=2, gpus=1, workers=4)
    assert choose_needs(None, 4, there) == Needs(cpus=1, gpus=1, workers=4)
    assert Needs(cpus=2, gpus=1, workers=4).devices == 4
    assert options_of_task(Needs(cpus=2, gpus=0.5)) == {
        "num_cpus": 2,
        "num_gpus": 0.5,
        "scheduling_strategy": "DEFAULT",
    }
    trial, *processes = places_of(Needs(cpus=2, gpus=1, workers=4)).bundles
    assert trial == COORDINATOR
    assert processes == [{"CPU": 2, "GPU": 1}] * 4
