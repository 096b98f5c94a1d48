"""Records real learning curves once, so that searches can be replayed over them: `benchmarks/search_efficiency.py`.

    python benchmarks/search_table.py yeast          # some minutes on one core; writes results/search_curves_yeast.json
    python benchmarks/search_table.py toy --seconds 300

Every configuration of a grid is trained on every inner fold with the code of a fold job, one after the other on one
thread. A table holds the metric of each epoch and the seconds of CPU that an epoch took, the first of a job left aside
(it also loads). With `--seconds` the last values of the space's last dimension are left out where time runs out: the
table is a whole grid all the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from duchenne.driver.prepare import code_revision
from duchenne.spec.trials import overlay
from duchenne_jobs.config import RunConfig
from duchenne_jobs.data import materialise, open_dataset
from duchenne_jobs.training import FoldJob, FoldsRequest, JobKey
from duchenne_jobs.training.runner import FoldJobRunner

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Grid:
    """What is trained.

    Attributes:
        space: dotted path -> values, the last one the first to give way to time.
        metric: compared by the search.
    """

    uri: str
    base: Mapping[str, Any]
    space: Mapping[str, list[Any]]
    metric: str
    outer: int = 3
    inner: int = 2


YEAST = {
    "model": {
        "encoder": {"layers": 1, "width": 64, "dropout": 0.3},
        "hidden_size": 16,
        "trajectories": 8,
        "orders": {"learning_rate": 5e-2},
    },
    "training": {"epochs": 9, "batch_size": 256, "weight_decay": 0.01},
}
TOY = {
    "model": {
        "encoder": {"layers": 2, "width": 64},
        "hidden_size": 16,
        "trajectories": 8,
        "orders": {"learning_rate": 2e-2},
    },
    "training": {"epochs": 12, "batch_size": 64, "optimizer": "adam"},
}

GRIDS = {
    "yeast": Grid(
        uri="builtin://yeast",
        base=YEAST,
        space={
            "training.learning_rate": [1e-3, 3e-3, 1e-2, 3e-2],
            "model.orders.count": [4, 16, 64],
            "loss.smoothing": [{"name": "none"}, {"name": "rhls", "beta": 0.25}, {"name": "rhls", "beta": 0.5}],
        },
        metric="f1_macro",
    ),
    "toy": Grid(
        uri="builtin://toy?count=500&tasks=5&seed=0",
        base=TOY,
        space={
            "training.learning_rate": [3e-4, 1e-3, 3e-3, 1e-2, 3e-2],
            "model.orders.count": [2, 8, 32, 120],
            "model.encoder.layers": [2, 4],
        },
        metric="accuracy",
    ),
    "toy_wide": Grid(
        uri="builtin://toy?count=500&tasks=5&seed=1",
        base=TOY,
        space={
            "training.learning_rate": [3e-4, 1e-3, 3e-3, 1e-2, 3e-2],
            "model.orders.count": [4, 32],
            "model.encoder.width": [16, 64, 128],
            "model.encoder.layers": [1, 2, 4],
        },
        metric="accuracy",
    ),
}


@dataclass
class Watch:
    """A `JobContext` that keeps each epoch's metric and CPU seconds."""

    metric: str
    scores: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    since: float = field(default_factory=time.process_time)

    def tick(self) -> None:
        """Nobody ends the job."""

    def report(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """An epoch has ended."""
        now = time.process_time()
        self.scores.append(round(metrics[self.metric], 5))
        self.seconds.append(now - self.since)
        self.since = now


def trained(
    runner: FoldJobRunner, config: RunConfig, grid: Grid, uri: str, digest: str, folder: Path
) -> tuple[list[list[float]], float]:
    """([fold][epoch] scores, CPU seconds of an epoch) of one configuration."""
    scores, seconds = [], []
    folds = FoldsRequest(grid.outer, grid.inner, 0)
    for fold, inner in itertools.product(range(grid.outer), range(grid.inner)):
        with tempfile.TemporaryDirectory(dir=folder) as own:
            key = JobKey(0, "search", config.model.name, fold, inner, 0)
            watch = Watch(grid.metric)
            epochs = config.training.epochs
            runner.run(FoldJob(key, config, uri, digest, folds, own, epochs), epochs, watch)
        scores.append(watch.scores)
        seconds += watch.seconds[1:]
    return scores, round(statistics.median(seconds), 5)


def recorded(name: str, limit: float) -> dict[str, Any]:
    """The table of a grid, as far as `limit` seconds of CPU go."""
    grid = GRIDS[name]
    torch.set_num_threads(1)
    runner = FoldJobRunner()
    *outer, last = grid.space
    rows: list[dict[str, Any]] = []
    kept: list[Any] = []
    began = time.process_time()
    with tempfile.TemporaryDirectory() as home:
        uri = materialise(grid.uri, Path(home))
        digest = open_dataset(uri).digest
        for value in grid.space[last]:
            layer = []
            for values in itertools.product(*(grid.space[path] for path in outer)):
                if time.process_time() - began > limit:
                    break
                drawn = dict(zip(outer, values, strict=True)) | {last: value}
                config = overlay(RunConfig.model_validate(grid.base), drawn)
                scores, seconds = trained(runner, config, grid, uri, digest, Path(home))
                layer.append({"values": drawn, "scores": scores, "epoch_seconds": seconds})
            else:
                rows += layer
                kept.append(value)
                print(f"{name}: {len(rows)} configurations, {time.process_time() - began:.0f} s of CPU", flush=True)
                continue
            break
    base = RunConfig.model_validate(grid.base)
    return {
        "made": f"benchmarks/search_table.py {name}, commit {code_revision()}, torch {torch.__version__}, one thread",
        "uri": grid.uri,
        "dataset_digest": digest,
        "metric": grid.metric,
        "folds": {"count": grid.outer, "inner": grid.inner},
        "base": base.model_dump(mode="json", exclude_defaults=True),
        "space": {path: grid.space[path] for path in outer} | {last: kept},
        "rows": rows,
    }


def written(table: Mapping[str, Any]) -> str:
    """JSON with one line a configuration."""
    head = {key: value for key, value in table.items() if key != "rows"}
    rows = ",\n".join(json.dumps(row, separators=(",", ":")) for row in table["rows"])
    return f'{json.dumps(head, indent=1)[:-2]},\n "rows": [\n{rows}\n]}}\n'


def main() -> None:
    """Record one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(GRIDS))
    parser.add_argument("--seconds", type=float, default=1e9, help="CPU seconds after which no other layer is begun")
    arguments = parser.parse_args()
    target = RESULTS / f"search_curves_{arguments.name}.json"
    target.write_text(written(recorded(arguments.name, arguments.seconds)), encoding="utf-8")
    print(f"{target}: {target.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
