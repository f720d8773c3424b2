"""The whole way on real pictures: search, leaderboard, masks of the test images, their pooled Dice.

For each data set, `python -m search.run` with 12 trials and 15 minutes at most, then `python -m model.predict` with the
winner on the test images, read once. The truth is compared with the mask files that were written, so that everything a
person would do is inside. Expects the data sets in `../shared/datasets`, or where DATASETS says.

  stare   the article's split: train 8, validate im0082 and im0139, test 10; whole images, no field of view
  wbc     multi-class folder: images 001-240 to train and validate (seeded split), 241-300 to test
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from outcome import conclude, describe_machine, parse_arguments, print_table

from data.pictures import list_pictures, picture_stem
from data.readers import load
from model.metrics import PixelCounts, Scores, count_pixels, scores

ROOT = Path(__file__).resolve().parents[1]
DATASETS = Path(os.environ.get("DATASETS", ROOT.parent / "shared" / "datasets"))
GOALS = {"stare": 0.83, "wbc": 0.85}
FIRST_TEST_CELL = "241"


def lay_out(name: str, folder: Path) -> tuple[list[str], Path]:
    """The data options of the search, and a folder with the test images alone."""
    tests = folder / "test-images"
    if name == "stare":
        stare = load("stare", root=DATASETS)
        chosen = {one for one, part in zip(stare.names, stare.parts, strict=True) if part == "test"}
        _copy(
            [path for path in list_pictures(DATASETS / "stare" / "stare-images") if picture_stem(path) in chosen], tests
        )
        return ["--data", "stare", "--data-root", str(DATASETS)], tests
    for kind in ("images", "masks"):
        pictures = list_pictures(DATASETS / "wbc" / kind)
        _copy([path for path in pictures if path.stem < FIRST_TEST_CELL], folder / "wbc" / kind)
        _copy([path for path in pictures if path.stem >= FIRST_TEST_CELL], folder / "wbc-test" / kind)
    return ["--data", str(folder / "wbc")], folder / "wbc-test" / "images"


def score_written_masks(name: str, folder: Path, tests: Path, masks: Path) -> Scores:
    """Metrics of mask files against the truth, pixels pooled over all test images."""
    truth = load("stare", root=DATASETS) if name == "stare" else load(str(tests.parent))
    written = folder / "written"
    _copy(list_pictures(tests), written / "images")
    _copy(list_pictures(masks), written / "masks")
    found = load(str(written))
    total: PixelCounts | None = None
    for index, picture in enumerate(found.names):
        which = truth.names.index(picture)
        planes = torch.from_numpy(found.masks[index : index + 1].astype(bool))
        counts = count_pixels(
            planes,
            torch.from_numpy(truth.masks[which : which + 1]),
            torch.from_numpy(truth.valid[None, which : which + 1]),
        )
        total = counts if total is None else total + counts
    assert total is not None
    return scores(total)


def run(name: str, folder: Path) -> dict[str, float | int | str]:
    """Searches, predicts and scores one data set."""
    from search.leaderboard import read

    options, tests = lay_out(name, folder)
    command = [sys.executable, "-m", "search.run", *options, "--num-trials", "12", "--max-time", "15m"]
    command += ["--name", name, "--storage", str(folder / "runs")]
    started = time.perf_counter()
    subprocess.run(command, check=True, cwd=ROOT)
    seconds = time.perf_counter() - started
    best = folder / "runs" / name / "best"
    output = folder / "predictions"
    predict = [sys.executable, "-m", "model.predict", str(best), str(tests), "--output", str(output)]
    subprocess.run(predict, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    table = read(folder / "runs" / name / "leaderboard.csv")
    result = score_written_masks(name, folder, tests, output / "masks")
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
