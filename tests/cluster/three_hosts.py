"""A search on a cluster of three hosts, from nothing to nothing: what `make cluster-test` runs.

    python -m tests.cluster.three_hosts

From a fourth host, which stands for somebody's laptop, it types what docs/cluster.md tells a person to type: `ray up`
with the project's cluster.yaml, in which only the addresses, the user and the key are filled in and each host is given
one core; `make cluster-search` on STARE; `ray down`. In the midst of the search the network of one host is cut and
healed. Then it checks that all hosts trained, that the leaderboard is whole, and that nothing runs on any host. It
needs what tests/cluster/hosts.py needs, rsync, `ray[default]` in this Python, and the pictures of STARE in
../shared/datasets or the folder that DATASETS names. Exit code 1 where something does not hold.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import yaml

from model.checkpoint import load_model
from search.leaderboard import read
from tests.cluster.hosts import PROJECT, Host, HostError, hosts

DATASETS = Path(os.environ.get("DATASETS", PROJECT.parent / "shared" / "datasets"))
NAME = "three-hosts"
TRIALS = 9
EPOCHS = 4
SEARCH = (
    f"--data stare --data-root /datasets --storage /shared/runs --name {NAME} --num-trials {TRIALS}"
    f" --max-epochs {EPOCHS} --scheduler none --space depth=2:3,width=8,crop_size=128"
)
SECONDS_TO_START = 180
SECONDS_TO_SEARCH = 900
SECONDS_CUT = 10
SECONDS_TO_NOTICE = 120  # that a worker takes to end which has lost its head
LINES_SHOWN = 40
FROM_THE_START = {"sshd", "sshd-session", "sleep", "bash", "ps", "timeout"}  # what runs where nothing was started


def fill_in(head: Host, workers: Sequence[Host]) -> str:
    """The project's cluster.yaml for these hosts: as it is, with addresses, user, key, and one core each."""
    config = yaml.safe_load((PROJECT / "cluster.yaml").read_text(encoding="utf-8"))
    config["provider"] |= {"head_ip": head.address, "worker_ips": [one.address for one in workers]}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": "~/.ssh/id_ed25519"}
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        config[commands] = [line.replace("ray start ", "ray start --num-cpus=1 ") for line in config[commands]]
    return yaml.safe_dump(config)


def lend_packages(host: Host) -> None:
    """Puts this Python's packages where cluster.yaml would install them from the network, which hosts do not have."""
    host.run(
        f"mkdir -p unet-search/.venv && ln -s {sys.prefix}/* unet-search/.venv/ &&"
        f" cat {PROJECT}/setup.cfg {PROJECT}/constraints.txt > unet-search/.venv/installed"
    )


