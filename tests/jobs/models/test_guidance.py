"""Guidance of a network: which terms, on which layers and heads (Tallec 2023, 3.5.2 to 3.5.4)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from duchenne_jobs.config import GuidanceTerm, ModelConfig
from duchenne_jobs.config.guidance_fit import AttentionShape, model_misfits
from duchenne_jobs.losses import TaskLoss
from duchenne_jobs.models import DataDescription, Inputs, TrainingStatistics, build_network
from duchenne_jobs.models.guidance import Guidance, assignment_matrix, build_guidance
from duchenne_jobs.models.priors import (
    ClassShares,
    attention_mass,
    au_centres,
    head_to_prior_losses,
    mono_centres,
    pattel_losses,
    prior_heatmap,
    privileged_attribution_losses,
)
from duchenne_jobs.models.transformers import MTTS

TASKS = ("AU1", "AU12", "AU14")
CLASSES = ("background", "skin", "nose", "l_brow", "r_brow", "l_eye", "r_eye", "mouth", "u_lip", "l_lip", "hair")
FACES = DataDescription(TASKS, image_size=(40, 50), landmark_points=68, parsing_classes=CLASSES)
SHAPE = AttentionShape(layers=3, heads=4, width=8, per_task=True)
GRID = (4, 5)
TEN = ["AU1", "AU2", "AU4", "AU6", "AU7", "AU9", "AU10", "AU12", "AU17", "AU23"]


def term(**fields: Any) -> GuidanceTerm:
    return GuidanceTerm.model_validate_json(json.dumps(fields), strict=True)


def guidance(*terms: dict[str, Any], shape: AttentionShape | None = SHAPE) -> Guidance:
    made = build_guidance([term(**fields) for fields in terms], FACES, shape)
    assert made is not None
    return made


@pytest.fixture
def faces() -> Inputs:
    generator = torch.Generator().manual_seed(0)
    return Inputs(
        images=torch.zeros(2, 3, 40, 50),
        landmarks=40 * torch.rand(2, 68, 2, generator=generator),
        parsing=torch.randint(0, len(CLASSES), (2, 40, 50), generator=generator).to(torch.uint8),
    )


@pytest.fixture
def scores() -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(2, 4, 3, *GRID, generator=generator) for _ in range(3))


def test_pattel_with_the_priors_of_the_tasks(faces: Inputs, scores: tuple[Tensor, ...]) -> None:
    made = guidance({"kind": "pattel", "prior": "landmarks_multi", "fraction": 0.5, "weight": 3.0, "layers": [2, 0]})
    assert faces.landmarks is not None
    prior = prior_heatmap(au_centres(faces.landmarks, TASKS), (40, 50), GRID)
    expected = 3 * (pattel_losses(prior, scores[0], 0.5) + pattel_losses(prior, scores[2], 0.5)) / 2
    torch.testing.assert_close(made(faces, scores), expected)


def test_pattel_with_the_prior_of_the_whole_face(faces: Inputs, scores: tuple[Tensor, ...]) -> None:
    made = guidance({"kind": "pattel", "prior": "landmarks_mono", "sigma": 2.0, "layers": "last"})
    assert faces.landmarks is not None
    prior = prior_heatmap(mono_centres(faces.landmarks), (40, 50), GRID, sigma=2.0)
    torch.testing.assert_close(made(faces, scores), pattel_losses(prior, scores[2], 0.25))


def test_head_to_prior_takes_the_ten_priors_of_table_3_2_whatever_the_tasks(
    faces: Inputs, scores: tuple[Tensor, ...]
) -> None:
    made = guidance({"kind": "head_to_prior", "prior": "landmarks_multi", "layers": "first"})
    assert faces.landmarks is not None
    priors = prior_heatmap(au_centres(faces.landmarks, TEN), (40, 50), GRID)
    torch.testing.assert_close(made(faces, scores), head_to_prior_losses(priors, scores[0], torch.eye(4, 10)))


def test_head_to_prior_on_face_parsing(faces: Inputs, scores: tuple[Tensor, ...]) -> None:
    made = guidance(
        {
            "kind": "head_to_prior",
            "prior": "parsing",
            "classes": ["nose", "hair"],
            "heads": [["other"], [], ["hair", "nose"]],
            "layers": [1],
        }
    )
    assert faces.parsing is not None
    priors = ClassShares(("nose", "hair"), CLASSES).priors(faces.parsing, GRID)
    assignment = torch.tensor([[0, 0, 1], [0, 0, 0], [1, 1, 0], [0, 0, 0]])
    torch.testing.assert_close(made(faces, scores), head_to_prior_losses(priors, scores[1], assignment))


def test_the_default_assignment_is_the_diagonal_of_the_thesis() -> None:
    """3.5.2 and 3.5.4: twelve heads, ten priors, the two last heads are free."""
    for prior in ("landmarks_multi", "parsing"):
        matrix = assignment_matrix(term(kind="head_to_prior", prior=prior), heads=12)
        assert torch.equal(matrix, torch.eye(12, 10))
    assert torch.equal(assignment_matrix(term(kind="head_to_prior", prior="landmarks_mono"), 2), torch.eye(2, 1))


def test_an_au_stands_for_the_prior_that_it_shares() -> None:
    matrix = assignment_matrix(term(kind="head_to_prior", prior="landmarks_multi", heads=[["AU15", "AU12"]]), 1)
    assert matrix.nonzero().tolist() == [[0, TEN.index("AU12")]]


def test_parsing_below_and_landmarks_above(faces: Inputs, scores: tuple[Tensor, ...]) -> None:
    """3.5.4: 'the first cross-attention layers with the lower level face parsing prior and the upper layers with the
    higher level landmarks based prior': two terms."""
    upper = {"kind": "head_to_prior", "prior": "landmarks_multi", "layers": [1, 2]}
    both = guidance({"kind": "soft_prior", "prior": "parsing", "layers": "first", "weight": 0.5}, upper)
    torch.testing.assert_close(both(faces, scores), guidance(upper)(faces, scores))
    first, second, third = both.attention_priors(faces, GRID)
    assert first is not None
    assert first.bias.shape == (2, 4, *GRID)
    assert first.strength == 0.5
    assert (second, third) == (None, None)
    assert [name for name, _ in both.named_parameters()] == ["soft.0.tokens"]


