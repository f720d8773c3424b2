"""The searcher: what Ray Tune asks for hyperparameters and tells results, answered by an Optuna study."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray.tune.search import Searcher

from model.config import TrainConfig
from search.drivers import DRIVER, NumberTaken, driver_of, is_own
from search.ending import end_rest, let_go_on, let_rest, rests
from search.history import ENDED, History, history_of, narrowed
from search.objectives import VAL_DICE, point_of
from search.prior import PastTrial
from search.proposals import Proposals
from search.record import BAD_ENDINGS, TRIAL_ID, TrialRecord, finite, whole
from search.restarts import OUT_OF_MEMORY
from search.samplers import MOST_SHOWN
from search.space import Space
from search.start import searched_values
from search.study import PAST, StudyPlace, open_study, refresh, sync

BAD_ENDING = "bad_ending"  # the constraint that a bad ending breaks
SHOWN = (*ENDED, TrialState.WAITING)  # what samplers see as ended
SECONDS_BETWEEN_SYNCS = 1.0  # of hundreds of workers, there is a better result every few milliseconds


class StudySearcher(Searcher):
    """Asks an Optuna study for what to try, and tells it what came of it.

    Everything it knows stands in the study: an Optuna trial carries our `trial_id`, Ray's `ray_trial_id`, and `record`
    (see `TrialRecord`), which is saved before the trial is told to Optuna. A trial comes into the study with all its
    values, in one line of the journal. So a search whose driver was killed at any moment goes on with a new searcher on
    the same journal: trials that had ended are told, the others are handed out again, under the same id and with the
    same values. What it takes from the study when it opens it, it keeps count of from then on: nobody else writes to a
    journal. Where the study is shared, each of several drivers has its own searcher, which hands out the trials that it
    has drawn itself, and tells their ends; of what others write it hears now and then (`hear`).

    How endings are told: completed, as COMPLETE with the trial's highest `val_dice` (leaderboards rank by it, and its
    model is the one that is kept) and its costs; stopped by the scheduler or by the end of the budget, as PRUNED; a bad
    ending (diverged, collapsed, out of memory, failed), as PRUNED with a broken constraint, which the sampler ranks
    below all others. A last intermediate value of NaN would not do: Optuna ranks pruned trials by their last step
    first. Where memory did not suffice beside others on the trial's GPU it is told as FAIL, from which no sampler
    learns.

    It names no metric to Ray, which would end the whole search over one result without it.
    """

    def __init__(
        self,
        *,
        journal: StudyPlace,
        space: Space,
        searcher: str = "tpe",
        objectives: Sequence[str] = (VAL_DICE,),
        past: Sequence[PastTrial] = (),
        num_trials: int | None,
        seed: int,
        max_concurrent: int,
        thrifty: bool = False,
        reason_of: Callable[[str], str] | None = None,
        dataset: str = "",
        version: str = "",
    ) -> None:
        """Opens or makes the study.

        journal: where it is, which may be a database, too. searcher: a name of `search.samplers.SEARCHERS`. objectives:
        what trials are judged by. past: what earlier runs have shown; a study that goes on keeps what it began with.
        num_trials: how many trials the study shall have, those of earlier sessions included; None for any number.
        max_concurrent: how many may be unfinished at a time, without those that wait. thrifty: whether cheap trainings
        come first (see `Proposals`). reason_of: gives, for a trial id of Ray's, why the scheduler ended the trial.
        dataset, version: what the records say of them.
        Raises InputError for an unknown searcher and for a study that cannot be continued.
        """
        super().__init__()
        self._journal = journal.absolute() if isinstance(journal, Path) else journal
        self._space = space
        self._searcher = searcher
        self._objectives = tuple(objectives)
        self._past = [asdict(trial) | {"values": searched_values(space, trial.values)} for trial in past]
        self._num_trials = num_trials
        self._seed = seed
        self._max_concurrent = max_concurrent
        self._thrifty = thrifty
        self._unsynced, self._synced = False, 0.0  # whether the disk is to be waited for soon, and when it last was
        self._reason_of = reason_of
        self._dataset = dataset
        self._version = version
        self._live: dict[str, int] = {}  # trial id of Ray's -> number of the Optuna trial
        self._at_work: set[str] = set()  # those of them that have a place, and are not set aside for better ones
        self._count = 0  # trials of the study
        # Numbers of those of earlier sessions that have not been handed out in this one.
        self._left: list[int] = []  # the unfinished
        self._resting: list[int] = []  # those that wait because others are better
        # By number, of all that have ended or wait, those that a sampler may still be shown.
        self._ended: dict[int, FrozenTrial] = {}
        # Of trials of other drivers: those that run, by number, and what was heard of each last.
        self._elsewhere: dict[int, FrozenTrial] = {}
        self._heard: dict[int, tuple[TrialState, int]] = {}
        self._proposals: Proposals | None = None
        self._study: optuna.Study | None = None
        self._open()

    @property
    def study(self) -> optuna.Study:
        """The study behind it."""
        return self._open()[0]

    @property
    def draws_more(self) -> bool:
        """Whether there are trials that have not been handed out yet."""
        _, proposals = self._open()
        return bool(self._resting or self._left) or (self._may_start and proposals.has(self._count))

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """A trial for Ray: every field of `TrainConfig`, and our own id of it under `trial_id`.

        Trials of earlier sessions come first: those that rest, which take no place, and then the unfinished ones. Gives
        None while there is no room for another one or none left to try, and then `Searcher.FINISHED` once none lives.
        """
        number = self._next()
        if number is None:
            # Once Ray has heard of the end, it keeps no worker for a trial that waits.
            return None if self._live else Searcher.FINISHED
        self._live[trial_id] = number
        trial = self._trial(number)
        if not rests(trial):
            self._at_work.add(trial_id)
        self.study._storage.set_trial_user_attr(trial._trial_id, "ray_trial_id", trial_id)
        record = TrialRecord(**trial.user_attrs["record"])
        return {**record.config, TRIAL_ID: record.trial_id}

    @property
    def has_room(self) -> bool:
        """Whether one more trial may run; the unfinished ones of earlier sessions have their places already."""
        return len(self._at_work) + len(self._left) < self._max_concurrent

    def free_place(self, trial_id: str) -> None:
        """Takes note that a trial is about to end: another one may run in its place."""
        self._at_work.discard(trial_id)

    def set_aside(self, trial_id: str) -> None:
        """Takes note that a trial waits, for as long as others are better: another one may run in its place.

        Until it goes on it stands in the study as one that was stopped, and the sampler learns from what it has shown.
        """
        self._at_work.discard(trial_id)
        trial = self._trial(self._live[trial_id])
        let_rest(self.study, trial, self._why(trial_id))
        self._ended[trial.number] = self._trial(trial.number)

    def take_place(self, trial_id: str) -> None:
        """Takes note that a trial has a place; if it rested, it goes on."""
        self._at_work.add(trial_id)
        trial = self._trial(self._live[trial_id])
        if rests(trial):
            self._ended.pop(trial.number, None)
            let_go_on(self.study, trial)

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Takes in what one epoch showed. A result of a trial that has ended already is left out."""
        if trial_id not in self._live:
            return
        number = self._live[trial_id]
        self._note(number, result)
        if trial_id not in self._at_work:
            self._ended[number] = self._trial(number)

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Takes in the end of a trial, with its last result; the one over which it was stopped comes here only."""
        if trial_id not in self._live:
            return
        number, reason = self._live[trial_id], self._why(trial_id)
        if rests(trial := self._trial(number)):
            end_rest(self.study, trial, reason)
            self._ended[number] = self._trial(number)
            self._unsynced = True  # many end one after the other
        else:
            record = self._note(number, result or {})
            if error:
                status = "out_of_memory" if any(words in reason for words in OUT_OF_MEMORY) else "failed"
                self._end(number, record, status, reason or "its process died more often than it may be started again")
            else:
                self._end(number, record, "stopped", reason or _where(record))
        self._at_work.discard(trial_id)
        del self._live[trial_id]

    def hear(self) -> list[FrozenTrial]:
        """Takes in what other drivers have written to the study; their trials of which there is news."""
        study, _ = self._open()
        refresh(study)
        trials = study.get_trials(deepcopy=False)
        self._count = len(trials)
        handed_out = {*self._live.values(), *self._left}
        news = []
        for trial in trials:
            heard = trial.state, len(trial.intermediate_values)
            if is_own(study, trial):
                # Begun by a call whose answer was lost.
                if trial.state == TrialState.RUNNING and trial.number not in handed_out:
                    self._left.append(trial.number)
            elif self._heard.get(trial.number) != heard:
                self._heard[trial.number] = heard
                self._put(trial)
                news.append(trial)
        return news

    def sync_when_due(self) -> None:
        """Waits for the disk where a trial has shown something better, or ended while it waited, but not too often."""
        if self._unsynced and time.monotonic() - self._synced >= SECONDS_BETWEEN_SYNCS:
            self._sync()

    def set_max_concurrency(self, max_concurrent: int) -> bool:
        """Lets Ray's `max_concurrent_trials` set the limit; then Ray also asks for that many trials at once."""
        self._max_concurrent = max_concurrent
        return True

    def save(self, checkpoint_path: str) -> None:
        """Writes nothing that anybody reads, where Ray wants a file: the study on disk is all that is to be kept."""
        Path(checkpoint_path).touch()

    def restore(self, checkpoint_path: str) -> None:
        """Raises RuntimeError: a run goes on by its study, and never by files of Ray's, which would be run."""
        raise RuntimeError(f"a search is not restored from {checkpoint_path!r}: open its study")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_study": None, "_proposals": None, "_ended": {}, "_elsewhere": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def _mark(self) -> dict[str, str]:
        """What a trial has that belongs to one of several drivers."""
        driver = driver_of(self.study)
        return {DRIVER: driver} if driver else {}

    @property
    def _may_start(self) -> bool:
        """Whether the study may have one more trial."""
        return self._num_trials is None or self._count < self._num_trials

    def _open(self) -> tuple[optuna.Study, Proposals]:
        """The study on disk, and what it is to try. Where it is opened, every trial whose record has an end is told."""
        if self._study is None or self._proposals is None:
            study = open_study(self._journal, self._objectives)
            if PAST not in study.user_attrs:
                study.set_user_attr(PAST, self._past)
            self._proposals = Proposals(
                self._space,
                self._searcher,
                past=[PastTrial(**trial) for trial in study.user_attrs[PAST]],
                num_trials=self._num_trials,
                thrifty=self._thrifty,
                seed=self._seed,
            )
            for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if not is_own(study, trial):
                    continue
                record = trial.user_attrs.get("record")
                if record is None:  # not ours: somebody asked the study for it by other means
                    study.tell(trial.number, state=TrialState.FAIL)
                elif record["status"] != "running":
                    _tell(study, trial.number, TrialRecord(**record), self._objectives)
            trials = study.get_trials(deepcopy=False)
            handed_out = set(self._live.values())
            left = [trial for trial in trials if is_own(study, trial) and trial.number not in handed_out]
            self._left = [trial.number for trial in left if trial.state == TrialState.RUNNING]
            self._resting = [trial.number for trial in left if rests(trial)]
            self._count = len(trials)
            self._ended = {trial.number: trial for trial in trials if trial.state in SHOWN}
            self._elsewhere = {
                trial.number: trial
                for trial in trials
                if trial.state == TrialState.RUNNING and not is_own(study, trial)
            }
            self._study = study
        return self._study, self._proposals

    def _why(self, trial_id: str) -> str:
        """Why the scheduler ended a trial, or lets it wait."""
        return self._reason_of(trial_id) if self._reason_of else ""

    def _trial(self, number: int) -> FrozenTrial:
        """What the study has of a trial."""
        storage = self.study._storage
        return storage.get_trial(storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number))

    def _next(self) -> int | None:
        """The number of the next trial to hand out, or None where there is no room for it or nothing left to try."""
        self._open()
        if self._resting:
            return self._resting.pop(0)
        if self._left and len(self._at_work) < self._max_concurrent:
            return self._left.pop(0)
        return self._start() if self.has_room and self._may_start else None

    def _start(self) -> int | None:
        """Draws a trial and puts it into the study; its number, or None where nothing is left to try."""
        while self._may_start:
            try:
                return self._draw()
            except NumberTaken:
                self.hear()
                if self._left:  # it was taken by ourselves: the answer was lost
                    return self._left.pop(0)
        return None

    def _draw(self) -> int | None:
        """The same once. Raises NumberTaken where another driver was quicker."""
        study, proposals = self._open()
        drawn = proposals.draft(self._count, self._history)
        if drawn is None:
            return None
        values, draft = drawn
        record = TrialRecord(
            trial_id=f"t{self._count:04d}",
            config=vars(TrainConfig(**values)),
            dataset=self._dataset,
            version=self._version,
        )
        trial = create_trial(
            state=TrialState.RUNNING,
            params=draft.params,
            distributions=draft.distributions,
            user_attrs={"trial_id": record.trial_id, "record": vars(record)} | self._mark,
            system_attrs=draft.notes,
        )
        trial.number = self._count
        study.add_trial(trial)
        self._sync()
        self._count += 1
        return self._count - 1

    def _history(self) -> History:
        """The trials so far, of which those that no sampler will be shown any more are left out, now and then."""
        if len(self._ended) > 2 * MOST_SHOWN:
            kept = narrowed(history_of(self.study, [*self._ended.values()]), 3 * MOST_SHOWN // 2)
            self._ended = {trial.number: trial for trial in kept.get_trials(deepcopy=False)}
        begun = [self._trial(number) for number in (*(self._live[one] for one in self._at_work), *self._left)]
        under_way = [trial for trial in begun if trial.state not in ENDED]
        return history_of(self.study, [*self._ended.values(), *under_way, *self._elsewhere.values()])

    def _put(self, trial: FrozenTrial) -> None:
        """Keeps a trial of another driver for the samplers to see."""
        self._elsewhere.pop(trial.number, None)
        self._ended.pop(trial.number, None)
        if trial.state == TrialState.RUNNING:
            self._elsewhere[trial.number] = trial
        elif trial.state in SHOWN:
            self._ended[trial.number] = trial

    def _note(self, number: int, result: Mapping[str, Any]) -> TrialRecord:
        """Reports the epoch to Optuna, unless it has been (a resumed trial repeats its last one), and to the record."""
        epoch, val_dice = whole(result.get("epoch")), finite(result.get("val_dice"))
        trial = self._trial(number)
        if epoch is not None and val_dice is not None and epoch not in trial.intermediate_values:
            self.study._storage.set_trial_intermediate_value(trial._trial_id, epoch, val_dice)
        before = TrialRecord(**trial.user_attrs["record"])
        record = before.updated(result)
        if trial.state == TrialState.WAITING:  # it was set aside over this result
            record = replace(record, status=before.status, reason=before.reason)
        missing = [name for name in self._objectives if point_of(record, [name]) is None]
        if record.status == "completed" and missing:
            record = record.updated({"status": "failed", "reason": f"it ended without any {missing[0]}"})
        self._save(trial, record)
        # The disk has the model that they are of already, and a row must be of its model.
        self._unsynced |= record.metrics != before.metrics
        return record

    def _end(self, number: int, record: TrialRecord, status: str, reason: str) -> None:
        """Saves how the trial ended, which is as it says itself if it does, and then tells Optuna."""
        if record.status == "running":
            record = record.updated({"status": status, "reason": reason})
            self._save(self._trial(number), record)
        _tell(self.study, number, record, self._objectives)
        self._sync()
        trial = self._trial(number)
        if trial.state in ENDED:
            self._ended[number] = trial

    def _save(self, trial: FrozenTrial, record: TrialRecord) -> None:
        self.study._storage.set_trial_user_attr(trial._trial_id, "record", vars(record))

    def _sync(self) -> None:
        """Waits until the disk has all that the study has."""
        sync(self.study)
        self._unsynced, self._synced = False, time.monotonic()


def _tell(study: optuna.Study, number: int, record: TrialRecord, objectives: Sequence[str]) -> None:
    """Tells Optuna the end that the record has."""
    assert record.status != "running"
    if record.status == "completed":
        point = point_of(record, objectives)
        assert point is not None, f"{record.trial_id} has not shown all of {objectives}"
        study.tell(number, point)
        return
    if record.status in BAD_ENDINGS and not record.speaks_against_config:
        study.tell(number, state=TrialState.FAIL)
        return
    trial_id = study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
    trial = optuna.Trial(study, trial_id)
    if record.speaks_against_config and BAD_ENDING not in trial.constraints:
        trial.set_constraint(BAD_ENDING, 1.0)
    study.tell(number, state=TrialState.PRUNED)


def _where(record: TrialRecord) -> str:
    """How far a trial had come that was stopped without a word."""
    return f"stopped at epoch {record.epochs}" if record.epochs else "stopped before its first epoch was over"
