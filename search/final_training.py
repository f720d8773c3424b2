"""The trainings of the finals: each finalist from scratch, with several seeds, as tasks of Ray side by side."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.replacing import write_text
from search.distributed_trial import options_of_task, places_of, train_split
from search.folds import SECONDS_TO_END, fold_name
from search.record import BAD_ENDINGS, TrialRecord, one_line
from search.resources import Needs
from search.sound_study import read_record_file
from search.trial import SharedWork, check_device

if TYPE_CHECKING:
    import ray
    from ray.util.placement_group import PlacementGroup

RECORD = "training.json"  # in a training's folder: its record, which is a trial's, as of the last epoch
RESTARTS = 2  # of a training whose process died
LARGEST_SEED = 2**31
# Endings that would come again; the others may be a machine's fault, and are tried again with the next call.
LASTING = frozenset({"completed", "diverged", "collapsed"})

Look = Callable[["FinalTraining", TrialRecord], None]


@dataclass(frozen=True, kw_only=True)
class FinalTraining:
    """One training of a finalist.

    trial_id: of the finalist. seed_number: from 1. fold: from 0. folds: how many there are; 1 is a single split.
    params: of the trial, those of its own seed.
    """

    trial_id: str
    seed_number: int
    fold: int
    folds: int
    params: Mapping[str, Any]

    @property
    def place(self) -> str:
        """Its folder below that of the finals."""
        seed = f"{self.trial_id}/seed-{self.seed_number}"
        return seed if self.folds == 1 else f"{seed}/{fold_name(self.fold)}"

    @property
    def config(self) -> dict[str, Any]:
        """The finalist's hyperparameters with the seed of this training, which is never the one of the search."""
        return {**self.params, "seed": (self.params["seed"] + self.seed_number) % LARGEST_SEED}


def plan(trials: Sequence[TrialRecord], seeds: int, folds: int) -> list[FinalTraining]:
    """All trainings of these finalists, the first seed of all before the second of any."""
    return [
        FinalTraining(trial_id=trial.trial_id, seed_number=number, fold=fold, folds=folds, params=dict(trial.config))
        for number in range(1, seeds + 1)
        for trial in trials
        for fold in range(folds)
    ]


def read_training(finals: Path, training: FinalTraining) -> TrialRecord:
    """What is known of a training; an empty record where nothing is."""
    file = finals / training.place / RECORD
    if not file.is_file():
        return TrialRecord(trial_id=training.trial_id, config=training.config)
    return read_record_file(file)


def unfinished(trainings: Sequence[FinalTraining], finals: Path) -> list[FinalTraining]:
    """Those of the trainings that are still to be done."""
    return [training for training in trainings if read_training(finals, training).status not in LASTING]


def train_all(
    trainings: Sequence[FinalTraining], work: SharedWork, shared: "ray.ObjectRef[SharedWork]", look: Look
) -> None:
    """Trains what of these is not done, side by side where there is room, on the Ray that is running.

    shared: where Ray keeps `work`. look: is handed each training and its record after every epoch. Those that were
    interrupted, here or at their machine, go on where they stood. One whose process dies again and again has failed.
    """
    import ray

    task: Any = ray.remote(num_returns="streaming", max_retries=0)(train_final)
    streams: dict[Any, FinalTraining] = {}
    places: dict[Any, PlacementGroup] = {}
    deaths: Counter[str] = Counter()

    def start(training: FinalTraining) -> None:
        options, its_places = options_of_training(work.needs)
        stream = task.options(**options).remote(training, [shared])
        streams[stream] = training
        if its_places is not None:
            places[stream] = its_places

    def leave(stream: Any) -> None:
        del streams[stream]
        if stream in places:
            ray.util.remove_placement_group(places.pop(stream))

    try:
        for training in unfinished(trainings, work.folder):
            start(training)
        while streams:
            stream: Any = ray.wait(list(streams), num_returns=1)[0][0]
            training = streams[stream]
            try:
                look(training, ray.get(next(stream)))
            except StopIteration:
                leave(stream)
            except ray.exceptions.RayError as error:
                leave(stream)
                deaths[training.place] += 1
                if deaths[training.place] <= RESTARTS:
                    start(training)
                else:
                    look(training, give_up(training, work.folder, error))
    finally:
        for stream in streams:
            ray.cancel(stream)
        if streams:
            # Whoever starts a training again must not find the old one still at work in its folder.
            ray.wait([stream.completed() for stream in streams], num_returns=len(streams), timeout=SECONDS_TO_END)
        for stream in list(streams):
            leave(stream)


def options_of_training(needs: Needs) -> "tuple[dict[str, Any], PlacementGroup | None]":
    """What a task of Ray takes that trains, and the places set aside for its processes where it has several."""
    if needs.workers == 1:
        return options_of_task(needs), None
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    places: PlacementGroup = places_of(needs).to_placement_group()  # type: ignore[no-untyped-call]
    first = PlacementGroupSchedulingStrategy(places, placement_group_bundle_index=0)
    return {"num_cpus": 0, "scheduling_strategy": first}, places


def train_final(training: FinalTraining, shared: "list[ray.ObjectRef[SharedWork]]") -> Iterator[TrialRecord]:
    """Trains, in a worker of Ray, and yields the record after each epoch, which is on disk by then.

    shared: as in `train_all`, in a list, where Ray does not replace it by what it stands for.
    """
    import ray

    work = ray.get(shared[0])
    try:
        import model.train  # noqa: F401

        if work.needs.workers == 1:  # of several, each is a fresh process
            check_device(work.needs.device)
    except Exception:  # noqa: BLE001 - of a library, or a device, that a training before this one left broken
        os._exit(1)  # a fresh process can
    record = read_training(work.folder, training)
    if record.status in BAD_ENDINGS:
        record = replace(record, status="running", reason="")
    folder = work.folder / training.place
    for report in train_split(training.config, folder, training.fold, work, shared[0]):
        record = record.updated(report)
        keep_record(folder, record)
        yield record


def give_up(training: FinalTraining, finals: Path, error: Exception) -> TrialRecord:
    """The record of a training whose process died once too often, which is on disk by then."""
    folder = finals / training.place
    folder.mkdir(parents=True, exist_ok=True)
    reason = f"its process died {RESTARTS + 1} times: {one_line(error)}"
    record = replace(read_training(finals, training), status="failed", reason=reason)
    keep_record(folder, record)
    return record


def keep_record(folder: Path, record: TrialRecord) -> None:
    """Writes the record into the training's folder."""
    write_text(folder / RECORD, json.dumps(asdict(record)))
