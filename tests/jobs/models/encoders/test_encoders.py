"""Encoders of faces: their maps of tokens, what they do to pixels, and which images they refuse."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from duchenne_jobs.config import EncoderConfig
from duchenne_jobs.models import DataDescription, Inputs, TrainingStatistics
from duchenne_jobs.models.encoders import TokenEncoder, build_encoder, build_token_encoder

FACES = DataDescription(tasks=("AU1",), image_size=(64, 48))
NOTHING = TrainingStatistics(torch.empty(0), torch.empty(0), torch.full((1,), 0.5), rows=1)


def encoder(data: DataDescription = FACES, **fields: Any) -> TokenEncoder:
    torch.manual_seed(0)
    return build_token_encoder(EncoderConfig(**fields), data)


@pytest.mark.parametrize(
    ("fields", "size", "shape"),
    [
        ({"name": "conv", "width": 24}, (64, 48), (24, 8, 6)),
        ({"name": "conv", "stride": 16, "layers": 1, "dropout": 0.5}, (64, 48), (64, 4, 3)),
        ({"name": "conv", "image_size": 32}, (64, 48), (64, 4, 4)),
        ({"name": "resnet50", "cut": "28x28"}, (64, 48), (512, 8, 6)),
        ({"name": "resnet50"}, (64, 48), (1024, 4, 3)),
        ({"name": "resnet50", "cut": "7x7"}, (64, 48), (2048, 2, 2)),
        ({"name": "inception_v3"}, (112, 80), (2048, 2, 1)),
        ({"name": "inception_resnet_v1"}, (112, 80), (1792, 2, 1)),
        ({"name": "vit_b16"}, (64, 48), (768, 4, 3)),
    ],
    ids=str,
)
def test_tokens_and_their_mean(fields: dict[str, Any], size: tuple[int, int], shape: tuple[int, int, int]) -> None:
    built = encoder(DataDescription(tasks=("AU1",), image_size=size), **fields).eval()
    images = Inputs(images=torch.rand(2, 3, *size))
    with torch.no_grad():
        tokens = built.tokens(images)
        assert tokens.shape == (2, *shape)
        assert bool(torch.isfinite(tokens).all())
        torch.testing.assert_close(built(images), tokens.mean(dim=(2, 3)))
    assert (built.width, *built.grid) == shape


def test_the_grids_of_the_thesis_are_those_of_224_pixels() -> None:
    data = DataDescription(tasks=("AU1",), image_size=(224, 224))
    for cut, side in (("28x28", 28), ("14x14", 14), ("7x7", 7)):
        assert encoder(data, name="resnet50", cut=cut).grid == (side, side)


def test_pixels_enter_normalised_and_resized() -> None:
    mean, std = (0.25, 0.5, 0.75), (0.5, 0.25, 0.125)
    plain = encoder(name="conv", pixel_mean=(0.0, 0.0, 0.0), pixel_std=(1.0, 1.0, 1.0)).eval()
    built = encoder(name="conv", pixel_mean=mean, pixel_std=std).eval()
    images = torch.rand(2, 3, 64, 48)
    by_hand = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(built.tokens(Inputs(images=images)), plain.tokens(Inputs(images=by_hand)))
        grey = Inputs(images=torch.full((1, 3, 16, 16), 0.5))
        same = Inputs(images=torch.full((1, 3, 64, 48), 0.5))
        torch.testing.assert_close(built.tokens(grey), built.tokens(same))


def test_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes pixels in \[0, 1\], but got torch\.uint8; divide them by 255"):
        encoder(name="conv")(Inputs(images=torch.zeros(1, 3, 64, 48, dtype=torch.uint8)))


@pytest.mark.parametrize(
    ("fields", "mean", "std"),
    [
        ({"name": "conv"}, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ({"name": "resnet50", "cut": "28x28"}, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ({"name": "inception_resnet_v1", "image_size": 80}, (0.5, 0.5, 0.5), (128 / 255,) * 3),
    ],
    ids=str,
)
def test_each_encoder_has_its_own_normalisation(fields: dict[str, Any], mean: Any, std: Any) -> None:
    built = encoder(**fields)
    torch.testing.assert_close(built.mean.flatten(), torch.tensor(mean))
    torch.testing.assert_close(built.std.flatten(), torch.tensor(std))


def test_building_moves_no_running_statistics_and_draws_nothing_more() -> None:
    built = encoder(name="conv")
    norm = built.backbone[1]
    assert isinstance(norm, torch.nn.BatchNorm2d)
    assert norm.num_batches_tracked is not None
    assert int(norm.num_batches_tracked) == 0
    assert built.training
    assert norm.training


def test_a_projection_where_the_width_differs() -> None:
    projected = build_encoder(EncoderConfig(name="conv", width=16), FACES, NOTHING, out_width=10)
    assert projected(Inputs(images=torch.rand(2, 3, 64, 48))).shape == (2, 10)
    assert isinstance(build_encoder(EncoderConfig(name="conv", width=16), FACES, NOTHING, out_width=16), TokenEncoder)


@pytest.mark.parametrize(
    ("fields", "size", "message"),
    [
        ({"name": "conv"}, None, "conv needs images, but the dataset has none; use encoder features or other data"),
        ({"name": "conv"}, (60, 64), "conv needs sides of 8 pixels or more, multiples of 8, but got 60 x 64"),
        (
            {"name": "inception_v3"},
            (64, 64),
            "sides of 75 pixels or more, but got 64 x 64; set model.encoder.image_size",
        ),
        ({"name": "features"}, (64, 64), "attention reads a map of tokens, but model.encoder features gives none"),
    ],
    ids=str,
)
def test_images_that_do_not_fit_are_refused(fields: dict[str, Any], size: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        encoder(DataDescription(tasks=("AU1",), features=3, image_size=size), **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "resnet50", "width": 32}, "`width` belongs to encoder features or conv, but name is 'resnet50'"),
        ({"name": "conv", "cut": "7x7"}, "`cut` belongs to encoder resnet50, but name is 'conv'"),
        ({"name": "features", "image_size": 64}, "`image_size` belongs to encoder conv or"),
        ({"name": "conv", "weights": "a.pt"}, "`weights` belongs to encoder inception_v3 or"),
        ({"name": "resnet50", "weights_sha256": "0" * 64}, "`weights_sha256` needs `weights`"),
        (
            {"name": "conv", "image_size": 100},
            "`image_size`: conv needs sides of 8 pixels or more, multiples of 8, but",
        ),
        ({"name": "vit_b16", "image_size": 100}, "vit_b16 needs sides of 16 pixels or more, multiples of 16, but got"),
        (
            {"name": "inception_v3", "image_size": 74},
            "inception_v3 needs sides of 75 pixels or more, but got 74; choose",
        ),
    ],
    ids=str,
)
def test_fields_of_other_encoders_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EncoderConfig(**fields)


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoders of timm are built from code alone, and its hub is told to stay offline."""

    def refuse(*_: object) -> None:
        raise OSError("an encoder must not open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    encoder(name="resnet50", cut="28x28")
    assert os.environ["HF_HUB_OFFLINE"] == "1"