def test_terms_add_up(faces: Inputs, scores: tuple[Tensor, ...]) -> None:
    one = {"kind": "pattel", "prior": "landmarks_mono", "weight": 0.5}
    two = {"kind": "head_to_prior", "prior": "parsing"}
    torch.testing.assert_close(
        guidance(one, two)(faces, scores), guidance(one)(faces, scores) + guidance(two)(faces, scores)
    )


def test_landmarks_are_pixels_of_the_images_that_are_given(faces: Inputs, scores: tuple[Tensor, ...]) -> None:
    made = guidance({"kind": "pattel", "prior": "landmarks_mono"})
    assert faces.landmarks is not None
    doubled = Inputs(images=torch.zeros(2, 3, 80, 100), landmarks=2 * faces.landmarks)
    torch.testing.assert_close(made(doubled, scores), made(faces, scores))
    without = Inputs(landmarks=faces.landmarks)
    torch.testing.assert_close(made(without, scores), made(faces, scores))


def test_pal_on_the_channels_of_a_network_without_attention(faces: Inputs) -> None:
    channels = torch.randn(2, 6, 3, 3, requires_grad=True)
    weights = torch.randn(6, 2)
    outputs = channels.mean(dim=(2, 3)) @ weights
    made = guidance({"kind": "pal", "prior": "landmarks_mono", "weight": 2.0}, shape=None)
    assert faces.landmarks is not None
    prior = prior_heatmap(mono_centres(faces.landmarks), (40, 50), (3, 3))[:, 0]
    attributions = weights.sum(dim=1)[None, :, None, None] / 9 * channels  # of a mean and a linear map, by hand
    expected = 2 * privileged_attribution_losses(prior, attributions, 0.5)
    torch.testing.assert_close(made(faces, maps=channels, outputs=outputs), expected)
    plain = guidance({"kind": "pal", "prior": "landmarks_mono", "attribution": "activation"}, shape=None)
    torch.testing.assert_close(
        plain(faces, maps=channels, outputs=outputs), privileged_attribution_losses(prior, channels, 0.5)
    )
    with pytest.raises(ValueError, match="pal needs an encoder with a token map"):
        made(faces)


def test_without_terms_there_is_no_guidance() -> None:
    assert build_guidance((), FACES, SHAPE) is None


def test_rows_without_what_a_prior_needs_are_refused(faces: Inputs, scores: tuple[Tensor, ...]) -> None:
    made = guidance({"kind": "pattel", "prior": "landmarks_mono"})
    with pytest.raises(ValueError, match="needs landmarks"):
        made(Inputs(images=faces.images), scores)


def test_a_row_without_a_face_adds_nothing(faces: Inputs, scores: tuple[Tensor, ...]) -> None:
    assert faces.landmarks is not None
    faces.landmarks[1] = float("nan")
    made = guidance(
        {"kind": "pattel", "prior": "landmarks_multi"}, {"kind": "head_to_prior", "prior": "landmarks_multi"}
    )
    losses = made(faces, scores)
    assert losses[1].item() == 0.0
    assert losses[0].item() > 0.0


TABLE = DataDescription(TASKS, features=5)
FIVE_POINTS = DataDescription(("AU1", "AU5", "smile"), image_size=(9, 9), landmark_points=5)
SHARED = AttentionShape(layers=1, heads=4, width=8, per_task=False)


