"""Search spaces of all kinds, for properties that must hold in each of them."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import optuna
from hypothesis import strategies as st

from model.config import TrainConfig
from search.domain import Choice, Condition, Domain, Range
from search.space import Space, find_circle, suggest
from search.space_text import FIELD_TYPES

CHOICES = {
    declared.name: declared.metadata["choices"] for declared in fields(TrainConfig) if "choices" in declared.metadata
} | {
    "deterministic": (False, True),
    "compiled": (False, True),
    "init_from": ("", "imagenet", "runs/a=b/best", "c:models/if ten per cent"),
}
NUMBERS = {  # values that TrainConfig allows
    declared.name: (declared.metadata.get("low", 1e-8), declared.metadata["high"])
    for declared in fields(TrainConfig)
    if declared.name not in CHOICES and declared.name != "seed"
} | {"seed": (0, 2**31 - 1)}
NAMES = st.sampled_from(sorted(FIELD_TYPES))


def draw(space: Space, seed: int = 0) -> dict[str, Any]:
    """Values for one training, drawn at random."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return suggest(space, study.ask())


@st.composite
def domains(draw_value: Any, name: str) -> Domain:
    """Anything that a parameter may be."""
    if name in CHOICES:
        return Choice(tuple(draw_value(st.lists(st.sampled_from(CHOICES[name]), min_size=1, unique=True))))
    low, high = NUMBERS[name]
    kind = st.integers if FIELD_TYPES[name] is int else st.floats
    numbers = sorted(draw_value(st.lists(kind(low, high), min_size=1, max_size=4, unique=True)))
    if draw_value(st.booleans()) and len(numbers) > 1:
        return Range(numbers[0], numbers[-1], log=numbers[0] > 0 and draw_value(st.booleans()))
    return Choice(tuple(numbers))


@st.composite
def spaces(draw_value: Any) -> Space:
    """Any space, some of whose parameters have conditions."""
    searched = draw_value(st.sets(NAMES, max_size=12))
    conditions: dict[str, Condition] = {}
    for name in draw_value(st.lists(st.sampled_from(sorted(searched)), max_size=4)) if searched else []:
        parent = draw_value(NAMES)
        among = draw_value(domains(parent))
        if isinstance(among, Range):
            among = Range(among.low, among.high)
        asked: Mapping[str, Condition] = conditions | {name: Condition(parent, among)}
        if not find_circle(asked):
            conditions = dict(asked)
    return Space(
        domains={name: draw_value(domains(name)) for name in FIELD_TYPES if name in searched}, conditions=conditions
    )
