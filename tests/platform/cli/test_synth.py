"""`duchenne data synth`: what it prints and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from duchenne.cli.main import call


def test_a_dataset_and_its_contact_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "sheet.png"
    arguments = ["data", "synth", "--like", "bp4d", str(tmp_path / "raw"), "--subjects", "1", "--frames", "2"]
    assert call([*arguments, "--size", "64", "--noise", "0.1", "--contact-sheet", str(sheet)]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == [f"{tmp_path / 'raw'}: 2 faces of 1 subjects like bp4d", f"contact sheet: {sheet}"]
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "raw" / "F001").rglob("*.jpg"))) == 2
    assert call(arguments) == 2
    assert "must not exist or be an empty folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--like", "emotionet"], "a drawn dataset is like disfa or bp4d, but got 'emotionet'"),
        (["--like", "disfa", "--subjects", "40"], "1 <= subjects <= 27 must hold"),
        (["--like", "disfa", "--noise", "2"], "0 <= noise <= 0.5 must hold, but got 2"),
        ([], "Missing parameter: like"),
    ],
)
def test_a_mistake_is_one_line(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["data", "synth", str(tmp_path / "raw"), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "raw").exists()
