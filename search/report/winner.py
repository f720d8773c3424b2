"""What the best model of a run makes of the pictures that it was chosen by: scores, pictures, and how sure it is."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch

from data.contact_sheet import choose_evenly, encode_jpeg
from data.doctor import Finding, examine
from data.fit import fitted_size
from data.input_error import InputError
from data.overlay import class_color, color_name
from data.segmentation_data import MULTICLASS, SegmentationData, UInt8
from data.windows import place
from model.checkpoint import SCORES
from model.ensemble import MeanNetwork, Model, open_models
from model.histograms import EDGES
from model.judge import Judgement, judge
from model.sample import draw_sample
from search.report.chart import Chart, figure
from search.report.run_facts import RunFacts
from search.run_data import read_data
from search.scores_file import read_scores

MOST_JUDGED = 64  # pictures by which the calibration is told
MOST_PIXELS = 2**24  # of them together; one picture may have more
BINS = 10  # of the calibration
LONGEST_SIDE = 360  # pixels of a picture on the page
PANELS = ("picture", "truth", "prediction", "errors")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One picture of the gallery. what: why it is there. dice: of each class. panels: JPEG files by their name."""

    name: str
    what: str
    dice: Mapping[str, float | None]
    panels: Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True)
class Winner:
    """scores: of its `scores.json`. gallery, charts: empty where `missing` says why. findings: of the data doctor."""

    scores: Mapping[str, Any]
    gallery: tuple[Shown, ...] = ()
    charts: tuple[Chart, ...] = ()
    findings: tuple[Finding, ...] = ()
    missing: str = ""


