"""One driver for a run: it is named to others, and its hold ends with it."""

import os
import time
from pathlib import Path

import pytest

from data.input_error import InputError
from search import holder as holding_of_runs
from search.holder import HOLDER, Holder, Lease, holding, leased, noted, read_holder
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
    assert list(tmp_path.iterdir()) == []


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
    with leased(remote, me, None) as lost:
        with (
            pytest.raises(InputError, match=rf"by {me.user}@.* one that was killed lets it go within 120 s"),
            leased(remote, Holder.here(), None),
        ):
            pass
        assert read_holder(remote.get(HOLDER)) == me
        assert lost() == ""
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
