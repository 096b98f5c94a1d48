"""Guidance that does not fit is refused before anything runs: by its field, with the line of the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from duchenne.spec import SpecError, load_sweep_text
from duchenne_jobs.data.manifest import Description, LandmarkScheme, Shard, complete_manifest

HEAD = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: guided}
budget: {wall_seconds: 10}
"""
MTTS = "name: mtts, encoder: {name: conv}, attention: {heads: 4, width: 16}"


def refusals(text: str, uri: str = "faces") -> list[str]:
    try:
        load_sweep_text(f"{HEAD}data: {{uri: '{uri}'}}\n{text}")
    except SpecError as error:
        return [problem.text for problem in error.problems]
    return []


def faces(folder: Path, landmarks: int | None, classes: tuple[str, ...] | None) -> str:
    """A dataset's folder with a manifest of AU1 and AU5, and nothing else."""
    columns = ["subject", "image", "landmarks", "parsing", "labels"]
    absent = {"landmarks": landmarks is None, "parsing": classes is None}
    description = Description(
        name="faces",
        tasks=("AU1", "AU5"),
        columns=tuple(column for column in columns if not absent.get(column)),
        parsing_classes=classes,
        landmark_scheme=None if landmarks is None else LandmarkScheme(name="points", points=landmarks),
        licence="none",
        consent="no people are recorded",
    )
    shard = Shard(path="a.arrow", rows=9, bytes=9, sha256="sha256:" + "0" * 64, subjects=tuple("abcdefghi"))
    folder.mkdir()
    (folder / "manifest.json").write_text(complete_manifest(description, [shard]).to_json())
    return str(folder)


@pytest.mark.parametrize(
    ("model", "refusal"),
    [
        (
            f"{MTTS}, guidance: [{{kind: head_to_prior, prior: landmarks_mono, heads: [[], [], [], [face], []]}}]",
            "model.guidance[0].heads: no more heads can be assigned than there are, 4, got 5, remove some, or add "
            "heads to the network",
        ),
        (
            f"{MTTS}, guidance: [{{kind: pattel, prior: landmarks_mono, layers: [0, 2]}}]",
            "model.guidance[0].layers: layers are counted from 0, and the network has 2 of cross-attention, got 2, "
            "list layers that there are",
        ),
        (
            f"{MTTS}, labels: exclusive, guidance: [{{kind: pattel, prior: landmarks_multi}}]",
            "model.guidance[0].prior: landmarks_multi with pattel needs a query for each task (mtts), got one for all, "
            "take landmarks_mono, or kind head_to_prior",
        ),
        (
            "name: vmnc, encoder: {name: conv}, guidance: [{kind: pattel, prior: landmarks_mono}]",
            "model.guidance[0].kind: pattel needs a network with cross-attention, got one without, choose another "
            "model.name, or kind pal",
        ),
        (
            "name: monet, encoder: {name: conv}, guidance: [{kind: pal, prior: landmarks_mono}]",
            "model.guidance[0].kind: pal needs a network without recurrence on an encoder of faces, got monet on conv, "
            "take vmnc on conv, for instance, or another kind",
        ),
        (
            f"{MTTS}, guidance: [{{kind: patel, prior: landmarks_mono}}]",
            "model.guidance[0].kind: must be one of pattel, head_to_prior, soft_prior, pal, got patel, did you mean "
            "`pattel`?",
        ),
        (
            f"{MTTS}, guidance: [{{kind: pattel, prior: landmarks_mono, fracton: 0.5}}]",
            "model.guidance[0].fracton: unknown field, got fracton, did you mean `fraction`?",
        ),
    ],
)
def test_terms_that_the_network_cannot_follow(model: str, refusal: str) -> None:
    assert refusals(f"model: {{{model}}}\n") == [refusal]


@pytest.mark.parametrize(
    "model",
    [
        f"{MTTS}, guidance: [{{kind: soft_prior, prior: parsing, layers: first}}, "
        "{kind: head_to_prior, prior: landmarks_multi, layers: [1]}]",
        f"{MTTS.replace('mtts', 'mttc')}, guidance: [{{kind: head_to_prior, prior: landmarks_multi}}]",
        f"{MTTS.replace('mtts', 'monet_mtts')}, guidance: [{{kind: pattel, prior: landmarks_multi, fraction: 0.5}}]",
        "name: vmnc, encoder: {name: conv}, guidance: [{kind: pal, prior: landmarks_mono}]",
    ],
)
def test_terms_that_it_can_follow(model: str) -> None:
    assert refusals(f"model: {{{model}}}\n") == []


