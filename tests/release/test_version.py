"""The version of a build follows git's tags; without them it is what was said, or the fallback."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PATH = ROOT / "kernels/hatch_version.py"


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that hatchling evaluates."""
    monkeypatch.delenv("DUCHENNE_VERSION", raising=False)
    spec = importlib.util.spec_from_file_location("hatch_version", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def git(root: Path, *words: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *words], cwd=root, check=True, capture_output=True)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with one commit."""
    root = tmp_path / "tree"
    root.mkdir()
    git(root, "init", "--quiet")
    (root / "file").write_text("1")
    git(root, "add", "file")
    git(root, "commit", "--quiet", "--message", "one")
    return root


def test_a_tag_is_the_version_and_what_follows_comes_before_the_next(source: ModuleType, tree: Path) -> None:
    assert source.version(tree) == source.FALLBACK
    git(tree, "tag", "v1.2.3")
    assert source.version(tree) == "1.2.3"
    (tree / "file").write_text("2")
    assert source.version(tree) == "1.2.4.dev0"
    git(tree, "commit", "--quiet", "--all", "--message", "two")
    assert source.version(tree) == "1.2.4.dev1"
    git(tree, "tag", "v1.2.4rc1")
    git(tree, "tag", "another")
    assert source.version(tree) == "1.2.4.dev1"
    git(tree, "tag", "--annotate", "--message", "ten", "v1.10.0")
    assert source.version(tree) == "1.10.0"


def test_a_shallow_clone_an_archive_and_a_folder_in_anothers_repository_fall_back(
    source: ModuleType, tree: Path, tmp_path: Path
) -> None:
    git(tree, "tag", "v1.2.3")
    git(tree, "commit", "--quiet", "--allow-empty", "--message", "two")
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--depth", "1", "--no-tags", f"file://{tree}", str(clone))
    inside = tree / "vendored"
    inside.mkdir()
    assert {source.version(root) for root in (clone, inside, tmp_path)} == {source.FALLBACK}


def test_what_is_said_wins(source: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tree, "tag", "v1.2.3")
    monkeypatch.setenv("DUCHENNE_VERSION", "v2.0.0")
    assert source.version(tree) == "2.0.0"
    monkeypatch.setenv("DUCHENNE_VERSION", "")
    assert source.version(tree) == "1.2.3"


def test_a_version_can_be_an_images_tag_and_a_label_of_kubernetes(source: ModuleType) -> None:
    for version in (source.FALLBACK, source.version()):
        assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", version)


def test_an_image_is_told_its_version(source: ModuleType) -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^ARG VERSION=(.*)$", text, re.MULTILINE) == [source.FALLBACK]
    assert "DUCHENNE_VERSION=${VERSION} /opt/build/bin/pip wheel" in text
    build, final = text.split("AS build")[1].split("\nFROM ")
    assert "\nARG VERSION\n" in build
    assert "\nARG VERSION\n" in final
