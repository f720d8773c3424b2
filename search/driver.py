"""The driver: hands trials to Ray Tune until the budget is used up, and keeps the leaderboard current meanwhile."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback

from data.input_error import InputError
from data.segmentation_data import SegmentationData, Split
from search.budget import Limits, read_seconds, remedy
from search.conclusion import drop_spare_states, keep_best
from search.dashboard_note import note_run
from search.departures import Departures
from search.distributed_trial import COORDINATOR, train_split
from search.drivers import CONCLUDED, SECONDS_SPENT, UNDER_WAY, is_own, places_of_others
from search.ending import Ending, WorkersEnd, records_by_ending, set_aside, take_up
from search.events import Events, Say
from search.folds import train_over_folds
from search.hearing import Hearing
from search.leftovers import Leftovers
from search.mirror import Mirror
from search.newcomers import Newcomers
from search.nodes import alive_nodes, shared_paths, versions_here
from search.objectives import LATENCY
from search.placement import NEEDS, PARAMS, Placement, resources_of
from search.prior import PastTrial
from search.record import TRIAL_ID, TrialRecord
from search.reporting import Reporting
from search.resources import Needs, machines, may_end_with_ray
from search.restarts import Restarts
from search.run_folder import RunFolder, describe_data
from search.schedulers import make_scheduler
from search.searcher import StudySearcher
from search.settings import SearchSettings
from search.space import Space, most
from search.steady_clock import SteadyClock
from search.study import VERSIONS, enter, is_shared, keep_copy, open_study, outages_told, study_place
from search.trial import SharedWork, Train
from search.watch import Look, Watch
from search.watchdog import Watchdog


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a search.

    records: of all trials, those of earlier sessions included. best: the one whose model is in the run's `best/`, or
    None where no trial gave a model. interrupted: whether somebody ended it before its time. ending: otherwise, why it
    was over, in words. broken: whether it was over because process after process died.
    """

    records: list[TrialRecord]
    best: TrialRecord | None
    interrupted: bool
    ending: str = ""
    broken: bool = False


