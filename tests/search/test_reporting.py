"""Reports that a search makes of itself: now and then, at its end, and never at its cost."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from search.events import Events
from search.reporting import Reporting, make_report
from tests.search.commands import SMALL, start
from tests.search.made_up_run import make_run


class Process:
    """What stands for the process that makes a report."""

    pid = 2**22 + 1  # of no process

    def __init__(self, command: list[str], **_: Any) -> None:
        self.command = command
        self.returncode: int | None = None
        self.killed = False

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self.killed = True

    def wait(self) -> None:
        assert self.killed


def test_a_report_is_made_every_so_often_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Process] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *given, **named: made.append(Process(*given, **named)) or made[-1])
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    said: list[str] = []
    report = Reporting(tmp_path, 60.0, Events(tmp_path / "events.log", said.append))
    for seconds, count in ((0, 0), (59, 0), (2, 1), (60, 1), (60, 1)):
        clock[0] += seconds
        report.on_step_end()
        assert len(made) == count
    assert made[0].command == [sys.executable, "-m", "search.report", str(tmp_path)]
    for number, code in enumerate((2, 0, 2), start=2):
        made[-1].returncode = code
        clock[0] += 60
        report.on_step_end()
        assert len(made) == number
    assert said == [f"the report could not be made: python -m search.report {tmp_path} says why"]
    report.close()
    assert made[-1].killed
    report.close()


def test_a_report_that_cannot_be_made_costs_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", 3)
    said: list[str] = []

    for error in (RuntimeError("what nobody\nthought of"), KeyboardInterrupt()):

        def broken(*_: Any, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr("search.report.page.write_page", broken)
        assert make_report(run, said.append) is None
    why, _, remedy = said[0].partition("; ")
    assert why == "warning: the report was not made (RuntimeError: what nobody thought of)"
    assert remedy == f"python -m search.report {run.path} makes it"
    assert "(interrupted)" in said[1]
    monkeypatch.undo()
    assert make_report(run, said.append) == run.path / "report.html"
    assert len(said) == 2


@pytest.mark.drill
@pytest.mark.timeout(300)
def test_a_search_keeps_its_report_fresh(tmp_path: Path) -> None:
    words = [word for word in SMALL if word != "--no-report"]
    command = ("--name", "fresh", "--storage", str(tmp_path), "--num-trials", "3", "--max-epochs", "25")
    search = start(*command, *words, "--report-every", "3s")
    page = tmp_path / "fresh/report.html"
    try:
        until = time.monotonic() + 120
        while not page.exists():
            assert search.poll() is None and time.monotonic() < until
            time.sleep(0.2)
        assert search.poll() is None, "it was there before the end"
        early = page.read_text()
        assert "at work, or was cut off" in early
        out, errors = search.communicate(timeout=200)
    finally:
        search.kill()
        search.communicate()
    assert (search.returncode, errors) == (0, "")
    assert f"report:      {page}" in out
    assert "at work, or was cut off" not in page.read_text()
    assert (tmp_path / "fresh/best/model-card.md").is_file()
