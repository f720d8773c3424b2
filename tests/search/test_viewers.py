"""Other people's programs that look at a run, each started for real: they find its trials, curves and pictures."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from search.leaderboard import read
from tests.search.commands import SMALL, start

pytestmark = [pytest.mark.drill, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of three trials."""
    storage = tmp_path_factory.mktemp("runs")
    words = ("--name", "seen", "--storage", str(storage), "--num-trials", "3", "--max-epochs", "2")
    search = start(*words, *(word for word in SMALL if word != "--no-report"))
    out, errors = search.communicate(timeout=200)
    assert (search.returncode, errors) == (0, ""), out
    return storage / "seen"


@contextmanager
def serving(*command: str) -> Iterator[Callable[..., Any]]:
    """A server, once it is up, at a free port, which stands behind the command as --port; gives what asks it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([sys.executable, *command, "--host", "127.0.0.1", "--port", str(port)], **quiet)

    def ask(path: str, body: Any = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", content, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            said = answer.read().decode()
            return json.loads(said) if said[:1] in "[{" else said

    try:
        until = time.monotonic() + 60
        while not answers(port):
            assert server.poll() is None and time.monotonic() < until
            time.sleep(0.2)
        yield ask
    finally:
        server.kill()
        server.wait()


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def eventually(ask: Callable[[], Any]) -> Any:
    """What is there in the end: a server reads its files when it has time."""
    until = time.monotonic() + 60
    while not (found := ask()):
        assert time.monotonic() < until
        time.sleep(0.3)
    return found


def test_tensorboard_shows_curves_settings_and_samples(run: Path) -> None:
    trials = {f"trials/{trial}" for trial in read(run)["trial_id"]}
    with serving("-m", "tensorboard.main", "--logdir", str(run)) as ask:
        eventually(lambda: trials <= set(ask("/data/runs")))
        tags = eventually(lambda: trials <= set(found := ask("/data/plugin/scalars/tags")) and found)
        assert all({"val_dice", "train_loss", "current_learning_rate"} <= set(tags[trial]) for trial in trials)
        curve = ask(f"/data/plugin/scalars/scalars?tag=val_dice&run={next(iter(trials))}")
        assert [point[1] for point in curve] == [1, 2]
        assert all("sample" in ask("/data/plugin/images/tags")[trial] for trial in trials)
        graph = ask("/data/plugin/graphs/graph?run=best")
        assert "Conv2d" in graph and "encoder" in graph
        asked = {"experimentName": "", "startIndex": 0, "sliceSize": 10, "colParams": []}
        groups = eventually(
            lambda: ask(
                "/data/plugin/hparams/session_groups",
                asked | {"allowedStatuses": ["STATUS_SUCCESS", "STATUS_RUNNING", "STATUS_UNKNOWN"]},
            ).get("sessionGroups")
        )
        assert {session["name"] for group in groups for session in group["sessions"]} == trials
        assert {group["hparams"]["depth"] for group in groups} == {2.0}
        values = {value["name"]["tag"] for value in groups[0]["metricValues"]}
        assert {"val_dice", "train_loss"} <= values


def test_optuna_dashboard_shows_the_study_with_its_names_and_links(run: Path) -> None:
    with serving("-m", "optuna_dashboard._cli", str(run / "study.log")) as ask:
        (study,) = ask("/api/studies")["study_summaries"]
        assert study["study_name"] == "unet-search"
        shown = ask(f"/api/studies/{study['study_id']}")
        assert shown["objective_names"] == ["val_dice"]
        assert shown["note"]["body"].startswith("# seen\n")
        assert f"`{run}/report.html`" in shown["note"]["body"]
        names = [
            json.loads(attribute["value"]) if attribute["value"].startswith('"') else attribute["value"]
            for trial in shown["trials"]
            for attribute in trial["user_attrs"]
            if attribute["key"] == "trial_id"
        ]
        assert sorted(names) == sorted(read(run)["trial_id"])
