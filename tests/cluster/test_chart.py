"""The chart, through Helm's own engine: renders, lints, and says what each value is."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

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


@pytest.mark.parametrize("enabled", [False, True])
def test_it_lints_strictly(enabled: bool) -> None:
    values = {"server": {"enabled": enabled, "image": "duchenne:0.1.0"}}
    report = helm_python.lint(str(CHART), values, strict=True, kube_version="v1.34.0")
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
    ],
)
def test_a_wrong_value_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(helm_python.HelmError):
        helm_python.Chart.load(str(CHART)).validate_schema(values)


def test_the_server_needs_an_image(chart: Render) -> None:
    with pytest.raises(helm_python.HelmError, match=r"server\.image: name the image"):
        chart({"server": {"enabled": True}})


def test_the_server_is_off_until_it_is_asked_for(chart: Render) -> None:
    assert "Deployment" not in {kind for kind, _ in names(chart({}))}
    on = names(chart({"server": {"enabled": True, "image": "duchenne:0.1.0"}}))
    assert {("Deployment", "duchenne-server"), ("Service", "duchenne-server"), ("NetworkPolicy", "server")} <= on


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
