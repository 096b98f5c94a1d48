"""Attribution maps: where a network looks for a task (Tallec 2023, eq. 2.41, fig. 2.11).

Shapes: B batch, T tasks, C channels, H and W height and width of an image or of a feature map.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from duchenne_jobs.models.inputs import Inputs
from duchenne_jobs.models.network import MultiTaskNetwork


def attribution_maps(
    network: MultiTaskNetwork,
    inputs: Inputs,
    layer: nn.Module | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """A^t = 1/C sum_c (gradient of p^t with respect to x)_c (Tallec 2023, eq. 2.41).

    x is the image, or what `layer` gives: "the input image or intermediate features in the convolutional backbone".
    The labels that a recurrence draws are constants of the gradient. The network is used in evaluation mode, and its
    parameters' gradients are left alone.

    Args:
        inputs: B rows with float images in [0, 1], as the network takes them.
        layer: a module of the network whose output is (B, C, H, W).
        generator: of the draws.

    Returns:
        (B, T, H, W).

    Raises:
        ValueError: no float images, or the layer was not used, or gives something else than maps.
    """
    images = inputs.require("images")
    if not images.is_floating_point():
        raise ValueError(f"attribution needs float images in [0, 1], but got {images.dtype}; divide them by 255")
    was_training = network.training
    network.eval()
    try:
        with torch.enable_grad():
            images = images.detach().requires_grad_(True)
            seen: list[Tensor] = [images] if layer is None else []
            hook = None if layer is None else layer.register_forward_hook(lambda _m, _i, out: seen.append(out))
            try:
                predicted = network.differentiable_prediction(replace(inputs, images=images), generator)
            finally:
                if hook is not None:
                    hook.remove()
            if len(seen) != 1 or seen[0].dim() != 4:
                shapes: list[Any] = [tuple(output.shape) for output in seen]
                raise ValueError(f"`layer` must give one (B, C, H, W), but got {shapes}; name a convolutional one")
            # Rows do not meet in evaluation mode, so that the gradient of a sum over rows is each row's own.
            gradients = [torch.autograd.grad(p.sum(), seen[0], retain_graph=True)[0] for p in predicted.unbind(dim=1)]
    finally:
        network.train(was_training)
    return torch.stack(gradients, dim=1).mean(dim=2)
