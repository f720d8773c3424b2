"""The schedulers: where rungs stand, who is stopped and why, and that a resumed search judges like any other."""

import math
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from ray.tune.schedulers import TrialScheduler

from data.input_error import InputError
from search.schedulers import HalvingScheduler, make_scheduler

# val_dice by epoch; with first_rung 1 the rungs stand at 1, 3 and 9
CURVES = {
    "t0000": [0.30, 0.40, 0.50, 0.55, 0.60, 0.62, 0.64, 0.66, 0.68],
    "t0001": [0.20, 0.70, 0.80, 0.80, 0.80, 0.80, 0.80, 0.80, 0.80],
    "t0002": [0.40, 0.41, 0.42, 0.43, 0.44, 0.45, 0.46, 0.47, 0.48],
    "t0003": [0.35, 0.90, 0.90, 0.90, 0.90, 0.90, 0.90, 0.90, 0.90],
    "t0004": [0.50, 0.60, 0.70, 0.80, 0.81, 0.82, 0.83, 0.84, 0.85],
    "t0005": [0.45, 0.46, 0.49, 0.50, 0.51, 0.52, 0.53, 0.54, 0.55],
}


def ray_trial(our_id: str, session: str = "", error_file: Path | None = None) -> Any:
    return SimpleNamespace(
        trial_id=f"ray{session}-{our_id}", config={"trial_id": our_id, "depth": 3}, error_file=error_file
    )


def run(scheduler: HalvingScheduler, our_ids: list[str], done: dict[str, dict[int, float]], until: int, session: str):
    """Runs trials side by side up to an epoch, going on from what is done; returns the epochs of those stopped."""
    trials = {our_id: ray_trial(our_id, session) for our_id in our_ids}
    stopped = {}
    for trial in trials.values():
        scheduler.on_trial_add(None, trial)
    for epoch in range(1, until + 1):
        for our_id, trial in trials.items():
            if epoch in done.setdefault(our_id, {}) or our_id in stopped:
                continue
            value = done[our_id][epoch] = CURVES[our_id][epoch - 1]
            result = {"epoch": epoch, "val_dice": value}
            if scheduler.on_trial_result(None, trial, result) == TrialScheduler.STOP:
                scheduler.on_trial_complete(None, trial, result)
                stopped[our_id] = epoch
    return stopped


def study_of(done: dict[str, dict[int, float]]) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    for our_id, values in done.items():
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.PRUNED, intermediate_values=values, user_attrs={"trial_id": our_id}
            )
        )
    return study


@pytest.mark.parametrize(
    ("max_epochs", "rungs"), [(1, [1]), (2, [1]), (3, [1, 3]), (9, [1, 3, 9]), (30, [3, 9, 27]), (60, [6, 18, 54])]
)
def test_rungs_follow_from_the_epochs(max_epochs, rungs):
    assert make_scheduler("asha", max_epochs=max_epochs).rungs == rungs


@pytest.mark.parametrize(
    ("evaluate_every", "rungs"), [(2, [6, 18, 54]), (4, [8, 24]), (5, [5, 15, 45]), (25, [25]), (60, [60]), (99, [60])]
)
def test_rungs_stand_where_trials_are_judged(evaluate_every, rungs):
    assert make_scheduler("asha", max_epochs=60, evaluate_every=evaluate_every).rungs == rungs


def test_trials_that_are_judged_now_and_then_are_compared_after_as_many_epochs():
    scheduler = make_scheduler("asha", max_epochs=8, evaluate_every=3)
    assert scheduler.rungs == [3]
    good, poor = ray_trial("t0000"), ray_trial("t0001")
    for trial in (good, poor):
        scheduler.on_trial_add(None, trial)
    said = [
        scheduler.on_trial_result(None, trial, {"epoch": epoch, "val_dice": value})
        for trial, epoch, value in [(good, 3, 0.5), (poor, 3, 0.4), (good, 6, 0.3), (good, 8, 0.2)]
    ]
    assert said == ["CONTINUE", "STOP", "CONTINUE", "STOP"], "the last one for its last epoch"
    assert scheduler.reason(poor.trial_id) == "val_dice 0.4000 at epoch 3 is below the best third (0.5000)"
    assert scheduler.reason(good.trial_id) == ""


def test_the_first_of_several_folds_has_the_rungs_of_a_trial_without_folds():
    assert make_scheduler("asha", max_epochs=60, folds=5).rungs == [6, 18, 54, 162]
    assert make_scheduler("asha", max_epochs=1, folds=5).rungs == [1, 3]


def test_an_unknown_name():
    with pytest.raises(InputError, match=r"scheduler 'ahsa' is not known; .* Did you mean 'asha'"):
        make_scheduler("ahsa", max_epochs=9)


