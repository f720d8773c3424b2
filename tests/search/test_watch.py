"""The driver's looks at the run's folder outlive a disk that does not answer for a while."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

from search.events import Events
from search.leaderboard import read
from search.run_folder import RunFolder
from search.steady_clock import SteadyClock
from search.watch import Watch


def test_a_look_waits_for_a_disk_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    anything: Any = SimpleNamespace(clear=lambda _: None, study=optuna.create_study())
    watch = Watch(
        searcher=anything,
        placement=anything,
        run=RunFolder(path=tmp_path),
        class_names=(),
        objectives=("val_dice",),
        clock=SteadyClock(),
        spent=0.0,
        look=lambda *_: None,
        events=Events(tmp_path / "events.log", said.append),
        newcomers=anything,
        leftovers=anything,
    )
    exists, failures = Path.exists, [errno.EIO, errno.ETIMEDOUT]

    def fails_at_first(path: Path, **more: Any) -> bool:
        if path.name == "leaderboard.csv" and failures:
            number = failures.pop()
            raise OSError(number, os.strerror(number))
        return exists(path, **more)

    monkeypatch.setattr(Path, "exists", fails_at_first)
    monkeypatch.setattr("data.outlast.time.sleep", lambda _: None)
    watch.look()
    waits, works = said
    assert waits.endswith("leaderboard.csv' fails (Connection timed out): waiting until it works again")
    assert works.endswith("leaderboard.csv' works again after 0 s")
    assert list(read(tmp_path)["trial_id"]) == []
