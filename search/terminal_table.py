"""A table of trials on the screen: the columns that fit the window, the most telling first; plain lines in a pipe."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from data.printable import printable
from search.objectives import COSTS, LATENCY
from search.record import BAD_ENDINGS, is_metric, split_warnings, warning_name

if TYPE_CHECKING:
    from rich.console import Console

# fmt: off
# What a person is shown, as it is written there; the first ones are the last to go where the window is narrow.
SHOWN = {
    "run": "{}", "rank": "{:d}", "trial_id": "{}", "status": "{}", "val_dice": "{:.4f}", "pareto": "{}",
    "parameters": "{:,d}", "latency_ms": "{:.3g}", "peak_memory_mb": "{:.0f}", "gflops_per_megapixel": "{:.3g}",
    "folds": "{:d}", "epochs": "{:d}", "learning_rate": "{:.2g}", "loss": "{}", "depth": "{:d}", "width": "{:d}",
    "reason": "{}", "seconds": "{:.0f}", "val_iou": "{:.4f}", "batch_size": "{:d}", "warnings": "{}",
}
SHOWN_ORDER = (
    "run", "rank", "trial_id", "status", "val_dice", "pareto", "parameters", "latency_ms", "peak_memory_mb",
    "gflops_per_megapixel", "folds", "val_iou", "epochs", "seconds", "depth", "width", "learning_rate", "loss",
    "batch_size", "reason", "warnings",
)
# fmt: on
TEXTS = ("reason", "warnings")  # may be empty in every row, and then have no column
SHORTEST_TEXT = 24  # characters; such a text is cut to what the window leaves
BETWEEN_COLUMNS = 2  # characters
STYLES = {"running": "cyan", "stopped": "dim", **dict.fromkeys(BAD_ENDINGS, "red")}  # of a row, by its status


def render(frame: pd.DataFrame, console: "Console", *, top: int = 10, names: Sequence[str] | None = None) -> None:
    """Prints the first rows: in a terminal as a table of the columns that fit, otherwise as plain aligned lines.

    names: of the columns, in their order, of which those at the end are left out where the window is narrow; None for
    the most telling ones.
    """
    from rich.table import Table
    from rich.text import Text

    rows = frame.head(top)
    cells = _telling(rows) if names is None else {name: cells_of(rows[name]) for name in names}
    widths = {name: max(map(len, [name, *texts])) for name, texts in cells.items()}
    if console.is_terminal:
        shown = _fitting(widths, console.width, SHOWN if names is None else names)
        table = Table(box=None, padding=(0, BETWEEN_COLUMNS, 0, 0), pad_edge=False)
        for name, width in shown.items():
            number = pd.api.types.is_numeric_dtype(rows[name]) and rows[name].dtype != "boolean"
            table.add_column(name, justify="right" if number else "left", width=width, no_wrap=True)
        styles = [STYLES.get(status, "") for status in rows["status"]] if "status" in rows.columns else [""] * len(rows)
        for style, row in zip(styles, zip(*(cells[name] for name in shown), strict=True), strict=True):
            table.add_row(*map(Text, row), style=style)
        console.print(table)
        left_out = [name for name in names or () if name not in shown]
        if left_out:
            console.print(Text(f"the window is too narrow for {', '.join(left_out)}"), soft_wrap=True)
    else:
        for row in [tuple(cells), *zip(*cells.values(), strict=True)]:
            line = "  ".join(f"{text:{width}}" for text, width in zip(row, widths.values(), strict=True))
            console.print(Text(line.rstrip()), soft_wrap=True)
    if len(frame) > top:
        console.print(Text(f"... and {len(frame) - top} more"), soft_wrap=True)


def cells_of(column: "pd.Series[Any]") -> list[str]:
    """The values of a column as a person is shown them."""
    name = str(column.name)
    if name not in SHOWN:
        form = "{:.4f}" if is_metric(name) else "{:.4g}" if column.dtype == "float64" else "{}"
        return ["" if pd.isna(value) else printable(form.format(value)) for value in column]
    return [_cell(name, value) for value in column]


def _telling(rows: pd.DataFrame) -> dict[str, list[str]]:
    """The columns that say something of these rows."""
    cells = {name: cells_of(rows[name]) for name in SHOWN_ORDER if name in rows.columns}
    for name in TEXTS:
        if not any(cells.get(name, ())):
            cells.pop(name, None)
    if set(cells.get("folds", ())) <= {_cell("folds", 1)}:
        cells.pop("folds", None)  # there are none, or they all ended in the first
    if "pareto" not in rows.columns or rows["pareto"].isna().all():
        for name in ("pareto", *COSTS):
            cells.pop(name, None)  # val_dice is all that counts
    if not any(cells.get(LATENCY, ())):
        cells.pop(LATENCY, None)  # nobody asked for it
    return cells


def _fitting(widths: Mapping[str, int], window: int, order: Sequence[str] | Mapping[str, Any]) -> dict[str, int]:
    """The columns that fit into so many characters, in the order of the table, and the width of each."""
    fitting = {}
    left = window
    for name in order:
        if name in widths:
            shortest = min(widths[name], SHORTEST_TEXT) if name in TEXTS else widths[name]
            if shortest + BETWEEN_COLUMNS <= left:
                fitting[name] = shortest
                left -= shortest + BETWEEN_COLUMNS
    for name in TEXTS:
        if name in fitting:
            longer = min(widths[name] - fitting[name], left)
            fitting[name] += longer
            left -= longer
    return {name: fitting[name] for name in widths if name in fitting}


def _cell(name: str, value: Any) -> str:
    if name == "warnings":
        return ", ".join(map(warning_name, split_warnings(value)))  # the file has all their words
    if name == "pareto":
        return "" if pd.isna(value) or not value else "*"
    return "" if pd.isna(value) else printable(SHOWN[name].format(value))
