"""The model card of a run's best model: what it is, how good it is and how sure that is, and what it is not for.

After Mitchell et al. 2019, "Model cards for model reporting" (FAT* 2019, section 4).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data.overlay import class_color, color_name
from data.printable import printable
from data.replacing import write_text
from model.checkpoint import CONFIG, SCORES, ModelCard, read_card
from search.bootstrap import Interval, bootstrap_mean
from search.record import TrialRecord, split_warnings
from search.scores_file import read_scores

MODEL_CARD = "model-card.md"


def write_model_card(folder: Path, record: TrialRecord, run: str) -> None:
    """Writes the card into the folder of a model. record: of its trial. run: what a person calls that."""
    card = read_card(folder / CONFIG)
    write_text(folder / MODEL_CARD, "\n".join(_lines(card, read_scores(folder / SCORES), record, run)) + "\n")


def _lines(card: ModelCard, scores: Mapping[str, Any], record: TrialRecord, run: str) -> list[str]:
    config, preparation = card.config, card.preparation
    classes = ", ".join(map(_text, card.class_names))
    size = "their own size" if preparation.size == "native" else f"at most {preparation.size} pixels a side"
    kind = "exclude each other" if card.label_mode == "multiclass" else "may overlap"
    seen, chosen = len(card.train_images), len(card.validation_images)
    return [
        f"# Model card: {classes}",
        "",
        f"A U-net that finds {classes} in pictures: trial {record.trial_id} of the search {_text(run)}, made by "
        f"unet-search {record.version or 'of an unknown version'}.",
        "",
        "## Use",
        "",
        "    python -m model.predict FOLDER-OF-THIS-FILE PICTURES",
        "",
        f"Pictures in {preparation.color} like those that it learnt from, shrunk to {size}; classes {kind}.",
        "",
        "## Data",
        "",
        f"- {_text(card.source)}, fingerprint `{card.fingerprint[:16]}`: {seen} pictures to learn from, {chosen} by "
        "which it was chosen; config.yaml names them.",
        f"- Preparation: {', '.join(f'{name} {value}' for name, value in vars(preparation).items())}.",
        "",
        "## Network and training",
        "",
        f"- {record.parameters or 0:,} parameters: encoder {config.encoder}, depth {config.depth}, width "
        f"{config.width}.",
        f"- Loss {config.loss}, optimizer {config.optimizer}, learning rate {config.learning_rate:.3g}, epoch "
        f"{record.best_epoch} of {config.max_epochs}; all else in config.yaml.",
        "",
        f"## Scores on the {chosen} pictures by which it was chosen",
        "",
        "| class | colour | Dice | Dice of a picture, mean (95 %) | IoU | precision | recall | threshold |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *_rows(card, scores),
        "",
        "Intervals: bootstrap over pictures. Many models were compared on these pictures, so expect less on new ones: "
        "`python -m search.finals` measures that on pictures kept for it.",
        "",
        "## Limits",
        "",
        "- It knows pictures like those above. Others (another camera, stain, size or disease) were never tried.",
        *(f"- {_text(warning)}" for warning in split_warnings(record.warnings)),
        "- It is no medical device, and nothing here says that it helps a patient.",
    ]


def _rows(card: ModelCard, scores: Mapping[str, Any]) -> list[str]:
    rows = []
    for index, (name, threshold) in enumerate(zip(card.class_names, card.thresholds, strict=True)):
        of_class = scores.get("classes", {}).get(name, {})
        of_images = [one.get(name) for one in scores.get("images", {}).values()]
        known = [float(value) for value in of_images if isinstance(value, int | float)]
        numbers = [_number(of_class.get(one)) for one in ("iou", "precision", "recall")]
        red, green, blue = class_color(index)
        color = f"{color_name(index)} #{red:02x}{green:02x}{blue:02x}"
        cells = [_text(name), color, _number(of_class.get("dice")), _mean(known), *numbers, f"{threshold:.3f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _mean(values: Sequence[float]) -> str:
    interval: Interval | None = bootstrap_mean(values)
    if not values:
        return ""
    mean = f"{sum(values) / len(values):.3f}"
    return mean if interval is None else f"{mean} ({interval[0]:.3f} to {interval[1]:.3f})"


def _number(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else ""


def _text(text: str) -> str:
    """A name as Markdown shows it, whatever signs it has."""
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>#|" else sign for sign in printable(text))
