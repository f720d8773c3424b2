"""Hosts on this machine, for tests of real clusters: each with its own address, disk, processes and ssh server.

    with hosts(3) as (head, *workers):
        workers[0].run(f"ray start --address={head.address}:6379")
        workers[0].cut()

It takes root on Linux, with iproute2 and openssh-server. All that is made lives in namespaces that go with their
processes, and these go with this one, also where it is killed: nothing is left on the machine, and nothing of it is
changed. Several such networks may be there at once; none reaches another, nor the world.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
NETWORK = "10.0.0."
GATEWAY = f"{NETWORK}254"
# Where a host begins with an empty folder, whatever this machine has there.
OWN_FOLDERS = (Path("/tmp"), Path("/root"), Path("/run"))
SIZE_OF_DISK = "8g"  # of memory, at most, for each of these and for all else that a host writes
PROGRAMS = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "pivot_root": "mount",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
}
DIES_WITH_THIS = ("setpriv", "--pdeathsig", "KILL")
ENVIRONMENT = ("HOME=/root", "LANG=C.UTF-8", f"PATH={sys.prefix}/bin:/usr/sbin:/usr/bin:/sbin:/bin")


class HostError(RuntimeError):
    """Hosts cannot be made here, or a command on one failed or took too long: how it ended, and what it said."""


@dataclass(frozen=True, kw_only=True)
class Host:
    """One machine of the network.

    name: its host name. address: in the network. process: the id of its first process. switch: of the one whose network
    has the switch, at which the host's cable ends in `port`.
    """

    name: str
    address: str
    process: int
    switch: int
    port: str

    @property
    def root(self) -> Path:
        """Its disk, as seen from this machine. (A link that is absolute leads to this machine's disk.)"""
        return Path(f"/proc/{self.process}/root")

    def enter(self, line: str) -> list[str]:
        """The command by which this machine runs a line of the shell there, as the user root who has just logged in.

        It needs no network, and reaches a host that is cut off.
        """
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid")
        enter = ("nsenter", f"--target={self.process}", *spaces)
        return [*enter, "env", "--ignore-environment", "--chdir=/root", *ENVIRONMENT, "bash", "-c", line]

    def run(self, line: str, *, timeout: float = 60) -> str:
        """Runs a line of the shell there, in root's home; gives what it printed. Raises HostError where it fails.

        timeout: seconds, after which it is ended; what it started in the background goes on.
        """
        return _run(
            self.enter(f"timeout --kill-after=5 {timeout:g} bash -c {shlex.quote(line)}"), f"{self.name}: {line}"
        )

    def cut(self) -> None:
        """Lets nothing through to it or from it. It is not told: what is sent gets lost."""
        _run_in_network(self.switch, f"ip link set {self.port} nomaster")

    def heal(self) -> None:
        """Ends a cut."""
        _run_in_network(self.switch, f"ip link set {self.port} master switch")

    def received(self) -> int:
        """How many bytes have come to it through the network since it began."""
        lines = Path(f"/proc/{self.process}/net/dev").read_text().splitlines()
        (counters,) = (line.split(":")[1] for line in lines if line.strip().startswith("eth0:"))
        return int(counters.split()[0])


@contextmanager
def hosts(count: int, *, shared: Mapping[str, Path] | None = None) -> Iterator[list[Host]]:
    """So many hosts in a network of their own; they are gone at the end, with all that runs there and all they wrote.

    Each sees this machine's files, but may not change them: what it writes, it alone sees. Root has a home of its own
    there, with a key that opens all hosts; /tmp and /run are its own too. This project and this Python are there under
    their paths. shared: folders that all hosts see and write, as on NFS: by the path they have there. Raises HostError.
    """
    _check_machine()
    folders = {str(own): own for own in (PROJECT, Path(sys.prefix), Path(sys.base_prefix)) if _is_hidden(own)}
    folders |= shared or {}
    running: list[subprocess.Popen[str]] = []
    try:
        switch = _start("unshare", "--net", "bash", "-c", "echo begun; exec sleep infinity", running=running)
        _hear(switch, "begun")
        _run_in_network(switch.pid, "ip link add switch type bridge && ip link set switch up")
        with tempfile.TemporaryDirectory(prefix="hosts-") as folder:
            keygen = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/id_ed25519")
            subprocess.run(keygen, check=True)
            made = [_make_host(one, switch.pid, folder, folders, running) for one in range(1, count + 1)]
        yield made
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.communicate()


def _check_machine() -> None:
    """Raises HostError where no hosts can be made."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise HostError("hosts need root on Linux: run this as root, in a virtual machine or a privileged container.")
    where = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    missing = sorted(package for program, package in PROGRAMS.items() if shutil.which(program, path=where) is None)
    if missing:
        raise HostError(f"hosts need {', '.join(missing)}: apt-get install {' '.join(missing)}")


def _is_hidden(folder: Path) -> bool:
    """Whether a host would not see this folder by itself."""
    own = any(folder.is_relative_to(one) for one in OWN_FOLDERS)
    return own or folder.stat().st_dev != Path("/").stat().st_dev


def _make_host(
    number: int, switch: int, folder: str, shared: Mapping[str, Path], running: list[subprocess.Popen[str]]
) -> Host:
    """Starts a host, and waits until it answers by ssh."""
    name, address, port = f"host{number}", f"{NETWORK}{number}", f"port{number}"
    places = [part for place, one in shared.items() for part in (str(one.resolve()), place)]
    begin = ("bash", str(Path(__file__).with_name("begin_host.sh")), address, GATEWAY, name, folder, SIZE_OF_DISK)
    spaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child")
    started = _start("unshare", *spaces, *begin, *places, running=running)
    _hear(started, "begun")
    (first,) = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    cable = f"ip link add {port} type veth peer name eth0 netns {first}"
    _run_in_network(switch, f"{cable} && ip link set {port} master switch up")
    assert started.stdin is not None
    started.stdin.write("\n")
    started.stdin.flush()
    _hear(started, "ready")
    return Host(name=name, address=address, process=int(first), switch=switch, port=port)


def _start(*command: str, running: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    """Starts what lives at most as long as this process."""
    pipe = subprocess.PIPE
    process = subprocess.Popen((*DIES_WITH_THIS, *command), stdin=pipe, stdout=pipe, text=True)
    running.append(process)
    return process


def _hear(process: subprocess.Popen[str], word: str) -> None:
    """Waits for a process to say this. Raises HostError where it ends instead."""
    assert process.stdout is not None
    if process.stdout.readline().strip() != word:
        raise HostError("a host did not begin: what went wrong stands above.")


def _run_in_network(process: int, line: str) -> None:
    """Runs a line of the shell in the network of a process. Raises HostError where it fails."""
    _run(["nsenter", f"--target={process}", "--net", "bash", "-c", line], line)


def _run(command: list[str], words: str) -> str:
    """Runs a command; gives what it printed. words: what a person knows it by. Raises HostError where it fails."""
    with tempfile.TemporaryFile("w+") as printed:  # a pipe would stay open as long as what it leaves in the background
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed)
        printed.seek(0)
        text = printed.read()
    if done.returncode:
        raise HostError(f"{words}\nended with {done.returncode}:\n{text}")
    return text
