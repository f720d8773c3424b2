"""A table of trials in other people's formats."""

import io
from collections.abc import Callable

import pandas as pd

from data.spreadsheet import defused
from search.terminal_table import cells_of

TABLE = "table"  # for the screen


def safe_in_a_spreadsheet(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with an apostrophe before each text that a spreadsheet would compute; `read` takes it away."""
    safe = frame.copy()
    for name in safe.columns:
        if safe[name].dtype == "str":
            safe[name] = safe[name].map(defused)
    safe.columns = safe.columns.map(defused)
    return safe


def to_csv(frame: pd.DataFrame) -> bytes:
    """As in `leaderboard.csv`."""
    return safe_in_a_spreadsheet(frame).to_csv(index=False).encode()


def to_markdown(frame: pd.DataFrame) -> bytes:
    """A table of Markdown, the numbers rounded as on the screen."""
    cells = [[cell.replace("\\", "\\\\").replace("|", "\\|") for cell in row] for row in _rows(frame)]
    right = ["---:" if pd.api.types.is_numeric_dtype(frame[name]) else "---" for name in frame.columns]
    return "".join(f"| {' | '.join(row)} |\n" for row in [cells[0], right, *cells[1:]]).encode()


def to_latex(frame: pd.DataFrame) -> bytes:
    """A table of LaTeX (it wants the package booktabs), the numbers rounded as on the screen."""
    head, *rows = _rows(frame)
    kinds = "".join("r" if pd.api.types.is_numeric_dtype(frame[name]) else "l" for name in frame.columns)
    return pd.DataFrame(rows, columns=head).to_latex(index=False, escape=True, column_format=kinds).encode()


def to_json(frame: pd.DataFrame) -> bytes:
    """A list with an object for each row; null where a cell is empty."""
    return (frame.to_json(orient="records", indent=1, double_precision=15, force_ascii=False) + "\n").encode()


def to_parquet(frame: pd.DataFrame) -> bytes:
    """Apache Parquet, with the types of the columns."""
    file = io.BytesIO()
    frame.to_parquet(file, index=False)
    return file.getvalue()


# What `--format` may name: how a table is written, and whether it has the columns for a person's eyes or all of them.
WRITERS: dict[str, Callable[[pd.DataFrame], bytes]] = {
    "csv": to_csv,
    "markdown": to_markdown,
    "latex": to_latex,
    "json": to_json,
    "parquet": to_parquet,
}
FOR_EYES = ("markdown", "latex")
FORMATS = (TABLE, *WRITERS)


def _rows(frame: pd.DataFrame) -> list[list[str]]:
    """The names of the columns, and the cells of each row, as a person is shown them."""
    cells = [cells_of(frame[name]) for name in frame.columns]
    return [list(map(str, frame.columns)), *map(list, zip(*cells, strict=True))]
