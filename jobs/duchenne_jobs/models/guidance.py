"""What guides the attention of a network: the terms of `model.guidance` (Tallec 2023, 3.5).

Shapes: B rows, n heads, T queries (tasks), P priors, C channels, h x w patches.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from duchenne_jobs.config.action_units import MULTI_PRIORS
from duchenne_jobs.config.guidance import GuidanceTerm
from duchenne_jobs.config.guidance_fit import AttentionShape, data_misfits, network_misfits
from duchenne_jobs.models.inputs import DataDescription, Inputs
from duchenne_jobs.models.priors import (
    AttentionPrior,
    ClassShares,
    SoftParsingPrior,
    attribution_maps,
    au_centres,
    head_to_prior_losses,
    mono_centres,
    pattel_losses,
    prior_heatmap,
    privileged_attribution_losses,
)


class PriorMaps(nn.Module):
    """Where a prior lies on the grid of the attention, for each row.

    Args:
        term: which prior.
        data: its landmarks and parsing classes.
        per_task: landmarks_multi gives one map a task (pattel) instead of the ten of table 3.2 (head_to_prior).
    """

    def __init__(self, term: GuidanceTerm, data: DataDescription, per_task: bool = False) -> None:
        super().__init__()
        self.sigma = 1.0 if term.sigma is None else term.sigma
        self.image_size = data.image_size
        self.action_units: tuple[str, ...] = ()
        self.shares: ClassShares | None = None
        if term.prior == "landmarks_multi":
            self.action_units = data.tasks if per_task else MULTI_PRIORS
        elif term.prior == "parsing":
            self.shares = ClassShares(term.parsing_classes, data.parsing_classes)

    def forward(self, inputs: Inputs, grid: tuple[int, int]) -> Tensor:
        """(B, P, h, w) distributions over the patches; zeros where a face has no landmarks, or no such class."""
        if self.shares is not None:
            return self.shares.priors(inputs.require("parsing"), grid)
        landmarks = inputs.require("landmarks")
        centres = au_centres(landmarks, self.action_units) if self.action_units else mono_centres(landmarks)
        return prior_heatmap(centres, self._size(inputs), grid, self.sigma)

    def _size(self, inputs: Inputs) -> tuple[int, int]:
        """Landmarks are pixels of these images, which augmentation may have cropped."""
        if inputs.images is not None:
            height, width = inputs.images.shape[-2:]
            return height, width
        if self.image_size is None:
            raise ValueError("a landmark prior needs the size of the images, but got rows without; pass the images")
        return self.image_size


class _AttentionTerm(nn.Module, ABC):
    """A loss on the scores of some cross-attention layers."""

    def __init__(self, term: GuidanceTerm, attention: AttentionShape, maps: PriorMaps) -> None:
        super().__init__()
        self.weight = term.coefficient
        self.layers = term.on_layers(attention.layers)
        self.maps = maps

    def forward(self, inputs: Inputs, scores: Sequence[Tensor]) -> Tensor:
        """(B,) weighted losses, mean over the guided layers so that the weight does not depend on their number."""
        height, width = scores[self.layers[0]].shape[-2:]  # every layer looks at the same patches
        priors = self.maps(inputs, (height, width))
        losses = torch.stack([self.losses(priors, scores[layer]) for layer in self.layers])
        return self.weight * losses.mean(dim=0)

    @abstractmethod
    def losses(self, priors: Tensor, scores: Tensor) -> Tensor:
        """(B, P, h, w) and (B, n, T, h, w) -> (B,)."""


class _PattelTerm(_AttentionTerm):
    def __init__(self, term: GuidanceTerm, attention: AttentionShape, data: DataDescription) -> None:
        super().__init__(term, attention, PriorMaps(term, data, per_task=True))
        self.fraction = term.guided_fraction

    def losses(self, priors: Tensor, scores: Tensor) -> Tensor:
        return pattel_losses(priors, scores, self.fraction)


class _HeadToPriorTerm(_AttentionTerm):
    assignment: Tensor

    def __init__(self, term: GuidanceTerm, attention: AttentionShape, data: DataDescription) -> None:
        super().__init__(term, attention, PriorMaps(term, data))
        self.register_buffer("assignment", assignment_matrix(term, attention.heads), persistent=False)

    def losses(self, priors: Tensor, scores: Tensor) -> Tensor:
        return head_to_prior_losses(priors, scores, self.assignment)


class _PrivilegedAttributionTerm(nn.Module):
    """PAL on the channels of an encoder (Bonnard et al. 2022)."""

    def __init__(self, term: GuidanceTerm, data: DataDescription) -> None:
        super().__init__()
        self.weight = term.coefficient
        self.fraction = term.guided_fraction
        self.by_gradient = term.attribution != "activation"
        self.maps = PriorMaps(term, data)

    def forward(self, inputs: Inputs, channels: Tensor | None, outputs: Tensor | None) -> Tensor:
        if channels is None or (self.by_gradient and outputs is None):
            raise ValueError(
                "pal needs an encoder with a token map and the outputs that come of it, but this network gave none; "
                "choose a convolutional encoder, or remove the term"
            )
        height, width = channels.shape[-2:]
        (prior,) = self.maps(inputs, (height, width)).unbind(dim=1)
        attributions = channels if outputs is None or not self.by_gradient else attribution_maps(outputs, channels)
        return self.weight * privileged_attribution_losses(prior, attributions, self.fraction)


class Guidance(nn.Module):
    """All the terms of `model.guidance`; made by `build_guidance`.

    A network calls `attention_priors` before its cross-attention, and adds what `forward` returns to its losses.
    """

    def __init__(self, terms: Sequence[GuidanceTerm], data: DataDescription, attention: AttentionShape | None) -> None:
        super().__init__()
        self.layers = 0 if attention is None else attention.layers
        self.on_attention = nn.ModuleList()
        self.on_channels = nn.ModuleList()
        self.soft = nn.ModuleList()
        self.soft_layers: list[tuple[int, ...]] = []
        for term in terms:
            if term.kind == "pal":
                self.on_channels.append(_PrivilegedAttributionTerm(term, data))
            elif attention is not None and term.kind == "soft_prior":
                shares = ClassShares(term.parsing_classes, data.parsing_classes)
                matrix = assignment_matrix(term, attention.heads)
                self.soft.append(SoftParsingPrior(shares, matrix, attention.width, term.coefficient))
                self.soft_layers.append(term.on_layers(attention.layers))
            elif attention is not None:
                kind = _PattelTerm if term.kind == "pattel" else _HeadToPriorTerm
                self.on_attention.append(kind(term, attention, data))

    def forward(
        self,
        inputs: Inputs,
        scores: Sequence[Tensor] = (),
        maps: Tensor | None = None,
        outputs: Tensor | None = None,
    ) -> Tensor:
        """What the terms add to the loss of each row.

        Args:
            inputs: B rows with the landmarks or parsing maps that the priors need.
            scores: of each cross-attention layer, (B, n, T, h, w) before softmax.
            maps: (B, C, h, w) token map of the encoder; only pal needs it.
            outputs: (B, T) logits computed from `maps`; only pal by gradient needs them, with gradients on.

        Returns:
            (B,) losses; 0 for a row without landmarks.

        Raises:
            ValueError: a prior's landmarks, parsing maps, token map or outputs are missing.
        """
        total = torch.zeros(len(inputs), device=inputs.device)
        for term in self.on_attention:
            total = total + term(inputs, scores)
        for term in self.on_channels:
            total = total + term(inputs, maps, outputs)
        return total

    def attention_priors(self, inputs: Inputs, grid: tuple[int, int]) -> tuple[AttentionPrior | None, ...]:
        """What soft priors add to the scores of each cross-attention layer, None where there is none.

        Training and inference need it alike: the parsing map is an input of such a network.
        """
        priors: list[AttentionPrior | None] = [None] * self.layers
        for soft, layers in zip(self.soft, self.soft_layers, strict=True):
            prior = soft(inputs.require("parsing"), grid)
            for layer in layers:
                priors[layer] = prior
        return tuple(priors)


def assignment_matrix(term: GuidanceTerm, heads: int) -> Tensor:
    """(n, P) M in {0, 1} of eq. 3.33 and 3.36."""
    matrix = torch.zeros(heads, len(term.names))
    for head, priors in enumerate(term.assigned(heads)):
        matrix[head, list(priors)] = 1.0
    return matrix


def build_guidance(
    terms: Sequence[GuidanceTerm], data: DataDescription, attention: AttentionShape | None = None
) -> Guidance | None:
    """The guidance that a configuration names, or None where it names none.

    Args:
        terms: `model.guidance`.
        data: what the dataset has.
        attention: the network's cross-attention; None for a network without, which takes only pal.

    Raises:
        ValueError: the first term that does not fit the dataset or the network, by its field.
    """
    misfits = chain(
        data_misfits(terms, data.tasks, data.landmark_points, data.parsing_classes),
        network_misfits(terms, attention),
    )
    for misfit in misfits:
        raise ValueError(str(misfit))
    return Guidance(terms, data, attention) if terms else None
