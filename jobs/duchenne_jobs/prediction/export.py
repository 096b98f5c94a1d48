"""The networks of an entry as one file: an ONNX graph that gives what `predict` gives, or the weights as safetensors.

The graph takes `features` (rows, F), or `images` (rows, 3, H, W) RGB in [0, 1] and, for networks that look at it,
`parsing` (rows, H, W) uint8; it gives `probabilities` (rows, T). The number of rows is free. What a user must know
besides stands in the file's metadata: tasks, thresholds, how faces are cut out, how the marginals are computed.

Shapes: F features, H and W height and width in pixels, T tasks.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from duchenne_jobs.models import Inputs
from duchenne_jobs.prediction.errors import PredictionError
from duchenne_jobs.prediction.marginals import TRAJECTORIES, Marginals
from duchenne_jobs.prediction.networks import Ensemble

OPSET = 20
TOLERANCE = 1e-5
"""By how much a probability of the graph may differ from ours on the rows that it is tried on."""
QUANTISED_TOLERANCE = 1e-3
"""The same where an encoder quantises its inputs: one within rounding of the middle of a step may fall to either side,
and the steps of the next layers follow. Up to 7e-6 was seen of an untrained ResNet-50."""
TRIED_ROWS = 3
Format = Literal["onnx", "safetensors"]
FORMATS: tuple[Format, ...] = ("onnx", "safetensors")


@dataclass(frozen=True)
class Exported:
    """What was written: the inputs of the graph, how its marginals are computed, how far onnxruntime was from ours."""

    inputs: tuple[str, ...]
    methods: tuple[str, ...]
    difference: float | None


class _Traced(Inputs):
    """Inputs that don't count their rows, which would fix the number for good."""

    def __post_init__(self) -> None:
        pass


class _Graph(nn.Module):
    """An ensemble behind one argument a tensor."""

    def __init__(self, ensemble: Ensemble, names: Sequence[str]) -> None:
        super().__init__()
        self.ensemble = ensemble
        self._names = tuple(names)

    def forward(self, *tensors: Tensor) -> Tensor:
        probabilities: Tensor = self.ensemble(_Traced(**dict(zip(self._names, tensors, strict=True))))
        return probabilities


def export(ensemble: Ensemble, kind: Format, path: Path, facts: dict[str, str]) -> Exported:
    """Write `path`; it appears whole or not at all.

    Args:
        facts: what the file's metadata say besides (the entry's name, thresholds).

    Raises:
        PredictionError: the graph can't be made, or onnxruntime gets other numbers from it.
        OSError: the file can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        if kind == "safetensors":
            _write_safetensors(ensemble, beside, facts)
            done = Exported((), ensemble.methods, None)
        else:
            done = _write_onnx(ensemble, beside, facts)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return done


def example(ensemble: Ensemble, rows: int, seed: int = 0) -> dict[str, Tensor]:
    """Random rows of the right shapes."""
    generator = torch.Generator().manual_seed(seed)
    data = ensemble.data
    if data.image_size is None:
        return {"features": torch.randn(rows, data.features or 0, generator=generator)}
    images = torch.rand(rows, 3, *data.image_size, generator=generator)
    if "parsing" not in ensemble.inputs:
        return {"images": images}
    classes = max(1, len(data.parsing_classes))
    parsing = torch.randint(classes, (rows, *data.image_size), generator=generator)
    return {"images": images, "parsing": parsing.to(torch.uint8)}


def metadata(ensemble: Ensemble, facts: dict[str, str]) -> dict[str, str]:
    """What a file says of itself, each value a string."""
    crop = None if ensemble.crop is None else ensemble.crop.model_dump(mode="json")
    return {
        "tasks": json.dumps(ensemble.data.tasks),
        "networks": str(len(ensemble.members)),
        "marginals": ", ".join(ensemble.methods),
        "trajectories": str(TRAJECTORIES) if "trajectories" in ensemble.methods else "0",
        "image_size": json.dumps(ensemble.data.image_size),
        "crop": json.dumps(crop),
        **facts,
    }


def _write_onnx(ensemble: Ensemble, path: Path, facts: dict[str, str]) -> Exported:
    import onnx

    ensemble = ensemble.cpu()
    rows = example(ensemble, TRIED_ROWS)
    names = tuple(rows)
    free = torch.export.Dim("rows")
    try:
        with warnings.catch_warnings():  # of the exporter about itself
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _Graph(ensemble, names),
                tuple(rows.values()),
                input_names=list(names),
                output_names=["probabilities"],
                opset_version=OPSET,
                dynamic_shapes=(({0: free},) * len(names),),  # one entry for *tensors
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # the exporter raises whatever its passes raise
        raise PredictionError(
            f"this network has no ONNX graph: {_root(error)}; use --format safetensors, or a network without it"
        ) from error
    assert program is not None  # noqa: S101 - so it is with dynamo
    program.save(str(path))
    model = onnx.load(str(path))
    for key, value in metadata(ensemble, facts).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(path))
    return Exported(names, ensemble.methods, _checked(ensemble, path))


def _root(error: BaseException) -> str:
    """What the exporter's own errors are about, as one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__} {lines[0] if lines else ''}".strip()


def _checked(ensemble: Ensemble, path: Path) -> float:
    """How far onnxruntime is from ours, on rows and a number of rows that the graph was not traced with."""
    import onnxruntime  # type: ignore[import-untyped, unused-ignore]

    rows = example(ensemble, TRIED_ROWS + 2, seed=1)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(["probabilities"], {name: tensor.numpy() for name, tensor in rows.items()})
    difference = float(np.abs(theirs - ensemble(Inputs(**rows)).numpy()).max())
    rounds = ensemble.config.model.quantisation.name in ("int8_dynamic", "int8_qat")
    tolerance = QUANTISED_TOLERANCE if rounds else TOLERANCE
    if not difference <= tolerance:
        raise PredictionError(
            f"the ONNX graph must give our probabilities to {tolerance:g}, but differs by {difference:g}; use "
            "--format safetensors, and report it"
        )
    return difference


def _write_safetensors(ensemble: Ensemble, path: Path, facts: dict[str, str]) -> None:
    """Network i's tensors are called `i.NAME`."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    for index, member in enumerate(ensemble.members):
        assert isinstance(member, Marginals)  # noqa: S101
        state = member.network.state_dict()
        tensors |= {f"{index}.{name}": tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    facts = facts | {"config": ensemble.config.model_dump_json()}
    save_file(tensors, str(path), metadata=metadata(ensemble, facts))
