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
    ONLY_WHEN,
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
} | {"deterministic": (False, True), "init_from": ("", "imagenet", "runs/a=b/best", "c:models/ten per cent")}
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
        "block": "plain|residual",
        "depth": "3:4",
        "width": "8|16",
        "dropout": "0.0:0.3",
        "loss": "dice|weighted_ce|dice_ce|focal|tversky",
        "class_weight": "none|square_root|median_frequency",
        "learning_rate": "0.001:0.02:log",
        "weight_decay": "1e-06:0.01:log",
        "batch_size": "4|8|16",
        "crop_size": "64|128|256",
        "rare_crops": "0.0|0.5",
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


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("deterministic", "true", (True,)),
        ("deterministic", "False|True", (False, True)),
        ("deterministic", [True], (True,)),
        ("init_from", " runs/a/best ", ("runs/a/best",)),
        ("init_from", "runs/a=b,C:models", ("runs/a=b", "C:models")),
        ("init_from", "", ("",)),
        ("init_from", ["a:b"], ("a:b",)),
    ],
)
def test_flags_and_texts_are_choices(name, text, options):
    assert parse_space({name: text}).domains[name] == Choice(options)
    if isinstance(text, str):
        assert parse_space([f"{name}={text}"]).domains[name] == Choice(options)


def test_a_range_is_drawn_as_the_default_one_unless_it_says_how():
    assert parse_space(["learning_rate=1e-4:1e-2"]).domains["learning_rate"] == Range(1e-4, 1e-2, log=True)
    assert parse_space(["learning_rate=1e-4:1e-2:linear"]).domains["learning_rate"] == Range(1e-4, 1e-2)
    assert parse_space(["width=8:64:log"]).domains["width"] == Range(8, 64, log=True)
    assert parse_space(["dropout=0:0.5"]).domains["dropout"] == Range(0.0, 0.5)


def test_pinned_values_give_way_to_words():
    space = parse_space(["max_epochs=10:20"], pinned={"max_epochs": 60, "seed": 3})
    assert space.domains["max_epochs"] == Range(10, 20)
    assert draw(space)["seed"] == 3


def test_a_pinned_text_is_taken_as_it_is_and_a_pinned_tuple_is_searched():
    pinned = {"init_from": "my models/a,b=c|d", "transfer": ("none", "all")}
    space = parse_space(pinned=pinned)
    assert {draw(space, seed)["transfer"] for seed in range(10)} == {"none", "all"}
    assert draw(space)["init_from"] == pinned["init_from"]
    assert parse_space(["transfer=all"], pinned=pinned).domains["transfer"] == Choice(("all",))


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
        ("deterministic=maybe", "deterministic 'maybe' cannot be read as true or false"),
        ("deterministic=true|True", "deterministic names True twice"),
        ("deterministic=0:1", "deterministic '0:1' is a range, but deterministic is no number"),
        ("depth=3.5", "depth '3.5' cannot be read as a whole number"),
        ("depth=", "depth '' cannot be read"),
        ("depth=3:", "depth '' cannot be read"),
        ("depth=3:4:5", "depth '3:4:5' cannot be read as a range"),
        ("depth=3:4:log:log", "cannot be read as a range"),
        ("depth", "space 'depth' cannot be read: write name=value"),
        ("width=8|16|8", "width names 8 twice"),
        ("learning_rate=0.01|1e-2", "learning_rate names 0.01 twice"),
        ("loss=dise", "loss 'dise' is not known; .* Did you mean 'dice'"),
        ("loss=dice:focal", "loss 'dice:focal' is a range, but loss is no number"),
        ("init_from=a,b=c", "parameter 'b' is not known"),
    ],
)
def test_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_space([text])


def test_a_text_that_could_not_be_written_down_is_refused():
    for text in ("a,b", "a|b"):
        with pytest.raises(InputError, match=r"init_from 'a.b' has a comma or a bar in it"):
            parse_space({"init_from": [text]})


