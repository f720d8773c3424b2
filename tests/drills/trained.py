"""The drill's log of epochs, written by the workers (`spy/sitecustomize.py`): who trained what, and where."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BEGAN = "began"  # a process goes on with a trial after this epoch
KEPT = "kept"  # an epoch is on disk


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line. what: `began`, `kept`, or the trouble that the trial makes; network: of the node."""

    what: str
    trial: str
    epoch: int
    process: int
    network: str


def read_log(folder: Path) -> list[Line]:
    """All lines so far."""
    file = folder / "epochs.log"
    lines = file.read_text().splitlines() if file.exists() else []
    return [
        Line(what=what, trial=trial, epoch=int(epoch), process=int(process), network=network)
        for what, trial, epoch, process, network in map(str.split, lines)
    ]


def kept_epochs(lines: Sequence[Line]) -> int:
    """How many epochs are on disk, each counted once."""
    return len({(line.trial, line.epoch) for line in lines if line.what == KEPT})


def under_way(lines: Sequence[Line], epochs: int) -> list[Line]:
    """Of each trial that a living process trains, its last line."""
    last = {line.trial: line for line in lines}
    return [line for line in last.values() if line.epoch < epochs and Path(f"/proc/{line.process}/ns/net").exists()]


def starts_from_behind(lines: Sequence[Line], forgiven: int) -> list[str]:
    """Which trials did not go on from their last checkpoint, in words.

    forgiven: epochs that a trial may go back, where its last state was damaged.
    """
    reached: dict[str, int] = {}
    wrong = []
    for line in lines:
        if line.what == BEGAN and line.epoch < reached.get(line.trial, 0) - forgiven:
            wrong.append(f"{line.trial} began after epoch {line.epoch}, though epoch {reached[line.trial]} was kept")
        if line.what == KEPT:
            reached[line.trial] = max(line.epoch, reached.get(line.trial, 0))
    return wrong
