"""A search looks its data over first: it stops at errors and tells of each warning once."""

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from data.command_line import WRONG_INPUT, run_command
from data.doctor import CHECKS
from data.input_error import InputError
from data.segmentation_data import Split
from search.run import check_data, run, warn
from search.settings import SearchSettings
from search.space import parse_space
from tests.data.folders import index_folder, some_mask, write_picture
from tests.toys import colored_squares, split_in_two


def test_an_error_stops_the_search_before_it_makes_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = index_folder(tmp_path / "cells", values=(1,))
    for index in range(3):
        write_picture(root / "masks" / f"{index:03}.png", some_mask())
    storage = tmp_path / "runs"
    words = ["--data", str(root), "--train-ids", "0,1", "--validation-ids", "3", "--storage", str(storage)]
    assert run_command(run, words) == WRONG_INPUT
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "cannot be searched on: None of the 2 pictures of train holds a pixel" in error
    assert re.search(r"More: \S*python\S* -m data.inspect \S+ --train-ids", error) and not storage.exists()


def test_notes_stay_with_the_doctor_and_warnings_are_lines() -> None:
    data = colored_squares("multilabel")
    assert check_data(data, (split_in_two(data, validation=3),), SearchSettings()) == [], (
        "squares overlap, which is a note"
    )
    (few,) = check_data(data, (split_in_two(data),), SearchSettings())
    assert few.startswith("There are only 2 pictures to choose by (picture4, picture5). Add pictures")


def test_a_part_without_any_class_is_refused() -> None:
    data = colored_squares("binary")
    empty = np.zeros_like(data.statistics.class_pixels)
    object.__setattr__(data.statistics, "class_pixels", empty)
    with pytest.raises(InputError, match="cannot be searched on"):
        check_data(data, (Split(train=(0, 1, 2), validation=(3, 4, 5)),), SearchSettings())


def test_warnings_say_how_to_look_closer() -> None:
    console = Console(width=200)
    with console.capture() as shown:
        warn(["One.", "Two."], SearchSettings(data="my cells", data_root=Path("/data")), console)
        warn([], SearchSettings(), console)
    *warnings, closer = shown.get().splitlines()
    assert warnings == ["warning: One.", "warning: Two."]
    assert closer.endswith("-m data.inspect 'my cells' --data-root /data --html data.html")


def test_a_run_that_goes_on_tells_its_warnings_no_second_time() -> None:
    console = Console(width=200)
    asked = SearchSettings(data="my cells", resume=True, name="mine")
    with console.capture() as shown:
        warn(["One.", "Two."], asked, console)
        warn([], asked, console)
    (line,) = shown.get().splitlines()
    assert line.startswith("the data still have 2 warnings: ") and line.endswith("-m data.inspect 'my cells'")


def test_remedies_name_options_that_there_are() -> None:
    named = {flag for check in CHECKS.values() for flag in re.findall(r"--([a-z-]+)", f"{check.why} {check.remedy}")}
    assert {"size", "space", "folds", "mask-threshold"} <= named
    options = {declared.name for declared in fields(SearchSettings)} | {"html"}
    assert {flag.replace("-", "_") for flag in named} <= options
    for check in CHECKS.values():
        for words in re.findall(r"--space (\S+?)[,.]?(?: |$)", check.remedy):
            assert parse_space((words,)).domains
