"""The finalists of a run: which trials they are, how they did over several seeds, and their table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

import pandas as pd

from data.input_error import InputError
from search import leaderboard
from search.confidence import lower_bound
from search.final_training import FinalTraining, read_training
from search.record import BAD_ENDINGS, Status, TrialRecord

if TYPE_CHECKING:
    from rich.console import Console

TABLE = "finalists.csv"
# fmt: off
COLUMN_TYPES: dict[str, Any] = {
    "rank": int, "trial_id": str, "status": str, "reason": str, "seeds": int, "val_dice_mean": float,
    "val_dice_sd": float, "val_dice_lower": float, "search_val_dice": float, "optimism": float, "test_dice": float,
    "test_dice_low": float, "test_dice_high": float, **leaderboard.CONFIG_TYPES, "checkpoint": str,
}
# fmt: on
LAST = ("checkpoint",)
FIRST = tuple(name for name in COLUMN_TYPES if name not in (*leaderboard.CONFIG_TYPES, *LAST))
TESTED = ("test_dice", "test_dice_low", "test_dice_high")  # empty where the test images were not read


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A trial that was trained again.

    trial: what the search knew of it. seeds: for each seed number, the record of each fold; only of seeds of which all
    folds ended.
    """

    trial: TrialRecord
    seeds: Mapping[int, tuple[TrialRecord, ...]]

    @property
    def sound_seeds(self) -> dict[int, tuple[TrialRecord, ...]]:
        """The seeds whose trainings all came to a good end."""
        return {
            number: folds for number, folds in self.seeds.items() if not any(one.status in BAD_ENDINGS for one in folds)
        }

    @property
    def status(self) -> Status:
        """`completed`, or how the first training ended that ended badly."""
        return self._bad[0].status if self._bad else "completed"

    @property
    def reason(self) -> str:
        """In words, why it did not come through with every seed."""
        told = [
            f"seed {number}: {one.reason}"
            for number, folds in self.seeds.items()
            for one in folds
            if one.status in BAD_ENDINGS
        ]
        return "; ".join(told)

    @property
    def values(self) -> list[float]:
        """The `val_dice` of each seed, and fold, that came to a good end."""
        found = [one.val_dice for folds in self.sound_seeds.values() for one in folds]
        return [value for value in found if value is not None]

    @property
    def mean(self) -> float | None:
        """Mean `val_dice` over seeds and folds."""
        return fmean(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """Standard deviation of `val_dice` over seeds and folds."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def lower(self) -> float | None:
        """What the finalists are ranked by: the lower confidence bound of the mean."""
        return lower_bound(self.values) if len(self.values) > 1 else None

    @property
    def optimism(self) -> float | None:
        """How far above the mean the search's number was; None where that one is of fewer epochs."""
        if self.mean is None or self.trial.val_dice is None or self.trial.status != "completed":
            return None
        return self.trial.val_dice - self.mean

    @property
    def best_seed(self) -> int | None:
        """The seed with the highest `val_dice`, mean over the folds."""
        means = {number: fmean(one.val_dice or 0.0 for one in folds) for number, folds in self.sound_seeds.items()}
        return max(means, key=means.__getitem__) if means else None

    @property
    def checkpoint(self) -> str:
        """The model of its best seed, and there of the best fold, below the run's folder; empty where there is none."""
        if self.best_seed is None:
            return ""
        return max(self.seeds[self.best_seed], key=lambda one: one.val_dice or 0.0).checkpoint

    @property
    def _bad(self) -> list[TrialRecord]:
        return [one for folds in self.seeds.values() for one in folds if one.status in BAD_ENDINGS]


def choose_trials(records: Sequence[TrialRecord], top: int) -> list[TrialRecord]:
    """The first so many rows of the leaderboard that completed or were stopped, of equal settings only the first."""
    by_id = {record.trial_id: record for record in records}
    chosen: list[TrialRecord] = []
    for trial_id in leaderboard.to_frame(records, ())["trial_id"]:
        trial = by_id[trial_id]
        usable = trial.status in ("completed", "stopped") and trial.val_dice is not None
        if usable and all(_settings(other) != _settings(trial) for other in chosen):
            chosen.append(trial)
        if len(chosen) == top:
            break
    return chosen


def read_finalists(finals: Path, records: Iterable[TrialRecord], folds: int) -> list[Finalist]:
    """All trials that were trained again with two seeds or more, in this or an earlier call, best first."""
    again = [trial for trial in records if (finals / trial.trial_id).is_dir()]
    found = [Finalist(trial=trial, seeds=_read_seeds(finals, trial, folds)) for trial in again]
    return ranked(finalist for finalist in found if len(finalist.seeds) > 1)


def ranked(finalists: Iterable[Finalist]) -> list[Finalist]:
    """Those that came through with every seed first; among their like by the lower bound."""

    def order(finalist: Finalist) -> tuple[bool, bool, float, str]:
        lower = finalist.lower
        return finalist.status in BAD_ENDINGS, lower is None, -(lower or 0.0), finalist.trial.trial_id

    return sorted(finalists, key=order)


def to_frame(finalists: Sequence[Finalist], tested: Mapping[str, Mapping[str, float | None]]) -> pd.DataFrame:
    """The table of finalists, in the order in which they come.

    tested: for each trial whose model was read on the test images, its `TESTED` columns.
    """
    configs = [finalist.trial.config for finalist in finalists]
    differing = [name for name in leaderboard.CONFIG_TYPES if name != "seed" and _differs(configs, name)]
    names = [*FIRST, *differing, *LAST]
    rows = [
        {
            **finalist.trial.config,
            "rank": rank,
            "trial_id": finalist.trial.trial_id,
            "status": finalist.status,
            "reason": finalist.reason,
            "seeds": len(finalist.seeds),
            "val_dice_mean": finalist.mean,
            "val_dice_sd": finalist.deviation,
            "val_dice_lower": finalist.lower,
            "search_val_dice": finalist.trial.val_dice,
            "optimism": finalist.optimism,
            **tested.get(finalist.trial.trial_id, {}),
            "checkpoint": finalist.checkpoint,
        }
        for rank, finalist in enumerate(finalists, start=1)
    ]
    frame = pd.DataFrame([[row.get(name) for name in names] for row in rows], columns=names, dtype=object)
    return leaderboard.typed(frame, COLUMN_TYPES)


def write(path: Path, frame: pd.DataFrame) -> None:
    """Writes the table as CSV, replaced as a whole, safe in a spreadsheet."""
    leaderboard.write(path, frame)


def read(path: Path) -> pd.DataFrame:
    """The table that `write` wrote, its columns typed again; path: of the file, or the run's folder.

    Raises InputError where there is none.
    """
    path = path / TABLE if path.is_dir() else path
    if not path.is_file():
        raise InputError(f"finalists {str(path)!r} do not exist: python -m search.finals RUN makes them.")
    return leaderboard.read_table(path, COLUMN_TYPES)


def render(frame: pd.DataFrame, console: "Console") -> None:
    """Prints the table as aligned lines, with the columns that tell most."""
    from rich.text import Text

    heads = ("rank", "trial_id", "status", "seeds", "val_dice", "sd", "lower", "search", "optimism", "test", "reason")
    rows = [
        (
            f"{row['rank']}",
            row["trial_id"],
            row["status"],
            f"{row['seeds']}",
            _number(row["val_dice_mean"]),
            _number(row["val_dice_sd"]),
            _number(row["val_dice_lower"]),
            _number(row["search_val_dice"]),
            _number(row["optimism"], "+.4f"),
            _with_interval(*(row[name] for name in TESTED)),
            row["reason"],
        )
        for _, row in frame.iterrows()
    ]
    shown = [place for place in range(len(heads)) if any(row[place] for row in rows)]
    widths = {place: max(len(row[place]) for row in (heads, *rows)) for place in shown}
    for row in (heads, *rows):
        line = "  ".join(f"{row[place]:{width}}" for place, width in widths.items())
        console.print(Text(line.rstrip()), soft_wrap=True)


def _read_seeds(finals: Path, trial: TrialRecord, folds: int) -> dict[int, tuple[TrialRecord, ...]]:
    """For each seed number of which all folds ended, their records."""
    numbers = (path.name.removeprefix("seed-") for path in (finals / trial.trial_id).glob("seed-*"))
    seeds = {}
    for number in sorted(int(text) for text in numbers if text.isdecimal()):
        trainings = [
            FinalTraining(trial_id=trial.trial_id, seed_number=number, fold=fold, folds=folds, params=trial.config)
            for fold in range(folds)
        ]
        records = tuple(read_training(finals, training) for training in trainings)
        if all(record.status != "running" for record in records):
            seeds[number] = records
    return seeds


def _settings(trial: TrialRecord) -> dict[str, Any]:
    """What a trial is trained by, apart from its seed, to be compared."""
    return {**trial.config, "seed": 0}


def _differs(configs: Sequence[Mapping[str, Any]], name: str) -> bool:
    return len({repr(config.get(name)) for config in configs}) > 1


def _number(value: Any, form: str = ".4f") -> str:
    return "" if pd.isna(value) else f"{value:{form}}"


def _with_interval(value: Any, low: Any, high: Any) -> str:
    interval = "" if pd.isna(low) else f" [{_number(low)}, {_number(high)}]"
    return _number(value) + interval
