"""The command `python -m tests.drills`: disturbs searches in every way there is, and says what held."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.drills.drill import Report, run_drill, run_undisturbed
from tests.drills.faults import FAULTS
from tests.drills.nodes import lacking
from tests.drills.page import write_table


def main() -> int:
    """Runs the drills, one after the other, and prints what came of each."""
    parser = argparse.ArgumentParser(prog="python -m tests.drills", description=__doc__)
    parser.add_argument("--moments", type=int, default=3, help="how often each fault strikes (3)")
    parser.add_argument("--only", nargs="+", choices=FAULTS, default=list(FAULTS), help="these faults alone")
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100_000, help="gives the moments; else the time")
    parser.add_argument("--write", action="store_true", help="write the table of docs/reliability.md")
    parser.add_argument("--keep", type=Path, help="folder for what the drills leave; else it is taken away")
    asked = parser.parse_args()
    if missing := lacking():
        parser.error(f"no cluster of several nodes can be made here: {missing}")
    reports: list[Report] = []
    with tempfile.TemporaryDirectory(prefix="drills") as scratch:
        folder = (asked.keep or Path(scratch)).absolute()
        undisturbed = run_undisturbed(folder / "undisturbed")
        print(f"undisturbed: {', '.join(undisturbed.rows)}", flush=True)
        for name in asked.only:
            for seed in range(asked.seed, asked.seed + asked.moments):
                try:
                    report = run_drill(name, FAULTS[name], seed, folder / f"{name}-{seed}", undisturbed)
                except Exception as error:  # noqa: BLE001 - the other drills go on
                    report = Report(fault=name, seed=seed, moment="", broken=(repr(error),), said="", seconds=0.0)
                reports.append(report)
                print(f"{name}, seed {seed}, {report.moment}: {verdict(report)} ({report.seconds:.0f} s)", flush=True)
    if asked.write:
        write_table(FAULTS, reports)
    failed = sum(bool(report.broken) for report in reports)
    print(f"{len(reports) - failed} of {len(reports)} drills held")
    return 1 if failed else 0


def verdict(report: Report) -> str:
    """What came of a drill, in words."""
    return "BROKEN: " + "; ".join(report.broken) if report.broken else f"held. {report.said}".rstrip()


if __name__ == "__main__":
    sys.exit(main())