@pytest.mark.parametrize(
    ("fields", "data", "shape", "message"),
    [
        (
            {"kind": "pattel", "prior": "landmarks_mono"},
            TABLE,
            SHAPE,
            r"model\.guidance\[0\]\.prior: landmarks_mono needs a dataset with landmarks, but got one without; ",
        ),
        (
            {"kind": "head_to_prior", "prior": "landmarks_multi"},
            FIVE_POINTS,
            SHAPE,
            r"guidance\[0\]\.prior: landmarks_multi needs 49 or 68 landmarks, but got 5; ",
        ),
        (
            {"kind": "pattel", "prior": "landmarks_multi"},
            DataDescription(("AU1", "AU5", "smile"), landmark_points=49),
            SHAPE,
            r"guidance\[0\]\.prior: .*centres of interest \(table 3\.2\), but got AU5, smile; ",
        ),
        (
            {"kind": "soft_prior", "prior": "parsing"},
            TABLE,
            SHAPE,
            r"guidance\[0\]\.prior: parsing needs a dataset with face-parsing maps, but got one without; ",
        ),
        (
            {"kind": "soft_prior", "prior": "parsing", "classes": ["nose", "chin"]},
            FACES,
            SHAPE,
            r"guidance\[0\]\.classes: classes must be among the dataset's \(background, .*\), but got chin; ",
        ),
        (
            {"kind": "head_to_prior", "prior": "landmarks_mono", "heads": [["face"]] * 5},
            FACES,
            SHAPE,
            r"guidance\[0\]\.heads: no more heads can be assigned than there are, 4, but got 5; ",
        ),
        (
            {"kind": "pattel", "prior": "landmarks_mono", "layers": [0, 3]},
            FACES,
            SHAPE,
            r"guidance\[0\]\.layers: layers are counted from 0, and the network has 3 of cross-attention, but got 3; ",
        ),
        (
            {"kind": "pattel", "prior": "landmarks_mono", "fraction": 0.2},
            FACES,
            SHAPE,
            r"guidance\[0\]\.fraction: fraction must guide one of the 4 heads at least, or be 0, but got 0\.2; ",
        ),
        (
            {"kind": "pattel", "prior": "landmarks_multi"},
            FACES,
            SHARED,
            r"guidance\[0\]\.prior: landmarks_multi with pattel needs a query for each task .*got one for all; ",
        ),
        (
            {"kind": "head_to_prior", "prior": "landmarks_mono"},
            FACES,
            None,
            r"guidance\[0\]\.kind: head_to_prior needs a network with cross-attention, but got one without; ",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_its_field(
    fields: dict[str, Any], data: DataDescription, shape: AttentionShape | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_guidance([term(**fields)], data, shape)


def test_one_soft_prior_a_layer() -> None:
    soft = {"kind": "soft_prior", "prior": "parsing"}
    with pytest.raises(
        ValueError, match=r"guidance\[1\]\.layers: a layer takes one soft_prior, but got two on layer 0; "
    ):
        guidance(soft, {**soft, "layers": "first"})
    assert len(guidance({**soft, "layers": "first"}, {**soft, "layers": "last"}).soft) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "pattel", "prior": "parsing"}, "`prior` of pattel must be landmarks_mono or landmarks_multi"),
        ({"kind": "soft_prior", "prior": "landmarks_mono"}, "`prior` of soft_prior must be parsing"),
        (
            {"kind": "head_to_prior", "prior": "parsing", "fraction": 0.5},
            "`fraction` belongs to guidance pattel",
        ),
        (
            {"kind": "pattel", "prior": "landmarks_mono", "heads": [["face"]]},
            "`heads` belongs to guidance",
        ),
        ({"kind": "pattel", "prior": "landmarks_mono", "classes": ["nose"]}, "`classes` belongs to prior parsing"),
        ({"kind": "soft_prior", "prior": "parsing", "sigma": 2.0}, "`sigma` belongs to landmark priors"),
        ({"kind": "soft_prior", "prior": "parsing", "classes": ["nose", "nose"]}, "`classes` must be distinct"),
        ({"kind": "soft_prior", "prior": "parsing", "classes": ["other"]}, "`classes` must be distinct and without"),
        ({"kind": "soft_prior", "prior": "parsing", "heads": [["nose", "skin"]]}, "at most one class a head"),
        ({"kind": "head_to_prior", "prior": "parsing", "heads": [["chin"]]}, "`heads` must name priors of parsing"),
        ({"kind": "head_to_prior", "prior": "landmarks_multi", "heads": [["AU5"]]}, "but got AU5; write one of them"),
        ({"kind": "pal", "prior": "landmarks_mono", "layers": "first"}, "`layers` belongs to attention"),
    ],
)
def test_a_term_that_contradicts_itself_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        term(**fields)


