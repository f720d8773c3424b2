"""What each parameter makes of a training, by the recorded curves: what reasons in docs/space.md stand on.

Of each option, and of each third of a range (in magnitude where the range is drawn so), the median of the best Dice of
those trainings in `curves/curves.jsonl` that were drawn evenly from all of the space, with how many they are. As they
differ in all else too, only large differences mean anything: the last column has the difference between the best and
the worst of the medians, and how often it is as large where the Dice are shuffled among the trainings (2,000 times).
There is no goal.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from curves.make_curves import ANYWHERE, FILE, SPACE, search_space
from outcome import conclude, parse_arguments, print_table

from search.domain import Choice, Domain

SHUFFLES = 2000
PARTS = 3  # of a range
CLEAR = 0.05  # a difference that shuffled Dice have less often


def part_of(domain: Domain, value: Any) -> str:
    """The option, or the part of the range, that a value is."""
    if isinstance(domain, Choice) or isinstance(domain.low, int):
        return str(value)
    ends = (np.geomspace if domain.log else np.linspace)(domain.low, domain.high, PARTS + 1)
    part = min(int(np.searchsorted(ends, value, "right")) - 1, PARTS - 1)
    return f"{ends[part]:.2g} to {ends[part + 1]:.2g}"


def compare(name: str, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A parameter's options with their medians and numbers, the largest difference, and how often chance has it."""
    meant = sorted((line for line in lines if name in line["values"]), key=lambda line: line["values"][name])
    parts = np.array([part_of(search_space().domains[name], line["values"][name]) for line in meant])
    dice = np.array([max(line["val_dice"], default=0.0) for line in meant])
    options = list(dict.fromkeys(parts.tolist()))

    def medians(values: Any) -> list[float]:
        return [float(np.median(values[parts == option])) for option in options]

    draw = np.random.default_rng(0)
    difference = np.ptp(medians(dice))
    by_chance = np.mean([np.ptp(medians(draw.permutation(dice))) >= difference for _ in range(SHUFFLES)])
    numbers = [int((parts == option).sum()) for option in options]
    return {
        "options": {
            option: {"median": median, "n": n}
            for option, median, n in zip(options, medians(dice), numbers, strict=True)
        },
        "difference": float(difference),
        "by_chance": float(by_chance),
    }


def main() -> int:
    """Prints a table for each task."""
    arguments = parse_arguments(__doc__ or "")
    lines = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    figures: dict[str, dict[str, Any]] = {}
    for task in sorted({line["task"] for line in lines}):
        evenly = [line for line in lines if line["task"] == task and line["number"] < ANYWHERE]
        figures[task] = {name: compare(name, evenly) for name in SPACE}
        rows = [(f"{task}, {len(evenly)} trainings", "median of the best Dice", "difference", "by chance")]
        for name, found in sorted(figures[task].items(), key=lambda pair: -pair[1]["difference"]):
            medians = ", ".join(
                f"{key}: {each['median']:.3f} (n={each['n']})" for key, each in found["options"].items()
            )
            rows.append((name, medians, f"{found['difference']:.3f}", f"{found['by_chance']:.3f}"))
        print_table(rows)
    clear = {task: [name for name, one in found.items() if one["by_chance"] < CLEAR] for task, found in figures.items()}
    return conclude(
        "what_matters",
        "; ".join(f"{task}: {', '.join(names)}" for task, names in clear.items()),
        "none: these differ by more than chance",
        True,
        figures,
        arguments.json,
    )


if __name__ == "__main__":
    sys.exit(main())
