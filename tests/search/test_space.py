"""What is drawn from a space, when a parameter is searched, and what the space comes to at most."""

from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.input_error import InputError
from model.config import TrainConfig
from search.contradictions import check_conditions
from search.domain import Choice, Condition, Range
from search.presets import ONLY_WHEN, PRESETS
from search.sources import check_sources, with_whole_sources
from search.space import Space, describe, extremes, find_circle, most, parse_space, suggest
from search.space_text import FIELD_TYPES
from tests.search.spaces import CHOICES, draw, spaces

DEFAULTS = asdict(TrainConfig())


@settings(deadline=None, max_examples=60)
@given(spaces(), st.integers(0, 10))
@example(Space(domains={"augmentation": Range(0.0, 5e-324)}), 0)  # too narrow for a number between its ends
def test_a_training_has_values_of_its_own_exactly_where_it_shall(space: Space, seed: int) -> None:
    chosen = draw(space, seed)
    config = asdict(TrainConfig(**chosen))
    assert chosen.items() <= config.items()
    for name, domain in space.domains.items():
        assert (name in chosen) == space.asks(name, config)
        assert domain.holds(config[name]) or name not in chosen
    for name, condition in space.conditions.items():
        assert name not in chosen or condition.among.holds(config[condition.parent])


@settings(deadline=None, max_examples=60)
@given(spaces())
def test_the_extremes_are_trainings_of_the_space(space: Space) -> None:
    for config in map(asdict, extremes(space)):
        for name, domain in space.domains.items():
            asked = space.asks(name, config)
            assert domain.holds(config[name]) if asked else config[name] == DEFAULTS[name]


def test_the_extremes_without_conditions_are_those_of_each_size() -> None:
    smallest, largest = extremes(parse_space(["depth=3:5,width=32|8|16,batch_size=4:12,crop_size=64|0|128"]))
    assert (smallest.depth, smallest.width, smallest.batch_size, smallest.crop_size) == (3, 8, 4, 64)
    assert (largest.depth, largest.width, largest.batch_size, largest.crop_size) == (5, 32, 12, 0)
    assert (smallest.loss, smallest.dropout, smallest.augmentation) == ("dice", 0.0, 0.2)


@pytest.mark.parametrize(
    ("text", "smallest", "largest"),
    [
        ("width=16|64 if block=residual,block=plain|residual", ("plain", 3, 8), ("residual", 3, 64)),
        ("width=16|64 if block=residual,block=residual|plain", ("plain", 3, 8), ("residual", 3, 64)),
        ("width=2|4 if block=residual,block=plain|residual", ("residual", 3, 2), ("plain", 3, 8)),
        ("width=16|32 if depth=4,depth=2:6", ("plain", 2, 8), ("plain", 4, 32)),
        ("width=16|32 if depth=4:5,depth=2:6", ("plain", 2, 8), ("plain", 5, 32)),
        (
            "width=64 if block=residual,block=residual if loss=focal,loss=dice|focal",
            ("plain", 3, 8),
            ("residual", 3, 64),
        ),
        ("width=4 if dropout=0.2:0.3,dropout=0:0.5", ("plain", 3, 4), ("plain", 3, 8)),
    ],
)
def test_the_extremes_follow_conditions(
    text: str, smallest: tuple[str, int, int], largest: tuple[str, int, int]
) -> None:
    found = [(config.block, config.depth, config.width) for config in extremes(parse_space(["only", text]))]
    assert found == [smallest, largest]


def test_a_deeper_network_is_weighed_against_a_wider_one() -> None:
    _, largest = extremes(parse_space(["only,depth=3:6,width=11|12 if depth=3"]))
    assert (largest.depth, largest.width) == (3, 12), "twice the width is four times the work"
    _, largest = extremes(parse_space(["only,depth=3:6,width=10 if depth=3"]))
    assert (largest.depth, largest.width) == (6, 8)
    _, largest = extremes(parse_space(["only,passes=1:4,width=8|12 if passes=1"]))
    assert (largest.passes, largest.width) == (4, 8)
    _, largest = extremes(parse_space(["only,batch_size=4|40,crop_size=64|128 if batch_size=4"]))
    assert (largest.batch_size, largest.crop_size) == (40, 128), "the default stands elsewhere"


