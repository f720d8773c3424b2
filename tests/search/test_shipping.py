"""How code and data reach the workers: little code, and data once for each machine."""

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray._private.runtime_env.packaging import create_package

from data.input_error import InputError
from search.resources import (
    JOB,
    PACKAGES,
    PROJECT,
    Needs,
    check_outlives_job,
    code_to_send,
    joins_cluster,
    may_end_with_ray,
)
from search.trial import SharedWork
from tests.toys import colored_squares

MEGABYTE = 1_000_000
COPIES = 40  # of the toy's pictures: far more than what else is on the way

ENDINGS = (".py", ".rayignore", "report/page.html.j2", "report/page.css", "report/page.js")


def package(folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch, excludes: list[str] | None = None) -> set[str]:
    """The files that Ray packs into the target of what it is to hand to the machines."""
    monkeypatch.delenv("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", raising=False)
    create_package(str(folder), target, include_gitignore=True, excludes=excludes)
    with zipfile.ZipFile(target) as packed:
        return {name for name in packed.namelist() if not name.endswith("/")}


def test_a_job_takes_the_packages_and_leaves_all_that_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    for name in PACKAGES:
        shutil.copytree(PROJECT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".gitignore", ".rayignore", "setup.cfg", "constraints.txt"):
        shutil.copy(PROJECT / name, project / name)
    wanted = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    large = (
        "runs/a/study.log",
        "datasets/b.png",
        "shared/c",
        ".git/d",
        ".venv/bin/python",
        ".cache/e",
        "docs/images/f.png",
    )
    for name in (*large, "search/__pycache__/g.pyc", "tests/h.py", "benchmarks/i.py", ".mypy_cache/j", "predictions/k"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_bytes(os.urandom(MEGABYTE))
    packed = package(project, tmp_path / "job.zip", monkeypatch)
    assert packed == wanted - {".gitignore"}
    assert (tmp_path / "job.zip").stat().st_size < 2 * MEGABYTE


def test_with_an_address_the_three_packages_travel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(JOB, raising=False)
    sent = code_to_send()
    modules = sent["py_modules"]
    assert [Path(module).name for module in modules] == list(PACKAGES)
    size = 0
    for number, module in enumerate(modules):
        folder = Path(shutil.copytree(module, tmp_path / Path(module).name))
        (folder / "__pycache__").mkdir(exist_ok=True)
        (folder / "__pycache__/a.pyc").touch()
        packed = package(folder, tmp_path / f"{number}.zip", monkeypatch, sent["excludes"])
        assert not [name for name in packed if "__pycache__" in name or not name.endswith(ENDINGS)]
        size += (tmp_path / f"{number}.zip").stat().st_size
    assert size < 2 * MEGABYTE


@pytest.mark.parametrize(
    ("job", "where", "sent"),
    [
        ('{"runtime_env": {"working_dir": "gcs://x.zip"}}', PROJECT, False),
        ('{"runtime_env": {"working_dir": "gcs://x.zip"}}', PROJECT / "search", True),
        ('{"runtime_env": {}}', PROJECT, True),
        ('{"runtime_env": null}', PROJECT, True),
    ],
)
def test_a_job_whose_folder_is_the_project_has_sent_it(
    job: str, where: Path, sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(JOB, job)
    monkeypatch.chdir(where)
    assert bool(code_to_send()) == sent


def test_a_job_joins_its_own_cluster_and_is_stopped_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(JOB, raising=False)
    monkeypatch.chdir(tmp_path)
    assert [joins_cluster(None), joins_cluster("auto")] == [False, True]
    assert [may_end_with_ray(None), may_end_with_ray("auto")] == [False, True]
    check_outlives_job(Path("runs/mine"))
    monkeypatch.setenv(JOB, "{}")
    assert [joins_cluster(None), joins_cluster("auto")] == [True, True]
    assert [may_end_with_ray(None), may_end_with_ray("auto")] == [False, False]
    with pytest.raises(InputError, match="storage 'runs' lies in the folder of this job, and would go with it: name"):
        check_outlives_job(Path("runs/mine"))
    check_outlives_job(tmp_path.parent / "runs" / "mine")


def bytes_stored(cluster: Any) -> list[int]:
    """How many bytes each machine has ever written into its object store."""
    from ray._private.internal_api import node_stats

    return [
        node_stats(
            node.node_ip_address, node.node_manager_port, include_memory_info=False
        ).store_stats.cumulative_created_bytes
        for node in cluster.list_all_nodes()
    ]


def mapped_as(shared: list[Any]) -> tuple[str, bool]:
    """In which file the pictures lie that a worker sees, and whether it could change them."""
    import ray

    images = ray.get(shared[0]).data.images
    place = images.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(word, 16) for word in line.split()[0].split("-"))
        if begin <= place < end:
            return line.split(maxsplit=5)[-1], images.flags.writeable
    raise AssertionError


def test_data_reach_each_machine_once_and_all_its_trials_read_the_same_memory(ray_cluster: Any) -> None:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    data = colored_squares("binary")
    vars(data)["images"] = np.tile(data.images, (COPIES, 1, 1, 1))
    before = bytes_stored(ray_cluster)
    work: Any = SharedWork(data=data, splits=(), train=None, folder=Path(), needs=Needs(cpus=1, gpus=0))
    shared = ray.put(work)
    look = ray.remote(num_cpus=0)(mapped_as)
    nodes = [node.node_id for node in ray_cluster.list_all_nodes()]
    places = [NodeAffinitySchedulingStrategy(node, soft=False) for node in nodes for _ in range(3)]
    seen = ray.get([look.options(scheduling_strategy=place).remote([shared]) for place in places])
    assert [(where.startswith("/dev/shm"), writeable) for where, writeable in seen] == [(True, False)] * 6
    grown = [after - then for after, then in zip(bytes_stored(ray_cluster), before, strict=True)]
    size = data.images.nbytes
    assert all(size <= bytes_there < 1.5 * size for bytes_there in grown), (size, grown)
