"""Weights from a path and from a bucket; what is refused names the file and the tensors."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from duchenne_jobs.config import EncoderConfig
from duchenne_jobs.models import DataDescription, Inputs
from duchenne_jobs.models.encoders import TokenEncoder, WeightsError, build_token_encoder, weights_sha256_of
from duchenne_jobs.models.encoders.inception_resnet_v1 import InceptionResnetV1, from_facenet
from duchenne_jobs.models.encoders.weights import load_into, read_weights

FACES = DataDescription(tasks=("AU1",), image_size=(80, 80))


def built(seed: int, **fields: Any) -> TokenEncoder:
    torch.manual_seed(seed)
    return build_token_encoder(EncoderConfig(**fields), FACES).eval()


def tokens(encoder: TokenEncoder) -> torch.Tensor:
    with torch.no_grad():
        return encoder.tokens(Inputs(images=torch.linspace(0, 1, 3 * 80 * 80).reshape(1, 3, 80, 80)))


def facenet_layout() -> dict[str, tuple[int, ...]]:
    """Names and shapes of facenet-pytorch's state dict, written out from its layout: units are `conv` and `bn`."""
    shapes: dict[str, tuple[int, ...]] = {}

    def unit(name: str, channels: int, wider: int, high: int = 1, wide: int = 1) -> None:
        shapes[f"{name}.conv.weight"] = (wider, channels, high, wide)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{part}"] = (wider,)

    def block(name: str, channels: int, middle: int, joined: int, sides: list[tuple[int, int]]) -> None:
        unit(f"{name}.branch0", channels, middle)
        unit(f"{name}.branch1.0", channels, middle)
        for position, (high, wide) in enumerate(sides, start=1):
            unit(f"{name}.branch1.{position}", middle, middle, high, wide)
        shapes[f"{name}.conv2d.weight"] = (channels, joined, 1, 1)
        shapes[f"{name}.conv2d.bias"] = (channels,)

    for name, channels, wider, side in (
        ("conv2d_1a", 3, 32, 3),
        ("conv2d_2a", 32, 32, 3),
        ("conv2d_2b", 32, 64, 3),
        ("conv2d_3b", 64, 80, 1),
        ("conv2d_4a", 80, 192, 3),
        ("conv2d_4b", 192, 256, 3),
    ):
        unit(name, channels, wider, side, side)
    for repeat in range(5):
        block(f"repeat_1.{repeat}", 256, 32, 96, [(3, 3)])
        for position, channels in enumerate((256, 32, 32)):
            side = 1 if position == 0 else 3
            unit(f"repeat_1.{repeat}.branch2.{position}", channels, 32, side, side)
    unit("mixed_6a.branch0", 256, 384, 3, 3)
    for position, (channels, wider, side) in enumerate(((256, 192, 1), (192, 192, 3), (192, 256, 3))):
        unit(f"mixed_6a.branch1.{position}", channels, wider, side, side)
    for repeat in range(10):
        block(f"repeat_2.{repeat}", 896, 128, 256, [(1, 7), (7, 1)])
    for branch, wider in enumerate((384, 256)):
        unit(f"mixed_7a.branch{branch}.0", 896, 256)
        unit(f"mixed_7a.branch{branch}.1", 256, wider, 3, 3)
    for position, channels in enumerate((896, 256, 256)):
        side = 1 if position == 0 else 3
        unit(f"mixed_7a.branch2.{position}", channels, 256, side, side)
    for name in (*(f"repeat_3.{repeat}" for repeat in range(5)), "block8"):
        block(name, 1792, 192, 384, [(1, 3), (3, 1)])
    shapes |= {"last_linear.weight": (512, 1792), "logits.weight": (8631, 512), "logits.bias": (8631,)}
    shapes |= {f"last_bn.{part}": (512,) for part in ("weight", "bias", "running_mean", "running_var")}
    return shapes


