"""A real search of twenty minutes, ours against Ray Tune with OptunaSearch and ASHA as its documentation shows it.

Both train with `model.train.train` on STARE at its native size (the article's split: 8 images to train on, im0082 and
im0139 to validate), search the same space (the preset `default`) with the same seed of the trainings, and have two
cores and twenty minutes from the moment the command is started, one after the other, the second time in the other
order, each with caches of its own that are empty at first. What is compared is the validation Dice of the best trial so
far, by that clock. Expects the data sets in `../shared/datasets`, or where DATASETS says.

The goal is judged in the stricter way: a system's time is when it found its last improvement, not when it was ended.
Ours is the whole package: its first trials are its defaults, which were chosen on retinas, STARE among them, and the
article's settings. The table says which trial it was that reached stock's best.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from outcome import conclude, describe_machine, parse_arguments, print_table

ROOT = Path(__file__).resolve().parents[1]
DATASETS = Path(os.environ.get("DATASETS", ROOT.parent / "shared" / "datasets"))
IMAGE = ROOT / "docs" / "images" / "stare_search.png"
SECONDS = 1200
SEEDS = (13, 14)  # which nothing was tried with before
GOAL = 0.5  # of the stock search's time
MORE_SECONDS = 300  # that a command may take to end
LOOKS_EVERY = 0.5  # seconds
MARKS = (60, 120, 300, 600, 900, 1200)  # seconds at which the table tells the Dice

OURS, STOCK = "ours", "Ray: OptunaSearch + ASHA"
# The best Dice so far, by seconds since the command was started, and whose: a point for each improvement.
Course = list[tuple[float, float, str]]


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
        for report in train(TrainConfig(**config, seed=seed), data, split, device="cpu"):
            tune.report({"val_dice": report.flat()["val_dice"]})

    class Note(tune.Callback):
        """Writes down what was reported when."""

        def on_trial_result(self, *_: Any, result: dict[str, Any], **_named: Any) -> None:
            """One more line."""
            with (folder / "reports.csv").open("a") as file:
                file.write(f"{time.time()},{result.get('val_dice', 'nan')},{result['trial_id']}\n")

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
    began = time.time()
    end(start([__file__, "--stock", str(seed), str(folder)], folder))
    with (folder / "reports.csv").open(newline="") as file:
        return improvements((float(when) - began, float(dice), trial) for when, dice, trial in csv.reader(file))


def run_ours(seed: int, folder: Path) -> Course:
    """Our search as a person starts it, with its leaderboard looked at all the while."""
    command = ["-m", "search.run", "--data", "stare", "--data-root", str(DATASETS), "--size", "native"]
    command += ["--max-time", f"{SECONDS}s", "--seed", str(seed), "--name", "stare", "--storage", str(folder)]
    began = time.time()
    process = start(command, folder)
    reports = []
    while process.poll() is None and time.time() - began < SECONDS + MORE_SECONDS:
        time.sleep(LOOKS_EVERY)
        with suppress(FileNotFoundError):
            reports.append((time.time() - began, *best_in(folder / "stare" / "leaderboard.csv")))
    end(process)
    return improvements(reports)


def start(arguments: list[str], folder: Path) -> "subprocess.Popen[bytes]":
    """A Python command whose output is kept in `output.txt`."""
    environment = {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "UNET_SEARCH_CACHE": str(folder / "cache")}
    with (folder / "output.txt").open("wb") as output:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def end(process: "subprocess.Popen[bytes]") -> None:
    """Waits for a command. Raises an error when it does not end, or ends badly."""
    try:
        code = process.wait(SECONDS + MORE_SECONDS)
    finally:
        process.kill()
    assert code == 0, f"{process.args} ended with {code}"


def best_in(leaderboard: Path) -> tuple[float, str]:
    """The highest Dice in the table and its trial; 0 where it has none yet."""
    with leaderboard.open(encoding="utf-8", newline="") as file:
        rows = [(float(row["val_dice"]), row["trial_id"]) for row in csv.DictReader(file) if row["val_dice"]]
    return max(rows, default=(0.0, ""))


def improvements(reports: Iterable[tuple[float, float, str]]) -> Course:
    """Those of the reports within the time that were better than all before, a NaN never."""
    course: Course = []
    for seconds, dice, trial in reports:
        if seconds <= SECONDS and dice > (course[-1][1] if course else 0.0):
            course.append((seconds, dice, trial))
    return course


def dice_after(course: Course, seconds: float) -> float:
    """The best Dice by then."""
    return max((dice for when, dice, _ in course if when <= seconds), default=0.0)


def draw(courses: dict[str, list[Course]]) -> None:
    """Both systems' courses in one picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7.2, 4.2), dpi=150, layout="constrained")
    for (name, its_courses), colour in zip(courses.items(), ("#c1272d", "#0b6fa4"), strict=True):
        for seed, course in zip(SEEDS, its_courses, strict=True):
            minutes = [seconds / 60 for seconds, *_ in course] + [SECONDS / 60]
            dice = [dice for _, dice, _ in course] + [dice_after(course, SECONDS)]
            style = "-" if seed == SEEDS[0] else "--"
            axes.step(
                minutes, dice, style, where="post", color=colour, linewidth=2, label=f"{name}, seed {seed}", alpha=0.9
            )
    final = max(dice_after(course, SECONDS) for its_courses in courses.values() for course in its_courses)
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
    systems = {OURS: run_ours, STOCK: run_stock}
    courses: dict[str, list[Course]] = {name: [] for name in systems}
    kept = Path(tempfile.mkdtemp(prefix="stare_search_"))
    print(f"what the searches write is kept in {kept}", flush=True)
    for turn, seed in enumerate(SEEDS):
        for name in list(systems)[:: -1 if turn % 2 else 1]:
            folder = kept / f"{'ours' if name == OURS else 'stock'}_{seed}"
            folder.mkdir()
            courses[name].append(systems[name](seed, folder))
            print(f"{name}, seed {seed}: {dice_after(courses[name][-1], SECONDS):.4f}", flush=True)
            (kept / "courses.json").write_text(json.dumps(courses))
    print(describe_machine())
    rows = [("search", "seed", *(f"{mark} s" for mark in MARKS), "last improvement")]
    for name, its_courses in courses.items():
        for seed, course in zip(SEEDS, its_courses, strict=True):
            dice = [f"{dice_after(course, mark):.4f}" for mark in MARKS]
            last = f"{course[-1][1]:.4f} at {course[-1][0]:.0f} s" if course else "none"
            rows.append((name, str(seed), *dice, last))
    print_table(rows)
    draw(courses)
    shares, said = [], []
    for seed, ours, stock in zip(SEEDS, courses[OURS], courses[STOCK], strict=True):
        if not stock:
            said.append(f"seed {seed}: stock found nothing")
            continue
        stock_seconds, stock_dice, _ = stock[-1]
        reached = next(((seconds, trial) for seconds, dice, trial in ours if dice >= stock_dice), None)
        shares.append(reached[0] / stock_seconds if reached else None)
        took = f"after {reached[0]:.0f} s, {shares[-1]:.2f} of its time, by trial {reached[1]}" if reached else "never"
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
