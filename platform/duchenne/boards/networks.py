"""Where the networks behind an entry are."""

from __future__ import annotations

from pathlib import Path

from duchenne.records import Entry
from duchenne_jobs.config import BASELINE_NAMES
from duchenne_jobs.prediction import PredictionError
from duchenne_jobs.training.checkpoint import checkpoint_file


def networks_of(entry: Entry, home: Path, fold: int | None = None, seed: int | None = None) -> list[Path]:
    """Checkpoints of an entry's networks: one a fold and seed, of which each has seen other subjects.

    Args:
        home: the folder to which recorded paths are relative.
        fold, seed: take those of this fold, of this seed only.

    Raises:
        PredictionError: it has none.
    """
    if entry.method in BASELINE_NAMES:
        raise PredictionError(f"{entry.id} is a comparator of scikit-learn, which keeps no model; name another entry")
    chosen = [
        file
        for file in entry.predictions
        if (fold is None or file.fold == fold) and (seed is None or file.seed == seed)
    ]
    if not chosen:
        have = ", ".join(f"fold {file.fold} seed {file.seed}" for file in entry.predictions) or "none"
        raise PredictionError(f"{entry.id} has no network of fold {fold} and seed {seed}; it has {have}")
    # A job's checkpoint stands beside its predictions, under the same name.
    paths = [home / file.path for file in chosen]
    return [checkpoint_file(path.parent.parent / "checkpoints", path.stem) for path in paths]
