"""The number that is corrected for the trials behind it, and what a rank is computed from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duchenne.server.verification import deflated, expected_largest


@pytest.fixture
def url(tmp_path: Path) -> str:
    """One database is enough: what is checked are files."""
    return f"sqlite:///{tmp_path / 'records.sqlite'}"


@pytest.mark.parametrize(("draws", "value"), [(0, 0.0), (1, 0.0), (2, 1 / np.sqrt(np.pi)), (3, 1.5 / np.sqrt(np.pi))])
def test_the_expected_largest_of_a_few_draws_is_known(draws: int, value: float) -> None:
    assert expected_largest(draws) == pytest.approx(value, abs=1e-9)


def test_the_expected_largest_is_that_of_simulated_draws() -> None:
    draw = np.random.default_rng(0)
    for draws in (10, 200):
        largest = draw.standard_normal((20_000, draws)).max(axis=1)
        assert expected_largest(draws) == pytest.approx(largest.mean(), abs=4 * largest.std() / np.sqrt(20_000))


@given(f1=st.floats(0, 1), spread=st.floats(0, 0.2), trials=st.integers(0, 10_000))
def test_more_trials_never_raise_the_number(f1: float, spread: float, trials: int) -> None:
    here, more = deflated(f1, spread, trials), deflated(f1, spread, trials + 1)
    assert here is not None
    assert more is not None
    assert more <= here + 1e-12
    assert here <= f1 + 1e-12
    assert deflated(f1, spread, None) is None


def test_the_server_checks_entries_without_torch(world: Any) -> None:
    """Labels and folds of a dataset as a worker reads them, after every module of the server was imported."""
    sweep = world.sweep()
    script = f"""
import pkgutil, sys
from importlib import import_module
from pathlib import Path
import duchenne.server
for module in pkgutil.walk_packages(duchenne.server.__path__, "duchenne.server."):
    import_module(module.name)
from duchenne.records import open_store
from duchenne.server.truths import truth_of
with open_store({world.store.address!r}) as store:
    frames = truth_of(store, Path({str(world.home)!r}), store.get_sweep({sweep.id!r}), {world.settings.datasets!r})
print(len(frames.frames), [name for name in ("torch", "ray", "matplotlib") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["108", "[]"], done.stdout + done.stderr
