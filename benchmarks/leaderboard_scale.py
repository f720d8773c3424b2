"""A leaderboard of 10,000 rows: read, filtered and printed; its report made, and opened in a browser.

The run is made up: 10,000 trials with curves, in all the ways in which trials end. Told are the seconds of
`python -m search.leaderboard RUN --where ... --sort ...` as a person types it, of `python -m search.report RUN`, and,
in headless Chromium, from opening the page until its table is there and has answered what was typed into its filter.
Each is done five times (the report three times); the goals are for the median. The report of 500 trials is made once,
for its size. Needs Debian's chromium (sh tests/install_servers.sh).
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from outcome import conclude, describe_machine, parse_arguments, print_table, spread

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from tests.search.browser import DESKTOP, chromium  # noqa: E402
from tests.search.made_up_run import make_run  # noqa: E402

ROWS, FEW = 10_000, 500
GOALS = {"table": 2.0, "report": 20.0, "page": 2.0}  # seconds
GOAL_SIZE = 8.0  # MB, of the report of 500 trials


def call(*words: str) -> float:
    """Seconds of a command from its start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", *words], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def open_page(page: Path) -> Callable[[], float]:
    """What opens the page in a fresh window; seconds until it has answered."""

    def timed() -> float:
        with chromium() as browser:
            window = browser.new_context(viewport=DESKTOP).new_page()
            began = time.perf_counter()
            window.goto(page.as_uri())
            window.wait_for_selector("html[data-ready=yes]")
            window.get_by_label("filter rows").fill("loss=dice depth>3")
            window.wait_for_function(f"!document.getElementById('count').textContent.startsWith('{ROWS:,}')")
            return time.perf_counter() - began

    return timed


def main() -> int:
    """Measures all three."""
    arguments = parse_arguments(__doc__ or "")
    with tempfile.TemporaryDirectory() as folder:
        many = make_run(Path(folder) / "many", ROWS)
        few = make_run(Path(folder) / "few", FEW)
        where = ("--where", 'loss == "dice" and depth > 3', "--sort", "val_iou")
        seconds = {
            "table": [call("search.leaderboard", str(many.path), *where) for _ in range(5)],
            "report": [call("search.report", str(many.path)) for _ in range(3)],
        }
        opened = open_page(many.path / "report.html")
        seconds["page"] = [opened() for _ in range(5)]
        of_few = call("search.report", str(few.path))
        sizes = {run: (run.path / "report.html").stat().st_size / 1e6 for run in (many, few)}
    print(describe_machine())
    what = {
        "table": f"{ROWS:,} rows read, filtered, sorted, printed (s)",
        "report": f"report of {ROWS:,} trials made (s)",
        "page": "page opened, filter answered (s)",
    }
    print_table(
        [
            ("what", "median (range)", "goal"),
            *((what[name], spread(values, 2), f"<= {GOALS[name]:g}") for name, values in seconds.items()),
            (f"report of {FEW} trials (MB)", f"{sizes[few]:.1f}", f"<= {GOAL_SIZE:g}"),
            (f"report of {FEW} trials made (s)", f"{of_few:.1f}", ""),
            (f"report of {ROWS:,} trials (MB)", f"{sizes[many]:.1f}", ""),
        ]
    )
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    met = all(medians[name] <= goal for name, goal in GOALS.items()) and sizes[few] <= GOAL_SIZE
    figure = ", ".join(f"{name} {value:.2f} s" for name, value in medians.items())
    goal = ", ".join(f"{name} {value:g} s" for name, value in GOALS.items())
    return conclude(
        "leaderboard_scale",
        f"{figure}, {sizes[few]:.1f} MB",
        f"{goal}, {GOAL_SIZE:g} MB",
        met,
        {"seconds": seconds, "megabytes": {"500": sizes[few], "10000": sizes[many]}},
        arguments.json,
    )


if __name__ == "__main__":
    sys.exit(main())
