"""One trial over several folds: a Ray task for each fold, and a score that is the mean over them."""

import json
import os
import re
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from data.outlast import PATIENCE, outlast
from data.replacing import copy_folder, write_text
from search.distributed_trial import options_of_task, train_split
from search.record import BAD_ENDINGS, BETWEEN_WARNINGS, METRICS, TrialRecord, one_line, split_warnings
from search.resources import Needs
from search.sound_study import read_record_file
from search.trial import SAMPLE, Report, Reports, SharedWork
from search.trial_mirror import bring_files, mirrored

if TYPE_CHECKING:
    import ray

RECORD = "fold.json"  # in a fold's folder: its record, which is a trial's, as of the last epoch
SECONDS_TO_END = 5.0  # for folds that are cancelled

# Starts the training of a fold (from 0); gives Ray's stream of what it yields.
Start = Callable[[int], Any]


def train_over_folds(
    params: Mapping[str, Any], trial_id: str, work: SharedWork, shared: "ray.ObjectRef[SharedWork]"
) -> Reports:
    """Trains with these parameters on one fold after the other and yields what is known of the trial, as it grows.

    The first fold trains alone, and each of its epochs is a report: a hopeless trial is stopped before it has cost
    more. Then all others train, side by side where there is room, and every fold that is through is a report, in their
    order: its `epoch` counts the epochs of all folds up to it, its metrics are the mean over the best epochs of these
    folds. `folds` says how many they are.

    Folds that were through before are not trained again, and others go on from where they stood. When it is closed
    before its end, so are its folds. A fold that ends badly ends the trial. Raises RuntimeError when a fold's process
    dies: whoever starts the trial again goes on.

    shared: where Ray keeps `work`.
    """
    import ray

    folds, max_epochs, folder = len(work.splits), params["max_epochs"], work.folder / trial_id
    task = ray.remote(
        num_returns="streaming",
        max_retries=0,
        **options_of_task(work.needs),
    )(train_fold)

    def start(fold: int) -> Any:
        return task.remote(params, trial_id, fold, work.needs, [shared])

    def bring(wanted: str) -> None:
        """Fetches what other machines have done of the trial's folds, where the run is at a URL. wanted: a pattern."""
        remote = work.remote_of(folder)
        if remote is not None:
            outlast(lambda: bring_files(remote, folder, wanted), f"storage {str(remote)!r}", patience=2 * PATIENCE)

    bring(f"*/{RECORD}")
    records = [read_record(folder / fold_name(fold), trial_id, params) for fold in range(folds)]

    def unfinished(some: Iterable[int]) -> list[int]:
        return [fold for fold in some if records[fold].epochs < max_epochs]

    with closing(_follow(unfinished([0]), start, together=1)) as first:
        for fold, report, records[fold] in first:
            if report["status"] in BAD_ENDINGS:
                yield _ending(fold, report)
                return
            yield report | {"status": "running", "done": False, "folds": 1}
    # Those whose processes share the places of the trial train one after the other.
    together = folds if work.needs.workers == 1 else 1
    with (
        mirrored(work.remote_of(folder), folder) as mirror,
        closing(_follow(unfinished(range(1, folds)), start, together)) as others,
    ):
        told = 1
        while told < folds:
            if unfinished([told]):
                fold, report, records[fold] = next(others)
                if report["status"] in BAD_ENDINGS:
                    yield _ending(fold, report)
                    return
                continue
            told += 1
            done = told == folds
            bring(f"{Path(_best(records[:told]).checkpoint).parent.name}/[bs]*")  # best/ and the sample
            checkpoint = keep_best(records[:told], work.folder.parent, folder)
            if mirror is not None:
                mirror.take(done)
            yield mean_report(records[:told]) | {
                "epoch": told * max_epochs,
                "folds": told,
                "seconds": sum(record.seconds for record in records),
                "status": "completed" if done else "running",
                "checkpoint": checkpoint,
                "done": done,
            }


def train_fold(
    params: Mapping[str, Any], trial_id: str, fold: int, needs: Needs, shared: "list[ray.ObjectRef[SharedWork]]"
) -> Iterator[tuple[Report, TrialRecord]]:
    """Trains one fold (from 0), in a worker of Ray, and yields each report with the fold's record after it.

    The record is on disk by then, so that what the fold has shown outlives whoever listens. needs: what it takes, which
    may be more than when the search began. shared: as in `train_over_folds`, in a list, where Ray does not replace it
    by what it stands for.
    """
    try:
        import torch  # noqa: F401

        import model.train  # noqa: F401
    except Exception:  # noqa: BLE001 - of half a library that an earlier fold left, cancelled while it imported it
        os._exit(1)  # a fresh process can
    import ray

    work = replace(ray.get(shared[0]), needs=needs).here()
    folder = work.folder / trial_id / fold_name(fold)
    record = read_record(folder, trial_id, params)
    for report in train_split(params, folder, fold, work, shared[0]):
        if report["status"] not in BAD_ENDINGS:
            record = record.updated(report)
            keep_record(work, folder, record)
        yield report, record


