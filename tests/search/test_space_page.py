"""The page on the space, held against the tables: every range, condition and example on it is a true one."""

import re
from pathlib import Path

import pytest
import yaml

from model.config import TrainConfig
from search.contradictions import check_conditions
from search.domain import Domain, Range
from search.presets import DEFAULT, LARGE, ONLY_WHEN, SMALL, drawn_by_magnitude
from search.space import parse_space
from search.space_text import FIELD_TYPES

PAGE = (Path(__file__).parents[2] / "docs" / "space.md").read_text(encoding="utf-8")
ROWS = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| `")]
COLUMNS = {"ranges": 6, "conditions": 2}
WORDS = [
    *(quoted or bare for quoted, bare in re.findall(r"--space (?:'([^']+)'|([\w=.,|:]+))", PAGE)),
    *(words.replace(r"\|", "|") for words in re.findall(r"^\| `(\w+=.*?)`", PAGE, re.MULTILINE)),
]
FILES = re.findall(r"^    space:.*\n(?:      .*\n)*", PAGE, re.MULTILINE)


def rows(table: str) -> dict[str, list[str]]:
    """The cells behind each parameter in a table."""
    return {cells[0].strip("`"): cells[1:] for cells in ROWS if len(cells) == COLUMNS[table] and "=" not in cells[0]}


def test_every_parameter_of_the_presets_has_a_row_with_its_ranges() -> None:
    assert list(rows("ranges")) == [name for name in FIELD_TYPES if name in {*SMALL, *DEFAULT, *LARGE}]
    for name, (*ranges, elsewhere, why) in rows("ranges").items():
        assert ranges == [str(preset.get(name, "-")) for preset in (SMALL, DEFAULT, LARGE)], name
        assert elsewhere == str(getattr(TrainConfig(), name)), name
        assert why.endswith("."), name


def test_every_condition_is_there() -> None:
    assert rows("conditions") == {name: [str(condition)] for name, condition in ONLY_WHEN.items()}


def test_what_no_preset_searches_is_named() -> None:
    (paragraph,) = re.findall(r"No preset searches the rest; name them to do so: (.*?)\.\n\n", PAGE, re.DOTALL)
    assert re.findall(r"`(\w+)`", paragraph) == [name for name in FIELD_TYPES if name not in rows("ranges")]


@pytest.mark.parametrize("words", WORDS)
def test_every_example_is_understood(words: str) -> None:
    check_conditions(parse_space([words]))


def test_there_are_examples_of_both_kinds() -> None:
    assert len(WORDS) >= 12
    listed, mapped = (yaml.load(text, Loader=yaml.BaseLoader)["space"] for text in FILES)
    assert parse_space(listed).conditions == parse_space(mapped).conditions
    assert parse_space(listed).domains["width"] == LARGE["width"]


def test_a_preset_holds_what_smaller_ones_hold() -> None:
    for smaller, larger in ((SMALL, DEFAULT), (DEFAULT, LARGE)):
        assert set(smaller) <= set(larger)
        for name, domain in smaller.items():
            assert all(map(larger[name].holds, domain.ends)), name


def test_a_parameter_is_drawn_alike_in_all_presets() -> None:
    for preset in (SMALL, DEFAULT, LARGE):
        for name, domain in preset.items():
            assert isinstance(domain, Range) == isinstance(LARGE[name], Range) or name == "rare_crops"
            assert not isinstance(domain, Range) or domain.log == drawn_by_magnitude(name), name


def test_what_the_article_began_with_lies_in_the_default_space() -> None:
    article = {"optimizer": "adam", "learning_rate": 1e-4, "loss": "dice"}
    for name, value in [*article.items(), ("depth", 3), ("depth", 4)]:
        assert DEFAULT[name].holds(value), name


@pytest.mark.parametrize("preset", [SMALL, DEFAULT, LARGE])
def test_the_defaults_lie_in_every_preset(preset: dict[str, Domain]) -> None:
    assert all(domain.holds(getattr(TrainConfig(), name)) for name, domain in preset.items())
