"""A search that is handed to a cluster as a Ray job: joins it, and ends in order when the job is stopped."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from search.leaderboard import read
from search.resources import QUIET
from tests.search.commands import PROJECT, SMALL

RAY = str(Path(sys.executable).parent / "ray")


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """A head with two cores that takes jobs; the environment of who hands them in."""
    dashboard = free_port()
    around = {name: value for name, value in os.environ.items() if name not in QUIET} | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
    }
    where = tmp_path_factory.mktemp("ray")
    words = ("--head", f"--port={free_port()}", "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}")
    # Ray's own choice of these ports would be those of another Ray on the same machine: it would take no jobs.
    alone = (f"--ray-client-server-port={free_port()}", f"--dashboard-agent-listen-port={free_port()}")
    more = (*alone, "--num-cpus=2", f"--temp-dir={where}", "--block")
    with (where / "head.log").open("w") as log:
        head = subprocess.Popen([RAY, "start", *words, *more], cwd=where, env=around, stdout=log, stderr=log)
    try:
        wait_for_jobs(around)
        yield around
    finally:
        processes = [psutil.Process(head.pid), *psutil.Process(head.pid).children(recursive=True)]
        head.terminate()
        with suppress(subprocess.TimeoutExpired):
            head.wait(30)
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        head.wait()


def wait_for_jobs(around: Mapping[str, str]) -> None:
    """Waits until the head takes jobs, which it does some seconds after it lists them."""
    until, said = time.monotonic() + 120, "nothing"
    while time.monotonic() < until:
        try:
            tried = ray("job", "submit", "--no-wait", "--", "true", around=around, seconds=60)
        except subprocess.TimeoutExpired:
            continue
        if tried.returncode == 0:
            return
        said = tried.stdout + tried.stderr
        time.sleep(1)
    raise AssertionError(f"the head takes no jobs; it says {said}")


def ray(*words: str, around: Mapping[str, str], seconds: float | None = None) -> "subprocess.CompletedProcess[str]":
    """What a person types in the project's folder, when it has come to its end."""
    return subprocess.run(
        [RAY, *words], cwd=PROJECT, env=around, capture_output=True, text=True, check=False, timeout=seconds
    )


def submit(*words: str, around: Mapping[str, str], options: tuple[str, ...] = ()) -> Any:
    """Hands a search in as `cluster.yaml` says."""
    command = ("python", "-m", "search.run", *words, "--max-epochs", "2", *SMALL)
    return ray("job", "submit", *options, "--working-dir", ".", "--", *command, around=around)


@pytest.mark.drill
@pytest.mark.timeout(600)
def test_a_job_searches_on_its_cluster_and_is_told_where_results_outlive_it(
    cluster: Mapping[str, str], tmp_path: Path
) -> None:
    lost = submit("--num-trials", "1", around=cluster)
    assert lost.returncode == 1
    assert "error: storage 'runs' lies in the folder of this job, and would go with it" in lost.stdout
    job = submit("--storage", str(tmp_path), "--name", "mine", "--num-trials", "2", around=cluster)
    assert job.returncode == 0, job.stdout + job.stderr
    assert "; 2 trials at a time\n" in job.stdout
    assert "t0001 completed: val_dice" in job.stdout
    assert read(tmp_path / "mine" / "leaderboard.csv")["status"].to_list() == ["completed"] * 2


@pytest.mark.drill
@pytest.mark.timeout(600)
def test_a_job_that_is_stopped_ends_in_order_and_another_one_goes_on(
    cluster: Mapping[str, str], tmp_path: Path
) -> None:
    where = ("--storage", str(tmp_path), "--name", "mine")
    options = ("--no-wait", "--submission-id", "one")
    assert submit(*where, "--num-trials", "900", around=cluster, options=options).returncode == 0
    board = tmp_path / "mine" / "leaderboard.csv"
    for _ in range(400):
        if board.exists() and "completed" in board.read_text():
            break
        time.sleep(1)
    assert ray("job", "stop", "one", around=cluster).returncode == 0
    log = ray("job", "logs", "one", around=cluster).stdout
    assert f"interrupted; go on with: python -m search.run --resume --name mine --storage {tmp_path}\n" in log
    assert "Traceback" not in log
    before = read(board).set_index("trial_id")
    done = before[before["status"] == "completed"]
    assert len(done) >= 1
    again = submit(*where, "--resume", "--num-trials", str(len(before)), around=cluster)
    assert again.returncode == 0, again.stdout + again.stderr
    after = read(board).set_index("trial_id")
    assert after["status"].to_list() == ["completed"] * len(before)
    assert after.loc[done.index, "val_dice"].equals(done["val_dice"])
