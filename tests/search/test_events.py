"""What befalls a run stands in its log, line by line, whatever befalls the log."""

import re
from pathlib import Path

from search.events import Events


def test_each_event_is_a_line_with_its_time_after_those_of_earlier_sessions(tmp_path: Path) -> None:
    said: list[str] = []
    Events(tmp_path / "events.log").tell("the search began")
    Events(tmp_path / "events.log", said.append).tell("machine 10.0.0.3\nis gone: Gefäß")
    lines = (tmp_path / "events.log").read_text(encoding="utf-8").splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == ["the search began", "machine 10.0.0.3 is gone: Gefäß"]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  ", line) for line in lines)
    assert said == ["machine 10.0.0.3 is gone: Gefäß"]


def test_what_cannot_be_written_is_said_all_the_same(tmp_path: Path) -> None:
    said: list[str] = []
    Events(tmp_path / "gone" / "events.log", said.append).tell("the disk is full")
    assert said == ["the disk is full"]