def wait_for(what: str, holds: Callable[[], bool], *, seconds: float) -> None:
    """Waits until it holds. Raises HostError after so many seconds."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise HostError(f"{what}: not within {seconds:g} s")
        time.sleep(1)


@contextmanager
def started(host: Host, line: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a line of the shell on the host meanwhile, which says into the log what it has to say."""
    with log.open("wb") as written:
        process = subprocess.Popen(
            host.enter(line), stdin=subprocess.DEVNULL, stdout=written, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def trains(host: Host) -> bool:
    """Whether a trial is being trained on this host right now."""
    return "ImplicitFunc.train" in host.run("ps -e -o args=")


def started_here(host: Host) -> list[str]:
    """The programs that run on a host and did not from the start."""
    return sorted(set(host.run("ps -e -o comm=").split()) - FROM_THE_START)


def tail_of(log: Path) -> str:
    """The last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-LINES_SHOWN:])


def bring_up(laptop: Host, machines: Sequence[Host]) -> None:
    """`ray up` from the laptop, until Ray runs on all machines. Raises HostError where it does not."""
    for host in machines:
        lend_packages(host)
    laptop.run(f"cat > cluster.yaml <<'END'\n{fill_in(machines[0], machines[1:])}END")
    laptop.run("ray get-auth-token --generate")
    up = f"cd {PROJECT} && RAY_USAGE_STATS_ENABLED=0 ray up --yes --no-config-cache ~/cluster.yaml"
    laptop.run(up, timeout=SECONDS_TO_START)
    for host in machines:
        is_up = partial(lambda host: "raylet" in started_here(host), host)
        wait_for(f"Ray on {host.name}", is_up, seconds=SECONDS_TO_START)


def search_from(laptop: Host, machines: Sequence[Host], folder: Path, tell: Callable[[str], None]) -> None:
    """Hands the search in, and cuts one host off for a while once all of them train.

    Raises HostError where the job fails, takes too long, or a host trains nothing.
    """
    environment = f"CLUSTER_VENV={sys.prefix} CLUSTER_READY= CLUSTER=~/cluster.yaml"
    line = f"cd {PROJECT} && make --silent cluster-search {environment} SEARCH={shlex.quote(SEARCH)}"
    log, trained, was_cut = folder / "job.txt", set[str](), False
    until = time.monotonic() + SECONDS_TO_SEARCH
    with started(laptop, line, log) as job:
        while job.poll() is None:
            if time.monotonic() > until:
                raise HostError(f"the search took more than {SECONDS_TO_SEARCH} s:\n{tail_of(log)}")
            trained |= {host.name for host in machines if trains(host)}
            if len(trained) == len(machines) and not was_cut:
                tell(f"all hosts train; {machines[-1].name} is cut off for {SECONDS_CUT} s")
                machines[-1].cut()
                time.sleep(SECONDS_CUT)
                machines[-1].heal()
                was_cut = True
            time.sleep(1)
    if job.returncode:
        raise HostError(f"the job ended with {job.returncode}:\n{tail_of(log)}")
    if not was_cut:
        raise HostError(f"only {', '.join(sorted(trained)) or 'nobody'} trained:\n{tail_of(log)}")


def check_run(run: Path, tell: Callable[[str], None]) -> None:
    """Says what came of the run. Raises HostError where it is not whole."""
    table = read(run / "leaderboard.csv")
    if list(table["status"]) != ["completed"] * TRIALS or set(table["epochs"]) != {EPOCHS}:
        raise HostError(f"the leaderboard is not whole:\n{table[['trial_id', 'status', 'epochs', 'reason']]}")
    load_model(run / "best")
    tell(f"the leaderboard has {len(table)} trials, the best one {table['trial_id'][0]} ({table['val_dice'][0]:.4f})")


def take_down(laptop: Host, machines: Sequence[Host]) -> None:
    """`ray down` from the laptop. Raises HostError where something still runs on a machine after it."""
    laptop.run("ray down --yes ~/cluster.yaml", timeout=SECONDS_TO_START)
    for host in (*machines, laptop):
        is_bare = partial(lambda host: not started_here(host), host)
        try:
            wait_for("nothing left behind", is_bare, seconds=SECONDS_TO_NOTICE)
        except HostError as error:
            there = host.run("ps -e -o pid,ppid,etimes,args")
            raise HostError(f"{host.name} is not bare after ray down:\n{there}") from error


def main() -> int:
    """The whole way; gives the exit code."""
    began = time.monotonic()

    def tell(words: str) -> None:
        print(f"{time.monotonic() - began:4.0f} s  {words}", flush=True)

    if not (DATASETS / "stare").is_dir():
        print(f"error: DATASETS {str(DATASETS)!r} has no folder stare: name the folder that has it.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="three-hosts-") as scratch:
        folder = Path(scratch)
        (runs := folder / "runs").mkdir()
        try:
            with hosts(4, shared={"/datasets": DATASETS, "/shared/runs": runs}) as (laptop, *machines):
                tell("four hosts are there")
                bring_up(laptop, machines)
                tell("ray up: Ray runs on three of them")
                search_from(laptop, machines, folder, tell)
                check_run(runs / NAME, tell)
                take_down(laptop, machines)
                tell("ray down: nothing is left on any host")
        except HostError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
