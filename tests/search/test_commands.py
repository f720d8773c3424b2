"""The list of commands: each is there, and says what it does."""

import ast
from pathlib import Path

import pytest

from data.command_line import run_command
from search.__main__ import COMMANDS, search

PROJECT = Path(__file__).parents[2]


def test_the_list_names_every_command_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    there = set()
    for room in ("data", "model", "search"):
        for path in (PROJECT / room).rglob("*.py"):
            code = path.read_text(encoding="utf-8")
            if '__name__ == "__main__"' in code and path != PROJECT / "search/__main__.py":
                parts = path.relative_to(PROJECT).with_suffix("").parts
                there.add(".".join(part for part in parts if part != "__main__"))
    assert set(COMMANDS) == there
    assert run_command(search, []) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines[:-1]] == [*COMMANDS]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_has_an_example_or_says_what_it_does(name: str) -> None:
    parts = PROJECT.joinpath(*name.split("."))
    path = parts / "__main__.py" if parts.is_dir() else parts.with_suffix(".py")
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