def look_at_winner(facts: RunFacts) -> Winner:
    """The best model of a run, judged once more where its data are here."""
    scores = read_scores(facts.folder.best / SCORES)
    try:
        data, splits = read_data(facts.folder, facts.saved)
        findings = examine(data, splits)
    except (InputError, OSError, KeyError, TypeError, ValueError) as error:
        return Winner(scores=scores, missing=f"the data of this run cannot be read here ({_words(error)})")
    try:
        opened = open_models(facts.folder.best, torch.device("cpu"))
    except InputError as error:
        return Winner(scores=scores, findings=findings, missing=f"there is no best model yet ({_words(error)})")
    members = [data.names.index(name) for name in opened[0].card.validation_images if name in data.names]
    if not members:
        return Winner(scores=scores, findings=findings, missing="none of the pictures that chose the model is here")
    chosen = _choose(scores, data, members)
    most = max(1, min(MOST_JUDGED, MOST_PIXELS // (data.images.shape[1] * data.images.shape[2])))
    judged = sorted({members[place] for place in choose_evenly(len(members), most)})
    judgement = judge(
        MeanNetwork(opened),
        place(data, tuple(judged), torch.device("cpu")),
        data.label_mode,
        bfloat16=False,
        thresholds=opened[0].card.thresholds,
    )
    of = f"{len(judged)} validation pictures" + (f" of {len(members)}" if len(judged) < len(members) else "")
    charts = [
        _calibration(judgement, data.class_names, of),
        _threshold_curve(judgement, data.class_names, opened[0], of),
        _image_scores(scores, data.class_names),
    ]
    return Winner(
        scores=scores,
        gallery=tuple(_show(facts.folder.best, data, index, what, scores) for what, index in chosen),
        charts=tuple(chart for chart in charts if chart is not None),
        findings=findings,
    )


def legend(class_names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Each class with the colour that it has in the pictures, as CSS has it and as people call it."""
    return [
        (name, "rgb({}, {}, {})".format(*class_color(index)), color_name(index))
        for index, name in enumerate(class_names)
    ]


def _dice_of(of_image: Any) -> float | None:
    """The mean Dice of a picture over the classes that it has or that were found there."""
    known = (
        [value for value in of_image.values() if isinstance(value, int | float)] if isinstance(of_image, dict) else []
    )
    return mean(known) if known else None


def _choose(scores: Mapping[str, Any], data: SegmentationData, members: Sequence[int]) -> list[tuple[str, int]]:
    """Best, median and worst of the pictures by their Dice, each once."""
    images = scores.get("images", {})
    scored = [(dice, index) for index in members if (dice := _dice_of(images.get(data.names[index]))) is not None]
    if not scored:
        return [("one of the pictures that chose the model", members[0])]
    scored.sort(key=lambda pair: (-pair[0], pair[1]))
    places = {"best": 0, "median": (len(scored) - 1) // 2, "worst": len(scored) - 1}
    chosen: dict[int, list[str]] = {}
    for what, at in places.items():
        chosen.setdefault(scored[at][1], []).append(what)
    return [(" and ".join(what), index) for index, what in chosen.items()]


def _show(model: Path, data: SegmentationData, index: int, what: str, scores: Mapping[str, Any]) -> Shown:
    from PIL import Image

    parts: list[UInt8] = np.split(draw_sample(model, data, index), len(PANELS), axis=1)
    before = parts[0].shape[0], parts[0].shape[1]
    height, width = fitted_size(*before, LONGEST_SIDE)
    if (height, width) != before:
        parts = [np.asarray(Image.fromarray(part).resize((width, height), Image.Resampling.BOX)) for part in parts]
    of_image = scores.get("images", {}).get(data.names[index], {})
    return Shown(
        name=data.names[index],
        what=what,
        dice={name: of_image.get(name) for name in data.class_names},
        panels={name: encode_jpeg(part) for name, part in zip(PANELS, parts, strict=True)},
    )


def _calibration(judgement: Judgement, class_names: Sequence[str], of: str) -> Chart | None:
    """How often pixels of a class are of it, over how probable the model holds that.

    With the expected calibration error over bins of equal width (Guo et al. 2017, ICML 70:1321, equation 3).
    """
    pooled = judgement.histograms.pooled()
    middles = np.array([(low + high) / 2 for low, high in zip(EDGES, (*EDGES[1:], 1.0), strict=True)])
    bins = np.minimum((middles * BINS).astype(int), BINS - 1)
    chart = figure("probability that the model gives (%)", "share of such pixels that are of the class (%)")
    chart.add_scatter(
        x=[0, 100], y=[0, 100], mode="lines", line={"dash": "dot", "color": "#8A94A0"}, name="ideal", hoverinfo="skip"
    )
    errors = []
    for index, name in enumerate(class_names):
        positives = pooled.positives[0, index].numpy().astype(float)
        pixels = positives + pooled.negatives[0, index].numpy()
        count = np.bincount(bins, pixels, BINS)
        if not count.sum():
            continue
        given = np.bincount(bins, pixels * middles, BINS) / np.maximum(count, 1)
        true = np.bincount(bins, positives, BINS) / np.maximum(count, 1)
        errors.append((float((count * np.abs(given - true)).sum() / count.sum()), name))
        seen = count > 0
        chart.add_scatter(
            x=(100 * given[seen]).tolist(),
            y=(100 * true[seen]).tolist(),
            customdata=count[seen].astype(int).tolist(),
            mode="lines+markers",
            name=name,
            line={"color": "rgb({}, {}, {})".format(*class_color(index))},
            hovertemplate=f"{name}: given %{{x:.0f}} %, true %{{y:.0f}} % of %{{customdata:,}} pixels<extra></extra>",
        )
    if not errors:
        return None
    worst, name = max(errors)
    whose = "Its probabilities" if len(errors) == 1 else f"Its probabilities, at worst those of {name},"
    return Chart(
        key="calibration",
        title=f"{whose} are off by {100 * worst:.1f} % on average",
        words=f"On {of}. Below the dotted line the model is too sure. The number is the expected calibration error "
        "over ten bins, which the many pixels of the background dominate.",
        figure=chart,
    )


def _threshold_curve(judgement: Judgement, class_names: Sequence[str], model: Model, of: str) -> Chart | None:
    """The Dice of each class over the threshold; the chosen ones are marked."""
    if judgement.label_mode == MULTICLASS:
        return None
    pooled = judgement.histograms.pooled()
    some = [edge for place, edge in enumerate(EDGES) if place and (0.02 < edge < 0.98) and place % 2 == 0]
    chart = figure("threshold (probability)", "score of the class")
    dice = {edge: pooled.counts((edge,) * len(class_names)) for edge in some}
    for index, name in enumerate(class_names):
        color = "rgb({}, {}, {})".format(*class_color(index))
        of_class = {
            edge: (float(counts.tp[0, index]), float(counts.fp[0, index]), float(counts.fn[0, index]))
            for edge, counts in dice.items()
        }
        curves = {"Dice": [_ratio(2 * tp, 2 * tp + fp + fn) for tp, fp, fn in of_class.values()]}
        if len(class_names) == 1:
            curves["precision"] = [_ratio(tp, tp + fp) for tp, fp, fn in of_class.values()]
            curves["recall"] = [_ratio(tp, tp + fn) for tp, fp, fn in of_class.values()]
        for (what, values), dash in zip(curves.items(), ("solid", "dash", "dot"), strict=False):
            chart.add_scatter(
                x=some,
                y=values,
                mode="lines",
                name=f"{name}: {what}" if len(class_names) == 1 else name,
                line={"color": color if what == "Dice" else "#8A94A0", "dash": dash},
                hovertemplate=f"{name}: {what} %{{y:.3f}} at %{{x:.2f}}<extra></extra>",
            )
        chart.add_vline(x=model.card.thresholds[index], line={"color": color, "dash": "dash", "width": 1})
    chosen = ", ".join(f"{value:.2f}" for value in model.card.thresholds)
    return Chart(
        key="thresholds",
        title="The thresholds were chosen at " + (chosen if len(class_names) <= 6 else "the dashed lines"),
        words=f"On {of}. Where a curve is flat around its dashed line, the threshold hardly matters; "
        "raise it to find less and be right more often.",
        figure=chart,
    )


def _image_scores(scores: Mapping[str, Any], class_names: Sequence[str]) -> Chart | None:
    """The Dice of each picture, a strip for each class."""
    images = scores.get("images", {})
    if not isinstance(images, dict) or len(images) < 2:
        return None
    chart = figure("Dice of one picture", "")
    for index, name in enumerate(class_names):
        known = [(picture, of[name]) for picture, of in images.items() if isinstance(of.get(name), int | float)]
        chart.add_box(
            x=[value for _, value in known],
            name=name,
            text=[picture for picture, _ in known],
            boxpoints="all" if len(known) <= 300 else "outliers",
            jitter=0.5,
            pointpos=0,
            marker={"color": "rgb({}, {}, {})".format(*class_color(index)), "size": 5},
            fillcolor="rgba(128, 128, 128, 0.15)",
            hoveron="points",
            hovertemplate="%{text}: %{x:.3f}<extra></extra>",
            orientation="h",
        )
    chart.update_layout(showlegend=False)
    chart.update_xaxes(range=[-0.02, 1.02])
    return Chart(
        key="images",
        title=f"How evenly the {len(images)} validation pictures came out",
        words="Each point is a picture in which the class is, or was found. One far to the left is worth a look at its "
        "mask.",
        figure=chart,
        height=140 + 70 * len(class_names),
    )


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _words(error: Exception) -> str:
    words = str(error).strip().partition("\n")[0].rstrip(".")
    return words or type(error).__name__


def rows_of_scores(scores: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """A table of the winner: a row for each class, and below them the means over classes beside those over pixels."""
    classes, pooled = scores.get("classes", {}), scores.get("pooled", {})
    if not classes:
        return []
    names = ("dice", "iou", "precision", "recall", "accuracy", "auc_roc", "auc_pr", "threshold", "pixels")
    rows = [(str(name), [_number(of.get(one)) for one in names]) for name, of in classes.items()]
    for kind in ("macro", "micro"):
        found = {
            "dice": pooled.get("dice") if kind == "macro" else pooled.get("f1_micro"),
            "iou": pooled.get("iou") if kind == "macro" else None,
            "accuracy": pooled.get("accuracy") if kind == "micro" else None,
            **{one: pooled.get(f"{one}_{kind}") for one in ("precision", "recall")},
            **({"auc_roc": pooled.get("auc_roc"), "auc_pr": pooled.get("auc_pr")} if kind == "macro" else {}),
        }
        what = "all classes alike" if kind == "macro" else "all pixels alike"
        rows.append((f"{kind}: {what}", [_number(found.get(one)) for one in names]))
    return rows


def _number(value: Any) -> str:
    if not isinstance(value, int | float) or math.isnan(value):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
