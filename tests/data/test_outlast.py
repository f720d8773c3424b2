"""Patience with a disk that is full for a while."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from data import outlast as patience
from data.outlast import GaveUpError, StorageError, is_passing, outlast


def failing(times: int, error: Exception) -> Callable[[], str]:
    left = [error] * times

    def do() -> str:
        if left:
            raise left.pop()
        return "done"

    return do


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.001)


def test_what_fails_for_a_while_is_done_in_the_end_and_both_are_said_once() -> None:
    said: list[str] = []
    assert (
        outlast(failing(3, OSError(errno.ENOSPC, "No space left on device")), "disk of 'x'", say=said.append) == "done"
    )
    assert len(said) == 2
    assert said[0] == "disk of 'x' fails (No space left on device): waiting until it works again"
    assert said[1].startswith("disk of 'x' works again after ")


def test_what_works_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert outlast(failing(0, OSError()), "disk") == "done"
    assert capsys.readouterr().out == ""


def test_what_fails_for_long_is_given_up() -> None:
    with pytest.raises(GaveUpError, match=r"bucket has failed for 0 s \(NETWORK_CONNECTION\)"):
        outlast(failing(999, StorageError("NETWORK_CONNECTION")), "bucket", say=lambda _: None, patience=0.01)


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "no"), FileNotFoundError(), KeyboardInterrupt()])
def test_what_no_waiting_mends_goes_through(error: BaseException) -> None:
    def do() -> None:
        raise error

    with pytest.raises(type(error)):
        outlast(do, "disk", say=lambda _: None)
    assert not is_passing(error)


def test_while_its_folder_is_gone_whatever_fails_may_pass(tmp_path: Path) -> None:
    home = tmp_path / "run"
    tries: list[int] = []

    def write() -> None:
        tries.append(1)
        if len(tries) == 2:
            home.mkdir()
        (home / "table").write_text("rows")

    outlast(write, "disk", say=lambda _: None, home=home)
    assert (home / "table").read_text() == "rows"
    with pytest.raises(FileNotFoundError):
        outlast(lambda: (home / "no/table").write_text("rows"), "disk", home=home)
