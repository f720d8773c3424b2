"""Whole searches whose runs lie at an S3 server: begun, killed, gone on with elsewhere, and with the server away."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from data.outlast import StorageError
from search.holder import HOLDER
from search.leaderboard import read
from search.record import records_from_study
from search.storage import Storage, parse_url
from search.study import read_study
from search.trial_mirror import LAST
from tests.search.commands import SMALL, start

pytestmark = pytest.mark.drill

BUCKET = "pictures"
EPOCHS = 8


class Server:
    """An S3 server in a process of its own, which may be stopped for a while as a machine is that does not answer."""

    def __init__(self, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        with log.open("wb") as file:
            self.process = subprocess.Popen(words, stdout=file, stderr=file)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def make_bucket(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                urlopen(Request(f"{self.url}/{BUCKET}", method="PUT"), timeout=10).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline
                time.sleep(0.2)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    one = Server(tmp_path / "server.log")
    try:
        one.make_bucket()
        monkeypatch.setenv("AWS_ENDPOINT_URL", one.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody-in-particular")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-that-must-not-be-told")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield one
    finally:
        one.process.kill()
        one.process.wait()


def remote_of(server: Server, name: str = "runs") -> Storage:
    return parse_url(f"s3://{BUCKET}/{name}?endpoint_override=127.0.0.1:{server.port}&scheme=http&region=us-east-1")


def search_there(remote: Storage, cache: Path, *words: str, trials: int = 3) -> "subprocess.Popen[str]":
    limits = ("--num-trials", str(trials), "--max-epochs", str(EPOCHS), "--cpus-per-trial", "1")
    return start("--storage", str(remote), "--name", "mine", *limits, *SMALL, *words, UNET_SEARCH_CACHE=str(cache))


def outcome_at(remote: Storage, folder: Path) -> dict[str, tuple[str, int]]:
    """Each trial's status and epochs by the URL, where its model lies, and no state of one that has finished."""
    run, there = remote / "mine", (remote / "mine").files()
    run.fetch("study.log", folder / "study.log")
    run.fetch("leaderboard.csv", folder / "leaderboard.csv")
    records = records_from_study(read_study(folder / "study.log"))
    assert sorted(read(folder / "leaderboard.csv")["trial_id"]) == sorted(one.trial_id for one in records)
    for one in records:
        assert f"{one.checkpoint}/model.safetensors" in there
    assert not [name for name in there if name.endswith(LAST) and f"{name.split('/')[1]}" in finished(records)]
    assert HOLDER not in there
    assert not [name for name in there if ".part" in name or name.startswith(".")]
    return {one.trial_id: (one.status, one.epochs) for one in records}


def finished(records: list) -> set[str]:
    return {one.trial_id for one in records if one.status == "completed"}


def wait_until(holds, driver: "subprocess.Popen[str]", seconds: float = 250) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)


def states_at(remote: Storage) -> list[str]:
    return [name for name in (remote / "mine").files() if name.endswith(LAST)]


DONE = {f"t000{number}": ("completed", EPOCHS) for number in range(3)}


@pytest.mark.timeout(700)
def test_a_search_lies_at_the_url_and_goes_on_from_another_machine(server: Server, tmp_path: Path) -> None:
    remote = remote_of(server)
    first = search_there(remote, tmp_path / "one")
    out, errors = first.communicate(timeout=200)
    assert (first.returncode, errors) == (0, ""), out
    assert outcome_at(remote, tmp_path) == DONE
    assert "a-secret-that-must-not-be-told" not in out + "".join(
        (remote / "mine").get(name).decode("latin-1") for name in (remote / "mine").files()
    )

    again = search_there(remote, tmp_path / "other", "--resume", trials=4)
    out, errors = again.communicate(timeout=200)
    assert (again.returncode, errors) == (0, ""), out
    assert outcome_at(remote, tmp_path) == {**DONE, "t0003": ("completed", EPOCHS)}
    best = next((tmp_path / "other").glob("runs/*/mine/best/model.safetensors"))
    assert best.read_bytes() == (remote / "mine").get("best/model.safetensors")


@pytest.mark.timeout(700)
def test_after_kill_9_it_goes_on_elsewhere_from_the_states_at_the_url(server: Server, tmp_path: Path) -> None:
    remote = remote_of(server)
    driver = search_there(remote, tmp_path / "one")
    try:
        wait_until(lambda: states_at(remote), driver)
        refused = search_there(remote, tmp_path / "other", "--resume")
        _, errors = refused.communicate(timeout=100)
        assert refused.returncode == 2
        assert "run 'mine' is being searched by" in errors and f"(pid {driver.pid})" in errors
    finally:
        driver.kill()
        driver.communicate()
    (remote / "mine").remove(HOLDER)  # which ends by itself after two minutes
    before = (remote / "mine").get("study.log")
    again = search_there(remote, tmp_path / "other", "--resume")
    out, errors = again.communicate(timeout=250)
    assert (again.returncode, errors) == (0, ""), out
    assert outcome_at(remote, tmp_path) == DONE
    assert (remote / "mine").get("study.log").startswith(before)

    # The first machine knows more than it has sent, or as much; it must not put that in place of what came since.
    kept = (remote / "mine").get("study.log")
    late = search_there(remote, tmp_path / "one", "--resume")
    _, errors = late.communicate(timeout=250)
    assert late.returncode == 0 or "has gone on elsewhere" in errors
    assert (remote / "mine").get("study.log").startswith(kept)


@pytest.mark.timeout(700)
def test_a_server_that_is_away_for_a_minute_costs_nothing(server: Server, tmp_path: Path) -> None:
    remote = remote_of(server)
    driver = search_there(remote, tmp_path / "one")
    try:
        wait_until(lambda: states_at(remote), driver)
        server.freeze()
        time.sleep(60)
        assert driver.poll() is None
        server.thaw()
        out, errors = driver.communicate(timeout=300)
    finally:
        server.thaw()
        driver.kill()
        driver.communicate()
    assert (driver.returncode, errors) == (0, ""), out
    assert "works again after" in out
    assert outcome_at(remote, tmp_path) == DONE


def test_what_cannot_be_used_is_refused_within_seconds(server: Server, tmp_path: Path) -> None:
    began = time.monotonic()
    driver = search_there(
        parse_url(f"s3://no-such-bucket/runs?endpoint_override=127.0.0.1:{server.port}&scheme=http&region=us-east-1"),
        tmp_path,
    )
    _, errors = driver.communicate(timeout=100)
    assert driver.returncode == 2
    assert errors.startswith("error: storage 's3://no-such-bucket/runs") and "NO_SUCH_BUCKET" in errors
    assert errors.count("\n") == 1
    assert time.monotonic() - began < 60
    server.process.kill()
    with pytest.raises(StorageError, match="NETWORK_CONNECTION"):
        remote_of(server).files()


def test_a_large_file_comes_back_as_it_was(server: Server, tmp_path: Path) -> None:
    remote, content = remote_of(server), os.urandom(40_000_001)
    remote.put("large", content)
    remote.fetch("large", tmp_path / "large")
    assert (tmp_path / "large").read_bytes() == content
    assert list(remote.files()) == ["large"]
    with pytest.raises(FileNotFoundError):
        remote.get("none")
    remote.remove("none")
