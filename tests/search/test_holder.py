"""One driver for a run: it is named to others, and its hold ends with it."""

import errno
import fcntl
import os
import shutil
import time
from pathlib import Path

import pytest

from data.input_error import InputError
from search import holder as holding_of_runs
from search.holder import HOLDER, LOCK, Holder, Lease, holding, leased, noted, read_holder
from search.storage import Storage, parse_url


@pytest.fixture
def remote(tmp_path: Path) -> Storage:
    return parse_url(f"file://{tmp_path}/bucket") / "mine"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holding_of_runs, "SECONDS_TO_SETTLE", 0.3)
    monkeypatch.setattr(holding_of_runs, "SECONDS_BETWEEN_RENEWALS", 0.1)


def test_a_folder_that_is_held_says_by_whom(tmp_path: Path) -> None:
    me = Holder.here()
    with holding(tmp_path, "mine") as before, noted(tmp_path, me):
        assert before is None
        words = rf"run 'mine' is being searched by {me.user}@{me.host} \(pid {os.getpid()}\) since .*: wait, or stop it"
        with pytest.raises(InputError, match=words), holding(tmp_path, "mine"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_a_folder_that_is_made_anew_meanwhile_is_not_held_by_its_old_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, lock_it = tmp_path / "mine", fcntl.flock
    folder.mkdir()

    def too_late(descriptor: int, how: int) -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / LOCK).touch()
        lock_it(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", too_late)
    with pytest.raises(InputError, match="is being searched right now"), holding(folder, "mine"):
        pass


def test_a_folder_that_cannot_be_locked_or_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(InputError, match=r"cannot be locked .No locks available.: mount"), holding(tmp_path, "mine"):
        pass
    with pytest.raises(InputError, match="cannot be written"), holding(tmp_path / "gone", "mine"):
        pass


def test_what_a_killed_driver_noted_holds_nobody_up(tmp_path: Path) -> None:
    gone = Holder.here()
    (tmp_path / HOLDER).write_text(gone.as_text())
    with holding(tmp_path, "mine") as before:
        assert before == gone


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"host": 1}', b"\xff"])
def test_a_damaged_note_names_nobody(content: bytes) -> None:
    assert read_holder(content) is None


def test_a_run_at_a_url_has_one_driver_who_is_named(remote: Storage) -> None:
    me = Holder.here()
    with leased(remote, me, None) as lease:
        with (
            pytest.raises(InputError, match=rf"by {me.user}@.* one that was killed lets it go within 120 s"),
            leased(remote, Holder.here(), None),
        ):
            pass
        assert read_holder(remote.get(HOLDER)) == me
        assert (lease.lost, lease.is_sure) == ("", True)
    assert remote.files() == {}


def test_a_lease_is_renewed_while_it_is_held(remote: Storage) -> None:
    with leased(remote, Holder.here(), None):
        first = remote.find(HOLDER)
        deadline = time.monotonic() + 20
        while remote.find(HOLDER) == first:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_run_is_taken_over_once_its_driver_is_silent_for_long(
    remote: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.put(HOLDER, Holder.here().as_text().encode())
    with pytest.raises(InputError, match="is being searched by"), leased(remote, Holder.here(), None):
        pass
    monkeypatch.setattr(holding_of_runs, "SECONDS_HELD", 0.0)
    me = Holder.here()
    with leased(remote, me, None):
        assert read_holder(remote.get(HOLDER)) == me


def test_the_machine_whose_own_driver_died_need_not_wait(remote: Storage) -> None:
    gone = Holder.here()
    remote.put(HOLDER, gone.as_text().encode())
    with leased(remote, Holder.here(), gone):
        pass


def test_a_driver_that_finds_another_in_its_place_has_lost_the_run(remote: Storage) -> None:
    other = Holder.here()
    lease = Lease(remote, Holder.here())
    lease.take(None)
    remote.put(HOLDER, other.as_text().encode())
    lease.renew()
    assert lease.lost == str(other)
    lease.let_go()
    assert read_holder(remote.get(HOLDER)) == other, "it is the other's now"


def test_a_driver_that_finds_nobody_in_its_place_has_lost_the_run_too(remote: Storage) -> None:
    with leased(remote, Holder.here(), None) as lease:
        remote.remove(HOLDER)  # by one that took it over, and ended
        lease.renew()
        assert lease.lost == "a driver that has let it go since"
        assert not lease.is_sure
    assert remote.files() == {}


def test_who_slept_for_long_is_not_sure_of_its_run_until_it_has_asked(
    remote: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding_of_runs, "SECONDS_BETWEEN_RENEWALS", 1000.0)
    with leased(remote, Holder.here(), None) as lease:
        now = holding_of_runs._seconds_awake_or_asleep
        monkeypatch.setattr(holding_of_runs, "_seconds_awake_or_asleep", lambda: now() + 100)
        assert not lease.is_sure
        lease.renew()
        assert lease.is_sure


def test_a_storage_that_is_slow_once_refuses_nobody_and_one_that_stays_slow_is_told(
    remote: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, waits = Storage.put, [0.4]

    def slow(storage: Storage, name: str, content: bytes) -> None:
        put(storage, name, content)
        if name == HOLDER and waits:
            time.sleep(waits.pop())

    monkeypatch.setattr(Storage, "put", slow)
    with leased(remote, Holder.here(), None) as lease:
        assert (lease.lost, waits) == ("", [])
    waits.extend([0.4] * 5)
    with pytest.raises(InputError, match=r"it takes more than 0\.3 s to write"), leased(remote, Holder.here(), None):
        pass
    assert remote.files() == {}, "nobody is held up by it"
