"""Whether what is asked of a search contradicts itself: conditions that are never met, settings that do nothing."""

from collections.abc import Iterator
from dataclasses import asdict

from data.input_error import InputError
from model.config import TrainConfig
from search.domain import Choice, Condition, Range
from search.presets import ONLY_WHEN
from search.settings import SearchSettings
from search.space import Space
from search.space_text import write_words

SAID_IN_BOTH = ("max_epochs", "init_from", "deterministic")  # hyperparameters that have an option of their own


def check_conditions(space: Space) -> None:
    """Raises InputError for a parameter whose condition no training of the space can meet."""
    for name, condition in space.conditions.items():
        if not any(name in chosen for chosen in space.combinations([name])):
            reason = _why_the_value_is_missing(space, condition) or _why_not_at_once(name, condition)
            raise InputError(f"{name} would never be searched, for {reason}, or leave {name} out.")


def check_settings(settings: SearchSettings, space: Space) -> None:
    """Raises InputError for a hyperparameter's own option where the space has other values for it, which would win."""
    usual = SearchSettings()
    for name in SAID_IN_BOTH:
        value, domain = getattr(settings, name), space.domains.get(name)
        if value != getattr(usual, name) and domain is not None and domain.ends != (value,):
            raise InputError(
                f"{name} {value!r} would do nothing, for the space has {name}={write_words(name, domain)}: "
                f"leave --{name.replace('_', '-')} or the space's {name} out."
            )


def _why_the_value_is_missing(space: Space, condition: Condition) -> str:
    """That the parameter on which the condition waits has no such value, if so; and what to do."""
    parent, defaults = condition.parent, asdict(TrainConfig())
    if any(condition.holds(defaults | chosen) for chosen in space.combinations([parent])):
        return ""
    domain = space.domains.get(parent, Choice((defaults[parent],)))
    seldom = isinstance(domain, Range) and isinstance(condition.among, Choice)
    if seldom and any(map(domain.holds, condition.among.ends)):
        return f"{parent} is {domain}, and hardly ever exactly {condition.among}: wait for a range, {parent}=low:high"
    elsewhere = f", or {defaults[parent]} elsewhere" if parent in space.conditions else ""
    return f"{parent} is {domain}{elsewhere}, and never {condition.among}: let {parent} have such a value"


def _why_not_at_once(name: str, condition: Condition) -> str:
    """That all that the parameter needs is never so at once; and what to do."""
    needed = dict.fromkeys([condition, *_always_needed(name), *_always_needed(condition.parent)])
    return f"it is never so that {' and '.join(map(str, needed))}: loosen one of these"


def _always_needed(name: str) -> Iterator[Condition]:
    """What must be so for the parameter to mean something."""
    while name in ONLY_WHEN:
        yield ONLY_WHEN[name]
        name = ONLY_WHEN[name].parent
