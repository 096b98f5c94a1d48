"""An exported graph gives what `predict` gives, in onnxruntime, for any number of rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open

from duchenne_jobs.data import Dataset
from duchenne_jobs.models import Inputs
from duchenne_jobs.prediction import PredictionError
from duchenne_jobs.prediction import export as export_module
from duchenne_jobs.prediction.export import OPSET, TOLERANCE, example, export
from duchenne_jobs.prediction.marginals import Marginals
from duchenne_jobs.prediction.networks import load_ensemble
from duchenne_jobs.training.checkpoint import load_checkpoint

Trained = Callable[..., list[Path]]
CPU = torch.device("cpu")
SMALL = {"encoder": {"layers": 1, "width": 8}, "hidden_size": 8}
TABULAR: dict[str, dict[str, Any]] = {
    "vmnc": {"name": "vmnc", **SMALL},
    "monet": {"name": "monet", **SMALL, "orders": {"count": 6}},
    "xmonet in groups": {
        "name": "monet",
        **SMALL,
        "orders": {"source": "all", "selection": "xmonet", "groups": [["task1", "task3"], ["task2"]]},
    },
}


def run(path: Path, rows: dict[str, torch.Tensor]) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {name: tensor.numpy() for name, tensor in rows.items()})[0]


@pytest.mark.parametrize("model", TABULAR.values(), ids=TABULAR)
def test_onnxruntime_gives_our_numbers(model: dict[str, Any], toy: Dataset, trained: Trained, tmp_path: Path) -> None:
    ensemble = load_ensemble(trained(toy, model, folds=(0, 1)), CPU)
    assert len(ensemble.members) == 2
    done = export(ensemble, "onnx", tmp_path / "model.onnx", {"entry": "toy.monet"})
    assert done.inputs == ("features",)
    for count in (1, 64):
        rows = example(ensemble, count, seed=7)
        np.testing.assert_allclose(
            run(tmp_path / "model.onnx", rows), ensemble.predict(Inputs(**rows)).numpy(), atol=TOLERANCE
        )
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    stored = onnx.load(tmp_path / "model.onnx")
    assert {domain.version for domain in stored.opset_import if not domain.domain} == {OPSET}
    stated = {prop.key: prop.value for prop in stored.metadata_props}
    assert json.loads(stated["tasks"]) == ["task1", "task2", "task3"]
    assert stated["entry"] == "toy.monet"
    assert stated["marginals"] == ("direct" if model["name"] == "vmnc" else "exact")


def test_networks_of_faces(faces: Dataset, trained: Trained, conv: dict[str, Any], tmp_path: Path) -> None:
    attention = {"width": 16, "heads": 2, "self_layers": 1, "cross_layers": 1}
    model = {"name": "monet_mtts", "encoder": conv, "attention": attention, "hidden_size": 8, "orders": {"count": 4}}
    ensemble = load_ensemble(trained(faces, model), CPU)
    done = export(ensemble, "onnx", tmp_path / "model.onnx", {})
    assert done.inputs == ensemble.inputs == ("images",)
    assert done.difference is not None
    assert done.difference <= TOLERANCE
    rows = example(ensemble, 9, seed=3)
    np.testing.assert_allclose(
        run(tmp_path / "model.onnx", rows), ensemble.predict(Inputs(**rows)).numpy(), atol=TOLERANCE
    )


def test_trajectories_have_their_noise_in_the_graph(
    toy: Dataset, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("duchenne_jobs.prediction.marginals.EXACT_STATES", 1)
    ensemble = load_ensemble(trained(toy, TABULAR["monet"]), CPU)
    done = export(ensemble, "onnx", tmp_path / "model.onnx", {})
    assert done.methods == ("trajectories",)
    rows = example(ensemble, 20, seed=5)
    np.testing.assert_allclose(run(tmp_path / "model.onnx", rows), ensemble(Inputs(**rows)).numpy(), atol=TOLERANCE)
    stated = {prop.key: prop.value for prop in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert stated["trajectories"] == "256"


def test_safetensors_hold_the_weights(toy: Dataset, trained: Trained, tmp_path: Path) -> None:
    paths = trained(toy, TABULAR["monet"], folds=(0, 1))
    export(load_ensemble(paths, CPU), "safetensors", tmp_path / "model.safetensors", {"entry": "toy.monet"})
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["config"])["model"]["name"] == "monet"
        assert file.metadata()["networks"] == "2"
        for index, path in enumerate(paths):
            state = load_checkpoint(path)
            assert state is not None
            for name, tensor in state["network"].items():
                assert torch.equal(file.get_tensor(f"{index}.{name}"), tensor), name


@pytest.mark.parametrize("name", ["int8_weight_only", "int8_dynamic", "int8_qat"])
def test_a_quantised_encoder(name: str, faces: Dataset, trained: Trained, conv: dict[str, Any], tmp_path: Path) -> None:
    model = {"name": "vmnc", "encoder": conv, "hidden_size": 8, "quantisation": {"name": name}}
    ensemble = load_ensemble(trained(faces, model), CPU)
    export(ensemble, "onnx", tmp_path / "model.onnx", {})
    operators = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert ("Round" in operators) == (name != "int8_weight_only")  # weights are constants of the graph
    rows = example(ensemble, 9, seed=3)
    np.testing.assert_allclose(
        run(tmp_path / "model.onnx", rows), ensemble.predict(Inputs(**rows)).numpy(), atol=TOLERANCE
    )


def test_a_network_that_has_no_graph_is_refused_by_its_operator(
    toy: Dataset, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble = load_ensemble(trained(toy, TABULAR["vmnc"]), CPU)
    # Eigenvalues have no operator in ONNX, nor a decomposition into others.
    monkeypatch.setattr(Marginals, "forward", lambda self, inputs: torch.linalg.eigvals(inputs.features[:, None, :1]))
    with pytest.raises(PredictionError, match=r"^this network has no ONNX graph: .*eig.*; use --format safetensors"):
        export(ensemble, "onnx", tmp_path / "model.onnx", {})


def test_a_graph_with_other_numbers_is_not_written(
    toy: Dataset, trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "TOLERANCE", -1.0)  # not even equal numbers are close enough
    with pytest.raises(PredictionError, match=r"^the ONNX graph must give our probabilities to .*--format safetensors"):
        export(load_ensemble(trained(toy, TABULAR["vmnc"]), CPU), "onnx", tmp_path / "model.onnx", {})
    assert not list(tmp_path.iterdir())
