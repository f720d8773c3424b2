"""The searcher, called as Ray calls it, and what then stands in the Optuna study."""

import math
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from data.input_error import InputError
from model.config import TrainConfig
from search.history import history_of, narrowed
from search.prior import PastTrial
from search.record import records_from_study
from search.searcher import StudySearcher
from search.space import parse_space
from search.study import STUDY_NAME, objectives_of, read_study

pytestmark = pytest.mark.filterwarnings("error")


def make_searcher(folder: Path, texts=(), **settings: Any) -> StudySearcher:
    settings = {"num_trials": 4, "seed": 0, "max_concurrent": 2, "dataset": "toy", "version": "1"} | settings
    return StudySearcher(journal=folder / "study.log", space=parse_space(texts), **settings)


def report(epoch: int | None = None, val_dice: Any = None, status: str = "running", **more: Any) -> dict[str, Any]:
    """A flat result as Ray hands it on: ours, and some keys of Ray's own."""
    ours = {"epoch": epoch, "val_dice": val_dice, "status": status, "reason": "", "seconds": 2.0 * (epoch or 0)}
    rays = {"done": False, "trial_id": "ray", "training_iteration": 7, "config/depth": 3, "timestamp": 1}
    return {name: value for name, value in ours.items() if value is not None} | rays | more


def run_trial(searcher: StudySearcher, ray_id: str, curve: list[float], status: str = "completed") -> None:
    """A trial whose last value comes with its ending."""
    assert isinstance(searcher.suggest(ray_id), dict)
    for epoch, value in enumerate(curve[:-1], start=1):
        searcher.on_trial_result(ray_id, report(epoch, value))
    searcher.on_trial_complete(ray_id, report(len(curve), curve[-1], status))


def only_trial(searcher: StudySearcher) -> optuna.trial.FrozenTrial:
    (trial,) = searcher.study.trials
    return trial


def test_a_suggestion_is_a_whole_config_with_our_trial_id(tmp_path):
    searcher = make_searcher(tmp_path, ["max_epochs=7"])
    suggestion = searcher.suggest("a1b2")
    assert suggestion.pop("trial_id") == "t0000"
    config = TrainConfig(**suggestion)
    assert config.max_epochs == 7
    trial = only_trial(searcher)
    assert trial.params.items() <= suggestion.items()
    assert (trial.user_attrs["trial_id"], trial.user_attrs["ray_trial_id"]) == ("t0000", "a1b2")
    (record,) = records_from_study(searcher.study)
    assert (record.status, record.dataset, record.version, record.config) == ("running", "toy", "1", suggestion)


def test_a_completed_trial_is_told_with_its_best_value(tmp_path):
    searcher = make_searcher(tmp_path)
    run_trial(searcher, "a", [0.2, 0.7, 0.6])
    trial = only_trial(searcher)
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.7)
    assert trial.intermediate_values == {1: 0.2, 2: 0.7, 3: 0.6}
    (record,) = records_from_study(searcher.study)
    assert (record.status, record.reason, record.epochs, record.best_epoch) == ("completed", "", 3, 2)
    assert (record.val_dice, record.seconds) == (0.7, 6.0)


WEIGHED = ("val_dice", "parameters")


def test_of_several_objectives_a_completed_trial_is_told_with_all(tmp_path):
    searcher = make_searcher(tmp_path, objectives=WEIGHED, num_trials=None, max_concurrent=9)
    endings = {"a": "completed", "b": "running", "c": "diverged"}
    for ray_id, status in endings.items():
        searcher.suggest(ray_id)
        searcher.on_trial_result(ray_id, report(1, 0.7, parameters=99))
        searcher.on_trial_complete(ray_id, report(2, 0.6, status, parameters=99))
    done, stopped, diverged = searcher.study.trials
    assert (done.state, done.values) == (TrialState.COMPLETE, [0.7, 99.0])
    assert (stopped.state, stopped.values, stopped.constraints) == (TrialState.PRUNED, None, {})
    assert (diverged.state, diverged.constraints) == (TrialState.PRUNED, {"bad_ending": 1.0})
    assert all(trial.intermediate_values == {1: 0.7, 2: 0.6} for trial in (done, stopped, diverged))
    assert [trial.number for trial in searcher.study.best_trials] == [0]


