"""The leaderboard: a table with one row for every trial that was ever started, best first."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd

from data.command_line import run_command
from data.input_error import InputError
from data.printable import printable
from data.replacing import replacing
from data.spreadsheet import as_it_was, defused
from model.config import TrainConfig
from search.objectives import COSTS, LATENCY, VAL_DICE
from search.pareto import on_front
from search.record import (
    BAD_ENDINGS,
    CLASS_METRIC,
    METRICS,
    TrialRecord,
    is_metric,
    records_from_study,
    split_warnings,
    warning_name,
)
from search.run_folder import RunFolder, fetch_to_read

if TYPE_CHECKING:
    from rich.console import Console

# fmt: off
CONFIG_TYPES: dict[str, Any] = {declared.name: declared.type for declared in fields(TrainConfig)}
COLUMN_TYPES: dict[str, Any] = {
    "rank": int, "trial_id": str, "status": str, "reason": str, "warnings": str, "pareto": bool, "threshold": float,
    "folds": int, "best_epoch": int, "epochs": int, "seconds": float, "device": str, "images_per_second": float,
    "peak_memory_mb": float, "parameters": int, "gflops_per_megapixel": float, "latency_ms": float, "batch_parts": int,
    **CONFIG_TYPES, "checkpoint": str, "dataset": str, "version": str,
}
# What a person is shown, as it is written there; the first ones are the last to go where the window is narrow.
SHOWN = {
    "rank": "{:d}", "trial_id": "{}", "status": "{}", "val_dice": "{:.4f}", "pareto": "{}", "parameters": "{:,d}",
    "latency_ms": "{:.3g}", "peak_memory_mb": "{:.0f}", "gflops_per_megapixel": "{:.3g}", "folds": "{:d}",
    "epochs": "{:d}", "learning_rate": "{:.2g}", "loss": "{}", "depth": "{:d}", "width": "{:d}", "reason": "{}",
    "seconds": "{:.0f}", "val_iou": "{:.4f}", "batch_size": "{:d}", "warnings": "{}",
}
SHOWN_ORDER = (
    "rank", "trial_id", "status", "val_dice", "pareto", "parameters", "latency_ms", "peak_memory_mb",
    "gflops_per_megapixel", "folds", "val_iou", "epochs", "seconds", "depth", "width", "learning_rate", "loss",
    "batch_size", "reason", "warnings",
)
# fmt: on
TEXTS = ("reason", "warnings")  # may be empty in every row, and then have no column
SHORTEST_TEXT = 24  # characters; such a text is cut to what the window leaves
BETWEEN_COLUMNS = 2  # characters


def columns(class_names: Sequence[str]) -> list[str]:
    """The names of the leaderboard's columns, in order, for data with these classes."""
    first, last = ("rank", "trial_id", "status", "reason", "warnings", "pareto"), ("checkpoint", "dataset", "version")
    cost = [name for name in COLUMN_TYPES if name not in (*first, *CONFIG_TYPES, *last)]
    classes = [f"{CLASS_METRIC}{name}" for name in class_names]
    return list(dict.fromkeys([*first, *METRICS, *classes, *cost, *CONFIG_TYPES, *last]))


def to_frame(
    records: Iterable[TrialRecord], class_names: Sequence[str], objectives: Sequence[str] = (VAL_DICE,)
) -> pd.DataFrame:
    """The leaderboard, best first; trials that ended badly come last.

    A trial stands by its best `val_dice` so far; a mean over more folds stands above any over fewer. Where there are
    several objectives, `pareto` says which trials are on their front.
    """
    names, ordered = columns(class_names), sorted(records, key=_order)
    rows = [
        {**vars(record), **record.config, **record.metrics, "rank": rank}
        for rank, record in enumerate(ordered, start=1)
    ]
    if len(objectives) > 1:
        best = {record.trial_id for record in on_front(ordered, objectives)}
        rows = [{**row, "pareto": row["trial_id"] in best} for row in rows]
    return typed(pd.DataFrame([[row.get(name) for name in names] for row in rows], columns=names, dtype=object))


def class_names_of(records: Iterable[TrialRecord]) -> list[str]:
    """The names of the classes that the trials were measured on, in the order of the data's."""
    measured = {name: None for record in records for name in record.metrics if name not in METRICS}
    return [name.removeprefix(CLASS_METRIC) for name in measured]


def write(path: Path, frame: pd.DataFrame) -> None:
    """Writes the table as CSV, replaced as a whole, with no cell that a spreadsheet would take for a formula."""
    safe = frame.copy()
    for name in safe.columns:
        if safe[name].dtype == "str":
            safe[name] = safe[name].map(defused)
    safe.columns = safe.columns.map(defused)
    with replacing(path) as waiting:
        safe.to_csv(waiting, index=False, encoding="utf-8")


