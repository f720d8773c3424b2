"""Hosts on this machine are machines of their own, and leave nothing behind."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.hosts import PROJECT, HostError, hosts

pytestmark = pytest.mark.drill
CAN_REACH = "timeout 2 ssh -o BatchMode=yes -o StrictHostKeyChecking=no {} hostname 2>/dev/null || echo nobody"


@pytest.fixture(autouse=True, scope="module")
def able() -> None:
    """Skips where no hosts can be made: without root, or without a program."""
    try:
        with hosts(0):
            pass
    except HostError as why:
        pytest.skip(str(why))


def test_each_host_is_a_machine_of_its_own(tmp_path: Path) -> None:
    mark = Path("/etc/mark-of-a-host")
    with hosts(2, shared={"/shared": tmp_path}) as (one, two):
        one.run(f"echo mine > /tmp/mark; echo mine > {mark}; echo ours > /shared/mark; (sleep 98765 &)")
        assert (one.root / "tmp/mark").read_text() == "mine\n"
        assert two.run(f"ls /tmp/mark {mark} 2>&1 | grep -c cannot") == "2\n"
        assert two.run("cat /shared/mark; pgrep -f 'sleep 9876[5]' || echo not here") == "ours\nnot here\n"
        assert one.run("hostname") == "host1\n"
        assert two.run(f"{sys.executable} -c 'import ray, sys; print(sys.prefix)'") == f"{sys.prefix}\n"
        assert two.run(f"ls {PROJECT}/tests/cluster/hosts.py")
    assert not mark.exists()
    assert (tmp_path / "mark").read_text() == "ours\n"


def test_a_cut_host_is_reached_by_nobody_until_it_is_healed() -> None:
    with hosts(3) as (one, two, three):
        assert one.run(CAN_REACH.format(two.address)) == "host2\n"
        two.cut()
        assert one.run(CAN_REACH.format(two.address)) == "nobody\n"
        assert one.run(CAN_REACH.format(three.address)) == "host3\n"
        before = two.received()
        two.heal()
        assert one.run(CAN_REACH.format(two.address)) == "host2\n"
        assert two.received() > before


def test_what_fails_on_a_host_says_what_it_said() -> None:
    with hosts(1) as (one,):
        with pytest.raises(HostError, match="host1: echo so; exit 3\nended with 3:\nso"):
            one.run("echo so; exit 3")
        with pytest.raises(HostError, match="ended with 124"):
            one.run("sleep 60", timeout=0.2)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_hosts_go_with_the_process_that_made_them(how: signal.Signals) -> None:
    lines = (
        "from tests.cluster.hosts import hosts",
        "with hosts(2) as (a, b):",
        " print(a.process, b.process)",
        " input()",
    )
    command = (sys.executable, "-u", "-c", "\n".join(lines))
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        first = [Path(f"/proc/{process}") for process in maker.stdout.readline().split()]
        assert len(first) == 2
        assert all(one.exists() for one in first)
        maker.send_signal(how)
    while any(one.exists() for one in first):  # to the test's time limit
        time.sleep(0.05)


def test_a_machine_that_lacks_a_program_is_told_which_package_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program, path: None if program == "sshd" else program)
    with pytest.raises(HostError, match="apt-get install openssh-server"), hosts(1):
        pass
