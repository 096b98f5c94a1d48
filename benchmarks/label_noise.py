"""Label smoothing against noise in the majority class: 20 % of its labels are wrong in training (Tallec 2023, ch. 4).

    python benchmarks/label_noise.py                                       # vmnc and monet, 5 seeds, on this machine
    python benchmarks/label_noise.py --layers 2 --epochs 20 --decay 0.85   # a network that learns more
    python benchmarks/label_noise.py --write    # also writes benchmarks/results/label_noise_DATE.txt

Drawn faces. Of each task, that share of the labels of its majority class is flipped in the training rows; the subjects
held out keep theirs. Each seed has folds, flips and initial weights of its own, which all losses share. The beta of
RHLS stands at each of its values, and as chosen on an inner fold of the training rows, flipped labels and all: no
held-out label helps to choose. Flips favour whoever predicts the minority, in F1 but not in AUC, so both choose one.

Shapes: N rows, T tasks.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from paired import header, table, write
from torch import Tensor

from duchenne_jobs.config import MODEL_NAMES, RunConfig
from duchenne_jobs.data import Dataset, folds_of, materialise, open_dataset
from duchenne_jobs.evaluation import evaluate
from duchenne_jobs.training import FoldJob, FoldsRequest, JobKey
from duchenne_jobs.training.faces import FaceRows
from duchenne_jobs.training.split import Rows, Split, load_split
from duchenne_jobs.training.trainer import Trainer

PLAIN = "plain BCE"
BETAS = (0.25, 0.5, 0.75, 1.0)


def rhls(beta: float) -> dict[str, Any]:
    return {"name": "rhls", "beta": beta}


def _title(beta: float) -> str:
    return f"RHLS, beta {beta:g}"


SMOOTHINGS: dict[str, dict[str, Any]] = {
    PLAIN: {"name": "none"},
    "LS, alpha 0.1": {"name": "ls"},
    "VALS, alpha- 0.5": {"name": "vals"},
    **{_title(beta): rhls(beta) for beta in BETAS},
}
CLEAN = "plain BCE, labels not flipped"
METRICS = {"f1_macro": "macro F1", "auc_macro": "AUC"}
SETTINGS: dict[str, dict[str, float]] = {
    "augmented": {"flip": 0.5, "brightness": 0.2, "contrast": 0.2},
    "not augmented": {},  # the lamp of a drawn face is learned by heart
}
FOLDS = 3
INNER = 3


def flip_majority(labels: Tensor, share: float, seed: int) -> Tensor:
    """Flip exactly `share` (rounded) of the majority class's labels of each task; unknown labels stay unknown.

    Args:
        labels: (N, T) in {-1, 0, 1}; not changed.
        share: in [0, 1].
        seed: the same rows are flipped by the same seed.
    """
    generator = torch.Generator().manual_seed(seed)
    flipped = labels.clone()
    for task in range(labels.shape[1]):
        column = labels[:, task]
        majority = int((column == 1).sum() > (column == 0).sum())
        rows = torch.nonzero(column == majority).flatten()
        chosen = rows[torch.randperm(len(rows), generator=generator)[: round(share * len(rows))]]
        flipped[chosen, task] = 1 - majority
    return flipped


@dataclass(frozen=True)
class Trial:
    """What one seed's losses are compared on.

    Attributes:
        clean: training rows and held-out subjects, as drawn.
        outer: the same with flipped labels in training; the held-out ones stay.
        inner: the training rows again, part of their subjects held out, flipped labels on both sides.
    """

    seed: int
    clean: Split
    outer: Split
    inner: Split

    @classmethod
    def draw(cls, dataset: Dataset, config: RunConfig, share: float, seed: int) -> Trial:
        request = FoldsRequest(count=FOLDS, inner=INNER, seed=seed)
        key = JobKey(0, "evaluation", config.model.name, 0, None, seed)
        job = FoldJob(key, config, dataset.uri, dataset.digest, request, "", config.training.epochs)
        clean = load_split(job, dataset)
        noisy = replace(clean.train, labels=flip_majority(clean.train.labels, share, seed))
        inner = folds_of(dataset, request).inner_folds(0, INNER)[0]
        sides = (rows_of(noisy, inner.train), rows_of(noisy, inner.validation))
        return cls(seed, clean, replace(clean, train=noisy), Split(*sides, clean.data, clean.crop))


def rows_of(rows: Rows, subjects: Sequence[str]) -> Rows:
    """The rows of some subjects."""
    at = np.flatnonzero(np.isin(rows.subjects.astype(str), subjects))
    if not isinstance(rows.inputs, FaceRows):
        raise TypeError("rows must be faces, but these are of a table; pass a dataset of faces")
    return Rows(
        FaceRows(rows.inputs.store, rows.inputs.rows[at]),
        rows.labels[torch.from_numpy(at)],
        rows.subjects[at],
        rows.sequences[at],
        rows.frames[at],
    )


def scores(config: RunConfig, smoothing: dict[str, Any], split: Split, seed: int) -> dict[str, float]:
    """`METRICS` of the held-out rows, after training with one smoothing."""
    changed = RunConfig.model_validate(config.model_dump() | {"loss": {"smoothing": smoothing}})
    trainer = Trainer(changed, split.train, split.data, seed, torch.device("cpu"))
    for _ in range(config.training.epochs):
        trainer.run_epoch(lambda: None)
    found = evaluate(split.held_out.labels.numpy(), trainer.predict(split.held_out).numpy())
    return {metric: found[metric] for metric in METRICS}


def compare(name: str, trials: Sequence[Trial], config: RunConfig) -> str:
    """The losses on one model in one setting: a table a metric, and which beta each seed chose."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    chosen: dict[str, list[float]] = defaultdict(list)
    for trial in trials:
        for smoothing, fields in SMOOTHINGS.items():
            found[smoothing].append(scores(config, fields, trial.outer, trial.seed))
        inner = {beta: scores(config, rhls(beta), trial.inner, trial.seed) for beta in BETAS}
        for metric, title in METRICS.items():
            best = max(BETAS, key=lambda beta: inner[beta][metric])
            chosen[title].append(best)
            found[f"RHLS, beta by inner {title}"].append(found[_title(best)][-1])
        found[CLEAN].append(scores(config, SMOOTHINGS[PLAIN], trial.clean, trial.seed))
        shown = ", ".join(f"{one} {values[-1]['f1_macro']:.3f}" for one, values in found.items())
        print(f"{name}, seed {trial.seed}: {shown}", file=sys.stderr, flush=True)
    parts = []
    for metric, title in METRICS.items():
        values = {one: [result[metric] for result in results] for one, results in found.items()}
        parts.append(table(f"{name}, {title}", values, PLAIN))
    for title, betas in chosen.items():
        parts.append(f"beta by inner {title}, each seed: {', '.join(f'{beta:g}' for beta in betas)}")
    always = statistics.fmean(everything_positive(trial.clean.held_out.labels) for trial in trials)
    parts.append(f"macro F1 of predicting every task in every row: {always:.3f}")
    return "\n".join(parts)


