"""Several runs side by side: whether they can be compared, and their trials ranked together."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data.input_error import InputError
from search.record import BAD_ENDINGS
from search.run_folder import RunFolder

RUN = "run"  # the column that says of which run a trial is
# What must be the same in `dataset.json`, and what a person is told where it is not.
SAME = {
    "class_names": "their classes differ",
    "label_mode": "one tells classes apart that the other lets overlap",
    "preparation": "their pictures were prepared in another way or size",
    "fingerprint": "they learnt from other pictures or masks",
    "split": "their pictures are split in another way",
    "folds": "their pictures are split into other folds",
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run to be looked at. name: as it was typed. frame: its leaderboard."""

    name: str
    path: Path
    frame: pd.DataFrame


def check_comparable(runs: Sequence[Run]) -> None:
    """Raises InputError where the `val_` columns of these runs do not mean the same, or are too few to compare."""
    if len(runs) < 2:
        raise InputError(f"compare {runs[0].name!r} has nothing to compare with: name two or more runs.")
    first, *others = ((run, _facts(run)) for run in runs)
    for run, facts in others:
        for name, words in SAME.items():
            if facts.get(name) != first[1].get(name):
                how = _difference(first[1], facts, name)
                raise InputError(
                    f"runs {first[0].name!r} and {run.name!r} cannot be compared: {words} ({how}); leave --compare out "
                    "to see them one after the other."
                )


def together(runs: Sequence[Run]) -> pd.DataFrame:
    """The trials of all runs in one table, best first, ranked anew; the column `run` is the first."""
    short = {run.name: Path(run.name.rstrip("/")).name for run in runs}
    names = short if len(set(short.values())) == len(runs) else {run.name: run.name for run in runs}
    parts = []
    for run in runs:
        part = run.frame.copy()
        part.insert(0, RUN, pd.Series([names[run.name]] * len(part), index=part.index, dtype="str"))
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    order = pd.DataFrame(
        {
            "bad": frame["status"].isin(BAD_ENDINGS),
            "folds": -frame["folds"].fillna(1),
            "val_dice": -frame["val_dice"],
        }
    ).sort_values(["bad", "folds", "val_dice"], kind="stable", na_position="last")
    frame = frame.loc[order.index].reset_index(drop=True)
    frame["rank"] = pd.Series(range(1, len(frame) + 1), dtype="Int64")
    return frame


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """A row for each run of the table that `together` made: its best trial, how many it had, what they took."""
    rows = []
    for name, part in frame.groupby(RUN, sort=False):
        best = part.iloc[0]
        rows.append(
            {
                RUN: name,
                "best": best["trial_id"],
                "val_dice": best["val_dice"],
                "trials": len(part),
                "completed": int((part["status"] == "completed").sum()),
                "epochs": int(part["epochs"].fillna(0).sum()),
                "hours": part["seconds"].sum() / 3600,
                "versions": ", ".join(sorted(set(part["version"]) - {""})),
            }
        )
    return pd.DataFrame(rows).astype({RUN: "str", "best": "str", "versions": "str"})


def _facts(run: Run) -> Mapping[str, Any]:
    """What a run learnt from."""
    path = RunFolder(path=run.path).dataset
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(facts, dict):
            raise ValueError("it holds no names")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"run {run.name!r} does not say what it learnt from ({path.name} cannot be read: {error}); leave --compare "
            "out."
        ) from error
    return facts


def _difference(first: Mapping[str, Any], second: Mapping[str, Any], name: str) -> str:
    """How two values differ, in few words."""
    one, other = first.get(name), second.get(name)
    if isinstance(one, list) and isinstance(other, list) and len(str((one, other))) < 200:
        return f"{', '.join(map(str, one))} against {', '.join(map(str, other))}"
    if isinstance(one, str) and isinstance(other, str):
        return f"{first.get('source')} {one[:8]} against {second.get('source')} {other[:8]}"
    if isinstance(one, dict) and isinstance(other, dict):
        differing = [key for key in {**one, **other} if one.get(key) != other.get(key)]
        return f"in {', '.join(differing)}"
    return f"{name} of the one alone" if one is None or other is None else name
