"""What a search may be asked for, and what it is told when it may not."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from data.input_error import InputError
from model.config import TRANSFERS
from search.budget import Budget, Limits, Target
from search.schedulers import SCHEDULERS
from search.settings import CHOSEN_ONCE, Scheduler, SearchSettings, check_same_run


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("num_trials", 0, "num_trials 0 must be 1 or more"),
        ("max_epochs", -3, "max_epochs -3 must be 1 or more"),
        ("seed", -1, "seed -1 must be 0 or more"),
        ("cpus_per_trial", 0.0, "cpus_per_trial 0 must be above 0"),
        ("cpus_per_trial", float("nan"), "cpus_per_trial nan must be above 0"),
        ("gpus_per_trial", -1.0, "gpus_per_trial -1 must be 0 or more"),
        ("gpus_per_trial", 1.5, "gpus_per_trial 1.5 must be whole above 1: take 1 or 2"),
        ("gpus_per_trial", float("inf"), "gpus_per_trial inf must be 0 or more"),
        ("max_time", "3", "max_time '3' has no unit: write 3m for minutes"),
        ("budget", "20", "budget '20' has no unit: write 20x"),
        ("stop_at", "dice=0.8", "stop_at 'dice' is not known"),
        ("patience", 0, "patience 0 must be 1 or more"),
        ("scheduler", "ashe", "scheduler 'ashe' is not known; allowed: asha, "),
        ("scheduler", "ashe", "Did you mean 'asha'?"),
        (
            "scheduler",
            "wilcoxon",
            "scheduler 'wilcoxon' compares trials fold by fold, and cannot tell by 1: add --folds 4 or more, or take",
        ),
        ("searcher", "tpf", "searcher 'tpf' is not known; allowed: cma_es, gp, grid, quasi_random, random, tpe. "),
        ("searcher", "tpf", "Did you mean 'tpe'?"),
        ("objective", ("dice",), "objective 'dice' is not known; allowed: gflops_per_megapixel, latency_ms, "),
        ("validation_fraction", 1.0, "validation_fraction 1.0 must be above 0 and below 1"),
        ("test_fraction", 0.9, "test_fraction 0.9 must be 0 or more and, with validation_fraction 0.2, leave images"),
        ("folds", 0, "folds 0 must be 1 or more"),
        ("group_by", "(", "group_by '(' is no regular expression"),
        ("name", "", "name '' makes no good folder"),
        ("name", "../elsewhere", "name '../elsewhere' makes no good folder"),
        ("name", "..", "name '..' makes no good folder"),
        ("name", "two words", "name 'two words' makes no good folder"),
        ("resume", True, "--resume needs the run to go on with: add its --name"),
    ],
)
def test_a_value_outside_its_rule_is_refused_in_one_line(name: str, value: Any, words: str) -> None:
    with pytest.raises(InputError) as refusal:
        SearchSettings(**{name: value})
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("setting", "name"), [("searcher", "cma_es"), ("scheduler", "median"), ("scheduler", "wilcoxon")]
)
def test_what_goes_by_val_dice_alone_is_refused_beside_a_cost(setting: str, name: str) -> None:
    asked: dict[str, Any] = {setting: name, "folds": 5}
    assert SearchSettings(**asked).objective == ("val_dice",)
    message = f"{setting} '{name}' goes by val_dice alone, and objective is 'val_dice,latency_ms': take another"
    with pytest.raises(InputError, match=message):
        SearchSettings(objective=("val_dice", "latency_ms"), **asked)


def test_objectives_in_another_order_are_the_same() -> None:
    one = SearchSettings(objective=("val_dice,latency_ms, parameters",))
    assert one == SearchSettings(objective=("val_dice", "parameters", "latency_ms"))
    assert yaml.safe_load(one.as_yaml())["objective"] == ["val_dice", "parameters", "latency_ms"]


def test_the_table_of_schedulers_has_the_names_that_may_be_asked_for() -> None:
    assert set(SCHEDULERS) == set(get_args(Scheduler))


def test_the_settings_of_a_run_are_yaml_without_what_concerns_one_start_of_the_command() -> None:
    settings = SearchSettings(
        data="stare", data_root=Path("sets"), name="mine", max_time="15m", space=("depth=3:5",), dry_run=True
    )
    written = yaml.safe_load(settings.as_yaml())
    assert written == settings.as_mapping()
    assert (written["data"], written["data_root"], written["max_time"]) == ("stare", "sets", "15m")
    assert (written["space"], written["num_trials"]) == (["depth=3:5"], None)
    assert not {"name", "resume", "dry_run", "print_config"} & set(written)


def test_what_trainings_begin_from_is_found_from_everywhere_and_pinned() -> None:
    assert SearchSettings().pinned == {"max_epochs": 60, "seed": 0}
    asked = SearchSettings(init_from="models/mine", deterministic=True, max_epochs=9)
    assert asked.init_from == str(Path.cwd() / "models/mine")
    assert replace(asked, seed=1).init_from == asked.init_from
    assert asked.pinned == {
        **{"max_epochs": 9, "seed": 0, "init_from": asked.init_from, "transfer": TRANSFERS, "deterministic": True}
    }
    assert SearchSettings(init_from="imagenet").init_from == "imagenet"


def test_runs_to_learn_from_are_found_from_everywhere() -> None:
    asked = SearchSettings(warm_start=(Path("runs/old"), Path("/runs/older")))
    assert asked.warm_start == (Path.cwd() / "runs/old", Path("/runs/older"))
    assert yaml.safe_load(asked.as_yaml())["warm_start"] == [str(Path.cwd() / "runs/old"), "/runs/older"]


@pytest.mark.parametrize(
    ("asked", "trials"),
    [
        ({}, 12),
        ({"num_trials": 3}, 3),
        ({"num_trials": 3, "budget": "20x", "patience": 5}, 3),
        *(({name: value}, None) for name, value in (("max_time", "1h"), ("budget", "9x"), ("patience", 9))),
        ({"stop_at": "val_dice=0.8"}, None),
    ],
)
def test_a_dozen_trials_are_tried_where_nothing_else_ends_the_search(asked: dict[str, Any], trials: int | None) -> None:
    assert SearchSettings(**asked).trials_limit == trials


def test_what_ends_the_run_is_told_together() -> None:
    asked = SearchSettings(max_time="2h", budget="3x", stop_at="val_iou>=0.7", patience=5, folds=2)
    assert asked.limits(7) == Limits(
        trials=None,
        max_time="2h",
        budget=Budget(text="3x", unit="trainings", amount=3.0),
        target=Target(text="val_iou=0.7", metric="val_iou", value=0.7),
        patience=5,
        max_epochs=7,
        folds=2,
    )
    assert asked.limits(7).seconds == 7200
    assert asked.limits(7).budget_amount == 3 * 7 * 2
    assert SearchSettings().limits(60) == Limits(trials=12, max_epochs=60)


OTHERS: dict[str, Any] = {
    "data": "stare",
    "size": 64,
    "color": "grey",
    "clahe": True,
    "field_of_view": "found",
    "mask_threshold": 0.1,
    "validation_fraction": 0.3,
    "test_fraction": 0.1,
    "train_ids": "1-27",
    "validation_ids": "28",
    "test_ids": "29-89",
    "group_by": "^[^_]+",
    "folds": 5,
    "split_seed": 7,
    "max_epochs": 7,
    "space": ("depth=4",),
    "init_from": "imagenet",
    "deterministic": True,
    "seed": 7,
    "objective": ("val_dice", "parameters"),
    "searcher": "random",
    "scheduler": "none",
    "warm_start": (Path("runs/old"),),
    "study": "postgresql://host/team",
}


@pytest.mark.parametrize("name", CHOSEN_ONCE)
def test_a_run_does_not_go_on_with_what_would_make_its_trials_differ(name: str) -> None:
    began = SearchSettings(name="mine")
    with pytest.raises(InputError, match=f"{name} .* with which run 'mine' began.*--{name.replace('_', '-')}"):
        check_same_run(replace(began, **{name: OTHERS[name]}), began.as_mapping(), "mine")


def test_of_two_spaces_it_says_where_they_differ() -> None:
    began = SearchSettings(name="mine", space=("depth=3:4", "width=8"))
    with pytest.raises(InputError, match=r"^space 'depth=4' differs from 'depth=3:4', with which run 'mine' began"):
        check_same_run(replace(began, space=("width=8", "depth=4")), began.as_mapping(), "mine")


def test_a_run_goes_on_with_another_budget_on_other_machines() -> None:
    began = SearchSettings(name="mine", space=("depth=3:5",))
    saved = yaml.safe_load(began.as_yaml())
    ending: dict[str, Any] = {
        "num_trials": 99,
        "max_time": "9h",
        "budget": "99x",
        "stop_at": "val_dice=0.9",
        "patience": 9,
    }
    machines: dict[str, Any] = {"address": "auto", "cpus_per_trial": 2.0, "gpus_per_trial": 0.5}
    check_same_run(replace(began, resume=True, **ending, **machines), saved, "mine")