def everything_positive(labels: Tensor) -> float:
    """Macro F1 of a predictor that has learned nothing."""
    return evaluate(labels.numpy(), np.ones(labels.shape))["f1_macro"]


def configuration(options: argparse.Namespace, model: str, setting: str) -> RunConfig:
    """The model of one setting; `exact` marginals, so that no sampling noise enters the comparison."""
    encoder = {"name": "conv", "layers": options.layers, "width": options.width, "stride": 32}
    attention = {"width": 48, "heads": 4, "self_layers": 0, "cross_layers": 1, "mlp_ratio": 1}
    orders = {"count": options.orders}
    fields = {"name": model, "encoder": encoder, "attention": attention, "hidden_size": 32, "orders": orders}
    training = {"epochs": options.epochs, "batch_size": 32, "learning_rate": options.learning_rate}
    training |= {"decay": options.decay, "augmentation": SETTINGS[setting]}
    return RunConfig.model_validate({"model": fields | {"inference": "exact"}, "training": training})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODEL_NAMES, default=["vmnc", "monet"])
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--subjects", type=int, default=27)
    parser.add_argument("--frames", type=int, default=30, help="of a subject")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--layers", type=int, default=1, help="convolutions of the encoder at each resolution")
    parser.add_argument("--width", type=int, default=64, help="channels of the encoder's tokens")
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--decay", type=float, default=0.75, help="factor on the learning rate after each epoch")
    parser.add_argument("--orders", type=int, default=8, help="of monet")
    parser.add_argument("--flipped", type=float, default=0.2, help="share of the majority's training labels")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads (torch's default: the cores)")
    parser.add_argument("--home", type=Path, help="where the drawn faces are kept; default: nowhere")
    parser.add_argument("--write", action="store_true", help="write the report under benchmarks/results")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    uri = f"builtin://faces?subjects={options.subjects}&frames={options.frames}&size={options.size}"
    setting = (
        f"{uri}, one of {FOLDS} folds held out; {options.flipped:.0%} of the majority labels flipped in training\n"
        f"conv encoder (layers {options.layers}, width {options.width}, stride 32), {options.epochs} epochs, batch 32, "
        f"learning rate {options.learning_rate:g} x {options.decay:g} an epoch; monet: {options.orders} orders\n"
        "exact marginals; augmented: half of the faces flipped, brightness and contrast changed by up to 20 %"
    )
    parts = [header("Label smoothing under label noise", setting, options.seeds)]
    print(parts[0], flush=True)
    with tempfile.TemporaryDirectory() as folder:
        dataset = open_dataset(materialise(uri, options.home or Path(folder)))
        for name in options.settings:
            for model in options.models:
                config = configuration(options, model, name)
                trials = [Trial.draw(dataset, config, options.flipped, seed) for seed in range(options.seeds)]
                parts.append(compare(f"{model}, {name}", trials, config))
                print(f"\n{parts[-1]}", flush=True)
                if options.write:  # after each table: the whole takes a while
                    write("label_noise", "\n\n".join(parts))


if __name__ == "__main__":
    main()
