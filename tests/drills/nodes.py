"""A Ray cluster on this machine whose nodes have a network and an address each, to be killed, cut off and healed.

It takes root on Linux, with `ip` (iproute2) and `setpriv`, `unshare` and `nsenter` (util-linux). The networks are
namespaces without a name, which go with their processes.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

NETWORK = "10.77.0"
PORT = 6379
OBJECT_STORE = 80 << 20  # bytes: the least that Ray takes
SECONDS_TO_START = 90
NEEDED = ("ip", "setpriv", "unshare", "nsenter")
# A node is taken for dead after five seconds where nothing answers there, and after twenty where nothing comes back.
IMPATIENT = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "4",
}
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}


def lacking() -> str:
    """What this machine lacks for such a cluster, in words; empty where it has all."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} missing"
    return "" if os.geteuid() == 0 else "it takes root"


class Network:
    """A network of its own, held by a process that ends with this one."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL
        )
        here = Path("/proc/self/ns/net").readlink()
        while (there := Path(f"/proc/{self._holder.pid}/ns/net")).readlink() == here:
            assert self._holder.poll() is None, "no network could be made"
            time.sleep(0.01)
        self.id = str(there.readlink())
        self.run("ip", "link", "set", "lo", "up")

    @property
    def pid(self) -> int:
        """A process in it."""
        return self._holder.pid

    def inside(self, *words: str) -> list[str]:
        """The command as it is run in this network; it ends with this process."""
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/proc/{self.pid}/ns/net", *words]

    def run(self, *words: str) -> None:
        """Runs a command inside to its end."""
        subprocess.run(self.inside(*words), check=True, capture_output=True)

    def processes(self) -> list[int]:
        """All processes inside, but for the one that holds it."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if str((entry / "ns/net").readlink()) == self.id and int(entry.name) != self.pid:
                    found.append(int(entry.name))
        return found

    def received(self) -> int:
        """How many bytes have come to it from others since it began."""
        lines = Path(f"/proc/{self.pid}/net/dev").read_text().splitlines()
        (counters,) = (line.split(":")[1] for line in lines if line.strip().startswith("eth0:"))
        return int(counters.split()[0])

    def kill(self) -> None:
        """Ends all processes inside at once, as a power cut does."""
        deadline = time.monotonic() + 20
        while left := self.processes():
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            assert time.monotonic() < deadline, f"processes {left} do not end"
            time.sleep(0.05)

    def close(self) -> None:
        """Ends everything inside, and with it the network."""
        self.kill()
        self._holder.kill()
        self._holder.wait()


class Node:
    """One machine of a cluster."""

    def __init__(self, cluster: "Cluster", number: int) -> None:
        self.address = f"{NETWORK}.{number}"
        self.network = Network()
        self._cluster, self._port = cluster, f"port{number}"
        switch, port = cluster.switch, self._port
        switch.run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(self.network.pid))
        switch.run("ip", "link", "set", port, "master", "switch", "up")
        self.network.run("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        self.network.run("ip", "link", "set", "eth0", "up")
        self._log = cluster.folder / f"{self.address}.log"
        with self._log.open("w") as log:
            self._ray = subprocess.Popen(
                self.network.inside(*self._command(is_head=number == 1)),
                env=dict(cluster.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _command(self, *, is_head: bool) -> list[str]:
        cpus = self._cluster.cpus_of_head if is_head else 1
        ray = [str(Path(sys.prefix) / "bin" / "ray"), "start", "--block", f"--num-cpus={cpus}", "--num-gpus=0"]
        ray += [f"--node-ip-address={self.address}", f"--object-store-memory={self._cluster.object_store}"]
        if is_head:
            # The path of a socket has at most 107 characters.
            return [
                *ray,
                "--head",
                f"--port={PORT}",
                "--include-dashboard=false",
                f"--temp-dir={self._cluster.scratch}",
            ]
        return [*ray, f"--address={self._cluster.address}"]

    def wait(self) -> None:
        """Waits until it has joined."""
        deadline = time.monotonic() + SECONDS_TO_START
        while "Ray runtime started" not in self._log.read_text():
            assert self._ray.poll() is None and time.monotonic() < deadline, f"no node started: see {self._log}"
            time.sleep(0.05)

    def kill(self) -> None:
        """Ends it at once."""
        self.network.kill()
        self._ray.wait()

    def close(self) -> None:
        """Ends it, and its network."""
        self.network.close()
        self._ray.wait()

    def cut(self) -> None:
        """Lets nothing through to it or from it, and tells nobody."""
        self._cluster.switch.run("ip", "link", "set", self._port, "nomaster")

    def heal(self) -> None:
        """Ends a cut."""
        self._cluster.switch.run("ip", "link", "set", self._port, "master", "switch")


class Cluster:
    """Several nodes and the switch between them; the first one is the head."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str], *, cpus_of_head: int = 1, object_store: int = OBJECT_STORE
    ) -> None:
        """folder: for what the nodes print. object_store: bytes of it that each node has."""
        self.folder = folder
        self.cpus_of_head, self.object_store = cpus_of_head, object_store
        self.scratch = tempfile.mkdtemp(prefix="drill", dir="/tmp")
        self.environment = {**environment, **IMPATIENT, **TOKEN, "RAY_USAGE_STATS_ENABLED": "0"}
        self.switch = Network()
        self.switch.run("ip", "link", "add", "switch", "type", "bridge")
        self.switch.run("ip", "link", "set", "switch", "up")
        self.nodes: list[Node] = []

    @property
    def address(self) -> str:
        """Where drivers and nodes join it."""
        return f"{NETWORK}.1:{PORT}"

    @property
    def head(self) -> Node:
        """The node that drivers run on."""
        return self.nodes[0]

    def add(self, count: int) -> None:
        """Starts so many nodes more, one after the other, and waits until each has joined."""
        for _ in range(count):
            self.nodes.append(Node(self, len(self.nodes) + 1))
            self.nodes[-1].wait()

    def start(self, *words: str, **options: object) -> "subprocess.Popen[str]":
        """A command on the head."""
        return subprocess.Popen(self.head.network.inside(*words), text=True, **options)  # type: ignore[call-overload,no-any-return]

    def ask(self, code: str) -> str:
        """What a line of Python, which has Ray, prints on the head; empty where it fails."""
        quiet = "import ray, functools; ray.init = functools.partial(ray.init, logging_level=50, log_to_driver=False); "
        environment = {name: value for name, value in self.environment.items() if name != "PYTHONPATH"}
        command = self.head.network.inside(sys.executable, "-c", quiet + code)
        done = subprocess.run(
            command, check=False, env=environment, capture_output=True, text=True, timeout=SECONDS_TO_START
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    def kill(self) -> None:
        """Ends all nodes at once."""
        for node in self.nodes:
            for process in node.network.processes():
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        for node in self.nodes:
            node.kill()

    def close(self) -> None:
        """Ends everything, and takes away what Ray wrote."""
        for node in self.nodes:
            node.close()
        self.switch.close()
        shutil.rmtree(self.scratch, ignore_errors=True)


@contextmanager
def running_cluster(folder: Path, environment: Mapping[str, str], nodes: int) -> Iterator[Cluster]:
    """A cluster of so many nodes, gone afterwards. folder: for what the nodes print."""
    folder.mkdir(parents=True, exist_ok=True)
    cluster = Cluster(folder, environment)
    try:
        cluster.add(nodes)
        yield cluster
    finally:
        cluster.close()