@pytest.mark.parametrize(
    ("texts", "highest"),
    [
        (["max_epochs=10|30|20"], 30),
        (["max_epochs=10:20"], 20),
        (["max_epochs=5"], 5),
        ([], 60),
        (["max_epochs=10:20 if depth=4"], 60),
        (["max_epochs=10:80 if depth=4"], 80),
    ],
)
def test_the_highest_value_of_a_parameter(texts: list[str], highest: int) -> None:
    assert most(parse_space(texts), "max_epochs") == highest


def test_the_highest_value_where_a_parameter_may_mean_nothing() -> None:
    assert most(parse_space(["focal_gamma=0.5"]), "focal_gamma") == 2.0


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
def test_a_parameter_is_drawn_only_where_it_means_something(name: str, beside: str, without: str) -> None:
    ends = "|".join(map(str, CHOICES.get(name, (0.25, 0.5) if FIELD_TYPES[name] is float else (2, 3))))
    assert name in draw(parse_space([f"{name}={ends}", beside]))
    assert name not in draw(parse_space([f"{name}={ends}", without]))


def test_every_condition_is_tested_and_stands_after_what_it_depends_on() -> None:
    order = list(FIELD_TYPES)
    assert set(ONLY_WHEN) == {name for name, _, _ in CONDITIONS}
    for name, condition in ONLY_WHEN.items():
        assert order.index(condition.parent) < order.index(name)
        assert all(value in CHOICES.get(condition.parent, condition.among.ends) for value in condition.among.ends)


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("width=16 if depth=4,depth=4", True),
        ("width=16 if depth=4,depth=3", False),
        ("width=16 if depth=3", True),  # the default
        ("depth=5 if seed=7,seed=7", True),  # the parent is a later field
        ("depth=5 if seed=7,seed=8", False),
        ("width=16 if learning_rate=1e-3:1e-2,learning_rate=0.01", True),
        ("width=16 if learning_rate=1e-3:1e-2,learning_rate=0.011", False),
        ("width=16 if deterministic=true,deterministic=true", True),
        ("width=16 if deterministic=true", False),
        # Conditions on conditions: what keeps its default is as good as one that has it.
        ("width=16 if depth=4,depth=4 if loss=focal,loss=focal", True),
        ("width=16 if depth=4,depth=4 if loss=focal,loss=dice", False),
        ("width=16 if depth=3,depth=4 if loss=focal,loss=dice", True),
        ("width=16 if depth=3,depth=4 if loss=focal,loss=focal", False),
        # Ours and a person's add up, and what means nothing fulfils no condition.
        ("edge_weight=2 if loss=focal|weighted_ce,loss=focal", True),
        ("edge_weight=2 if loss=focal|weighted_ce,loss=dice_ce", False),
        ("edge_weight=2 if depth=4,depth=4,loss=dice_ce", True),
        ("edge_weight=2 if depth=4,depth=4,loss=dice", False),
        ("width=16 if class_weight=none,loss=focal", True),
        ("width=16 if class_weight=none,loss=dice", False),
    ],
)
def test_a_condition_of_a_person(text: str, drawn: bool) -> None:
    name, value = ("edge_weight", 2.0) if text.startswith("edge") else (text.split("=")[0], int(text[6:8].strip()))
    assert draw(parse_space([f"only,{text}"])).get(name) == (value if drawn else None)


def test_a_later_word_takes_the_condition_away() -> None:
    space = parse_space(["width=16 if depth=4", "width=32"])
    assert space.conditions == {}
    assert space.domains["width"] == Choice((32,))
    assert parse_space(["width=16", "width=32 if depth=4"]).conditions == {"width": Condition("depth", Choice((4,)))}


def test_a_space_with_everything_pinned_draws_nothing() -> None:
    pins = [
        "block=plain,depth=3,width=8,dropout=0,loss=dice_ce,class_weight=inverse,optimizer=sgd",
        "learning_rate=0.01,weight_decay=0,batch_size=4",
    ]
    space = parse_space([*pins, "crop_size=128,rare_crops=0.5,augmentation=0.5"])
    trial = optuna.create_study().ask()
    assert TrainConfig(**suggest(space, trial)) == TrainConfig(
        loss="dice_ce", class_weight="inverse", optimizer="sgd", learning_rate=0.01, weight_decay=0.0, batch_size=4
    )
    assert trial.params == {}
    assert len(set(extremes(space))) == 1


