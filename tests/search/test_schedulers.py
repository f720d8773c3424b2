"""The schedulers: what all of them hold to, whatever their name, and which names there are."""

import math
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from ray.tune.schedulers import TrialScheduler

from data.input_error import InputError
from data.windows import place
from model.config import TrainConfig
from model.epoch import Lesson
from search.patient_scheduler import PatientScheduler
from search.rungs import Rungs
from search.schedulers import SCHEDULERS, make_scheduler
from search.settings import Scheduler
from tests.search.paper_search import FOLD_EPOCHS, PaperSearch
from tests.toys import colored_squares

FOLDS = 5
CASES = [(name, folds) for name in SCHEDULERS for folds in (1, FOLDS) if name != "wilcoxon" or folds > 1]


def of_name(name: str, folds: int = 1, **more: Any) -> PatientScheduler:
    return make_scheduler(name, max_epochs=FOLD_EPOCHS, folds=folds, **more)


def odd_curves(folds: int, max_epochs: int = FOLD_EPOCHS) -> dict[str, dict[int, float]]:
    """Trials that get better at speeds of their own, with some noise, and now and then a result that is no number."""
    draw = np.random.default_rng(1)
    epochs = np.array([*range(1, max_epochs + 1), *(fold * max_epochs for fold in range(2, folds + 1))])
    curves = {}
    for number in range(16):
        values = draw.uniform(0.2, 0.9) * (1 - np.exp(-epochs / draw.uniform(0.5, 4))) + draw.normal(
            0, 0.03, len(epochs)
        )
        values[:-1][draw.random(len(epochs) - 1) < 0.1] = math.nan
        curves[f"t{number:04d}"] = dict(zip(epochs.tolist(), values.tolist(), strict=True))
    return curves


def test_the_table_has_the_names_that_may_be_asked_for() -> None:
    assert tuple(SCHEDULERS) == get_args(Scheduler)


def test_a_name_that_is_not_known() -> None:
    with pytest.raises(InputError, match=r"scheduler 'ahsa' is not known; .* Did you mean 'asha'"):
        of_name("ahsa", 1)


@pytest.mark.parametrize(("name", "folds"), CASES)
@pytest.mark.parametrize("workers", [1, 4])
def test_every_trial_ends_once_and_whoever_is_stopped_is_told_why(name: str, folds: int, workers: int) -> None:
    curves = odd_curves(folds)
    scheduler = of_name(name, folds)
    search = PaperSearch(scheduler, curves, workers=workers).run()
    assert set(search.ended) == set(curves)
    assert "completed" in search.ended.values()
    assert ("stopped" in search.ended.values()) == (name != "none")
    assert len(search.log) == len(set(search.log)), "no epoch is trained twice"
    for our_id, status in search.ended.items():
        assert (status == "completed") == (list(search.done[our_id]) == list(curves[our_id]))
        assert (status == "stopped") == (scheduler.reason(f"ray1-{our_id}") != "")


@pytest.mark.parametrize(("name", "folds"), CASES)
def test_after_an_interrupt_the_search_comes_to_the_same_ends(name: str, folds: int) -> None:
    curves = odd_curves(folds)
    undisturbed = PaperSearch(of_name(name, folds), curves).run()
    for results in range(1, len(undisturbed.log), 7):
        first = PaperSearch(of_name(name, folds), curves).run(most_results=results)
        second = PaperSearch(
            of_name(name, folds, study=first.study()),
            curves,
            done=first.done,
            ended=first.ended,
            resting=first.resting,
            session="2",
        ).run()
        assert second.ended == undisturbed.ended
        assert second.done == undisturbed.done


@pytest.mark.parametrize(("name", "folds"), CASES)
@pytest.mark.parametrize("result", [{}, {"epoch": 3}, {"val_dice": 0.1}, {"epoch": 3, "val_dice": math.nan}])
def test_a_result_without_a_number_stops_nobody_and_leaves_no_trace(
    name: str, folds: int, result: dict[str, Any]
) -> None:
    curves = odd_curves(folds)
    undisturbed = PaperSearch(of_name(name, folds), curves).run()
    search = PaperSearch(of_name(name, folds), curves)
    odd: Any = SimpleNamespace(trial_id="ray-odd", config={"trial_id": "odd"}, status="RUNNING", error_file=None)
    search.run(most_results=40)
    search.scheduler.on_trial_add(search, odd)
    for _ in range(3):
        assert search.scheduler.on_trial_result(search, odd, result) == TrialScheduler.CONTINUE
    search.scheduler.on_trial_complete(search, odd, result | {"status": "diverged"})
    search.run()
    assert (search.ended, search.log) == (undisturbed.ended, undisturbed.log)


@pytest.mark.parametrize(("name", "folds"), CASES)
def test_ray_is_named_no_metric_and_can_copy_it_at_any_time(name: str, folds: int) -> None:
    curves = odd_curves(folds)
    undisturbed = PaperSearch(of_name(name, folds), curves).run()
    search = PaperSearch(of_name(name, folds), curves).run(most_results=30)
    assert search.scheduler.metric is None
    search = pickle.loads(pickle.dumps(search))
    assert search.run().log == undisturbed.log


@pytest.mark.parametrize(("name", "folds"), CASES)
def test_no_trial_is_judged_before_the_first_rung(name: str, folds: int) -> None:
    scheduler = make_scheduler(name, max_epochs=60, folds=folds)
    search = PaperSearch(scheduler, odd_curves(folds, max_epochs=60), workers=3).run()
    assert min(max(values) for values in search.done.values()) >= (2 if name == "asha_promote" else 6)


