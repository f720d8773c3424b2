"""Whether every machine of a cluster has what a search needs: the versions of this machine, our code, its files."""

import hashlib
import platform
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from data.array_file import ArrayFile, to_send
from data.input_error import InputError
from data.segmentation_data import SegmentationData
from search.record import one_line
from search.resources import PACKAGES
from search.run_folder import RunFolder

LIBRARIES = ("ray", "torch", "torchvision", "numpy")
OUR_CODE = "our code"
SECONDS_TO_ANSWER = 120.0  # a machine starts a process for it, which waits where all its cores are busy


class MachineDiffersError(RuntimeError):
    """This machine is not like that of the driver: a trial must go on elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a machine has: versions, by name; missing: the files and folders that it was asked for and does not see."""

    versions: Mapping[str, str]
    missing: tuple[Path, ...]


@cache
def versions_here() -> Mapping[str, str]:
    """What trials run with on this machine: name -> version; of our code, the beginning of its sha256."""
    return {"Python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}, OUR_CODE: _code()}


def check_like(versions: Mapping[str, str]) -> None:
    """Raises MachineDiffersError where this machine has others than these."""
    found = differences(versions_here(), versions)
    if found:
        raise MachineDiffersError(f"this machine has {found}")


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> str:
    """What differs, in words; empty where nothing does."""
    different = [(name, there.get(name, "none"), version) for name, version in here.items()]
    return ", ".join(f"{name} {theirs} (here {ours})" for name, theirs, ours in different if theirs != ours)


def answer(paths: Sequence[Path]) -> Answer:
    """What this machine has, and which of these files and folders it does not see."""
    return Answer(versions=versions_here(), missing=tuple(path for path in paths if not path.exists()))


def shared_paths(run: RunFolder, data: SegmentationData) -> tuple[Path, ...]:
    """What every machine must see: the run's folder, unless it is at a URL, and the files of large data."""
    return (*(() if run.remote else (run.path.absolute(),)), *mapped_files(data))


def mapped_files(data: SegmentationData) -> tuple[Path, ...]:
    """The files in which the pictures lie that are too large to be handed to the machines."""
    return tuple(sent.path for sent in map(to_send, vars(data).values()) if isinstance(sent, ArrayFile))


def alive_nodes() -> dict[str, str]:
    """The machines of the running Ray: id -> address."""
    import ray

    return {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]


def ask(nodes: Iterable[str], paths: Sequence[Path]) -> dict[Any, str]:
    """Asks these machines (ids) for an `Answer`, all at once; what Ray will have it in -> id."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    question = ray.remote(num_cpus=0, max_retries=0)(answer)
    there = ((node, NodeAffinitySchedulingStrategy(node, soft=False)) for node in nodes)
    return {question.options(scheduling_strategy=place).remote(paths): node for node, place in there}


def complaint(reply: Any) -> str:
    """What is wrong with the machine that has replied, in words that follow "it"; empty where it can be used."""
    import ray

    try:
        found = ray.get(reply)
    except ray.exceptions.RayError as error:
        return f"cannot run our code ({one_line(error)})"
    different = differences(found.versions, versions_here())
    if different:
        return f"has {different}"
    return f"does not see {str(found.missing[0])!r}" if found.missing else ""


def check_nodes(paths: Sequence[Path] = ()) -> frozenset[str]:
    """The ids of the machines of the running Ray, all of which can be used.

    paths: files and folders that all must see. Raises InputError that names the machines which cannot be used, and says
    why. One that leaves meanwhile is none of them.
    """
    import ray

    nodes = frozenset(alive_nodes())
    asked = ask(nodes, paths)
    replies, late = ray.wait(list(asked), num_returns=len(asked), timeout=SECONDS_TO_ANSWER)
    wrong = {asked[reply]: complaint(reply) for reply in replies}
    wrong |= {asked[reply]: f"does not answer within {SECONDS_TO_ANSWER:g} s" for reply in late}
    there = alive_nodes()
    by_complaint: dict[str, list[str]] = defaultdict(list)
    for node, words in wrong.items():
        if words and node in there:
            by_complaint[words].append(there[node])
    if by_complaint:
        named = "; ".join(f"machine {', '.join(sorted(where))} {words}" for words, where in by_complaint.items())
        raise InputError(
            f"{named}: all machines need the versions of this one and must see the same files (docs/cluster.md); "
            "bring them there, or stop Ray on those that differ."
        )
    return nodes


def _version(library: str) -> str:
    """The version of an installed library, without what says for which devices it was built."""
    try:
        return version(library).partition("+")[0]
    except PackageNotFoundError:
        return "none"


def _code() -> str:
    """The beginning of a sha256 over our packages, as this process would import them."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        spec = find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(folder).as_posix()}\0".encode())
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
