"""What a run sends to its URL: what has changed, whole, and nothing in place of what is newer or better there."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from data import outlast as patience
from data.outlast import GaveUpError, StorageError
from model.checkpoint import save_tensors
from search import mirror as mirrors
from search import trial_mirror
from search.mirror import Mirror
from search.sending import SENT, Sent, shots_of
from search.storage import Storage, parse_url
from search.trial_mirror import LAST, TrialMirror, bring, mirrored, progress_of, send_if_newer


@pytest.fixture
def remote(tmp_path: Path) -> Storage:
    return parse_url(f"file://{tmp_path}/bucket") / "mine"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine/best").mkdir(parents=True)
    return tmp_path / "mine"


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """A storage that takes nothing while the set has something in it."""
    failing: set[str] = set()
    put = Storage.put_stream

    def put_or_fail(self: Storage, name: str, source: Any) -> None:
        if failing:
            raise StorageError("NETWORK_CONNECTION at PutObject: nobody answers")
        put(self, name, source)

    monkeypatch.setattr(Storage, "put_stream", put_or_fail)
    monkeypatch.setattr(patience, "FIRST_WAIT", 0.01)
    for module in (mirrors, trial_mirror):
        monkeypatch.setattr(module, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(mirrors, "SECONDS_BETWEEN_LOOKS", 0.01)
    yield failing
    failing.clear()


def state(folder: Path, epoch: int, *, retries: int = 0) -> Path:
    facts = {"progress": {"retries": retries, "epoch": epoch, "step": 0}}
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(folder / LAST, {"weight": torch.full((9,), float(epoch))}, facts)
    return folder / LAST


def send(folder: Path, remote: Storage, *names: str) -> None:
    with shots_of(folder, names) as shots:
        Sent(folder, remote).send(shots)


def test_what_has_not_changed_is_not_sent_again(folder: Path, remote: Storage, away: set[str]) -> None:
    (folder / "a").write_text("1")
    send(folder, remote, "a", "none")
    away.add("yes")
    send(folder, remote, "a")
    (folder / "b").write_text("2")
    (folder / "b").replace(folder / "a")
    with pytest.raises(StorageError, match="NETWORK"):
        send(folder, remote, "a")
    away.clear()
    send(folder, remote, "a")
    assert remote.get("a") == b"2"


def test_files_are_sent_as_they_were_when_they_were_taken(folder: Path, remote: Storage) -> None:
    (folder / "a").write_text("1")
    with shots_of(folder, ["a"]) as shots:
        (folder / "b").write_text("2")
        (folder / "b").replace(folder / "a")
        Sent(folder, remote).send(shots)
    assert remote.get("a") == b"1"


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: content + b"0", lambda _: b"", lambda c: c[::-1]]
)
def test_damaged_weights_never_replace_good_ones(folder: Path, remote: Storage, damage: Any) -> None:
    whole = state(folder, 1).read_bytes()
    send(folder, remote, LAST)
    (folder / "new").write_bytes(damage(whole))
    (folder / "new").replace(folder / LAST)
    send(folder, remote, LAST)
    assert remote.get(LAST) == whole


@pytest.mark.parametrize("note", ["", "[]", "{", '{"a": 1}'])
def test_a_damaged_note_of_what_was_sent_has_it_sent_again(folder: Path, remote: Storage, note: str) -> None:
    (folder / "a").write_text("1")
    (folder / SENT).write_text(note)
    send(folder, remote, "a")
    assert remote.get("a") == b"1"


@pytest.mark.parametrize(
    ("here", "there", "newer"),
    [((1, 0), (2, 0), 2), ((3, 0), (2, 0), 3), ((3, 0), (2, 1), 2), (None, (2, 0), 2), ((2, 0), None, 2)],
)
def test_a_training_goes_on_from_the_state_that_came_further(
    folder: Path, remote: Storage, tmp_path: Path, here: Any, there: Any, newer: int
) -> None:
    if there:
        state(tmp_path / "other", there[0], retries=there[1])
        (tmp_path / "other/trace").write_text("there")
        send(tmp_path / "other", remote, LAST, "trace")
    if here:
        state(folder, here[0], retries=here[1])
        (folder / "trace").write_text("here")
    bring(remote, folder)
    assert progress_of(folder / LAST)[1] == newer
    assert (folder / "trace").read_text() == ("there" if there and (newer, there[1]) == there else "here")
    before = remote.files()
    send_if_newer(remote, folder)
    assert progress_of(folder / LAST)[1] == newer
    bring(remote, tmp_path / "third")
    assert progress_of(tmp_path / "third" / LAST)[1] == newer
    assert set(before) <= set(remote.files())


def test_a_damaged_state_at_the_url_counts_for_nothing(folder: Path, remote: Storage) -> None:
    state(folder, 1)
    remote.put(LAST, b"damaged")
    bring(remote, folder)
    assert progress_of(folder / LAST) == (0, 1, 0)
    assert sorted(path.name for path in folder.iterdir()) == ["best", LAST]


def test_an_old_folder_is_not_sent_in_place_of_what_went_on_elsewhere(
    folder: Path, remote: Storage, tmp_path: Path
) -> None:
    state(tmp_path / "other", 5)
    send(tmp_path / "other", remote, LAST)
    state(folder, 3)
    (folder / "best/scores.json").write_text("old")
    send_if_newer(remote, folder)
    assert list(remote.files()) == [LAST]
    bring(remote, folder)
    assert progress_of(folder / LAST) == (0, 5, 0)


def test_the_end_of_a_training_is_told_when_the_url_has_it(folder: Path, remote: Storage, away: set[str]) -> None:
    with mirrored(remote, folder) as mirror:
        assert mirror is not None
        away.add("yes")
        for epoch in (1, 2, 3):
            state(folder, epoch)
            mirror.take(done=False)  # waits for nothing
        assert not mirror.wait(0.1)
        away.clear()
        (folder / "best/config.yaml").write_text("best")
        mirror.take(done=True)
        assert sorted(remote.files()) == ["best/config.yaml", LAST]
    assert not (folder / LAST).exists(), "the URL has it"
    bring(remote, folder)
    assert progress_of(folder / LAST) == (0, 3, 0)


def test_an_end_that_the_url_does_not_take_for_long_is_no_end(
    folder: Path, remote: Storage, away: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_mirror, "PATIENCE", 0.05)
    mirror = TrialMirror(remote, folder)
    away.add("yes")
    state(folder, 1)
    with pytest.raises(GaveUpError, match="has not taken it"):
        mirror.take(done=True)
    away.clear()
    mirror.close()
    assert mirror.wait(20)


def driver_of(folder: Path, remote: Storage, said: list[str], lost: str = "") -> Mirror:
    for name in ("settings.yaml", "leaderboard.csv"):
        (folder / name).write_text(name)
    (folder / "study.log").write_text("one\ntwo\nhal")
    (folder / "best/config.yaml").write_text("best")
    return Mirror(folder, remote, lambda: lost, said.append)


def test_a_driver_sends_its_own_files_and_of_the_study_whole_lines(folder: Path, remote: Storage) -> None:
    driver_of(folder, remote, []).send()
    assert sorted(remote.files()) == ["best/config.yaml", "leaderboard.csv", "settings.yaml", "study.log"]
    assert remote.get("study.log") == b"one\ntwo\n"


def test_a_storage_that_is_away_is_told_of_once_and_costs_nothing(
    folder: Path, remote: Storage, away: set[str]
) -> None:
    said: list[str] = []
    driver = driver_of(folder, remote, said)
    away.add("yes")
    driver.start()
    while not said:
        pass
    assert driver.over == ""
    away.clear()
    while len(said) < 2:
        pass
    driver.stop()
    assert "fails (NETWORK_CONNECTION" in said[0] and "the search goes on" in said[0]
    assert "works again after" in said[1]
    assert len(said) == 2
    assert remote.get("leaderboard.csv") == b"leaderboard.csv"


def test_a_storage_that_stays_away_ends_the_search(
    folder: Path, remote: Storage, away: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "PATIENCE", 0.05)
    monkeypatch.setattr(patience, "PATIENCE", 0.05)
    driver = driver_of(folder, remote, [])
    away.add("yes")
    driver.start()
    while not driver.over:
        pass
    assert "NETWORK_CONNECTION" in driver.over
    with pytest.raises(GaveUpError, match="NETWORK_CONNECTION"):
        driver.finish()


def test_who_has_lost_the_run_sends_nothing(folder: Path, remote: Storage) -> None:
    driver = driver_of(folder, remote, [], lost="other@elsewhere")
    state(folder / "trials/t0000", 1)
    driver.send()
    driver.finish()
    assert remote.files() == {}
    assert driver.over == "run taken over by other@elsewhere"


def test_a_driver_that_is_not_sure_of_its_run_sends_nothing(folder: Path, remote: Storage) -> None:
    driver_of(folder, remote, [])
    sure = [False]
    driver = Mirror(folder, remote, str, print, lambda: sure[0])
    with pytest.raises(StorageError, match="whether another driver has taken the run over is not known yet"):
        driver.send()
    assert remote.files() == {}
    sure[0] = True
    driver.send()
    assert "study.log" in remote.files()


def test_what_an_older_training_left_here_does_not_take_the_place_of_one_that_has_ended(
    folder: Path, remote: Storage
) -> None:
    driver = driver_of(folder, remote, [])
    for trial, epochs in (("t0000", 3), ("t0001", 5), ("t0002/fold-1", 3)):
        state(folder / "trials" / trial, epochs)
        (folder / "trials" / trial / "best").mkdir()
        (folder / "trials" / trial / "best/model").write_text("of this machine")
        remote.put(f"trials/{trial}/best/model", b"of the last epochs, elsewhere")
    driver.note_finished({"t0000": 5, "t0001": 5, "t0002": 9})
    driver.finish()
    there = {trial: remote.get(f"trials/{trial}/best/model") for trial in ("t0000", "t0001", "t0002/fold-1")}
    assert there == {
        "t0000": b"of the last epochs, elsewhere",
        "t0001": b"of this machine",
        "t0002/fold-1": b"of the last epochs, elsewhere",
    }


def test_a_training_that_is_given_up_sends_nothing_any_more(
    folder: Path, remote: Storage, away: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_mirror, "SECONDS_TO_SEND", 0.2)
    away.add("yes")
    before = threading.active_count()
    with mirrored(remote, folder) as mirror:
        assert mirror is not None
        state(folder, 1)
        mirror.offer()
    deadline = time.monotonic() + 20
    while threading.active_count() > before:
        assert time.monotonic() < deadline, "its thread goes on"
        time.sleep(0.05)
    away.clear()
    assert remote.files() == {}
    assert (folder / LAST).exists()


def test_at_the_end_the_url_has_what_killed_workers_left_and_no_state_that_is_done(
    folder: Path, remote: Storage
) -> None:
    driver = driver_of(folder, remote, [])
    for trial in ("t0000", "t0001", "t0002/fold-1"):
        state(folder / "trials" / trial, 1)
        (folder / "trials" / trial / "best").mkdir()
        (folder / "trials" / trial / "best/model").write_text(trial)
    remote.put("finals/of/another", b"machine")
    driver.note_finished({"t0000": 1, "t0002": 1})
    driver.finish()
    names = set(remote.files())
    assert {f"trials/{trial}/best/model" for trial in ("t0000", "t0001", "t0002/fold-1")} <= names
    assert {name for name in names if name.endswith(LAST)} == {f"trials/t0001/{LAST}"}
    assert [path.parent.name for path in folder.rglob(LAST)] == ["t0001"]
    assert "finals/of/another" in names

    # What the best model no longer has goes, and only that.
    (folder / "best/config.yaml").unlink()
    (folder / "best/other.yaml").write_text("ensemble")
    driver_of_later = Mirror(folder, remote, str, print)
    driver_of_later.finish()
    assert names - set(remote.files()) == {"best/config.yaml"}
    assert json.loads((folder / SENT).read_text()).keys() >= {"best/other.yaml", "study.log"}