@pytest.mark.parametrize("name", ["mrnn", "monet"])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"kind": "pattel", "prior": "landmarks_mono"},
            r"^model\.guidance\[0\]\.kind: pattel needs a network with cross-attention, but got one without; choose",
        ),
        (
            {"kind": "pal", "prior": "landmarks_mono"},
            r"^model\.guidance\[0\]\.kind: pal needs a network without recurrence on an encoder of faces, but got m",
        ),
    ],
)
def test_a_recurrence_refuses_guidance_when_it_is_built(name: str, fields: dict[str, Any], message: str) -> None:
    config = ModelConfig.model_validate(
        {"name": name, "encoder": {"name": "conv", "width": 16, "layers": 1}, "guidance": [fields]}
    )
    data = DataDescription(TASKS, image_size=(40, 40), landmark_points=68, parsing_classes=CLASSES)
    statistics = TrainingStatistics(torch.zeros(0), torch.ones(0), torch.full((3,), 0.5), rows=16)
    with pytest.raises(ValueError, match=message):
        build_network(config, data, statistics)


@pytest.mark.parametrize(
    ("term_fields", "layer"),
    [
        ({"kind": "head_to_prior", "prior": "landmarks_multi"}, 0),
        ({"kind": "pattel", "prior": "landmarks_mono", "fraction": 0.5}, 1),
        ({"kind": "soft_prior", "prior": "parsing", "weight": 1.0, "classes": ["nose", "hair"]}, 0),
    ],
)
def test_a_guided_mtts_attends_where_it_is_told_and_an_unguided_one_does_not(
    term_fields: dict[str, Any], layer: int
) -> None:
    """Trained on faces whose labels say nothing, from the same weights: only the guidance tells them apart."""
    generator = torch.Generator().manual_seed(0)
    inputs = Inputs(
        images=torch.rand(16, 3, 40, 40, generator=generator),
        landmarks=(8 + 12 * torch.rand(1, 68, 2, generator=generator)).expand(16, -1, -1),
        parsing=torch.zeros(16, 40, 40, dtype=torch.uint8),
    )
    assert inputs.parsing is not None
    inputs.parsing[:, 16:24, 16:24] = CLASSES.index("nose")
    masses = []
    for terms in ((), (term(**term_fields),)):
        network = mtts(terms)
        if term_fields["kind"] != "soft_prior":
            optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
            labels = torch.randint(0, 2, (16, 3), generator=torch.Generator().manual_seed(1)).float()
            for _ in range(40):
                optimizer.zero_grad()
                mask = torch.ones_like(labels, dtype=torch.bool)
                network.example_losses(inputs, labels, labels, mask, TaskLoss(None, 0.0)).mean().backward()
                optimizer.step()
        with torch.no_grad():
            of_layer = network.attend(inputs).scores[layer][:, :1]
        masses.append(attention_mass(of_layer, region(term_fields, inputs)).mean().item())
    assert masses[1] > masses[0] + 0.2, masses


def mtts(terms: tuple[GuidanceTerm, ...]) -> MTTS:
    config = ModelConfig.model_validate(
        {
            "name": "mtts",
            "encoder": {"name": "conv", "width": 16, "layers": 1},
            "attention": {"width": 16, "heads": 2, "self_layers": 0, "mlp_ratio": 1},
            "guidance": terms,
        }
    )
    torch.manual_seed(0)
    data = DataDescription(TASKS, image_size=(40, 40), landmark_points=68, parsing_classes=CLASSES)
    return MTTS(config, data, TrainingStatistics(torch.zeros(0), torch.ones(0), torch.full((3,), 0.5), rows=16))


def region(fields: dict[str, Any], inputs: Inputs) -> Tensor:
    """Where the first head should look: the four likeliest patches of its prior, or those of its class."""
    grid = (5, 5)
    if fields["prior"] == "parsing":
        assert inputs.parsing is not None
        return (ClassShares(("nose",), CLASSES)(inputs.parsing, grid)[:, :1] > 0).float()
    assert inputs.landmarks is not None
    multi = fields["prior"] == "landmarks_multi"
    centres = au_centres(inputs.landmarks, ["AU1"]) if multi else mono_centres(inputs.landmarks)
    prior = prior_heatmap(centres, (40, 40), grid)
    least = prior.flatten(2).topk(4).values[..., -1:, None]
    return (prior >= least).float()


def test_the_snippets_of_the_page_are_configurations_that_fit() -> None:
    page = (Path(__file__).parents[3] / "docs" / "guidance.md").read_text()
    snippets = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    assert len(snippets) == 5
    for snippet in snippets:
        config = ModelConfig.model_validate_json(json.dumps(yaml.safe_load(snippet)["model"]), strict=True)
        assert config.guidance
        assert not list(model_misfits(config)), snippet
