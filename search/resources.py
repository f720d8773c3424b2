"""The machines of a search: starts or joins Ray without a word, and says how many trials fit on them."""

import json
import logging
import os
import signal
import socket
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.input_error import InputError

PROJECT = Path(__file__).parents[1]
PACKAGES = ("data", "model", "search")
SECONDS_TO_ANSWER = 3.0
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray, for who is started by `ray job submit`

# Set before Ray is imported: no word to its makers, no workers that nobody asked for, and Tune without its own log
# files, snapshots of its state, changes of folder and handling of Ctrl-C, for all of which the search has its own way.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What one machine has for trials: CPU cores and GPUs."""

    cpus: float
    gpus: float


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What one training takes of a machine: CPU cores and GPUs, parts of one included.

    workers: how many processes train together, each of which takes these, where need be on several machines.
    """

    cpus: float
    gpus: float
    workers: int = 1

    @property
    def threads(self) -> int:
        """CPU threads of one process that trains."""
        return max(1, int(self.cpus))

    @property
    def device(self) -> str:
        """What it trains on, as torch calls it."""
        return "cuda" if self.gpus else "cpu"

    @property
    def shares_gpu(self) -> bool:
        """Whether others may train on the same GPU meanwhile."""
        return 0 < self.gpus < 1

    @property
    def devices(self) -> float:
        """How many devices one training has, for a budget of device-hours: GPUs, or 1 where it trains on a CPU."""
        return (self.gpus or 1.0) * self.workers

    def fit(self, there: Sequence[Machine]) -> int:
        """How many trainings run on these machines side by side."""
        tolerance = 1e-6  # a third of a GPU fits three times
        by_cpus = [int(machine.cpus / self.cpus + tolerance) for machine in there]
        if self.gpus == 0:
            return sum(by_cpus) // self.workers
        # A part of a GPU lies on one GPU: of 0.4 two fit on each, however many there are.
        on_each = int(1 / self.gpus + tolerance) if self.gpus < 1 else 1
        by_gpus = [int(machine.gpus / max(1.0, self.gpus) + tolerance) * on_each for machine in there]
        return sum(map(min, by_cpus, by_gpus)) // self.workers


def in_job() -> bool:
    """Whether this process was started by `ray job submit`, on the cluster that is meant then."""
    return JOB in os.environ


def joins_cluster(address: str | None) -> bool:
    """Whether the search runs on a Ray that is there already: the one at the address, or that of the job."""
    return address is not None or in_job()


def may_end_with_ray(address: str | None) -> bool:
    """Whether who ends this process by SIGTERM may end the Ray at this address by the same one.

    Not the one that we have started, nor that of a job, which is stopped alone.
    """
    return address is not None and not in_job()


def code_to_send() -> dict[str, Any]:
    """What Ray hands to all machines, so that workers there import the code that runs here.

    A job's own folder has it already: its workers get that.
    """
    if in_job() and "working_dir" in (json.loads(os.environ[JOB]).get("runtime_env") or {}) and Path.cwd() == PROJECT:
        return {}
    return {"py_modules": [str(PROJECT / package) for package in PACKAGES], "excludes": ["__pycache__/"]}


@contextmanager
def running_ray(address: str | None) -> Iterator[None]:
    """A Ray to run trials on: one of its own on this machine, or the cluster at the address.

    Inside a process that has joined Ray already, that Ray. Raises InputError when no cluster answers at the address.
    """
    os.environ.update(QUIET)
    if address is None and joins_cluster(address):
        address = "auto"
    if address is not None:
        find_cluster(address)
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "5")  # tries to join; one a second
    import ray

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is None:
        start_ray(quiet)
    else:
        try:
            with silenced(), keeping_sigterm():
                # For "auto", Ray itself finds the token of this machine's cluster.
                ray.init(address=address, runtime_env=code_to_send(), **quiet)
        except (ConnectionError, RuntimeError, ray.exceptions.AuthenticationError) as error:
            if "Version mismatch" in str(error):
                words = " ".join(str(error).split())
                raise InputError(
                    f"address {address!r}: {words} Search with the versions that the cluster has (docs/cluster.md)."
                ) from error
            raise InputError(
                f"address {address!r}: the cluster does not let us in; RAY_AUTH_MODE and the token must be the "
                "cluster's own (docs/cluster.md)."
            ) from error
    try:
        yield
    finally:
        ray.shutdown()


def start_ray(quiet: Mapping[str, Any]) -> None:
    """Starts a Ray on this machine whose processes never hear SIGTERM; they end with this one, however it ends.

    Who stops a service or a batch job sends it to all its processes at once, and Ray's would be gone before the search
    could be put in order.
    """
    import psutil  # type: ignore[import-untyped]
    import ray

    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # which they inherit
    try:
        with keeping_sigterm():
            ray.init(address="local", include_dashboard=False, **quiet)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    node: Any = ray._private.worker._global_node
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    end_those_of_ray = node.kill_all_processes

    def end_processes(**_: Any) -> None:
        """Ends them all, in place of Ray, which would send each a SIGTERM and wait for a second."""
        started = raylet.children(recursive=True) if raylet.is_running() else []
        end_those_of_ray(check_alive=False)
        for process in started:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    node.kill_all_processes = end_processes


@contextmanager
def keeping_sigterm() -> Iterator[None]:
    """Keeps what this process does at a SIGTERM as it is: Ray, when it starts, would have it leave at once."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


