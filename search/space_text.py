"""A person's words on a search space: how they are read, and how a parameter's values are written in the same words."""

import re
from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from data.input_error import InputError, unknown_name
from model.config import TrainConfig, check_name
from search.domain import Choice, Condition, Domain, Range
from search.presets import PRESETS, USUAL, drawn_by_magnitude

FIELD_TYPES: dict[str, Any] = {declared.name: declared.type for declared in fields(TrainConfig)}
CHOICES: dict[str, Any] = {declared.name: declared.metadata.get("choices") for declared in fields(TrainConfig)}
KINDS = {int: "a whole number", float: "a number", bool: "true or false"}
TRUTHS = {"true": True, "false": False}
NEXT_PARAMETER = r",(?=\s*[\w-]+\s*=)"  # other commas stand inside a value
BETWEEN_OPTIONS = r"[|,]"
IF = r"\sif\s"


def split_texts(texts: Iterable[str]) -> tuple[str, list[tuple[str, str]]]:
    """The preset that these texts begin with, or the usual one, and the names and values behind it."""
    preset, pairs = None, []
    for part in (part for text in texts for part in re.split(NEXT_PARAMETER, text)):
        name, equals, value = part.partition("=")
        if equals:
            pairs.append((name.strip(), value))
            continue
        word = part.strip()
        if word not in PRESETS and get_close_matches(word, PRESETS, n=1):
            raise unknown_name("space", word, PRESETS)
        if word not in PRESETS:
            raise InputError(
                f"space {word!r} cannot be read: write name=value, as in depth=3:5,loss=dice, or begin with one of "
                f"{', '.join(PRESETS)}."
            )
        if preset is not None or pairs:
            before = preset if preset is not None else "=".join(pairs[-1])
            raise InputError(f"space {word!r} stands behind {before!r}: name one preset, before all else.")
        preset = word
    return preset or USUAL, pairs


def read_words(name: str, value: Any) -> tuple[Domain, Condition | None]:
    """The domain that a value of a mapping, or a text, stands for, and the condition behind ` if `, where there is one.

    Raises InputError for what cannot be read, or holds a value that `TrainConfig` does not allow.
    """
    if not isinstance(value, str):
        return _read_domain(name, value), None
    words, *conditions = re.split(IF, value)
    domain = _read_domain(name, words)
    if not conditions:
        return domain, None
    parent, equals, wanted = conditions[0].partition("=")
    if len(conditions) > 1 or not equals:
        raise InputError(
            f"{name} {value!r} has a condition that cannot be read: write {name}=VALUES if PARAMETER=VALUES, "
            "as in edge_weight=0:5 if loss=weighted_ce|dice_ce."
        )
    check_name(parent.strip())
    return domain, Condition(parent.strip(), _read_domain(parent.strip(), wanted, drawn=False))


def write_words(name: str, domain: Domain, condition: Condition | None = None) -> str:
    """The text that `read_words` reads back to the same."""
    text = _ends_text(domain)
    if isinstance(domain, Range):
        text += ":log" if domain.log else ":linear" if drawn_by_magnitude(name) else ""
    return text if condition is None else f"{text} if {condition.parent}={_ends_text(condition.among)}"


def checked_value(name: str, value: Any) -> Any:
    """The value as `TrainConfig` takes it. Raises InputError for one that it does not allow."""
    return getattr(TrainConfig(**{name: value}), name)


def _read_domain(name: str, value: Any, *, drawn: bool = True) -> Domain:
    """The domain that a value of a mapping, or a text, stands for; of one that is not drawn, it does not matter how."""
    options = re.split(BETWEEN_OPTIONS, value) if isinstance(value, str) else value
    if not isinstance(options, list | tuple):
        return Choice((_read_value(name, options),))
    if len(options) == 1 and isinstance(options[0], str) and ":" in options[0] and not _is_free_text(name):
        return _read_range(name, options[0], drawn=drawn)
    if not options:
        raise InputError(f"{name} [] has no value to choose from: name one or more.")
    read = tuple(_read_value(name, option) for option in options)
    for option in read:
        if read.count(option) > 1:
            raise InputError(f"{name} names {option!r} twice: name each value once.")
    return Choice(read)


def _read_range(name: str, text: str, *, drawn: bool) -> Domain:
    """The range that `low:high` stands for, or, of one to be drawn from, `low:high:log` or `low:high:linear`."""
    form = f"write {name}=low:high" + f" or {name}=low:high:log" * drawn
    if FIELD_TYPES[name] not in (int, float):
        raise InputError(f"{name} {text!r} is a range, but {name} is no number: name its values, with | between them.")
    ends, scale = text.split(":")[:2], [part.strip() for part in text.split(":")[2:]]
    if scale and not (drawn and scale in (["log"], ["linear"])):
        raise InputError(f"{name} {text!r} cannot be read as a range: {form}.")
    low, high = (_read_value(name, end) for end in ends)
    if low > high:
        raise InputError(f"{name} {text!r} is turned round: {low} is more than {high}; write {name}={high}:{low}.")
    if low == high:
        return Choice((low,))
    log = scale == ["log"] if scale else drawn and drawn_by_magnitude(name)
    if log and low <= 0:
        raise InputError(f"{name} {text!r} cannot be drawn by magnitude from {low}: start above 0, or end in :linear.")
    return Range(low, high, log=log)


def _read_value(name: str, value: Any) -> Any:
    """One value of a parameter, read as its declared type and checked by `TrainConfig`."""
    if isinstance(value, str):
        kind = FIELD_TYPES[name]
        if _is_free_text(name) and re.search(f"{BETWEEN_OPTIONS}|{IF}", value):
            raise InputError(
                f"{name} {value!r} has a comma, a bar or an 'if' in it, which mean something else here: rename it."
            )
        try:
            value = TRUTHS[value.strip().lower()] if kind is bool else kind(value.strip())
        except (KeyError, ValueError):
            raise InputError(f"{name} {value!r} cannot be read as {KINDS[kind]}.") from None
    return checked_value(name, value)


def _is_free_text(name: str) -> bool:
    """Whether the parameter takes any text, such as the place of a file."""
    return FIELD_TYPES[name] is str and CHOICES[name] is None


def _ends_text(domain: Domain) -> str:
    """The values of the domain in a person's words, without how they are drawn."""
    if isinstance(domain, Range):
        return f"{domain.low}:{domain.high}"
    return "|".join(str(option).lower() if isinstance(option, bool) else str(option) for option in domain.options)
