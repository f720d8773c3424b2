"""Machines of a cluster that are not like this one: named before a search starts, given no trials when they join."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import search.newcomers
import search.nodes
import search.watch
from data.input_error import InputError
from search.newcomers import Newcomers
from search.nodes import (
    MachineDiffersError,
    alive_nodes,
    check_like,
    check_nodes,
    differences,
    mapped_files,
    versions_here,
)
from search.record import TrialRecord
from tests.search.commands import SMALL, start
from tests.search.test_driver import search_in
from tests.search.trainings import NODE, endless
from tests.toys import colored_squares


@pytest.fixture
def older_numpy(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine whose numpy is an old one."""
    folder = tmp_path / "packages" / "numpy-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.0\n")
    return {"PYTHONPATH": str(folder.parent)}


@contextmanager
def joined(cluster: Any, **has: Any) -> Iterator[Any]:
    """Another machine, for as long as this lasts."""
    node = cluster.add_node(num_cpus=1, **has)
    try:
        yield node
    finally:
        cluster.remove_node(node)


def test_versions_are_compared_one_by_one() -> None:
    here = versions_here()
    assert set(here) == {"Python", "ray", "torch", "torchvision", "numpy", "our code"}
    assert "none" not in here.values()
    assert not any("+" in version for version in here.values()), "what it was built for is no difference"
    assert differences(here, here) == ""
    there = {**here, "torch": "1.0"}
    del there["numpy"]
    assert differences(there, here) == f"torch 1.0 (here {here['torch']}), numpy none (here {here['numpy']})"
    check_like(here)
    check_like({})
    with pytest.raises(MachineDiffersError, match=r"this machine has torch .* \(here 1\.0\)"):
        check_like({"torch": "1.0"})


def test_any_line_of_our_code_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package_of_a_test"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(search.nodes, "PACKAGES", [package.name])
    seen = [search.nodes._code()]
    for name, text in (("part.py", "x = 1"), ("part.py", "x = 2"), ("other.py", "")):
        (package / name).write_text(text)
        seen.append(search.nodes._code())
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "part.pyc").touch()
    assert len(set(seen)) == 4
    assert search.nodes._code() == seen[-1]


def test_files_of_large_data_are_known(tmp_path: Path) -> None:
    data = colored_squares("binary")
    assert mapped_files(data) == ()
    np.save(tmp_path / "images.npy", data.images)
    vars(data)["images"] = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert mapped_files(data) == (tmp_path / "images.npy",)


def test_machines_that_cannot_be_used_are_named_before_a_search_starts(
    tmp_path: Path, ray_cluster: Any, older_numpy: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_nodes([tmp_path])
    with pytest.raises(InputError, match=r"^machine (\S+), \1 does not see '/nowhere': all machines need"):
        check_nodes([tmp_path, Path("/nowhere")])
    numpy = versions_here()["numpy"]
    with joined(ray_cluster, env_vars=older_numpy):
        where = ("--address", ray_cluster.address, "--storage", str(tmp_path / "runs"))
        command = start(*where, "--num-trials", "1", "--max-epochs", "1", *SMALL)
        out, errors = command.communicate()
        assert (command.returncode, out, errors.count("\n")) == (2, "", 1)
        assert f" has numpy 1.0 (here {numpy}): all machines need the versions of this one" in errors
        assert not (tmp_path / "runs").exists()
    monkeypatch.setattr(search.nodes, "SECONDS_TO_ANSWER", 0.0)
    with pytest.raises(InputError, match="does not answer within 0 s"):
        check_nodes()


@pytest.mark.drill
def test_a_machine_that_joins_gets_trials_only_where_it_is_like_this_one(
    tmp_path: Path, ray_cluster: Any, older_numpy: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search.watch, "SECONDS_BETWEEN_COUNTS", 0.2)
    joining: list[Any] = []
    lines: list[str] = []

    def add_machines(records: Sequence[TrialRecord], spent: float) -> None:
        if not joining and len(records) == 2:
            joining.append(ray_cluster.add_node(num_cpus=2, env_vars=older_numpy))
            joining.append(ray_cluster.add_node(num_cpus=1))

    try:
        search_in(tmp_path, endless, add_machines, num_trials=3, budget="6epochs", say=lines.append)
    finally:
        for node in joining:
            ray_cluster.remove_node(node)
    older, same = joining
    refused, welcome = sorted(lines, key=len, reverse=True)
    numpy = versions_here()["numpy"]
    assert refused.startswith("machine ")
    assert refused.endswith(f" joined, but has numpy 1.0 (here {numpy}): it gets no trials")
    assert welcome.endswith(" joined: 3 trials at a time")
    trained = [path.read_text() for path in tmp_path.glob(f"trials/*/{NODE}")]
    assert trained.count(same.node_id) == 1
    assert older.node_id not in trained


def test_a_machine_that_joined_before_the_search_began_but_after_the_others_were_asked_is_asked(
    tmp_path: Path, ray_cluster: Any
) -> None:
    looked_at = check_nodes([tmp_path])
    with joined(ray_cluster) as node:
        newcomers = Newcomers([tmp_path, Path("/nowhere")], looked_at)
        said: list[str] = newcomers.look()[1]
        for _ in range(300):
            if said:
                break
            time.sleep(0.1)
            said = newcomers.look()[1]
        assert newcomers.shut_out == {node.node_id}
    [line] = said
    assert line.endswith(" joined, but does not see '/nowhere': it gets no trials")


def test_a_machine_that_does_not_answer_waits_and_one_that_leaves_is_forgotten(
    tmp_path: Path, ray_cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    newcomers = Newcomers([tmp_path], alive_nodes())
    assert newcomers.look() == ([], [])
    monkeypatch.setattr(search.newcomers, "SECONDS_TO_ANSWER", 0.0)
    monkeypatch.setattr(search.newcomers, "ask", lambda *_: {never.remote(): node.node_id})
    import ray

    never = ray.remote(num_cpus=0)(lambda: time.sleep(100))
    with joined(ray_cluster) as node:
        [line] = newcomers.look()[1]
        assert line.endswith("does not answer: it gets no trials until it does")
        assert newcomers.look() == ([], [])
        assert newcomers.shut_out == {node.node_id}
        assert newcomers.asked
    for _ in range(100):
        if not newcomers.shut_out:
            break
        time.sleep(0.1)
        newcomers.look()
    assert not newcomers.asked
