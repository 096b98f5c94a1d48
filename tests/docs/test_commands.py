"""Every command of the pages: typed in an empty home, or named below with the reason why it is not."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import typer.core

from duchenne.cli.main import app, call

ROOT = Path(__file__).parents[2]
PAGES = [
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "kernels/README.md"),
    *("helm/duchenne/README.md", "jobs/sweeps/thesis/README.md"),
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]

# What is not typed here, and why; a path is that of the test that runs it.
ELSEWHERE = {
    "make *": ".ci/run",
    ".ci/run": "it runs this test",
    "duchenne run *": "tests/end_to_end/test_sweep.py",
    "duchenne resume ID": "tests/end_to_end/test_sweep.py",
    "duchenne show quickstart-92a0": "tests/end_to_end/test_sweep.py",
    "duchenne cost quickstart-92a0": "tests/end_to_end/test_sweep.py",
    "duchenne leaderboard yeast": "tests/end_to_end/test_sweep.py",
    "duchenne compare *": "tests/end_to_end/test_sweep.py",
    "duchenne figures *": "tests/end_to_end/test_sweep.py",
    "duchenne results *": "tests/end_to_end/test_sweep.py",
    "duchenne predict *": "tests/platform/cli/test_predict.py",
    "duchenne export *": "tests/platform/cli/test_predict.py",
    "duchenne serve*": "tests/platform/server/test_serve.py",
    "duchenne grafana push *": "tests/platform/monitoring/test_grafana.py",
    "duchenne data ingest disfa SRC DST": "tests/jobs/data/test_ingest.py",
    "duchenne doctor --cluster prod": "tests/cluster/api/test_doctor.py",
    "duchenne doctor --data s3://*": "tests/platform/doctor/test_examine.py",
    "duchenne submit *": "tests/cluster/api/test_submit.py",
    "duchenne watch ID --cluster prod*": "tests/cluster/api/test_watching.py",
    "duchenne logs -f ID --cluster prod": "tests/cluster/api/ports/test_contract.py",
    "duchenne stop ID --cluster prod": "tests/cluster/api/ports/test_contract.py",
    "duchenne resume ID --cluster prod *": "tests/cluster/api/ports/test_contract.py",
    "duchenne cost ID --cluster prod": "tests/cluster/api/ports/test_contract.py",
    "duchenne ls --cluster prod --json": "tests/cluster/api/ports/test_contract.py",
    "kubectl apply -k *": "tests/cluster/test_kustomize.py",
    "kubectl apply -f -": "tests/cluster/test_docs.py",
    "kubectl *": "needs a cluster",
    "helm install duchenne helm/duchenne *": "tests/cluster/test_chart.py",
    "helm *": "needs a cluster and a network",
    "docker build *": "needs a container engine; its steps: tests/cluster/test_dockerfile.py",
    "docker push *": "needs a registry",
    "ray start *": "starts a daemon; tests/cluster/api/ports starts one of its own",
    "curl * 127.0.0.1:9464/metrics": "tests/platform/monitoring/test_driver.py",
    "curl * http://127.0.0.1:8080/api/v1/boards*": "needs a server that runs; tests/platform/server asks these routes",
    "pip install *": "needs the package on an index; tests/release/test_distribution.py installs the wheel",
    "python -m duchenne_kernels.build*": "tests/kernels/test_build.py",
    "python -m build": "needs the package index; tests/release/test_distribution.py does the same offline",
    "python -m pytest tests/platform/server/pages/test_browser.py *": "tests/platform/server/pages/test_browser.py",
    "export *": "sets variables",
}

# What makes a command quick, or puts what is there in the place of a placeholder.
SHORTER = {
    "docs/synth.md": {"--subjects 27": "--subjects 2", "--frames 100": "--frames 2"},
    "docs/simulation.md": {
        "--nodes 500 --trials 10000": "--nodes 5 --trials 4",
        "--nodes 50 ": "--nodes 50 --trials 4 ",
    },
    "docs/data.md": {
        "ingest yeast DST": "ingest yeast yeast",
        "ingest toy DST": "ingest toy toy",
        "URI": "toy",
        "FOLDER": ".",
        "--subject ID": "--subject row-0000",
    },
}


@dataclass(frozen=True)
class Command:
    """One command of a page.

    Attributes:
        words: as a shell splits it, without variables before it.
        variables: those that are set for it alone.
    """

    page: str
    words: tuple[str, ...]
    variables: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def reason(self) -> str | None:
        """Why it is not typed here."""
        return next((why for pattern, why in ELSEWHERE.items() if fnmatchcase(self.text, pattern)), None)


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def commands(page: str) -> Iterator[Command]:
    """Every command of a page's `sh` blocks, in order; what is fed to a command is none."""
    for block in blocks(page, "(?:sh|bash)"):
        typed = re.sub(r"<<'(\w+)'\n.*?^\1$", "", block, flags=re.MULTILINE | re.DOTALL).replace("\\\n", " ")
        for line in typed.splitlines():
            words = shlex.split(line, comments=True)
            words = words[:-1] if words[-1:] == ["&"] else words
            count = next((n for n, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), len(words))
            if words:
                yield Command(page, tuple(words[count:]), tuple(words[:count]))


