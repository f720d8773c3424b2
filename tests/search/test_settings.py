"""What a search may be asked for, and what it is told when it may not."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from data.input_error import InputError
from model.config import TRANSFERS
from search.schedulers import SCHEDULERS
from search.settings import CHOSEN_ONCE, Scheduler, SearchSettings, check_same_run, read_seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("0.5s", 0.5),
        ("15m", 900),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1d", 86400),
        ("1.5h", 5400),
    ],
)
def test_a_duration_is_read_in_any_unit(text: str, seconds: float) -> None:
    assert read_seconds(text) == seconds
    assert SearchSettings(max_time=text).max_seconds == seconds


def test_a_duration_without_a_unit_is_refused() -> None:
    with pytest.raises(InputError, match="max_time '3' has no unit: write 3m for minutes"):
        SearchSettings(max_time="3")


@pytest.mark.parametrize("text", ["", "soon", "-5m", "0s", "5 minutes", "m", "15m!", "1h-5m", "inf", "nan", "1e3"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"max_time '.*15m"):
        SearchSettings(max_time=text)


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
        ("scheduler", "ashe", "scheduler 'ashe' is not known; allowed: asha, none. Did you mean 'asha'?"),
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


def test_the_table_of_schedulers_has_the_names_that_may_be_asked_for() -> None:
    assert set(SCHEDULERS) == set(get_args(Scheduler))


def test_the_settings_of_a_run_are_yaml_without_what_concerns_one_start_of_the_command() -> None:
    settings = SearchSettings(
        data="stare", data_root=Path("sets"), name="mine", max_time="15m", space=("depth=3:5",), dry_run=True
    )
    written = yaml.safe_load(settings.as_yaml())
    assert written == settings.as_mapping()
    assert (written["data"], written["data_root"], written["max_time"]) == ("stare", "sets", "15m")
    assert written["space"] == ["depth=3:5"]
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
    "scheduler": "none",
}


@pytest.mark.parametrize("name", CHOSEN_ONCE)
def test_a_run_does_not_go_on_with_what_would_make_its_trials_differ(name: str) -> None:
    began = SearchSettings(name="mine")
    with pytest.raises(InputError, match=f"{name} .* with which run 'mine' began.*--{name.replace('_', '-')}"):
        check_same_run(replace(began, **{name: OTHERS[name]}), began.as_mapping(), "mine")


def test_a_run_goes_on_with_another_budget_on_other_machines() -> None:
    began = SearchSettings(name="mine", space=("depth=3:5",))
    saved = yaml.safe_load(began.as_yaml())
    asked = replace(
        began, num_trials=99, max_time="9h", address="auto", cpus_per_trial=2.0, gpus_per_trial=0.5, resume=True
    )
    check_same_run(asked, saved, "mine")
