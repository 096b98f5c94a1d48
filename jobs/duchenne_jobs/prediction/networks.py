"""The networks of an entry, from their checkpoints: one, or the mean of several.

Shapes: B rows, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from duchenne_jobs.config import RunConfig
from duchenne_jobs.data.manifest import Crop
from duchenne_jobs.models import DataDescription, Inputs, MultiTaskNetwork, TrainingStatistics, build_network
from duchenne_jobs.prediction.errors import PredictionError
from duchenne_jobs.prediction.marginals import Marginals, states_a_row
from duchenne_jobs.training.checkpoint import load_checkpoint

STATES_AT_ONCE = 2**17  # rows x cell states: 100 MB of gates with H = 64


@dataclass(frozen=True)
class SavedNetwork:
    """One network and what it was built for."""

    network: MultiTaskNetwork
    config: RunConfig
    data: DataDescription
    crop: Crop | None


class Ensemble(nn.Module):
    """The mean of the marginals of networks that were trained on one dataset.

    Attributes:
        data: what they were built for.
        crop: how the dataset's faces were cut out; None where they were not, or where there are none.
        config: of the first of them.
    """

    def __init__(self, saved: Sequence[SavedNetwork]) -> None:
        super().__init__()
        first = saved[0]
        for other in saved[1:]:
            if other.data.tasks != first.data.tasks or other.crop != first.crop:
                raise PredictionError(
                    "networks of one ensemble must predict the same tasks on the same kind of faces, but got "
                    f"{', '.join(first.data.tasks)} and {', '.join(other.data.tasks)}; name one by --fold and --seed"
                )
        self.data, self.crop, self.config = first.data, first.crop, first.config
        self.members = nn.ModuleList(Marginals(one.network) for one in saved)

    @property
    def inputs(self) -> tuple[str, ...]:
        """What the networks look at when they predict: fields of `Inputs`."""
        if self.data.image_size is None:
            return ("features",)
        # Other guidance is a term of the training loss.
        looks_at_maps = any(term.kind == "soft_prior" for term in self.config.model.guidance)
        return ("images", "parsing") if looks_at_maps else ("images",)

    @property
    def methods(self) -> tuple[str, ...]:
        """How the members' marginals are computed: `direct`, `exact`, `trajectories`."""
        return tuple(sorted({member.method for member in self._marginals()}))

    @torch.no_grad()
    def forward(self, inputs: Inputs) -> Tensor:
        """B rows -> (B, T)."""
        return torch.stack([member(inputs) for member in self._marginals()]).mean(dim=0)

    def predict(self, inputs: Inputs) -> Tensor:
        """B rows -> (B, T), as many at once as fit into memory.

        Raises:
            PredictionError: the networks need what these rows don't have (a parsing map).
        """
        states = max(states_a_row(member.mixture) for member in self._marginals())
        rows = max(1, STATES_AT_ONCE // states)
        try:
            parts = [self(inputs[at : at + rows]) for at in range(0, len(inputs), rows)]
        except ValueError as error:
            raise PredictionError(str(error)) from error
        return torch.cat(parts)

    def _marginals(self) -> list[Marginals]:
        return [member for member in self.members if isinstance(member, Marginals)]


def load_ensemble(paths: Sequence[Path], device: torch.device) -> Ensemble:
    """The networks of these checkpoints, ready to predict.

    Raises:
        PredictionError: one is missing, damaged, or older than `predict` and `export`.
    """
    return Ensemble([_load(path) for path in paths]).to(device).eval()


def _load(path: Path) -> SavedNetwork:
    state = load_checkpoint(path, or_previous=False) if path.is_file() else None
    if state is None:
        raise PredictionError(f"{path}: the network's checkpoint is missing or damaged; run its sweep again")
    if "data" not in state or "config" not in state:
        raise PredictionError(f"{path} does not say what its network was built for; run its sweep again")
    config = RunConfig.model_validate_json(state["config"])
    data = DataDescription(**state["data"])
    try:
        network = build_network(_self_contained(config, data, state["network"]).model, data, _placeholder(data))
        network.load_state_dict(state["network"])
    except (KeyError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise PredictionError(
            f"{path} does not fit the network that it names: {reason}; run its sweep again"
        ) from error
    crop = state.get("crop")
    return SavedNetwork(network, config, data, None if crop is None else Crop.model_validate(crop))


def _self_contained(config: RunConfig, data: DataDescription, weights: dict[str, Any]) -> RunConfig:
    """The config without the files that training started from: the checkpoint holds what they held."""
    encoder = config.model.encoder.model_copy(update={"weights": None, "weights_sha256": None})
    orders = config.model.orders
    if orders.source == "file":
        names = orders.step_names(data.tasks)
        listed = tuple(tuple(names[step] for step in order) for order in weights["selector.orders"].tolist())
        orders = orders.model_copy(update={"source": "listed", "listed": listed, "file": None})
    return config.model_copy(update={"model": config.model.model_copy(update={"encoder": encoder, "orders": orders})})


def _placeholder(data: DataDescription) -> TrainingStatistics:
    """Statistics of the right shapes; whatever was made of the real ones is among the weights."""
    features = data.features or 0
    frequency = torch.full((len(data.tasks),), 0.5)
    return TrainingStatistics(torch.zeros(features), torch.ones(features), frequency, rows=1)
