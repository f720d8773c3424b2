"""What one training with default settings is worth: no search, three seeds, on the test images of four real sets.

For each data set and seed, `python -m model.train` with nothing but the data, their native size, the field of view of
retinas found, and the seed; a training that is not through after ten minutes is interrupted, as a person would with
Ctrl-C. Then the best model, with the thresholds that were chosen on the validation images, is judged on the test
images, pixels pooled over all of them, inside the field of view. Expects the data sets in `../shared/datasets`, or
where DATASETS says.

  stare            train 8, validate im0082 and im0139, test 10 (the article's split)
  chasedb1-second  train 8 (children 01 to 04), validate 2 (child 05), test 4 (children 06 and 07)
  wbc              images 001-240 to train and validate (seeded split), 241-300 to test
  idrid            images 01-18 to train and validate (seeded split), 19-24 to test; Dice of the hard exudates counts
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from outcome import conclude, describe_machine, parse_arguments, print_table, spread

from data.command_line import INTERRUPTED
from data.readers import load
from data.segmentation_data import Preparation, Splitting
from data.split import split_data
from data.windows import place
from model.checkpoint import load_model
from model.device import choose_device, uses_bfloat16
from model.judge import judge
from model.metrics import Scores

ROOT = Path(__file__).resolve().parents[1]
DATASETS = Path(os.environ.get("DATASETS", ROOT.parent / "shared" / "datasets"))
SEEDS = (0, 1, 2)
MOST_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class Task:
    """A data set. goal: least Dice, mean over the seeds, of `class_name`, or mean over the classes where it is None."""

    preparation: Preparation
    goal: float
    class_name: str | None = None


RETINA = Preparation(size="native", field_of_view="found")
TASKS = {
    "stare": Task(preparation=RETINA, goal=0.80),
    "chasedb1-second": Task(preparation=RETINA, goal=0.74),
    "wbc": Task(preparation=Preparation(size="native"), goal=0.92),
    "idrid": Task(preparation=RETINA, goal=0.50, class_name="hard_exudates"),
}


def train_once(name: str, task: Task, seed: int, folder: Path) -> tuple[float, bool]:
    """Trains as a person would, for ten minutes at most.

    The seconds it took, the start of the process included, and whether it was interrupted.
    """
    command = [sys.executable, "-m", "model.train", "--data", name, "--data-root", str(DATASETS), "--size", "native"]
    command += ["--field-of-view", task.preparation.field_of_view, "--seed", str(seed), "--folder", str(folder)]
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as training:
        try:
            code = training.wait(MOST_SECONDS)
        except subprocess.TimeoutExpired:
            training.send_signal(signal.SIGINT)
            code = training.wait()
    assert code in (0, INTERRUPTED), f"the training ended with {code}"
    return time.perf_counter() - started, code == INTERRUPTED


def score_on_test_images(name: str, task: Task, model: Path) -> tuple[Scores, tuple[str, ...]]:
    """What the model is worth on the test images, and the names of its classes."""
    device = choose_device("auto")
    data = load(name, root=DATASETS, preparation=task.preparation)
    test = split_data(data, Splitting())[0].test
    network, card = load_model(model, device)
    bfloat16 = uses_bfloat16(card.config.precision, device)
    pictures = place(data, test, device)
    judgement = judge(network, pictures, card.label_mode, bfloat16=bfloat16, thresholds=card.thresholds)
    return judgement.scores(), card.class_names


def main() -> int:
    """Trains, scores and prints the table."""
    arguments = parse_arguments(__doc__ or "")
    rows = [
        ("data", "figure", "test Dice: median (range)", "mean", "goal", "precision", "recall", "seconds", "interrupted")
    ]
    figures, met = {}, True
    for name, task in TASKS.items():
        scored: list[Scores] = []
        dice, seconds, interrupted = [], [], 0
        for seed in SEEDS:
            with tempfile.TemporaryDirectory() as folder:
                took, cut = train_once(name, task, seed, Path(folder))
                score, class_names = score_on_test_images(name, task, Path(folder) / "best")
            seconds.append(took)
            interrupted += cut
            of_class = None if task.class_name is None else score.class_dice[class_names.index(task.class_name)]
            scored.append(score)
            dice.append(score.dice if of_class is None else of_class)
            print(f"{name}, seed {seed}: {dice[-1]:.4f} in {seconds[-1]:.0f} s; by class", end=" ")
            print(
                ", ".join(f"{one} {value:.4f}" for one, value in zip(class_names, score.class_dice, strict=True)),
                end="",
            )
            print(f"; AUC-ROC {score.auc_roc:.4f}, AUC-PR {score.auc_pr:.4f}", flush=True)
        mean = statistics.fmean(dice)
        met &= mean >= task.goal
        rows.append(
            (
                name,
                task.class_name or "mean over classes",
                spread(dice, 4),
                f"{mean:.4f} (sd {statistics.stdev(dice):.4f})",
                f"{task.goal:.2f}",
                spread([score.precision_macro for score in scored], 3),
                spread([score.recall_macro for score in scored], 3),
                spread(seconds, 0),
                f"{interrupted} of {len(SEEDS)}",
            )
        )
        figures[name] = {"test_dice": dice, "seconds": seconds, "interrupted": interrupted}
    print(describe_machine())
    print_table(rows)
    figure = ", ".join(f"{name} {statistics.fmean(one['test_dice']):.4f}" for name, one in figures.items())
    goal = ", ".join(f"{name} >= {task.goal:.2f}" for name, task in TASKS.items())
    return conclude("defaults", figure, f"{goal}, at most {MOST_SECONDS:.0f} s each", met, figures, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
