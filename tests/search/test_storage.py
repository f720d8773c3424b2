"""Storage at a URL: which there are, that files are whole, and that nothing secret is kept."""

import os
import pickle
import signal
import time
from pathlib import Path

import pytest

from data.input_error import InputError
from data.outlast import StorageError
from search.drivers import driver_id
from search.run_folder import RunFolder, choose_name, fetch_to_read, find_run, held, new_run
from search.storage import Storage, _uninterrupted, is_url, parse_url, run_at
from search.working_folder import working_folder


@pytest.fixture
def remote(tmp_path: Path) -> Storage:
    return parse_url(f"file://{tmp_path}/bucket")


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.holder.SECONDS_TO_SETTLE", 0.2)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/runs", r"storage scheme 'ftp' is not known; allowed: abfs, file, gs, s3.* s3://BUCKET/FOLDER"),
        ("s4://bucket", "Did you mean 's3'"),
        ("s3://me:hidden@bucket/runs", "has a password"),
        ("s3://bucket/runs?access_key=me&secret_key=hidden", "has a access_key"),
        ("s3:///runs", "names no bucket: give one, such as s3://BUCKET/FOLDER"),
        ("file://runs", "must have three slashes"),
        ("s3://bucket/../other", "must not have .. in it"),
        ("s3://[bucket/runs", "is no URL .Invalid IPv6 URL.: write one such as s3://BUCKET/FOLDER"),
        ("s3://bucket/runs#2", "must not have a # in it: leave '#2' out"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_in_one_line_without_its_secrets(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        parse_url(url)
    assert "hidden" not in str(refused.value)


def test_names_below_a_url_stand_before_its_query() -> None:
    url = "s3://bucket/runs?endpoint_override=localhost%3A9000&scheme=http"
    run = parse_url(url) / "mine" / "trials"
    assert str(run) == "s3://bucket/runs/mine/trials?endpoint_override=localhost%3A9000&scheme=http"
    assert run.parent == parse_url(url) / "mine" == run_at(str(run.parent))
    assert pickle.loads(pickle.dumps(run)) == run
    assert is_url(url) and not is_url("runs/mine")
    with pytest.raises(InputError, match="must be the URL of a run's folder"):
        run_at("s3://bucket")


def test_a_file_that_cannot_be_put_fails_in_the_storages_own_words(
    remote: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("search.storage._copy", gone)
    with pytest.raises(StorageError, match="No such file"):
        remote.put("a", b"12")


def test_ctrl_c_is_heard_when_a_file_is_sent() -> None:
    done = []

    def upload() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)
        done.append("whole")

    with pytest.raises(KeyboardInterrupt):
        _uninterrupted(upload)
    assert done == ["whole"]


def test_two_who_read_a_run_do_not_meet(remote: Storage, cache: Path) -> None:
    (remote / "mine").put("leaderboard.csv", b"trial_id\n")
    one, other = (fetch_to_read(str(remote / "mine")) for _ in range(2))
    assert one != other
    assert {one.name, other.name} == {"mine"}
    assert (one / "leaderboard.csv").read_bytes() == (other / "leaderboard.csv").read_bytes() == b"trial_id\n"


def test_files_are_put_found_listed_and_removed(remote: Storage, tmp_path: Path) -> None:
    assert remote.files() == {} and remote.folders() == [] and remote.find("a") is None
    remote.put("a", b"12")
    (remote / "below").put("b/c", b"345")
    assert {name: one.size for name, one in remote.files().items()} == {"a": 2, "below/b/c": 3}
    assert remote.folders() == ["below"]
    (remote / "below").fetch("b/c", tmp_path / "new/c")
    assert (tmp_path / "new/c").read_bytes() == b"345"
    remote.remove("a")
    remote.remove("a")
    with pytest.raises(FileNotFoundError):
        remote.get("a")
    with pytest.raises(FileNotFoundError):
        remote.fetch("a", tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bucket", "new"]


def test_what_a_storage_answers_is_one_line_without_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very-hidden-words")
    (tmp_path / "very-hidden-words").touch()
    with pytest.raises(StorageError) as told:
        parse_url(f"file://{tmp_path}/very-hidden-words").put("a", b"")
    assert "hidden" not in str(told.value) and "\n" not in str(told.value)


def test_a_run_at_a_url_has_its_name_and_its_folder_of_this_machine(remote: Storage, cache: Path) -> None:
    assert choose_name(remote, "stare") == "stare-001"
    with new_run(remote, "stare-001") as run:
        assert run.remote is not None and run.path.is_relative_to(cache)
        run.remote.put("settings.yaml", b"seed: 1\n")
        run.remote.put("study.log", b"one\n")
        run.trials.mkdir()
    assert choose_name(remote, "stare") == "stare-002"
    with pytest.raises(InputError, match=r"run 'stare-001' exists in .* add --resume"):
        new_run(remote, "stare-001").__enter__()
    found = find_run(remote, "stare-001")
    assert found.settings.read_text() == "seed: 1\n"
    with held(found):
        assert found.journal.read_bytes() == b"one\n"
    read = fetch_to_read(f"{remote}/stare-001")
    assert RunFolder(path=read).journal.read_bytes() == b"one\n" and read != found.path
    with pytest.raises(InputError, match=r"run 'other' does not exist .* there are stare-001"):
        find_run(remote, "other")
    with pytest.raises(InputError, match="does not exist: give the URL of a run"):
        fetch_to_read(f"{remote}/other")


def test_a_refused_run_leaves_nothing_at_the_url(remote: Storage) -> None:
    with pytest.raises(InputError, match="no GPU"), new_run(remote, "mine"):
        raise InputError("no GPU")
    assert remote.files() == {}
    assert not working_folder(remote / "mine").exists()


@pytest.mark.parametrize(
    ("here", "there", "kept"),
    [
        (b"", b"1\n2\n", b"1\n2\n"),
        (b"1\n", b"1\n2\n", b"1\n2\n"),
        (b"1\n2", b"1\n2\n", b"1\n2\n"),
        (b"1\n2\n3\n", b"1\n2\n", b"1\n2\n3\n"),
        (b"1\n2\n", b"", b"1\n2\n"),
        (b"1\n2\n", b"1\n3\n", None),
    ],
)
def test_the_longer_study_is_taken_and_two_that_differ_are_refused(
    remote: Storage, here: bytes, there: bytes, kept: bytes | None
) -> None:
    (remote / "mine").put("settings.yaml", b"")
    if there:
        (remote / "mine").put("study.log", there)
    run = find_run(remote, "mine")
    if here:
        run.journal.write_bytes(here)
    if kept is None:
        with pytest.raises(InputError, match=r"has gone on elsewhere, .* move that file away"), held(run):
            pass
        assert run.journal.read_bytes() == here
    else:
        with held(run):
            assert run.journal.read_bytes() == kept
    assert not there or (remote / "mine").get("study.log") == there


def test_of_a_study_in_a_database_the_driver_is_fetched_and_no_copy_is_compared(remote: Storage) -> None:
    for name, content in (("settings.yaml", b""), ("driver.txt", b"0123abcd\n"), ("study.log", b"1\n2\n")):
        (remote / "mine").put(name, content)
    run = find_run(remote, "mine")
    run.journal.write_bytes(b"1\n3\n")
    with held(run):
        assert driver_id(run) == "0123abcd"
