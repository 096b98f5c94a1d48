"""Weights of an encoder, from a file at a path or an `s3://` URL; never from a hub, never by unpickling code."""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from duchenne_jobs.config import EncoderConfig
from duchenne_jobs.data.storage import locate

LOGGER = logging.getLogger("duchenne.models")
SUFFIXES = (".safetensors", ".pt", ".pth")
NESTED = ("state_dict", "model")
NAMED = 3


class WeightsError(ValueError):
    """A file of weights is missing, damaged, not the one named by its checksum, or made for another network."""


@dataclass(frozen=True)
class Weights:
    """A state dict and where it comes from.

    Attributes:
        uri: the file.
        sha256: its checksum, in hexadecimal.
        state: names -> tensors.
    """

    uri: str
    sha256: str
    state: Mapping[str, Tensor]


def read_weights(config: EncoderConfig) -> Weights | None:
    """The weights that a config names; None where it names none.

    Raises:
        WeightsError: there is no such file, it is damaged, or its checksum differs from `weights_sha256`.
        DatasetError: the storage can't be read.
    """
    if config.weights is None:
        return None
    weights = _read(config.weights)
    _require_sha256(config, weights.sha256)
    LOGGER.info("%s: weights of encoder %s, SHA-256 %s", weights.uri, config.name, weights.sha256)
    return weights


def require_weights(config: EncoderConfig) -> None:
    """Look at the file of weights that a config names without making anything of it; raises as `read_weights`.

    What the file holds is seen when the network is built.
    """
    if config.weights is not None:
        _require_sha256(config, hashlib.sha256(_bytes(config.weights)).hexdigest())


@lru_cache(maxsize=2)  # the folds of a trial start from the same file, and the trials of a sweep mostly too
def _read(uri: str) -> Weights:
    data = _bytes(uri)
    return Weights(uri, hashlib.sha256(data).hexdigest(), _tensors(uri, data))


def _require_sha256(config: EncoderConfig, seen: str) -> None:
    if config.weights_sha256 not in (None, seen):
        raise WeightsError(
            f"{config.weights}: its SHA-256 must be model.encoder.weights_sha256, {config.weights_sha256}, but is "
            f"{seen}; put the right file there or change the field"
        )


def _bytes(uri: str) -> bytes:
    if not uri.endswith(SUFFIXES):
        raise WeightsError(f"{uri}: weights are a {', '.join(SUFFIXES)} file; convert it or name another")
    folder, _, name = uri.rpartition("/")
    data = locate(folder or ("/" if uri.startswith("/") else ".")).read(name)
    if data is None:
        raise WeightsError(f"{uri}: there is no such file of weights; correct model.encoder.weights")
    return data


def _tensors(uri: str, data: bytes) -> dict[str, Tensor]:
    try:
        if uri.endswith(".safetensors"):
            from safetensors.torch import load

            return load(data)
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError, safetensors its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(
            f"{uri}: weights must be a state dict of tensors, but the file can't be read as one ({reason}); save "
            "`network.state_dict()` as safetensors"
        ) from error
    for key in NESTED:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise WeightsError(f"{uri}: weights must be a state dict of tensors, but got other objects; save only tensors")
    return {str(name).removeprefix("module."): tensor for name, tensor in state.items()}


def load_into(module: nn.Module, weights: Weights, state: Mapping[str, Tensor], ignored: str) -> None:
    """Copy `state`, the tensors of `weights` under the module's own names, into `module`.

    Args:
        ignored: a pattern of names that may be there besides: the classifier of the network's first life.

    Raises:
        WeightsError: a tensor is missing, is not the module's, or has another shape; the message names them.
    """
    own = module.state_dict()
    # Files of old versions of PyTorch have no counter of batches, and nothing here reads it.
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    foreign = sorted(name for name in state if name not in own and not re.match(ignored, name))
    reshaped = [
        f"{name} {tuple(state[name].shape)} for {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    faults = [
        f"{what}: {_listed(names)}"
        for what, names in (("missing", missing), ("unknown", foreign), ("of another shape", reshaped))
        if names
    ]
    if faults:
        raise WeightsError(
            f"{weights.uri}: the weights must be the encoder's, but {'; '.join(faults)}; name the encoder that they "
            "were made for"
        )
    module.load_state_dict({name: tensor for name, tensor in state.items() if name in own}, strict=False)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