def test_a_trial_below_the_best_third_is_stopped_and_told_why():
    scheduler = make_scheduler("asha", max_epochs=9)
    stopped = run(scheduler, list(CURVES), {}, until=9, session="")
    # At epoch 1 the best third of [0.3] is 0.3, of [0.3, 0.2, 0.4] 0.333, of [... 0.35, 0.5] 0.383.
    assert stopped.pop("t0001") == 1
    assert scheduler.reason("ray-t0001") == "val_dice 0.2000 at epoch 1 is below the best third (0.3000)"
    # At epoch 3 of [0.5] 0.5, of [0.5, 0.42] 0.473, of [0.5, 0.42, 0.9, 0.7] 0.7.
    assert stopped.pop("t0002") == 3
    assert stopped.pop("t0005") == 3
    assert scheduler.reason("ray-t0005") == "val_dice 0.4900 at epoch 3 is below the best third (0.7000)"
    assert stopped == {"t0000": 9, "t0003": 9, "t0004": 9}, "the others come to their last epoch"
    assert [scheduler.reason(f"ray-{our_id}") for our_id in stopped] == ["", "", ""]


@pytest.mark.parametrize("interrupted_at", range(10))
def test_a_resumed_search_stops_whom_an_undisturbed_one_would(interrupted_at):
    undisturbed = run(make_scheduler("asha", max_epochs=9), list(CURVES), {}, until=9, session="")
    done: dict[str, dict[int, float]] = {}
    first = run(make_scheduler("asha", max_epochs=9), list(CURVES), done, until=interrupted_at, session="1")
    resumed = make_scheduler("asha", max_epochs=9, study=study_of(done))
    unfinished = [our_id for our_id in CURVES if our_id not in first]
    assert first | run(resumed, unfinished, done, until=9, session="2") == undisturbed


def test_new_trials_are_judged_by_those_of_earlier_sessions():
    earlier = study_of({"t0000": {1: 0.6, 2: math.nan}, "t0001": {}})
    scheduler = make_scheduler("asha", max_epochs=9, study=earlier)
    assert run(scheduler, ["t0004"], {}, until=1, session="2") == {"t0004": 1}


@pytest.mark.parametrize("result", [{}, {"epoch": 3}, {"val_dice": 0.1}, {"epoch": 3, "val_dice": math.nan}])
def test_a_result_without_a_number_stops_nobody_and_leaves_no_trace(result):
    scheduler = make_scheduler("asha", max_epochs=9)
    run(scheduler, ["t0000", "t0004"], {}, until=3, session="")
    rungs = pickle.dumps(scheduler._brackets[0]._rungs)
    odd = ray_trial("t0009")
    scheduler.on_trial_add(None, odd)
    assert scheduler.on_trial_result(None, odd, result) == TrialScheduler.CONTINUE
    scheduler.on_trial_complete(None, odd, result)
    assert pickle.dumps(scheduler._brackets[0]._rungs) == rungs


def test_none_stops_nobody():
    scheduler = make_scheduler("none", max_epochs=9, study=study_of({"t0000": {1: 0.9}}))
    trial = ray_trial("t0001")
    scheduler.on_trial_add(None, trial)
    assert scheduler.on_trial_result(None, trial, {"epoch": 1, "val_dice": 0.0}) == TrialScheduler.CONTINUE
    assert scheduler.reason(trial.trial_id) == ""


@pytest.mark.parametrize("name", ["asha", "none"])
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
def test_what_a_process_died_of_is_remembered(tmp_path, name, text, reason):
    file = tmp_path / "error.txt"
    file.write_text(text)
    scheduler = make_scheduler(name, max_epochs=9)
    trial = ray_trial("t0000", error_file=file)
    scheduler.on_trial_add(None, trial)
    scheduler.on_trial_error(None, trial)
    assert scheduler.reason(trial.trial_id) == reason
    scheduler.on_trial_add(None, trial)
    assert scheduler.reason(trial.trial_id) == "", "it was started again"


def test_a_death_that_left_no_account():
    scheduler = make_scheduler("asha", max_epochs=9)
    for trial in (ray_trial("t0000"), ray_trial("t0001", error_file=Path("gone"))):
        scheduler.on_trial_add(None, trial)
        scheduler.on_trial_error(None, trial)
        assert scheduler.reason(trial.trial_id) == ""


@pytest.mark.parametrize("name", ["asha", "none"])
def test_ray_is_named_no_metric_and_can_pickle_it(name):
    scheduler = make_scheduler(name, max_epochs=9)
    assert scheduler.metric is None
    scheduler.on_trial_add(None, ray_trial("t0000"))
    assert pickle.loads(pickle.dumps(scheduler)).reason("ray-t0000") == ""
