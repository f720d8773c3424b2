"""Puts a report together: facts, charts, table and pictures, in one file that asks no network for anything."""

import base64
import json
import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from data.printable import printable
from data.replacing import write_text
from model.config import TrainConfig
from search.leaderboard import CONFIG_TYPES, is_class_metric
from search.progress import in_words
from search.record import METRICS, split_warnings
from search.report.chart import STATUS_COLORS
from search.report.charts import CHARTS
from search.report.importance import SLICE, importance_chart, importances, optuna_charts
from search.report.run_facts import RunFacts
from search.report.sentences import advice, asked, found
from search.report.winner import legend, look_at_winner, rows_of_scores

# fmt: off
# The columns that are there at first; a click shows the others.
FIRST_COLUMNS = (
    "rank", "trial_id", "status", "val_dice", "pareto", "folds", "epochs", "seconds", "parameters", "latency_ms",
)
# fmt: on
EVENTS = 30  # lines of the log


def draw_page(facts: RunFacts) -> str:
    """The page of a run as it stands."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    winner = look_at_winner(facts)
    shares = importances(facts)
    charts = {chart.key: chart for build in CHARTS if (chart := build(facts)) is not None}
    important = importance_chart(facts, shares)
    more = [*([important] if important is not None else []), *optuna_charts(facts, shares), *winner.charts]
    charts |= {chart.key: chart for chart in more}
    table = table_of(facts.frame, facts.searched)
    environment = Environment(loader=PackageLoader("search.report", "."), autoescape=True, undefined=StrictUndefined)
    environment.filters["safe_text"] = printable
    return environment.get_template("page.html.j2").render(
        title=printable(Path(facts.place).name),
        place=printable(facts.place),
        made=f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
        sentences=[printable(text) for text in (asked(facts), found(facts), advice(facts))],
        numbers=headline(facts),
        style=_file("page.css"),
        script=_file("page.js"),
        plotly=get_plotlyjs() if charts else "",
        charts=charts,
        slices=[key for key in charts if key.startswith(SLICE)],
        plots=_embedded({key: chart.plot for key, chart in charts.items()}),
        table=_embedded(table),
        rows=len(facts.frame),
        winner=winner,
        scores=rows_of_scores(winner.scores),
        legend=legend(facts.class_names),
        gallery=[
            {
                "name": printable(shown.name),
                "what": shown.what,
                "dice": ", ".join(
                    f"{name} {value:.3f}" for name, value in shown.dice.items() if isinstance(value, int | float)
                ),
                "panels": {name: base64.b64encode(panel).decode() for name, panel in shown.panels.items()},
            }
            for shown in winner.gallery
        ],
        reasons=reasons_of(facts),
        warnings=[printable(warning) for warning in split_warnings(facts.best.warnings)] if facts.best else [],
        status_colors=STATUS_COLORS,
        finalists=None if facts.finalists is None else table_of(facts.finalists, ()),
        settings=facts.folder.settings.read_text(encoding="utf-8", errors="replace"),
        versions=facts.versions,
        events=[printable(line) for line in facts.events[-EVENTS:]],
    )


def write_page(path: Path, facts: RunFacts) -> None:
    """Writes the page, replaced as a whole."""
    write_text(path, draw_page(facts))


def headline(facts: RunFacts) -> list[tuple[str, str]]:
    """The numbers at the top of the page, and what each is."""
    best = facts.best
    numbers = [] if best is None else [(f"{best.val_dice:.4f}", f"val_dice of {best.trial_id}")]
    numbers += [
        (f"{len(facts.trials)}", "trials"),
        (f"{sum(trial.record.epochs for trial in facts.trials):,}", "epochs trained"),
        (in_words(sum(trial.record.seconds for trial in facts.trials)), "of training"),
        (f"{sum(trial.is_bad for trial in facts.trials)}", "ended badly"),
    ]
    return numbers


def reasons_of(facts: RunFacts) -> list[dict[str, Any]]:
    """Every way in which trials ended badly, with its reason and those that had it, the most frequent first."""
    counts = Counter((trial.record.status, trial.record.reason) for trial in facts.trials if trial.is_bad)
    return [
        {
            "status": status,
            "reason": printable(reason) or "no reason was given",
            "count": count,
            "trials": ", ".join(
                trial.record.trial_id
                for trial in facts.trials
                if (trial.record.status, trial.record.reason) == (status, reason)
            )[:400],
        }
        for (status, reason), count in counts.most_common()
    ]


def table_of(frame: pd.DataFrame, searched: Sequence[str]) -> dict[str, Any]:
    """A table for the page: its columns, those that are shown at first, its rows, and what is the same in all rows."""
    names = [str(name) for name in frame.columns]
    empty = [name for name in names if _cells(frame[name]) == [None] * len(frame)]
    always = ("rank", "trial_id", "status", "val_dice", "reason")
    same = {
        name: _shown(frame[name].iloc[0])
        for name in names
        if len(frame) > 1 and name not in (*always, *empty) and frame[name].nunique(dropna=False) == 1
    }
    kept = [name for name in names if name not in same and name not in empty]
    first = [name for name in (*FIRST_COLUMNS, *searched[:6], "reason") if name in kept]
    return {
        "columns": [
            {
                "name": name,
                "number": pd.api.types.is_numeric_dtype(frame[name]) and frame[name].dtype != "boolean",
                "score": name in METRICS or is_class_metric(name),
                "setting": name in CONFIG_TYPES,
                "meaning": _meaning(name),
            }
            for name in kept
        ],
        "first": list(dict.fromkeys(first)) if "trial_id" in names else kept,
        "rows": list(map(list, zip(*(_cells(frame[name]) for name in kept), strict=True))) if len(frame) else [],
        "same": same,
    }


def _meaning(name: str) -> str:
    declared = TrainConfig.__dataclass_fields__.get(name)
    return str(declared.metadata.get("meaning", "")) if declared is not None else ""


def _cells(column: "pd.Series[Any]") -> list[Any]:
    """The values of a column as JSON has them; None where a cell is empty."""
    if column.dtype == "float64":
        return [None if math.isnan(value) else float(f"{value:.6g}") for value in column]
    return [None if pd.isna(value) or value == "" else _plain(value) for value in column]


def _plain(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value.item() if hasattr(value, "item") else value


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def _embedded(value: Any) -> str:
    """The value as JSON inside a script element, which nothing in it can end."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _file(name: str) -> str:
    return (files("search.report") / name).read_text(encoding="utf-8")
