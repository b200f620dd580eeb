"""The deployments on Ray below deploy/ray, as far as can be told without Docker and Kubernetes."""

import json
import re
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import dagster as dg
import jsonschema
import pytest
import yaml
from dagster._config import process_config

from bts_assets.settings import Settings

CHECKOUT = Path(__file__).parents[1]
RAY = CHECKOUT / "deploy" / "ray"


def loaded(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


OVERLAY = loaded(RAY / "compose.yml")
CLUSTER = loaded(RAY / "raycluster.yaml")
VALUES = loaded(RAY / "dagster-values.yaml")
GROUPS: list[dict[str, Any]] = [CLUSTER["spec"]["headGroupSpec"], *CLUSTER["spec"]["workerGroupSpecs"]]
#: What the API server accepts of a pod, unknown fields refused.
PODS = json.loads((Path(__file__).parent / "vendor" / "kubernetes-pod-1.37.json").read_text(encoding="utf-8"))


def test_overlay_follows_the_compose_specification_and_opens_nothing() -> None:
    pytest.importorskip("check_jsonschema", reason="check-jsonschema, which carries the specification, is not there")
    specification = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(specification.read_text(encoding="utf-8"))
    validator = jsonschema.validators.validator_for(schema)(schema)
    assert [error.message for error in validator.iter_errors(OVERLAY)] == []
    below = loaded(CHECKOUT / "docker-compose.yml")["services"]
    for name, service in OVERLAY["services"].items():
        assert "ports" not in service
        assert (name in below) == (name == "code")
        assert name == "code" or (service["cap_drop"], service["networks"]) == (["ALL"], ["inner"])


def test_all_run_one_image_with_ray_as_the_extra_has_it() -> None:
    assert "--require-hashes --no-deps -r /opt/bts/ray.lock" in (RAY / "Dockerfile").read_text(encoding="utf-8")
    pinned = re.search(r"^ray\[default\]==(\S+)", (RAY / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE)
    assert pinned is not None
    assert pinned[1] == CLUSTER["spec"]["rayVersion"]
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    images = {container["image"] for group in GROUPS for container in group["template"]["spec"]["containers"]}
    assert images == {f"{deployment['image']['repository']}:{deployment['image']['tag']}"}
    assert len({service["image"] for service in OVERLAY["services"].values()}) == 1


def amiss(pod: dict[str, Any]) -> list[str]:
    """What is wrong with the template of a pod; that its containers mount what is not there, too."""
    validator = jsonschema.Draft202012Validator({"$ref": "#/$defs/io.k8s.api.core.v1.PodTemplateSpec", **PODS})
    wrong = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(pod)]
    there = {volume["name"] for volume in pod["spec"].get("volumes", [])}
    mounted = {m["name"] for container in pod["spec"]["containers"] for m in container.get("volumeMounts", [])}
    return wrong + [f"no volume {name}" for name in sorted(mounted - there)]


@pytest.mark.parametrize("group", GROUPS, ids=["head", "workers"])
def test_pods_of_the_cluster_follow_kubernetes(group: dict[str, Any]) -> None:
    assert amiss(group["template"]) == []


def test_pods_of_the_night_follow_kubernetes() -> None:
    """The chart's own fields are not checked here; these it hands on to the pod."""
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    container = {"name": "night", "envFrom": [{"secretRef": secret} for secret in deployment["envSecrets"]]}
    container |= {name: deployment[name] for name in ("env", "volumeMounts", "resources")}
    pod = {name: deployment[name] for name in ("volumes", "nodeSelector")} | {"containers": [container]}
    assert amiss({"spec": pod}) == []


def test_a_pod_that_kubernetes_would_refuse_is_told() -> None:
    (container,) = GROUPS[1]["template"]["spec"]["containers"]
    broken = container | {"imgae": "", "env": [{"name": "A", "value": 1}], "volumeMounts": [{"name": "no"}]}
    told = "\n".join(amiss({"spec": {"containers": [broken]}}))
    for expected in (
        "'imgae' was unexpected",
        "1 is not of type 'string'",
        "'mountPath' is a required",
        "no volume no",
    ):
        assert expected in told


@pytest.mark.parametrize("group", GROUPS, ids=["head", "workers"])
def test_ray_has_the_options_that_its_machines_are_started_with(group: dict[str, Any]) -> None:
    scripts = pytest.importorskip("ray.scripts.scripts", reason="Ray, which make test installs, is not there")
    options = {option for parameter in scripts.start.params for option in parameter.opts}
    assert {f"--{name}" for name in group["rayStartParams"]} <= options
    # KubeRay hands them on as they are: a number or a truth value of YAML would be none of its strings.
    assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_night_and_workers_are_on_one_kind_of_processor() -> None:
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    (workers,) = CLUSTER["spec"]["workerGroupSpecs"]
    assert workers["template"]["spec"]["nodeSelector"] == deployment["nodeSelector"]


def test_night_finds_the_head() -> None:
    (deployment,) = VALUES["dagster-user-deployments"]["deployments"]
    environment = {one["name"]: one["value"] for one in deployment["env"]}
    # KubeRay names the service of a head after the cluster.
    assert environment["BTS_RAY_ADDRESS"] == f"ray://{CLUSTER['metadata']['name']}-head-svc:10001"
    assert OVERLAY["services"]["code"]["environment"]["BTS_RAY_ADDRESS"] == "ray://ray-head:10001"
    names = [name for name in environment if name.startswith("BTS_")]
    assert {name.removeprefix("BTS_").lower() for name in names} <= set(Settings.model_fields)


def test_fields_of_the_cluster_are_those_that_dagster_ray_declares() -> None:
    """Its RayClusterSpec names every field of KubeRay's, but not what is below one."""
    reason = "dagster-ray, which make test installs, is not there"
    configs = pytest.importorskip("dagster_ray.kuberay.configs", reason=reason)
    declared = {name.replace("_", "") for name in configs.RayClusterSpec.model_fields}
    assert {name.lower() for name in CLUSTER["spec"]} <= declared
    assert (CLUSTER["apiVersion"], CLUSTER["kind"]) == ("ray.io/v1", "RayCluster")


def test_launcher_takes_what_is_set_and_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """As dagster-ray itself reads it; tests/services/test_on_ray.py launches a night by it."""
    launcher = pytest.importorskip("dagster_ray", reason="dagster-ray, which make test installs, is not there")
    given = loaded(RAY / "launcher.yaml")["run_launcher"]
    assert (given["module"], given["class"]) == ("dagster_ray", launcher.RayRunLauncher.__name__)
    field = dg.Field(launcher.RayRunLauncher.config_type())
    monkeypatch.setenv(given["config"]["ray"]["address"]["env"], "http://head:8265")
    assert process_config(field.config_type, given["config"]).success
    assert not process_config(field.config_type, given["config"]["ray"]).success
    assert [name for name in given["config"]["ray"]["env_vars"] if not name.startswith("OMP_")] == []


def test_chart_is_of_the_version_of_dagster() -> None:
    assert f"--version {version('dagster')} " in (RAY / "dagster-values.yaml").read_text(encoding="utf-8")
