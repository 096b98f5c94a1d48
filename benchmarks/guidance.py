"""Does guidance move attention to where it should look, and does that help (Tallec 2023, 3.5)?

    python benchmarks/guidance.py                       # mtts on drawn faces, 5 seeds, on this machine
    python benchmarks/guidance.py --subjects 41         # more people
    python benchmarks/guidance.py --write               # also writes benchmarks/results/guidance_DATE.txt

The mass that head p puts into the region of prior p, on held-out subjects: landmark regions in the last cross-attention
layer, face-parsing regions in the first, which is how 3.5.4 stacks the two. A region is the smallest set of patches
that holds 90 % of a prior. Heads of an unguided network belong to no prior, so each region is also looked for in the
best head of all. Each seed has folds and initial weights of its own, which all variants share.

Shapes: B rows, T tasks, P priors, n heads, h x w patches.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from paired import header, table, write
from torch import Tensor

from duchenne_jobs.config import GuidanceTerm, RunConfig
from duchenne_jobs.data import Dataset, materialise, open_dataset
from duchenne_jobs.evaluation import evaluate
from duchenne_jobs.models.guidance import PriorMaps
from duchenne_jobs.models.priors import attention_mass
from duchenne_jobs.training import FoldJob, FoldsRequest, JobKey
from duchenne_jobs.training.attention import Attending
from duchenne_jobs.training.batches import as_floats
from duchenne_jobs.training.split import Split, load_split
from duchenne_jobs.training.trainer import Trainer

UNGUIDED = "unguided"
LANDMARKS: dict[str, Any] = {"kind": "head_to_prior", "prior": "landmarks_multi"}
PARSING: dict[str, Any] = {"kind": "soft_prior", "prior": "parsing", "weight": 0.1}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    UNGUIDED: [],
    "head_to_prior": [LANDMARKS],
    "soft_prior, lambda 0.1": [PARSING],
    "soft_prior below, head_to_prior above": [PARSING | {"layers": "first"}, LANDMARKS | {"layers": "last"}],
}
REGION_MASS = 0.9  # of a prior
FOLDS = 3
BATCH = 64  # rows measured at once


@dataclass(frozen=True)
class Measure:
    """Regions of one prior, and the cross-attention layer that is held against them."""

    title: str
    term: GuidanceTerm
    layer: int


MEASURES = (
    Measure("landmark regions, last layer", GuidanceTerm.model_validate(LANDMARKS), -1),
    Measure("parsing regions, first layer", GuidanceTerm.model_validate(PARSING), 0),
)


def regions(priors: Tensor) -> Tensor:
    """The smallest set of patches that holds `REGION_MASS` of each prior, (B, P, h, w) in {0, 1}; empty where it is."""
    flat = priors.flatten(2)
    values, order = flat.sort(dim=-1, descending=True)
    before = values.cumsum(dim=-1) - values
    inside = ((before < REGION_MASS) & (values > 0)).to(priors)
    return torch.zeros_like(flat).scatter(-1, order, inside).view_as(priors)


def head_masses(scores: Tensor, region: Tensor) -> Tensor:
    """Share of each head's attention in each region, mean over T: (B, n, T, h, w) and (B, P, h, w) -> (B, n, P)."""
    heads, tasks = scores.shape[1:3]
    one_by_one = scores.flatten(1, 2).unsqueeze(1)  # as n T queries of a single head, over which nothing is averaged
    masses = [attention_mass(one_by_one, part) for part in torch.split(region, 1, dim=1)]
    return torch.stack(masses, dim=-1).reshape(len(scores), heads, tasks, -1).mean(dim=2)


@dataclass(frozen=True)
class Mass:
    """Means over rows and priors: of each prior's own head, of its best head, and of attention that is even."""

    own: float
    best: float
    even: float


@torch.no_grad()
def held_out_mass(trainer: Trainer, split: Split, measure: Measure) -> Mass:
    """Where a trained network looks on the held-out rows; rows that lack a region count for the others only."""
    network = trainer.network.eval()
    if not isinstance(network, Attending):
        raise TypeError(f"the network must have attention, but got {type(network).__name__}; take mtts")
    maps = PriorMaps(measure.term, split.data)
    masses, areas, present = [], [], []
    for indices in torch.split(torch.nonzero(split.held_out.has_face).flatten(), BATCH):
        inputs = as_floats(split.held_out.batch(indices))
        scores = network.attend(inputs).scores[measure.layer]
        height, width = scores.shape[-2:]
        region = regions(maps(inputs, (height, width)))
        masses.append(head_masses(scores, region))
        areas.append(region.mean(dim=(-2, -1)))
        present.append(region.flatten(2).any(dim=-1))
    there = torch.cat(present).float()  # (B, P)
    seen = there.sum(dim=0) > 0
    count = there.sum(dim=0).clamp(min=1)
    by_head = torch.cat(masses).sum(dim=0) / count  # (n, P); a missing region has no mass
    own, best = by_head.diagonal()[seen], by_head.amax(dim=0)[seen]
    even = (torch.cat(areas).sum(dim=0) / count)[seen]
    return Mass(float(own.mean()), float(best.mean()), float(even.mean()))


