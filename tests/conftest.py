"""What tests of all rooms share: one thread, a cache to throw away, retinas drawn once, a Ray cluster."""

import logging
import os
import signal
from collections.abc import Iterator
from functools import cache as cache_calls
from pathlib import Path
from typing import Any

import pytest
import torch

from data import synthetic
from search.resources import QUIET

# Ray reads some of these when it is imported, which test modules do before any fixture runs. With a token, its cluster
# lets in only who knows it.
os.environ |= QUIET | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Parts the tests that need a Ray cluster, module by module, among two of several test processes."""
    needy = [item for item in items if "ray_cluster" in getattr(item, "fixturenames", ())]
    modules = sorted({item.path.name for item in needy})
    for item in needy:
        item.add_marker(pytest.mark.xdist_group(f"ray_cluster_{modules.index(item.path.name) % 2}"))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Tiny tensors are done before a second thread wakes up."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def interrupts_heard() -> None:
    """What a shell starts in the background is deaf to Ctrl-C, which some tests press."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, so that no test sees what another kept."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("UNET_SEARCH_CACHE", str(folder))
    return folder


@pytest.fixture(autouse=True, scope="session")
def retinas_drawn_once() -> Iterator[None]:
    """Draws no retina a second time; that each is drawn the same again, another process shows (test_synthetic.py)."""

    @cache_calls
    def draw(**asked: Any) -> synthetic.Retina:
        retina = draw_retina(**asked)
        for plane in vars(retina).values():
            plane.flags.writeable = False
        return retina

    draw_retina = synthetic.draw_retina
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "draw_retina", draw)
        yield


@pytest.fixture
def cache_of_public_sets(
    cache: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A cache folder that all tests of public data sets share, also with other test processes: they are large."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "public_sets"
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
