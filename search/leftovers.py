"""The disk that a run takes: what is cleared while it goes on, and how much it will be at most."""

from dataclasses import dataclass
from pathlib import Path
from shutil import disk_usage, rmtree
from typing import TYPE_CHECKING

from data.input_error import InputError
from data.segmentation_data import SegmentationData
from model.config import TrainConfig
from search.mirror import Mirror
from search.record import TRIAL_ID
from search.run_folder import RunFolder
from search.trial_mirror import remove_states

if TYPE_CHECKING:
    import optuna

SMALL_FILES = 1_000_000  # bytes of a training at most, on the whole: its scores, curves, sample and record
STATES_OF_WEIGHTS = 4  # numbers that a state has of each weight: itself, two of the optimizer's, its average
SPARE = 100_000_000  # bytes that are left for the study, the leaderboard, and what Ray writes


class Leftovers:
    """Clears away the states of trials that never go on, once the disk has the study that says so."""

    def __init__(self, run: RunFolder, mirror: Mirror | None) -> None:
        """mirror: sends the run to its URL, where it has one, and clears there."""
        self._run = run
        self._mirror = mirror
        self._cleared: set[str] = set()
        sweep_halves(run)

    def clear(self, study: "optuna.Study") -> None:
        """Looks for trials that have ended since."""
        from search.study import sync

        finished = {one: epochs for one, epochs in finished_trials(study).items() if one not in self._cleared}
        if not finished:
            return
        sync(study)
        if self._mirror is not None:  # which needs to know of a state how new it is, until all is sent
            self._mirror.note_finished(finished)
        else:
            remove_states(self._run.trials, finished)
        self._cleared.update(finished)


def finished_trials(study: "optuna.Study") -> dict[str, int]:
    """The ids of trials that never go on, with their epochs; those that wait, or that a limit cut off, may go on."""
    ended = (trial.user_attrs for trial in study.get_trials(deepcopy=False) if trial.state.is_finished())
    return {said[TRIAL_ID]: said.get("record", {}).get("epochs", 0) for said in ended if TRIAL_ID in said}


def sweep_halves(run: RunFolder) -> None:
    """Removes what killed processes left half-written in a run that nobody else works in."""
    for folder in (run.best, run.trials):
        for path in [folder.with_name(f"{folder.name}.part"), *folder.rglob("*.part")]:
            if path.is_dir():
                rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class DiskUse:
    """What a run takes of the disk at most, in bytes.

    trainings: how many there are, each fold of a trial being one; None for any number. at_once: how many run side by
    side. folds: of each trial. model, state: of the largest training, its weights and all that it goes on from, of
    which the last two are kept.
    """

    trainings: int | None
    at_once: int
    folds: int
    model: int
    state: int

    @property
    def of_a_training(self) -> int:
        """What one training keeps while it may go on."""
        return self.model + 2 * self.state + SMALL_FILES

    @property
    def under_way(self) -> int:
        """What is there for a moment: of each training under way a second copy, and the best model, twice."""
        return self.at_once * (self.model + self.state) + 2 * self.model

    @property
    def at_most(self) -> int | None:
        """All of it, for a known number of trainings, none of which has ended; and a copy of the best of the folds."""
        if self.trainings is None:
            return None
        copies = self.trainings // self.folds * self.model if self.folds > 1 else 0
        return self.trainings * self.of_a_training + copies + self.under_way

    def describe(self, free: int) -> str:
        """In words, beside what is free."""
        each = f"{in_megabytes(self.of_a_training)} a training while it may go on, then {in_megabytes(self.model)}"
        if self.at_most is None:
            return f"disk: at most {each}; {in_megabytes(free)} free"
        all_of_it = f"{in_megabytes(self.at_most)} ({self.trainings} trainings, {each})"
        return f"disk: at most {all_of_it}; {in_megabytes(free)} free"

    def check(self, place: str, free: int) -> str:
        """A warning where the disk may not do, else an empty text. Raises InputError where it cannot even begin."""
        begin = self.at_once * self.of_a_training + self.under_way
        if free < begin:
            raise InputError(
                f"storage {place!r} has {in_megabytes(free)} free, and the first {self.at_once} trainings may take "
                f"{in_megabytes(begin)}: make room, name another --storage, or search smaller networks (--space)."
            )
        if self.at_most is not None and free < self.at_most + SPARE:
            return f"the disk may become full: at most {in_megabytes(self.at_most)}, free {in_megabytes(free)}"
        return ""


def disk_use(largest: TrainConfig, data: SegmentationData, *, trials: int | None, folds: int, at_once: int) -> DiskUse:
    """What a run takes whose largest training is this one. trials: None for any number."""
    import torch

    from model.checkpoint import ModelCard

    with torch.device("meta"):
        network = ModelCard.of(largest, data, thresholds=(0.5,) * len(data.class_names)).build()
    model = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    return DiskUse(
        trainings=None if trials is None else trials * folds,
        at_once=at_once,
        folds=folds,
        model=model,
        state=STATES_OF_WEIGHTS * model,
    )


def free_room(folder: Path) -> int:
    """Bytes that are free where this folder lies, or will lie."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return disk_usage(there).free


def in_megabytes(size: int) -> str:
    """The size in words."""
    return f"{size / 1e9:.1f} GB" if size >= 10e9 else f"{max(1, round(size / 1e6)):,} MB"
