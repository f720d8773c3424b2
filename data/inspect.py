"""The command `python -m data.inspect`: says what a data set holds, and what may go wrong with it."""

import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from data.checks.case import LEVELS, Level
from data.command_line import OK, run_command
from data.doctor import Finding, examine
from data.readers import load
from data.segmentation_data import Preparation, Splitting
from data.split import split_data
from data.summary import DataSummary, list_classes, list_facts, summarize

# The exit code when there are errors: a search would refuse the data.
FAULTY = 1

_HEADINGS: dict[Level, str] = {
    "error": "a search would stop here",
    "warning": "this may spoil a search",
    "note": "good to know",
}
_STYLES: dict[Level, str] = {"error": "bold red", "warning": "bold yellow", "note": "bold blue"}


def main(
    data: Annotated[str, "Name of a data set, or folder of images/ and masks/."],
    *,
    data_root: Annotated[Path | None, "Folder that holds the named data sets."] = None,
    html: Annotated[Path | None, "Also write a page with the pictures there: one file, no network."] = None,
    preparation: Preparation,
    splitting: Splitting,
) -> int:
    """Says what a data set holds: pictures, sizes, classes, the split, and what may ruin a search.

    Ends with 1 when there are errors, for which a search would refuse the data, else with 0.
    """
    if html is not None:
        from data.doctor_page import check_page_path

        check_page_path(html)
    loaded = load(data, root=data_root, preparation=preparation)
    splits = split_data(loaded, splitting)
    summary, findings = summarize(loaded, splits), examine(loaded, splits)
    print_summary(summary)
    print_findings(findings)
    if html is not None:
        from data.doctor_page import write_page

        write_page(html, loaded, splits, summary, findings)
        print(f"page: {html}")
    return FAULTY if any(found.level == "error" for found in findings) else OK


def print_summary(summary: DataSummary) -> None:
    """Prints the facts and the classes: tables in a terminal, plain aligned lines in a pipe or a log."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    facts, ((_, *columns), *rows) = list_facts(summary), list_classes(summary)
    header = ("class: pixels in pictures", *columns)
    if console.is_terminal:
        grid = Table.grid(padding=(0, 2))
        for name, value in facts:
            grid.add_row(Text(name, style="bold"), Text(value))
        table = Table()
        for place, column in enumerate(header):
            table.add_column(column, justify="left" if place == 0 else "right")
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(grid)
        console.print(table)
        return
    for name, value in facts:
        print(f"{name:<12} {value}")
    widths = [max(len(row[place]) for row in (header, *rows)) for place in range(len(header))]
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells))


def print_findings(findings: Sequence[Finding]) -> None:
    """Prints what was found, the worst first: what it is, why it matters, what to do. Coloured in a terminal."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    # What is piped is read by programs too: a sentence stays on its line.
    width = min(console.width, 110) if console.is_terminal else 10_000
    for level in LEVELS:
        members = [found for found in findings if found.level == level]
        if not members:
            continue
        count = f"{len(members)} {level}{'s' * (len(members) > 1)}"
        console.print()
        console.print(Text.assemble((count, _STYLES[level]), f": {_HEADINGS[level]}"), soft_wrap=True)
        for found in members:
            console.print(Text.assemble("  ", (found.check, "bold"), (f" ({found.sure})", "dim")), soft_wrap=True)
            for word, sentence in (("what", found.what), ("why", found.why), ("do", found.remedy)):
                lines = textwrap.wrap(sentence, max(20, width - 9), break_on_hyphens=False)
                console.print(Text(f"    {word:<4} " + "\n         ".join(lines)), soft_wrap=True)
    if not findings:
        console.print()
        console.print("Nothing was found that stands in the way of a search.")


if __name__ == "__main__":
    sys.exit(run_command(main))