def test_a_search_with_several_objectives_goes_on_with_the_same_ones(tmp_path):
    run_of_two = make_searcher(tmp_path, objectives=WEIGHED)
    run_of_two.suggest("a")
    run_of_two.on_trial_complete("a", report(1, 0.7, "completed", parameters=99))
    run_of_two.suggest("b")
    resumed = make_searcher(tmp_path, objectives=WEIGHED)
    assert objectives_of(resumed.study) == WEIGHED
    assert resumed.suggest("c")["trial_id"] == "t0001"
    for other, asked in (((), ""), (("latency_ms",), " and minimize latency_ms")):
        message = (
            f"is told to maximize val_dice, minimize parameters, not to maximize val_dice{asked}: name another run"
        )
        with pytest.raises(InputError, match=message):
            make_searcher(tmp_path, objectives=("val_dice", *other))
    (tmp_path / "other").mkdir()
    make_searcher(tmp_path / "other")
    message = "is told to maximize val_dice, not to maximize val_dice and minimize parameters and minimize latency_ms"
    with pytest.raises(InputError, match=message):
        make_searcher(tmp_path / "other", objectives=(*WEIGHED, "latency_ms"))


def test_a_completed_trial_without_its_cost_has_failed(tmp_path):
    searcher = make_searcher(tmp_path, objectives=("val_dice", "parameters", "latency_ms"))
    searcher.suggest("a")
    searcher.on_trial_complete("a", report(1, 0.7, "completed", parameters=99))
    (record,) = records_from_study(searcher.study)
    assert (record.status, record.reason) == ("failed", "it ended without any latency_ms")
    assert only_trial(searcher).constraints == {"bad_ending": 1.0}


def test_the_checkpoint_is_that_of_the_best_epoch(tmp_path):
    searcher = make_searcher(tmp_path)
    searcher.suggest("a")
    assert records_from_study(searcher.study)[0].checkpoint == "", "there is no model before the first epoch"
    searcher.on_trial_result("a", report(1, 0.2, checkpoint="trials/t0000/best"))
    searcher.on_trial_result("a", report(2, 0.1, checkpoint="elsewhere"))
    (record,) = records_from_study(searcher.study)
    assert record.checkpoint == "trials/t0000/best"


def test_the_metrics_kept_are_those_of_the_best_epoch(tmp_path):
    searcher = make_searcher(tmp_path)
    searcher.suggest("a")
    best = {"val_iou": 0.5, "val_dice_vessel": 0.7, "threshold": 0.4, "val_loss": 0.3, "peak_memory_mb": 90.0}
    searcher.on_trial_result("a", report(1, 0.7, **best))
    searcher.on_trial_result("a", report(2, 0.6, val_iou=0.4, val_dice_vessel=0.6, threshold=0.5, peak_memory_mb=80.0))
    (record,) = records_from_study(searcher.study)
    assert record.metrics == {"val_dice": 0.7, "val_iou": 0.5, "val_dice_vessel": 0.7}
    assert (record.threshold, record.best_epoch, record.epochs, record.peak_memory_mb) == (0.4, 1, 2, 90.0)


