"""The verbs that only look: what they print, how they end, and how little they import."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from duchenne.cli.main import call
from duchenne.records import Amounts, NewSweep, open_home

SWEEP = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: small}
data: {uri: "builtin://yeast"}
search:
  space: {training.batch_size: {grid: [32, 64]}}
  algorithm: grid
folds: {count: 3, inner: 2}
seeds: 2
comparators: [vmnc, logistic_regression]
budget: {wall_seconds: 60}
"""
DUCHENNE_MAIN = (sys.executable, "-c", "from duchenne.cli.main import main; main()")


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SWEEP)
    return path


def test_validate_says_ok(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["validate", str(sweep)]) == 0
    assert capsys.readouterr().out == f"{sweep}: ok\n"


def test_validate_names_every_error_with_its_line_and_exits_2(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep.write_text(SWEEP.replace("seeds: 2", "seed: 2").replace("wall_seconds: 60", "wall_seconds: 0"))
    assert call(["validate", str(sweep)]) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert captured.out == ""
    assert len(lines) == 2
    assert lines[0].startswith(f"{sweep}:9: seed: ")
    assert "seeds" in lines[0]
    assert lines[1].startswith(f"{sweep}:11: budget.wall_seconds: ")


def test_plan_counts_and_prints_one_json_document(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["plan", str(sweep), "--json", "--home", str(sweep.parent / "home")]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["trials"] == 2
    assert plan["fold_jobs"] == 2 * 3 * 2 + (1 + 1) * 3 * 2 + 3
    assert plan["worst"] == {"usd": None, "gpu_hours": None, "wall_seconds": 60.0}
    assert plan["expected"] == {"usd": None, "gpu_hours": None, "wall_seconds": None}


def test_empty_records_are_empty_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("ls", "leaderboard"):
        assert call([verb, "--home", str(tmp_path), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("verb", ["show", "results", "cost", "figures", "resume", "stop"])
def test_an_unknown_sweep_is_the_users_mistake(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call([verb, "nope", "--home", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "nope" in message
    assert len(message.splitlines()) == 1


def test_a_sweep_whose_data_was_withdrawn_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = {"name": "s", "team": "t", "board": "b", "spec": {}, "spec_text": "", "spec_digest": "d", "budget": Amounts()}
    with open_home(tmp_path) as store:
        record = store.create_sweep(NewSweep(dataset_uri="faces", **new))
        store.bind_data(record.id, dataset_digest="old", folds_digest="folds")

    def shown() -> tuple[str, bool]:
        assert call(["show", record.id, "--home", str(tmp_path)]) == 0
        text = capsys.readouterr().out
        assert call(["show", record.id, "--home", str(tmp_path), "--json"]) == 0
        return text, json.loads(capsys.readouterr().out)["sweep"]["withdrawn"]

    text, withdrawn = shown()
    assert not withdrawn
    assert "withdrawn" not in text
    with open_home(tmp_path) as store:
        store.withdraw_dataset("old", replaced_by="new", actor="ann")
    text, withdrawn = shown()
    assert withdrawn
    assert "its data was withdrawn: a subject was forgotten" in text


def test_an_unknown_board_names_the_boards_that_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["leaderboard", "nope", "--home", str(tmp_path)]) == 2
    assert "none: run a sweep first" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["frobnicate"], ["validate"], ["plan", "a.yaml", "--jsn"]])
def test_a_wrong_command_line_exits_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["ls"], ["doctor"], ["submit", "S.yaml"], ["run", "S.yaml"]])
def test_a_home_in_object_storage_is_refused_and_made_nowhere(
    verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "S.yaml").write_text(
        "apiVersion: duchenne/v1\nkind: Sweep\nmetadata: {name: s}\ndata: {uri: 'builtin://toy'}\n"
        "budget: {wall_seconds: 1}\n"
    )
    assert call([*verb, "--home", "s3://bucket/home"]) == 2
    assert "a home must be a folder, but got s3:/bucket/home" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["S.yaml"]


def test_the_version_needs_no_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["--version"]) == 0
    assert capsys.readouterr().out == f"{version('duchenne')}\n"


def _hears_interrupts() -> None:
    """A shell starts what runs in its background with SIGINT ignored, and so would the verb be."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_ctrl_c_ends_with_1_and_says_so(tmp_path: Path) -> None:
    """The signal comes while a verb runs: `validate` waits for the writer of a named pipe."""
    pipe = tmp_path / "S.yaml"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [*DUCHENNE_MAIN, "validate", str(pipe)], stderr=subprocess.PIPE, text=True, preexec_fn=_hears_interrupts
    )
    writer = os.open(pipe, os.O_WRONLY)  # returns once the verb has opened the other end
    try:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        os.close(writer)
        process.kill()
    assert said == "interrupted\n"
    assert process.returncode == 1


def test_a_reader_that_went_away_is_no_failure(sweep: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*DUCHENNE_MAIN, "plan", str(sweep), "--json"], stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_dataset_is_refused_before_anything_is_recorded(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep.write_text(SWEEP.replace("builtin://yeast", str(tmp_path / "nowhere")))
    assert call(["run", str(sweep), "--home", str(tmp_path / "home")]) == 2
    captured = capsys.readouterr()
    assert str(tmp_path / "nowhere") in captured.err
    assert len(captured.err.splitlines()) == 1
    assert not (tmp_path / "home" / "records.sqlite").exists()


def test_data_verbs_ingest_verify_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "toy"
    assert call(["data", "ingest", "toy", str(place), "--count", "40", "--tasks", "3"]) == 0
    assert "40 rows, 3 tasks" in capsys.readouterr().out
    assert call(["data", "verify", str(place)]) == 0
    assert "ok" in capsys.readouterr().out
    assert call(["data", "show", str(place), "--json", "--out", str(tmp_path / "labels.png")]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 40
    assert (tmp_path / "labels.png").stat().st_size > 5_000


def test_a_damaged_shard_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "toy"
    assert call(["data", "ingest", "toy", str(place), "--count", "40"]) == 0
    shard = next(place.glob("*.arrow"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    capsys.readouterr()
    assert call(["data", "verify", str(place)]) == 2
    assert shard.name in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--help",), ("validate", "{sweep}"), ("ls",), ("leaderboard",)])
def test_light_verbs_import_neither_torch_nor_ray(arguments: tuple[str, ...], sweep: Path, tmp_path: Path) -> None:
    words = [word.format(sweep=sweep) for word in arguments]
    code = (
        "import sys; from duchenne.cli.main import call\n"
        f"assert call({words!r}) == 0\n"
        "print(sorted({'torch', 'ray', 'pandas', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    environment = {"DUCHENNE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [("--help",), ("validate", "{sweep}")])
def test_light_verbs_answer_within_half_a_second(arguments: tuple[str, ...], sweep: Path) -> None:
    command = [str(Path(sys.executable).with_name("duchenne")), *(word.format(sweep=sweep) for word in arguments)]
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        seconds.append(time.perf_counter() - started)
    # The best of five: the bound is on the program, not on what else the machine does meanwhile.
    assert min(seconds) < 0.5
