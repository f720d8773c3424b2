"""Seconds that a search adds to each trial, ours against Ray Tune with OptunaSearch as its documentation shows it.

The training is trivial (it imports torch and reports five epochs), so all time is the system's. Each search runs as
a process of its own, with few trials and with many: the difference, divided by the trials between, is what one more
trial costs; the rest is what a start costs. The two take turns. Both run as many trials at a time as there are cores.

Then where ours goes: one search more, with one trial at a time, so that little is done at once. Timers around functions
of the driver, and around the reports of the worker, count what a trial takes once the search is under way. What the
driver waits for beyond the worker's own time is Ray's, which carries the messages between the two: at least that much,
as the worker's time is taken off whole, also where the driver was at work meanwhile.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from driver.exclusive_times import ExclusiveTimes
from outcome import conclude, describe_machine, parse_arguments, print_table, spread

TURNS = 3
TRIALS = {"stock": (4, 12), "ours": (10, 210)}
EPOCHS = 5
GOAL_RATIO, GOAL_SECONDS = 50.0, 0.1
TRACED = (10, 210)  # of a search of so many, the trials from the first of these on
WAITING = "waiting for the worker"


def search_with_stock(trials: int, folder: Path) -> None:
    """Ray Tune's guide to OptunaSearch, with its ASHA."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    def objective(config: dict[str, float]) -> None:
        import torch  # noqa: F401 - what every training needs

        for epoch in range(1, EPOCHS + 1):
            tune.report({"val_dice": 1 - abs(config["learning_rate"] - 0.01) - 0.1 / epoch})

    ray.init(address="local")  # else it would join a Ray of somebody else's
    tuner = tune.Tuner(
        objective,
        tune_config=tune.TuneConfig(
            metric="val_dice",
            mode="max",
            search_alg=OptunaSearch(),
            scheduler=ASHAScheduler(max_t=EPOCHS),
            num_samples=trials,
        ),
        run_config=tune.RunConfig(storage_path=str(folder)),
        param_space={"learning_rate": tune.loguniform(1e-4, 1e-1), "depth": tune.randint(3, 6)},
    )
    assert tuner.fit().num_errors == 0


def trivial_training(config: Any, *_: Any, **_named: Any) -> Iterator[Any]:
    """A training that does nothing, with all the reports that a real one has."""
    for epoch in range(1, config.max_epochs + 1):
        yield report_of(epoch, 1 - abs(config.learning_rate - 0.01) - 0.1 / epoch, config)


def report_of(epoch: int, dice: float, config: Any) -> Any:
    """A report whose metrics are all the same."""
    from model.metrics import Scores
    from model.progress import EpochReport

    names = (declared.name for declared in fields(Scores) if declared.name != "class_dice")
    return EpochReport(
        epoch=epoch,
        train_loss=1 - dice,
        val=Scores(**dict.fromkeys(names, dice), class_dice=(dice,)),
        class_names=("vessel",),
        thresholds=(0.5,),
        seconds=0.0,
        images_per_second=1.0,
        learning_rate=config.learning_rate,
        gradient_norm=1.0,
        peak_memory_mb=1.0,
        parameters=1,
        gflops_per_megapixel=1.0,
        batch_parts=1,
        warnings=(),
        device="cpu",
    )


def search_with_ours(trials: int, folder: Path, cores: float = 1.0) -> None:
    """`python -m search.run` but for the training; cores: of each trial."""
    from data.readers import load
    from data.split import split_data
    from search.resources import QUIET, choose_needs, machines, running_ray

    os.environ.update(QUIET)  # some of which Ray reads when it is imported

    from search.driver import search
    from search.run_folder import new_run
    from search.settings import SearchSettings
    from search.space import parse_space

    settings = SearchSettings(num_trials=trials, max_epochs=EPOCHS, storage=folder)
    data = load(settings.data)
    space = parse_space({"max_epochs": EPOCHS})
    with running_ray(None), new_run(folder, "overhead") as run:
        needs = choose_needs(cores, 0.0, machines())
        outcome = search(
            settings, space, data, split_data(data), run, needs, look=lambda *_: None, train=trivial_training
        )
    assert sum(record.status in ("completed", "stopped") for record in outcome.records) == trials


def trace_ours(trials: int, folder: Path) -> None:
    """Our search, one trial at a time, with timers; writes what each part took, and how long it was in all."""
    import search.driver
    from search.searcher import StudySearcher

    times = ExclusiveTimes()
    count_parts(times)
    search.driver.make_trainable = timed(search.driver.make_trainable, folder)
    marks: list[tuple[float, Counter[str]]] = []
    suggest = StudySearcher.suggest

    def suggest_and_mark(searcher: StudySearcher, trial_id: str) -> Any:
        suggestion = suggest(searcher, trial_id)
        if isinstance(suggestion, dict) and suggestion["trial_id"] in (name_of(TRACED[0]), name_of(trials - 1)):
            marks.append((time.perf_counter(), times.seconds))
        return suggestion

    StudySearcher.suggest = suggest_and_mark  # type: ignore[method-assign]
    search_with_ours(trials, folder, cores=os.cpu_count() or 1)
    (began, before), (ended, after) = marks
    parts = {part: after[part] - before[part] for part in after}
    for number in range(TRACED[0], trials - 1):
        told = json.loads((folder / name_of(number)).read_text())
        for part, seconds in worker_parts(told).items():
            parts[part] = parts.get(part, 0.0) + seconds
            parts[WAITING] -= seconds
    (folder / "trace.json").write_text(json.dumps({"seconds": ended - began, "parts": parts}))


