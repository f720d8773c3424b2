"""The driver: hands trials to Ray Tune until the budget is used up, and keeps the leaderboard current meanwhile."""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback

from data.input_error import InputError
from data.replacing import copy_folder
from data.segmentation_data import SegmentationData, Split
from search import leaderboard
from search.budget import Limits, remedy
from search.distributed_trial import COORDINATOR, train_split
from search.ending import Ending, WorkersEnd, records_by_ending, set_aside, take_up
from search.events import Events, Say
from search.folds import train_over_folds
from search.objectives import LATENCY
from search.packing import PACKING, fewer_at_a_time
from search.placement import NEEDS, PARAMS, Placement, resources_of
from search.prior import PastTrial
from search.record import TRIAL_ID, TrialRecord, records_from_study
from search.resources import Needs, machines
from search.run_folder import RunFolder
from search.schedulers import make_scheduler
from search.searcher import StudySearcher
from search.settings import SearchSettings
from search.space import Space, most
from search.study import open_study
from search.trial import EVENT, SharedWork, Train

RESTARTS = 2  # of a trial whose process died
SECONDS_BETWEEN_LOOKS = 1.0  # at the records, for the leaderboard and the screen
SHARE_OF_LOOKING = 0.05  # of the driver's time at most, however many trials there are
SECONDS_BETWEEN_COUNTS = 10.0  # of the machines, which may come and go
# The study's attributes: how long it has been searched, and whether its last session came to its end.
SECONDS_SPENT = "seconds"
CONCLUDED = "concluded"

