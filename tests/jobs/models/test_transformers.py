"""MTTC, MTTS and MONET on MTTS (Tallec 2023, 3.4.2)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from duchenne_jobs.config import ATTENTION_NAMES, ModelConfig
from duchenne_jobs.losses import TaskLoss
from duchenne_jobs.models import DataDescription, Inputs, TrainingStatistics, build_network

PLAIN = TaskLoss(weights=None, dice=0.0)
CLASSES = ("background", "skin", "nose")
FACES = DataDescription(("AU1", "AU12", "AU14"), image_size=(8, 12), landmark_points=49, parsing_classes=CLASSES)
STATISTICS = TrainingStatistics(torch.empty(0), torch.empty(0), torch.tensor([0.1, 0.5, 0.8]), rows=100)
SMALL: dict[str, Any] = {
    "encoder": {"name": "conv", "layers": 1, "width": 8, "stride": 4},
    "attention": {"width": 8, "heads": 2, "mlp_ratio": 2},
    "orders": {"count": 4},
    "hidden_size": 6,
}


def network(name: str, **model: Any) -> Any:
    torch.manual_seed(0)
    return build_network(ModelConfig.model_validate({"name": name} | SMALL | model), FACES, STATISTICS)


@pytest.fixture
def faces() -> Inputs:
    generator = torch.Generator().manual_seed(1)
    return Inputs(
        images=torch.rand(4, 3, 8, 12, generator=generator),
        landmarks=8 * torch.rand(4, 49, 2, generator=generator),
        parsing=torch.randint(0, 3, (4, 8, 12), generator=generator).to(torch.uint8),
    )


LABELS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
KNOWN = torch.ones(4, 3, dtype=torch.bool)


@pytest.mark.parametrize(("name", "queries"), [("mttc", 1), ("mtts", 3), ("monet_mtts", 3)])
def test_states_and_scores(name: str, queries: int, faces: Inputs) -> None:
    attended = network(name).eval().attend(faces)
    assert attended.states.shape == (4, queries, 8)
    assert [tuple(scores.shape) for scores in attended.scores] == [(4, 2, queries, 2, 3)] * 2
    assert attended.maps.shape == (4, 8, 2, 3)


def test_mttc_reads_one_state_with_one_dense_layer(faces: Inputs) -> None:
    built = network("mttc").eval()
    with torch.no_grad():
        states = built.attend(faces).states
        expected = torch.sigmoid(states[:, 0] @ built.head.weight.T + built.head.bias)  # eq. 3.25
        torch.testing.assert_close(built.predict(faces), expected)
    torch.testing.assert_close(built.head.bias, STATISTICS.bias())


def test_mtts_reads_the_state_of_each_task_with_a_unit_of_its_own(faces: Inputs) -> None:
    built = network("mtts").eval()
    with torch.no_grad():
        states = built.attend(faces).states
        each = [states[:, t] @ built.heads.weight[t] + built.heads.bias[t] for t in range(3)]  # eq. 3.28
        predicted = built.predict(faces)
        torch.testing.assert_close(predicted, torch.sigmoid(torch.stack(each, dim=1)))
        built.attention.decoder.tokens[1].normal_()  # another question about the second task alone
        changed = built.predict(faces)
    assert torch.equal(changed[:, [0, 2]], predicted[:, [0, 2]])
    assert not torch.allclose(changed[:, 1], predicted[:, 1])


def test_monet_starts_from_the_states_of_all_tasks(faces: Inputs) -> None:
    built = network("monet_mtts", inference="exact").eval()
    with torch.no_grad():
        states = built.attend(faces).states
        hidden = states.flatten(1) @ built.encoder.projection.weight.T + built.encoder.projection.bias
        torch.testing.assert_close(built.encoder(faces), hidden)
        losses = built.example_losses(faces, LABELS, LABELS, KNOWN, PLAIN)
        torch.testing.assert_close(losses, built.mixture_losses(hidden, LABELS, LABELS, KNOWN, PLAIN))
        predicted = built.predict(faces)
    assert predicted.shape == (4, 3)
    assert len(built.order_parameters()) == 1
    assert built.order_summary() is not None


@pytest.mark.parametrize("name", ATTENTION_NAMES)
def test_gradients_reach_every_parameter(name: str, faces: Inputs) -> None:
    built = network(name, guidance=[{"kind": "soft_prior", "prior": "parsing", "classes": ["skin", "nose"]}])
    built.example_losses(faces, LABELS, LABELS, KNOWN, PLAIN).sum().backward()
    without = [
        parameter_name
        for parameter_name, parameter in built.named_parameters()
        if parameter.grad is None or not bool((parameter.grad != 0).any())
    ]
    assert without == []


@pytest.mark.parametrize("name", ATTENTION_NAMES)
def test_guidance_adds_its_loss_in_training_and_changes_no_prediction(name: str, faces: Inputs) -> None:
    terms = [{"kind": "pattel", "prior": "landmarks_mono", "fraction": 0.5, "weight": 0.7}]
    plain, guided = network(name).eval(), network(name, guidance=terms).eval()
    guided.load_state_dict(plain.state_dict())
    attention = guided.encoder.attention if name == "monet_mtts" else guided.attention
    with torch.no_grad():
        added = guided.example_losses(faces, LABELS, LABELS, KNOWN, PLAIN) - plain.example_losses(
            faces, LABELS, LABELS, KNOWN, PLAIN
        )
        expected = attention.guidance(faces, guided.attend(faces).scores)
        torch.testing.assert_close(added, expected, atol=1e-5, rtol=1e-4)
        assert bool((expected > 0).all())
        draws = [torch.Generator().manual_seed(2) for _ in range(2)]
        predicted = [built.predict(faces, draw) for built, draw in zip((plain, guided), draws, strict=True)]
    assert torch.equal(*predicted)


@pytest.mark.parametrize("name", ATTENTION_NAMES)
def test_a_soft_prior_is_an_input_of_the_network(name: str, faces: Inputs) -> None:
    prior = {"kind": "soft_prior", "prior": "parsing", "classes": ["skin", "nose"], "weight": 1.0}
    built = network(name, guidance=[prior], inference="exact").eval()
    with torch.no_grad():
        before = built.predict(faces)
        assert faces.parsing is not None
        other = Inputs(images=faces.images, landmarks=faces.landmarks, parsing=2 - faces.parsing)
        assert not torch.allclose(built.predict(other), before)
        with pytest.raises(ValueError, match="this network needs parsing"):
            built.predict(Inputs(images=faces.images))


def test_pal_follows_the_logits_of_a_vanilla_network_to_its_tokens(faces: Inputs) -> None:
    terms = [{"kind": "pal", "prior": "landmarks_mono", "weight": 0.5}]
    plain, guided = network("vmnc"), network("vmnc", guidance=terms)
    losses = [built.example_losses(faces, LABELS, LABELS, KNOWN, PLAIN) for built in (plain, guided)]
    maps = guided.encoder.tokens(faces)
    expected = guided.guidance(faces, maps=maps, outputs=guided.logits(guided.encoder.pool(maps)))
    torch.testing.assert_close(losses[1] - losses[0], expected, atol=1e-5, rtol=1e-4)
    losses[1].sum().backward()
    assert all(parameter.grad is not None for parameter in guided.parameters())


@pytest.mark.parametrize("name", ATTENTION_NAMES)
def test_attention_on_features_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match=f"{name} attends to the tokens of an image, but encoder.name is 'featur"):
        ModelConfig.model_validate({"name": name})


def test_guidance_that_the_network_cannot_follow_is_refused() -> None:
    terms = [{"kind": "pattel", "prior": "landmarks_mono"}]
    with pytest.raises(ValueError, match=r"model\.guidance\[0\]\.kind: pattel needs a network with cross-attention"):
        network("monet", guidance=terms)
