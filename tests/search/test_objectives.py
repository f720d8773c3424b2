"""What trials are judged by: which names there are, and what is read of a result and of a record."""

import math
from dataclasses import asdict, fields

import pytest

from data.input_error import InputError
from search.objectives import COSTS, costs_in_words, costs_of, numbers_of, point_of, read_objectives
from search.record import LATEST, TrialRecord

RECORD = TrialRecord(
    trial_id="t0000", config={}, metrics={"val_dice": 0.8}, parameters=121177, latency_ms=12.34, peak_memory_mb=900.0
)


def test_costs_stand_in_the_order_of_the_table() -> None:
    assert read_objectives("val_dice") == ("val_dice",)
    asked = "val_dice, gflops_per_megapixel,latency_ms ,parameters"
    assert read_objectives(asked) == ("val_dice", "parameters", "latency_ms", "gflops_per_megapixel")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("val_dise", "objective 'val_dise' is not known; allowed: gflops_per_megapixel, latency_ms, parameters, "),
        ("val_dice,latency", "objective 'latency' is not known; .* Did you mean 'latency_ms'"),
        ("val_dice,", "objective '' is not known"),
        ("parameters,val_dice,latency_ms", r"must begin with val_dice: write val_dice,parameters,latency_ms\."),
        ("val_dice,parameters,parameters", "names one twice: name each once"),
        ("val_dice,val_dice", "names one twice: name each once"),
    ],
)
def test_what_is_no_objective_is_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_objectives(text)


def test_every_cost_comes_with_reports_and_is_kept_in_the_record() -> None:
    assert COSTS.keys() <= {declared.name for declared in fields(TrialRecord)}
    assert COSTS.keys() <= {*LATEST, "peak_memory_mb"}


def test_a_point_has_all_its_numbers_or_is_none() -> None:
    assert point_of(RECORD, ("val_dice", "parameters", "latency_ms")) == (0.8, 121177.0, 12.34)
    assert point_of(RECORD, ("val_dice", "gflops_per_megapixel")) is None
    assert point_of(TrialRecord(trial_id="t0000", config={}), ("val_dice",)) is None
    assert numbers_of(asdict(RECORD), ("latency_ms",)) == (12.34,)
    assert numbers_of({"latency_ms": math.nan}, ("latency_ms",)) is None
    assert numbers_of({}, ()) == ()


def test_costs_are_told_with_their_units() -> None:
    assert costs_in_words(COSTS, (121177, 12.34, 900.6, 0.5)) == (
        "121,177 parameters, 12.3 ms a picture, 901 MB, 0.5 GFLOP a megapixel"
    )
    assert costs_of(RECORD, ("val_dice", "parameters")) == "121,177 parameters"
    assert costs_of(RECORD, ("val_dice", "gflops_per_megapixel")) == costs_of(RECORD, ("val_dice",)) == ""
