"""Which hyperparameters made the difference among the trials of a run, and how sure that is."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

from search.presets import drawn_by_magnitude
from search.report.chart import ACCENT, Chart, figure
from search.report.charts import some_of
from search.report.run_facts import RunFacts, Trial

if TYPE_CHECKING:
    import plotly.graph_objects as go

FEWEST = 8  # trials with a score, below which a share of the variance would be an accident
MOST = 1000  # trials that are drawn
MOST_WEIGHED = 300  # by which shares of the variance are told: three times as many take five times as long
MOST_BETWEEN = 150  # between which a contour is drawn: it has the square of that many values
RESAMPLES = 10  # of the trials, with replacement
TREES = 8  # of each resample's forest
SHOWN = 12  # hyperparameters
MOST_SLICES = 9
SLICE = "slice-"  # how the keys of slices begin


@dataclass(frozen=True, kw_only=True)
class Importance:
    """Of one hyperparameter: its share of the variance (0..1), and the 10th and 90th percentile over resamples."""

    name: str
    share: float
    low: float
    high: float


def study_of(trials: Sequence[Trial], searched: Sequence[str]) -> optuna.Study:
    """The trials as a study of Optuna's in memory, for what it draws and computes of finished trials.

    Each has a value of every searched hyperparameter, also of one that meant nothing to it. Its value is `val_dice`.
    """
    domains = {name: _domain(name, [trial.setting(name) for trial in trials]) for name in searched}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        create_trial(
            params={name: _plain(trial.setting(name), domains[name]) for name in searched},
            distributions=domains,
            value=trial.record.val_dice,
        )
        for trial in sorted(trials, key=lambda trial: (len(trial.record.trial_id), trial.record.trial_id))
    )
    return study


def importances(facts: RunFacts) -> list[Importance]:
    """The hyperparameters by their share of the variance of `val_dice` (fANOVA), the largest first.

    Hutter, Hoos and Leyton-Brown 2014 (ICML 32:754), over Optuna's forest of regression trees; the spread is that over
    bootstrap resamples of the trials. None where there are too few, or all have the same score.
    """
    trials = some_of(facts.scored, MOST_WEIGHED)
    searched = [name for name in facts.searched if len({str(trial.setting(name)) for trial in trials}) > 1]
    if len(trials) < FEWEST or not searched or len({trial.record.val_dice for trial in trials}) < 2:
        return []
    generator = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in searched}
    for resample in range(RESAMPLES):
        drawn = [trials[place] for place in generator.integers(len(trials), size=len(trials))]
        some = [name for name in searched if len({str(trial.setting(name)) for trial in drawn}) > 1]
        if len({trial.record.val_dice for trial in drawn}) < 2 or not some:
            continue
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=TREES, seed=resample)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shares = optuna.importance.get_param_importances(
                study_of(drawn, some), evaluator=evaluator, params=some, normalize=False
            )
        for name in searched:
            found[name].append(min(1.0, max(0.0, float(shares.get(name, 0.0)))))
    known = [
        Importance(
            name=name,
            share=float(np.mean(values)),
            low=float(np.percentile(values, 10)),
            high=float(np.percentile(values, 90)),
        )
        for name, values in found.items()
        if values and not math.isnan(np.mean(values))
    ]
    return sorted(known, key=lambda one: -one.share)


def importance_chart(facts: RunFacts, found: Sequence[Importance]) -> Chart | None:
    """The shares as bars, with their spread."""
    if not found:
        return None
    shown = found[:SHOWN]
    chart = figure("share of the variance of val_dice (%)", "")
    chart.add_bar(
        x=[100 * one.share for one in shown],
        y=[one.name for one in shown],
        orientation="h",
        marker_color=ACCENT,
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [100 * (one.high - one.share) for one in shown],
            "arrayminus": [100 * (one.share - one.low) for one in shown],
            "thickness": 1.5,
        },
        hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
    )
    chart.update_yaxes(autorange="reversed")
    first = shown[0]
    sure = len(shown) < 2 or first.low > shown[1].high
    title = f"{first.name} made the largest difference" if sure else "No hyperparameter stands out for sure"
    looked = min(MOST_WEIGHED, len(facts.scored))
    return Chart(
        key="importance",
        title=title,
        words=f"fANOVA over {looked} trials: how much of the spread of scores each hyperparameter explains by itself. "
        f"Lines reach from the 10th to the 90th percentile over {RESAMPLES} resamples of the trials: where they "
        "overlap, the order is an accident. Trials that were stopped early count with their best so far.",
        figure=chart,
        height=120 + 30 * len(shown),
    )


def optuna_charts(facts: RunFacts, found: Sequence[Importance]) -> list[Chart]:
    """Optuna's own plots of the most important hyperparameters: parallel coordinates, slices, a contour."""
    trials = some_of(facts.scored, MOST)
    names = [one.name for one in found[:SHOWN]] or facts.searched[:SHOWN]
    names = [name for name in names if len({str(trial.setting(name)) for trial in trials}) > 1]
    if len(trials) < 2 or not names:
        return []
    study, few = study_of(trials, names), study_of(some_of(trials, MOST_BETWEEN), names)
    left_out = f" {len(trials)} of {len(facts.scored)} trials." if len(trials) < len(facts.scored) else ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        charts = [
            Chart(
                key="parallel",
                title=f"Every trial as a line through its {min(len(names), 8)} most telling settings",
                words="The darker, the better. Drag along an axis to keep the lines that pass there." + left_out,
                figure=_bare(
                    optuna.visualization.plot_parallel_coordinate(study, params=names[:8], target_name="val_dice")
                ),
                height=440,
            ),
            *_slices(study, names[:MOST_SLICES], left_out),
        ]
        if len(names) > 1:
            charts.append(
                Chart(
                    key="contour",
                    title=f"The score over {names[0]} and {names[1]} together",
                    words="Between the points, which are trials, the shade is a guess." + left_out,
                    figure=_bare(optuna.visualization.plot_contour(few, params=names[:2], target_name="val_dice")),
                    height=440,
                )
            )
    return charts


