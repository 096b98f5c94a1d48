"""The Python interface: its names are functions, whatever else was imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import duchenne
from duchenne.records import NotFoundError


@pytest.mark.parametrize("name", duchenne.__all__)
def test_no_package_takes_the_name_of_a_function(name: str) -> None:
    assert importlib.util.find_spec(f"duchenne.{name}") is None
    assert callable(getattr(duchenne, name))


def test_a_home_without_sweeps_has_empty_frames(tmp_path: Path) -> None:
    assert duchenne.sweeps(home=tmp_path).empty
    assert duchenne.leaderboard("yeast", home=tmp_path).empty
    with pytest.raises(NotFoundError, match="nope"):
        duchenne.results("nope", home=tmp_path)


def test_the_home_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUCHENNE_HOME", str(tmp_path / "elsewhere"))
    duchenne.sweeps()
    assert (tmp_path / "elsewhere" / "records.sqlite").exists()


def test_an_unknown_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="frobnicate"):
        duchenne.frobnicate  # noqa: B018
