"""Draws how far searches are from the best there is, after how many epochs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from .replay import Trace
from .table import Floats

POINTS = 150  # of each line
RESAMPLES = 1000
FIRST_COLOUR = "#c1272d"
OTHER_COLOURS = ("#0b6fa4", "#6b6b6b", "#e08e0b", "#3a8f4e", "#8a5fbf", "#7a4b2a", "#12a5a5", "#b0468f")


def draw_regret(
    file: Path, title: str, traces: Mapping[str, Sequence[Trace]], *, best: float, near: float, most_epochs: int
) -> None:
    """A PNG with a line for each system: the median over its searches, in a band that holds it with 95 %.

    best: the highest Dice in the table. near: how close to it searches were ended; the lines go no further down.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    epochs = np.unique(np.geomspace(1, most_epochs, POINTS).astype(int))
    figure, axes = pyplot.subplots(figsize=(7.2, 4.4), dpi=150, layout="constrained")
    for (name, its_traces), colour in zip(traces.items(), (FIRST_COLOUR, *OTHER_COLOURS), strict=False):
        regrets = np.stack([regret(trace, epochs, best, near) for trace in its_traces])
        low, high = band(regrets)
        first = colour == FIRST_COLOUR
        axes.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(epochs, np.median(regrets, axis=0), color=colour, linewidth=2.4 if first else 1.6, label=name)
    axes.set(xscale="log", yscale="log", title=title, xlim=(1, most_epochs), ylim=(near * 0.93, 1))
    axes.set_xlabel("epochs trained, those of all trials together")
    axes.set_ylabel("validation Dice below the best of the table")
    axes.axhline(near, color="black", linewidth=0.8, linestyle=(0, (4, 3)))
    ticks = (near, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    axes.set_yticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.yaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    powers = [power for power in (1, 3, 10, 30, 100, 300, 1000, 3000, 10000) if power <= most_epochs]
    axes.set_xticks(powers, labels=map(str, powers))
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left", fontsize=9)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file)
    pyplot.close(figure)


def regret(trace: Trace, epochs: "np.ndarray[tuple[int], np.dtype[np.int64]]", best: float, near: float) -> Floats:
    """How far the search was from the best after so many epochs (E,), at least `near`; it stays where it ended."""
    found = np.asarray(trace.best)
    return np.maximum(best - found[np.minimum(epochs, len(found)) - 1], near)


def band(values: Floats, seed: int = 0) -> tuple[Floats, Floats]:
    """Between which values the median over the first axis lies with 95 %, by bootstrap: two of (E,)."""
    draw = np.random.default_rng(seed)
    medians = np.stack(
        [np.median(values[draw.integers(len(values), size=len(values))], axis=0) for _ in range(RESAMPLES)]
    )
    low, high = np.percentile(medians, (2.5, 97.5), axis=0)
    return low, high
