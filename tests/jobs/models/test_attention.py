"""Attention layers against hand-worked examples and the equations of Tallec 2023, 3.3."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from duchenne_jobs.config import AttentionConfig
from duchenne_jobs.models.attention import (
    CrossAttentionLayer,
    MultiHeadAttention,
    SelfAttentionLayer,
    TaskTokens,
    TokenRefinement,
    sine_positions,
)
from duchenne_jobs.models.priors import AttentionPrior


def identity_attention(width: int, heads: int) -> MultiHeadAttention:
    attention = MultiHeadAttention(width, heads)
    with torch.no_grad():
        for layer in (attention.queries, attention.keys, attention.values, attention.output):
            layer.weight.copy_(torch.eye(width))
    return attention


def test_one_head_by_hand() -> None:
    """Q = (1, 0), K = V = unit vectors: A = (1, 0) / sqrt(2), softmax (0.6698, 0.3302), eq. 3.4 and 3.5."""
    attended, scores = identity_attention(2, 1)(torch.tensor([[[1.0, 0.0]]]), torch.eye(2)[None])
    torch.testing.assert_close(scores, torch.tensor([[[[1 / math.sqrt(2), 0.0]]]]))
    first = 1 / (1 + math.exp(-1 / math.sqrt(2)))
    torch.testing.assert_close(attended, torch.tensor([[[first, 1 - first]]]))
    assert first == pytest.approx(0.6698, abs=1e-4)


def test_two_heads_by_hand() -> None:
    """Each head sees one coordinate, d_H = 1: the first looks at the first key, the second at both alike."""
    attended, scores = identity_attention(2, 2)(torch.tensor([[[1.0, 0.0]]]), torch.eye(2)[None])
    torch.testing.assert_close(scores, torch.tensor([[[[1.0, 0.0]], [[0.0, 0.0]]]]))
    torch.testing.assert_close(attended, torch.tensor([[[1 / (1 + math.exp(-1)), 0.5]]]))


def test_a_prior_is_added_before_the_softmax() -> None:
    """Eq. 3.37: (1 + 2 x 0.5) / sqrt((2^2 + 1) 1) and (0 + 2 x 1) / sqrt(5)."""
    prior = AttentionPrior(bias=torch.tensor([0.5, 1.0]).reshape(1, 1, 1, 2), strength=2.0)
    _, scores = identity_attention(1, 1)(torch.ones(1, 1, 1), torch.tensor([[[1.0], [0.0]]]), prior)
    torch.testing.assert_close(scores, torch.tensor([2.0, 2.0]).div(math.sqrt(5)).reshape(1, 1, 1, 2))


@pytest.mark.parametrize(("height", "width", "channels"), [(1, 1, 4), (3, 2, 8), (7, 5, 12)])
def test_sine_positions_are_the_formula(height: int, width: int, channels: int) -> None:
    positions = sine_positions(height, width, channels)
    assert positions.shape == (height * width, channels)
    for i in range(height):
        for j in range(width):
            expected = []
            for k in (i, j):  # eq. 3.17: the row's half, then the column's
                for m in range(1, channels // 4 + 1):
                    w = 1 / 10000 ** (4 * m / channels)
                    expected += [math.cos(w * k), math.sin(w * k)]
            torch.testing.assert_close(positions[i * width + j], torch.tensor(expected))
    assert len(positions.unique(dim=0)) == height * width


def small(**fields: int) -> AttentionConfig:
    return AttentionConfig(**({"width": 8, "heads": 2, "mlp_ratio": 2} | fields))


def norm(x: Tensor) -> Tensor:
    return (x - x.mean(dim=-1, keepdim=True)) / torch.sqrt(x.var(dim=-1, correction=0, keepdim=True) + 1e-5)


def test_a_cross_attention_layer_is_equations_3_8_to_3_11() -> None:
    torch.manual_seed(0)
    layer = CrossAttentionLayer(small())
    queries, tokens = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    with torch.no_grad():
        updated, scores = layer(queries, tokens)
        q, k = norm(queries), norm(tokens)
        outputs = []
        for head in range(2):
            rows = slice(4 * head, 4 * head + 4)
            a = (q @ layer.attention.queries.weight[rows].T) @ (k @ layer.attention.keys.weight[rows].T).mT / 2.0
            torch.testing.assert_close(scores[:, head], a)
            outputs.append(torch.softmax(a, dim=-1) @ (k @ layer.attention.values.weight[rows].T))
        attended = q + torch.cat(outputs, dim=-1) @ layer.attention.output.weight.T
        up, _, down = layer.perceptron
        normalised = norm(attended)
        expected = normalised + torch.nn.functional.gelu(normalised @ up.weight.T) @ down.weight.T
    torch.testing.assert_close(updated, expected)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), tokens=st.integers(1, 9), heads=st.sampled_from([1, 2, 4]))
def test_the_fused_form_of_self_attention_is_the_same(seed: int, tokens: int, heads: int) -> None:
    torch.manual_seed(seed)
    layer = SelfAttentionLayer(small(heads=heads))
    x = torch.randn(2, tokens, 8)
    with torch.no_grad():
        normalised = layer.norm_queries(x)
        explicit, scores = layer.attention(normalised, normalised)
        torch.testing.assert_close(layer(x), layer.update(normalised, explicit))
    assert scores.shape == (2, heads, tokens, tokens)


def test_self_attention_sees_positions_and_only_through_them_the_place_of_a_token() -> None:
    torch.manual_seed(0)
    refinement = TokenRefinement(small(self_layers=2), (2, 3))
    tokens = torch.randn(1, 6, 8)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    with torch.no_grad():
        placed = refinement(tokens)
        assert not torch.allclose(refinement(tokens[:, order]), placed[:, order])
        refinement.positions.zero_()
        torch.testing.assert_close(refinement(tokens[:, order]), refinement(tokens)[:, order])
    assert refinement.queries == 6
    assert torch.equal(TokenRefinement(small(self_layers=0), (2, 3))(tokens), tokens + sine_positions(2, 3, 8))


def test_task_tokens_go_through_every_layer_with_its_own_prior() -> None:
    torch.manual_seed(0)
    decoder = TaskTokens(small(cross_layers=2), queries=3)
    tokens = torch.randn(2, 6, 8)
    prior = AttentionPrior(bias=torch.randn(2, 2, 2, 3), strength=1.0)
    with torch.no_grad():
        states, scores = decoder(tokens, (2, 3))
        first, _ = decoder.layers[0](decoder.tokens.expand(2, -1, -1), tokens)
        second, of_second = decoder.layers[1](first, tokens)  # eq. 3.27
        _, guided = decoder(tokens, (2, 3), [None, prior])
    torch.testing.assert_close(states, second)
    torch.testing.assert_close(scores[1], of_second.reshape(2, 2, 3, 2, 3))
    assert [tuple(of_layer.shape) for of_layer in scores] == [(2, 2, 3, 2, 3)] * 2
    torch.testing.assert_close(guided[0], scores[0])
    assert not torch.allclose(guided[1], scores[1])


@pytest.mark.parametrize(("width", "heads"), [(10, 2), (12, 5)])
def test_a_width_that_does_not_divide_is_refused(width: int, heads: int) -> None:
    with pytest.raises(ValidationError, match=f"but got width={width} and heads={heads}; change one of them"):
        AttentionConfig(width=width, heads=heads)
