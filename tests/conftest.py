"""What tests of all rooms share: one thread for tiny tensors, a cache to throw away, one Ray cluster for all."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from search.resources import QUIET

# Ray reads some of these when it is imported, which test modules do before any fixture runs. With a token, its cluster
# lets in only who knows it.
os.environ |= QUIET | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives all tests that need the Ray cluster to the same one of several test processes."""
    for item in items:
        if "ray_cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("ray_cluster"))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tiny tensors are done before a second thread wakes up."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, so that no test sees what another kept."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("UNET_SEARCH_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A running cluster of two nodes with one CPU each, which this process has joined."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.CRITICAL)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
