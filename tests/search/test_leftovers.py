"""The disk that a run takes: at most what was said, and nothing that is of no use any more."""

from pathlib import Path

import pytest

from data.input_error import InputError
from model.config import TrainConfig
from model.train import train
from search.leftovers import DiskUse, Leftovers, disk_use, free_room, in_megabytes
from search.run_folder import RunFolder
from search.study import open_study
from search.trial_mirror import LAST
from tests.search.test_driver import search_in
from tests.search.trainings import traced_with_a_state
from tests.toys import colored_squares, split_in_two


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_training_takes_no_more_than_was_said(tmp_path: Path) -> None:
    data = colored_squares("binary")
    config = TrainConfig(
        depth=3,
        width=16,
        crop_size=16,
        batch_size=4,
        max_epochs=2,
        epoch_pixels=0,
        ema=0.9,
    )
    use = disk_use(config, data, trials=1, folds=1, at_once=1)
    for _ in train(config, data, split_in_two(data), folder=tmp_path):
        assert size_of(tmp_path) <= use.of_a_training
    assert (tmp_path / LAST).stat().st_size > use.state / 2, "or the bound says nothing"
    assert (tmp_path / "best/model.safetensors").stat().st_size >= use.model


def test_the_use_of_a_run_is_its_trainings_and_what_is_under_way() -> None:
    use = DiskUse(trainings=10, at_once=2, folds=1, model=100, state=400)
    assert use.at_most == 10 * (900 + 1_000_000) + 2 * 500 + 2 * 100
    of_folds = DiskUse(trainings=10, at_once=2, folds=5, model=100, state=400)
    assert of_folds.at_most == use.at_most + 2 * 100
    endless = DiskUse(trainings=None, at_once=2, folds=1, model=100, state=400)
    assert endless.at_most is None
    assert endless.describe(5_000_000_000) == (
        "disk: at most 1 MB a training while it may go on, then 1 MB; 5,000 MB free"
    )
    assert in_megabytes(12_340_000_000) == "12.3 GB"


def test_a_disk_that_is_too_small_is_told_of_before_anything_begins() -> None:
    use = DiskUse(trainings=10, at_once=2, folds=1, model=10**8, state=4 * 10**8)
    assert use.check("runs", 10**11) == ""
    assert use.check("runs", 4 * 10**9) == "the disk may become full: at most 10.2 GB, free 4,000 MB"
    with pytest.raises(InputError, match=r"storage 'runs' has 1,000 MB free, and the first 2 trainings may take"):
        use.check("runs", 10**9)


def test_room_is_looked_for_where_a_folder_will_lie(tmp_path: Path) -> None:
    assert free_room(tmp_path / "not/there/yet") > 0


def test_states_of_trials_that_never_go_on_are_cleared_and_halves_are_swept(tmp_path: Path) -> None:
    run = RunFolder(path=tmp_path)
    study = open_study(run.journal)
    for number in range(3):
        trial = study.ask()
        trial.set_user_attr("trial_id", f"t000{number}")
        for place in ("", "fold-1"):
            (run.trials / f"t000{number}" / place / "best").mkdir(parents=True, exist_ok=True)
            (run.trials / f"t000{number}" / place / LAST).touch()
    (run.trials / "t0001/best/model.safetensors.part").touch()
    (run.path / "best.part").mkdir()
    leftovers = Leftovers(run, None)
    assert not list(tmp_path.rglob("*.part"))
    study.tell(0, 0.5)
    leftovers.clear(study)
    assert {path.relative_to(run.trials).parts[0] for path in run.trials.rglob(LAST)} == {"t0001", "t0002"}
    assert (run.trials / "t0000/best").is_dir()


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_a_search_keeps_of_its_trials_the_best_model_only(tmp_path: Path) -> None:
    outcome = search_in(tmp_path, traced_with_a_state, num_trials=2)
    assert [record.status for record in outcome.records] == ["completed", "completed"]
    assert not list(tmp_path.rglob(LAST)) and not list(tmp_path.rglob("*.part"))
    assert all((tmp_path / record.checkpoint).is_dir() for record in outcome.records)
