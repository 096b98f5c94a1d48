"""Attention layers over a map of tokens (Tallec 2023, 3.3.1 and 3.3.2).

Shapes: B rows, d width of a token, n heads, Q queries, P = h x w tokens on h rows and w columns, T task tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from duchenne_jobs.config import AttentionConfig, EncoderConfig
from duchenne_jobs.models.encoders import build_token_encoder
from duchenne_jobs.models.inputs import DataDescription, Inputs
from duchenne_jobs.models.priors import AttentionPrior

FREQUENCY_BASE = 10000.0
TOKEN_DEVIATION = 0.02


def sine_positions(height: int, width: int, channels: int) -> Tensor:
    """Position of each cell of a grid (Tallec 2023, eq. 3.17 and 3.18), rows and columns counted from 0.

    `PE_ij = concat(PE_i, PE_j)`, `PE_k = [cos(w_1 k), sin(w_1 k), ..., cos(w_{d/4} k), sin(w_{d/4} k)]`,
    `w_m = 1 / 10000^(4m/d)`.

    Returns:
        (height * width, channels), row after row.

    Raises:
        ValueError: `channels` is not a multiple of 4.
    """
    if channels % 4:
        raise ValueError(f"sine positions need a multiple of 4 channels, but got {channels}; change attention.width")
    steps = torch.arange(1, channels // 4 + 1, dtype=torch.float64)
    frequencies = FREQUENCY_BASE ** (-4 * steps / channels)

    def along(count: int) -> Tensor:
        angles = torch.arange(count, dtype=torch.float64)[:, None] * frequencies
        return torch.stack([angles.cos(), angles.sin()], dim=-1).flatten(1)  # (count, d / 2)

    rows = along(height)[:, None, :].expand(height, width, channels // 2)
    columns = along(width)[None, :, :].expand(height, width, channels // 2)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1).to(torch.get_default_dtype())


class MultiHeadAttention(nn.Module):
    """n heads side by side (Tallec 2023, eq. 3.1 to 3.6); projections without biases, as printed."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries = nn.Linear(width, width, bias=False)
        self.keys = nn.Linear(width, width, bias=False)
        self.values = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, queries: Tensor, keys: Tensor, prior: AttentionPrior | None = None) -> tuple[Tensor, Tensor]:
        """(B, Q, d) queries, (B, P, d) keys that are the values too -> (B, Q, d), and scores (B, n, Q, P).

        Args:
            prior: what is added to the scores before their softmax (eq. 3.37).
        """
        q, k, v = self._split(self.queries(queries)), self._split(self.keys(keys)), self._split(self.values(keys))
        products = q @ k.transpose(-1, -2)
        if prior is None:
            scores = products / q.shape[-1] ** 0.5  # eq. 3.4
        else:
            on_grid = torch.unflatten(products, -1, prior.bias.shape[-2:])
            scores = prior.scores(on_grid, q.shape[-1]).flatten(-2)
        return self._join(torch.softmax(scores, dim=-1) @ v), scores

    def without_scores(self, tokens: Tensor) -> Tensor:
        """The tokens attend to each other, (B, P, d) -> (B, P, d), by torch's fused form of the same equations."""
        q, k, v = (self._split(layer(tokens)) for layer in (self.queries, self.keys, self.values))
        return self._join(F.scaled_dot_product_attention(q, k, v))

    def _split(self, projected: Tensor) -> Tensor:
        return torch.unflatten(projected, -1, (self.heads, -1)).transpose(1, 2)  # (B, n, ., d / n)

    def _join(self, attended: Tensor) -> Tensor:
        joined: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return joined


class _Layer(nn.Module):
    """What self- and cross-attention share: the attention, and the residual steps after it (eq. 3.7 to 3.11).

    The residuals add to the *normalised* queries, as 3.9 and 3.11 print it.
    """

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.norm_queries = nn.LayerNorm(config.width)
        self.attention = MultiHeadAttention(config.width, config.heads)
        self.norm_attended = nn.LayerNorm(config.width)
        hidden = config.mlp_ratio * config.width
        self.perceptron = nn.Sequential(
            nn.Linear(config.width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, config.width, bias=False)
        )

    def update(self, queries: Tensor, attended: Tensor) -> Tensor:
        """Normalised queries and what they attended to, both (B, Q, d) -> (B, Q, d)."""
        normalised = self.norm_attended(queries + attended)
        updated: Tensor = normalised + self.perceptron(normalised)
        return updated


