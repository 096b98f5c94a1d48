"""Helpers that run the command line as a user does: in its own process, with its own home."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TOY = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: toy, team: tests}
data: {uri: "builtin://toy?count=240&tasks=3&seed=0"}
model:
  name: monet
  encoder: {layers: 1, width: 16}
  hidden_size: 16
  orders: {count: 6}
  trajectories: 10
training: {epochs: 4, batch_size: 64, learning_rate: 0.01}
search:
  space:
    model.orders.active: {grid: [2, 6]}
    training.learning_rate: {grid: [0.003, 0.01]}
  algorithm: grid
  scheduler: {name: asha, grace_epochs: 1, reduction_factor: 2}
  metric: accuracy
comparators: [mrnn, classifier_chain]
folds: {count: 2, inner: 2}
seeds: 2
budget: {wall_seconds: 1200}
"""


@dataclass(frozen=True)
class CommandLine:
    """`duchenne` with a home of its own."""

    home: Path

    @property
    def program(self) -> str:
        return str(Path(sys.executable).with_name("duchenne"))

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"DUCHENNE_HOME": str(self.home)}

    def run(self, *arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *arguments],
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=timeout,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def start(self, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as sink:
            return subprocess.Popen(
                [self.program, *arguments],
                stdout=sink,
                stderr=subprocess.STDOUT,
                env=self.environment,
                preexec_fn=_hears_interrupts,
            )


def _hears_interrupts() -> None:
    """A shell starts what runs in its background with SIGINT ignored, and so would the command be."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def duchenne(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "home")


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "toy.yaml"
    path.write_text(TOY)
    return path