def test_an_empty_space_gives_the_defaults() -> None:
    assert draw(parse_space(["only"])) == {}
    assert extremes(parse_space(["only"])) == (TrainConfig(), TrainConfig())


def test_combinations_hold_what_decides_and_nothing_twice() -> None:
    space = parse_space(["only,depth=2:6,width=16|32 if depth=4,loss=dice|focal,augmentation=0:1"])
    assert list(space.combinations(["width"])) == [
        {"depth": 2},
        {"depth": 3},
        {"depth": 4, "width": 16},
        {"depth": 4, "width": 32},
        {"depth": 5},
        {"depth": 6},
    ]
    assert list(space.combinations([])) == [{}]
    assert list(space.combinations(["loss", "augmentation"])) == [
        {"loss": "dice", "augmentation": 0.5},
        {"loss": "focal", "augmentation": 0.5},
    ]


def test_samples_of_a_range() -> None:
    assert Range(2, 6).samples() == (2, 6)
    assert Range(2, 60).samples([10, 60, 90]) == (2, 9, 10, 11, 59, 60)
    assert Range(0.0, 1.0).samples([0.5, 0.0, 2.0]) == (0.25, 0.75)
    assert Choice((3, 4)).samples([7]) == (3, 4)


def test_described_a_line_each() -> None:
    lines = describe(parse_space(["depth=4,init_from=models/a|,transfer=all|none,transfer_rate=0.1"]))
    assert "depth          4" in lines
    assert "learning_rate  0.0001 to 0.03 (log)" in lines
    assert "loss           dice or weighted_ce or dice_ce or focal or tversky" in lines
    weights = "class_weight   none or square_root or median_frequency"
    assert f"{weights}, only when loss is weighted_ce or dice_ce or focal" in lines
    assert "init_from      models/a or empty" in lines
    assert "transfer       all or none, only when init_from is not empty" in lines
    assert "transfer_rate  0.1, only when transfer is encoder or all" in lines
    assert describe(parse_space(["only"])) == []


def test_conditions_are_described() -> None:
    lines = describe(parse_space(["only,width=8|16 if learning_rate=1e-3:1e-2,edge_weight=0:5 if loss=focal"]))
    assert lines == [
        "width        8 or 16, only when learning_rate is 0.001 to 0.01",
        "edge_weight  0.0 to 5.0, only when loss is focal",
    ]
    (line,) = describe(parse_space(["only,edge_weight=0:5 if depth=4"]))
    assert line.endswith("only when depth is 4 and loss is weighted_ce or dice_ce or focal")
    (line,) = describe(parse_space(["only,edge_weight=0:5 if loss=focal|dice"]))
    assert line.endswith("only when loss is focal or dice and loss is weighted_ce or dice_ce or focal")


NEVER = " would never be searched, for "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "width=8|16 if depth=5",
            f"width{NEVER}depth is 3 to 4, and never 5: let depth have such a value, or leave width out.",
        ),
        ("width=8|16 if optimizer=sgd", f"width{NEVER}optimizer is adamw or adam, and never sgd: "),
        ("width=8|16 if schedule=constant", f"width{NEVER}schedule is cosine, and never constant: "),
        (
            "width=8|16 if dropout=0.1",
            f"width{NEVER}dropout is 0.0 to 0.3, and hardly ever exactly 0.1: wait for a range, dropout=low:high, or ",
        ),
        ("width=8|16 if dropout=0.4", f"width{NEVER}dropout is 0.0 to 0.3, and never 0.4: "),
        ("width=8|16 if dropout=0.3:0.5", f"width{NEVER}dropout is 0.0 to 0.3, and never 0.3 to 0.5: "),
        ("depth=4 if loss=dice,width=8 if depth=5", f"width{NEVER}depth is 4, or 3 elsewhere, and never 5: "),
        (
            "edge_weight=0:5 if loss=dice|tversky",
            f"edge_weight{NEVER}it is never so that loss is dice or tversky and loss is weighted_ce or dice_ce or "
            "focal: loosen one of these, or leave edge_weight out.",
        ),
        (
            "loss=dice,edge_weight=0:5 if depth=4",
            f"edge_weight{NEVER}it is never so that depth is 4 and loss is weighted_ce or dice_ce or focal: ",
        ),
        (
            "width=8 if transfer_rate=1",
            f"width{NEVER}it is never so that transfer_rate is 1.0 and transfer is encoder or all and init_from is not "
            "empty: ",
        ),
        (
            "width=16 if depth=4,depth=4 if loss=dice,class_weight=none if width=16",
            f"class_weight{NEVER}it is never so that width is 16 and loss is weighted_ce or dice_ce or focal: ",
        ),
    ],
)
def test_a_condition_that_is_never_met_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as refusal:
        check_conditions(parse_space([text]))
    assert str(refusal.value).startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        "width=8|16 if depth=3",
        "width=8|16 if schedule=cosine",
        "width=8|16 if dropout=0.2:0.5",
        "depth=4 if loss=dice,width=8 if depth=3",
        "edge_weight=0:5 if loss=dice|focal",
        "width=8 if transfer_rate=1,init_from=imagenet",
        "loss=dice,class_weight=none|inverse",  # ours alone may come to nothing
        "width=2:64,depth=4 if width=33",
    ],
)
def test_a_condition_that_can_be_met_is_not(text: str) -> None:
    check_conditions(parse_space([text]))


