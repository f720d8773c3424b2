"""The files that make a cluster: valid for who reads them, open to nobody, and with commands that we know."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.search.commands import PROJECT, run_here

LAUNCHED = ("cluster.yaml",)
PAGES = ("cluster.yaml",)


def config_in(name: str) -> dict[str, Any]:
    """The file for `ray up` of this name."""
    config: dict[str, Any] = yaml.safe_load((PROJECT / name).read_text())
    return config


def starts_in(config: dict[str, Any]) -> dict[str, str]:
    """The command that starts Ray on the head, and on the workers."""
    return {
        kind: next(one for one in config[f"{kind}_start_ray_commands"] if "ray start" in one)
        for kind in ("head", "worker")
    }


@pytest.mark.parametrize("name", LAUNCHED)
def test_a_cluster_file_is_valid_by_rays_own_rules(name: str) -> None:
    schema = json.loads((Path(ray.autoscaler.__file__).parent / "ray-schema.json").read_text())
    jsonschema.validate(config_in(name), schema)
    validate_config(prepare_config(config_in(name)))


def test_all_machines_of_your_own_are_used() -> None:
    config = config_in("cluster.yaml")
    complete = prepare_config(config)
    workers = complete["available_node_types"][complete["head_node_type"]]["min_workers"]
    assert workers == complete["max_workers"] == len(config["provider"]["worker_ips"])


@pytest.mark.parametrize("name", LAUNCHED)
def test_a_cluster_opens_nothing_to_strangers(name: str) -> None:
    config = config_in(name)
    starts = starts_in(config)
    assert all("RAY_AUTH_MODE=token" in one and "RAY_USAGE_STATS_ENABLED=0" in one for one in starts.values())
    assert "--dashboard-host=127.0.0.1" in starts["head"]
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


@pytest.mark.parametrize("name", LAUNCHED)
def test_what_is_copied_to_the_machines_is_there(name: str) -> None:
    copied = set(config_in(name)["file_mounts"].values()) - {"~/.ray/auth_token"}
    assert {"setup.cfg", "constraints.txt", "data", "model", "search"} <= copied
    assert [one for one in copied if not (PROJECT / one).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_that_search_can_be_read(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (PROJECT / page).read_text().replace("\\\n", " ")
    commands = re.findall(r"python3? -m search\.run (--[^#\n]*)", text)
    assert commands
    for command in commands:
        assert run_here(*shlex.split(command), "--print-config") == 0
        assert yaml.safe_load(capsys.readouterr().out)["storage"] != "runs"
