"""The verbs of `duchenne data` about people: ingest with its report, ls, forget."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from duchenne.cli.main import call
from duchenne.records import NewSweep, open_home
from duchenne_jobs.data import open_dataset


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """RAF-DB's folders with three images."""
    root = tmp_path / "raw"
    (root / "basic" / "Image" / "aligned").mkdir(parents=True)
    (root / "basic" / "EmoLabel").mkdir()
    names = ["train_00001", "train_00002", "test_0001"]
    for shade, name in enumerate(names):
        image = Image.fromarray(np.full((100, 100, 3), 80 * shade, np.uint8))
        image.save(root / "basic" / "Image" / "aligned" / f"{name}_aligned.jpg")
    lines = "".join(f"{name}.jpg {code}\n" for name, code in zip(names, (1, 4, 7), strict=True))
    (root / "basic" / "EmoLabel" / "list_patition_label.txt").write_text(lines, encoding="utf-8")
    return root


def test_an_ingest_of_people_ends_with_a_report(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "faces"
    arguments = ["data", "ingest", "rafdb", str(raw), str(place), "--size", "48", "--licence", "ours", "--workers", "1"]
    assert call(arguments) == 0
    printed = capsys.readouterr().out
    assert "rafdb: 3 subjects, 3 frames, sha256:" in printed
    assert "faces not found: 0 (0.0% of frames)" in printed
    assert f"figure: {place}-report.png" in printed
    assert (tmp_path / "faces-report.png").stat().st_size > 5_000
    assert open_dataset(place).manifest.licence == "ours"
    assert call(["data", "show", str(place), "--out", str(tmp_path / "show.png")]) == 0
    assert (tmp_path / "show-faces.png").stat().st_size > 500


def test_wrong_options_are_one_line(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = str(tmp_path / "faces")
    for arguments, message in (
        (["rafdb", place], "rafdb is read from its raw folder"),
        (["rafdb", str(raw), place, "--camera", "left"], "rafdb has no option 'camera'"),
        (["rafdb", str(raw), place, "--size", "3"], "16 <= size <= 2048 must hold"),
        (["toy", place, "--tasks", "few"], "--tasks of toy is a whole number"),
        (["lfw", place], "no ingester is called 'lfw'; choose one of bp4d"),
    ):
        assert call(["data", "ingest", *arguments]) == 2
        captured = capsys.readouterr()
        assert message in captured.err
        assert (captured.out, len(captured.err.splitlines())) == ("", 1)


def test_datasets_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["data", "ingest", "toy", str(tmp_path / "sets" / "toy"), "--count", "9"]) == 0
    capsys.readouterr()
    assert call(["data", "ls", str(tmp_path / "sets")]) == 0
    assert capsys.readouterr().out.startswith(
        f"{tmp_path / 'sets' / 'toy'}: toy-count9-tasks5-seed0, 9 rows, 9 subjects"
    )
    assert call(["data", "ls", str(tmp_path / "sets"), "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["rows"], one["error"]) == (9, None)
    assert call(["data", "ls", str(tmp_path / "nothing"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_forgetting_names_and_marks_what_used_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, home = tmp_path / "toy", tmp_path / "home"
    assert call(["data", "ingest", "toy", str(place), "--count", "9"]) == 0
    old = open_dataset(place).digest
    with open_home(home) as store:
        sweep = store.create_sweep(
            NewSweep(
                name="s",
                team="t",
                board="b",
                spec={},
                spec_text="",
                spec_digest="d",
                dataset_uri=str(place),
                dataset_digest=old,
            )
        )
    (tmp_path / "toy-report.png").write_bytes(b"names everybody")
    capsys.readouterr()
    assert call(["data", "forget", str(place), "--subject", "row-0003", "--home", str(home)]) == 0
    printed = capsys.readouterr().out
    assert "1 rows forgotten" in printed
    assert f"marked: sweep {sweep.id} used the old data; entries: none" in printed
    assert not (tmp_path / "toy-report.png").exists()
    with open_home(home) as store:
        assert store.withdrawn_datasets() == {old}
        assert "row-0003" not in str(store.events())
    assert open_dataset(place).row_count == 8
    assert call(["data", "verify", str(place)]) == 0
    capsys.readouterr()
    assert call(["data", "forget", str(place), "--subject", "row-0003", "--home", str(home)]) == 2
    assert "has no subject 'row-0003'" in capsys.readouterr().err


def test_forgetting_without_records_says_so_and_makes_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "toy"
    assert call(["data", "ingest", "toy", str(place), "--count", "9"]) == 0
    assert call(["data", "forget", str(place), "--subject", "row-0003", "--home", str(tmp_path / "home")]) == 0
    assert f"no records in {tmp_path / 'home'}" in capsys.readouterr().out
    assert not (tmp_path / "home").exists()