def test_none_stops_nobody() -> None:
    earlier = PaperSearch(of_name("none"), {"t0000": dict.fromkeys(range(1, FOLD_EPOCHS + 1), 0.9)}).run()
    scheduler = of_name("none", study=earlier.study())
    search = PaperSearch(scheduler, {"t0001": dict.fromkeys(range(1, FOLD_EPOCHS + 1), 0.0)}).run()
    assert search.ended == {"t0001": "completed"}
    assert scheduler.reason("ray1-t0001") == ""


@pytest.mark.parametrize(
    ("max_epochs", "evaluate_every", "folds", "rungs"),
    [
        (1, 1, 1, (1,)),
        (2, 1, 1, (1, 2)),
        (3, 1, 1, (1, 3)),
        (9, 1, 1, (1, 3, 9)),
        (30, 1, 1, (3, 10, 30)),
        (60, 1, 1, (7, 20, 60)),
        (60, 2, 1, (6, 20, 60)),
        (60, 4, 1, (8, 20, 60)),
        (60, 5, 1, (5, 20, 60)),
        (60, 25, 1, (25, 60)),
        (60, 60, 1, (60,)),
        (60, 99, 1, (60,)),
        (8, 3, 1, (3, 8)),
        (60, 1, 2, (7, 20, 60, 120)),
        (60, 1, 5, (7, 20, 60, 180, 300)),
        (1, 1, 5, (1, 3, 5)),
    ],
)
def test_rungs_follow_from_the_epochs(max_epochs: int, evaluate_every: int, folds: int, rungs: tuple[int, ...]) -> None:
    asked = {"max_epochs": max_epochs, "evaluate_every": evaluate_every, "folds": folds}
    assert Rungs(**asked).epochs == rungs
    for name in ("asha", "hyperband"):
        assert tuple(make_scheduler(name, **asked).rungs) == rungs, "Ray's own stand where ours do"


@pytest.mark.parametrize(
    ("max_epochs", "evaluate_every", "rungs"),
    [(1, 1, []), (9, 1, [1, 3]), (27, 1, [1, 3, 9]), (60, 1, [2, 7, 20]), (60, 4, [4, 8, 20]), (60, 60, [])],
)
def test_trials_that_may_yet_go_on_are_compared_early(max_epochs: int, evaluate_every: int, rungs: list[int]) -> None:
    assert make_scheduler("asha_promote", max_epochs=max_epochs, evaluate_every=evaluate_every).rungs == rungs


def test_the_best_so_far_is_that_of_the_most_folds() -> None:
    values = {1: 0.5, 2: math.nan, 3: 0.4, 4: 0.7, 5: 0.6, 10: 0.55, 15: 0.65}
    assert Rungs(max_epochs=5, folds=3).best_so_far(values) == {1: 0.5, 3: 0.5, 4: 0.7, 5: 0.7, 10: 0.55, 15: 0.65}
    assert Rungs(max_epochs=15).best_so_far(values)[15] == 0.7


@pytest.mark.parametrize("batch_size", [2, 16])
@pytest.mark.parametrize("crop_size", [16, 32])
def test_an_epoch_is_as_much_training_whatever_the_batch(batch_size: int, crop_size: int) -> None:
    pictures = place(colored_squares("binary"), (0, 1, 2, 3), torch.device("cpu"))
    no_loss: Any = None
    config = TrainConfig(batch_size=batch_size, crop_size=crop_size, epoch_pixels=16_000)
    lesson = Lesson(config=config, pictures=pictures, names=("",) * 4, loss_of=no_loss, bfloat16=False)
    assert lesson.steps * batch_size * crop_size**2 == 16_384


@pytest.mark.parametrize("name", ["asha", "asha_promote", "none"])
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "Failure # 1 (occurred at 1)\nThe actor died.\n\tpid: 7\n\tip: 10.0.0.1\nExit code 9.\n",
            "The actor died. Exit code 9.",
        ),
        ("Failure # 1 (occurred at 1)\nold\nFailure # 2 (occurred at 2)\nnew\n", "new"),
        (
            "Failure # 1 (at 1)\nray::Func.train() (pid=7)\n  File x\n    at y\nRuntimeError: fold 1: it died\n",
            "RuntimeError: fold 1: it died",
        ),
        (
            "Failure # 1 (at 1)\nTraceback (most recent call last):\n  File x\nOSError: no space left\n",
            "OSError: no space left",
        ),
    ],
)
def test_what_a_process_died_of_is_remembered(tmp_path: Path, name: str, text: str, reason: str) -> None:
    file = tmp_path / "error.txt"
    file.write_text(text)
    scheduler = of_name(name)
    search = PaperSearch(scheduler, {})
    trial: Any = SimpleNamespace(trial_id="ray-t0000", config={"trial_id": "t0000"}, error_file=file)
    scheduler.on_trial_add(search, trial)
    scheduler.on_trial_error(search, trial)
    assert scheduler.reason(trial.trial_id) == reason
    scheduler.on_trial_add(search, trial)
    assert scheduler.reason(trial.trial_id) == "", "it was started again"


@pytest.mark.parametrize("error_file", [None, Path("gone")])
def test_a_death_that_left_no_account(error_file: Path | None) -> None:
    scheduler = of_name("asha")
    trial: Any = SimpleNamespace(trial_id="ray-t0000", config={"trial_id": "t0000"}, error_file=error_file)
    scheduler.on_trial_add(None, trial)
    scheduler.on_trial_error(None, trial)
    assert scheduler.reason(trial.trial_id) == ""