Look = Callable[[list[TrialRecord], float], None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a search.

    records: of all trials, those of earlier sessions included. best: the one whose model is in the run's `best/`, or
    None where no trial gave a model. interrupted: whether somebody ended it before its time. ending: otherwise, why it
    was over, in words.
    """

    records: list[TrialRecord]
    best: TrialRecord | None
    interrupted: bool
    ending: str = ""


def search(
    settings: SearchSettings,
    space: Space,
    data: SegmentationData,
    splits: tuple[Split, ...],
    run: RunFolder,
    needs: Needs,
    *,
    look: Look,
    say: Say = lambda _: None,
    version: str = "",
    past: Sequence[PastTrial] = (),
    train: Train | None = None,
) -> Outcome:
    """Searches in the run's folder, on the Ray that is running, until a limit is reached.

    splits: one, or one for each fold. look: is handed the records and the seconds spent, about once a second. say: is
    handed what a person should know, a line each. past: what earlier runs have shown, for a run that begins. train:
    used in place of `model.train.train`. Raises InputError for a study that cannot be continued.
    """
    events = Events(run.events, say)
    study = open_study(run.journal, settings.objective)
    spent = float(study.user_attrs.get(SECONDS_SPENT, 0.0))
    limits = settings.limits(most(space, "max_epochs"))
    study.set_user_attr(CONCLUDED, False)
    take_up(study)
    scheduler = make_scheduler(
        settings.scheduler,
        max_epochs=most(space, "max_epochs"),
        evaluate_every=most(space, "evaluate_every"),
        folds=len(splits),
        costs=settings.objective[1:],
        study=study,
    )
    searcher = StudySearcher(
        journal=run.journal,
        space=space,
        searcher=settings.searcher,
        objectives=settings.objective,
        past=past,
        num_trials=limits.trials,
        seed=settings.seed,
        max_concurrent=needs.fit(machines()),
        thrifty=limits.counts_device_time,
        reason_of=scheduler.reason,
        dataset=f"{data.source}@{data.fingerprint[:8]}",
        version=version,
    )
    placement = Placement(searcher, needs)
    watch = Watch(searcher, placement, run, data.class_names, settings.objective, spent, look, events)

    def over() -> str:
        records = records_by_ending(searcher.study) if limits.reads_records else []
        return limits.over(records, watch.spent, needs.devices)

    ending = Ending(over)
    work = SharedWork(
        data=data,
        splits=splits,
        train=train,
        folder=run.trials.absolute(),
        needs=needs,
        times_network=LATENCY in settings.objective,
    )
    resources = resources_of if len(splits) == 1 or needs.workers > 1 else COORDINATOR
    tuner = tune.Tuner(
        tune.with_resources(make_trainable(ray.put(work)), resources),
        tune_config=tune.TuneConfig(search_alg=placement, scheduler=scheduler, num_samples=-1, reuse_actors=True),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(run.scratch.absolute()),
            stop=ending,
            failure_config=tune.FailureConfig(max_failures=RESTARTS),
            callbacks=[watch, WorkersEnd(ending), Silence()],
            verbose=0,
        ),
    )
    try:
        with ending.interruptible(own_ray=settings.address is None):
            if not ending.stop_all():
                tuner.fit()
        reason = "" if ending.interrupted else ending.reason or _through(limits, searcher.study)
        if reason:
            set_aside(searcher.study, reason)
    finally:
        watch.look()
        shutil.rmtree(run.scratch, ignore_errors=True)
    best = export_best(run, watch.records)
    searcher.study.set_user_attr(CONCLUDED, not ending.interrupted)
    return Outcome(records=watch.records, best=best, interrupted=ending.interrupted, ending=reason)


def check_limits(study: optuna.Study, limits: Limits, devices: float) -> None:
    """Raises InputError where there is something left to try, but a limit was reached in an earlier session.

    Not where that one did not come to its end: then its trials are still to be ended, and its best model to be kept.

    devices: how many one training has.
    """
    if not study.user_attrs.get(CONCLUDED, False):
        return
    trials = study.get_trials(deepcopy=False)
    if limits.trials is not None and len(trials) >= limits.trials and all(one.state.is_finished() for one in trials):
        return
    reason = limits.over(records_by_ending(study), float(study.user_attrs.get(SECONDS_SPENT, 0.0)), devices)
    if reason:
        raise InputError(f"{reason} before: give {remedy(reason)}.")


def _through(limits: Limits, study: optuna.Study) -> str:
    """Why a search is over that no limit has ended while trials ran."""
    if limits.trials is not None and len(study.get_trials(deepcopy=False)) >= limits.trials:
        return f"num_trials {limits.trials} reached"
    return "nothing is left to try"


def make_trainable(shared: ray.ObjectRef[SharedWork]) -> Callable[[dict[str, Any]], None]:
    """The function that Tune runs in its workers, for each trial with the config of the searcher."""

    def run_in_worker(config: dict[str, Any]) -> None:
        # How long a stopped trial may take to let its memory go, before its process is given up and started anew.
        os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"] = "60"
        trial_id, params = config[TRIAL_ID], json.loads(config[PARAMS])
        work = replace(ray.get(shared), needs=config[NEEDS])
        if len(work.splits) == 1:
            reports = train_split(params, work.folder / trial_id, 0, work, shared)
        else:
            reports = train_over_folds(params, trial_id, work, shared)
        # A trial that is stopped leaves `report` by SystemExit, and must let go of what it holds.
        with closing(reports):
            for report in reports:
                tune.report(report)

    return run_in_worker


def forget(trial: Trial) -> None:
    """Takes from a trial of Tune's, which keeps all trials to the end, what the study has too (see `LightTrial`)."""
    trial.config.clear()
    trial.evaluated_params = {}
    trial.run_metadata.last_result = {"done": True}
    trial._default_result_or_future = None


class Watch(tune.Callback):
    """Looks at the study between the steps of Tune: for the leaderboard, the screen, and the machines there are."""

    def __init__(
        self,
        searcher: StudySearcher,
        placement: Placement,
        run: RunFolder,
        class_names: tuple[str, ...],
        objectives: tuple[str, ...],
        spent: float,
        look: Look,
        events: Events,
    ) -> None:
        self.records: list[TrialRecord] = []
        self._searcher = searcher
        self._placement = placement
        self._run = run
        self._class_names = class_names
        self._objectives = objectives
        self._began = time.monotonic() - spent
        self._look = look
        self._events = events
        self._of_earlier_needs: frozenset[str] | None = None  # ids of trials
        self._next_look = self._next_count = 0.0

    def __getstate__(self) -> dict[str, Any]:
        # Tune writes a copy of itself to disk when it starts, which nobody reads; the screen cannot be copied.
        return {}

    def on_trial_result(
        self,
        iteration: int,  # noqa: ARG002 - Ray's signature
        trials: list[Any],  # noqa: ARG002
        trial: Any,
        result: Mapping[str, Any],
        **info: Any,  # noqa: ARG002
    ) -> None:
        """Tells what befell a trial in its worker."""
        if result.get(EVENT):
            self._events.tell(f"trial {trial.config[TRIAL_ID]}: {result[EVENT]}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Lets go of a trial that has ended."""
        forget(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002
        """Lets go of a trial whose process died too often."""
        forget(trial)

    def on_step_end(self, *_: Any, **_info: Any) -> None:
        """What Tune calls over and over."""
        self._searcher.sync_when_due()
        now = time.monotonic()
        if now >= self._next_look:
            self.look()
            taken = time.monotonic() - now
            self._next_look = now + max(SECONDS_BETWEEN_LOOKS, taken / SHARE_OF_LOOKING)
        if now >= self._next_count:
            self._make_room()
            self._searcher.set_max_concurrency(max(1, self._placement.needs.fit(machines())))
            self._next_count = now + SECONDS_BETWEEN_COUNTS

    def _make_room(self) -> None:
        """Lets fewer trials share a GPU where its memory does not suffice for so many."""
        if self._of_earlier_needs is None:  # those of earlier sessions
            self._of_earlier_needs = frozenset(one.trial_id for one in self.records if one.status != "running")
        needs = fewer_at_a_time(self._placement.needs, self.records, self._of_earlier_needs)
        if needs != self._placement.needs:
            self._placement.needs = needs
            self._of_earlier_needs = frozenset(one.trial_id for one in self.records)
            words = f"memory did not suffice for trials that share a GPU: from now on each has {needs.gpus:g} of one"
            self._events.tell(words)
            before = self._searcher.study.user_attrs.get(PACKING)
            if before is not None:
                changed = {**before, "needs": asdict(needs), "words": words}
                self._searcher.study.set_user_attr(PACKING, changed)

    @property
    def spent(self) -> float:
        """Seconds of the whole run, those of earlier sessions included."""
        return time.monotonic() - self._began

    def look(self) -> None:
        """Brings the leaderboard and the screen up to date."""
        spent = self.spent
        self._searcher.study.set_user_attr(SECONDS_SPENT, spent)
        records = records_from_study(self._searcher.study)
        if records != self.records or not self._run.leaderboard.exists():
            frame = leaderboard.to_frame(records, self._class_names, self._objectives)
            leaderboard.write(self._run.leaderboard, frame)
        self.records = records
        self._look(records, spent)


class Silence(TrialProgressCallback):
    """Stands where Ray would put what prints trials that end: it prints nothing, and keeps nothing of them."""

    def log_result(self, *_: Any, **_more: Any) -> None:
        """Nothing."""

    def on_trial_complete(self, *_: Any, **_more: Any) -> None:
        """Nothing."""


def export_best(run: RunFolder, records: list[TrialRecord]) -> TrialRecord | None:
    """Copies the model of the highest row of the leaderboard that has one into `best/`; its record, or None."""
    by_id = {record.trial_id: record for record in records}
    for trial_id in leaderboard.to_frame(records, ())["trial_id"]:
        best = by_id[trial_id]
        if best.checkpoint and (run.path / best.checkpoint).is_dir():
            copy_folder(run.path / best.checkpoint, run.best)
            return best
    return None
