"""What a person looks at of a leaderboard: which rows and columns, in which order, of which runs, in which format."""

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from data.input_error import InputError, unknown_name
from search.comparison import RUN, Run, check_comparable, summary, together
from search.leaderboard import is_class_metric, read_run
from search.objectives import VAL_DICE
from search.pareto import fronts
from search.record import BAD_ENDINGS, is_metric
from search.row_filter import rows_where
from search.run_folder import fetch_to_read
from search.table_formats import FOR_EYES, FORMATS, TABLE, WRITERS
from search.terminal_table import SHOWN, render

if TYPE_CHECKING:
    from rich.console import Console

TOP = 10  # rows for a person's eyes
DIRECTIONS = {"up": True, "down": False}
SECONDS_BETWEEN_LOOKS = 5.0


@dataclass(frozen=True, kw_only=True)
class Review:
    """What was asked for; see `python -m search.leaderboard --help`."""

    top: int | None = None
    sort: str = ""
    where: str = ""
    columns: str = ""
    per_class: bool = False
    pareto: bool = False
    compare: bool = False
    format: str = TABLE
    watch: bool = False

    def __post_init__(self) -> None:
        if self.top is not None and self.top < 1:
            raise InputError(f"top {self.top} must be 1 or more: raise it.")
        if self.format not in FORMATS:
            raise unknown_name("format", self.format, FORMATS)
        if self.watch and self.format != TABLE:
            raise InputError(f"watch shows a table on the screen: leave --format {self.format} out, or --watch.")
        if self.columns and self.per_class:
            raise InputError(f"columns {self.columns!r} and per-class both say which columns: give one of them.")


def review(names: Sequence[str], asked: Review) -> None:
    """Prints what was asked for of the runs of these names: folders, or URLs."""
    from rich.console import Console

    if not names:
        raise InputError("no run is named: give one or more, as in python -m search.leaderboard runs/NAME.")
    for name in names:
        if list(names).count(name) > 1:
            raise InputError(f"run {name!r} is named twice: name each once.")
    console = Console()
    if not asked.watch:
        _print(_tables(names, asked), asked, console)
        return
    with suppress(KeyboardInterrupt):
        while True:
            tables = _tables(names, asked)
            console.clear()
            _print(tables, asked, console)
            time.sleep(SECONDS_BETWEEN_LOOKS)


def _tables(names: Sequence[str], asked: Review) -> list[tuple[str, pd.DataFrame]]:
    """A heading and a table for each run, or one of all where they are compared."""
    paths = [fetch_to_read(name, model=False) for name in names]
    runs = [Run(name=name, path=path, frame=read_run(path)) for name, path in zip(names, paths, strict=True)]
    if asked.compare:
        check_comparable(runs)
        return [("", together(runs))]
    return [(run.name if len(runs) > 1 else "", run.frame) for run in runs]


def _print(tables: Sequence[tuple[str, pd.DataFrame]], asked: Review, console: "Console") -> None:
    if asked.format != TABLE:
        _write(tables, asked)
        return
    from rich.text import Text

    for number, (heading, frame) in enumerate(tables):
        if heading:
            console.print(Text("\n" * bool(number) + heading, style="bold"), soft_wrap=True)
        rows, columns = select(frame, asked)
        if rows.empty:
            console.print(Text(f"none of {len(frame)} trials" if len(frame) else "no trial has begun"), soft_wrap=True)
        else:
            render(rows, console, top=asked.top or TOP, names=columns)
        if asked.compare:
            console.print()
            render(summary(frame), console, names=list(summary(frame).columns), top=len(tables) + len(frame))


def _write(tables: Sequence[tuple[str, pd.DataFrame]], asked: Review) -> None:
    """Writes one table to the standard output."""
    if len(tables) > 1:
        raise InputError(f"format {asked.format} holds one table: name one run, or add --compare.")
    if asked.format == "parquet" and sys.stdout.isatty():
        raise InputError("format parquet is no text: send it into a file, as in ... --format parquet > trials.parquet.")
    rows, columns = select(tables[0][1], asked)
    eyes = asked.format in FOR_EYES
    if columns is None and eyes:
        columns = [name for name in SHOWN if name in rows.columns and not _says_nothing(rows[name])]
    top = asked.top or (TOP if eyes else len(rows))
    sys.stdout.buffer.write(WRITERS[asked.format](rows.head(top) if columns is None else rows.head(top)[columns]))
    sys.stdout.flush()


def select(frame: pd.DataFrame, asked: Review) -> tuple[pd.DataFrame, list[str] | None]:
    """The rows that are asked for, in their order, and the names of the columns; None for the most telling ones.

    Raises InputError for a column that is not there, and a condition that cannot be read.
    """
    columns = _columns(frame, asked)
    if asked.pareto:
        frame = _front(frame)
    if asked.where:
        frame = rows_where(frame, asked.where)
    if asked.sort:
        name, colon, direction = asked.sort.partition(":")
        if name not in frame.columns:
            raise unknown_name("sort: column", name, frame.columns)
        if colon and direction not in DIRECTIONS:
            raise unknown_name(f"sort {asked.sort!r}: direction", direction, DIRECTIONS)
        rises = DIRECTIONS[direction] if colon else not is_metric(name)
        frame = frame.sort_values(name, ascending=rises, kind="stable", na_position="last")
    return frame, columns


def _columns(frame: pd.DataFrame, asked: Review) -> list[str] | None:
    first = [name for name in (RUN, "rank", "trial_id", "status", VAL_DICE) if name in frame.columns]
    if asked.per_class:
        classes = [name for name in frame.columns if is_class_metric(name)]
        if not classes:
            raise InputError("per-class: no trial has a score of a class yet; leave --per-class out.")
        return [*first, *classes]
    names = [name.strip() for name in asked.columns.split(",") if name.strip()]
    for name in names:
        if name not in frame.columns:
            raise unknown_name("columns: column", name, frame.columns)
        if names.count(name) > 1:
            raise InputError(f"columns {asked.columns!r} names {name!r} twice: name each once.")
    return names or None


def _front(frame: pd.DataFrame) -> pd.DataFrame:
    """The trials on the front of the run's objectives; where it had one, on that of `val_dice` and `parameters`."""
    if frame["pareto"].notna().any() and RUN not in frame.columns:
        return frame[frame["pareto"].fillna(False).astype(bool)]
    judged = frame[frame[[VAL_DICE, "parameters"]].notna().all(axis=1) & ~frame["status"].isin(BAD_ENDINGS)]
    points = tuple(
        (float(dice), float(cost)) for dice, cost in zip(judged[VAL_DICE], judged["parameters"], strict=True)
    )
    return judged[[front == 0 for front in fronts(points)]]


def _says_nothing(column: "pd.Series[Any]") -> bool:
    """Whether a column is empty in every row."""
    return bool((column.isna() | (column.astype("str") == "")).all())
