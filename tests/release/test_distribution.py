"""What `python -m build` makes holds all that runs, and works where the repository is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

pytest.importorskip("hatchling", reason="hatchling isn't installed")

ROOT = Path(__file__).parents[2]
SOURCES = {
    "platform/duchenne": "duchenne",
    "jobs/duchenne_jobs": "duchenne_jobs",
    "kernels/duchenne_kernels": "duchenne_kernels",
}
SWEEPS = {"jobs/sweeps": "duchenne/examples"}


def build(root: Path, target: str, folder: Path) -> Path:
    """One distribution of the tree at `root`, without a network and without compiled kernels."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    environment = {**os.environ, "CXX": "no-such-compiler"}
    subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True)
    (made,) = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, from the sdist alone, as `python -m build` makes it."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (tree,) = unpacked.iterdir()
    return build(tree, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def duchenne(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Runs a command line of the installed wheel in an empty folder; its stdout."""
    site, empty = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("empty")
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile", "--target", str(site)]
    subprocess.run([sys.executable, *install, str(wheel)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site), "DUCHENNE_HOME": str(empty / "home")}

    def run(*arguments: str) -> str:
        command = [sys.executable, str(site / "bin/duchenne"), *arguments]
        done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.site = site  # type: ignore[attr-defined]
    return run


def tracked(folder: str) -> set[str]:
    """Files of a folder that git would keep, as paths below it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("this tree has no git history to compare with")
    return {name.removeprefix(f"{folder}/") for name in done.stdout.splitlines() if (ROOT / name).is_file()}


def test_the_wheel_holds_every_file_of_the_packages_and_the_sweeps(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    for folder, package in {**SOURCES, **SWEEPS}.items():
        expected = {f"{package}/{name}" for name in tracked(folder)}
        assert expected
        assert expected <= names, sorted(expected - names)[:5]
    roots = {name.split("/")[0] for name in names}
    assert {root for root in roots if not root.endswith(".dist-info")} == set(SOURCES.values())


def test_both_have_one_version_and_the_licence_files(sdist: Path, wheel: Path) -> None:
    version = sdist.name.removeprefix("duchenne-").removesuffix(".tar.gz")
    assert wheel.name == f"duchenne-{version}-py3-none-any.whl"
    names = set(ZipFile(wheel).namelist())
    for file in ("LICENSE", "NOTICE"):
        assert f"duchenne-{version}.dist-info/licenses/{file}" in names


def test_the_sdist_can_be_tested_and_holds_nothing_built(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames()}
    assert names >= {"pyproject.toml", "Makefile", "requirements.lock", "docs/data.md", "tests/test_repository.py"}
    built = [name for name in names if name.startswith(("build/", ".venv/", "dist/")) or name.endswith((".so", ".pyc"))]
    assert built == []


def test_light_verbs_know_the_shipped_sweeps_by_name(duchenne: Callable[..., str], wheel: Path) -> None:
    assert duchenne("--version").strip() == wheel.name.split("-")[1]
    assert "leaderboard" in duchenne("--help")
    said = duchenne("validate", "quickstart")
    assert said.endswith("duchenne/examples/quickstart.yaml: ok\n")
    assert Path(said.split(":")[0]).is_relative_to(duchenne.site)  # type: ignore[attr-defined]
    plan = json.loads(duchenne("plan", "quickstart", "--json"))
    assert plan["trials"] == 8
    duchenne("validate", "thesis/table_2_1")


def test_records_dashboards_and_pages_come_along(duchenne: Callable[..., str], tmp_path: Path) -> None:
    duchenne("teams", "create", "faces")  # by every migration, on a new SQLite file
    assert json.loads(duchenne("teams", "list", "--json"))[0]["name"] == "faces"
    duchenne("grafana", "export", str(tmp_path))
    assert len(list((tmp_path / "dashboards").glob("*.json"))) == 4
    assert len(list((tmp_path / "rules").glob("*.yaml"))) == 1
