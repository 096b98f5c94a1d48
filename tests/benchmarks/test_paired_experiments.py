"""The experiments on drawn faces: what they flip, measure and report; and that each still runs, at a tiny size."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from duchenne.spec import load_sweep
from duchenne_jobs.data import Dataset, materialise, open_dataset
from duchenne_jobs.models.priors import attention_mass

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "jobs" / "sweeps" / "faces").glob("*.yaml"))
TINY = ["--seeds", "2", "--subjects", "6", "--frames", "4", "--size", "32", "--epochs", "1", "--width", "16"]


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, ModuleType]:
    """The modules below `benchmarks/`, whose reports go to `tmp_path`."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    found = {name: import_module(name) for name in ("paired", "guidance", "label_noise")}
    monkeypatch.setattr(found["paired"], "RESULTS", tmp_path / "results")
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tests' faces are drawn once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def faces(home: Path) -> Dataset:
    return open_dataset(materialise("builtin://faces?subjects=6&frames=4&size=32", home))


def rows_of_tables(report: str) -> dict[str, list[str]]:
    """First word of each line -> the numbers on its lines."""
    found: dict[str, list[str]] = {}
    for line in report.splitlines():
        name, *numbers = re.split(r"\s{2,}", line)
        found.setdefault(name, []).extend(numbers)
    return found


def test_the_label_noise_program_reports_every_loss_and_writes_it(
    programs: dict[str, ModuleType], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = programs["label_noise"]
    arguments = [*TINY, "--home", str(home), "--settings", "augmented", "--models", "vmnc", "monet", "--orders", "2"]
    module.main([*arguments, "--write"])
    printed = capsys.readouterr().out
    (written,) = (tmp_path / "results").iterdir()
    assert written.read_text().split() == printed.split()
    lines = rows_of_tables(printed)
    for loss in (*module.SMOOTHINGS, "RHLS, beta by inner macro F1", "RHLS, beta by inner AUC", module.CLEAN):
        assert len(lines[loss]) >= 4, f"{loss}: a mean in two tables for each of two models"
    assert "nan" not in printed
    chosen = re.findall(r"each seed: (.+), (.+)", printed)
    assert len(chosen) == 4
    assert {float(beta) for betas in chosen for beta in betas} <= set(module.BETAS)


def test_the_guidance_program_reports_every_variant_and_writes_it(
    programs: dict[str, ModuleType], home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = programs["guidance"]
    module.main([*TINY, "--home", str(home), "--write"])
    printed = capsys.readouterr().out
    (written,) = (tmp_path / "results").iterdir()
    assert "head_to_prior" in written.read_text()
    lines = rows_of_tables(printed)
    for variant in module.VARIANTS:
        means = [float(word) for word in lines[variant] if re.fullmatch(r"\d\.\d{3}", word)]
        assert len(means) == 5, f"{variant}: own and best head in two kinds of region, and F1"
        assert all(0 <= mean <= 1 for mean in means)


def test_a_share_of_the_majority_is_flipped_and_nothing_else(programs: dict[str, ModuleType]) -> None:
    labels = torch.tensor([[0, 1, -1]] * 60 + [[1, 0, 1]] * 30 + [[-1, 1, 0]] * 10, dtype=torch.int8)
    flip = programs["label_noise"].flip_majority
    flipped = flip(labels, 0.2, seed=3)
    changed = flipped != labels
    assert changed.sum(dim=0).tolist() == [12, 14, 6]  # of 60 zeros, 70 ones, 30 ones
    assert labels[:, 0][changed[:, 0]].unique().tolist() == [0]
    assert labels[:, 1][changed[:, 1]].unique().tolist() == [1]
    assert torch.equal(flipped == -1, labels == -1)
    assert torch.equal(flipped, flip(labels, 0.2, seed=3))
    assert not torch.equal(flipped, flip(labels, 0.2, seed=4))


def test_held_out_labels_stay_and_inner_rows_keep_their_flips(programs: dict[str, ModuleType], faces: Dataset) -> None:
    module = programs["label_noise"]
    config = module.RunConfig.model_validate({"model": {"name": "vmnc", "encoder": {"name": "conv", "layers": 1}}})
    trial = module.Trial.draw(faces, config, 0.2, 0)
    assert torch.equal(trial.outer.held_out.labels, trial.clean.held_out.labels)
    assert not torch.equal(trial.outer.train.labels, trial.clean.train.labels)

    def by_name(rows: Any) -> dict[str, list[int]]:
        names = rows.names(torch.arange(len(rows)))
        return dict(zip(names, rows.labels.tolist(), strict=True))

    inner = by_name(trial.inner.train) | by_name(trial.inner.held_out)
    assert inner == by_name(trial.outer.train)
    first = torch.tensor([0])
    name = trial.inner.held_out.names(first)[0]
    place = torch.tensor([trial.outer.train.names(torch.arange(len(trial.outer.train))).index(name)])
    images = [
        side.batch(at).require("images") for side, at in ((trial.inner.held_out, first), (trial.outer.train, place))
    ]
    assert torch.equal(*images), "the face must follow its labels"


def test_an_interval_is_that_of_student(programs: dict[str, ModuleType]) -> None:
    paired = programs["paired"]
    gain = paired.paired({"one": [2.0, 4.0, 6.0], "plain": [1.0, 2.0, 3.0]}, "one", "plain")
    half = 4.302653 / 3**0.5  # t(0.975, 2 degrees of freedom), standard deviation 1
    assert (gain.mean, gain.low, gain.high) == pytest.approx((2.0, 2 - half, 2 + half), abs=1e-6)
    assert gain.verdict() == "holds zero"
    assert paired.Interval.of([1.0, 1.1, 0.9]).verdict() == "above zero"
    with pytest.raises(ValueError, match="at least two seeds"):
        paired.Interval.of([1.0])


def test_a_region_is_the_smallest_set_with_most_of_a_prior(programs: dict[str, ModuleType]) -> None:
    priors = torch.tensor([[[[0.04, 0.36], [0.55, 0.05]], [[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]]])
    found = programs["guidance"].regions(priors)
    assert found[0, 0].tolist() == [[0.0, 1.0], [1.0, 0.0]]  # 0.55 + 0.36
    assert found[0, 1].sum() == 0
    assert found[0, 2].tolist() == [[1.0, 0.0], [0.0, 0.0]]


def test_masses_are_those_of_single_heads(programs: dict[str, ModuleType]) -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 3, 4, 5, 5, generator=generator)
    region = (torch.rand(2, 2, 5, 5, generator=generator) > 0.5).float()
    found = programs["guidance"].head_masses(scores, region)
    assert found.shape == (2, 3, 2)
    for head in range(3):
        for prior in range(2):
            alone = attention_mass(scores[:, head : head + 1], region[:, prior : prior + 1]).mean(dim=1)
            np.testing.assert_allclose(found[:, head, prior], alone, rtol=1e-5)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "jobs" / "sweeps" / "faces").glob("*.yaml")), ids=lambda path: path.stem
)
def test_the_sweeps_of_the_same_comparisons_are_valid(path: Path) -> None:
    assert load_sweep(path).comparators
