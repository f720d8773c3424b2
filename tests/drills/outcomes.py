"""What a run must be after a drill, whatever happened on the way."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from search.leaderboard import read
from search.study import read_study
from tests.drills.searches import EPOCHS, TRIALS, Search
from tests.drills.trained import read_log, starts_from_behind

LEFTOVERS = (".ray", "*.part", ".previous.safetensors", ".next.safetensors")  # of which none is to lie there at the end
# How long and where, which no two runs share.
MEASURED = ("seconds", "device", "images_per_second", "peak_memory_mb", "latency_ms")
Row = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run has come to. rows: of the leaderboard in its order, by trial; weights: of their best models."""

    rows: dict[str, Row]
    weights: dict[str, str]


def result_of(run: Path) -> Result:
    """What lies in the folder of the run."""
    frame = read(run / "leaderboard.csv").drop(columns=list(MEASURED), errors="ignore")
    rows = {str(row["trial_id"]): {name: repr(value) for name, value in row.items()} for _, row in frame.iterrows()}
    # Of a trial by its name, and of the run by that of its folder.
    files = [*run.glob("trials/*/best/*.safetensors"), *run.glob("best/*.safetensors")]
    models = {"best" if file.parents[1] == run else file.parts[-3]: file for file in files}
    return Result(rows=rows, weights={trial: _weights_of(file) for trial, file in models.items()})


def _weights_of(file: Path) -> str:
    """A checksum of the numbers in a safetensors file, without its header, whose length its first 8 bytes are."""
    content = file.read_bytes()
    return hashlib.sha256(content[8 + int.from_bytes(content[:8], "little") :]).hexdigest()


def finished(run: Path) -> dict[str, Any]:
    """The trials that have ended: id -> value."""
    if not (run / "study.log").exists():
        return {}
    trials = read_study(run / "study.log").get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return {trial.user_attrs["trial_id"]: trial.values for trial in trials}


def broken(
    search: Search, folder: Path, before: dict[str, Any], undisturbed: Result, *, forgiven: int, spoilt: frozenset[str]
) -> list[str]:
    """What does not hold of a run that was disturbed, in words.

    before: the trials that had ended when it was. forgiven: epochs that a trial may go back. spoilt: trials that the
    drill itself brought to a bad end.
    """
    wrong = []
    trials = read_study(search.run / "study.log").get_trials(deepcopy=False)
    states = Counter(trial.state.name for trial in trials)
    if unfinished := [trial.user_attrs["trial_id"] for trial in trials if not trial.state.is_finished()]:
        wrong.append(f"{', '.join(unfinished)} unfinished in the study ({dict(states)})")
    ids = Counter(trial.user_attrs["trial_id"] for trial in trials)
    if len(trials) != TRIALS or len(ids) != TRIALS:
        wrong.append(f"{len(trials)} trials in the study with {len(ids)} ids instead of {TRIALS}")
    after = finished(search.run)
    wrong += [f"{trial} had finished and is lost or changed" for trial in before if after.get(trial) != before[trial]]
    lines = read_log(folder)
    wrong += starts_from_behind(lines, forgiven)
    for trial in before:
        again = [line for line in lines if line.trial == trial and line.what == "kept"]
        if len(again) != len({line.epoch for line in again}) or len(again) < EPOCHS:
            wrong.append(f"{trial} was trained again")
    left = sorted(str(path.relative_to(search.run)) for name in LEFTOVERS for path in search.run.rglob(name))
    if left:
        wrong.append(f"{', '.join(left)} left behind")
    result = result_of(search.run)
    if set(result.rows) != set(undisturbed.rows):
        wrong.append(f"the leaderboard has {', '.join(sorted(result.rows))}")
    if not spoilt and list(result.rows) != list(undisturbed.rows):
        wrong.append("the leaderboard has another order")
    for trial, row in result.rows.items():
        expected = undisturbed.rows.get(trial, row)
        ignored = {"rank"} if spoilt else set()
        differing = [name for name in row if name not in ignored and row[name] != expected.get(name)]
        if differing and trial not in spoilt:
            told = ", ".join(f"{name} {row[name]} instead of {expected.get(name)}" for name in differing[:3])
            wrong.append(f"{trial} differs: {told}")
    for trial, digest in undisturbed.weights.items():
        if trial not in spoilt and result.weights.get(trial) != digest and not (spoilt and trial == "best"):
            wrong.append(f"the best model of {trial} has other weights")
    return wrong