@pytest.mark.parametrize("value", [None, [], True, {"low": 3}, 3.5])
def test_refused_from_a_mapping(value):
    with pytest.raises(InputError, match="depth"):
        parse_space({"depth": value})


# What each parameter with a condition needs beside it, and what leaves it out; parents first.
CONDITIONS = [
    ("class_weight", "loss=weighted_ce", "loss=dice"),
    ("class_weight", "loss=focal", "loss=tversky"),
    ("edge_weight", "loss=dice_ce", "loss=dice_per_image"),
    ("focal_gamma", "loss=focal", "loss=dice_ce"),
    ("tversky_alpha", "loss=tversky", "loss=dice"),
    ("momentum", "optimizer=sgd", "optimizer=adamw"),
    ("dilation", "encoder=own", "encoder=resnet18"),
    ("dropout_place", "dropout=0.1", "dropout=0"),
    ("rare_crops", "crop_size=64", "crop_size=0"),
    ("transfer", "init_from=imagenet", "init_from="),
    ("transfer_rate", "init_from=imagenet,transfer=encoder", "init_from=imagenet,transfer=none"),
    ("transfer_rate", "init_from=imagenet", "transfer=all"),
    ("freeze_epochs", "init_from=imagenet,transfer=all", "init_from=,transfer=all"),
]


@pytest.mark.parametrize(("name", "beside", "without"), CONDITIONS)
def test_a_parameter_is_drawn_only_where_it_means_something(name, beside, without):
    ends = "|".join(map(str, CHOICES.get(name, (0.25, 0.5) if FIELD_TYPES[name] is float else (2, 3))))
    assert name in draw(parse_space([f"{name}={ends}", beside]))
    assert name not in draw(parse_space([f"{name}={ends}", without]))


def test_every_condition_is_tested_and_stands_after_what_it_depends_on():
    order = list(FIELD_TYPES)
    assert set(ONLY_WHEN) == {name for name, _, _ in CONDITIONS}
    for name, condition in ONLY_WHEN.items():
        assert order.index(condition.parent) < order.index(name)
        assert all(value in CHOICES.get(condition.parent, condition.values) for value in condition.values)


def test_a_space_with_everything_pinned_draws_nothing():
    pins = [
        "block=plain,depth=3,width=8,dropout=0,loss=dice_ce,class_weight=inverse",
        "learning_rate=0.01,weight_decay=0,batch_size=4",
    ]
    space = parse_space([*pins, "crop_size=128,rare_crops=0.5,augmentation=0.5"])
    trial = optuna.create_study().ask()
    assert TrainConfig(**suggest(space, trial)) == TrainConfig(
        depth=3, width=8, loss="dice_ce", class_weight="inverse", learning_rate=0.01, weight_decay=0.0, batch_size=4
    )
    assert trial.params == {}


def test_extremes_by_size():
    smallest, largest = extremes(parse_space(["depth=3:5,width=32|8|16,batch_size=4:12,crop_size=64|0|128"]))
    assert (smallest.depth, smallest.width, smallest.batch_size, smallest.crop_size) == (3, 8, 4, 64)
    assert (largest.depth, largest.width, largest.batch_size, largest.crop_size) == (5, 32, 12, 0)


def test_described_a_line_each():
    lines = describe(parse_space(["depth=4,init_from=models/a,transfer=all|none,transfer_rate=0.1"]))
    assert "depth          4" in lines
    assert "learning_rate  0.001 to 0.02 (log)" in lines
    assert "loss           dice or weighted_ce or dice_ce or focal or tversky" in lines
    weights = "class_weight   none or square_root or median_frequency"
    assert f"{weights}, only when loss is weighted_ce or dice_ce or focal" in lines
    assert "transfer       all or none, only when init_from is not empty" in lines
    assert "transfer_rate  0.1, only when transfer is encoder or all" in lines
