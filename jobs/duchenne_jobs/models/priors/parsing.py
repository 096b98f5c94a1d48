"""Face parsing on the attention's grid: how much of each patch belongs to which part of the face (Tallec 2023, 3.5.3).

Shapes: B rows, F classes, H x W pixels of the parsing map, h x w patches, n heads, d model width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everyone uses
from torch import Tensor, nn

from duchenne_jobs.config.guidance import OTHER_CLASS

IDS = 256  # a parsing map is uint8


class ClassShares(nn.Module):
    """Share of each class in each patch of a parsing map: the f_ij of eq. 3.35 before it is normalised.

    Classes are told apart by their names, since public parsers number them differently. What the dataset names and the
    prior does not is one class, `other` (3.5.3); an id that the dataset does not name counts for no class, so that a
    map filled with such an id (no face parsed) guides nothing.

    Args:
        classes: F - 1 names that are told apart.
        dataset_classes: names of the map's ids, in order.

    Raises:
        ValueError: a class that the dataset does not name.
    """

    groups: Tensor

    def __init__(self, classes: Sequence[str], dataset_classes: Sequence[str]) -> None:
        super().__init__()
        missing = [name for name in classes if name not in dataset_classes]
        if missing:
            known = ", ".join(dataset_classes) or "none"
            raise ValueError(
                f"every class of a parsing prior must be one of the dataset's ({known}), but got {', '.join(missing)}; "
                "name others, or parse the faces again"
            )
        self.names = (*classes, OTHER_CLASS)
        groups = torch.full((IDS,), len(self.names))  # one more, for ids without a name
        for identifier, name in enumerate(dataset_classes):
            groups[identifier] = self.names.index(name) if name in classes else len(classes)
        self.register_buffer("groups", groups, persistent=False)

    def forward(self, parsing: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, H, W) uint8 class ids -> (B, F, h, w) shares in [0, 1], `other` last.

        A grid that does not divide the map takes the pixels that each patch touches.
        """
        grouped = self.groups[parsing.long()]  # (B, H, W)
        masks = grouped[:, None] == torch.arange(len(self.names), device=parsing.device)[:, None, None]
        shares: Tensor = F.adaptive_avg_pool2d(masks.float(), grid)
        return shares

    def priors(self, parsing: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, F, h, w) distribution of each class over the patches: the priors of a head-to-prior loss (end of 3.5.3).

        All zeros for a class that a face does not show, so that its loss is 0.
        """
        shares: Tensor = self(parsing, grid)
        total = shares.sum(dim=(-2, -1), keepdim=True)
        return shares / total.clamp(min=torch.finfo(shares.dtype).tiny)


@dataclass(frozen=True)
class AttentionPrior:
    """What a soft prior adds to the scores of one cross-attention layer.

    Attributes:
        bias: (B, n, h, w), `S_ij^T theta_Sh`.
        strength: lambda_S.
    """

    bias: Tensor
    strength: float

    def scores(self, products: Tensor, head_width: int) -> Tensor:
        """Scores before softmax (Tallec 2023, eq. 3.37): `(Q K + lambda_S S^T theta) / sqrt((lambda_S^2 + 1) d / n)`.

        Args:
            products: (B, n, T, h, w) products of queries and keys, not scaled.
            head_width: d / n, the width of a head.
        """
        scale = math.sqrt((self.strength**2 + 1) * head_width)
        return (products + self.strength * self.bias[:, :, None]) / scale


class SoftParsingPrior(nn.Module):
    """Learnable tokens of the face-parsing classes, added to attention scores (Tallec 2023, eq. 3.35 to 3.37).

    As printed, `S_ij` and the tokens of heads have the model's full width d, although the scale of 3.37 is that of one
    head: with lambda_S = 1 a pure patch adds about `d / sqrt(2 d / n)` to the score of its head.

    Args:
        shares: what the map is cut into.
        assignment: (n, F) M of eq. 3.36, in {0, 1}, one 1 in a row at most.
        width: d.
        strength: lambda_S.
    """

    assignment: Tensor

    def __init__(self, shares: ClassShares, assignment: Tensor, width: int, strength: float) -> None:
        super().__init__()
        self.shares = shares
        self.strength = strength
        self.register_buffer("assignment", assignment, persistent=False)
        # "Standardized independent gaussian vectors" (3.5.4).
        self.tokens = nn.Parameter(torch.randn(len(shares.names), width))

    def forward(self, parsing: Tensor, grid: tuple[int, int]) -> AttentionPrior:
        """(B, H, W) uint8 class ids -> what is added to the scores of n heads on the (h, w) grid."""
        shares = F.normalize(self.shares(parsing, grid), dim=1)  # over F; a patch without a class stays 0
        patches = torch.einsum("bfhw,fd->bhwd", shares, self.tokens)  # S, eq. 3.35
        heads = self.assignment @ self.tokens  # theta_Sh, eq. 3.36
        return AttentionPrior(torch.einsum("bhwd,nd->bnhw", patches, heads), self.strength)