def test_the_mean_over_more_folds_counts_be_it_lower_or_not(tmp_path):
    searcher = make_searcher(tmp_path)
    searcher.suggest("a")
    for epoch, value in ((1, 0.5), (2, 0.9), (3, 0.8)):
        searcher.on_trial_result("a", report(epoch, value, folds=1, threshold=0.5))
    searcher.on_trial_result("a", report(6, 0.7, folds=2, best_epoch=2, threshold=0.4))
    searcher.on_trial_complete("a", report(9, 0.75, "completed", folds=3, best_epoch=1, threshold=0.3))
    trial = only_trial(searcher)
    assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.75)
    assert trial.intermediate_values == {1: 0.5, 2: 0.9, 3: 0.8, 6: 0.7, 9: 0.75}
    (record,) = records_from_study(searcher.study)
    assert (record.folds, record.val_dice, record.best_epoch, record.epochs) == (3, 0.75, 1, 9)
    again = record.updated(report(6, 0.9, folds=2, best_epoch=2))
    assert (again.folds, again.val_dice, again.epochs) == (3, 0.75, 9), "a resumed trial repeats what it told"


def test_a_stopped_trial_is_pruned_with_the_report_that_stopped_it(tmp_path):
    searcher = make_searcher(tmp_path, reason_of={"a": "val_dice 0.1 at epoch 3 is below the best third (0.6)"}.get)
    run_trial(searcher, "a", [0.2, 0.15, 0.1], status="running")
    trial = only_trial(searcher)
    assert trial.state == TrialState.PRUNED
    assert trial.intermediate_values == {1: 0.2, 2: 0.15, 3: 0.1}
    assert trial.constraints == {}, "nothing speaks against its configuration"
    (record,) = records_from_study(searcher.study)
    assert (record.status, record.val_dice) == ("stopped", 0.2)
    assert record.reason == "val_dice 0.1 at epoch 3 is below the best third (0.6)"


@pytest.mark.parametrize(
    ("curve", "reason"), [([0.2, 0.1], "stopped at epoch 2"), ([], "stopped before its first epoch was over")]
)
def test_a_trial_stopped_without_a_word_says_how_far_it_came(tmp_path, curve, reason):
    searcher = make_searcher(tmp_path)
    searcher.suggest("a")
    for epoch, value in enumerate(curve, start=1):
        searcher.on_trial_result("a", report(epoch, value))
    searcher.on_trial_complete("a")
    assert only_trial(searcher).state == TrialState.PRUNED
    assert records_from_study(searcher.study)[0].reason == reason


@pytest.mark.parametrize("status", ["diverged", "collapsed", "out_of_memory", "failed"])
@pytest.mark.parametrize("epochs", [0, 5])
def test_a_bad_ending_is_pruned_below_all_others(tmp_path, status, epochs):
    searcher = make_searcher(tmp_path)
    searcher.suggest("bad")
    for epoch in range(1, epochs + 1):
        searcher.on_trial_result("bad", report(epoch, 0.9))
    searcher.on_trial_complete("bad", {"status": status, "reason": "it went\nwrong", "done": True})
    run_trial(searcher, "stopped", [0.1], status="running")
    bad, stopped = searcher.study.trials
    assert bad.state == stopped.state == TrialState.PRUNED
    record = records_from_study(searcher.study)[0]
    assert (record.status, record.reason, record.epochs) == (status, "it went wrong", epochs)
    below, _ = optuna.samplers._tpe.sampler._split_trials(searcher.study, [bad, stopped], 1)
    assert [trial.number for trial in below] == [stopped.number]


def test_too_little_memory_beside_others_on_a_gpu_says_nothing_of_the_configuration(tmp_path):
    searcher = make_searcher(tmp_path)
    for ray_id, devices in (("beside", 0.25), ("alone", 1.0)):
        searcher.suggest(ray_id)
        searcher.on_trial_complete(ray_id, {"status": "out_of_memory", "reason": "too little", "devices": devices})
    beside, alone = searcher.study.trials
    assert (beside.state, beside.constraints) == (TrialState.FAIL, {})
    assert (alone.state, bool(alone.constraints)) == (TrialState.PRUNED, True)
    assert history_of(searcher.study).ended == 1
    assert [record.status for record in records_from_study(searcher.study)] == ["out_of_memory"] * 2


