"""The page on Kubernetes: its clusters file loads, and no field or verb is missing from it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.core
import yaml

from duchenne.cli.main import app
from duchenne.clusters.config import HeadSize, KubernetesCluster, NodePool, RayCluster, SecretNames
from duchenne.clusters.file import load_clusters_text

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "kubernetes.md").read_text()


def blocks(language: str) -> list[str]:
    pages = PAGE + (DOCS / "doctor.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", pages, re.MULTILINE | re.DOTALL)


def test_its_clusters_file_is_valid() -> None:
    (text,) = blocks("yaml")
    clusters = load_clusters_text(text)
    assert clusters.kubernetes(None).claim == ("duchenne-home", "")


@pytest.mark.parametrize("model", [RayCluster, KubernetesCluster, NodePool, HeadSize, SecretNames])
def test_it_names_every_field(model: type) -> None:
    fields = set(model.model_fields) - {"type"}  # type: ignore[attr-defined]
    assert {field for field in fields if f"`{field}`" not in PAGE} == set()


def commands() -> list[list[str]]:
    """The words of every `duchenne` command on the pages, without comments."""
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("duchenne ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def test_its_verbs_and_their_options_exist() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    for verb, *words in commands():
        known = {name for parameter in group.commands[verb].params for name in parameter.opts}
        assert {word for word in words if word.startswith("-")} <= known, verb
    shown = {verb for verb, *_ in commands()}
    assert {"manifests", "submit", "watch", "logs", "stop", "resume", "cost", "ls", "doctor"} <= shown


def test_the_claim_that_it_shows_is_the_one_of_its_clusters_file(faults: Callable[[dict[str, Any]], list[str]]) -> None:
    (text,) = re.findall(r"<<'YAML'\n(.*?)^YAML", PAGE, re.MULTILINE | re.DOTALL)
    claim = yaml.safe_load(text)
    assert faults(claim) == []
    assert claim["metadata"]["name"] == "duchenne-home"
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