def keep_record(work: SharedWork, folder: Path, record: TrialRecord) -> None:
    """Writes the record of a fold into its folder, and to the URL of the run, where it has one."""
    text, remote = json.dumps(asdict(record)), work.remote_of(folder)
    write_text(folder / RECORD, text)
    if remote is not None:
        outlast(lambda: remote.put(RECORD, text.encode()), f"storage {str(remote)!r}", patience=2 * PATIENCE)


def read_record(folder: Path, trial_id: str, params: Mapping[str, Any]) -> TrialRecord:
    """What is known of the fold in this folder; an empty record where nothing is."""
    if not (folder / RECORD).is_file():
        return TrialRecord(trial_id=trial_id, config=params)
    return read_record_file(folder / RECORD)


def mean_report(records: Sequence[TrialRecord]) -> Report:
    """What folds have in common: the mean of each metric over those that have it, and what their training took.

    A fold in which no class was there to be found, and none was, measures nothing and is left out. The threshold and
    `best_epoch` are those of the best fold, whose model is kept. A warning is told once, however many folds have it.
    """
    best, last = _best(records), records[-1]
    telling = [record.metrics for record in records if set(record.metrics) - set(METRICS)]
    names = dict.fromkeys(name for metrics in telling for name in metrics)
    means = {name: fmean(metrics[name] for metrics in telling if name in metrics) for name in names}
    return {
        **means,
        "threshold": best.threshold,
        "best_epoch": best.best_epoch,
        "peak_memory_mb": max((record.peak_memory_mb or 0.0 for record in records), default=None),
        "images_per_second": last.images_per_second,
        "parameters": last.parameters,
        "gflops_per_megapixel": last.gflops_per_megapixel,
        "latency_ms": _mean(record.latency_ms for record in records),
        "batch_parts": max((record.batch_parts or 1 for record in records), default=None),
        "warnings": BETWEEN_WARNINGS.join(_different_warnings(records)),
        "device": last.device,
        "devices": last.devices,
    }


def keep_best(records: Sequence[TrialRecord], run: Path, folder: Path) -> str:
    """Copies the model of the best fold, and its sample, into the trial's folder; the model's place below the run's."""
    source = run / _best(records).checkpoint
    target = folder / source.name
    if not _best(records).checkpoint or not source.is_dir():
        return ""
    copy_folder(source, target)
    with suppress(OSError):  # a picture that is not there, or cannot be written, takes nothing from a trial
        shutil.copyfile(source.parent / SAMPLE, folder / SAMPLE)
    return target.relative_to(run).as_posix()


def fold_name(fold: int) -> str:
    """The name of a fold's folder in the trial's: fold-1 for the first, which is 0 here."""
    return f"fold-{fold + 1}"


def _different_warnings(records: Sequence[TrialRecord]) -> Iterable[str]:
    """The warnings of all folds; of those that differ in their numbers only, the first."""
    different: dict[str, str] = {}
    for record in records:
        for warning in split_warnings(record.warnings):
            different.setdefault(re.sub(r"[\d.]+", "", warning), warning)
    return different.values()


def _mean(values: Iterable[float | None]) -> float | None:
    """The mean of those that are known, or None where none is."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _best(records: Sequence[TrialRecord]) -> TrialRecord:
    """The record of the fold with the highest `val_dice`, or the first where none has one."""
    return max(records, key=lambda record: -1.0 if record.val_dice is None else record.val_dice)


def _ending(fold: int, report: Report) -> Report:
    """The report of a fold that ended badly, as that of its trial."""
    return report | {"reason": f"fold {fold + 1}: {report['reason']}"}


def _follow(
    folds: Iterable[int], start: Start, together: int
) -> Generator[tuple[int, Report, TrialRecord], None, None]:
    """Trains these folds, so many side by side, and yields what they do as it comes; when it is closed, so are they."""
    import ray

    waiting = iter(folds)
    streams: dict[Any, int] = {start(fold): fold for fold in islice(waiting, together)}
    try:
        while streams:
            stream: Any = ray.wait(list(streams), num_returns=1)[0][0]
            try:
                report, record = ray.get(next(stream))
            except StopIteration:
                del streams[stream]
                streams |= {start(fold): fold for fold in islice(waiting, 1)}
            except ray.exceptions.RayError as error:
                raise RuntimeError(f"fold {streams[stream] + 1}: {one_line(error)}") from None
            else:
                yield streams[stream], report, record
    finally:
        for stream in streams:
            ray.cancel(stream)
        if streams:
            # Whoever starts a fold again must not find the old one still at work in its folder.
            ray.wait([stream.completed() for stream in streams], num_returns=len(streams), timeout=SECONDS_TO_END)