def search(
    settings: SearchSettings,
    space: Space,
    data: SegmentationData,
    splits: tuple[Split, ...],
    run: RunFolder,
    needs: Needs,
    *,
    look: Look,
    looked_at: Iterable[str] | None = None,
    say: Say = lambda _: None,
    version: str = "",
    past: Sequence[PastTrial] = (),
    train: Train | None = None,
    mirror: Mirror | None = None,
) -> Outcome:
    """Searches in the run's folder, on the Ray that is running, until a limit is reached.

    splits: one, or one for each fold. look: is handed the records and the seconds spent, about once a second.
    looked_at: ids of the machines that are known to be usable; None for all that there are. say: is handed what a
    person should know, a line each. past: what earlier runs have shown, for a run that begins. train: used in place
    of `model.train.train`. mirror: sends the run to its URL, where it has one. Raises GaveUpError when the disk has
    no room for long, or the URL does not answer, and InputError for a study that cannot be continued.
    """
    run.trials.mkdir(parents=True, exist_ok=True)
    events, clock = Events(run.events, say), SteadyClock()
    restarts = Restarts(events, run.trials, clock)
    place = study_place(run, settings.study)
    study = open_study(place, settings.objective)
    enter(study, run)
    note_run(study, run, describe_data(data, splits))
    spent = float(study.user_attrs.get(SECONDS_SPENT, 0.0))
    limits = settings.limits(most(space, "max_epochs"))
    tell_of_last_session(study, events)
    study.set_user_attr(CONCLUDED, False)
    study.set_user_attr(UNDER_WAY, True)
    study.set_user_attr(VERSIONS, dict(versions_here()))
    take_up(study)
    scheduler = make_scheduler(
        settings.scheduler,
        max_epochs=most(space, "max_epochs"),
        evaluate_every=most(space, "evaluate_every"),
        folds=len(splits),
        costs=settings.objective[1:],
        study=study,
    )
    scheduler.restarts = restarts
    searcher = StudySearcher(
        journal=place,
        space=space,
        searcher=settings.searcher,
        objectives=settings.objective,
        past=past,
        num_trials=limits.trials,
        seed=settings.seed,
        max_concurrent=max(1, needs.fit(machines())),
        thrifty=limits.counts_device_time,
        reason_of=scheduler.reason,
        dataset=f"{data.source}@{data.fingerprint[:8]}",
        version=version,
    )
    placement = Placement(searcher, needs, restarts.again)
    watch = Watch(
        searcher=searcher,
        placement=placement,
        run=run,
        class_names=data.class_names,
        objectives=settings.objective,
        clock=clock,
        spent=spent,
        look=look,
        events=events,
        newcomers=Newcomers(shared_paths(run, data), alive_nodes() if looked_at is None else looked_at),
        leftovers=Leftovers(run, mirror),
    )

    def over() -> str:
        if mirror is not None and mirror.over:
            return mirror.over
        records = records_by_ending(searcher.study) if limits.reads_records else []
        return restarts.reason or limits.over(records, watch.spent, needs.devices)

    def is_ours() -> bool:
        """Whether this driver says how the search ended: whoever has taken it over shares the study under its name."""
        return mirror is None or not is_shared(study) or not mirror.lost()

    ending = Ending(over)
    hearing = [Hearing(searcher, scheduler, run.journal)] if is_shared(study) else []
    every = None if settings.report_every is None else read_seconds(settings.report_every)
    reporting = [] if every is None else [Reporting(run.path.absolute(), every, events)]
    work = SharedWork(
        data=data,
        splits=splits,
        train=train,
        folder=run.trials.absolute(),
        remote=None if run.remote is None else run.remote / run.trials.name,
        needs=needs,
        times_network=LATENCY in settings.objective,
        versions=versions_here(),
    )
    first_fold = None if len(splits) == 1 else most(space, "max_epochs")
    watchdog = Watchdog(events=events, restarts=restarts, trials=run.trials, clock=clock, first_fold=first_fold)
    departures = Departures(events=events, restarts=restarts, clock=clock)
    resources = resources_of if len(splits) == 1 or needs.workers > 1 else COORDINATOR
    tuner = tune.Tuner(
        tune.with_resources(make_trainable(ray.put(work)), resources),
        tune_config=tune.TuneConfig(search_alg=placement, scheduler=scheduler, num_samples=-1, reuse_actors=True),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(run.scratch.absolute()),
            stop=ending,
            callbacks=[watch, WorkersEnd(ending), watchdog, departures, Silence(), *hearing, *reporting],
            verbose=0,
        ),
    )
    with outages_told(study, events.tell, lambda: ending.interrupted):
        try:
            with ending.interruptible(own_ray=not may_end_with_ray(settings.address)):
                if not ending.stop_all():
                    tuner.fit()
            reason = "" if ending.interrupted else ending.reason or _through(limits, searcher.study)
            if reason and is_ours():
                set_aside(searcher.study, reason)
        finally:
            for one in reporting:
                one.close()
            watch.look()
            shutil.rmtree(run.scratch, ignore_errors=True)
        best = keep_best(run, watch.records, events, places_of_others(searcher.study), mirror)
        if not ending.interrupted:
            drop_spare_states(run)
        events.note("interrupted" if ending.interrupted else f"ended: {reason}")
        if is_ours():
            searcher.study.set_user_attr(CONCLUDED, not ending.interrupted)
            searcher.study.set_user_attr(UNDER_WAY, False)
        if hearing:
            keep_copy(searcher.study, run.journal)
    return Outcome(
        records=watch.records,
        best=best,
        interrupted=ending.interrupted,
        ending=reason,
        broken=restarts.reason != "" and reason == restarts.reason,
    )


def tell_of_last_session(study: optuna.Study, events: Events) -> None:
    """Says that the last session was cut off, where it was, and what becomes of its trials."""
    if not study.user_attrs.get(UNDER_WAY, False):
        events.note("goes on" if study.get_trials(deepcopy=False) else "begins")
        return
    running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
    names = ", ".join(str(trial.user_attrs.get(TRIAL_ID)) for trial in running if is_own(study, trial)) or "none"
    events.tell(f"the last session was cut off; trials that were under way and go on from their last epoch: {names}")


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
        work = replace(ray.get(shared), needs=config[NEEDS]).here()
        if len(work.splits) == 1:
            reports = train_split(params, work.folder / trial_id, 0, work, shared)
        else:
            reports = train_over_folds(params, trial_id, work, shared)
        # A trial that is stopped leaves `report` by SystemExit, and must let go of what it holds.
        with closing(reports):
            for report in reports:
                tune.report(report)

    return run_in_worker


class Silence(TrialProgressCallback):
    """Stands where Ray would put what prints trials that end: it prints nothing, and keeps nothing of them."""

    def log_result(self, *_: Any, **_more: Any) -> None:
        """Nothing."""

    def on_trial_complete(self, *_: Any, **_more: Any) -> None:
        """Nothing."""
