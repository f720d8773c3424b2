"""The driver: hands trials to Ray Tune until the budget is used up, and keeps the leaderboard current meanwhile."""

import os
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune

from data.input_error import InputError
from data.replacing import copy_folder
from data.segmentation_data import SegmentationData, Split
from search import leaderboard
from search.ending import Ending, WorkersEnd
from search.folds import COORDINATOR, train_over_folds
from search.progress import in_words
from search.record import TRIAL_ID, TrialRecord, records_from_study
from search.resources import Needs, machines
from search.run_folder import RunFolder
from search.schedulers import make_scheduler
from search.searcher import StudySearcher
from search.settings import SearchSettings
from search.space import Space, most
from search.study import open_study
from search.trial import SharedWork, Train, train_and_report

RESTARTS = 2  # of a trial whose process died
SECONDS_BETWEEN_LOOKS = 1.0  # at the records, for the leaderboard and the screen
SHARE_OF_LOOKING = 0.05  # of the driver's time at most, however many trials there are
SECONDS_BETWEEN_COUNTS = 10.0  # of the machines, which may come and go
SECONDS_SPENT = "seconds"  # the study's attribute: how long it has been searched

Look = Callable[[list[TrialRecord], float], None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a search.

    records: of all trials, those of earlier sessions included. best: the one whose model is in the run's `best/`, or
    None where no trial gave a model. interrupted: whether somebody ended it before its time.
    """

    records: list[TrialRecord]
    best: TrialRecord | None
    interrupted: bool


def search(
    settings: SearchSettings,
    space: Space,
    data: SegmentationData,
    splits: tuple[Split, ...],
    run: RunFolder,
    needs: Needs,
    *,
    look: Look,
    version: str = "",
    train: Train | None = None,
) -> Outcome:
    """Searches in the run's folder, on the Ray that is running, until the study has its trials or the time is over.

    splits: one, or one for each fold. look: is handed the records and the seconds spent, about once a second. train:
    used in place of `model.train.train`. Raises InputError for a study that cannot be continued.
    """
    study = open_study(run.journal)
    scheduler = make_scheduler(
        settings.scheduler,
        max_epochs=most(space, "max_epochs"),
        evaluate_every=most(space, "evaluate_every"),
        folds=len(splits),
        study=study,
    )
    spent = float(study.user_attrs.get(SECONDS_SPENT, 0.0))
    searcher = StudySearcher(
        journal=run.journal,
        space=space,
        num_trials=settings.num_trials,
        seed=settings.seed,
        max_concurrent=needs.fit(machines()),
        reason_of=scheduler.reason,
        dataset=f"{data.source}@{data.fingerprint[:8]}",
        version=version,
    )
    if settings.max_seconds is not None and spent >= settings.max_seconds and searcher.has_more:
        raise InputError(f"max_time {settings.max_time} is used up ({in_words(spent)}): give a longer --max-time.")
    ending = Ending(None if settings.max_seconds is None else settings.max_seconds - spent)
    watch = Watch(searcher, needs, run, data.class_names, spent, look)
    work = SharedWork(data=data, splits=splits, train=train, folder=run.trials.absolute(), needs=needs)
    resources = {"cpu": needs.cpus, "gpu": needs.gpus} if len(splits) == 1 else COORDINATOR
    tuner = tune.Tuner(
        tune.with_resources(make_trainable(ray.put(work)), resources),
        tune_config=tune.TuneConfig(search_alg=searcher, scheduler=scheduler, num_samples=-1, reuse_actors=True),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(run.scratch.absolute()),
            stop=ending,
            failure_config=tune.FailureConfig(max_failures=RESTARTS),
            callbacks=[watch, WorkersEnd(ending)],
            verbose=0,
        ),
    )
    try:
        with ending.interruptible():
            if not ending.stop_all():
                tuner.fit()
        if not ending.interrupted:
            searcher.close(f"max_time {settings.max_time} reached")
    finally:
        watch.look()
        shutil.rmtree(run.scratch, ignore_errors=True)
    return Outcome(records=watch.records, best=export_best(run, watch.records), interrupted=ending.interrupted)


def make_trainable(shared: ray.ObjectRef[SharedWork]) -> Callable[[dict[str, Any]], None]:
    """The function that Tune runs in its workers, for each trial with the config of the searcher."""

    def run_in_worker(config: dict[str, Any]) -> None:
        # How long a stopped trial may take to let its memory go, before its process is given up and started anew.
        os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = "60"
        params, work = dict(config), ray.get(shared)
        trial_id = params.pop(TRIAL_ID)
        if len(work.splits) == 1:
            reports = train_and_report(params, work.folder / trial_id, work, work.splits[0])
        else:
            reports = train_over_folds(params, trial_id, work, shared)
        # A trial that is stopped leaves `report` by SystemExit, and must let go of what it holds.
        with closing(reports):
            for report in reports:
                tune.report(report)

    return run_in_worker


class Watch(tune.Callback):
    """Looks at the study between the steps of Tune: for the leaderboard, the screen, and the machines there are."""

    def __init__(
        self,
        searcher: StudySearcher,
        needs: Needs,
        run: RunFolder,
        class_names: tuple[str, ...],
        spent: float,
        look: Look,
    ) -> None:
        self.records: list[TrialRecord] = []
        self._searcher = searcher
        self._needs = needs
        self._run = run
        self._class_names = class_names
        self._began = time.monotonic() - spent
        self._look = look
        self._next_look = self._next_count = 0.0

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes a copy of itself to disk when it starts, which nobody reads; the screen cannot be copied.
        return {}

    def on_step_end(self, *_: Any, **_info: Any) -> None:
        """What Tune calls over and over."""
        now = time.monotonic()
        if now >= self._next_look:
            self.look()
            taken = time.monotonic() - now
            self._next_look = now + max(SECONDS_BETWEEN_LOOKS, taken / SHARE_OF_LOOKING)
        if now >= self._next_count:
            self._searcher.set_max_concurrency(max(1, self._needs.fit(machines())))
            self._next_count = now + SECONDS_BETWEEN_COUNTS

    def look(self) -> None:
        """Brings the leaderboard and the screen up to date."""
        spent = time.monotonic() - self._began
        self._searcher.study.set_user_attr(SECONDS_SPENT, spent)
        records = records_from_study(self._searcher.study)
        if records != self.records or not self._run.leaderboard.exists():
            leaderboard.write(self._run.leaderboard, leaderboard.to_frame(records, self._class_names))
        self.records = records
        self._look(records, spent)


def export_best(run: RunFolder, records: list[TrialRecord]) -> TrialRecord | None:
    """Copies the model of the highest row of the leaderboard that has one into `best/`; its record, or None."""
    by_id = {record.trial_id: record for record in records}
    for trial_id in leaderboard.to_frame(records, ())["trial_id"]:
        best = by_id[trial_id]
        if best.checkpoint and (run.path / best.checkpoint).is_dir():
            copy_folder(run.path / best.checkpoint, run.best)
            return best
    return None
