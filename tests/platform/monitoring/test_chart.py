"""What the chart ships for Prometheus' operator and Grafana: off by default, closed to all but Prometheus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from duchenne.clusters.file import load_clusters_text
from duchenne.clusters.kubernetes import manifests
from duchenne.monitoring.dashboards import dashboards
from duchenne.monitoring.rules import rules
from duchenne.spec import load_sweep_text

CHART = Path(__file__).parents[3] / "helm/duchenne"
ON = {"enabled": True, "dashboards": True, "labels": {"release": "prometheus"}, "port": 9999, "interval": "15s"}
SERVER = {"enabled": True, "image": "duchenne:0.1.0"}


def rendered(**values: Any) -> dict[tuple[str, str], dict[str, Any]]:
    texts = helm_python.Chart.load(str(CHART)).render(values, name="duchenne", namespace="duchenne")
    made = [text for path, text in texts.items() if path.endswith(".yaml")]
    items = [item for text in made for item in yaml.safe_load_all(text) if item]
    return {(item["kind"], item["metadata"]["name"]): item for item in items}


def test_nothing_of_it_is_made_unless_it_is_asked_for() -> None:
    kinds = {kind for kind, _ in rendered(server=SERVER)}
    assert not kinds & {"ServiceMonitor", "PodMonitor", "PrometheusRule", "ConfigMap"}
    assert {name for kind, name in rendered(monitoring={"dashboards": True}) if kind == "ConfigMap"} == {
        f"{uid}-dashboard" for uid in dashboards()
    }


def test_every_object_of_it_is_there_and_the_built_in_ones_are_valid() -> None:
    items = rendered(monitoring=ON, server=SERVER)
    added = {key: item for key, item in items.items() if key not in rendered(server=SERVER)}
    assert set(added) == {
        ("Service", "duchenne-server-metrics"),
        ("ServiceMonitor", "duchenne-server"),
        ("PodMonitor", "duchenne-drivers"),
        ("PrometheusRule", "duchenne"),
        ("NetworkPolicy", "metrics-from-prometheus"),
        *(("ConfigMap", f"{uid}-dashboard") for uid in dashboards()),
    }
    for (kind, _), item in added.items():
        if item["apiVersion"] in ("v1", "networking.k8s.io/v1"):
            kubernetes_validate.validate(item, "1.37", strict=True)
        else:
            assert (item["apiVersion"], item["metadata"]["labels"]["release"]) == (
                "monitoring.coreos.com/v1",
                "prometheus",
            ), kind
    report = helm_python.lint(str(CHART), {"monitoring": ON, "server": SERVER}, strict=True, kube_version="v1.34.0")
    assert report["errors"] == []


def test_rules_and_dashboards_arrive_as_they_are_written() -> None:
    items = rendered(monitoring=ON)
    assert items["PrometheusRule", "duchenne"]["spec"] == rules(), "their {{ $labels }} are Prometheus', not Helm's"
    for uid, dashboard in dashboards().items():
        config = items["ConfigMap", f"{uid}-dashboard"]
        assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert json.loads(config["data"][f"{uid}.json"]) == dashboard
    assert ("PrometheusRule", "duchenne") not in rendered(monitoring={**ON, "rules": False})


def test_monitors_find_the_ports_that_are_opened() -> None:
    items = rendered(monitoring=ON, server=SERVER)
    (container,) = items["Deployment", "duchenne-server"]["spec"]["template"]["spec"]["containers"]
    assert {"name": "metrics", "containerPort": 9999} in container["ports"]
    variables = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert (variables["DUCHENNE_METRICS_PORT"], variables["DUCHENNE_METRICS_HOST"]) == ("9999", "0.0.0.0")  # noqa: S104
    service, monitor = items["Service", "duchenne-server-metrics"], items["ServiceMonitor", "duchenne-server"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    pods = items["Deployment", "duchenne-server"]["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= pods.items()
    assert monitor["spec"]["endpoints"] == [{"port": "metrics", "path": "/metrics", "interval": "15s"}]


def test_prometheus_alone_reaches_the_metrics() -> None:
    policy = rendered(monitoring={**ON, "namespace": "watch"})["NetworkPolicy", "metrics-from-prometheus"]["spec"]
    assert policy["ingress"] == [
        {
            "from": [
                {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "watch"}},
                    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}},
                }
            ],
            "ports": [{"protocol": "TCP", "port": 9999}],
        }
    ]


@pytest.mark.parametrize(
    "values", [{"port": 80}, {"interval": "soon"}, {"labels": {"a": 1}}, {"namespace": "A"}, {"token": "x"}]
)
def test_a_wrong_value_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(helm_python.HelmError):
        helm_python.Chart.load(str(CHART)).validate_schema({"monitoring": values})


def test_a_head_is_scraped_and_tells_webhooks_where_the_clusters_file_says_so() -> None:
    sweep = load_sweep_text(
        "apiVersion: duchenne/v1\nkind: Sweep\nmetadata: {name: s}\n"
        "data: {uri: 's3://b/d'}\nbudget: {wall_seconds: 60}\n"
    )
    plain, told = (
        load_clusters_text(f"clusters: {{c: {{type: kubernetes, storage: 's3://b/h'{more}}}}}").kubernetes("c")
        for more in ("", ", metrics_port: 9464, secrets: {webhooks: hooks}")
    )

    def heads(cluster: Any) -> list[dict[str, Any]]:
        job = next(item for item in manifests(sweep, cluster) if item["kind"] == "RayJob")
        template = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
        return [container for container in template["spec"]["containers"] if container["name"] == "ray-head"]

    (without,), (head,) = heads(plain), heads(told)
    assert "metrics" not in {port["name"] for port in without["ports"]}
    assert "envFrom" not in without
    assert {"name": "metrics", "containerPort": 9464} in head["ports"]
    assert {"name": "DUCHENNE_METRICS_PORT", "value": "9464"} in head["env"]
    assert head["envFrom"] == [{"secretRef": {"name": "hooks"}}]
