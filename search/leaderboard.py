"""The leaderboard: a table with one row for every trial that was ever started, best first."""

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from data.command_line import run_command
from data.input_error import InputError
from data.replacing import replacing
from data.spreadsheet import as_it_was
from model.config import TrainConfig
from search.objectives import VAL_DICE
from search.pareto import on_front
from search.record import (
    BAD_ENDINGS,
    CLASS_METRIC,
    METRICS,
    STATUSES,
    TrialRecord,
    is_metric,
    records_from_study,
)
from search.run_folder import RunFolder
from search.table_formats import FORMATS, safe_in_a_spreadsheet

SCHEMA = 2  # of the table: 1 had no such column; a newer one is refused

# fmt: off
CONFIG_TYPES: dict[str, Any] = {declared.name: declared.type for declared in fields(TrainConfig)}
COLUMN_TYPES: dict[str, Any] = {
    "rank": int, "trial_id": str, "status": str, "reason": str, "warnings": str, "pareto": bool, "threshold": float,
    "folds": int, "best_epoch": int, "epochs": int, "seconds": float, "device": str, "images_per_second": float,
    "peak_memory_mb": float, "parameters": int, "gflops_per_megapixel": float, "latency_ms": float, "batch_parts": int,
    **CONFIG_TYPES, "checkpoint": str, "dataset": str, "version": str, "schema": int,
}
# fmt: on


def is_class_metric(column: str) -> bool:
    """Whether a column is the Dice of one class."""
    return column.startswith(CLASS_METRIC) and column not in METRICS


def columns(class_names: Sequence[str]) -> list[str]:
    """The names of the leaderboard's columns, in order, for data with these classes."""
    first = ("rank", "trial_id", "status", "reason", "warnings", "pareto")
    last = ("checkpoint", "dataset", "version", "schema")
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
        {**vars(record), **record.config, **record.metrics, "rank": rank, "schema": SCHEMA}
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
    with replacing(path) as waiting:
        safe_in_a_spreadsheet(frame).to_csv(waiting, index=False, encoding="utf-8")


def read(path: Path) -> pd.DataFrame:
    """The leaderboard that `write` wrote: all columns of `docs/leaderboard.md`, typed, then those of a person's own.

    path: of the file, or the run's folder. A table of an older version has empty cells in the columns that have come
    since. Raises InputError where there is none, or it is no leaderboard: a column that does not hold what it should,
    a trial without a name or named twice, a status that is not known, a schema newer than this version's.
    """
    path = RunFolder(path=path).leaderboard if path.is_dir() else path
    return read_table(path, COLUMN_TYPES, _complete)


def read_table(
    path: Path, types: Mapping[str, Any], check: Callable[[pd.DataFrame], pd.DataFrame] = lambda frame: frame
) -> pd.DataFrame:
    """A table of trials that `write` wrote, its columns typed again.

    types: of the columns by name, as for `typed`. check: gives the table as it is to be, or raises ValueError. Raises
    InputError where there is none, or it cannot be read.
    """
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        if "trial_id" not in frame.columns:
            raise ValueError("it has no column trial_id")
        frame.columns = frame.columns.map(as_it_was)
        return check(typed(frame.map(as_it_was), types))
    except FileNotFoundError:
        raise InputError(f"leaderboard {str(path)!r} does not exist: name the folder of a run.") from None
    except (OSError, ValueError, TypeError) as error:  # a TypeError of whole numbers that are too large
        raise InputError(f"leaderboard {str(path)!r} cannot be read ({error}): name the folder of a run.") from error


def _complete(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with all columns of this version. Raises ValueError for one that is no leaderboard."""
    schema = frame["schema"].max() if "schema" in frame.columns else pd.NA
    if not pd.isna(schema) and schema > SCHEMA:
        raise ValueError(f"its schema {schema} is newer than {SCHEMA}, which is what this version reads")
    if "status" in frame.columns:
        for status in frame["status"].unique():
            if status not in STATUSES:
                raise ValueError(f"status {status!r} is none of {', '.join(STATUSES)}")
    for trial_id, times in frame["trial_id"].value_counts().items():
        if not trial_id or times > 1:
            raise ValueError(f"{times} of its rows have the trial_id {trial_id!r}")
    classes = [name.removeprefix(CLASS_METRIC) for name in frame.columns if is_class_metric(name)]
    names = columns(classes)
    missing = [name for name in names if name not in frame.columns]
    own = [name for name in frame.columns if name not in names]
    return typed(frame.reindex(columns=[*names, *own]) if missing else frame[[*names, *own]])


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


def leaderboard(
    *runs: Annotated[str, "Folders of runs, such as runs/NAME, or their URLs."],
    top: Annotated[int | None, "How many rows, from the best; 10 on the screen, all in a file."] = None,
    sort: Annotated[str, "Column to sort by, as val_iou or seconds:down; scores fall, all else rises."] = "",
    where: Annotated[str, """Rows to show, as 'loss == "dice" and depth > 3'."""] = "",
    columns: Annotated[str, "Columns to show, with commas between them."] = "",
    per_class: Annotated[bool, "Show the Dice of each class."] = False,
    pareto: Annotated[
        bool, "Show the front of the objectives alone; of val_dice and parameters, where one was asked for."
    ] = False,
    compare: Annotated[bool, "Rank the trials of several runs together, if they can be compared."] = False,
    format: Annotated[str, f"What to print: {', '.join(FORMATS)}."] = "table",  # noqa: A002
    watch: Annotated[bool, "Show it anew every few seconds until Ctrl-C, while a search runs."] = False,
) -> None:
    """Shows the leaderboard of a run: its best trials, and the most telling columns.

    python -m search.leaderboard runs/NAME --where 'loss == "dice" and depth > 3' --sort val_iou
    python -m search.leaderboard runs/ONE runs/TWO --compare
    python -m search.leaderboard runs/NAME --format parquet > trials.parquet
    """
    from search.review import Review, review

    asked = Review(
        top=top,
        sort=sort,
        where=where,
        columns=columns,
        per_class=per_class,
        pareto=pareto,
        compare=compare,
        format=format,
        watch=watch,
    )
    review(runs, asked)


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
            frame[name] = frame[name].astype(object).fillna("").astype("str")
        elif kind is bool:
            frame[name] = frame[name].map(_as_bool).astype("boolean")
        else:
            numbers = pd.to_numeric(frame[name].replace("", None))
            frame[name] = numbers.astype("Int64") if kind is int else numbers.astype("float64")
    return frame


def _as_bool(value: Any) -> bool | None:
    """The cell of a bool column, as a value or as CSV has it; raises ValueError for any other text."""
    if pd.isna(value) or value == "":
        return None
    if str(value) not in ("True", "False"):
        raise ValueError(f"{value!r} is neither True nor False")
    return str(value) == "True"


if __name__ == "__main__":
    sys.exit(run_command(leaderboard))
