"""What the trials of a search are judged by: the Dice on the validation images, and costs that are to be small."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data.input_error import InputError, unknown_name
from search.record import TrialRecord, finite

VAL_DICE = "val_dice"  # always the first: made large, and what trials are ranked by
LATENCY = "latency_ms"  # the only cost that is measured for its own sake
# The costs, made small: fields of a report and of a `TrialRecord` by that name, and how a person is told one.
COSTS = {
    "parameters": "{:,.0f} parameters",
    LATENCY: "{:.3g} ms a picture",
    "peak_memory_mb": "{:,.0f} MB",
    "gflops_per_megapixel": "{:.3g} GFLOP a megapixel",
}

Point = tuple[float, ...]  # a trial's val_dice, and its costs in the order of the objectives


def read_objectives(text: str) -> tuple[str, ...]:
    """The objectives that are meant by `val_dice` or `val_dice,latency_ms`, costs in the order of the table.

    Raises InputError for a name that is not known or stands there twice, and where val_dice is not the first.
    """
    first, *costs = (name.strip() for name in text.split(","))
    for name in (first, *costs):
        if name not in (VAL_DICE, *COSTS):
            raise unknown_name("objective", name, (VAL_DICE, *COSTS))
    if first != VAL_DICE:
        others = [name for name in (first, *costs) if name != VAL_DICE]
        raise InputError(f"objective {text!r} must begin with {VAL_DICE}: write {','.join([VAL_DICE, *others])}.")
    if len({first, *costs}) <= len(costs):
        raise InputError(f"objective {text!r} names one twice: name each once.")
    return VAL_DICE, *(name for name in COSTS if name in costs)


def numbers_of(source: Mapping[str, Any], names: Iterable[str]) -> Point | None:
    """The numbers of these names in a result, or in a record as a mapping; None where one is missing or no number."""
    numbers = [finite(source.get(name)) for name in names]
    known = tuple(number for number in numbers if number is not None)
    return known if len(known) == len(numbers) else None


def point_of(record: TrialRecord, objectives: Sequence[str]) -> Point | None:
    """Where a trial stands in the objectives; None where one is not known."""
    return numbers_of({**vars(record), VAL_DICE: record.val_dice}, objectives)


def costs_in_words(costs: Iterable[str], values: Iterable[float]) -> str:
    """Costs of these names, as a person is told them."""
    return ", ".join(COSTS[name].format(value) for name, value in zip(costs, values, strict=True))


def costs_of(record: TrialRecord, objectives: Sequence[str]) -> str:
    """The costs of a trial in words; empty where there are none among the objectives, or they are not known yet."""
    point = point_of(record, objectives)
    return "" if point is None else costs_in_words(objectives[1:], point[1:])
