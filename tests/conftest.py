"""What tests of all rooms may share: one Ray cluster for the whole session, of two nodes with one CPU each."""

import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest

from search.resources import QUIET

# Ray reads some of these when it is imported, which test modules do before any fixture runs. With a token, its cluster
# lets in only who knows it.
os.environ |= QUIET | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[Any]:
    """A running cluster, which this process has joined."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.CRITICAL)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
