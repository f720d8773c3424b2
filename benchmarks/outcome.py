"""How a benchmark ends: its table, its closing line, its JSON file and its exit code."""

import argparse
import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def parse_arguments(description: str) -> argparse.Namespace:
    """The options that every benchmark takes: `--json FILE`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    return parser.parse_args()


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median and range, as `12.3 (11.9 to 13.0, n=5)`."""
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high}, n={len(values)})"


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Prints rows in aligned columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def describe_machine() -> str:
    """The device and versions that figures are to be read with."""
    import os

    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores"
    return f"{device}; Python {platform.python_version()}, torch {torch.__version__}"


def conclude(name: str, figure: str, goal: str, met: bool, figures: Mapping[str, Any], file: Path | None) -> int:
    """Prints the closing line, writes the JSON file when one is asked for, and gives the exit code."""
    if file is not None:
        outcome = {"name": name, "figure": figure, "goal": goal, "met": met, "machine": describe_machine(), **figures}
        file.write_text(json.dumps(outcome, indent=2) + "\n", encoding="utf-8")
    print(f"{name}: {figure} (goal {goal}{'' if met else ', NOT met'})")
    return 0 if met else 1
