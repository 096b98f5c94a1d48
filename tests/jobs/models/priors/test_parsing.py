"""Face parsing on the attention's grid, worked by hand (Tallec 2023, eq. 3.35 to 3.37)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from duchenne_jobs.config.guidance import INFORMATIVE_CLASSES
from duchenne_jobs.models.priors import AttentionPrior, ClassShares, SoftParsingPrior

BISENET = ("background", "skin", "l_brow", "r_brow", "l_eye", "r_eye", "eye_g", "l_ear", "r_ear", "ear_r", "nose")
BISENET += ("mouth", "u_lip", "l_lip", "neck", "neck_l", "cloth", "hair", "hat")
CELEBA_MASK = ("background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth")
CELEBA_MASK += ("u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth")
NAMES = ("background", "skin", "nose", "hat")


def parsing() -> Tensor:
    """(1, 2, 4): a left patch of 3/4 skin and 1/4 nose, a right one of 1/2 hat, 1/4 background, 1/4 unnamed."""
    return torch.tensor([[[1, 1, 3, 3], [1, 2, 0, 9]]], dtype=torch.uint8)


def test_shares_of_each_patch_with_the_rest_as_one_class() -> None:
    shares = ClassShares(("nose", "skin"), NAMES)
    assert shares.names == ("nose", "skin", "other")
    expected = torch.tensor([[[[0.25, 0.0]], [[0.75, 0.0]], [[0.0, 0.75]]]])
    torch.testing.assert_close(shares(parsing(), (1, 2)), expected)


def test_both_public_class_orders_give_the_same_shares() -> None:
    face = torch.randint(0, 19, (2, 12, 12), generator=torch.Generator().manual_seed(0))
    renumbered = torch.tensor([CELEBA_MASK.index(name) for name in BISENET])[face]
    one = ClassShares(INFORMATIVE_CLASSES, BISENET)(face.to(torch.uint8), (3, 4))
    other = ClassShares(INFORMATIVE_CLASSES, CELEBA_MASK)(renumbered.to(torch.uint8), (3, 4))
    assert one.shape == (2, 10, 3, 4)
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(one.sum(dim=1), torch.ones(2, 3, 4))


def test_a_class_that_the_dataset_does_not_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of the dataset's \(background, skin, nose, hat\), but got chin;"):
        ClassShares(("skin", "chin"), NAMES)


def test_priors_are_distributions_and_an_absent_class_has_none() -> None:
    priors = ClassShares(("nose", "skin"), (*NAMES, "extra")).priors(parsing().repeat(2, 1, 1), (1, 2))
    torch.testing.assert_close(priors[0].sum(dim=(-1, -2)), torch.ones(3))
    empty = ClassShares(("nose", "hat"), NAMES).priors(torch.full((1, 2, 4), 1, dtype=torch.uint8), (1, 2))
    assert empty[0].tolist() == [[[0.0, 0.0]], [[0.0, 0.0]], [[0.5, 0.5]]]


def test_tokens_of_patches_and_heads_follow_3_35_and_3_36() -> None:
    assignment = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    prior = SoftParsingPrior(ClassShares(("nose", "skin"), NAMES), assignment, width=2, strength=0.5)
    with torch.no_grad():
        prior.tokens.copy_(torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 4.0]]))
    made = prior(parsing(), (1, 2))
    # Left: (1/4, 3/4, 0) / sqrt(10)/4 = (1, 3, 0) / sqrt(10), S = (7, 3) / sqrt(10); right: other alone, S = (0, 4).
    root = 10**0.5
    expected = torch.tensor([[[[17 / root, 4.0]], [[7 / root, 0.0]], [[0.0, 0.0]]]])
    torch.testing.assert_close(made.bias, expected)
    assert made.strength == 0.5


def test_scores_follow_3_37() -> None:
    products = torch.tensor([[[[[6.0, 2.0]]], [[[1.0, 1.0]]]]])  # (B=1, n=2, T=1, h=1, w=2)
    prior = AttentionPrior(bias=torch.tensor([[[[3.0, 0.0]], [[0.0, 0.0]]]]), strength=2.0)
    # sqrt((2^2 + 1) x 5) = 5; a free head is scaled alike.
    torch.testing.assert_close(prior.scores(products, 5), torch.tensor([[[[[2.4, 0.4]]], [[[0.2, 0.2]]]]]))


def test_without_strength_the_scores_are_those_of_plain_attention() -> None:
    products = torch.randn(2, 3, 4, 5, 6)
    plain = AttentionPrior(torch.randn(2, 3, 5, 6), strength=0.0).scores(products, 16)
    torch.testing.assert_close(plain, products / 4)


def test_tokens_are_standard_gaussians_and_learn_and_a_map_without_classes_guides_nothing() -> None:
    torch.manual_seed(0)
    prior = SoftParsingPrior(ClassShares(INFORMATIVE_CLASSES, BISENET), torch.eye(12, 10), width=512, strength=1.0)
    assert prior.tokens.shape == (10, 512)
    assert abs(prior.tokens.mean().item()) < 0.05
    assert prior.tokens.std().item() == pytest.approx(1, abs=0.05)
    nameless = torch.full((1, 8, 8), 255, dtype=torch.uint8)
    bias = prior(nameless, (2, 2)).bias
    assert torch.equal(bias, torch.zeros(1, 12, 2, 2))
    prior(torch.randint(0, 19, (1, 8, 8), dtype=torch.uint8), (2, 2)).bias[:, :10].sum().backward()
    assert prior.tokens.grad is not None
    assert prior.tokens.grad.any(dim=1).all()
    assert not prior(nameless, (2, 2)).bias.isnan().any()
    assert list(prior.state_dict()) == ["tokens"]


def test_heads_turn_to_their_own_class() -> None:
    """With random queries and keys, a strong prior puts the attention of each head on the patches of its class."""
    torch.manual_seed(0)
    face = torch.randint(0, 4, (4, 4, 4)).to(torch.uint8)  # a patch is one pixel
    prior = SoftParsingPrior(ClassShares(NAMES[:3], NAMES), torch.eye(4), width=64, strength=1.0)
    scores = prior(face, (4, 4)).scores(torch.randn(4, 4, 1, 4, 4) * 16**0.5, head_width=16)
    attention = torch.softmax(scores.flatten(-2), dim=-1).unflatten(-1, (4, 4))[:, :, 0]
    inside = torch.stack([(attention.detach()[:, head] * (face == head)).sum(dim=(1, 2)) for head in range(4)], dim=1)
    present = torch.stack([(face == head).flatten(1).any(dim=1) for head in range(4)], dim=1)
    assert float(inside[present].min()) > 0.95
