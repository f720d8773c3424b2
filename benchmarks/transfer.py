"""What transfer gains or loses: from the vessels of STARE (one class) to the lesions of IDRiD (four classes).

For each seed a network learns STARE's vessels; then, in turns, networks of the same seed learn IDRiD's lesions: from
fresh weights (`transfer=none`), from that network's encoder, from all of it but the head, and from all of it with what
was taken held still at first. All else is alike. Expects the data sets in `../shared/datasets`, or where DATASETS says.

  STARE   the article's split: train 8, validate im0082 and im0139; its test images play no part
  IDRiD   images 01-18 to train and validate (14 and 4, the reader's default split), 19-24 to test

The test images are read once per training, after the validation images have chosen the best epoch and the thresholds:
pixels pooled over them, in the field of view that is found in them, at the size of training.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from outcome import conclude, describe_machine, parse_arguments, print_table

from data.readers import load
from data.segmentation_data import Preparation, SegmentationData
from data.split import split_data
from data.windows import place
from model.checkpoint import load_model
from model.config import TrainConfig
from model.device import choose_device, uses_bfloat16
from model.diagnose import TrainingFailure
from model.judge import judge
from model.train import BEST, train

ROOT = Path(__file__).resolve().parents[1]
DATASETS = Path(os.environ.get("DATASETS", ROOT.parent / "shared" / "datasets"))
# A degree of the eye is as many pixels in both, so that vessels are as wide: STARE's pictures show 35 degrees on 647 of
# their 700 pixels, IDRiD's, which are cut to the disc, 50 degrees on their whole width.
SIZE = 640  # of IDRiD: a training takes two to three minutes on one thread
SIZES = {"stare": round(SIZE / 50 * 35 * 700 / 647), "idrid": SIZE}
CONFIG = TrainConfig(max_epochs=40)
VARIANTS: dict[str, Mapping[str, Any]] = {
    "none": {"transfer": "none"},
    "encoder": {"transfer": "encoder"},
    "all": {"transfer": "all"},
    "all, held 10 epochs": {"transfer": "all", "freeze_epochs": 10},
}
SEEDS = (0, 1, 2)
EARLY = 10  # after so many epochs the validation images are looked at beside the end
MEAN = "mean"


def load_data(name: str) -> SegmentationData:
    """The set at its size, with the field of view as it is found."""
    return load(name, root=DATASETS, preparation=Preparation(size=SIZES[name], field_of_view="found"))


def learn(config: TrainConfig, data: SegmentationData, folder: Path) -> dict[str, Any]:
    """Trains into the folder: validation Dice epoch by epoch, and seconds."""
    started = time.perf_counter()
    split = split_data(data)[0]
    reports = list(train(config, data, split, device=choose_device("auto"), folder=folder))
    return {"val_dice": [report.val.dice for report in reports], "seconds": time.perf_counter() - started}


def score(data: SegmentationData, folder: Path) -> dict[str, dict[str, float]]:
    """Dice and AUC-PR of the folder's best model on the test images, for each class and their means."""
    device = choose_device("auto")
    network, card = load_model(folder / BEST, device)
    judgement = judge(
        network,
        place(data, split_data(data)[0].test, device),
        data.label_mode,
        bfloat16=uses_bfloat16(card.config.precision, device),
        thresholds=card.thresholds,
    )
    found = {
        "dice": dict(zip(data.class_names, judgement.scores().class_dice, strict=True)),
        "auc_pr": dict(zip(data.class_names, judgement.histograms.auc_pr(), strict=True)),
    }
    return {metric: {**of_class, MEAN: statistics.mean(of_class.values())} for metric, of_class in found.items()}


def run_all(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Every training of every seed, in turns: what each came to, and what went wrong."""
    vessels, lesions = load_data("stare"), load_data("idrid")
    rows: list[dict[str, Any]] = []
    failures: list[str] = []
    for seed in SEEDS:
        config = replace(CONFIG, seed=seed)
        source = folder / f"stare-{seed}"
        learnt = learn(config, vessels, source)
        best = max(learnt["val_dice"])
        print(f"seed {seed}: STARE, validation Dice {best:.4f}, {learnt['seconds']:.0f} s", flush=True)
        for name, settings in VARIANTS.items():
            target = folder / f"idrid-{seed}-{name}"
            try:
                learnt = learn(replace(config, init_from=str(source / BEST), **settings), lesions, target)
            except TrainingFailure as failure:
                failures.append(f"seed {seed}, {name}: {failure}")
                print(failures[-1], flush=True)
                continue
            rows.append({"seed": seed, "variant": name, "stare_val_dice": best, **learnt, **score(lesions, target)})
            print(
                f"seed {seed}: {name}, mean test Dice {rows[-1]['dice'][MEAN]:.4f}, {learnt['seconds']:.0f} s",
                flush=True,
            )
    return rows, failures


def mean_and_spread(values: Sequence[float], sign: str = "") -> str:
    """Mean and standard deviation, as `0.512 (sd 0.013)`."""
    if not values:
        return "-"
    deviation = f"{statistics.stdev(values):.3f}" if len(values) > 1 else "-"
    return f"{statistics.mean(values):{sign}.3f} (sd {deviation})"


def show(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Prints the tables; gives for each variant by how much its mean Dice is above that of none, seed by seed."""
    columns = list(rows[0]["dice"])
    for metric, title in (("dice", "test Dice"), ("auc_pr", "test AUC-PR")):
        table = [(title, *columns)]
        for name in VARIANTS:
            of_variant = [row[metric] for row in rows if row["variant"] == name]
            table.append((name, *(mean_and_spread([one[column] for one in of_variant]) for column in columns)))
        print_table(table)
        print()
    without = {row["seed"]: row for row in rows if row["variant"] == "none"}
    changes: dict[str, list[float]] = {}
    table = [("beside none, seed by seed", "mean test Dice", f"val_dice at epoch {EARLY}", "val_dice, best", "seconds")]
    for name in VARIANTS:
        pairs = [(row, without[row["seed"]]) for row in rows if row["variant"] == name and row["seed"] in without]
        changes[name] = [row["dice"][MEAN] - other["dice"][MEAN] for row, other in pairs]
        early = [row["val_dice"][EARLY - 1] - other["val_dice"][EARLY - 1] for row, other in pairs]
        best = [max(row["val_dice"]) - max(other["val_dice"]) for row, other in pairs]
        cells = (mean_and_spread(values, "+") for values in (changes[name], early, best))
        table.append((name, *cells, f"{statistics.mean(row['seconds'] for row, _ in pairs):.0f}" if pairs else "-"))
    print_table(table)
    return changes


def main() -> int:
    """Trains and scores everything and prints the tables."""
    arguments = parse_arguments(__doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        rows, failures = run_all(Path(folder))
    print(f"\n{describe_machine()}; {torch.get_num_threads()} threads")
    print(f"sides of {SIZES['stare']} and {SIZES['idrid']} pixels, {CONFIG.max_epochs} epochs, n={len(SEEDS)} seeds\n")
    changes = show(rows) if rows else {}
    gains = [f"{name} {mean_and_spread(values, '+')}" for name, values in changes.items() if name != "none"]
    return conclude(
        "transfer",
        f"changes the mean Dice by: {'; '.join(gains)}",
        f"all {len(VARIANTS) * len(SEEDS)} trainings reported",
        not failures,
        {"rows": rows, "failures": failures, "sizes": SIZES},
        arguments.json,
    )


if __name__ == "__main__":
    sys.exit(main())
