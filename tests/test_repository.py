"""What the repository promises about itself: layout, install steps, README, image."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from duchenne.cli.main import app
from duchenne.spec import load_sweep, load_sweep_text

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PACKAGES = {"platform": "duchenne", "jobs": "duchenne_jobs", "kernels": "duchenne_kernels"}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def docker_instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) in order, continued lines joined."""
    joined = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
    lines = [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [(line.split(None, 1)[0], re.sub(r"\s+", " ", line.split(None, 1)[1])) for line in lines]


def make_dry_run(target: str) -> str:
    command = ["make", "--dry-run", "--always-make", target]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_source_roots_hold_one_package_each_and_are_none_themselves() -> None:
    for root, package in PACKAGES.items():
        assert not (ROOT / root / "__init__.py").exists(), f"{root}/__init__.py shadows or hides a package"
        assert (ROOT / root / package / "__init__.py").exists()
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_the_standard_librarys_platform_wins_from_the_root() -> None:
    code = "import platform, sys; sys.exit(not hasattr(platform, 'python_implementation'))"
    for flags in ([], ["-m", "pytest", "--version"]):
        command = [sys.executable, *flags] if flags else [sys.executable, "-c", code]
        assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize(
    "package",
    sorted((ROOT / "platform/duchenne").glob("*/__init__.py"))
    + sorted((ROOT / "jobs/duchenne_jobs").glob("*/__init__.py")),
    ids=lambda path: path.parent.name,
)
def test_every_room_says_what_belongs_in_it(package: Path) -> None:
    assert package.read_text().lstrip().startswith('"""')


def test_the_readmes_commands_are_make_targets() -> None:
    commands = [line.split("#")[0].split() for line in blocks(README, "sh")[0].splitlines()]
    assert [command[0] for command in commands] == ["make", "make"]
    for _, target in commands:
        assert make_dry_run(target)


def test_quickstart_installs_without_a_resolver_and_runs_the_sweep() -> None:
    steps = make_dry_run("quickstart")
    assert "pip install --quiet --no-deps -r requirements.lock" in steps
    assert "--no-deps --no-build-isolation -e ." in steps
    assert "duchenne run jobs/sweeps/quickstart.yaml" in steps


def test_the_readmes_sweep_is_valid() -> None:
    (text,) = blocks(README, "yaml")
    sweep = load_sweep_text(text, "README.md")
    assert sweep.metadata.name == "smoothing"


def test_the_readmes_verbs_exist() -> None:
    verbs = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    used = set(re.findall(r"^duchenne (\w+)", blocks(README, "sh")[1], re.MULTILINE))
    assert used
    assert used <= verbs


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{page} links to {target}"


@pytest.mark.parametrize(
    "path",
    [path for path in sorted((ROOT / "jobs/sweeps").rglob("*.yaml")) if path.name != "prices.yaml"],
    ids=lambda path: path.stem,
)
def test_the_shipped_sweeps_are_valid_and_name_their_schema(path: Path) -> None:
    load_sweep(path)
    first = path.read_text().splitlines()[0]
    schema = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert schema is not None
    assert (path.parent / schema.group(1)).resolve() == ROOT / "platform/duchenne/spec/sweep.schema.json"


def test_the_lock_pins_every_dependency_exactly() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] not in "# "]
    assert all(re.fullmatch(r"[a-z0-9-]+==\S+", line) for line in lines)
    locked = {line.split("==")[0] for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for requirement in [*project["dependencies"], *extras["dev"], *extras["server"]]:
        name = re.split(r"[\[>=<]", requirement)[0]
        assert name in locked, f"{requirement} is not in requirements.lock: make lock"


def test_the_image_installs_what_is_locked_and_resolves_nothing() -> None:
    steps = [arguments for instruction, arguments in docker_instructions() if instruction == "RUN"]
    installs = [part for step in steps for part in step.split("&&") if re.search(r"pip .*(install|wheel) ", part)]
    assert len(installs) == 4
    assert all("--no-deps" in part for part in installs)
    assert any("-r requirements-runtime.lock" in part for part in installs)
    locked = set((ROOT / "requirements.lock").read_text().splitlines())
    runtime = (ROOT / "requirements-runtime.lock").read_text().splitlines()
    assert {line for line in runtime if not line.startswith("#")} < locked
    copied = " ".join(arguments for instruction, arguments in docker_instructions() if instruction == "COPY")
    for needed in ("requirements.lock", "pyproject.toml", "README.md", "LICENSE", *PACKAGES):
        assert needed in copied
        assert (ROOT / needed).exists()


def test_the_image_runs_as_a_user_without_a_compiler_and_says_where_it_is_from() -> None:
    instructions = docker_instructions()
    last_stage = [index for index, (instruction, _) in enumerate(instructions) if instruction == "FROM"][-1]
    final = instructions[last_stage:]
    assert [arguments for instruction, arguments in final if instruction == "USER"] == ["10001"]
    assert any("org.opencontainers.image.revision" in arguments for name, arguments in final if name == "LABEL")
    assert any(instruction == "HEALTHCHECK" for instruction, _ in final)
    assert not any("apt-get" in arguments for instruction, arguments in final if instruction == "RUN")
    assert not any(instruction == "ADD" for instruction, _ in instructions)


def test_ci_lints_tests_and_runs_the_quickstart() -> None:
    script = (ROOT / ".ci/run").read_text()
    for command in ("make lint", "make test-all", "make quickstart"):
        assert command in script
    assert subprocess.run(["bash", "-n", str(ROOT / ".ci/run")], check=False).returncode == 0


def test_examples_of_the_search_page_name_real_fields() -> None:
    text = (ROOT / "docs/search.md").read_text()
    schema = (ROOT / "platform/duchenne/spec/sweep.schema.json").read_text()
    for field in re.findall(r"`(?:search|folds)\.(\w+)", text):
        assert f'"{field}"' in schema


def test_wheel_metadata_names_the_three_packages_and_the_sweeps() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["packages"] == [f"{root}/{package}" for root, package in PACKAGES.items()]
    for source in build["targets"]["wheel"]["force-include"]:
        assert (ROOT / source).exists()
    assert yaml.safe_load((ROOT / "jobs/sweeps/quickstart.yaml").read_text())["kind"] == "Sweep"
