"""A person's words on a space: what they mean, that what is written reads back the same, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings

from data.input_error import InputError
from search.domain import Choice, Condition, Domain, Range
from search.presets import DEFAULT, LARGE, SMALL
from search.space import Space, parse_space, space_texts
from search.space_text import FIELD_TYPES, read_words, write_words
from tests.search.commands import run_here
from tests.search.spaces import draw, spaces

FOCAL = Condition("loss", Choice(("focal",)))


@settings(deadline=None, max_examples=60)
@given(spaces())
def test_what_is_written_reads_back_the_same(space: Space) -> None:
    texts = space_texts(space)
    assert parse_space(texts) == space
    assert parse_space([",".join(texts)]) == space
    assert parse_space([texts[0], *reversed(texts[1:])]) == space
    assert list(parse_space(texts).domains) == [name for name in FIELD_TYPES if name in space.domains]
    assert space_texts(parse_space(texts)) == texts
    for name, domain in space.domains.items():
        condition = space.conditions.get(name)
        assert read_words(name, write_words(name, domain, condition)) == (domain, condition)


def test_a_space_in_words() -> None:
    assert space_texts(parse_space()) == (
        "only",
        "block=plain|residual",
        "depth=3:4",
        "width=8|16",
        "dropout=0.0:0.3",
        "loss=dice|weighted_ce|dice_ce|focal|tversky",
        "class_weight=none|square_root|median_frequency",
        "optimizer=adamw|adam",
        "learning_rate=0.0001:0.03:log",
        "weight_decay=1e-06:0.01:log",
        "batch_size=4|8|16",
        "crop_size=64|128|256",
        "rare_crops=0.0|0.5",
        "augmentation=0.2:1.0",
    )
    asked = ["only,edge_weight=0:5 if loss=weighted_ce,dice_ce", "depth=3 | 4 if learning_rate=1e-3:1e-2"]
    assert space_texts(parse_space([*asked, "weight_decay=0:1:linear", "deterministic=true if init_from="])) == (
        "only",
        "depth=3|4 if learning_rate=0.001:0.01",
        "edge_weight=0.0:5.0 if loss=weighted_ce|dice_ce",
        "weight_decay=0.0:1.0:linear",
        "deterministic=true if init_from=",
    )


def test_words_go_on_top_of_the_default() -> None:
    space = parse_space(["depth=3:5,width=8|16|32,learning_rate=1e-5:1e-2:log,loss=dice", "depth=2"])
    assert space.domains["depth"] == Choice((2,)), "a later text replaces an earlier one"
    assert space.domains["width"] == Choice((8, 16, 32))
    assert space.domains["learning_rate"] == Range(1e-5, 1e-2, log=True)
    assert space.domains["loss"] == Choice(("dice",))
    assert space.domains["batch_size"] == DEFAULT["batch_size"]


@pytest.mark.parametrize(
    ("texts", "domains"),
    [
        (["small"], SMALL),
        (["default"], DEFAULT),
        (["large"], LARGE),
        (["only"], {}),
        (["large,depth=4"], LARGE | {"depth": Choice((4,))}),
        (["large", "depth=4"], LARGE | {"depth": Choice((4,))}),
        ([" small , depth=4 "], SMALL | {"depth": Choice((4,))}),
        (["only", "depth=4"], {"depth": Choice((4,))}),
    ],
)
def test_words_go_on_top_of_a_preset(texts: list[str], domains: dict[str, Domain]) -> None:
    assert parse_space(texts) == Space(domains=domains)


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
        (["depth=4:4:log"], Choice((4,))),
        (["depth=3:5:log"], Range(3, 5, log=True)),
        (["loss=dice , depth=3:4"], Range(3, 4)),
    ],
)
def test_ways_to_say_it(given_as: Any, domain: Domain) -> None:
    assert parse_space(given_as).domains["depth"] == domain


@pytest.mark.parametrize(
    ("text", "domain", "condition"),
    [
        ("edge_weight=0:5 if loss=focal", Range(0.0, 5.0), FOCAL),
        ("edge_weight = 0:5  if  loss = focal ", Range(0.0, 5.0), FOCAL),
        ("edge_weight=2 if loss=focal", Choice((2.0,)), FOCAL),
        ("edge_weight=1,5 if loss=focal", Choice((1.0, 5.0)), FOCAL),
        ("edge_weight=1,5 if loss=focal,depth=3", Choice((1.0, 5.0)), FOCAL),
        ("edge_weight=1:5:log if loss=focal,depth=3", Range(1.0, 5.0, log=True), FOCAL),
        ("depth=3,edge_weight=1 if loss=focal,dice", Choice((1.0,)), Condition("loss", Choice(("focal", "dice")))),
        ("edge_weight=1 if loss=focal|dice", Choice((1.0,)), Condition("loss", Choice(("focal", "dice")))),
        ("edge_weight=1 if depth=3:5", Choice((1.0,)), Condition("depth", Range(3, 5))),
        ("edge_weight=1 if depth=5:5", Choice((1.0,)), Condition("depth", Choice((5,)))),
        ("edge_weight=1 if weight_decay=0:0.1", Choice((1.0,)), Condition("weight_decay", Range(0.0, 0.1))),
        ("edge_weight=1 if learning_rate=1e-3:1e-2", Choice((1.0,)), Condition("learning_rate", Range(1e-3, 1e-2))),
        ("edge_weight=1 if init_from=a:b|", Choice((1.0,)), Condition("init_from", Choice(("a:b", "")))),
        ("edge_weight=1 if deterministic=True", Choice((1.0,)), Condition("deterministic", Choice((True,)))),
    ],
)
def test_conditions(text: str, domain: Domain, condition: Condition) -> None:
    space = parse_space([text])
    assert (space.domains["edge_weight"], space.conditions) == (domain, {"edge_weight": condition})


def test_a_condition_in_a_mapping() -> None:
    space = parse_space({"edge_weight": "0:5 if loss=focal", "depth": [3, 4]})
    assert (space.domains["edge_weight"], space.conditions) == (Range(0.0, 5.0), {"edge_weight": FOCAL})


@pytest.mark.parametrize(
    ("name", "text", "options"),
    [
        ("deterministic", "true", (True,)),
        ("deterministic", "False|True", (False, True)),
        ("deterministic", [True], (True,)),
        ("init_from", " runs/a/best ", ("runs/a/best",)),
        ("init_from", "runs/a=b,C:models", ("runs/a=b", "C:models")),
        ("init_from", "C:models,runs/a=b", ("C:models", "runs/a=b")),
        ("init_from", "", ("",)),
        ("init_from", ["a:b"], ("a:b",)),
        ("init_from", "iffy/if", ("iffy/if",)),
    ],
)
def test_flags_and_texts_are_choices(name: str, text: Any, options: tuple[Any, ...]) -> None:
    assert parse_space({name: text}).domains[name] == Choice(options)
    if isinstance(text, str):
        assert parse_space([f"{name}={text}"]).domains[name] == Choice(options)


def test_a_range_is_drawn_as_that_of_the_presets_unless_it_says_how() -> None:
    assert parse_space(["learning_rate=1e-4:1e-2"]).domains["learning_rate"] == Range(1e-4, 1e-2, log=True)
    assert parse_space(["only,learning_rate=1e-4:1e-2"]).domains["learning_rate"] == Range(1e-4, 1e-2, log=True)
    assert parse_space(["learning_rate=1e-4:1e-2:linear"]).domains["learning_rate"] == Range(1e-4, 1e-2)
    assert parse_space(["width=8:64:log"]).domains["width"] == Range(8, 64, log=True)
    assert parse_space(["dropout=0:0.5"]).domains["dropout"] == Range(0.0, 0.5)


def test_whole_numbers_are_drawn_by_magnitude_with_both_ends() -> None:
    space = parse_space(["only,width=1:8:log"])
    drawn = [draw(space, seed)["width"] for seed in range(60)]
    assert set(drawn) >= {1, 2, 8}
    assert sum(width <= 2 for width in drawn) > 20, "evenly, it would be a quarter"


def test_pinned_values_give_way_to_words_but_not_to_presets() -> None:
    space = parse_space(["large,max_epochs=10:20"], pinned={"max_epochs": 60, "seed": 3, "width": 2})
    assert space.domains["max_epochs"] == Range(10, 20)
    assert space.domains["width"] == Choice((2,))
    assert draw(space)["seed"] == 3


def test_a_pinned_text_is_taken_as_it_is_and_a_pinned_tuple_is_searched() -> None:
    pinned = {"init_from": "my models/a,b=c|d", "transfer": ("none", "all")}
    space = parse_space(pinned=pinned)
    assert {draw(space, seed)["transfer"] for seed in range(10)} == {"none", "all"}
    assert draw(space)["init_from"] == pinned["init_from"]
    assert parse_space(["transfer=all"], pinned=pinned).domains["transfer"] == Choice(("all",))
    assert "transfer" in parse_space(["transfer=all if depth=4"], pinned=pinned).conditions


def test_a_pinned_value_has_no_condition() -> None:
    with pytest.raises(InputError) as refusal:
        parse_space(["width=8|16 if depth=4"], pinned={"width": 32})
    assert str(refusal.value) == (
        "width '8|16 if depth=4' cannot have a condition, for width is set to 32 elsewhere: leave out the one or the "
        "other."
    )


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
        (
            "edge_weight=0:5:log if loss=focal",
            "edge_weight '0:5:log' cannot be drawn by magnitude from 0.0: start above",
        ),
        ("depth=three", "depth 'three' cannot be read as a whole number"),
        ("dropout=some", "dropout 'some' cannot be read as a number"),
        ("deterministic=maybe", "deterministic 'maybe' cannot be read as true or false"),
        ("deterministic=true|True", "deterministic names True twice"),
        ("deterministic=0:1", "deterministic '0:1' is a range, but deterministic is no number"),
        ("depth=3.5", "depth '3.5' cannot be read as a whole number"),
        ("depth=", "depth '' cannot be read"),
        ("depth=3:", "depth '' cannot be read"),
        ("depth=3:4:5", "depth '3:4:5' cannot be read as a range: write depth=low:high or depth=low:high:log"),
        ("depth=3:4:log:log", "cannot be read as a range"),
        ("width=8|16|8", "width names 8 twice"),
        ("learning_rate=0.01|1e-2", "learning_rate names 0.01 twice"),
        ("loss=dise", "loss 'dise' is not known; .* Did you mean 'dice'"),
        ("loss=dice:focal", "loss 'dice:focal' is a range, but loss is no number"),
        ("init_from=a,b=c", "parameter 'b' is not known"),
        ("depth=3,learning-rate=1", "parameter 'learning-rate' is not known; .* Did you mean 'learning_rate'"),
        # Presets.
        (
            "depth",
            "space 'depth' cannot be read: write name=value, as in depth=3:5,loss=dice, or begin with one of small, d",
        ),
        ("", "space '' cannot be read"),
        ("huge", "space 'huge' cannot be read: .* begin with one of small, default, large, only"),
        ("huge,depth=3", "space 'huge' cannot be read"),
        ("smal", "space 'smal' is not known; .* Did you mean 'small'"),
        ("depth=3,large", "depth 'large' cannot be read as a whole number"),
        # Conditions.
        ("depth=3 if loss", r"depth '3 if loss' has a condition .* write depth=VALUES if PARAMETER=VALUES, as in "),
        ("depth=3 if loss=dice if width=8", "depth '3 if loss=dice if width=8' has a condition that cannot be read"),
        ("depth=3 if los=dice", "parameter 'los' is not known; .* Did you mean 'loss'"),
        ("depth=3 if loss=dise", "loss 'dise' is not known; .* Did you mean 'dice'"),
        ("depth=3 if loss=dice|dice", "loss names 'dice' twice"),
        ("depth=3 if width=0", "width 0 must be 1 or more"),
        ("depth=3 if width=9:8", "width '9:8' is turned round"),
        ("depth=3 if width=8:9:log", r"width '8:9:log' cannot be read as a range: write width=low:high\.$"),
        ("depth=3 if loss=", "loss '' is not known"),
        ("depth= if loss=dice", "depth '' cannot be read"),
        ("depth=3 if depth=3", "conditions go round in a circle: depth depends on depth; take one of them out"),
        (
            "depth=3 if width=8,width=8 if loss=dice,loss=dice if depth=3",
            "depth depends on width, which depends on loss, wh",
        ),
        (
            "loss=dice|focal if class_weight=none",
            "in a circle: loss depends on class_weight, which always depends on loss; take one of them out",
        ),
        ("width=8 if loss=dice,loss=dice if class_weight=none", "in a circle: loss depends on class_weight, which alw"),
        (
            "class_weight=none if width=8,width=8 if class_weight=none",
            "class_weight depends on width, which depends on c",
        ),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_space([text])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["depth=3", "large"], "space 'large' stands behind 'depth=3': name one preset, before all else"),
        (["small", "large"], "space 'large' stands behind 'small': name one preset, before all else"),
        (["small,depth=3", "small"], "space 'small' stands behind 'small'"),
    ],
)
def test_a_preset_comes_first_and_alone(texts: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_space(texts)


def test_a_text_that_could_not_be_written_down_is_refused() -> None:
    for text in ("a,b", "a|b", "a if b=c"):
        with pytest.raises(InputError, match="has a comma, a bar or an 'if' in it, which mean something else here"):
            parse_space({"init_from": [text]})


@pytest.mark.parametrize("value", [None, [], True, {"low": 3}, 3.5])
def test_refused_from_a_mapping(value: Any) -> None:
    with pytest.raises(InputError, match="depth"):
        parse_space({"depth": value})


@pytest.mark.parametrize(
    ("lines", "texts"),
    [
        ("space: small", ["small"]),
        (
            "space: [only, depth=3:4, edge_weight=0:5 if loss=focal]",
            ["only", "depth=3:4", "edge_weight=0:5 if loss=focal"],
        ),
        (
            "space:\n  depth: [3, 4]\n  edge_weight: 0:5 if loss=weighted_ce|dice_ce\n",
            ["depth=3,4", "edge_weight=0:5 if loss=weighted_ce|dice_ce"],
        ),
    ],
)
def test_the_same_words_in_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: str, texts: list[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(lines)
    assert run_here("--config", str(tmp_path / "mine.yaml"), "--print-config") == 0
    printed = yaml.safe_load(capsys.readouterr().out)["space"]
    assert printed == list(space_texts(parse_space(texts)))
    words = [word for text in texts for word in ("--space", text)]
    assert run_here(*words, "--print-config") == 0
    assert yaml.safe_load(capsys.readouterr().out)["space"] == printed


def test_the_command_refuses_what_contradicts_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_here("--space", "loss=dice,width=8|16 if loss=focal") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: width would never be searched, for loss is dice, and never focal: ")
