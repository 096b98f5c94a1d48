"""Which file a word on the command line means."""

from __future__ import annotations

from pathlib import Path

import pytest

from duchenne.paths import shipped_sweeps, sweep_file


def test_a_shipped_sweep_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy").mkdir()
    assert sweep_file("quickstart") == shipped_sweeps() / "quickstart.yaml"
    assert sweep_file("thesis/table_2_1") == shipped_sweeps() / "thesis/table_2_1.yaml"
    assert sweep_file("toy") == shipped_sweeps() / "toy.yaml"  # a folder is no sweep


def test_a_file_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "quickstart").write_text("kind: Sweep")
    assert sweep_file("quickstart") == Path("quickstart")


@pytest.mark.parametrize("given", ["nothing", "quickstart.yaml", "../sweeps/quickstart", "/quickstart", "thesis"])
def test_what_is_neither_stays_for_the_reader_to_refuse(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sweep_file(given) == Path(given)
