"""Writes the table of drills into docs/reliability.md, between its two markers."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.drills.drill import Fault, Report

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- drills -->", "<!-- /drills -->"


def write_table(faults: Mapping[str, Fault], reports: Sequence[Report]) -> None:
    """Puts what came of the drills in place of what stood there; faults that did not strike keep their rows."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    stood, found, after = rest.partition(END)
    assert found, f"{PAGE} has no {BEGIN} and {END}"
    PAGE.write_text(f"{before}{BEGIN}\n{table(faults, reports, stood)}{END}{after}", encoding="utf-8")


def table(faults: Mapping[str, Fault], reports: Sequence[Report], stood: str = "") -> str:
    """A row for each fault: what happens, how often and when it struck, how often all held, and what was said.

    stood: a table from before, of which the other rows are taken.
    """
    rows = {line.split("|")[1].strip(): line for line in stood.splitlines() if line.startswith("|")}
    for name in dict.fromkeys(report.fault for report in reports):
        mine = [report for report in reports if report.fault == name]
        held = sum(not report.broken for report in mine)
        moments = "; ".join(report.moment for report in mine)
        said = re.sub(r"'/[^']*/runs/", "'runs/", next((report.said for report in mine if report.said), ""))
        cells = (name, faults[name].happens, moments, f"{held} of {len(mine)}", said)
        rows[name] = "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"
    head = ["| fault | what happens | struck | held | the log's line |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*head, *(rows[name] for name in faults if name in rows)]) + "\n"
