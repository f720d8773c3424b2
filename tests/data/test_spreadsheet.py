"""Texts in CSV files are no formulas, and come back as they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.spreadsheet import FORMULA_STARTS, as_it_was, defused
from tests.toys import PROPERTY


@PROPERTY
@given(st.one_of(st.text(), st.builds(str.__add__, st.sampled_from(FORMULA_STARTS), st.text())))
def test_there_and_back(text: str) -> None:
    cell = defused(text)
    assert as_it_was(cell) == text
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "'=1"])
def test_what_a_spreadsheet_would_compute_begins_with_an_apostrophe(text: str) -> None:
    assert defused(text) == f"'{text}"
