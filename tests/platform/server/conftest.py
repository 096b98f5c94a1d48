"""A server with a small dataset of faces' labels, sweeps on it, and clients for whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from duchenne.boards.verify import entry_metrics
from duchenne.records import Entry, NewEntry, NewSweep, PredictionFile, RecordStore, Sweep, open_store
from duchenne.records.board_rows import Role
from duchenne.server.app import create_app
from duchenne.server.frames import Frames
from duchenne.server.settings import Settings
from duchenne.server.tokens import make_token
from duchenne.server.truths import truth_of
from duchenne.spec import Sweep as SweepSpec
from duchenne_jobs.data import Dataset, make_folds, open_dataset
from duchenne_jobs.data.digest import canonical_digest
from duchenne_jobs.data.manifest import Description
from duchenne_jobs.data.writer import DatasetWriter
from duchenne_jobs.evaluation import Predictions, write_predictions

TASKS = ("AU1", "AU4", "AU12")
SUBJECTS = tuple(f"SN{number:03d}" for number in range(1, 10))
SEQUENCES = ("T1", "T2")
FRAMES = 6


def write_dataset(folder: Path) -> Dataset:
    """9 subjects x 2 sequences x 6 frames with 3 AUs, a tenth of the labels unknown."""
    draw = np.random.default_rng(0)
    description = Description(
        name="faces",
        tasks=TASKS,
        columns=("subject", "sequence", "frame", "labels", "features"),
        feature_names=("x",),
        licence="drawn by a test",
        consent="no people",
    )
    with DatasetWriter(folder, description) as writer:
        writer.write_rows(
            [
                {
                    "subject": subject,
                    "sequence": sequence,
                    "frame": frame,
                    "labels": draw.choice([-1, 0, 1], size=len(TASKS), p=[0.1, 0.5, 0.4]).tolist(),
                    "features": [float(draw.normal())],
                }
                for subject in SUBJECTS
                for sequence in SEQUENCES
                for frame in range(1, FRAMES + 1)
            ]
        )
    return open_dataset(folder)


def sweep_spec(team: str, board: str, uri: str, name: str) -> SweepSpec:
    return SweepSpec.model_validate(
        {
            "apiVersion": "duchenne/v1",
            "kind": "Sweep",
            "metadata": {"name": name, "team": team, "board": board},
            "data": {"uri": uri},
            "model": {"name": "vmnc"},
            "folds": {"count": 3, "inner": 2},
            "seeds": [0, 1],
            "budget": {"usd": 5.0},
        }
    )


class Ahead:
    """The time, and what a test has added to it."""

    def __init__(self) -> None:
        self.added = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.added


@dataclass
class World:
    """What a test talks to."""

    home: Path
    store: RecordStore
    settings: Settings
    dataset: Dataset
    clock: Ahead
    app: FastAPI = field(init=False)

    def __post_init__(self) -> None:
        self.app = create_app(self.store, self.settings)

    def client(self, token: str | None = None) -> TestClient:
        """A client that sends that token with every request."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return TestClient(self.app, headers=headers, raise_server_exceptions=False)

    def token(self, team: str | None = "faces", role: Role = "submitter", **options: Any) -> str:
        """A new token's text."""
        made = make_token()
        if team is not None:
            self.store.ensure_team(team)
        self.store.add_token(made.id, made.secret_hash, name="test", team=team, role=role, created_by="test", **options)
        return made.text

    def new_sweep(self, team: str = "faces", board: str = "disfa", name: str = "s") -> NewSweep:
        spec = sweep_spec(team, board, self.dataset.uri, name)
        plan = make_folds(SUBJECTS, 3, 0)
        return NewSweep(
            name=name,
            team=team,
            board=board,
            spec=spec.model_dump(mode="json"),
            spec_text="kind: Sweep\n",
            spec_digest="sha256:spec",
            dataset_uri=self.dataset.uri,
            dataset_digest=self.dataset.digest,
            folds_digest=canonical_digest({"outer": plan.digest, "inner": 2}),
            code_revision="abc123",
        )

    def sweep(self, team: str = "faces", board: str = "disfa", name: str = "s") -> Sweep:
        return self.store.create_sweep(self.new_sweep(team, board, name))

    def frames(self, sweep: Sweep) -> Frames:
        return truth_of(self.store, self.home, sweep, ())

    def predictions(self, sweep: Sweep, skill: float, seed: int = 0) -> dict[tuple[int, int], Predictions]:
        """(fold, seed) -> predictions of two seeds that are right with probability `skill`."""
        frames, found = self.frames(sweep), {}
        for run in (0, 1):
            draw = np.random.default_rng(100 * seed + run)
            for fold in range(3):
                mine = frames.folds == fold
                labels = frames.labels[mine]
                right = draw.random(labels.shape) < skill
                hit = np.where(right, labels == 1, labels != 1)
                found[fold, run] = Predictions(
                    tasks=TASKS,
                    subjects=frames.subjects[mine],
                    sequences=frames.sequences[mine],
                    frames=frames.frames[mine],
                    labels=labels,
                    probabilities=np.where(hit, 0.9, 0.1).astype(np.float32),
                )
        return found

    def entry(
        self,
        sweep: Sweep,
        skill: float = 0.8,
        method: str = "monet",
        *,
        predictions: dict[tuple[int, int], Predictions] | None = None,
        **changes: Any,
    ) -> Entry:
        """An entry as a driver saves it, its files below the home."""
        files = []
        rows_of = predictions or self.predictions(sweep, skill, seed=len(method))
        for (fold, seed), rows in rows_of.items():
            path = Path("sweeps") / sweep.id / "predictions" / f"{method}-{fold}-{seed}.arrow"
            digest = write_predictions(self.home / path, rows, {})
            files.append(PredictionFile(fold=fold, seed=seed, path=str(path), digest=digest))
        values: dict[str, Any] = {
            "board": sweep.board,
            "team": sweep.team,
            "sweep": sweep.id,
            "method": method,
            "label": method.upper(),
            "config": {"model": {"name": method}},
            "verified": "verified",
            "metrics": entry_metrics(rows_of),
            "per_fold": [],
            "predictions": tuple(files),
            "dataset_digest": str(sweep.dataset_digest),
            "folds_digest": str(sweep.folds_digest),
            "cost_usd": 1.0,
            "gpu_hours": 0.5,
            "trials": 4,
        }
        return self.store.save_entry(NewEntry(**(values | changes)))

    def csv(self, sweep: Sweep, change: Callable[[list[list[str]]], None] | None = None) -> str:
        """A good external upload, or what `change` makes of its rows; the first row names the columns."""
        frames = self.frames(sweep)
        draw = np.random.default_rng(7)
        rows = [["subject", "sequence", "frame", *TASKS]]
        for index in range(len(frames.frames)):
            values = [f"{value:.4f}" for value in draw.random(len(TASKS))]
            rows.append([frames.subjects[index], frames.sequences[index], str(frames.frames[index]), *values])
        if change is not None:
            change(rows)
        return "\n".join(",".join(row) for row in rows) + "\n"


@pytest.fixture(scope="session")
def dataset_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    write_dataset(home / "datasets" / "faces")
    return home


@pytest.fixture
def world(url: str, tmp_path: Path, dataset_home: Path) -> Iterator[World]:
    """A server on each database."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "datasets").symlink_to(dataset_home / "datasets")
    settings = Settings(
        home=home,
        secret=SecretStr("a secret of the tests"),
        datasets=(str(dataset_home / "datasets"),),
        rate_per_second=10_000,
        rate_burst=10_000,
        upload_bytes=200_000,
    )
    ahead = Ahead()
    with open_store(url, clock=ahead) as store:
        yield World(home, store, settings, open_dataset(dataset_home / "datasets" / "faces"), ahead)
