"""`predict` and `export` of a recorded entry: its folds' networks, its thresholds, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from duchenne.cli.main import call
from duchenne.records import NewEntry, NewSweep, PredictionFile, open_home
from duchenne_jobs.config import RunConfig
from duchenne_jobs.data import materialise, open_dataset
from duchenne_jobs.evaluation import read_predictions
from duchenne_jobs.training import FoldJob, FoldsRequest, JobKey
from duchenne_jobs.training.runner import FoldJobRunner

TOY = "builtin://toy?count=60&tasks=3&seed=0"
THRESHOLDS = {0: [0.2, 0.4, 0.6], 1: [0.4, 0.6, 0.8]}


class Obedient:
    """A scheduler that never stops a job."""

    def tick(self) -> None:
        pass

    def report(self, epoch: int, metrics: dict[str, float]) -> None:
        pass


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of one sweep with an entry of two folds, whose networks were trained here, and a comparator's."""
    folder = tmp_path_factory.mktemp("home")
    dataset = open_dataset(materialise(TOY, folder))
    config = RunConfig.model_validate(
        {
            "model": {"name": "monet", "orders": {"count": 6}, "encoder": {"layers": 1, "width": 8}, "hidden_size": 8},
            "training": {"epochs": 2, "batch_size": 16},
        }
    )
    with open_home(folder) as store:
        new = NewSweep(
            name="toy", team="t", board="b", spec={}, spec_text="", spec_digest="sha256:0", dataset_uri=dataset.uri
        )
        sweep = store.create_sweep(new)
        files = []
        for fold in (0, 1):
            job = FoldJob(
                key=JobKey(0, "evaluation", "monet", fold, None, 0),
                config=config,
                dataset_uri=dataset.uri,
                dataset_digest=dataset.digest,
                folds=FoldsRequest(count=2, inner=2, seed=0),
                folder=str(folder / "sweeps" / sweep.id),
                epochs=2,
            )
            done = FoldJobRunner().run(job, 2, Obedient())
            path = str(Path(str(done.predictions)).relative_to(folder))
            files.append(PredictionFile(fold=fold, seed=0, path=path, digest=str(done.predictions_digest)))
        rows = [
            {"fold": fold, "seed": 0, "thresholds": dict(zip(dataset.tasks, values, strict=True))}
            for fold, values in THRESHOLDS.items()
        ]
        for method in ("monet", "logistic_regression"):
            entry = NewEntry(
                board="b",
                team="t",
                sweep=sweep.id,
                method=method,
                label=method,
                config=config.model_dump(mode="json"),
                verified="verified",
                metrics={},
                per_fold=rows if method == "monet" else [],
                predictions=tuple(files),
                dataset_digest=dataset.digest,
                folds_digest="sha256:0",
            )
            store.save_entry(entry)
    return folder


@pytest.fixture
def entry(home: Path) -> str:
    with open_home(home) as store:
        return next(one.id for one in store.entries() if one.method == "monet")


@pytest.fixture
def duchenne(home: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """`duchenne(verb, ...)`: the exit code, and what was said."""

    def run(*arguments: str) -> tuple[int, str]:
        code = call([*arguments, "--home", str(home)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_networks_of_a_fold_or_their_mean(
    home: Path, entry: str, duchenne: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    for name, options in (("0", ["--fold", "0"]), ("1", ["--fold", "1", "--seed", "0"]), ("mean", [])):
        code, said = duchenne("predict", entry, TOY, "--out", str(tmp_path / f"{name}.csv"), *options)
        assert code == 0, said
        assert f"60 rows, mean of {2 if name == 'mean' else 1} networks" in said
        assert "these networks were trained on rows of this dataset" in said
    found = {
        name: np.array([[float(row[f"task{t}"]) for t in (1, 2, 3)] for row in read(tmp_path / f"{name}.csv")])
        for name in ("0", "1", "mean")
    }
    np.testing.assert_allclose(found["mean"], (found["0"] + found["1"]) / 2, atol=2e-6)
    assert np.abs(found["0"] - found["1"]).max() > 1e-3
    # The evaluation drew 20 trajectories a row; their mean is near the exact marginals of the same network.
    with open_home(home) as store:
        held_out = read_predictions(home / store.get_entry(entry).predictions[0].path)
    subjects = [row["subject"] for row in read(tmp_path / "0.csv")]
    of_fold = found["0"][[subjects.index(subject) for subject in held_out.subjects]]
    assert np.abs(of_fold - held_out.probabilities).mean() < 0.1


def test_decisions_at_the_inner_thresholds(
    entry: str, duchenne: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, said = duchenne("predict", entry, TOY, "--out", str(tmp_path / "o.csv"), "--threshold", "inner")
    assert code == 0, said
    for row in read(tmp_path / "o.csv"):
        for task, threshold in ((1, 0.3), (2, 0.5), (3, 0.7)):
            assert row[f"task{task}_decision"] == str(int(float(row[f"task{task}"]) >= threshold))


def test_an_exported_graph_names_its_entry(
    entry: str, duchenne: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, said = duchenne("export", entry, "--out", str(tmp_path / "m.onnx"), "--fold", "0", "--threshold", "inner")
    assert code == 0, said
    assert "mean of 1 networks, marginals exact" in said
    stated = {prop.key: prop.value for prop in onnx.load(tmp_path / "m.onnx").metadata_props}
    assert stated["entry"] == entry
    assert json.loads(stated["thresholds"]) == pytest.approx([0.3, 0.5, 0.7])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--fold", "7"], "has no network of fold 7 and seed None; it has fold 0 seed 0, fold 1 seed 0"),
        (["--threshold", "high"], "--threshold must be a number in [0, 1] or inner, but got 'high'"),
        (["--threshold", "1.5"], "--threshold must be a number in [0, 1] or inner, but got '1.5'"),
    ],
)
def test_what_does_not_fit_the_entry_is_refused(
    options: list[str], said: str, entry: str, duchenne: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, text = duchenne("predict", entry, TOY, "--out", str(tmp_path / "o.csv"), *options)
    assert code == 2
    assert said in text
    assert not (tmp_path / "o.csv").exists()


def test_a_comparator_keeps_no_model(entry: str, duchenne: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    comparator = entry.replace(".monet", ".logistic_regression")
    code, said = duchenne("predict", comparator, TOY, "--out", str(tmp_path / "o.csv"))
    assert code == 2
    assert "is a comparator of scikit-learn, which keeps no model" in said


def test_an_unknown_entry_format_or_source(
    entry: str, duchenne: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    assert duchenne("predict", "nobody.monet", TOY, "--out", str(tmp_path / "o.csv"))[0] == 2
    code, said = duchenne("export", entry, "--format", "pickle", "--out", str(tmp_path / "o"))
    assert code == 2
    assert "--format must be onnx or safetensors, but got 'pickle'" in said
    code, said = duchenne("predict", entry, str(tmp_path / "no.mp4"), "--out", str(tmp_path / "o.csv"))
    assert code == 2
    assert "these networks look at features" in said
