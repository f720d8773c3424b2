"""A search on a cluster that is there already."""

from pathlib import Path
from typing import Any

import pytest

from search.leaderboard import read
from tests.search.commands import SMALL, start


def nodes_of_trials() -> dict[str, str]:
    """Where each worker that ran trials lived: id of the worker -> id of the node."""
    from ray._private.state import actors

    return {
        actor: facts["Address"]["NodeID"]
        for actor, facts in actors().items()
        if facts["ActorClassName"].endswith("ImplicitFunc")  # at times with the name of the function that makes it
    }


@pytest.mark.drill
def test_a_search_joins_a_cluster_and_uses_all_of_it(tmp_path: Path, ray_cluster: Any) -> None:
    before = nodes_of_trials()
    where = ("--storage", str(tmp_path), "--name", "mine", "--address", "auto")
    # With a RAY_ADDRESS "auto" is that one, whatever else runs on this machine.
    command = start(*where, "--num-trials", "3", "--max-epochs", "2", *SMALL, RAY_ADDRESS=ray_cluster.address)
    out, errors = command.communicate()
    assert (command.returncode, errors) == (0, "")
    assert out.splitlines()[0].endswith("; 2 trials at a time")
    assert read(tmp_path / "mine" / "leaderboard.csv")["status"].to_list() == ["completed"] * 3
    here = {actor: node for actor, node in nodes_of_trials().items() if actor not in before}
    assert set(here.values()) == {node.node_id for node in ray_cluster.list_all_nodes()}


def test_who_does_not_know_the_token_is_not_let_in(tmp_path: Path, ray_cluster: Any) -> None:
    where, tokens = ("--address", ray_cluster.address), {"another": "another" * 9, "none": ""}
    commands = [
        start(*where, "--storage", str(tmp_path / name / "runs"), RAY_AUTH_TOKEN=token, HOME="/nowhere")
        for name, token in tokens.items()
    ]
    for command in commands:
        _, errors = command.communicate()
        assert command.returncode == 2
        assert errors.startswith(f"error: address '{where[1]}': the cluster does not let us in; RAY_AUTH_MODE")
        assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