def configuration(options: argparse.Namespace, guidance: Sequence[dict[str, Any]]) -> RunConfig:
    """At least as many heads as either prior has maps, so that each map has its own head."""
    encoder = {"name": "conv", "layers": 2, "width": options.width, "stride": 8}
    attention = {"width": 48, "heads": 12, "self_layers": 0, "cross_layers": 2, "mlp_ratio": 1}
    augmentation = {"flip": 0.5, "brightness": 0.2, "contrast": 0.2}
    training = {"epochs": options.epochs, "batch_size": 32, "learning_rate": options.learning_rate, "decay": 0.9}
    return RunConfig.model_validate(
        {
            "model": {"name": "mtts", "encoder": encoder, "attention": attention, "guidance": guidance},
            "training": training | {"augmentation": augmentation},
        }
    )


def split_of(dataset: Dataset, options: argparse.Namespace, seed: int) -> Split:
    """One fold with landmarks and parsing maps, for every variant: those that need neither ignore them."""
    config = configuration(options, [LANDMARKS, PARSING])
    key = JobKey(0, "evaluation", "mtts", 0, None, seed)
    folds = FoldsRequest(count=FOLDS, inner=2, seed=seed)
    return load_split(FoldJob(key, config, dataset.uri, dataset.digest, folds, "", options.epochs), dataset)


def compare(dataset: Dataset, options: argparse.Namespace) -> str:
    """Every variant on every seed: a table for each measure, and one of macro F1."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    even: dict[str, list[float]] = defaultdict(list)
    for seed in range(options.seeds):
        split = split_of(dataset, options, seed)
        for variant, guidance in VARIANTS.items():
            trainer = Trainer(configuration(options, guidance), split.train, split.data, seed, torch.device("cpu"))
            for _ in range(options.epochs):
                trainer.run_epoch(lambda: None)
            for one in MEASURES:
                mass = held_out_mass(trainer, split, one)
                found[f"{one.title}, own head"][variant].append(mass.own)
                found[f"{one.title}, best head"][variant].append(mass.best)
                even[one.title].append(mass.even)
            result = evaluate(split.held_out.labels.numpy(), trainer.predict(split.held_out).numpy())
            found["macro F1"][variant].append(result["f1_macro"])
            shown = ", ".join(f"{title} {values[variant][-1]:.3f}" for title, values in found.items())
            print(f"seed {seed}, {variant}: {shown}", file=sys.stderr, flush=True)
    parts = [table(title, values, UNGUIDED) for title, values in found.items()]
    areas = ", ".join(f"{title} {statistics.fmean(values):.3f}" for title, values in even.items())
    return "\n\n".join([*parts, f"mass of attention that is even: {areas}"])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--subjects", type=int, default=18)
    parser.add_argument("--frames", type=int, default=40, help="of a subject")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--width", type=int, default=48, help="channels of the encoder's tokens")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (torch's default: the cores)")
    parser.add_argument("--home", type=Path, help="where the drawn faces are kept; default: nowhere")
    parser.add_argument("--write", action="store_true", help="write the report under benchmarks/results")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    uri = f"builtin://faces?like=bp4d&subjects={options.subjects}&frames={options.frames}&size={options.size}"
    setting = (
        f"{uri}, one of {FOLDS} folds held out\n"
        f"mtts, conv encoder (2 layers, width {options.width}, stride 8), 12 heads, 2 cross-attention layers\n"
        f"{options.epochs} epochs, batch 32, learning rate {options.learning_rate:g} x 0.9 an epoch, flips and light "
        "changes\n"
        f"share of the attention inside regions that hold {REGION_MASS:.0%} of a prior, on held-out subjects"
    )
    parts = [header("Guided attention", setting, options.seeds)]
    print(parts[0], flush=True)
    with tempfile.TemporaryDirectory() as folder:
        parts.append(compare(open_dataset(materialise(uri, options.home or Path(folder))), options))
    print(f"\n{parts[-1]}")
    if options.write:
        write("guidance", "\n\n".join(parts))


if __name__ == "__main__":
    main()
