"""The command `python -m search.report`: makes the report of a run, at its end or at any moment of it."""

import sys
import time
from pathlib import Path
from typing import Annotated

from data.command_line import run_command
from data.input_error import InputError
from search.run_folder import REPORT, fetch_to_read
from search.storage import is_url


def report(
    run: Annotated[str, "Folder of a run, such as runs/NAME, or its URL."],
    /,
    *,
    output: Annotated[Path | None, "File to write; report.html in the run's folder where nothing is said."] = None,
) -> None:
    """Writes the report of a run: one page that opens in any browser, without a network.

    python -m search.report runs/NAME
    python -m search.report s3://BUCKET/runs/NAME --output report.html
    """
    if output is None and is_url(run):
        raise InputError(f"run {run!r} is at a URL: say where the page is to be, as in --output {REPORT}.")
    target = Path(run) / REPORT if output is None else output
    if target.is_dir():
        raise InputError(f"output {str(target)!r} is a folder: name a file in it, such as {str(target / REPORT)!r}.")
    if not target.absolute().parent.is_dir() and output is not None:
        raise InputError(
            f"output {str(target)!r} is in a folder that does not exist: make {str(target.parent)!r} first."
        )
    began = time.monotonic()
    path = fetch_to_read(run)
    from search.plain_console import PlainConsole

    console = PlainConsole()
    with console.status("making the report"):
        from search.report.page import write_page
        from search.report.run_facts import read_facts

        try:
            write_page(target, read_facts(run, path))
        except OSError as error:
            raise InputError(
                f"output {str(target)!r} cannot be written ({error.strerror or error}): name another with --output."
            ) from error
    size = target.stat().st_size / 1e6
    console.print(f"report: {target} ({size:.1f} MB, {time.monotonic() - began:.1f} s); open it in any browser")


if __name__ == "__main__":
    sys.exit(run_command(report))
