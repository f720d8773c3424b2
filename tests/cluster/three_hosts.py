"""A search on a cluster of three hosts, from nothing to nothing: what `make cluster-test` runs.

    python -m tests.cluster.three_hosts

From a fourth host, which stands for somebody's laptop, it types what docs/cluster.md tells a person to type: `ray up` with
the project's cluster.yaml, in which only the addresses, the user and the key are filled in and each host is given one
core; a search on STARE, handed in as a Ray job; in its midst the network of one host is cut and healed; `ray down`. Then
it checks that all hosts trained, that the leaderboard is whole, and that nothing runs or lies about on any host. It needs
what tests/cluster/hosts.py needs, rsync, `ray[default]` in this Python, and the pictures of STARE in ../shared/datasets or
the folder that DATASETS names. Exit code 1 where something does not hold.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas
import yaml

from data.input_error import InputError
from search.study import open_study
from tests.cluster.hosts import PROJECT, Host, HostError, hosts

DATASETS = Path(os.environ.get("DATASETS", PROJECT.parent / "shared" / "datasets"))
TRIALS = 9
EPOCHS = 4
SEARCH = (
    "python -m search.run --data stare --data-root /datasets --storage /shared/runs --name three-hosts"
    f" --num-trials {TRIALS} --max-epochs {EPOCHS} --scheduler none --space depth=2:3 width=8 crop_size=128"
)
AS_CLIENT = "export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_API_SERVER_ADDRESS=http://localhost:8265"
SSH_SERVER = ("sshd", "sleep", "bash", "ps", "timeout")  # what runs on a host on which nothing was started


def fill_in(head: Host, workers: Sequence[Host]) -> str:
    """The project's cluster.yaml for these hosts: the words of the file, with addresses, user, key, and one core each."""
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
        f" cd {PROJECT} && cat setup.cfg constraints.txt > ~/unet-search/.venv/installed"
    )


def wait_for(what: str, holds: Callable[[], bool], *, seconds: float) -> None:
    """Waits until it holds. Raises HostError after so many seconds."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise HostError(f"{what}: not within {seconds:g} s")
        time.sleep(1)


@contextmanager
def background(host: Host, line: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a line of the shell on the host meanwhile."""
    process = subprocess.Popen(host.enter(line), stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        host.run("pkill -f 'ray dashboar[d]' || true")
        process.wait()