def read(path: Path, types: Mapping[str, Any] = COLUMN_TYPES) -> pd.DataFrame:
    """The table that `write` wrote, its columns typed again.

    path: of the file, or the run's folder. types: of the columns by name, as for `typed`.
    Raises InputError where there is none.
    """
    path = RunFolder(path=path).leaderboard if path.is_dir() else path
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        if "trial_id" not in frame.columns:
            raise ValueError("it has no column trial_id")
        frame.columns = frame.columns.map(as_it_was)
        return typed(frame.map(as_it_was), types)
    except FileNotFoundError:
        raise InputError(f"leaderboard {str(path)!r} does not exist: name the folder of a run.") from None
    except (OSError, ValueError, TypeError) as error:  # a TypeError of whole numbers that are too large
        raise InputError(f"leaderboard {str(path)!r} cannot be read ({error}): name the folder of a run.") from error


def read_run(run: Path) -> pd.DataFrame:
    """The leaderboard of a run's folder, made again from its study where the file is gone.

    Raises InputError where there is neither.
    """
    folder = RunFolder(path=run)
    if folder.leaderboard.is_file():
        return read(folder.leaderboard)
    if folder.journal.is_file():
        from search.study import objectives_of, read_study

        study = read_study(folder.journal)
        records = records_from_study(study)
        return to_frame(records, class_names_of(records), objectives_of(study))
    there = "holds no search" if run.is_dir() else "does not exist"
    raise InputError(f"run {str(run)!r} {there}: name the folder of a run, such as runs/NAME.")


def render(frame: pd.DataFrame, console: "Console", *, top: int = 10) -> None:
    """Prints the first rows: in a terminal as a table of the columns that fit, otherwise as plain aligned lines."""
    from rich.table import Table
    from rich.text import Text

    rows = frame.head(top)
    cells = {name: [_cell(name, value) for value in rows[name]] for name in SHOWN_ORDER if name in rows.columns}
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
    widths = {name: max(map(len, [name, *texts])) for name, texts in cells.items()}
    if console.is_terminal:
        shown = _fitting(widths, console.width)
        table = Table(box=None, padding=(0, BETWEEN_COLUMNS, 0, 0), pad_edge=False)
        for name, width in shown.items():
            justify: Any = "left" if COLUMN_TYPES.get(name) is str else "right"
            table.add_column(name, justify=justify, width=width, no_wrap=True)
        for row in zip(*(cells[name] for name in shown), strict=True):
            table.add_row(*map(Text, row))
        console.print(table)
    else:
        for row in [tuple(cells), *zip(*cells.values(), strict=True)]:
            line = "  ".join(f"{text:{width}}" for text, width in zip(row, widths.values(), strict=True))
            console.print(Text(line.rstrip()), soft_wrap=True)
    if len(frame) > top:
        console.print(Text(f"... and {len(frame) - top} more"), soft_wrap=True)


def show(
    run: Annotated[str, "the folder of a run, such as runs/NAME, or its URL"],
    /,
    *,
    top: Annotated[int, "how many rows, from the best"] = 10,
) -> None:
    """Shows the leaderboard of a run: its best trials, and the most telling columns; the CSV file has them all."""
    from rich.console import Console

    if top < 1:
        raise InputError(f"top {top} must be 1 or more: raise it.")
    render(read_run(fetch_to_read(run)), Console(), top=top)


def _order(record: TrialRecord) -> tuple[bool, int, float, str]:
    """Where a record stands in the table: the smaller, the higher."""
    val_dice = math.inf if record.val_dice is None else -record.val_dice
    return record.status in BAD_ENDINGS, -record.folds, val_dice, record.trial_id


def typed(frame: pd.DataFrame, types: Mapping[str, Any] = COLUMN_TYPES) -> pd.DataFrame:
    """The table with each column as its type: missing numbers are NA, missing texts are empty.

    types: of the columns by name; others are metrics, or text.
    """
    for name in frame.columns:
        kind = types.get(name, float if is_metric(name) else str)
        if kind is str:
            frame[name] = frame[name].fillna("").astype("str")
        elif kind is bool:
            frame[name] = frame[name].map(_as_bool).astype("boolean")
        else:
            numbers = pd.to_numeric(frame[name].replace("", None))
            frame[name] = numbers.astype("Int64") if kind is int else numbers.astype("float64")
    return frame


def _fitting(widths: dict[str, int], window: int) -> dict[str, int]:
    """The columns that fit into so many characters, in the order of the table, and the width of each."""
    fitting = {}
    left = window
    for name in SHOWN:
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


def _as_bool(value: Any) -> bool | None:
    """The cell of a bool column, as a value or as CSV has it; raises ValueError for any other text."""
    if value is None or value is pd.NA or value == "":
        return None
    if str(value) not in ("True", "False"):
        raise ValueError(f"{value!r} is neither True nor False")
    return str(value) == "True"


if __name__ == "__main__":
    sys.exit(run_command(show))
