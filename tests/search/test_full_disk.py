"""A search on a disk that becomes full: it waits, goes on when there is room, and loses nothing where there is none."""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from data import outlast as patience
from data.outlast import GaveUpError
from search.journal import OpenJournal
from search.leaderboard import read
from search.record import records_from_study
from search.study import read_study
from tests.search.commands import SMALL, start
from tests.search.test_driver import search_in
from tests.search.trainings import traced


class FullDisk:
    """Takes so many lines of the study, and then none, for so many tries."""

    def __init__(self, lines: int, tries: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines, self.tries, self.append = lines, tries, OpenJournal._append
        monkeypatch.setattr(OpenJournal, "_append", lambda journal, content: self.write(journal, content))  # noqa: PLW0108 - it has to be a function
        monkeypatch.setattr(patience, "FIRST_WAIT", 0.01)

    def write(self, journal: OpenJournal, content: bytes) -> None:
        self.lines -= 1
        if self.lines < 0 < self.tries:
            self.tries -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.append(journal, content)


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_a_search_goes_on_when_its_disk_has_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    FullDisk(12, 5, monkeypatch)
    outcome = search_in(tmp_path, traced, num_trials=2)
    assert [record.status for record in outcome.records] == ["completed", "completed"]
    out = capsys.readouterr().out
    assert out.count("No space left on device): waiting until it works again") == 1
    assert out.count("works again after") == 1


@pytest.mark.drill
@pytest.mark.usefixtures("ray_cluster")
def test_a_search_whose_disk_stays_full_is_given_up_and_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        FullDisk(12, 1_000_000, patch)
        patch.setattr(patience, "PATIENCE", 0.1)
        with pytest.raises(GaveUpError, match="No space left on device"):
            search_in(tmp_path, traced, num_trials=2)
    outcome = search_in(tmp_path, traced, num_trials=2)
    assert [record.status for record in outcome.records] == ["completed", "completed"]
    assert len(records_from_study(read_study(tmp_path / "study.log"))) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", disk]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        pytest.skip("only root may make a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.drill
@pytest.mark.timeout(600)
def test_a_real_disk_that_is_full_for_a_while_costs_nothing(small_disk: Path) -> None:
    where = ("--storage", str(small_disk), "--name", "mine", "--cpus-per-trial", "1")
    driver = start(*where, "--num-trials", "2", "--max-epochs", "12", *SMALL)
    try:
        while driver.poll() is None and not list(small_disk.glob("mine/trials/*/last.safetensors")):
            time.sleep(0.1)
        with (small_disk / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC
        time.sleep(15)
        assert driver.poll() is None
        (small_disk / "filler").unlink()
        out, errors = driver.communicate(timeout=400)
    finally:
        driver.kill()
        driver.communicate()
    assert (driver.returncode, errors) == (0, ""), out
    rows = read(small_disk / "mine/leaderboard.csv")
    assert list(rows["status"]) == ["completed", "completed"]
    assert set(rows["epochs"]) == {12}
    assert "waiting until it works again" in out
