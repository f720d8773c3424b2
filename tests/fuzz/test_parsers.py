"""Thousands of bad inputs: each ends in a plain line or is accepted, and changes no file but the run's own."""

import os
import random
import shutil
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.fuzz.check import BrokenPromiseError, check, snapshot
from tests.fuzz.mutation import mutate, mutate_words
from tests.fuzz.parsers import PARSERS, Parser, copied

FAST = 6  # inputs for each parser in every run of the tests
THOROUGH = 2000  # inputs in all in the drill


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder around all that a parser could reach by a name: a home, a place to be in, a neighbour."""
    for name in ("home", "cache", "here", "neighbour"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "letter").write_text("mine", encoding="ascii")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("UNET_SEARCH_CACHE", str(tmp_path / "work" / "cache"))
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path


def outcomes(name: str, parser: Parser, sandbox: Path, count: int) -> tuple[Counter[str], list[str]]:
    """How so many spoilt inputs ended, and what was broken by which of them."""
    draw, found, broken = random.Random(zlib.crc32(name.encode())), Counter[str](), list[str]()
    work, good = sandbox / "work", sandbox / "good"
    for folder in (work, good):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    files = [path.relative_to(good) for path in parser.make(good)]
    for number in range(count):
        if parser.words:
            spoilt: object = mutate_words(draw.choice(parser.words), draw)
            read = partial(parser.read, spoilt)
        else:
            target = copied(good, work / "case") / draw.choice(files)
            spoilt = mutate(target.read_bytes(), draw)
            target.write_bytes(spoilt)
            read = partial(parser.read, work / "case")
        try:
            found[check(read, sandbox, work)] += 1
        except BrokenPromiseError as error:
            broken.append(ascii(f"{name}, input {number}: {str(spoilt)[:600]}")[1:-1] + f"\n{error!a}")
    return found, broken


# Of the others nothing good is made: their commands would begin to train, or no encoder is so small.
REFUSED = ("settings.yaml", "settings.yaml in the finals")
ACCEPTED = [name for name, parser in PARSERS.items() if not parser.words and name not in REFUSED]


@pytest.mark.parametrize("name", [name for name in ACCEPTED if not name.startswith("init_from")])
def test_what_is_good_is_accepted(name: str, sandbox: Path) -> None:
    case = sandbox / "work" / "case"
    case.mkdir(parents=True)
    PARSERS[name].make(case)
    assert check(lambda: PARSERS[name].read(case), sandbox, sandbox / "work") == "accepted"


@pytest.mark.parametrize("name", PARSERS)
def test_a_few_bad_inputs_end_in_a_plain_line(name: str, sandbox: Path) -> None:
    found, broken = outcomes(name, PARSERS[name], sandbox, FAST)
    assert (found.total(), broken) == (FAST, [])


@pytest.mark.drill
@pytest.mark.timeout(1800)
def test_thousands_of_bad_inputs_end_in_a_plain_line(sandbox: Path, capfd: pytest.CaptureFixture[str]) -> None:
    each, table, broken = -(-THOROUGH // len(PARSERS)), {}, []
    for name, parser in PARSERS.items():
        table[name], harm = outcomes(name, parser, sandbox, each)
        broken += harm
    with capfd.disabled():
        print(f"\n{'parser':<30}{'inputs':>8}{'refused':>9}{'accepted':>10}")
        for name, found in table.items():
            print(f"{name:<30}{found.total():>8}{found['refused']:>9}{found['accepted']:>10}")
        print(f"{'in all':<30}{sum(found.total() for found in table.values()):>8}")
    assert not broken, "\n\n".join(broken)
    assert sum(found.total() for found in table.values()) >= THOROUGH


def _raises() -> None:
    raise KeyError("x")


def _warns() -> None:
    import warnings

    warnings.warn("careful", UserWarning, stacklevel=2)


def _speaks() -> None:
    os.write(2, b"libtiff: so sorry\n")


def _writes_outside() -> None:
    Path("../neighbour/letter").write_text("theirs", encoding="ascii")


def _writes_home() -> None:
    (Path.home() / "harm").touch()


def _takes_memory() -> None:
    assert len(bytearray(2**33))


def _leaves() -> None:
    sys.exit(3)


def _says_two_lines() -> None:
    from data.input_error import InputError

    error = InputError("one")
    error.args = ("one\ntwo",)
    raise error


def _hangs() -> None:
    import time

    time.sleep(60)


@pytest.mark.parametrize(
    "planted",
    [_raises, _warns, _speaks, _writes_outside, _writes_home, _takes_memory, _leaves, _says_two_lines, _hangs],
)
def test_the_check_catches_a_parser_that_does_harm(
    planted: Callable[[], None], sandbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fuzz.check.SECONDS", 0.2)
    found, broken = outcomes("planted", Parser(read=lambda words: planted(), words=(("x",),)), sandbox, 1)
    assert (found.total(), len(broken)) == (0, 1)


def test_the_snapshot_sees_what_changes_and_leaves_out_what_may(sandbox: Path) -> None:
    work = sandbox / "here"
    before = snapshot(sandbox, work)
    (work / "new").touch()
    assert snapshot(sandbox, work) == before
    (sandbox / "home" / "letter").write_text("other", encoding="ascii")
    assert snapshot(sandbox, work) != before