def test_facenet_names_reach_every_tensor_of_inception_resnet_v1(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.rand(shape, generator=generator) + 0.5
        if name.endswith("running_var")
        else 0.05 * torch.randn(shape)
        for name, shape in facenet_layout().items()
        if not name.startswith("logits")
    }
    path = tmp_path / "vggface2.safetensors"
    save_file(state, path)
    encoder = built(0, name="inception_resnet_v1", weights=str(path))
    network = encoder.backbone
    assert isinstance(network, InceptionResnetV1)
    own = network.state_dict()
    for theirs, ours in (
        ("conv2d_3b.conv.weight", "stem.4.conv.weight"),
        ("repeat_1.4.branch2.1.bn.running_var", "blocks_35.4.branches.2.1.bn.running_var"),
        ("mixed_6a.branch0.conv.weight", "reduction_a.branches.0.0.conv.weight"),
        ("repeat_2.9.conv2d.bias", "blocks_17.9.projection.bias"),
        ("mixed_7a.branch2.2.bn.bias", "reduction_b.branches.2.2.bn.bias"),
        ("block8.branch1.2.conv.weight", "blocks_8.5.branches.1.2.conv.weight"),
    ):
        assert torch.equal(own[ours], state[theirs])
    mapped = from_facenet(state)
    assert {name for name in own if not name.endswith("num_batches_tracked")} == {
        name for name in mapped if not name.startswith("last_")
    }
    assert encoder.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert bool(torch.isfinite(tokens(encoder)).all())


def test_a_resnet_from_a_bucket_is_the_same_network(caplog: pytest.LogCaptureFixture) -> None:
    whole = built(1, name="resnet50", cut="7x7")
    state = {f"module.{name.removeprefix('network.')}": tensor for name, tensor in whole.backbone.state_dict().items()}
    state |= {"module.fc.weight": torch.zeros(1000, 2048), "module.fc.bias": torch.zeros(1000)}
    url = "memory://weights/resnet50.pt"
    with fsspec.open(url, "wb") as file:
        torch.save({"epoch": 3, "state_dict": state}, file)
    caplog.set_level(logging.INFO, logger="duchenne.models")
    copy = built(2, name="resnet50", cut="7x7", weights=url)
    assert torch.equal(tokens(copy), tokens(whole))
    digest = weights_sha256_of(nn.ModuleList([copy]))
    assert digest is not None
    assert digest in caplog.text
    cut = built(3, name="resnet50", weights=url, weights_sha256=digest)  # the layers after the cut are simply not there
    assert torch.equal(cut.backbone.network.layer3[0].conv1.weight, whole.backbone.network.layer3[0].conv1.weight)  # type: ignore[union-attr,index]
    with pytest.raises(WeightsError, match=r"its SHA-256 must be model\.encoder\.weights_sha256, 0000.*, but is"):
        built(3, name="resnet50", weights=url, weights_sha256="0" * 64)
    with pytest.raises(WeightsError) as error:
        built(3, name="inception_v3", weights=url)
    assert "the weights must be the encoder's, but missing: Conv2d_1a_3x3.conv.weight" in str(error.value)
    assert "\n" not in str(error.value)
    fsspec.filesystem("memory").rm("/weights", recursive=True)


def test_weights_sha256_of_a_random_start_is_none() -> None:
    assert weights_sha256_of(built(0, name="conv")) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"0.weight": torch.zeros(4, 3)}, r"of another shape: 0\.weight \(4, 3\) for \(4, 2\); name the encoder"),
        ({"0.weight": None, "0.bias": None}, r"missing: 0\.weight, 0\.bias; name"),
        ({f"more.{i}": torch.zeros(1) for i in range(5)}, r"unknown: more\.0, more\.1, more\.2 and 2 more; name"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    module = nn.Sequential(nn.Linear(2, 4))
    state = {"0.weight": torch.ones(4, 2), "0.bias": torch.ones(4), "fc.weight": torch.ones(1)} | change
    path = tmp_path / "small.safetensors"
    path.write_bytes(save({name: tensor for name, tensor in state.items() if tensor is not None}))
    weights = read_weights(EncoderConfig(name="resnet50", weights=str(path)))
    assert weights is not None
    with pytest.raises(WeightsError, match=message):
        load_into(module, weights, weights.state, r"fc\.")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("unpickled",))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.pt", None, "there is no such file of weights; correct model.encoder.weights"),
        ("a.onnx", b"", "weights are a .safetensors, .pt, .pth file; convert it or name another"),
        ("torn.safetensors", b"\x08\x00\x00", "the file can't be read as one"),
        ("torn.pth", b"PK\x03\x04", "the file can't be read as one"),
        ("evil.pt", Evil(), "the file can't be read as one"),
        ("list.pt", [1, 2], "weights must be a state dict of tensors, but got other objects; save only tensors"),
    ],
)
def test_files_that_are_no_weights_are_refused(
    tmp_path: Path, name: str, content: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(WeightsError) as error:
        read_weights(EncoderConfig(name="resnet50", weights=str(path)))
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert "unpickled" not in capsys.readouterr().out
