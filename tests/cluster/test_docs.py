"""The page on Kubernetes: its clusters file loads, and no field or verb is missing from it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from duchenne.cli.main import app
from duchenne.clusters.config import HeadSize, KubernetesCluster, NodePool, RayCluster, SecretNames
from duchenne.clusters.file import load_clusters_text

PAGE = (Path(__file__).parents[2] / "docs/kubernetes.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_its_clusters_file_is_valid() -> None:
    (text,) = blocks("yaml")
    clusters = load_clusters_text(text)
    assert clusters.kubernetes(None).claim == ("duchenne-home", "")


@pytest.mark.parametrize("model", [RayCluster, KubernetesCluster, NodePool, HeadSize, SecretNames])
def test_it_names_every_field(model: type) -> None:
    fields = set(model.model_fields) - {"type"}  # type: ignore[attr-defined]
    assert {field for field in fields if f"`{field}`" not in PAGE} == set()


def test_its_verbs_exist() -> None:
    verbs = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    used = {verb for block in blocks("sh") for verb in re.findall(r"^duchenne (\w+)", block, re.MULTILINE)}
    assert used == {"manifests", "submit", "watch", "logs", "stop"}
    assert used <= verbs
