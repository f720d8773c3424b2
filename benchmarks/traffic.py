"""Bytes that a search writes and sends: the study and the table for each trial and epoch, a trial's files, a message.

Study and table: two searches of 100 trials that only report (as those of trial_overhead.py), 5 and 25 epochs long,
without scheduler; what the longer one has written more, divided by the epochs between, is an epoch's share, the rest is
a trial's. The table is written anew, whole, whenever it changes, about once a second at most: a row's share is that of
one writing.

Files: a real training of two epochs with the largest network of the usual space, on retinas; its last state and its
best model are each written once an epoch at most. A message is an epoch's report, as a worker sends it to the driver.

The goal is that study and table of a trial of 60 epochs are smaller than what its training keeps.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from outcome import conclude, describe_machine, parse_arguments, print_table
from trial_overhead import report_of, trivial_training

TRIALS, SHORT, LONG = 100, 5, 25
EPOCHS = 60  # of a usual trial


def search_and_count(epochs: int, folder: Path) -> dict[str, int]:
    """Bytes of study and table after a search with trainings that long."""
    from data.readers import load
    from data.split import split_data
    from search.resources import QUIET, choose_needs, machines, running_ray

    os.environ.update(QUIET)  # some of which Ray reads when it is imported

    from search.driver import search
    from search.run_folder import new_run
    from search.settings import SearchSettings
    from search.space import parse_space

    settings = SearchSettings(num_trials=TRIALS, max_epochs=epochs, storage=folder, scheduler="none")
    data = load(settings.data)
    with running_ray(None), new_run(folder, "traffic") as run:
        needs = choose_needs(1.0, 0.0, machines())
        space = parse_space({"max_epochs": epochs})
        outcome = search(
            settings, space, data, split_data(data), run, needs, look=lambda *_: None, train=trivial_training
        )
        assert sum(record.epochs for record in outcome.records) == TRIALS * epochs
        return {"study": run.journal.stat().st_size, "table": run.leaderboard.stat().st_size}


def count_apart(epochs: int) -> dict[str, int]:
    """The same in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--search", str(epochs), folder]
        environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
        return found


def train_and_count() -> dict[str, int]:
    """Bytes of what a real training keeps."""
    from data.readers import load
    from data.split import split_data
    from model.config import TrainConfig
    from model.train import train
    from search.space import parse_space

    space = parse_space({})
    largest = {name: max(space.domains[name].ends) for name in ("depth", "width")}
    data = load("synthetic")
    config = TrainConfig(**largest, max_epochs=2, batch_size=4, crop_size=64, epoch_pixels=0)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for _ in train(config, data, split_data(data)[0], device="cpu", folder=folder):
            pass
        best = sum(path.stat().st_size for path in (folder / "best").iterdir())
        return {"state": (folder / "last.safetensors").stat().st_size, "best": best, **largest}


def main() -> int:
    """Prints the tables and gives the exit code."""
    if sys.argv[1:2] == ["--search"]:
        print(json.dumps(search_and_count(int(sys.argv[2]), Path(sys.argv[3]))))
        return 0
    arguments = parse_arguments(__doc__)
    import cloudpickle  # type: ignore[import-untyped]

    from model.config import TrainConfig

    short, long = count_apart(SHORT), count_apart(LONG)
    training = train_and_count()
    epoch = (long["study"] - short["study"]) / (TRIALS * (LONG - SHORT))
    trial = short["study"] / TRIALS - SHORT * epoch
    row = long["table"] / TRIALS
    message = len(cloudpickle.dumps(report_of(1, 0.5, TrainConfig()).flat()))
    study = trial + EPOCHS * epoch
    figures: dict[str, Any] = {
        "study, a trial": trial,
        "study, an epoch": epoch,
        f"study, a trial of {EPOCHS} epochs": study,
        "table, a row": row,
        "message of an epoch": message,
        f"last state, depth {training['depth']}, width {training['width']}": training["state"],
        "best model of the same": training["best"],
    }
    print(describe_machine())
    print_table([("what", "bytes"), *((name, f"{value:,.0f}") for name, value in figures.items())])
    least = training["state"] + training["best"]
    figure = f"study and table {(study + row) / 1e6:.3f} MB a trial, its files {least / 1e6:.1f} MB"
    return conclude("traffic", figure, "the first smaller", study + row < least, {"bytes": figures}, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
