"""How much memory there is: the machine's, or less where a control group says so."""

import os
from pathlib import Path

import pytest

import data.memory
from data.memory import memory_limit, total_memory


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose control groups this test writes."""
    monkeypatch.setattr(data.memory, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(data.memory, "_OWN_CGROUPS", tmp_path / "own")
    (tmp_path / "own").write_text("4:memory:/job/one\n3:cpu,cpuacct:/elsewhere\n0::/slice/unit\n")
    return tmp_path / "cgroup"


def limit(folder: Path, name: str, words: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(words + "\n")


def test_without_a_limit_it_is_the_machines(groups: Path) -> None:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert total_memory() == machine
    limit(groups / "slice" / "unit", "memory.max", "max")
    limit(groups / "memory" / "job" / "one", "memory.limit_in_bytes", str(2**63 - 4096))
    limit(groups / "cpu" / "elsewhere", "memory.max", "1")
    assert total_memory() == machine
    assert 0 < memory_limit() < machine / 2


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("slice/unit", "memory.max"),
        ("slice", "memory.max"),
        ("", "memory.max"),
        ("memory/job/one", "memory.limit_in_bytes"),
        ("memory/job", "memory.limit_in_bytes"),
        ("memory", "memory.limit_in_bytes"),
    ],
)
def test_the_limit_of_any_group_above_holds(groups: Path, group: str, name: str) -> None:
    limit(groups / group, name, str(2**20))
    assert total_memory() == 2**20
    assert memory_limit() == 2**18


def test_a_system_without_control_groups_will_do(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.memory, "_OWN_CGROUPS", groups / "nothing")
    assert total_memory() > 2**20
