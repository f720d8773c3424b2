"""The files that make a cluster: valid for who reads them, open to nobody, and with commands that we know."""

import importlib
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray.autoscaler
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.node_provider import NodeProvider
from ray.scripts.symmetric_run import symmetric_run

from tests.search.commands import PROJECT, run_here

LAUNCHED = ("cluster.yaml", "docs/clusters/aws.yaml", "docs/clusters/gcp.yaml")
PAGES = ("cluster.yaml", "docs/cluster.md", "docs/clusters/slurm.sh", "docs/clusters/kuberay.yaml")


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
    commands = re.findall(r"(?:python -m search\.run |SEARCH=')(--[^#|`'\n]*)", text)
    assert commands
    for command in commands:
        assert run_here(*shlex.split(command), "--print-config") == 0
        settings = yaml.safe_load(capsys.readouterr().out)
        assert settings["storage"] != "runs" or settings["data"] == "my-pictures", "results outlive a job"


@pytest.mark.parametrize("name", ["docs/clusters/aws.yaml", "docs/clusters/gcp.yaml"])
def test_clusters_in_the_cloud_set_their_machines_up_as_our_own_and_grow_from_none(name: str) -> None:
    config, ours = config_in(name), config_in("cluster.yaml")
    for part in (
        "file_mounts",
        "rsync_exclude",
        "setup_commands",
        "head_start_ray_commands",
        "worker_start_ray_commands",
    ):
        # The newer autoscaler is turned off where it cannot start the machines of a list.
        expected = json.dumps(ours[part]).replace("RAY_enable_autoscaler_v2=0 ", "")
        assert config[part] == json.loads(expected.replace(".[cluster]", f".[cluster,{config['provider']['type']}]"))
    head, gpu = config["available_node_types"]["head"], config["available_node_types"]["gpu"]
    assert head["resources"] == {"CPU": 0}, "nothing trains there"
    assert (gpu["min_workers"], gpu["max_workers"], gpu["resources"]["GPU"]) == (0, config["max_workers"], 1)
    assert 0 < config["idle_timeout_minutes"] <= 30
    assert any(word in json.dumps(gpu["node_config"]) for word in ('"MarketType": "spot"', '"preemptible": true'))
    assert not any(word in json.dumps(head["node_config"]) for word in ("spot", "preemptible"))


@pytest.mark.drill
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["aws", "gcp"])
def test_what_is_set_up_can_start_machines_there(name: str) -> None:
    provider = importlib.import_module(f"ray.autoscaler._private.{name}.node_provider")
    assert issubclass(getattr(provider, f"{name.upper()}NodeProvider"), NodeProvider)


def test_the_job_on_kubernetes_is_one_for_kuberay(capsys: pytest.CaptureFixture[str]) -> None:
    job = config_in("docs/clusters/kuberay.yaml")
    assert (job["apiVersion"], job["kind"], set(job)) == (
        "ray.io/v1",
        "RayJob",
        {"apiVersion", "kind", "metadata", "spec"},
    )
    spec = job["spec"]
    python, option, module, *words = shlex.split(spec["entrypoint"])
    assert (python, option, module) == ("python", "-m", "search.run")
    assert run_here(*words, "--print-config") == 0
    assert yaml.safe_load(capsys.readouterr().out)["storage"] == "/shared/runs"
    cluster = spec["rayClusterSpec"]
    assert f"ray=={cluster['rayVersion']}\n" in (PROJECT / "constraints.txt").read_text()
    assert cluster["authOptions"] == {"mode": "token"}
    [workers] = cluster["workerGroupSpecs"]
    assert workers["minReplicas"] == workers["replicas"] == workers["maxReplicas"], "nobody asks for more of them"
    for group, name in ((cluster["headGroupSpec"], "ray-head"), (workers, "ray-worker")):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        [container] = group["template"]["spec"]["containers"]
        assert container["name"] == name
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
        volumes = {volume["name"] for volume in group["template"]["spec"]["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert "nvidia.com/gpu" not in json.dumps(cluster["headGroupSpec"])


def test_the_script_for_slurm_gives_ray_what_it_takes() -> None:
    script = PROJECT / "docs/clusters/slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    text = script.read_text()
    assert "\n#SBATCH --exclusive\n" in text, "symmetric-run stops every Ray that it finds"
    assert "\nexport " in text
    assert "RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0\n" in text
    command = text.replace("\\\n", " ").partition("srun ray ")[2]
    name, *options = shlex.split(command.partition(" -- ")[0].replace("$SLURM_JOB_NUM_NODES", "3"))
    assert name == symmetric_run.name.replace("_", "-")
    parsed = symmetric_run.make_context(name, options).params
    assert parsed == {"address": "$head:6379", "min_nodes": 3, "ray_args_and_entrypoint": ()}
