"""A real search of twenty minutes, ours against Ray Tune with OptunaSearch and ASHA as its documentation shows it.

Both train with `model.train.train` on STARE at its native size (the article's split: 8 images to train on, im0082 and
im0139 to validate), search the same space (the preset `default`), and have two cores and twenty minutes, one after the
other, in turns, with two seeds. What is compared is the validation Dice of the best trial so far, by the time on the
clock since the command was started. Expects the data sets in `../shared/datasets`, or where DATASETS says.

The goal is judged in the stricter way: a system's time is when it found its last improvement, not when it was ended.
"""

import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from outcome import conclude, describe_machine, parse_arguments, print_table

ROOT = Path(__file__).resolve().parents[1]
DATASETS = Path(os.environ.get("DATASETS", ROOT.parent / "shared" / "datasets"))
IMAGE = ROOT / "docs" / "images" / "stare_search.png"
SECONDS = 1200
SEEDS = (0, 1)
GOAL = 0.5  # of the stock search's time
LOOKS_EVERY = 0.5  # seconds
MARKS = (60, 120, 300, 600, 900, 1200)  # seconds at which the table tells the Dice

OURS, STOCK = "ours", "Ray: OptunaSearch + ASHA"
# The best Dice so far, by seconds since the command was started: a point for each improvement.
Course = list[tuple[float, float]]


def define_by_run(trial: Any) -> dict[str, Any]:
    """The space, its conditions included, in the words of Optuna."""
    from search.space import parse_space, suggest

    return suggest(parse_space(["default"]), trial)


def search_with_stock(seed: int, folder: Path) -> None:
    """Ray's guide to OptunaSearch, with its ASHA; what is reported is added to `reports.csv`."""
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    from data.readers import load
    from data.segmentation_data import Preparation, Splitting
    from data.split import split_data
    from model.config import TrainConfig
    from model.train import train

    data = load("stare", root=DATASETS, preparation=Preparation(size="native"))
    split = split_data(data, Splitting())[0]

    def objective(config: dict[str, Any], data: Any, split: Any) -> None:
        for report in train(TrainConfig(**config), data, split, device="cpu"):
            tune.report({"val_dice": report.flat()["val_dice"]})

    class Note(tune.Callback):
        """Writes down what was reported when."""

        def on_trial_result(self, *_: Any, result: dict[str, Any], **_named: Any) -> None:
            """One more line."""
            with (folder / "reports.csv").open("a") as file:
                file.write(f"{time.time()},{result.get('val_dice', 'nan')}\n")

    tune.Tuner(
        tune.with_parameters(objective, data=data, split=split),
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(define_by_run, metric="val_dice", mode="max", seed=seed),
            scheduler=ASHAScheduler(metric="val_dice", mode="max", max_t=TrainConfig().max_epochs),
            num_samples=-1,
            time_budget_s=SECONDS,
        ),
        run_config=tune.RunConfig(storage_path=str(folder), callbacks=[Note()], verbose=0),
    ).fit()


def run_stock(seed: int, folder: Path) -> Course:
    """Stock's search in a process of its own."""
    command = [sys.executable, __file__, "--stock", str(seed), str(folder)]
    began = time.time()
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, f"stock's search ended with {done.returncode}: {done.stderr[-3000:]}"
    with (folder / "reports.csv").open(newline="") as file:
        reports = [(float(when) - began, float(dice)) for when, dice in csv.reader(file)]
    return improvements(reports)


def run_ours(seed: int, folder: Path) -> Course:
    """Our search as a person starts it, with its leaderboard looked at all the while."""
    command = [sys.executable, "-m", "search.run", "--data", "stare", "--data-root", str(DATASETS), "--size", "native"]
    command += ["--max-time", f"{SECONDS}s", "--seed", str(seed), "--name", "stare", "--storage", str(folder)]
    began = time.time()
    reports = []
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(LOOKS_EVERY)
            with suppress(FileNotFoundError):
                reports.append((time.time() - began, best_in(folder / "stare" / "leaderboard.csv")))
    assert process.returncode == 0, f"the search ended with {process.returncode}"
    return improvements(reports)