def count_parts(times: ExclusiveTimes) -> None:
    """Puts timers around what the driver does."""
    import ray
    from optuna.storages import JournalStorage
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

    from search.ending import Ending
    from search.halving import HalvingScheduler
    from search.placement import Placement
    from search.proposals import Proposals
    from search.searcher import StudySearcher
    from search.watch import Watch

    for owner, names, part in (
        (Proposals, ("draft",), "drawing a suggestion"),
        (StudySearcher, ("suggest", "on_trial_result", "on_trial_complete"), "keeping the record"),
        (JournalStorage, ("_write_log", "_sync_with_backend"), "the journal"),
        (HalvingScheduler, ("on_trial_result", "on_trial_complete", "on_trial_add"), "whom to stop"),
        (Watch, ("look",), "leaderboard and screen"),
        (Ending, ("stop_all",), "limits of the search"),
        (Placement, ("next_trial",), "Tune: a new trial"),
        (TuneController, ("add_trial",), "Tune: a new trial"),
        (Trial, ("init_local_path",), "Tune: a new trial"),
        (TuneController, ("step", "is_finished"), "Tune: its loop, and taking in results"),
        (ray, ("get",), "Ray: fetching results"),
        (ray, ("wait",), WAITING),
    ):
        for name in names:
            times.count(owner, name, part)


def timed(make_trainable: Callable[[Any], Any], folder: Path) -> Callable[[Any], Any]:
    """Makes what workers run, with a clock: a trial writes down when it began, entered and left reports, and ended."""

    def make(shared: Any) -> Callable[[dict[str, Any]], None]:
        run = make_trainable(shared)

        def run_with_clock(config: dict[str, Any]) -> None:
            from ray import tune

            report, marks = tune.report, [time.perf_counter()]

            def report_with_clock(*given: Any, **named: Any) -> None:
                marks.append(time.perf_counter())
                try:
                    report(*given, **named)
                finally:
                    marks.append(time.perf_counter())

            tune.report = report_with_clock
            try:
                run(config)
            finally:
                tune.report = report
                marks.append(time.perf_counter())
                (folder / config["trial_id"]).write_text(json.dumps(marks))

        return run_with_clock

    return make


def worker_parts(marks: list[float]) -> dict[str, float]:
    """Seconds of a trial in its worker, from when it began, entered and left each report, and ended."""
    outside = [after - before for before, after in zip(marks[::2], marks[1::2], strict=True)]
    return {
        "worker: a trial's start": outside[0],
        "worker: epochs, and their curves": sum(outside[1:-1]),
        "worker: a trial's end": outside[-1],
    }


def name_of(number: int) -> str:
    """Our id of a trial."""
    return f"t{number:04d}"


def print_breakdown(trace: Mapping[str, Any], trials: int) -> dict[str, float]:
    """Prints what each part takes of a trial, in the order of their size; milliseconds by part."""
    names = {WAITING: "Ray: messages between driver and worker, at least", "elsewhere": "all else"}
    parts = {names.get(part, part): 1000 * seconds / trials for part, seconds in trace["parts"].items()}
    whole = 1000 * trace["seconds"] / trials
    rows = [(f"of one trial after the other ({trials} trials)", "milliseconds", "share")]
    for part, milliseconds in sorted(parts.items(), key=lambda item: -item[1]):
        rows.append((part, f"{milliseconds:.2f}", f"{milliseconds / whole:.0%}"))
    rows.append(("in all", f"{whole:.2f}", ""))
    print_table(rows)
    return parts


SYSTEMS = {"stock": search_with_stock, "ours": search_with_ours, "traced": trace_ours}


def run_apart(system: str, trials: int) -> tuple[float, Any]:
    """Seconds of one whole search in a process of its own, and its trace where it has one."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--search", system, str(trials), folder]
        started = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"})
        taken = time.perf_counter() - started
        trace = Path(folder) / "trace.json"
        return taken, json.loads(trace.read_text()) if trace.exists() else None


def main() -> int:
    """Runs the searches in turns and prints the table."""
    arguments = parse_arguments(__doc__ or "")
    per_trial: dict[str, list[float]] = {system: [] for system in TRIALS}
    start: dict[str, list[float]] = {system: [] for system in TRIALS}
    for _ in range(TURNS):
        for system, (few, many) in TRIALS.items():
            short, long = (run_apart(system, trials)[0] for trials in (few, many))
            one = (long - short) / (many - few)
            per_trial[system].append(one)
            start[system].append(short - few * one)
    trace = run_apart("traced", TRACED[1])[1]
    print(describe_machine())
    names = {"stock": "Ray Tune + OptunaSearch + ASHA, as documented", "ours": "unet-search"}
    table = [("system", "seconds a trial", "seconds to start", "trials")]
    for system, (few, many) in TRIALS.items():
        table.append((names[system], spread(per_trial[system], 3), spread(start[system]), f"{few} and {many}"))
    print_table(table)
    parts = print_breakdown(trace, TRACED[1] - 1 - TRACED[0])
    ours = statistics.median(per_trial["ours"])
    ratio = statistics.median(per_trial["stock"]) / ours
    return conclude(
        "trial_overhead",
        f"{ratio:.1f} times less than stock ({ours:.3f} s a trial)",
        f">= {GOAL_RATIO:g} times less, and <= {GOAL_SECONDS:g} s",
        ratio >= GOAL_RATIO and ours <= GOAL_SECONDS,
        {"seconds_per_trial": per_trial, "seconds_to_start": start, "milliseconds_by_part": parts},
        arguments.json,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--search"]:
        SYSTEMS[sys.argv[2]](int(sys.argv[3]), Path(sys.argv[4]))
    else:
        sys.exit(main())