def _slices(study: optuna.Study, names: Sequence[str], left_out: str) -> list[Chart]:
    """Optuna's slices, each by itself."""
    charts = []
    for name in names:
        chart = optuna.visualization.plot_slice(study, params=[name], target_name="val_dice")
        for trace in chart.data:
            trace.marker.showscale = False
            if any(isinstance(value, str) for value in trace.x):
                trace.x = [str(value).strip("'") for value in trace.x]
        chart.update_layout(margin={"l": 56, "r": 8, "t": 8, "b": 48}, title=None, width=None)
        charts.append(
            Chart(
                key=f"{SLICE}{name}",
                title=f"The score over {name}",
                words="Each point is a trial; the later it was tried, the darker." + left_out,
                figure=chart,
                height=260,
            )
        )
    return charts


def _bare(chart: "go.Figure") -> "go.Figure":
    """A figure of Optuna's without its title, which stands above it."""
    chart.update_layout(title=None, margin={"l": 70, "r": 40, "t": 60, "b": 60})
    return chart


def _domain(name: str, values: Sequence[Any]) -> BaseDistribution:
    if all(type(value) is int for value in values):
        return IntDistribution(min(values), max(values), log=drawn_by_magnitude(name) and min(values) > 0)
    if all(type(value) in (int, float) for value in values):
        low, high = float(min(values)), float(max(values))
        return FloatDistribution(low, high, log=drawn_by_magnitude(name) and low > 0)
    return CategoricalDistribution(sorted({str(value) for value in values}))


def _plain(value: Any, domain: BaseDistribution) -> Any:
    return str(value) if isinstance(domain, CategoricalDistribution) else value
