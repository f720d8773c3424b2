"""Dataclasses from a stranger's mappings: names, types and what is missing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from data.input_error import InputError
from data.typed_record import build_record, read_values


@dataclass(frozen=True, kw_only=True)
class Inner:
    place: int


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    share: float = 0.5
    mode: Literal["one", "two"] = "one"
    sizes: tuple[int, ...] = ()
    scores: Mapping[str, float] | None = None
    inner: Inner | None = None
    on: bool = False
    anything: Any = None
    home: Annotated[Path | None, "where"] = None


def test_what_is_right_is_built_and_what_is_missing_is_at_its_default() -> None:
    values = {"name": "a", "share": 1, "mode": "two", "sizes": [1, 2], "scores": {"x": 2}, "home": "runs"}
    built = build_record(Outer, values | {"inner": {"place": 3}, "anything": [None]}, what="it")
    assert built == Outer(
        name="a",
        share=1.0,
        mode="two",
        sizes=(1, 2),
        scores={"x": 2.0},
        inner=Inner(place=3),
        anything=[None],
        home=Path("runs"),
    )
    assert type(built.share) is float
    assert read_values(Outer, {"share": 1}, what="it") == {"share": 1.0}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (None, "it: None is in place of names with a value each"),
        ([1], "it: a list is in place of names"),
        ({}, "it: name is missing"),
        ({"name": 3}, "it: name 3 must be a text"),
        ({"nam": "a"}, "it: entry 'nam' is not known; allowed: .*Did you mean 'name'"),
        ({3: "a"}, "it: entry '3' is not known"),
        ({"name": "a", "share": True}, "share True must be a finite number"),
        ({"name": "a", "share": float("nan")}, "share nan must be a finite number"),
        ({"name": "a", "share": 10**400}, r"share 1000+\.\.\. must be a finite number"),
        ({"name": "a", "share": "0.5"}, "share '0.5' must be a finite number"),
        ({"name": "a", "mode": "three"}, "mode 'three' must be one or two"),
        ({"name": "a", "mode": ["one"]}, "mode a list must be one or two"),
        ({"name": "a", "sizes": 3}, "sizes 3 must be a list"),
        ({"name": "a", "sizes": [1, True]}, "sizes True must be a whole number"),
        ({"name": "a", "scores": {"x": "y"}}, "scores a dict must be a finite number or nothing"),
        ({"name": "a", "inner": {"place": "x"}}, "inner: place 'x' must be a whole number"),
        ({"name": "a", "inner": {"plac": 1}}, "inner: entry 'plac' is not known"),
        ({"name": "a", "on": 1}, "on 1 must be true or false"),
        ({"name": "a", "home": 1}, "home 1 must be a path or nothing"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(values: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_record(Outer, values, what="it")
