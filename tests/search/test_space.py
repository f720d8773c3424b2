"""The search space: its defaults, a person's words on top of them, what they may not say, and what is drawn."""

from dataclasses import fields

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.input_error import InputError
from model.config import TrainConfig
from search.space import (
    DEFAULT_DOMAINS,
    FIELD_TYPES,
    Choice,
    Domain,
    Range,
    Space,
    describe,
    extremes,
    parse_space,
    space_texts,
    suggest,
)

CHOICES = {
    declared.name: declared.metadata["choices"] for declared in fields(TrainConfig) if "choices" in declared.metadata
}
NUMBERS = {  # values that TrainConfig allows
    declared.name: (declared.metadata.get("low", 1e-8), declared.metadata["high"])
    for declared in fields(TrainConfig)
    if declared.name not in CHOICES and declared.name != "seed"
} | {"seed": (0, 2**31 - 1)}


def draw(space: Space, seed: int = 0) -> dict:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return suggest(space, study.ask())


@st.composite
def domains(draw_value, name: str) -> Domain:
    if name in CHOICES:
        options = draw_value(st.lists(st.sampled_from(CHOICES[name]), min_size=1, unique=True))
        return Choice(tuple(options))
    low, high = NUMBERS[name]
    kind = st.integers if FIELD_TYPES[name] is int else st.floats
    numbers = sorted(draw_value(st.lists(kind(low, high), min_size=1, max_size=4, unique=True)))
    if draw_value(st.booleans()) and len(numbers) > 1:
        return Range(numbers[0], numbers[-1], log=numbers[0] > 0 and draw_value(st.booleans()))
    return Choice(tuple(numbers))


@st.composite
def spaces(draw_value) -> Space:
    names = draw_value(st.sets(st.sampled_from(sorted(FIELD_TYPES)))) | set(DEFAULT_DOMAINS)
    return Space(domains={name: draw_value(domains(name)) for name in FIELD_TYPES if name in names})


@settings(deadline=None)
@given(spaces())
def test_what_is_written_reads_back_the_same(space):
    texts = space_texts(space)
    assert parse_space(texts) == space
    assert parse_space([",".join(f"{name}={text}" for name, text in texts.items())]) == space
    assert list(parse_space(texts).domains) == list(space.domains)


@settings(deadline=None)
@given(spaces(), st.integers(0, 10))
def test_every_draw_and_both_extremes_are_trainings(space, seed):
    TrainConfig(**draw(space, seed))
    smallest, largest = extremes(space)
    assert smallest.depth <= largest.depth
    assert smallest.width <= largest.width
    assert smallest.batch_size <= largest.batch_size


def test_the_default_space():
    assert space_texts(parse_space()) == {
        "depth": "3:4",
        "width": "8|16",
        "dropout": "0.0:0.3",
        "loss": "dice|weighted_ce|both",
        "class_weight": "none|square_root|median_frequency",
        "learning_rate": "0.001:0.02:log",
        "weight_decay": "1e-06:0.01:log",
        "batch_size": "4|8|16",
        "crop_size": "64|128|256",
        "rare_crops": "0.0|0.3",
        "augmentation": "0.2:1.0",
    }


def test_words_go_on_top_of_the_default():
    space = parse_space(["depth=3:5,width=8|16|32,learning_rate=1e-5:1e-2:log,loss=dice", "depth=2"])
    assert space.domains["depth"] == Choice((2,)), "a later text replaces an earlier one"
    assert space.domains["width"] == Choice((8, 16, 32))
    assert space.domains["learning_rate"] == Range(1e-5, 1e-2, log=True)
    assert space.domains["loss"] == Choice(("dice",))
    assert space.domains["batch_size"] == DEFAULT_DOMAINS["batch_size"]


@pytest.mark.parametrize(
    ("given_as", "domain"),
    [
        ({"depth": "3:5"}, Range(3, 5)),
        ({"depth": [3, 4]}, Choice((3, 4))),
        ({"depth": ["3", "4"]}, Choice((3, 4))),
        ({"depth": 4}, Choice((4,))),
        (["depth=3,4,loss=dice"], Choice((3, 4))),
        ([" depth = 3 | 4 "], Choice((3, 4))),
        (["depth=4:4"], Choice((4,))),
    ],
)
def test_ways_to_say_it(given_as, domain):
    assert parse_space(given_as).domains["depth"] == domain