FEW: dict[str, tuple[Any, ...]] = {
    "depth": (3, 4),
    "width": (8, 16),
    "loss": ("dice", "focal"),
    "class_weight": ("none", "inverse"),
}


def searched_with(drawn: dict[str, Any], conditions: dict[str, Condition]) -> set[str]:
    """Which of the parameters with conditions are searched where these are the values that would be drawn."""

    def value(name: str) -> Any:
        return drawn[name] if searched(name) else DEFAULTS[name]

    def weighs(name: str) -> bool:
        return name != "class_weight" or value("loss") in ("focal", "dice_ce")

    def searched(name: str) -> bool:
        if not weighs(name):
            return False
        condition = conditions.get(name)
        return condition is None or (weighs(condition.parent) and value(condition.parent) in condition.among.ends)

    return {name for name in conditions if searched(name)}


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_what_is_refused_is_what_no_training_meets(data: st.DataObject) -> None:
    """Against going through every value of every parameter, with conditions worked out from the roots."""
    domains = {name: Choice(tuple(data.draw(st.sets(st.sampled_from(FEW[name]), min_size=1)))) for name in FEW}
    conditions: dict[str, Condition] = {}
    for name in FEW:
        parent = data.draw(st.sampled_from(sorted(FEW)))
        asked = conditions | {name: Condition(parent, Choice((data.draw(st.sampled_from(FEW[parent])),)))}
        if data.draw(st.booleans()) and not find_circle(asked):
            conditions = asked
    space = Space(domains=domains, conditions=conditions)

    met = set()
    for values in product(*(domain.options for domain in domains.values())):
        met |= searched_with(dict(zip(FEW, values, strict=True)), conditions)
    if met == set(conditions):
        check_conditions(space)
    else:
        with pytest.raises(InputError, match=rf"^({'|'.join(set(conditions) - met)}) would never be searched"):
            check_conditions(space)


@pytest.mark.parametrize("name", PRESETS)
def test_nothing_in_a_preset_contradicts_itself(name: str) -> None:
    space = parse_space([name])
    assert space == Space(domains=PRESETS[name])
    for parameter in space.domains:
        assert any(parameter in chosen for chosen in space.combinations([parameter])), parameter


def test_sources_of_weights_follow_conditions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = "only,encoder=own|resnet18,init_from=imagenet|a if encoder=resnet18,freeze_epochs=5 if init_from=a"
    space = with_whole_sources(parse_space([asked]))
    assert space.domains["init_from"] == Choice(("imagenet", str(tmp_path / "a")))
    assert space.conditions["freeze_epochs"] == Condition("init_from", Choice((str(tmp_path / "a"),)))
    assert space.conditions["init_from"] == Condition("encoder", Choice(("resnet18",)))
    check_conditions(space)

    seen: list[TrainConfig] = []
    monkeypatch.setattr("model.transfer.check_init_from", seen.append)
    check_sources(space)
    assert [(config.encoder, config.init_from) for config in seen] == [
        ("own", ""),
        ("resnet18", "imagenet"),
        ("resnet18", str(tmp_path / "a")),
    ]