@contextmanager
def silenced() -> Iterator[None]:
    """Drops what is written to the error stream, by code that is not Python too: Ray repeats there what it raises."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def find_cluster(address: str) -> str:
    """The host:port of the cluster that is meant. Raises InputError when nothing answers there, within seconds."""
    place = address
    if address == "auto":
        from ray._private.utils import read_ray_address

        place = os.environ.get("RAY_ADDRESS") or read_ray_address() or ""
        if not place:
            raise InputError("address 'auto' finds no cluster on this machine: run `ray start`, or give host:port.")
    host, _, port = place.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise InputError(f"address {place!r} must be host:port, such as 10.0.0.1:6379, or auto.")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_ANSWER) as connection:
            greet(connection)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"address {place!r}: no cluster answers ({error}); start one (docs/cluster.md), or leave --address out."
        ) from error
    return place


def greet(connection: socket.socket) -> None:
    """Exchanges the greeting of HTTP/2 (RFC 9113, section 3.4), which Ray speaks: Ray itself would wait for ages.

    Raises OSError when the other side does not speak it.
    """
    if os.environ.get("RAY_USE_TLS", "0") != "0":
        return  # an encrypted cluster answers only to those whom Ray introduces
    connection.settimeout(SECONDS_TO_ANSWER)
    connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")  # preface, empty settings
    if connection.recv(9)[3:4] != b"\4":
        raise OSError("what listens there is no Ray")


def machines(shut_out: Collection[str] = ()) -> list[Machine]:
    """What the machines of the running Ray have, but for those about to be taken away, or that get no trials (ids)."""
    import ray

    without = leaving_machines().union(shut_out)
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    alive = [node["Resources"] for node in nodes if node["NodeID"] not in without]
    return [Machine(cpus=node.get("CPU", 0.0), gpus=node.get("GPU", 0.0)) for node in alive]


def leaving_machines() -> set[str]:
    """Ray's ids of the machines that it is to give back: a spot machine with notice, one that nobody needs any more."""
    from ray._private.state import state

    return set(state.get_draining_nodes())


def choose_needs(cpus: float | None, gpus: float | None, there: Sequence[Machine]) -> Needs:
    """What each trial takes: as asked; where nothing is, a core for each GPU, and one GPU where there are any.

    Of several GPUs, each has a process of its own, and its part of the cores. Raises InputError when not even one trial
    fits on the machines.
    """
    if gpus is None:
        gpus = 1.0 if any(machine.gpus >= 1 for machine in there) else 0.0
    workers = max(1, int(gpus))
    if cpus is None:
        cpus = float(workers)
    needs = Needs(cpus=cpus / workers, gpus=gpus / workers, workers=workers)
    if needs.fit(there) == 0:
        found = " and ".join(f"one with {machine.cpus:g} CPUs and {machine.gpus:g} GPUs" for machine in there)
        raise InputError(
            f"cpus_per_trial {cpus:g} and gpus_per_trial {gpus:g} fit on no machine: there is {found}; ask for less."
        )
    return needs


def check_outlives_job(folder: Path) -> None:
    """Raises InputError for a run in the folder of a Ray job, which Ray removes some time after the job has ended."""
    if in_job() and folder.absolute().is_relative_to(Path.cwd()):
        raise InputError(
            f"storage {str(folder.parent)!r} lies in the folder of this job, and would go with it: "
            "name one that outlives the job, as --storage /shared/runs."
        )
