"""The whole way on real pictures: search, leaderboard, masks of the test images, their pooled Dice.

For each data set, `python -m search.run` with 12 trials and 15 minutes at most, then `python -m model.predict` with the
winner on the test images, read once. The truth is compared with the mask files that were written, so that everything a
person would do is inside. Expects the data sets in `../shared/datasets`, or where DATASETS says.

  stare   the article's split: train 8, validate im0082 and im0139, test 10; native size, no field of view
  wbc     images 001-240 to train and validate (seeded split), 241-300 to test
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from outcome import conclude, describe_machine, parse_arguments, print_table

from data.pictures import list_pictures
from data.readers import find, load
from data.segmentation_data import Preparation
from model.metrics import PixelCounts, Scores, count_pixels, scores

ROOT = Path(__file__).resolve().parents[1]
DATASETS = Path(os.environ.get("DATASETS", ROOT.parent / "shared" / "datasets"))
GOALS = {"stare": 0.83, "wbc": 0.85}
NATIVE = Preparation(size="native")


def test_pictures(name: str) -> list[Path]:
    """The files of the set's test images."""
    samples = find(name, root=DATASETS).samples
    return [sample.image for sample in samples if sample.part == "test" and sample.image is not None]


def score_written_masks(name: str, folder: Path, masks: Path) -> Scores:
    """Metrics of mask files against the truth, pixels pooled over all test images."""
    truth = load(name, root=DATASETS, preparation=NATIVE)
    written = folder / "written"
    _copy(test_pictures(name), written / "images")
    _copy(list_pictures(masks), written / "masks")
    found = load(str(written), preparation=NATIVE)
    total: PixelCounts | None = None
    for index, picture in enumerate(found.names):
        which = truth.names.index(picture)
        height, width = found.sizes[index]
        inside = np.s_[..., :height, :width]  # each set is padded to its own largest picture
        planes, masks_of, valid = (
            torch.from_numpy(part[inside].copy())[None]
            for part in (found.masks[index], truth.masks[which], truth.valid[which])
        )
        counts = count_pixels(planes.bool(), masks_of, valid[:, None])
        total = counts if total is None else total + counts
    assert total is not None
    return scores(total)


def run(name: str, folder: Path) -> dict[str, float | int | str]:
    """Searches, predicts and scores one data set."""
    from search.leaderboard import read

    tests = folder / "test-images"
    _copy(test_pictures(name), tests)
    command = [sys.executable, "-m", "search.run", "--data", name, "--data-root", str(DATASETS), "--size", "native"]
    command += ["--num-trials", "12", "--max-time", "15m"]
    command += ["--name", name, "--storage", str(folder / "runs")]
    started = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT)
    seconds = time.perf_counter() - started
    best = folder / "runs" / name / "best"
    output = folder / "predictions"
    predict = [sys.executable, "-m", "model.predict", str(best), str(tests), "--output", str(output)]
    subprocess.run(predict, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    table = read(folder / "runs" / name / "leaderboard.csv")
    result = score_written_masks(name, folder, output / "masks")
    return {
        "data": name,
        "trials": len(table),
        "stopped": int((table["status"] == "stopped").sum()),
        "seconds": round(seconds),
        "val_dice": float(table["val_dice"].max()),
        "test_images": len(list_pictures(tests)),
        "test_dice": result.dice,
        "test_precision": result.precision_macro,
        "test_recall": result.recall_macro,
        "winner": json.dumps({key: table.iloc[0][key] for key in ("depth", "width", "loss", "crop_size")}, default=str),
    }


def main() -> int:
    """Runs both data sets and prints the table."""
    arguments = parse_arguments(__doc__ or "")
    rows = []
    for name in GOALS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(run(name, Path(folder)))
    print(describe_machine())
    names = list(rows[0])
    print_table(
        [tuple(names)]
        + [tuple(f"{row[one]:.4f}" if isinstance(row[one], float) else str(row[one]) for one in names) for row in rows]
    )
    met = all(float(row["val_dice"]) >= GOALS[str(row["data"])] for row in rows)
    figure = ", ".join(f"{row['data']} val_dice {row['val_dice']:.4f}" for row in rows)
    goal = ", ".join(f"{name} >= {least}" for name, least in GOALS.items())
    return conclude("real_data", figure, goal, met, {"rows": rows}, arguments.json)


def _copy(paths: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        shutil.copy(path, folder / path.name)


if __name__ == "__main__":
    sys.exit(main())
