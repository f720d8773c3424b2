"""The reports of a training as a table: a row for every epoch that was judged."""

import csv
from pathlib import Path

from data.spreadsheet import defused
from model.progress import EpochReport

HISTORY = "history.csv"


def add_to_history(path: Path, report: EpochReport) -> None:
    """Adds the report, named like the leaderboard's columns; an epoch that a resumed training repeats, only once."""
    row = {name: defused(value) if isinstance(value, str) else value for name, value in report.flat().items()}
    if path.exists():
        with path.open(encoding="utf-8", newline="") as file:
            if any(earlier.get("epoch") == str(report.epoch) for earlier in csv.DictReader(file)):
                return
    begins = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if begins:
            writer.writeheader()
        writer.writerow(row)