def test_a_worker_that_died_is_a_failed_trial(tmp_path):
    reasons = {
        "told": "the worker died",
        "memory": "Task was killed due to the node running low on memory.",
        "untold": "",
    }
    searcher = make_searcher(tmp_path, reason_of=reasons.__getitem__)
    for ray_id in reasons:
        searcher.suggest(ray_id)
        searcher.on_trial_complete(ray_id, error=True)
    told, memory, untold = records_from_study(searcher.study)
    assert memory.status == "out_of_memory"
    assert (told.status, told.reason) == ("failed", "the worker died")
    assert (untold.status, untold.reason) == ("failed", "its process died more often than it may be started again")
    assert {trial.state for trial in searcher.study.trials} == {TrialState.PRUNED}


def test_a_trial_that_named_its_ending_keeps_it_when_its_worker_dies_after(tmp_path):
    searcher = make_searcher(tmp_path)
    searcher.suggest("a")
    searcher.on_trial_result("a", {"status": "diverged", "reason": "the loss is not finite"})
    searcher.on_trial_complete("a", error=True)
    assert records_from_study(searcher.study)[0].reason == "the loss is not finite"


@pytest.mark.parametrize("value", [math.nan, None, math.inf, "much", np.float32("nan")])
def test_a_metric_that_is_no_number_never_hurts(tmp_path, value):
    searcher = make_searcher(tmp_path)
    run_trial(searcher, "middle", [0.4, value, 0.6])
    run_trial(searcher, "never", [value, value])
    middle, never = searcher.study.trials
    assert (middle.state, middle.value, middle.intermediate_values) == (TrialState.COMPLETE, 0.6, {1: 0.4, 3: 0.6})
    assert (never.state, never.intermediate_values) == (TrialState.PRUNED, {})
    record = records_from_study(searcher.study)[1]
    assert (record.status, record.reason, record.val_dice) == ("failed", "it ended without any val_dice", None)


def test_numbers_of_numpy_are_numbers(tmp_path):
    searcher = make_searcher(tmp_path)
    searcher.suggest("a")
    searcher.on_trial_complete("a", report(np.int64(1), np.float32(0.5), "completed", parameters=np.int32(7)))
    assert only_trial(searcher).value == 0.5
    assert records_from_study(searcher.study)[0].parameters == 7


def test_a_result_after_the_end_is_left_out(tmp_path):
    searcher = make_searcher(tmp_path)
    run_trial(searcher, "a", [0.5])
    before = searcher.study.trials
    searcher.on_trial_result("a", report(2, 0.9))
    searcher.on_trial_complete("a", report(2, 0.9, "completed"))
    assert searcher.study.trials == before


def test_several_at_once_then_none_then_finished(tmp_path):
    searcher = make_searcher(tmp_path, num_trials=3, max_concurrent=2)
    first, second = searcher.suggest("a"), searcher.suggest("b")
    assert (first["trial_id"], second["trial_id"]) == ("t0000", "t0001")
    assert first["learning_rate"] != second["learning_rate"]
    assert searcher.suggest("c") is None
    assert len(searcher.study.trials) == 2, "nothing is asked that is not handed out"
    searcher.on_trial_complete("a", report(1, 0.5, "completed"))
    assert searcher.suggest("d")["trial_id"] == "t0002"
    for ray_id in ("b", "d"):
        assert searcher.suggest("e") is None, "Ray would keep no worker for one that may yet wait"
        searcher.on_trial_complete(ray_id, report(1, 0.5, "completed"))
    assert searcher.suggest("f") == Searcher.FINISHED
    assert {trial.state for trial in searcher.study.trials} == {TrialState.COMPLETE}


def test_ray_may_set_how_many_run_at_once(tmp_path):
    searcher = make_searcher(tmp_path, max_concurrent=1)
    assert searcher.set_max_concurrency(3)
    assert [isinstance(searcher.suggest(ray_id), dict) for ray_id in "abcd"] == [True, True, True, False]


