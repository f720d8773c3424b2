"""The charts of a report that are drawn from the trials alone."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from data.contact_sheet import choose_evenly
from search.objectives import COSTS
from search.pareto import fronts
from search.progress import in_words
from search.record import STATUSES
from search.report.chart import ACCENT, STATUS_COLORS, Chart, figure
from search.report.run_facts import RunFacts, Trial

if TYPE_CHECKING:
    pass

MOST_CURVES = 1000  # trials whose curves are drawn: the best half of them, and others at even distances
COST_WORDS = {
    "parameters": "parameters",
    "latency_ms": "time for one picture (ms)",
    "peak_memory_mb": "peak memory of the training (MiB)",
    "gflops_per_megapixel": "work per megapixel (GFLOP)",
}


def some_of(trials: Sequence[Trial], most: int) -> list[Trial]:
    """At most so many of the trials, which come best first: the best half, and of the others some at even distances."""
    if len(trials) <= most:
        return list(trials)
    head, tail = trials[: most // 2], trials[most // 2 :]
    return [*head, *(tail[place] for place in choose_evenly(len(tail), most - len(head)))]


def told(trial: Trial, searched: Iterable[str] = ()) -> str:
    """A trial as the pointer over it is told. searched: the settings to tell, too."""
    record = trial.record
    values = (f"{name} {_value(trial.setting(name))}" for name in searched)
    score = "no score" if record.val_dice is None else f"val_dice {record.val_dice:.4f}"
    lines = [f"<b>{record.trial_id}</b> {record.status}, {score}, {record.epochs} epochs", *_in_rows(values)]
    return "<br>".join(lines)


def best_so_far(facts: RunFacts) -> Chart | None:
    """When each trial ended with which score, and the best until then."""
    ended = [(facts.hours(trial.ended), trial) for trial in facts.scored if trial.ended and facts.began]
    if not ended:
        return None
    ended.sort(key=lambda pair: pair[0])
    words, unit = _time_axis(max(hours for hours, _ in ended))
    chart = figure(f"time since the first trial began ({words})", "val_dice")
    for status, members in _by_status(trial for _, trial in ended):
        places = {id(trial): hours for hours, trial in ended}
        chart.add_scatter(
            x=[places[id(trial)] * unit for trial in members],
            y=[trial.record.val_dice for trial in members],
            mode="markers",
            name=status,
            marker={"color": STATUS_COLORS[status], "size": 7, "opacity": 0.75},
            text=[told(trial, _settings(facts)) for trial in members],
            hoverinfo="text",
        )
    best, steps = 0.0, []
    for hours, trial in ended:
        if (trial.record.val_dice or 0.0) > best:
            best = trial.record.val_dice or 0.0
            steps.append((hours, best))
    steps.append((ended[-1][0], best))
    chart.add_scatter(
        x=[hours * unit for hours, _ in steps],
        y=[value for _, value in steps],
        mode="lines",
        line={"shape": "hv", "color": ACCENT, "width": 2},
        name="best so far",
        hoverinfo="y",
    )
    return Chart(
        key="best-so-far",
        title=f"The best score, {best:.4f}, was there after {in_words(3600 * steps[-2][0])}",
        words="Each point is a trial, where it ended. A line that has long been flat says that more of the same search "
        "would bring little.",
        figure=chart,
    )


def learning_curves(facts: RunFacts) -> Chart | None:
    """The score of every trial, epoch by epoch."""
    known = [trial for trial in (*facts.scored, *(one for one in facts.trials if one.is_bad)) if trial.curve]
    drawn = some_of(known, MOST_CURVES)
    if not drawn:
        return None
    chart = figure("epoch", "val_dice on the validation images")
    best = facts.best.trial_id if facts.best is not None else ""
    for status, members in _by_status(reversed(drawn)):
        x, y, text = [], [], []
        for trial in members:
            if trial.record.trial_id == best:
                continue
            x += [*trial.curve, None]
            y += [*trial.curve.values(), None]
            text += [told(trial)] * (len(trial.curve) + 1)
        few = sum(len(trial.curve) for trial in members) <= 2 * len(members)
        chart.add_scatter(
            x=x,
            y=y,
            text=text,
            hoverinfo="text",
            mode="lines+markers" if status == "stopped" or few else "lines",
            marker={"size": 3},
            name=status,
            line={"color": STATUS_COLORS[status], "width": 1},
            opacity=0.55,
        )
    for trial in drawn:
        if trial.record.trial_id == best:
            chart.add_scatter(
                x=list(trial.curve),
                y=list(trial.curve.values()),
                mode="lines+markers",
                name=f"best: {best}",
                line={"color": ACCENT, "width": 3},
                marker={"size": 5},
                text=[told(trial, _settings(facts))] * len(trial.curve),
                hoverinfo="text",
            )
    stopped = sum(trial.record.status == "stopped" for trial in facts.trials)
    left_out = f" {len(drawn)} of {len(known)} are drawn." if len(drawn) < len(known) else ""
    return Chart(
        key="curves",
        title=f"How {len(drawn)} trials learned; {stopped} of {len(facts.trials)} were stopped early",
        words="The validation score after each epoch. A curve that breaks off was stopped because others were better "
        f"at that point, or ended badly; click on a status to hide it.{left_out}",
        figure=chart,
        height=440,
    )


def statuses(facts: RunFacts) -> Chart | None:
    """How many trials ended in which way."""
    counts = Counter(trial.record.status for trial in facts.trials)
    if not counts:
        return None
    shown = [status for status in STATUSES if counts[status]]
    chart = figure("trials", "", bargap=0.35)
    chart.add_bar(
        x=[counts[status] for status in shown],
        y=[status.replace("_", " ") for status in shown],
        orientation="h",
        marker_color=[STATUS_COLORS[status] for status in shown],
        text=[counts[status] for status in shown],
        textposition="auto",
        hoverinfo="x+y",
    )
    chart.update_yaxes(autorange="reversed")
    bad = sum(trial.is_bad for trial in facts.trials)
    title = "No trial ended badly" if not bad else f"{bad} of {len(facts.trials)} trials ended badly"
    return Chart(key="statuses", title=title, words="", figure=chart, height=110 + 42 * len(shown))


def front(facts: RunFacts) -> Chart | None:
    """What each score costs, and the trials that no other beats in both."""
    cost = facts.objectives[1] if len(facts.objectives) > 1 else "parameters"
    points = [
        (trial, float(trial.record.val_dice or 0.0), float(getattr(trial.record, cost)))
        for trial in facts.scored
        if getattr(trial.record, cost) is not None
    ]
    if len({value for _, _, value in points}) < 2:
        return None
    ranks = fronts(tuple((dice, value) for _, dice, value in points))
    chart = figure(COST_WORDS[cost], "val_dice")
    largest, smallest = max(value for *_, value in points), min(value for *_, value in points)
    if largest > 20 * smallest > 0:
        chart.update_xaxes(type="log")
    for name, on_it, color, size in (("others", False, STATUS_COLORS["stopped"], 6), ("front", True, ACCENT, 9)):
        chosen = (point for point, rank in zip(points, ranks, strict=True) if (rank == 0) == on_it)
        members = sorted(chosen, key=lambda point: point[2])
        chart.add_scatter(
            x=[value for *_, value in members],
            y=[dice for _, dice, _ in members],
            mode="lines+markers" if on_it else "markers",
            line={"shape": "hv", "dash": "dot"},
            marker={"color": color, "size": size, "opacity": 1.0 if on_it else 0.5},
            name=name,
            text=[told(trial, _settings(facts)) for trial, *_ in members],
            hoverinfo="text",
        )
    count = sum(rank == 0 for rank in ranks)
    whose = "asked for" if cost in facts.objectives else "not asked for, but free to look at"
    return Chart(
        key="front",
        title=f"{count} of {len(points)} trials {'is' if count == 1 else 'are'} beaten by none in val_dice and "
        f"{COST_WORDS[cost].partition(' (')[0]}",
        words=f"No other trial is as good as one on the front at as little cost (which was {whose}). "
        "A much smaller network at nearly the same score is often the one to take.",
        figure=chart,
    )


def timeline(facts: RunFacts) -> Chart | None:
    """Which trials were at work when, side by side."""
    spans = sorted((*span, trial) for trial in facts.trials for span in trial.at_work)
    if not spans:
        return None
    first = spans[0][0]
    words, unit = _time_axis((max(end for _, end, _ in spans) - first) / 3600)
    scale = unit / 3600
    lanes = _lanes([(begin, end, trial.record.trial_id) for begin, end, trial in spans])
    chart = figure(f"time since the first trial began ({words})", "workers", bargap=0.15)
    of_trial = {trial.record.trial_id: trial for trial in facts.trials}
    merged = _merged(lanes)
    for status, members in _by_status(of_trial[name] for name in dict.fromkeys(one[3] for one in merged)):
        names = {trial.record.trial_id for trial in members}
        own = [one for one in merged if one[3] in names]
        chart.add_bar(
            base=[(begin - first) * scale for _, begin, _, _ in own],
            x=[(end - begin) * scale for _, begin, end, _ in own],
            y=[lane + 1 for lane, *_ in own],
            orientation="h",
            name=status,
            marker={"color": STATUS_COLORS[status], "line": {"width": 0}},
            text=[told(of_trial[name], _settings(facts)) for *_, name in own],
            textposition="none",
            hoverinfo="text",
        )
    busy = sum(end - begin for begin, end, _ in spans)
    span = max(end for _, end, _ in spans) - first
    workers = 1 + max(lane for lane, *_ in merged)
    chart.update_layout(barmode="overlay")
    chart.update_yaxes(dtick=1 if workers <= 16 else None, autorange="reversed")
    return Chart(
        key="timeline",
        title=f"{workers} worker{'s' * (workers != 1)} trained {100 * busy / (span * workers):.0f} % of the time",
        words=f"Each bar is a trial at work: {in_words(busy)} of training in {in_words(span)}, sessions and the pauses "
        "between them included. Gaps are starts of processes and waits.",
        figure=chart,
        height=min(640, 150 + 30 * workers),
    )


CHARTS: tuple[Callable[[RunFacts], Chart | None], ...] = (
    best_so_far,
    learning_curves,
    front,
    statuses,
    timeline,
)


def _settings(facts: RunFacts) -> list[str]:
    """The settings that the pointer tells; of very many trials none: they would make most of the page."""
    return facts.searched if len(facts.trials) <= MOST_CURVES else []


def _by_status(trials: Iterable[Trial]) -> Iterator[tuple[str, list[Trial]]]:
    members: dict[str, list[Trial]] = {status: [] for status in STATUSES}
    for trial in trials:
        members[trial.record.status].append(trial)
    yield from ((status, some) for status, some in members.items() if some)


def _time_axis(hours: float) -> tuple[str, float]:
    """The unit in which so many hours are told best, and how many of it an hour has."""
    return next((words, unit) for words, unit, least in _UNITS if hours * unit >= least)


_UNITS = (("days", 1 / 24, 3.0), ("hours", 1.0, 2.0), ("minutes", 60.0, 3.0), ("seconds", 3600.0, 0.0))

Span = tuple[float, float, str]


def _lanes(spans: Sequence[Span]) -> list[tuple[int, float, float, str]]:
    """Each span, in the order of their begin, with the first lane that is free then; a trial stays in its own."""
    free: list[float] = []  # of each lane, from when on
    last: dict[str, int] = {}
    placed = []
    for begin, end, name in spans:
        lane = last.get(name, -1)
        if lane < 0 or free[lane] > begin + _SLACK:
            lane = next((place for place, since in enumerate(free) if since <= begin + _SLACK), len(free))
        if lane == len(free):
            free.append(0.0)
        free[lane] = end
        last[name] = lane
        placed.append((lane, begin, end, name))
    return placed


_SLACK = 0.05  # seconds by which a clock may have it that two trials in one place overlap


def _merged(placed: Iterable[tuple[int, float, float, str]]) -> list[tuple[int, float, float, str]]:
    """The same with what follows closely in one lane of one trial as one."""
    merged: dict[int, list[tuple[int, float, float, str]]] = {}
    for lane, begin, end, name in placed:
        own = merged.setdefault(lane, [])
        if own and own[-1][3] == name and begin - own[-1][2] < max(1.0, 0.5 * (end - begin)):
            own[-1] = (lane, own[-1][1], end, name)
        else:
            own.append((lane, begin, end, name))
    return [one for own in merged.values() for one in own]


def _in_rows(texts: Iterable[str]) -> Iterator[str]:
    some: list[str] = []
    for text in texts:
        some.append(text)
        if len(some) == 3:
            yield ", ".join(some)
            some = []
    if some:
        yield ", ".join(some)


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


assert set(COST_WORDS) == set(COSTS)
