"""What a study in PostgreSQL costs the driver, beside one in a journal: milliseconds a report, a trial, and a look.

A searcher is called as Ray calls it, without any training: it draws a trial, hears of 30 epochs, and tells the end. A
report is one epoch; a trial is what comes beside its reports: to draw it at random and put it into the study, and to
tell its end. Both kinds take turns, with 10 trials each time, in a new study. A look is what a driver takes every five
seconds to hear of others: here another one has begun 200 trials, of which 100 wait with 30 epochs each.

The server is a real one on this machine, made for this and taken away, which waits for its disk as it does usually; a
journal is waited for when a trial begins or ends. So there is no network between driver and server: a report goes there
and back six times (two transactions of begin, write and commit), and takes so many times longer.
"""

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from outcome import conclude, describe_machine, parse_arguments, print_table, spread

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests know how to start a server

ROUNDS, TRIALS, EPOCHS = 7, 10, 30
OTHERS, WAITING, LOOKS = 200, 100, 7
GOAL_REPORT = 50.0


def search_once(place: Any) -> tuple[float, float]:
    """Milliseconds of a report, and of a trial beside its reports."""
    searcher = searcher_in(place)
    reports, began = 0.0, time.perf_counter()
    for number in range(TRIALS):
        ray_id = f"ray-{number}"
        searcher.suggest(ray_id)
        before = time.perf_counter()
        report(searcher, ray_id)
        reports += time.perf_counter() - before
        searcher.on_trial_complete(ray_id, result(EPOCHS, "completed"))
    whole = time.perf_counter() - began
    return 1000 * reports / (TRIALS * EPOCHS), 1000 * (whole - reports) / TRIALS


def look_often(folder: Path, url: str) -> list[float]:
    """Milliseconds of each look of a driver at what another one has."""
    from search.record import TRIAL_ID

    here, there = (searcher_in(place_in(folder / name / "looks", url)) for name in ("here", "there"))
    for number in range(OTHERS):
        assert there.suggest(f"ray-{number}")[TRIAL_ID]
        if number < WAITING:
            report(there, f"ray-{number}")
            there.set_aside(f"ray-{number}")
    taken = []
    for _ in range(LOOKS):
        before = time.perf_counter()
        here.hear()
        taken.append(1000 * (time.perf_counter() - before))
    return taken


def report(searcher: Any, ray_id: str) -> None:
    """Tells a searcher of all epochs of a trial."""
    for epoch in range(1, EPOCHS + 1):
        searcher.on_trial_result(ray_id, result(epoch, "running"))


def result(epoch: int, status: str) -> dict[str, Any]:
    """What a trial shows after an epoch: as many numbers as a real one."""
    from search.record import METRICS

    shown = dict.fromkeys(METRICS, epoch / 100)
    told = {"epoch": epoch, "status": status, "seconds": 9.0 * epoch, "checkpoint": "trials/t0000/best"}
    return shown | told | {"device": "cpu", "images_per_second": 50.0, "parameters": 10_000, "peak_memory_mb": 900.0}


def searcher_in(place: Any) -> Any:
    """A searcher with as many trials as anybody asks for."""
    from search.searcher import StudySearcher
    from search.space import parse_space

    asked = {"searcher": "random", "num_trials": None, "seed": 0, "max_concurrent": OTHERS}
    return StudySearcher(journal=place, space=parse_space(()), **asked)


def place_in(folder: Path, url: str | None) -> Any:
    """Where the study of a run in this folder is."""
    from search.run_folder import RunFolder
    from search.study import study_place

    folder.mkdir(parents=True)
    return study_place(RunFolder(path=folder), url)


def main() -> int:
    """Measures, and prints the table."""
    from tests.search.postgresql import SECRET, Server

    arguments = parse_arguments(__doc__ or "")
    os.environ["PGPASSWORD"] = SECRET
    server = Server(waits_for_disk=True)
    found: dict[str, list[tuple[float, float]]] = {"journal": [], "PostgreSQL": []}
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for count in range(ROUNDS):
                for kind, url in (("journal", None), ("PostgreSQL", server.url)):
                    found[kind].append(search_once(place_in(folder / kind / str(count), url)))
            looks = look_often(folder, server.url)
    finally:
        server.close()
    print(describe_machine())
    rows = [("study", "ms a report", "ms a trial beside them")]
    rows += [(kind, *(spread(taken, 2) for taken in zip(*values, strict=True))) for kind, values in found.items()]
    print_table(rows)
    reports, trials = ([median(one[part] for one in values) for values in found.values()] for part in (0, 1))
    print(f"a look: {spread(looks)} ms, of {OTHERS} trials of another driver, {WAITING} of which wait")
    print(f"PostgreSQL takes {reports[1] / reports[0]:.0f} times as long a report, {trials[1] / trials[0]:.1f} a trial")
    return conclude(
        "shared_study",
        f"{reports[1]:.1f} ms a report in PostgreSQL",
        f"< {GOAL_REPORT:g} ms",
        reports[1] < GOAL_REPORT,
        {"found": found, "looks": looks},
        arguments.json,
    )


if __name__ == "__main__":
    sys.exit(main())
