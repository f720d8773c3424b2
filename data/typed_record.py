"""Builds a frozen dataclass from a mapping of a stranger's: every name and type is checked, and told in plain words."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from data.input_error import InputError, unknown_name

Record = TypeVar("Record")

_WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    Path: "a path",
    NoneType: "nothing",
}
_SHOWN = 60  # signs of a wrong value


class _Mismatch(ValueError):
    """What a value, or one inside it, should have been, in words."""

    def __init__(self, value: Any, words: str) -> None:
        super().__init__(words)
        self.value = value


def build_record(kind: type[Record], values: Any, *, what: str) -> Record:
    """The dataclass `kind` with these values, whose types are the annotated ones.

    An int is widened where a float is declared, a list becomes a tuple, a mapping the dataclass that is declared there.
    what: whose values they are, for messages. Raises InputError for anything that is no mapping, a name that is no
    field, a field without value or default, a value of another type, and a number that is not finite; and what the
    dataclass itself raises.
    """
    try:
        built: Record = _build(kind, values)
        return built
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def read_values(kind: Any, values: Any, *, what: str) -> dict[str, Any]:
    """The values by name, each of the type that `kind` has annotated; some may be missing. Raises InputError."""
    try:
        return _read_values(kind, values)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error


def _build(kind: Any, values: Any) -> Any:
    read = _read_values(kind, values)
    missing = [name for name in _needed(kind) if name not in read]
    if missing:
        raise InputError(f"{missing[0]} is missing: take it as it was written.")
    return kind(**read)


def _read_values(kind: Any, values: Any) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise InputError(f"{_shown(values)} is in place of names with a value each: take it as it was written.")
    readers = _readers(kind)
    for name in values:
        if name not in readers:
            raise unknown_name("entry", name, readers)
    read = {}
    for name, value in values.items():
        try:
            read[name] = readers[name](value)
        except _Mismatch as mismatch:
            raise InputError(
                f"{name} {_shown(mismatch.value)} must be {mismatch}: take it as it was written."
            ) from None
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    return read


@cache
def _readers(kind: Any) -> dict[str, Callable[[Any], Any]]:
    """For each field, what reads its value or raises _Mismatch."""
    hints = get_type_hints(kind)
    return {declared.name: _reader_of(hints[declared.name]) for declared in dataclasses.fields(kind) if declared.init}


@cache
def _needed(kind: Any) -> tuple[str, ...]:
    """The fields without a default."""
    missing = dataclasses.MISSING
    declared = dataclasses.fields(kind)
    return tuple(one.name for one in declared if one.default is missing and one.default_factory is missing)


def _reader_of(hint: Any) -> Callable[[Any], Any]:
    """What reads a value of an annotated type."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: value
    if origin in (Union, UnionType):
        return _one_of([_reader_of(one) for one in inner])
    if origin is Literal:
        return lambda value: _require(value, type(value) is str and value in inner, " or ".join(map(str, inner)))
    if origin is tuple:
        of_each = _reader_of(inner[0])
        return lambda value: tuple(map(of_each, _require(value, isinstance(value, list | tuple), "a list")))
    if origin is not None and issubclass(origin, Mapping):
        of_name, of_value = map(_reader_of, inner)
        return lambda value: {
            of_name(name): of_value(one)
            for name, one in _require(value, isinstance(value, Mapping), "names with values").items()
        }
    if dataclasses.is_dataclass(hint):
        return lambda value: _build(hint, value)
    assert hint in _WORDS, f"no reader for {hint}"
    return _READERS[hint]


def _one_of(readers: list[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        words = []
        for one in readers:
            try:
                return one(value)
            except _Mismatch as mismatch:
                words.append(str(mismatch))
        raise _Mismatch(value, " or ".join(words))

    return read


def _require(value: Any, holds: bool, words: str) -> Any:
    if not holds:
        raise _Mismatch(value, words)
    return value


def _read_float(value: Any) -> float:
    try:
        # An int may be larger than any float.
        number = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:
        number = math.nan
    _require(value, math.isfinite(number), _WORDS[float])
    return number


_READERS: dict[Any, Callable[[Any], Any]] = {
    str: lambda value: _require(value, type(value) is str, _WORDS[str]),
    int: lambda value: _require(value, type(value) is int, _WORDS[int]),
    bool: lambda value: _require(value, type(value) is bool, _WORDS[bool]),
    NoneType: lambda value: _require(value, value is None, _WORDS[NoneType]),
    Path: lambda value: Path(_require(value, isinstance(value, str | Path), _WORDS[Path])),
    float: _read_float,
}


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool | None) else f"a {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