def test_a_killed_search_goes_on_with_the_same_trials(tmp_path):
    killed = make_searcher(tmp_path)
    first, second = killed.suggest("a"), killed.suggest("b")
    killed.on_trial_result("a", report(1, 0.5))
    killed.on_trial_result("a", report(2, 0.4))
    del killed
    resumed = make_searcher(tmp_path)
    assert resumed.suggest("c") == first
    assert resumed.suggest("d") == second
    resumed.on_trial_result("c", report(2, 0.4))  # a resumed trial repeats its last epoch
    resumed.on_trial_complete("c", report(3, 0.45, "completed"))
    trial = resumed.study.trials[0]
    assert (trial.intermediate_values, trial.value) == ({1: 0.5, 2: 0.4, 3: 0.45}, 0.5)
    assert trial.user_attrs["ray_trial_id"] == "c"
    assert len(resumed.study.trials) == 2


@pytest.mark.parametrize("last", [report(1, 0.5, "completed"), {"status": "diverged", "reason": "NaN"}, report(1, 0.5)])
def test_a_driver_killed_between_record_and_tell_is_mended(tmp_path, last, monkeypatch):
    killed = make_searcher(tmp_path)
    killed.suggest("a")

    def die(*args: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(optuna.Study, "tell", die)
        killed.on_trial_complete("a", last)
    (record,) = records_from_study(killed.study)
    assert only_trial(killed).state == TrialState.RUNNING
    del killed
    resumed = make_searcher(tmp_path)
    assert only_trial(resumed).state == (TrialState.COMPLETE if record.status == "completed" else TrialState.PRUNED)
    assert (record.status in ("diverged",)) == bool(only_trial(resumed).constraints)
    assert records_from_study(resumed.study) == [record]
    assert resumed.suggest("b")["trial_id"] == "t0001"


def test_a_trial_that_was_half_written_when_the_driver_was_killed_is_drawn_again(tmp_path):
    searcher = make_searcher(tmp_path)
    before = (tmp_path / "study.log").read_bytes()
    suggestion = searcher.suggest("a")
    written = (tmp_path / "study.log").read_bytes()[len(before) :]
    for share in (0.1, 0.5, 0.8):
        (tmp_path / "study.log").write_bytes(before + written[: int(share * len(written))])
        assert make_searcher(tmp_path).suggest("a") == suggestion
    assert len(read_study(tmp_path / "study.log").trials) == 1


def test_a_trial_that_somebody_else_asked_the_study_for_is_let_go(tmp_path):
    make_searcher(tmp_path).study.ask().suggest_int("depth", 3, 4)
    resumed = make_searcher(tmp_path)
    assert only_trial(resumed).state == TrialState.FAIL
    assert resumed.suggest("a")["trial_id"] == "t0001"


def test_a_trial_that_waits_leaves_its_place_and_is_learnt_from(tmp_path):
    searcher = make_searcher(tmp_path, num_trials=3, max_concurrent=1)
    searcher.suggest("a")
    searcher.on_trial_result("a", report(1, 0.5))
    assert not searcher.has_room
    searcher.set_aside("a")
    assert searcher.has_room
    assert isinstance(searcher.suggest("b"), dict)
    assert not searcher.has_room
    searcher.set_aside("b")
    searcher.take_place("a")
    searcher.on_trial_complete("a", report(2, 0.6, "completed"))
    assert isinstance(searcher.suggest("c"), dict)
    assert not searcher.draws_more
    searcher.on_trial_complete("b")
    searcher.free_place("b")  # which Ray may say of a trial that is over
    searcher.on_trial_complete("c", report(1, 0.5, "completed"))
    assert searcher.suggest("d") == Searcher.FINISHED


def test_the_sampler_learns_from_a_trial_that_waits(tmp_path):
    def learnt_from(waits: bool) -> int:
        folder = tmp_path / str(waits)
        folder.mkdir()
        searcher = make_searcher(folder, num_trials=None, max_concurrent=99)
        for number in range(14):
            searcher.suggest(f"r{number}")
            searcher.on_trial_result(f"r{number}", report(1, number / 20))
            if waits:
                searcher.set_aside(f"r{number}")
        return history_of(searcher.study).ended

    assert (learnt_from(waits=True), learnt_from(waits=False)) == (14, 0)


def test_without_a_number_of_trials_there_is_always_one_more(tmp_path):
    searcher = make_searcher(tmp_path, num_trials=None)
    for number in range(6):
        assert searcher.draws_more
        run_trial(searcher, f"r{number}", [0.5])
    assert searcher.draws_more


def test_a_hundred_at_once_differ(tmp_path):
    searcher = make_searcher(tmp_path, num_trials=None, max_concurrent=200)
    for number in range(12):
        run_trial(searcher, f"told{number}", [0.01 * number])
    suggestions = [searcher.suggest(f"r{number}") for number in range(100)]
    assert len({suggestion["learning_rate"] for suggestion in suggestions}) == 100
    assert len({suggestion["trial_id"] for suggestion in suggestions}) == 100


def test_a_finished_search_can_be_extended(tmp_path):
    run_trial(make_searcher(tmp_path, num_trials=1), "a", [0.5])
    extended = make_searcher(tmp_path, num_trials=2)
    run_trial(extended, "b", [0.6])
    assert extended.suggest("c") == Searcher.FINISHED
    assert [record.trial_id for record in records_from_study(extended.study)] == ["t0000", "t0001"]


def test_an_interrupted_search_draws_what_it_would_have_drawn(tmp_path):
    def drawn(folder: Path, sessions: int) -> list[dict[str, Any]]:
        folder.mkdir()
        suggestions = []
        for session in range(sessions):
            searcher = make_searcher(folder, num_trials=12)
            for _ in range(12 // sessions):
                ray_id = f"{session}-{len(suggestions)}"
                suggestions.append(searcher.suggest(ray_id))
                searcher.on_trial_complete(ray_id, report(1, suggestions[-1]["dropout"], "completed"))
        return suggestions

    once = drawn(tmp_path / "once", sessions=1)
    assert drawn(tmp_path / "often", sessions=4) == once
    assert len({str(suggestion | {"trial_id": ""}) for suggestion in once}) == 12


@pytest.mark.parametrize(("name", "objectives"), [("tpe", WEIGHED), ("cma_es", ("val_dice",))])
def test_what_the_driver_has_in_memory_is_what_others_read_from_the_disk(tmp_path, name, objectives):
    past = [PastTrial(values=asdict(TrainConfig()), weight=0.5)]
    searcher = make_searcher(
        tmp_path, searcher=name, objectives=objectives, past=past, num_trials=None, max_concurrent=99
    )
    more = {"parameters": np.int64(9), "warnings": "overfitting: it does", "checkpoint": "trials/best", "devices": 0.5}
    for number in range(18):
        ray_id = f"r{number}"
        searcher.suggest(ray_id)
        searcher.on_trial_result(ray_id, report(np.int64(1), np.float32(number / 20), val_dice_vessel=0.5, **more))
        if number % 6 < 4:
            status = ("completed", "running", "diverged", "out_of_memory")[number % 6]
            searcher.on_trial_complete(ray_id, report(2, 0.6, status, reason="at last", **more))
        elif number % 6 == 4:
            searcher.on_trial_complete(ray_id, error=True)
        else:
            searcher.set_aside(ray_id)
    on_disk = read_study(tmp_path / "study.log")
    assert searcher.study.trials == on_disk.trials
    assert searcher.study.user_attrs == on_disk.user_attrs
    assert any("cma" in key for trial in on_disk.trials for key in trial.system_attrs) == (name == "cma_es")


@pytest.mark.parametrize("pickles", [pickle, cloudpickle])
def test_a_pickled_searcher_goes_on(tmp_path, pickles):
    searcher = make_searcher(tmp_path)
    searcher.suggest("a")
    copy = pickles.loads(pickles.dumps(searcher))
    copy.on_trial_complete("a", report(1, 0.5, "completed"))
    assert only_trial(copy).state == TrialState.COMPLETE
    assert copy.suggest("b")["trial_id"] == "t0001"


def test_ray_has_a_file_of_it_that_is_empty_and_never_read(tmp_path):
    searcher = make_searcher(tmp_path)
    searcher.save_to_dir(str(tmp_path))
    assert [path.stat().st_size for path in tmp_path.glob("searcher-state*")] == [0]
    with pytest.raises(RuntimeError, match="open its study"):
        searcher.restore_from_dir(str(tmp_path))


def test_no_metric_is_named_to_ray(tmp_path):
    assert make_searcher(tmp_path).metric is None


def test_past_trials_are_remembered_by_the_study_and_stay_out_of_its_records(tmp_path):
    best = asdict(TrainConfig(learning_rate=7e-3, depth=4, max_epochs=999, width=64))
    past = [PastTrial(values=best, weight=1.0, first=True)]
    searcher = make_searcher(tmp_path, ["learning_rate=1e-3:1e-2:log"], past=past, num_trials=3)
    run_trial(searcher, "defaults", [0.5])
    assert searcher.study.user_attrs["past"][0]["values"].keys() >= {"learning_rate", "depth"}
    assert searcher.study.user_attrs["past"][0]["values"].keys().isdisjoint({"max_epochs", "width"})
    resumed = make_searcher(tmp_path, ["learning_rate=1e-3:1e-2:log"], num_trials=3)
    config = resumed.suggest("past")
    assert (config["learning_rate"], config["depth"], config["max_epochs"]) == (7e-3, 4, TrainConfig().max_epochs)
    assert len(records_from_study(resumed.study)) == 2


def test_an_unknown_searcher_is_refused(tmp_path):
    with pytest.raises(InputError, match="searcher 'tpee'"):
        make_searcher(tmp_path, searcher="tpee")


def test_a_study_that_minimizes_is_refused(tmp_path):
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log")),
    )
    optuna.create_study(storage=storage, study_name=STUDY_NAME, direction="minimize")
    with pytest.raises(InputError, match="is told to minimize, not to maximize val_dice"):
        make_searcher(tmp_path)


@pytest.mark.parametrize("content", ["this is a diary\n", "no newline at all", "{}\n{}\n", "rank,trial_id\n1,t0000\n"])
def test_a_file_that_is_no_journal_is_refused_and_kept(tmp_path, content):
    (tmp_path / "study.log").write_text(content)
    with pytest.raises(InputError, match="is no Optuna journal"):
        make_searcher(tmp_path)
    assert (tmp_path / "study.log").read_text() == content


def test_a_torn_last_line_is_dropped(tmp_path):
    journal = tmp_path / "study.log"
    run_trial(make_searcher(tmp_path), "a", [0.5])
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole.splitlines()[-1][:17])
    resumed = make_searcher(tmp_path)
    assert journal.read_bytes() == whole
    run_trial(resumed, "b", [0.6])
    assert journal.read_bytes().startswith(whole + b'{"op_code":')
    assert len(read_study(journal).trials) == 2


def test_what_samplers_may_be_shown_is_bounded_and_no_less_than_what_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr("search.searcher.MOST_SHOWN", 4)
    searcher = make_searcher(tmp_path, num_trials=None)
    for number in range(30):
        run_trial(searcher, f"r{number}", [(number * 7 % 30) / 30])
        known = searcher._history()
        assert known.ended <= 8
        assert narrowed(known, 4).get_trials() == narrowed(history_of(searcher.study), 4).get_trials()


def test_reading_a_study_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_study(tmp_path / "study.log")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "study.log").touch()
    with pytest.raises(InputError, match="holds no search"):
        read_study(tmp_path / "study.log")