def test_every_trial_that_may_be_drawn_is_asked() -> None:
    term = "{kind: head_to_prior, prior: landmarks_mono, heads: [[face], [face], [face]]}"
    space = f"{{model.guidance: {{choice: [[], [{term}]]}}, model.attention.heads: {{choice: [4, 2]}}}}"
    search = f"model: {{{MTTS}}}\nsearch: {{algorithm: random, trials: 2, space: {space}}}\n"
    assert refusals(search) == [
        "search.space.model.guidance.choice[1][0].heads: no more heads can be assigned than there are, 2, got 3, "
        "remove some, or add heads to the network"
    ]
    whole = f"{{model: {{choice: [{{{MTTS}, guidance: [{term}]}}, {{name: vmnc, guidance: [{term}]}}]}}}}"
    assert refusals(f"search: {{algorithm: random, trials: 2, space: {whole}}}\n") == [
        "search.space.model.choice[1].guidance[0].kind: head_to_prior needs a network with cross-attention, got one "
        "without, choose another model.name, or kind pal"
    ]
    names = "search: {trials: 2, space: {model.name: {choice: [mtts, vmns]}}}\n"
    assert refusals(f"model: {{{MTTS}, guidance: [{term}]}}\n{names}")[0].startswith(
        "model.guidance[0].kind: head_to_prior needs a network with cross-attention"
    )


def test_a_comparator_must_follow_too_or_be_written_without_guidance() -> None:
    model = f"model: {{{MTTS}, guidance: [{{kind: pattel, prior: landmarks_mono}}]}}\n"
    assert refusals(f"{model}comparators: [logistic_regression, mttc, vmnc]\n") == [
        "comparators[2]: the comparator takes model.guidance: pattel needs a network with cross-attention, got vmnc, "
        "write {name: plain, change: {model.name: vmnc, model.guidance: []}} instead"
    ]
    variant = "{name: plain, change: {model.name: vmnc, model.guidance: []}}"
    assert refusals(f"{model}comparators: [{variant}]\n") == []


def test_builtin_data_is_known_by_its_name() -> None:
    soft, multi = (
        f"model: {{{MTTS}, guidance: [{term}]}}\n"
        for term in ("{kind: soft_prior, prior: parsing}", "{kind: pattel, prior: landmarks_multi}")
    )
    assert refusals(soft, "builtin://yeast")[0] == (
        "model.guidance[0].prior: parsing needs a dataset with face-parsing maps, got one without, choose another "
        "dataset, or guide by landmarks"
    )
    assert refusals(soft, "builtin://faces") == []
    assert refusals(multi, "builtin://faces?like=bp4d") == []
    assert refusals(soft.replace("parsing}", "parsing, classes: [chin]}"), "builtin://faces")[0].endswith(
        "got chin, list classes of this dataset"
    )


@pytest.mark.parametrize(
    ("landmarks", "classes", "term", "refusal"),
    [
        (
            None,
            ("skin",),
            "kind: pattel, prior: landmarks_mono",
            "prior: landmarks_mono needs a dataset with landmarks, got one without, choose another dataset, or remove "
            "the term",
        ),
        (
            5,
            None,
            "kind: head_to_prior, prior: landmarks_multi",
            "prior: landmarks_multi needs 49 or 68 landmarks, got 5, take landmarks_mono or another dataset",
        ),
        (
            49,
            None,
            "kind: pattel, prior: landmarks_multi",
            "prior: landmarks_multi needs tasks with centres of interest (table 3.2), got AU5, take landmarks_mono, or "
            "kind head_to_prior, whose priors are not those of the tasks",
        ),
        (
            None,
            ("skin", "nose"),
            "kind: soft_prior, prior: parsing, classes: [nose, brow]",
            "classes: classes must be among the dataset's (skin, nose), got brow, list classes of this dataset",
        ),
        (
            49,
            None,
            "kind: head_to_prior, prior: parsing",
            "prior: parsing needs a dataset with face-parsing maps, got one without, choose another dataset, or guide "
            "by landmarks",
        ),
        (5, None, "kind: pattel, prior: landmarks_mono", None),
        (68, ("skin", "nose"), "kind: head_to_prior, prior: landmarks_multi", None),
        (None, ("skin", "nose"), "kind: soft_prior, prior: parsing, classes: [nose]", None),
    ],
)
def test_what_the_manifest_tells(
    landmarks: int | None, classes: tuple[str, ...] | None, term: str, refusal: str | None, tmp_path: Path
) -> None:
    uri = faces(tmp_path / "faces", landmarks, classes)
    expected = [] if refusal is None else [f"model.guidance[0].{refusal}"]
    assert refusals(f"model: {{{MTTS}, guidance: [{{{term}}}]}}\n", uri) == expected
