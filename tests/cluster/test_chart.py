"""The chart, through Helm's own engine: renders, lints, and says what each value is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest
import typer.core
import yaml
from fastapi.testclient import TestClient

from duchenne.cli.main import app
from duchenne.records import open_home
from duchenne.server.app import create_app
from duchenne.server.settings import Settings

CHART = Path(__file__).parents[2] / "helm/duchenne"
Render = Callable[[dict[str, Any]], list[dict[str, Any]]]


def names(items: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(item["kind"], item["metadata"]["name"]) for item in items}


def leaves(values: Any, path: str = "") -> Iterator[str]:
    """Paths of values, list items as `[]`, down to what the README explains as one."""
    if isinstance(values, dict) and values and not path.endswith(("quotas", "nodeLabels", "resources", "annotations")):
        for key, value in values.items():
            yield from leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(values, list) and values and isinstance(values[0], dict):
        yield path
        yield from leaves(values[0], f"{path}[]")
    else:
        yield path


def test_it_lints_strictly(chart_values: dict[str, Any]) -> None:
    report = helm_python.lint(str(CHART), chart_values, strict=True, kube_version="v1.34.0")
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


def test_the_readme_explains_every_value_and_no_other() -> None:
    explained = re.findall(r"^\| `([^`]+)` \|", (CHART / "README.md").read_text(), re.MULTILINE)
    assert sorted(explained) == sorted(leaves(yaml.safe_load((CHART / "values.yaml").read_text())))


def test_the_schema_knows_every_value_and_refuses_the_rest() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def check(part: dict[str, Any]) -> None:
        if "properties" in part:
            assert part["additionalProperties"] is False
            for inner in part["properties"].values():
                check(inner)
        if "items" in part:
            check(part["items"])

    check(schema)
    assert set(schema["properties"]) - {"global"} == set(yaml.safe_load((CHART / "values.yaml").read_text()))


@pytest.mark.parametrize(
    "values",
    [
        {"sever": {"enabled": True}},
        {"server": {"enabled": "yes"}},
        {"queues": {"teams": ["Faces"]}},
        {"queues": {"teams": []}},
        {"queues": {"flavors": [{"name": "a", "nodeLabels": {}, "quotas": {"cpu": -1}}]}},
        {"network": {"databaseCidrs": ["everywhere"]}},
        {"server": {"port": 0}},
        {"server": {"ingress": {"host": "Example.org"}}},
        {"server": {"trustedProxies": ["*"]}},
        {"server": {"trustedProxies": ["0.0.0.0/0"]}},
        {"server": {"oidc": {"issuer": "http://login.example.org"}}},
        {"server": {"autoscaling": {"cpuPercent": 101}}},
        {"postgresql": {"storage": "much"}},
        {"postgresql": {"password": "in the open"}},
    ],
)
def test_a_wrong_value_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(helm_python.HelmError):
        helm_python.Chart.load(str(CHART)).validate_schema(values)


def test_the_server_needs_an_image(chart: Render) -> None:
    with pytest.raises(helm_python.HelmError, match=r"server\.image: name the image"):
        chart({"server": {"enabled": True}})


@pytest.mark.parametrize(
    ("ingress", "message"),
    [
        ({"host": "a.example.org"}, "tlsSecret: name the Secret of the certificate"),
        ({"tlsSecret": "certificate"}, "host: name the host"),
    ],
)
def test_an_ingress_needs_a_host_and_its_certificate(chart: Render, ingress: dict[str, Any], message: str) -> None:
    with pytest.raises(helm_python.HelmError, match=message):
        chart({"server": {"enabled": True, "image": "d:1", "ingress": {"enabled": True, **ingress}}})


def test_the_server_is_off_until_it_is_asked_for(chart: Render) -> None:
    assert {"Deployment", "StatefulSet", "Job", "Ingress"}.isdisjoint(kind for kind, _ in names(chart({})))
    on = names(chart({"server": {"enabled": True, "image": "duchenne:0.1.0"}}))
    assert {("Deployment", "duchenne-server"), ("Service", "duchenne-server"), ("NetworkPolicy", "server")} <= on
    assert ("Job", "duchenne-migrations") in on


def test_the_pods_run_verbs_that_there_are(chart: Render) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    items = chart({"server": {"enabled": True, "image": "d:1", "port": 8123}})
    for kind in ("Deployment", "Job"):
        (item,) = [item for item in items if item["kind"] == kind]
        (container,) = item["spec"]["template"]["spec"]["containers"]
        verb, *options = container["args"]
        known = {name for parameter in group.commands[verb].params for name in parameter.opts}
        assert {option for option in options if option.startswith("--")} <= known
        if kind == "Deployment":
            assert options[options.index("--port") + 1] == "8123"
            assert container["ports"][0]["containerPort"] == 8123


def test_the_probes_ask_what_the_server_answers(chart: Render, tmp_path: Path) -> None:
    items = chart({"server": {"enabled": True, "image": "d:1"}})
    (deployment,) = [item for item in items if item["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    probes = [container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")]
    assert set(probes) == {"/healthz", "/readyz"}
    variables = {item["name"] for item in container["env"] if item["name"].startswith("DUCHENNE_SERVER_")}
    assert {name.removeprefix("DUCHENNE_SERVER_").lower() for name in variables} <= set(Settings.model_fields)
    settings = Settings.from_environment(tmp_path, dict.fromkeys(variables, "0123456789abcdef"))
    with open_home(tmp_path) as store, TestClient(create_app(store, settings)) as client:
        assert {path: client.get(path).status_code for path in probes} == dict.fromkeys(probes, 200)


def test_the_server_believes_the_proxies_that_the_values_name(chart: Render, tmp_path: Path) -> None:
    def believed(**values: Any) -> tuple[str, ...]:
        items = chart({"server": {"enabled": True, "image": "d:1", **values}})
        (deployment,) = [item for item in items if item["kind"] == "Deployment"]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        return Settings.from_environment(
            tmp_path, {item["name"]: item["value"] for item in container["env"] if "value" in item}
        ).trusted_proxies

    assert believed() == ("127.0.0.1", "::1")
    networks = ("10.42.0.0/16", "fd00:42::/56", "192.0.2.7")
    assert believed(trustedProxies=list(networks)) == networks


def test_pods_of_the_server_scale_by_load_or_stay_as_many_as_said(chart: Render) -> None:
    def replicas(**more: Any) -> tuple[int | None, bool]:
        items = chart({"server": {"enabled": True, "image": "d:1", "replicas": 3, **more}})
        (deployment,) = [item for item in items if item["kind"] == "Deployment"]
        scaler = [item for item in items if item["kind"] == "HorizontalPodAutoscaler"]
        return deployment["spec"].get("replicas"), bool(scaler)

    assert replicas() == (3, False)
    assert replicas(autoscaling={"enabled": True}) == (None, True)


def test_the_migration_runs_as_a_hook_and_no_request_reaches_it(chart: Render) -> None:
    items = chart({"server": {"enabled": True, "image": "d:1"}})
    by_kind = {(item["kind"], item["metadata"]["name"]): item for item in items}
    job = by_kind["Job", "duchenne-migrations"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "post-install,pre-upgrade"
    labels = job["spec"]["template"]["metadata"]["labels"]
    selector = by_kind["Service", "duchenne-server"]["spec"]["selector"]
    assert not selector.items() <= labels.items()
    policy = by_kind["NetworkPolicy", "migration"]["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    assert "ingress" not in policy


def test_the_trial_database_is_reached_by_those_who_need_it(chart: Render) -> None:
    items = chart({"server": {"enabled": True, "image": "d:1"}, "postgresql": {"enabled": True}})
    by_kind = {(item["kind"], item["metadata"]["name"]): item for item in items}
    template = by_kind["StatefulSet", "duchenne-postgresql"]["spec"]["template"]
    (rule,) = by_kind["NetworkPolicy", "database"]["spec"]["ingress"]
    sources = [source["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for source in rule["from"]]
    assert sources == ["sweep", "server", "migration"]
    for policy in ("ray-nodes", "server", "migration"):
        targets = [to for rule in by_kind["NetworkPolicy", policy]["spec"]["egress"] for to in rule.get("to", [])]
        assert {"podSelector": {"matchLabels": template["metadata"]["labels"]}} in targets


def test_the_chart_and_the_plain_manifests_make_the_same_server(
    chart: Render, kustomize: Callable[[str], list[dict[str, Any]]]
) -> None:
    plain = {(item["kind"], item["metadata"]["name"]): item for item in kustomize("server")}
    image = plain["Deployment", "duchenne-server"]["spec"]["template"]["spec"]["containers"][0]["image"]
    values = {"enabled": True, "image": image, "homeClaim": "duchenne-home", "migrations": {"enabled": False}}
    charted = {(item["kind"], item["metadata"]["name"]): item for item in chart({"server": values})}
    for key, item in plain.items():
        assert charted[key].get("spec") == item.get("spec"), key


def test_the_chart_and_the_plain_manifests_make_the_same_objects(
    chart: Render, kustomize: Callable[[str], list[dict[str, Any]]]
) -> None:
    def bare(item: dict[str, Any]) -> dict[str, Any]:
        metadata = {key: value for key, value in item["metadata"].items() if key not in ("labels", "annotations")}
        return {**item, "metadata": metadata} | ({"description": ""} if "description" in item else {})

    def by_name(items: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
        return {(item["kind"], item["metadata"]["name"]): bare(item) for item in items}

    assert by_name(chart({})) == by_name(kustomize("base"))


def test_teams_have_queues_and_roles(chart: Render) -> None:
    items = chart({"queues": {"teams": ["faces", "video"]}, "rbac": {"submitters": ["a"], "viewers": []}})
    assert {("LocalQueue", "faces"), ("LocalQueue", "video"), ("RoleBinding", "duchenne-submitters")} <= names(items)
    assert ("RoleBinding", "duchenne-viewers") not in names(items)
