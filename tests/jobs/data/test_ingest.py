"""Ingesters and builtin datasets, on the real yeast file inside river."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from river import datasets

from duchenne_jobs.data import (
    INGESTERS,
    DatasetError,
    builtin_subject_count,
    builtin_tasks,
    ingest,
    materialise,
    open_dataset,
    toy_dataset,
)
from duchenne_jobs.data.builtin import parse_builtin
from duchenne_jobs.data.manifest import MANIFEST_NAME
from duchenne_jobs.data.schema import matrix
from duchenne_jobs.data.toy import MAX_TOY_TASKS

YEAST_FILE = Path(datasets.__file__).parent / "yeast.csv.gz"


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(DatasetError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_yeast_is_what_river_reads(tmp_path: Path) -> None:
    dataset = ingest("yeast", None, tmp_path / "yeast")
    dataset.verify()
    assert (dataset.row_count, len(dataset.subjects)) == (2417, 2417)
    assert dataset.tasks == tuple(f"Class{index}" for index in range(1, 15))
    assert dataset.manifest.feature_names == tuple(f"Att{index}" for index in range(1, 104))
    table = dataset.rows()
    assert table["subject"].to_pylist() == [f"row-{index:04d}" for index in range(2417)] == list(dataset.subjects)
    rows = list(datasets.Yeast())
    features = np.array([[x[name] for name in dataset.manifest.feature_names] for x, _ in rows], np.float32)
    labels = np.array([[y[name] for name in dataset.tasks] for _, y in rows], np.int8)
    assert np.array_equal(matrix(table, "features"), features)
    assert np.array_equal(matrix(table, "labels"), labels)
    assert dataset.label_counts()["Class14"] == {-1: 0, 0: 2383, 1: 34}


def test_the_same_source_gives_the_same_digest_from_a_copy_elsewhere(tmp_path: Path) -> None:
    copy = tmp_path / "copy.csv.gz"
    copy.write_bytes(YEAST_FILE.read_bytes())
    assert ingest("yeast", copy, tmp_path / "a").digest == ingest("yeast", None, f"file://{tmp_path}/b").digest


def test_toy_holds_what_toy_dataset_draws(tmp_path: Path) -> None:
    dataset = ingest("toy", None, tmp_path / "toy", count=12_000, tasks=4, seed=9)
    x, y = toy_dataset(12_000, 4, 9)
    table = dataset.rows()
    assert np.array_equal(matrix(table, "features"), x)
    assert np.array_equal(matrix(table, "labels"), y)
    assert dataset.tasks == ("task1", "task2", "task3", "task4")
    assert table["subject"].to_pylist() == list(dataset.subjects)
    assert dataset.subjects[-1] == "row-11999"


def test_the_same_again_is_left_alone_and_another_is_refused(tmp_path: Path) -> None:
    first = ingest("toy", None, tmp_path / "toy", count=50)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "toy").iterdir()}
    again = ingest("toy", None, tmp_path / "toy", count=50)
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "toy").iterdir()} == before
    message = refusal(lambda: ingest("toy", None, tmp_path / "toy", count=51))
    assert f"already holds another dataset, toy-count50-tasks5-seed0 with digest {first.digest}" in message
    assert "choose another destination" in message
    first.verify()


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert "must not exist or be empty, but holds 'notes.txt'" in refusal(lambda: ingest("toy", None, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_progress_ends_at_the_number_of_rows(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    ingest("toy", None, tmp_path / "toy", lambda done, total: calls.append((done, total)), count=10_000)
    assert len(calls) > 1
    assert calls == sorted(calls)
    assert calls[-1] == (10_000, 10_000)


def test_wrong_names_and_options(tmp_path: Path) -> None:
    assert set(INGESTERS) == {"bp4d", "celeba", "disfa", "rafdb", "toy", "yeast"}
    assert "no ingester is called 'yest'; choose one of bp4d, celeba, disfa, rafdb, toy, yeast" in refusal(
        lambda: ingest("yest", None, tmp_path)
    )
    assert "toy has no option 'size'; it has: count, tasks, seed, sigma1, sigma2" in refusal(
        lambda: ingest("toy", None, tmp_path, size=3)
    )
    assert "tasks=25" in refusal(lambda: ingest("toy", None, tmp_path, tasks=25))
    assert "is drawn, not read" in refusal(lambda: ingest("toy", "folder", tmp_path))


def test_a_missing_or_malformed_source(tmp_path: Path) -> None:
    lines = gzip.decompress(YEAST_FILE.read_bytes()).splitlines(keepends=True)
    wrong = {
        "short": (b"".join(lines[:-1]), "must hold 2417 rows .* but holds 2416 rows"),
        "header": (b"a,b\n1,2\n", "must have the columns Att1..Att103, Class1..Class14"),
        "label": (b"".join([*lines[:-1], lines[-1].strip()[:-1] + b"7\n"]), "and 1 other labels"),
        "text": (b"".join([*lines[:-1], b"x" + lines[-1]]), "holds something that is no number"),
        "nan": (b"".join([*lines[:-1], b"nan" + lines[-1][lines[-1].index(b",") :]]), "1 features that are not finite"),
    }
    for name, (content, message) in wrong.items():
        (tmp_path / name).write_bytes(gzip.compress(content))
        with pytest.raises(DatasetError, match=message):
            ingest("yeast", tmp_path / name, tmp_path / "out")
    (tmp_path / "cut").write_bytes(YEAST_FILE.read_bytes()[:5000])
    (tmp_path / "plain").write_bytes(b"Att1")
    for name in ("cut", "plain"):
        assert "cannot read" in refusal(lambda name=name: ingest("yeast", tmp_path / name, tmp_path / "out"))
    assert f"no source at {tmp_path / 'gone'}" in refusal(lambda: ingest("yeast", tmp_path / "gone", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_builtins_are_made_once(tmp_path: Path) -> None:
    path = materialise("builtin://toy?count=60&tasks=2", tmp_path)
    assert path == str(tmp_path / "datasets" / "toy-count60-tasks2-seed0")
    manifest = Path(path) / MANIFEST_NAME
    written = manifest.stat().st_mtime_ns
    assert materialise("builtin://toy?tasks=2&count=60&seed=0", tmp_path) == path
    assert manifest.stat().st_mtime_ns == written
    assert open_dataset(path).row_count == 60
    assert [entry.name for entry in (tmp_path / "datasets").iterdir()] == ["toy-count60-tasks2-seed0"]
    assert materialise("s3://bucket/x", tmp_path) == "s3://bucket/x"
    assert materialise("some/folder", tmp_path) == "some/folder"


def test_builtin_facts_are_known_without_data(tmp_path: Path) -> None:
    for uri in ("builtin://yeast", "builtin://toy", "builtin://toy?count=30&tasks=24"):
        dataset = open_dataset(materialise(uri, tmp_path))
        assert builtin_subject_count(uri) == len(dataset.subjects)
        assert builtin_tasks(uri) == dataset.tasks
    assert builtin_subject_count("s3://bucket/x") is None
    assert builtin_tasks("folder") is None
    assert f"1 <= tasks <= {MAX_TOY_TASKS} must hold" in refusal(lambda: parse_builtin("builtin://toy?tasks=99"))


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("builtin://yest", "no such builtin dataset; choose one of faces, toy, yeast"),
        ("builtin://toy/x", "no such builtin dataset"),
        ("builtin://", "no such builtin dataset"),
        ("builtin://toy?size=3", "option 'size' is unknown; toy has the options: count, tasks, seed, sigma1, sigma2"),
        ("builtin://yeast?count=3", "option 'count' is unknown; yeast has the options: none"),
        ("builtin://toy?count=3&count=4", "option 'count' comes twice"),
        ("builtin://toy?count=0", "1 <= count <= 1000000 must hold, but got '0'"),
        ("builtin://toy?count=-3", "but got '-3'; write a whole number"),
        ("builtin://toy?count=1e3", "but got '1e3'; write a whole number"),
        ("builtin://toy?count=", "but got ''; write a whole number"),
        ("builtin://toy?seed=" + "9" * 30, "write a whole number"),
    ],
)
def test_a_wrong_builtin_uri(tmp_path: Path, uri: str, message: str) -> None:
    assert message in refusal(lambda: materialise(uri, tmp_path))
    assert message in refusal(lambda: builtin_subject_count(uri))


def test_several_processes_make_a_builtin_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom duchenne_jobs.data import materialise, open_dataset\n"
        "import duchenne_jobs.data.ingesters\n"
        "time.sleep(max(0.0, float(sys.argv[2]) - time.time()))\n"
        "path = materialise('builtin://toy?count=20000', Path(sys.argv[1]))\n"
        "open_dataset(path).verify()\nprint(path)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    start = str(time.time() + 2)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), start],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    results = [(*process.communicate(timeout=60), process.returncode) for process in processes]
    expected = str(tmp_path / "datasets" / "toy-count20000-tasks5-seed0")
    assert results == [(f"{expected}\n", "", 0)] * 4
    assert [str(path) for path in (tmp_path / "datasets").iterdir()] == [expected]


def test_a_killed_ingest_leaves_nothing_that_stays(tmp_path: Path, run_python: Any) -> None:
    code = (
        "import os, signal, sys\nfrom duchenne_jobs.data import ingest\n"
        "ingest('toy', None, sys.argv[1], lambda done, total: os.kill(os.getpid(), signal.SIGKILL), count=20000)"
    )
    assert run_python(code, str(tmp_path / "toy")).returncode == -9
    assert len(list(tmp_path.iterdir())) == 1  # the hidden folder of the dead process
    ingest("toy", None, tmp_path / "toy", count=20000).verify()
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]
