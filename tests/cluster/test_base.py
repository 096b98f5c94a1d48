"""The base manifests: complete, known to the client's own models, and closed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

BASE = Path(__file__).parents[2] / "k8s/base"
MODELS = {
    "Namespace": client.V1Namespace,
    "ServiceAccount": client.V1ServiceAccount,
    "NetworkPolicy": client.V1NetworkPolicy,
}


def objects() -> list[dict[str, Any]]:
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    assert set(kustomization["resources"]) == {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"}
    return [item for name in kustomization["resources"] for item in yaml.safe_load_all((BASE / name).read_text())]


def unknown_fields(value: Any, kind: str, path: str = "") -> list[str]:
    """Fields of a manifest that the Kubernetes client's model of that kind does not have."""
    model = getattr(client, kind, None)
    if not isinstance(value, dict) or model is None:
        return []
    names = {wire: python for python, wire in model.attribute_map.items()}
    wrong = [f"{path}.{key}" for key in value if key not in names]
    for key, item in value.items():
        inner = model.openapi_types.get(names.get(key, ""), "").removeprefix("list[").removesuffix("]")
        for part in item if isinstance(item, list) else [item]:
            wrong += unknown_fields(part, inner, f"{path}.{key}")
    return wrong


@pytest.mark.parametrize("item", objects(), ids=lambda item: f"{item['kind']}-{item['metadata']['name']}")
def test_every_field_is_one_of_the_api(item: dict[str, Any]) -> None:
    assert item["kind"] in MODELS
    assert unknown_fields(item, MODELS[item["kind"]].__name__) == []


def test_a_misspelt_field_would_be_found() -> None:
    broken = {"metadata": {"name": "x"}, "spec": {"podSelektor": {}}}
    assert unknown_fields(broken, "V1NetworkPolicy") == [".spec.podSelektor"]


def test_the_network_is_closed_by_default() -> None:
    policies = [item for item in objects() if item["kind"] == "NetworkPolicy"]
    (closed,) = [policy for policy in policies if policy["spec"]["podSelector"] == {}]
    assert closed["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in policies:
        for rule in policy["spec"].get("ingress", []):
            assert rule["from"], "an ingress rule without `from` lets everyone in"
            assert all("ipBlock" not in source and "namespaceSelector" not in source for source in rule["from"])


def test_pods_carry_no_token_of_the_api_server() -> None:
    (account,) = [item for item in objects() if item["kind"] == "ServiceAccount"]
    assert account["automountServiceAccountToken"] is False
