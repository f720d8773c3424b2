"""Conditions on the rows of a table: what they keep, and how mistakes in them are told."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.input_error import InputError
from search.leaderboard import to_frame
from search.row_filter import rows_where
from tests.search.test_leaderboard import RECORDS

FRAME = to_frame(RECORDS, ["optic disc"])


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("val_dice > 0.65", ["t0004", "t0001", "t0005", "t0000"]),
        ("not val_dice > 0.65", ["t0002"]),
        ("val_dice >= 0.7 and status == 'stopped'", ["t0004", "t0005"]),
        ("status == 'diverged' or 0.6 <= val_dice < 0.7", ["t0002", "t0003"]),
        ("status in ['failed', 'running']", ["t0002", "t0000"]),
        ("status not in ('failed', 'running') and rank < 3", ["t0004", "t0001"]),
        ("deterministic", ["t0005"]),
        ("deterministic == true and not pareto", []),
        ("deterministic == True", ["t0005"]),
        ("parameters > -1 and epochs == 3 and (rank == 1 or rank == 2.0)", ["t0004", "t0001"]),
        ("val_dice > val_iou or best_epoch != epochs", []),
        ("`val_dice_optic disc` >= 0 or trial_id == 't0006'", ["t0006"]),
        ('trial_id == "`t0006`"', []),
        ("reason == '=1+1 went wrong'", ["t0000"]),
    ],
)
def test_the_rows_that_are_kept(condition: str, kept: list[str]) -> None:
    assert list(rows_where(FRAME, condition)["trial_id"]) == kept


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("depht > 3", r"column 'depht' is not known; .* Did you mean 'depth'\?"),
        ("depth > 'a'", "compares what is not alike: depth is a number and 'a' is a text; texts stand in quotes"),
        ("`val_dice_optic disc` == 'a'", "val_dice_optic disc is a number"),
        ("loss == dice", "column 'dice' is not known"),
        ("pareto > 1", "pareto is true or false and 1 is a number"),
        *[
            (text, "cannot be read: write comparisons")
            for text in (
                *("", "depth", "1 == 1", "depth >", "depth = 3", "-loss == 'a'", "depth is 3", "status in 'abc'"),
                *("status in []", "depth > 3; rank", "f(depth)", "depth.real > 1", "[depth > 1]", "depth > 1j", "\0"),
                *("__import__('os').system('true') == 0", "(lambda: 0)() == 1", "depth[0] == 1", "(" * 300),
            )
        ],
        ("depth>1 and " * 300 + "depth>1", "characters long, of 2000 at most"),
    ],
)
def test_what_cannot_be_read_is_told(condition: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        rows_where(FRAME, condition)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(["depth", "loss", "'a'", "3", "==", ">", "and", "not", "in", "(", ")", ",", "-", "`"])))
def test_whatever_is_written_gives_rows_or_one_line(words: list[str]) -> None:
    try:
        kept = rows_where(FRAME, " ".join(words))
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert set(kept["trial_id"]) <= set(FRAME["trial_id"])


def test_a_table_without_rows() -> None:
    assert len(rows_where(FRAME.head(0), "depth > 3 and loss == 'dice'")) == 0
    assert isinstance(rows_where(FRAME.head(0), "pareto"), pd.DataFrame)