COMMANDS = list(dict.fromkeys(command for page in PAGES for command in commands(page)))
TYPED = [page for page in PAGES if any(command.reason is None for command in commands(page))]


def test_there_are_commands_and_no_other_kind_of_block_holds_any() -> None:
    assert len(COMMANDS) > 60
    programs = "|".join(sorted({re.escape(command.words[0]) for command in COMMANDS}))
    for page in PAGES:
        fences = re.findall(r"^```(\w*)$", (ROOT / page).read_text(), re.MULTILINE)
        assert set(fences) <= {"", "sh", "yaml", "python", "text"}, page
        outside = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
        indented = re.findall(rf"^    (?:\w+=\S+ )*(?:{programs}) [^ ]+(?: [^ ].*| *#.*)?$", outside, re.MULTILINE)
        assert indented == [], f"{page}: put it into a ```sh block"


def test_each_reason_is_needed_and_each_test_that_it_names_is_there() -> None:
    for pattern, why in ELSEWHERE.items():
        assert any(fnmatchcase(command.text, pattern) for command in COMMANDS), f"no page has {pattern!r}"
        for path in re.findall(r"tests/[\w/.]+\w|\.ci/run", why):
            assert (ROOT / path).exists(), f"{pattern!r} is said to be run by {path}"


def is_of_duchenne(command: Command) -> bool:
    return command.words[0] == "duchenne"


@pytest.mark.parametrize(
    "command", [command for command in COMMANDS if is_of_duchenne(command)], ids=lambda command: command.text
)
def test_the_command_line_takes_it(command: Command) -> None:
    """By the parser of the verb itself: its arguments, options and their types."""
    verb: Any = typer.main.get_command(app)
    words = list(command.words[1:])
    while isinstance(verb, typer.core.TyperGroup):
        verb = verb.commands[words.pop(0)]
    verb.make_context("duchenne", words)


def test_verbs_and_options_in_the_text_exist() -> None:
    """Of `duchenne VERB --option ...` between backticks, which need not be whole."""
    group: Any = typer.main.get_command(app)
    seen = 0
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
        for inline in re.findall(r"`duchenne ([a-z][^`]*)`", text):
            verb, words = group, inline.split()
            while isinstance(verb, typer.core.TyperGroup) and words and re.fullmatch(r"[a-z]+", words[0]):
                assert words[0] in verb.commands, f"{page}: duchenne {inline}"
                verb = verb.commands[words.pop(0)]
            known = {name for parameter in verb.params for name in parameter.opts} | {"--help", "--version", "--debug"}
            assert {word.split("=")[0] for word in words if word.startswith("-")} <= known, f"{page}: duchenne {inline}"
            seen += 1
    assert seen > 30


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.words[0] == "make"], ids=lambda command: command.text)
def test_make_has_the_target(command: Command) -> None:
    done = subprocess.run([*command.words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def prepare(page: str, folder: Path) -> None:
    """The files that a page says its reader has."""
    sweep = blocks("README.md", "yaml")[0]
    (folder / "smoothing.yaml").write_text(sweep)
    (folder / "S.yaml").write_text(sweep.replace("team: faces", "team: default"))
    (folder / "sweep.yaml").write_text(sweep + "prices: {cpu_hour_usd: 0.04}\n")
    if page == "docs/kubernetes.md":
        settings = folder / ".config/duchenne"
        settings.mkdir(parents=True)
        (settings / "clusters.yaml").write_text(blocks(page, "yaml")[0])


@pytest.mark.parametrize("page", TYPED)
def test_typed_in_order_in_an_empty_home_each_ends_well(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith(("DUCHENNE_", "AWS_", "RAY_", "KUBE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DUCHENNE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    prepare(page, tmp_path)
    for command in commands(page):
        if command.reason is None:
            text = command.text
            for long, short in SHORTER.get(page, {}).items():
                text = text.replace(long, short)
            program, *words = text.split()
            assert program == "duchenne", f"{page}: type it, or say in ELSEWHERE why not: {command.text}"
            assert call(words) == 0, f"{text}: {capsys.readouterr().err}"