class SelfAttentionLayer(_Layer):
    """SA: the tokens attend to each other (Tallec 2023, eq. 3.12)."""

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, P, d) -> (B, P, d)."""
        normalised = self.norm_queries(tokens)
        return self.update(normalised, self.attention.without_scores(normalised))


class CrossAttentionLayer(_Layer):
    """CA: queries attend to tokens, which are keys and values (Tallec 2023, eq. 3.13)."""

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__(config)
        self.norm_keys = nn.LayerNorm(config.width)

    def forward(self, queries: Tensor, tokens: Tensor, prior: AttentionPrior | None = None) -> tuple[Tensor, Tensor]:
        """(B, Q, d) queries and (B, P, d) tokens -> (B, Q, d), and scores (B, n, Q, P) before softmax."""
        normalised = self.norm_queries(queries)
        attended, scores = self.attention(normalised, self.norm_keys(tokens), prior)
        return self.update(normalised, attended), scores


@dataclass(frozen=True)
class Attended:
    """What the task tokens became, and where they looked.

    Attributes:
        states: (B, T, d), T_{N_CA} of eq. 3.24 and 3.27; T is 1 where all tasks share a token.
        scores: (B, n, T, h, w) of each cross-attention layer, before softmax (eq. 3.4).
        maps: (B, C, h, w), the encoder's own tokens.
    """

    states: Tensor
    scores: tuple[Tensor, ...]
    maps: Tensor


class AttentionStage(nn.Module):
    """A part of the transformer whose learning rate follows its number of queries (Tallec 2023, 3.4.3).

    Attributes:
        queries: q.
        width: d.
    """

    def __init__(self, queries: int, width: int) -> None:
        super().__init__()
        self.queries = queries
        self.width = width


class TokenRefinement(AttentionStage):
    """Positions and N_SA layers of self-attention over an image's tokens (Tallec 2023, eq. 3.15 and 3.16)."""

    positions: Tensor

    def __init__(self, config: AttentionConfig, grid: tuple[int, int]) -> None:
        super().__init__(grid[0] * grid[1], config.width)
        self.register_buffer("positions", sine_positions(*grid, config.width), persistent=False)
        self.layers = nn.ModuleList(SelfAttentionLayer(config) for _ in range(config.self_layers))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, P, d) -> (B, P, d)."""
        tokens = tokens + self.positions
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens


class TaskTokens(AttentionStage):
    """Learnable task tokens and N_CA layers of cross-attention (Tallec 2023, eq. 3.23, 3.24, 3.26 and 3.27).

    Args:
        queries: T task tokens; one, where all tasks share it.
    """

    def __init__(self, config: AttentionConfig, queries: int) -> None:
        super().__init__(queries, config.width)
        self.tokens = nn.Parameter(TOKEN_DEVIATION * torch.randn(queries, config.width))
        self.layers = nn.ModuleList(CrossAttentionLayer(config) for _ in range(config.cross_layers))

    def forward(
        self, tokens: Tensor, grid: tuple[int, int], priors: Sequence[AttentionPrior | None] | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B, P, d) tokens on an (h, w) grid -> states (B, T, d), and each layer's scores (B, n, T, h, w).

        Args:
            priors: one for each layer, None for a layer without.
        """
        states = self.tokens.expand(tokens.shape[0], -1, -1)
        scores = []
        for layer, prior in zip(self.layers, priors or [None] * len(self.layers), strict=True):
            states, of_layer = layer(states, tokens, prior)
            scores.append(torch.unflatten(of_layer, -1, grid))
        return states, tuple(scores)


class TokenMap(nn.Module):
    """An encoder whose tokens have the width that attention asks for (Tallec 2023, eq. 3.22).

    A 1 x 1 convolution, and a layer normalisation that brings the tokens to the scale of their positions.

    Attributes:
        grid: (h, w).
    """

    def __init__(self, encoder: EncoderConfig, attention: AttentionConfig, data: DataDescription) -> None:
        super().__init__()
        self.encoder = build_token_encoder(encoder, data)
        self.grid = self.encoder.grid
        self.projection = nn.Conv2d(self.encoder.width, attention.width, kernel_size=1)
        self.norm = nn.LayerNorm(attention.width)

    def forward(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """B rows -> (B, P, d), row after row of the grid, and the encoder's own tokens (B, C, h, w)."""
        maps = self.encoder.tokens(inputs)
        return self.norm(self.projection(maps).flatten(2).transpose(1, 2)), maps