def best_in(leaderboard: Path) -> float:
    """The highest Dice in the table, 0 where it has none yet."""
    with leaderboard.open(encoding="utf-8", newline="") as file:
        return max((float(row["val_dice"]) for row in csv.DictReader(file) if row["val_dice"]), default=0.0)


def improvements(reports: list[tuple[float, float]]) -> Course:
    """Those of the reports that were better than all before, a NaN never."""

    def better() -> Iterator[tuple[float, float]]:
        best = 0.0
        for seconds, dice in reports:
            if dice > best:
                best = dice
                yield seconds, dice

    return list(better())


def dice_after(course: Course, seconds: float) -> float:
    """The best Dice by then."""
    return max((dice for when, dice in course if when <= seconds), default=0.0)


def seconds_to(course: Course, dice: float) -> float | None:
    """When this Dice was found; None where it was not."""
    return next((when for when, found in course if found >= dice), None)


def draw(courses: dict[str, list[Course]]) -> None:
    """Both systems' courses in one picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 4.2), dpi=150, layout="constrained")
    for (name, its_courses), colour in zip(courses.items(), ("#c1272d", "#0b6fa4"), strict=True):
        for seed, course in zip(SEEDS, its_courses, strict=True):
            minutes = [seconds / 60 for seconds, _ in course] + [SECONDS / 60]
            dice = [dice for _, dice in course] + [course[-1][1]]
            style = "-" if seed == SEEDS[0] else "--"
            axes.step(
                minutes, dice, style, where="post", color=colour, linewidth=2, label=f"{name}, seed {seed}", alpha=0.9
            )
    final = max(course[-1][1] for its_courses in courses.values() for course in its_courses)
    axes.set(xlim=(0, SECONDS / 60), ylim=(0.6, final + 0.01), title="STARE, two cores, twenty minutes")
    axes.set_xlabel("minutes since the command was started")
    axes.set_ylabel("validation Dice of the best trial so far")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    IMAGE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(IMAGE)
    pyplot.close(figure)


def main() -> int:
    """Runs the searches in turns, prints the table and draws the picture."""
    arguments = parse_arguments(__doc__ or "")
    courses: dict[str, list[Course]] = {OURS: [], STOCK: []}
    for seed in SEEDS:
        for name, run in ((OURS, run_ours), (STOCK, run_stock)):
            with tempfile.TemporaryDirectory() as folder:
                courses[name].append(run(seed, Path(folder)))
            seconds, dice = courses[name][-1][-1]
            print(f"{name}, seed {seed}: {dice:.4f}, found after {seconds:.0f} s", flush=True)
    draw(courses)
    print(describe_machine())
    rows = [("search", "seed", *(f"{mark} s" for mark in MARKS), "last improvement")]
    for name, its_courses in courses.items():
        for seed, course in zip(SEEDS, its_courses, strict=True):
            dice = [f"{dice_after(course, mark):.4f}" for mark in MARKS]
            rows.append((name, str(seed), *dice, f"{course[-1][1]:.4f} at {course[-1][0]:.0f} s"))
    print_table(rows)
    shares, said = [], []
    for seed, ours, stock in zip(SEEDS, courses[OURS], courses[STOCK], strict=True):
        stock_seconds, stock_dice = stock[-1]
        seconds = seconds_to(ours, stock_dice)
        shares.append(None if seconds is None else seconds / stock_seconds)
        took = "never" if seconds is None else f"after {seconds:.0f} s, {seconds / stock_seconds:.2f} of its time"
        said.append(f"seed {seed}: stock's {stock_dice:.4f} {took}")
    return conclude(
        "stare_search",
        "; ".join(said),
        f"at most {GOAL:g} of its time",
        all(share is not None and share <= GOAL for share in shares),
        {"courses": courses, "shares": shares},
        arguments.json,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--stock"]:
        search_with_stock(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(main())
