"""The hyperparameters: each checked at construction, with a message that says how to mend it."""

from dataclasses import asdict, fields
from typing import Any

import pytest

from data.input_error import InputError
from model.blocks import BLOCK_KINDS, NORMALISERS, UPSAMPLERS
from model.class_weights import CLASS_WEIGHTS as CLASS_WEIGHT_RULES
from model.config import (
    BLOCKS,
    CLASS_WEIGHTS,
    ENCODERS,
    LOSSES,
    NORMALISATIONS,
    OPTIMIZERS,
    SCHEDULES,
    UPSAMPLINGS,
    TrainConfig,
)
from model.encoders import PUBLISHED
from model.losses import LOSSES as LOSS_FUNCTIONS
from model.optimisation import OPTIMIZERS as MAKE_OPTIMIZERS
from model.optimisation import SCHEDULES as MAKE_SCHEDULES


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("depth", 1, "depth 1 must be 2 or more"),
        ("depth", 7, "depth 7 must be 6 or less"),
        ("depth", 3.0, "depth 3.0 must be of type int"),
        ("depth", True, "depth True must be of type int"),
        ("depth", "3", "depth '3' must be of type int"),
        ("width", 0, "width 0 must be 1 or more"),
        ("learning_rate", 0, "learning_rate 0.0 must be above 0"),
        ("learning_rate", -1e-3, "learning_rate -0.001 must be above 0"),
        ("learning_rate", float("nan"), "learning_rate nan must be above 0"),
        ("learning_rate", float("inf"), "learning_rate inf must be 10.0 or less"),
        ("weight_decay", float("nan"), "weight_decay nan must be 0.0 or more"),
        ("dropout", 0.95, "dropout 0.95 must be 0.9 or less"),
        ("class_weight", None, "class_weight None must be of type str"),
        ("class_weight", "inverted", "Did you mean 'inverse'?"),
        ("rotation", 4.5, "rotation 4.5 must be 4.0 or less"),
        (
            "loss",
            "dise",
            "loss 'dise' is not known; allowed: dice, dice_ce, dice_per_image, focal, tversky",
        ),
        ("loss", ["dice"], "loss ['dice'] must be of type str"),
        ("batch_size", 0, "batch_size 0 must be 1 or more"),
        ("crop_size", -1, "crop_size -1 must be 0 or more"),
        ("seed", 2**31, "seed 2147483648 must be 2147483647 or less"),
    ],
)
def test_a_value_outside_its_rule_is_refused_in_one_line(name: str, value: Any, words: str) -> None:
    with pytest.raises(InputError) as refused:
        TrainConfig(**{name: value})
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("declared", fields(TrainConfig), ids=lambda declared: declared.name)
def test_both_ends_of_every_range_are_allowed_and_what_lies_beyond_is_not(declared: Any) -> None:
    rule = declared.metadata
    if declared.type is bool or declared.name == "init_from":
        for value in (False, True) if declared.type is bool else ("", "any text"):
            assert getattr(TrainConfig(**{declared.name: value}), declared.name) == value
        with pytest.raises(InputError, match=f"^{declared.name} 1 must be of type {declared.type.__name__}"):
            TrainConfig(**{declared.name: 1})
        return
    if "choices" in rule:
        for choice in rule["choices"]:
            assert getattr(TrainConfig(**{declared.name: choice}), declared.name) == choice
        return
    for end, step in (("low", -1), ("high", 1)):
        if end not in rule:
            assert (end, rule["above"]) == ("low", 0)
            continue
        TrainConfig(**{declared.name: rule[end]})
        with pytest.raises(InputError, match=f"^{declared.name} "):
            TrainConfig(**{declared.name: rule[end] + step})


def test_a_whole_number_stands_for_a_float() -> None:
    config = TrainConfig(learning_rate=1)
    assert type(config.learning_rate) is float


def test_a_mapping_with_a_name_that_is_no_field_is_refused_with_a_guess() -> None:
    with pytest.raises(InputError, match=r"parameter 'learning_rat' is not known.*Did you mean 'learning_rate'\?"):
        TrainConfig.from_mapping({"learning_rat": 0.1})


def test_a_config_survives_the_way_through_a_mapping() -> None:
    config = TrainConfig(depth=5, learning_rate=0.02, loss="dice", seed=7)
    assert TrainConfig.from_mapping(asdict(config)) == config


def test_every_name_on_offer_has_its_mechanism() -> None:
    assert set(LOSSES) == set(LOSS_FUNCTIONS)
    assert set(NORMALISATIONS) == set(NORMALISERS)
    assert set(UPSAMPLINGS) == set(UPSAMPLERS)
    assert set(CLASS_WEIGHTS) == set(CLASS_WEIGHT_RULES)
    assert set(BLOCKS) == set(BLOCK_KINDS)
    assert set(ENCODERS) == {"own", *PUBLISHED}
    assert set(OPTIMIZERS) == set(MAKE_OPTIMIZERS)
    assert set(SCHEDULES) == set(MAKE_SCHEDULES)
