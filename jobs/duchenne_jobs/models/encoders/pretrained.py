"""Known image networks through timm, cut where their tokens are (Tallec 2023, 2.5.2 and 3.4.3).

Shapes: B batch, H and W height and width in pixels, C channels of a token, h and w rows and columns of tokens.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor, nn

from duchenne_jobs.config import EncoderConfig
from duchenne_jobs.models.encoders import inception_resnet_v1
from duchenne_jobs.models.encoders.base import Backbone, PixelRules
from duchenne_jobs.models.encoders.weights import load_into, read_weights

# The classifier, and what else a checkpoint of the whole network holds and no token needs.
HEADS = {
    "inception_v3": r"(fc|AuxLogits)\.",
    "resnet50": r"fc\.",
    "vit_b16": r"(head|head_dist|pre_logits|fc_norm)\.",
    "inception_resnet_v1": r"(last_linear|last_bn|logits)\.",
}
TIMM_NAMES = {"inception_v3": "inception_v3", "resnet50": "resnet50", "vit_b16": "vit_base_patch16_224"}
STAGES_AFTER = {"28x28": ("layer3", "layer4"), "14x14": ("layer4",), "7x7": ()}


def pretrained_backbone(config: EncoderConfig) -> Backbone:
    """The network that a config names, with its weights where it names a file.

    Raises:
        WeightsError: the weights can't be read or are another network's.
    """
    weights = read_weights(config)
    digest = None if weights is None else weights.sha256
    if config.name == "inception_resnet_v1":
        network = inception_resnet_v1.InceptionResnetV1()
        if weights is not None:
            load_into(network, weights, inception_resnet_v1.from_facenet(weights.state), HEADS[config.name])
        return Backbone(network, inception_resnet_v1.RULES, digest)
    whole = _timm_network(config.name)
    if weights is not None:
        load_into(whole, weights, weights.state, HEADS[config.name])
    if config.name == "resnet50":
        for stage in STAGES_AFTER[config.cut]:
            setattr(whole, stage, nn.Identity())
    own = whole.pretrained_cfg
    return Backbone(_Features(whole), PixelRules(own["mean"], own["std"]), digest)


def _timm_network(name: str) -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when timm is imported: weights come from where the spec says
    import timm

    # Positions of any grid are interpolated from the 14 x 14 of the published weights.
    options: dict[str, Any] = {"dynamic_img_size": True} if name == "vit_b16" else {}
    return timm.create_model(TIMM_NAMES[name], pretrained=False, num_classes=0, **options)


class _Features(nn.Module):
    """A network of timm up to its last map of features."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, h, w)."""
        features: Tensor = self.network.forward_features(images)
        if features.dim() == 4:
            return features
        patch_height, patch_width = self.network.patch_embed.patch_size
        grid = (images.shape[2] // patch_height, images.shape[3] // patch_width)
        patches = features[:, self.network.num_prefix_tokens :]
        return torch.unflatten(patches.transpose(1, 2), 2, grid)
