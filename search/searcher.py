"""The searcher: what Ray Tune asks for hyperparameters and tells results, answered by an Optuna study."""

import pickle
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from ray.tune.search import Searcher

from model.config import TrainConfig
from search.record import BAD_ENDINGS, TRIAL_ID, TrialRecord, finite, whole
from search.space import Space, start_points, suggest
from search.study import make_sampler, open_study

# What Ray says of a worker that it, or the system, ended because the machine ran short of memory.
OUT_OF_MEMORY = ("low on memory", "OutOfMemoryError", "out of memory")
BAD_ENDING = "bad_ending"  # the constraint that a bad ending breaks


class StudySearcher(Searcher):
    """Asks an Optuna study for what to try, and tells it what came of it.

    Everything it knows stands in the study: an Optuna trial carries our `trial_id`, Ray's `ray_trial_id`, and `record`
    (see `TrialRecord`), which is saved before the trial is told to Optuna. So a search whose driver was killed at any
    moment goes on with a new searcher on the same journal: trials that had ended are told, the others are handed out
    again, under the same id and with the same values.

    How endings are told: completed, as COMPLETE with the trial's highest `val_dice` (leaderboards rank by it, and its
    model is the one that is kept); stopped by the scheduler or by the end of the budget, as PRUNED; a bad ending
    (diverged, collapsed, out of memory, failed), as PRUNED with a broken constraint, which the sampler ranks below all
    others. A last intermediate value of NaN would not do: Optuna ranks pruned trials by their last step first.

    It names no metric to Ray, which would end the whole search over one result without it.
    """

    def __init__(
        self,
        *,
        journal: Path,
        space: Space,
        num_trials: int,
        seed: int,
        max_concurrent: int,
        reason_of: Callable[[str], str] | None = None,
        dataset: str = "",
        version: str = "",
    ) -> None:
        """Opens or makes the study.

        num_trials: how many trials the study shall have, those of earlier sessions included. max_concurrent: how many
        may be unfinished at a time. reason_of: gives, for a trial id of Ray's, why the scheduler ended the trial.
        dataset, version: what the records say of them. Raises InputError for a study that cannot be continued.
        """
        super().__init__()
        self._journal = journal.absolute()
        self._space = space
        self._num_trials = num_trials
        self._seed = seed
        self._max_concurrent = max_concurrent
        self._reason_of = reason_of
        self._dataset = dataset
        self._version = version
        self._live: dict[str, int] = {}  # trial id of Ray's -> number of the Optuna trial
        self._study: optuna.Study | None = self._open()

    @property
    def study(self) -> optuna.Study:
        """The study behind it."""
        if self._study is None:
            self._study = self._open()
        return self._study

    @property
    def has_more(self) -> bool:
        """Whether the study has trials left to start or to go on with."""
        trials = self.study.get_trials(deepcopy=False)
        return len(trials) < self._num_trials or any(trial.state == TrialState.RUNNING for trial in trials)

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """A trial for Ray: every field of `TrainConfig`, and our own id of it under `trial_id`.

        Trials that an earlier session left unfinished come first. Gives `Searcher.FINISHED` when the study has all its
        trials, and None while as many as are allowed are running.
        """
        trials = self.study.get_trials(deepcopy=False)
        running = [trial.number for trial in trials if trial.state == TrialState.RUNNING]
        left = [number for number in running if number not in self._live.values()]
        if not left and len(trials) >= self._num_trials:
            return Searcher.FINISHED
        if len(self._live) >= self._max_concurrent:
            return None
        trial = self._trial(left[0]) if left else self.study.ask()
        record = self._record(trial)
        trial.set_user_attr("ray_trial_id", trial_id)
        self._live[trial_id] = trial.number
        return {**record.config, TRIAL_ID: record.trial_id}

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Takes in what one epoch showed. A result of a trial that has ended already is left out."""
        if trial_id in self._live:
            self._note(self._trial(self._live[trial_id]), result)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Takes in the end of a trial, with its last result; the one over which it was stopped comes here only."""
        if trial_id not in self._live:
            return
        trial = self._trial(self._live[trial_id])
        record = self._note(trial, result or {})
        reason = self._reason_of(trial_id) if self._reason_of else ""
        if error:
            status = "out_of_memory" if any(words in reason for words in OUT_OF_MEMORY) else "failed"
            self._end(trial, record, status, reason or "its process died more often than it may be started again")
        else:
            self._end(trial, record, "stopped", reason or _where(record))
        del self._live[trial_id]

    def close(self, reason: str) -> None:
        """Ends every unfinished trial as stopped, for this reason: what to do when the budget is used up.

        After an interrupt it is not called, and the next session goes on with them.
        """
        for unfinished in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            trial = self._trial(unfinished.number)
            self._end(trial, self._record(trial), "stopped", reason)
        self._live.clear()

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Lets Ray's `max_concurrent_trials` set the limit; then Ray also asks for that many trials at once."""
        self._max_concurrent = max_concurrent
        return True

    def save(self, checkpoint_path: str) -> None:
        """Writes its state, without the study, which is on disk already."""
        Path(checkpoint_path).write_bytes(pickle.dumps(self.__getstate__()))

    def restore(self, checkpoint_path: str) -> None:
        """Takes over the state that `save` wrote."""
        self.__setstate__(pickle.loads(Path(checkpoint_path).read_bytes()))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_study": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def _open(self) -> optuna.Study:
        """The study on disk, in which every trial whose record has an end is told."""
        study = open_study(self._journal)
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            saved = trial.user_attrs.get("record")
            if saved is not None and saved["status"] != "running":
                _tell(study, optuna.Trial(study, trial._trial_id), TrialRecord(**saved))
        return study

    def _trial(self, number: int) -> optuna.Trial:
        """The handle on a trial of the study."""
        return optuna.Trial(self.study, self.study.get_trials(deepcopy=False)[number]._trial_id)

    def _record(self, trial: optuna.Trial) -> TrialRecord:
        """The record in the study; the first one of a trial draws its values, or those that are still missing."""
        saved = trial.user_attrs.get("record")
        if saved is not None:
            return TrialRecord(**saved)
        self.study.sampler = make_sampler(
            seed=self._seed, number=trial.number, num_trials=self._num_trials, starts=start_points(self._space)
        )
        config = TrainConfig(**suggest(self._space, trial))
        record = TrialRecord(
            trial_id=f"t{trial.number:04d}", config=asdict(config), dataset=self._dataset, version=self._version
        )
        trial.set_user_attr("trial_id", record.trial_id)
        trial.set_user_attr("record", asdict(record))
        return record

    def _note(self, trial: optuna.Trial, result: Mapping[str, Any]) -> TrialRecord:
        """Reports the epoch to Optuna, unless it has been (a resumed trial repeats its last one), and to the record."""
        epoch, val_dice = whole(result.get("epoch")), finite(result.get("val_dice"))
        reported = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        if epoch is not None and val_dice is not None and epoch not in reported:
            trial.report(val_dice, epoch)
        record = self._record(trial).updated(result)
        trial.set_user_attr("record", asdict(record))
        return record

    def _end(self, trial: optuna.Trial, record: TrialRecord, status: str, reason: str) -> None:
        """Saves how the trial ended, which is as it says itself if it does, and then tells Optuna."""
        if record.status == "running":
            record = record.updated({"status": status, "reason": reason})
            trial.set_user_attr("record", asdict(record))
        _tell(self.study, trial, record)


def _tell(study: optuna.Study, trial: optuna.Trial, record: TrialRecord) -> None:
    """Tells Optuna the end that the record has."""
    assert record.status != "running"
    if record.status == "completed":
        study.tell(trial, record.val_dice)
        return
    if record.status in BAD_ENDINGS and BAD_ENDING not in trial.constraints:
        trial.set_constraint(BAD_ENDING, 1.0)
    study.tell(trial, state=TrialState.PRUNED)


def _where(record: TrialRecord) -> str:
    """How far a trial had come that was stopped without a word."""
    return f"stopped at epoch {record.epochs}" if record.epochs else "stopped before its first epoch was over"
