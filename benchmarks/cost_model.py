"""How well the cost model foretells trainings it has not seen: seconds an epoch and memory, against what they took.

Small trainings of unlike networks, batches and crops run one after the other in this process, on one thread, for two
epochs each on synthetic retinas; before each one, as before each trial, the process's memory is given back and counted
anew. The model learns from two of every three, and predicts the third. Each third is left out in turn, so every
training is predicted once.
"""

import statistics
from dataclasses import asdict
from typing import Any

import numpy as np
from outcome import conclude, describe_machine, parse_arguments, print_table, spread

TRAININGS = 18
EPOCHS = 2
PARTS = 3
GOAL = 0.25  # median relative error
COMMON = {"max_epochs": EPOCHS, "epoch_pixels": 2**18, "collapse_epochs": 99, "precision": "float32"}
CHOICES: dict[str, tuple[Any, ...]] = {
    "depth": (2, 3, 4),
    "width": (4, 8, 16),
    "block": ("plain", "residual"),
    "passes": (1, 1, 2),
    "batch_size": (2, 4, 8, 16),
    "crop_size": (48, 64, 96, 128, 0),
    "upsampling": ("transposed", "bilinear"),
}


def main() -> int:
    """Trains, predicts each third by the others, and prints the table."""
    arguments = parse_arguments(__doc__ or "")
    import torch

    from data.readers import load
    from data.split import split_data
    from model.config import TrainConfig
    from model.device import release_memory, reset_peak_memory
    from model.train import train
    from search.cost_model import fit_costs
    from search.record import TrialRecord

    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    data = load("synthetic")
    (split,) = split_data(data)
    draw = np.random.default_rng(0)
    records = []
    for number in range(TRAININGS):
        drawn = {name: options[draw.integers(len(options))] for name, options in CHOICES.items()}
        config = TrainConfig(**COMMON, **drawn)
        release_memory(cpu)
        reset_peak_memory(cpu)
        record = TrialRecord(trial_id=f"t{number:04d}", config=asdict(config))
        for report in train(config, data, split):
            record = record.updated(report.flat())
        records.append(record)

    table = [("training", "s an epoch", "predicted", "MB", "predicted")]
    seconds_errors, memory_errors = [], []
    for number, record in enumerate(records):
        model = fit_costs([other for at, other in enumerate(records) if at % PARTS != number % PARTS], data, split)
        assert model is not None
        cost = model.predict(TrainConfig.from_mapping(record.config))
        seconds, memory = record.seconds / record.epochs, record.peak_memory_mb or 0.0
        seconds_errors.append(abs(cost.seconds_an_epoch / seconds - 1))
        memory_errors.append(abs(cost.peak_memory_mb / memory - 1))
        words = ", ".join(f"{name} {record.config[name]}" for name in CHOICES)
        figures = f"{seconds:.2f}", f"{cost.seconds_an_epoch:.2f}", f"{memory:.0f}", f"{cost.peak_memory_mb:.0f}"
        table.append((words, *figures))
    print(describe_machine())
    print_table(table)
    print(f"relative errors of seconds: {spread(seconds_errors, 2)}; of memory: {spread(memory_errors, 2)}")
    medians = statistics.median(seconds_errors), statistics.median(memory_errors)
    return conclude(
        "cost_model",
        f"median error {medians[0]:.0%} of an epoch's seconds, {medians[1]:.0%} of the memory",
        f"<= {GOAL:.0%} each",
        max(medians) <= GOAL,
        {"seconds_errors": seconds_errors, "memory_errors": memory_errors},
        arguments.json,
    )


if __name__ == "__main__":
    raise SystemExit(main())