def test_a_range_is_drawn_as_the_default_one_unless_it_says_how():
    assert parse_space(["learning_rate=1e-4:1e-2"]).domains["learning_rate"] == Range(1e-4, 1e-2, log=True)
    assert parse_space(["learning_rate=1e-4:1e-2:linear"]).domains["learning_rate"] == Range(1e-4, 1e-2)
    assert parse_space(["width=8:64:log"]).domains["width"] == Range(8, 64, log=True)
    assert parse_space(["dropout=0:0.5"]).domains["dropout"] == Range(0.0, 0.5)


def test_pinned_values_give_way_to_words():
    space = parse_space(["max_epochs=10:20"], pinned={"max_epochs": 60, "seed": 3})
    assert space.domains["max_epochs"] == Range(10, 20)
    assert draw(space)["seed"] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depht=3", "parameter 'depht' is not known; .* Did you mean 'depth'"),
        ("depth=5:3", "depth '5:3' is turned round: 5 is more than 3; write depth=3:5"),
        ("depth=1:4", "depth 1 must be 2 or more"),
        ("depth=3:9", "depth 9 must be 6 or less"),
        ("learning_rate=0", "learning_rate 0.0 must be above 0"),
        ("learning_rate=0:1e-2:log", "learning_rate 0.0 must be above 0"),
        ("learning_rate=nan", "learning_rate nan must be above 0"),
        ("weight_decay=0:1e-2:log", "weight_decay '0:1e-2:log' .* start above 0"),
        ("weight_decay=0:1e-2", "weight_decay '0:1e-2' .* start above 0, or end in :linear"),
        ("depth=three", "depth 'three' cannot be read as a whole number"),
        ("dropout=some", "dropout 'some' cannot be read as a number"),
        ("depth=3.5", "depth '3.5' cannot be read as a whole number"),
        ("depth=", "depth '' cannot be read"),
        ("depth=3:", "depth '' cannot be read"),
        ("depth=3:4:5", "depth '3:4:5' cannot be read as a range"),
        ("depth=3:4:log:log", "cannot be read as a range"),
        ("depth", "space 'depth' cannot be read: write name=value"),
        ("width=8|16|8", "width names 8 twice"),
        ("learning_rate=0.01|1e-2", "learning_rate names 0.01 twice"),
        ("loss=dise", "loss 'dise' is not known; .* Did you mean 'dice'"),
        ("loss=dice:both", "loss 'dice:both' is a range, but loss is no number"),
    ],
)
def test_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_space([text])


@pytest.mark.parametrize("value", [None, [], True, {"low": 3}, 3.5])
def test_refused_from_a_mapping(value):
    with pytest.raises(InputError, match="depth"):
        parse_space({"depth": value})


def test_class_weight_is_drawn_only_where_the_loss_has_weights():
    space = parse_space()
    drawn = [draw(space, seed) for seed in range(30)]
    assert {values["loss"] for values in drawn} == {"dice", "weighted_ce", "both"}
    for values in drawn:
        assert ("class_weight" in values) == (values["loss"] != "dice")


def test_a_space_with_everything_pinned_draws_nothing():
    pins = [
        "depth=3,width=8,dropout=0,loss=both,class_weight=inverse",
        "learning_rate=0.01,weight_decay=0,batch_size=4",
    ]
    space = parse_space([*pins, "crop_size=128,rare_crops=0,augmentation=0.5"])
    trial = optuna.create_study().ask()
    assert TrainConfig(**suggest(space, trial)) == TrainConfig(
        depth=3, width=8, loss="both", class_weight="inverse", learning_rate=0.01, weight_decay=0.0, batch_size=4
    )
    assert trial.params == {}


def test_extremes_by_size():
    smallest, largest = extremes(parse_space(["depth=3:5,width=32|8|16,batch_size=4:12,crop_size=64|0|128"]))
    assert (smallest.depth, smallest.width, smallest.batch_size, smallest.crop_size) == (3, 8, 4, 64)
    assert (largest.depth, largest.width, largest.batch_size, largest.crop_size) == (5, 32, 12, 0)


def test_described_a_line_each():
    lines = describe(parse_space(["depth=4"]))
    assert lines[0] == "depth          4"
    assert "learning_rate  0.001 to 0.02 (log)" in lines
    assert "loss           dice or weighted_ce or both" in lines
    assert "class_weight   none or square_root or median_frequency, only when loss is weighted_ce or both" in lines
