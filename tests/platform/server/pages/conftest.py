"""A server as a research group would see it after some weeks: entries, private boards, a sweep that runs.

Everything goes through the record store, and the numbers come from real prediction files that the server's own code
judges: nothing on the pages is written here.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import SecretStr

from duchenne.boards.verify import entry_metrics
from duchenne.records import (
    Amounts,
    FoldJobKey,
    Lease,
    NewEntry,
    NewSweep,
    PredictionFile,
    RecordStore,
    Sweep,
    open_store,
)
from duchenne.records.board_rows import Role, Truth
from duchenne.records.jobs import file_results
from duchenne.server.app import create_app
from duchenne.server.frames import Frames
from duchenne.server.registration import register_pending
from duchenne.server.settings import Settings
from duchenne.server.tokens import make_token
from duchenne.spec import Sweep as SweepSpec
from duchenne_jobs.evaluation import Predictions, write_predictions
from duchenne_jobs.evaluation.attention import AttentionSample, write_attention
from duchenne_jobs.training import JobKey

TASKS = ("AU1", "AU2", "AU4", "AU6", "AU9", "AU12", "AU25", "AU26")
RATES = (0.07, 0.06, 0.19, 0.15, 0.05, 0.24, 0.35, 0.19)
FOLDS, SEEDS, SUBJECTS, FRAMES, EPOCHS = 3, (0, 1), 27, 60, 12
DATASET, FOLDS_DIGEST = "sha256:8d1f0c5e9b7a46d2a3c1", "sha256:51c3a97be0d24f6688aa"
NOW = datetime(2026, 11, 24, 12, 40, tzinfo=UTC)
REVISION = "3f9c1e7b5a204d6e8f10a2b4c6d8e0f123456789"

SPEC: dict[str, Any] = {
    "apiVersion": "duchenne/v1",
    "kind": "Sweep",
    "metadata": {"name": "disfa", "team": "affect-lab", "board": "disfa"},
    "data": {"uri": "s3://faces/disfa"},
    "model": {"name": "monet", "orders": {"count": 16}},
    "training": {"epochs": EPOCHS},
    "search": {
        "space": {
            "model.orders.count": {"choice": [16, 32, 64]},
            "training.learning_rate": {"loguniform": [1e-4, 1e-2]},
            "training.weight_decay": {"uniform": [0.0, 0.1]},
            "loss.smoothing": {"choice": [{"name": "none"}, {"name": "rhls", "beta": 0.25}]},
        },
        "scheduler": {"name": "asha", "grace_epochs": 3, "reduction_factor": 2},
        "metric": "f1_macro",
        "trials": 30,
    },
    "folds": {"count": FOLDS, "inner": 2},
    "budget": {"usd": 40.0, "gpu_hours": 30.0},
    "prices": {"gpu_hour_usd": 1.2},
    "seeds": list(SEEDS),
}


class Clock:
    """A time that a test sets, and that goes on from there."""

    def __init__(self, start: datetime) -> None:
        self._base, self._since = start, time.monotonic()

    def __call__(self) -> datetime:
        return self._base + timedelta(seconds=time.monotonic() - self._since)

    def set(self, moment: datetime) -> None:
        self._base, self._since = moment, time.monotonic()


def truth() -> Frames:
    """Labels of 27 subjects; what is present together is, as on faces, more often there together."""
    draw = np.random.default_rng(7)
    rows = SUBJECTS * FRAMES
    mood = np.repeat(draw.normal(size=(SUBJECTS, 1)), FRAMES, axis=0) + draw.normal(size=(rows, 1))
    score = 0.55 * mood + draw.normal(size=(rows, len(TASKS)))
    labels = (score > np.quantile(score, 1 - np.array(RATES), axis=0).diagonal()).astype(np.int8)
    subjects = np.repeat([f"SN{number + 1:03d}" for number in range(SUBJECTS)], FRAMES).astype(object)
    return Frames(
        tasks=TASKS,
        subjects=subjects,
        sequences=np.array(["T1"] * rows, dtype=object),
        frames=np.tile(np.arange(1, FRAMES + 1) * 80, SUBJECTS),
        folds=np.repeat(np.arange(SUBJECTS) % FOLDS, FRAMES),
        labels=labels,
    )


def predicted(frames: Frames, fold: int, seed: int, skill: float, name: str) -> Predictions:
    """Logits around the label, with noise that differs between subjects."""
    mine = frames.folds == fold
    labels = frames.labels[mine]
    draw = np.random.default_rng([fold, seed, *name.encode()])
    offset = np.repeat(draw.normal(scale=0.7, size=(len(labels) // FRAMES, len(TASKS))), FRAMES, axis=0)
    logits = skill * (2.0 * labels - 1.0) - 0.25 + offset + draw.normal(scale=1.15, size=labels.shape)
    return Predictions(
        tasks=TASKS,
        subjects=frames.subjects[mine],
        sequences=frames.sequences[mine],
        frames=frames.frames[mine],
        labels=labels,
        probabilities=(1.0 / (1.0 + np.exp(-1.6 * logits))).astype(np.float32),
    )


@dataclass
class Site:
    """The server and what stands on it."""

    home: Path
    store: RecordStore
    settings: Settings
    clock: Clock
    frames: Frames
    app: FastAPI
    live: str = ""
    address: str = ""

    def client(self, token: str | None = None, **options: Any) -> TestClient:
        """A browser without JavaScript; signed in by a session where a token is given."""
        client = TestClient(self.app, raise_server_exceptions=False, **options)
        if token is not None:
            csrf = re.search(r'name="csrf_token" value="([^"]+)"', client.get("/login").text)
            assert csrf is not None
            form = {"token": token, "csrf_token": csrf[1]}
            answer = client.post("/login/token", data=form, follow_redirects=False)
            assert answer.status_code == 303
        return client

    def token(self, team: str | None, role: Role) -> str:
        made = make_token()
        if team is not None:
            self.store.ensure_team(team, actor="operator")
        self.store.add_token(
            made.id, made.secret_hash, name=f"{role} of a person", team=team, role=role, created_by="operator",
            expires_at=self.clock() + timedelta(days=90),
        )  # fmt: skip
        return made.text

    def sweep(self, name: str, team: str, budget: float | None = 40.0, **changes: Any) -> Sweep:
        spec = SweepSpec.model_validate({**SPEC, "metadata": {"name": name, "team": team, "board": "disfa"}})
        values: dict[str, Any] = {
            "name": name,
            "team": team,
            "board": "disfa",
            "spec": spec.model_dump(mode="json"),
            "spec_text": "# A sweep over orders and smoothing.\nkind: Sweep\n",
            "spec_digest": "sha256:0a1b2c3d4e5f",
            "dataset_uri": "s3://faces/disfa",
            "dataset_digest": DATASET,
            "folds_digest": FOLDS_DIGEST,
            "code_revision": REVISION,
            "image": "registry.example.org/duchenne@sha256:77aa",
            "budget": Amounts(usd=budget, gpu_seconds=30 * 3600.0),
        }
        return self.store.create_sweep(NewSweep(**{**values, **changes}), name)

    def enter(
        self, sweep: Sweep, method: str, label: str, skill: float, cost: float, *, whole: bool = False, **changes: Any
    ) -> str:
        """Predictions of every fold and seed, and the entry that they make; `whole`: with every metric on record."""
        found = {
            (fold, seed): predicted(self.frames, fold, seed, skill, sweep.id + method)
            for fold in range(FOLDS)
            for seed in SEEDS
        }
        files = []
        for (fold, seed), rows in found.items():
            path = Path("sweeps") / sweep.id / "predictions" / f"{method}-{fold}-{seed}.arrow"
            digest = write_predictions(self.home / path, rows, {})
            files.append(PredictionFile(fold=fold, seed=seed, path=str(path), digest=digest))
        values: dict[str, Any] = {
            "board": "disfa",
            "team": sweep.team,
            "sweep": sweep.id,
            "method": method,
            "label": label,
            "config": {
                "model": {"name": method, "orders": {"count": 16 if "16" in label else 64, "active": 8}},
                "training": {"learning_rate": 0.002 if "rhls" in label else 0.004, "epochs": EPOCHS},
                "loss": {"smoothing": {"name": "rhls" if "rhls" in label else "none"}},
            },
            "verified": "verified",
            "metrics": entry_metrics(found, {}) if whole else {},
            "per_fold": [],
            "predictions": tuple(files),
            "dataset_digest": DATASET,
            "folds_digest": FOLDS_DIGEST,
            "cost_usd": cost,
            "gpu_hours": cost / 1.2,
            "trials": 30,
        }
        return self.store.save_entry(NewEntry(**{**values, **changes})).id

    def key(self, sweep: str, trial: int | None, phase: Any, fold: int, inner: int | None, seed: int = 0) -> FoldJobKey:
        return FoldJobKey(sweep=sweep, trial=trial, phase=phase, method="monet", fold=fold, inner=inner, seed=seed)

    def lease(self, key: FoldJobKey, usd: float) -> Lease:
        resource = {"phase": key.phase, "trial": key.trial, "fold": key.fold, "method": key.method}
        amounts = Amounts(usd=usd, gpu_seconds=3000 * usd, wall_seconds=0.0)
        found = self.store.ledger.reserve(
            key.sweep, amounts, ttl=86_400, holder="worker-1", kind="fold_job", resource=resource
        )
        assert isinstance(found, Lease)
        return found

    def run(self, key: FoldJobKey, epochs: int, best: float, usd: float, *, ends: bool = True) -> None:
        """A fold job, epoch by epoch; it still runs unless it `ends`."""
        self.store.ensure_fold_job(key)
        lease = self.lease(key, 1.6 * usd)
        attempt = self.store.start_attempt(key, "worker-1")
        rows = [
            (key, epoch, attempt.number, {"f1_macro": best * (1 - 0.5 * 0.7**epoch), "train_loss": 1 / epoch})
            for epoch in range(1, epochs + 1)
        ]
        with self.store.database.write() as session:
            file_results(self.store.database, session, rows)
        if ends:
            self.store.ledger.settle(lease.id, Amounts(usd=usd, gpu_seconds=3000 * usd, wall_seconds=0.0))
            self.store.finish_attempt(attempt.id, "succeeded", seconds=100 * usd, epochs=epochs)

    def keep_orders(self, sweep: str) -> None:
        """Soft orders that settle over epochs, and attention, as the runs of an evaluation leave them."""
        target = np.random.default_rng(3).permutation(len(TASKS))
        for fold in range(FOLDS):
            for seed in SEEDS:
                key = self.key(sweep, 3, "evaluation", fold, None, seed)
                self.run(key, 3, 0.6, 0.3)
                slug = JobKey(3, "evaluation", "monet", fold, None, seed).slug
                path = self.home / "sweeps" / sweep / "soft_orders" / f"{slug}.jsonl"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(_soft_order_line(epoch, target, fold + seed) for epoch in range(1, EPOCHS + 1)))
        self._keep_attention(sweep)

    def _keep_attention(self, sweep: str) -> None:
        rows, columns = np.mgrid[0:14, 0:14]
        draw = np.random.default_rng(5)
        centres = [(4, 4), (4, 10), (5, 7), (7, 5), (8, 7), (10, 9), (11, 7), (12, 7)]
        maps = np.stack([np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 6.0) + 0.02 for y, x in centres])
        noisy = maps * draw.uniform(0.7, 1.3, size=(4, 1, 6, *maps.shape))
        weights = noisy / noisy.sum(axis=(-2, -1), keepdims=True)
        sample = AttentionSample(
            attention=weights.astype(np.float16),
            tasks=np.array(TASKS),
            subjects=np.array(["SN001"] * 4),
            sequences=np.array(["T1"] * 4),
            frames=np.arange(4),
            labels=np.zeros((4, len(TASKS)), dtype=np.int8),
            config="{}",
        )
        slug = JobKey(3, "evaluation", "monet", 0, None, 0).slug
        write_attention(self.home / "sweeps" / sweep / "attention" / f"{slug}.npz", sample)


def _soft_order_line(epoch: int, target: np.ndarray, roll: int) -> str:
    size = len(TASKS)
    steps = np.abs(np.arange(size)[:, None] - np.argsort(target)[None])
    sharp = np.exp(-steps * 0.14 * epoch * (1 + 0.1 * roll))
    for _ in range(40):
        sharp /= sharp.sum(axis=1, keepdims=True)
        sharp /= sharp.sum(axis=0, keepdims=True)
    return json.dumps({"epoch": epoch, "soft_order": sharp.tolist()}) + "\n"


def config_of(draw: np.random.Generator) -> dict[str, Any]:
    return {
        "model.orders.count": int(draw.choice([16, 32, 64])),
        "training.learning_rate": float(10 ** draw.uniform(-4, -2)),
        "training.weight_decay": float(draw.uniform(0, 0.1)),
        "loss.smoothing": {"name": "rhls", "beta": 0.25} if draw.random() < 0.5 else {"name": "none"},
    }


def fill_live(site: Site, start: datetime) -> str:
    """A search in the middle: trials that ended at a rung, some that run, one that failed, more that wait."""
    site.clock.set(start)
    sweep = site.sweep("disfa-orders-2", "affect-lab").id
    site.store.record_event("sweep submitted", sweep=sweep, actor="ada@example.org", detail={"cluster": "lab"})
    lock = site.store.acquire_lock(sweep, "cluster:driver-0", ttl_seconds=40 * 86_400)
    site.store.set_sweep_state(sweep, "running", token=lock.token)
    draw = np.random.default_rng(11)
    for number in range(18):
        site.clock.set(start + timedelta(minutes=9 * number))
        config = config_of(draw)
        site.store.record_trial(sweep, number, config, state="running", token=lock.token)
        rate, smoothed = config["training.learning_rate"], config["loss.smoothing"]["name"] == "rhls"
        best = 0.62 - 0.06 * abs(np.log10(rate) + 2.8) + 0.03 * smoothed + draw.normal(scale=0.012)
        epochs = 3 if number % 2 else (6 if number % 4 else EPOCHS)
        running = number >= 15
        for fold in range(FOLDS):
            for inner in range(2):
                key = site.key(sweep, number, "search", fold, inner)
                if running and fold == 2:
                    site.store.ensure_fold_job(key)
                elif number == 7 and fold == 1 and inner == 1:
                    fail(site, key)
                else:
                    value = float(best + draw.normal(scale=0.02))
                    site.run(key, 2 if running else epochs, value, 0.02 * epochs, ends=not running)
        if running:
            continue
        rung = {3: 1, 6: 2, EPOCHS: 3}[epochs]
        state: Any = "failed" if number == 7 else ("succeeded" if epochs == EPOCHS else "stopped")
        error = "the loss must be finite, but is NaN at step 41; lower the learning rate" if number == 7 else None
        value = None if number == 7 else float(best)
        site.store.set_trial_state(sweep, number, state, value=value, rung=rung, error=error, token=lock.token)
    return sweep


def fail(site: Site, key: FoldJobKey) -> None:
    site.store.ensure_fold_job(key)
    for _ in range(3):
        attempt = site.store.start_attempt(key, "worker-2")
        site.store.finish_attempt(attempt.id, "failed", seconds=4.0, epochs=0, error="the loss is NaN")


def fill(site: Site) -> None:
    """Three teams; what the first two published, and what the third did not."""
    store, clock = site.store, site.clock
    path = Path("truths") / "disfa.arrow"
    digest = site.frames.write(site.home / path)
    store.save_truth(Truth(dataset_digest=DATASET, folds_digest=FOLDS_DIGEST, path=str(path), digest=digest))
    for team, limit in (("affect-lab", 600.0), ("crowd-faces", 150.0), ("northlab", None)):
        store.ensure_team(team, actor="operator")
        store.set_team_budget(team, usd_per_month=limit, gpu_hours_per_month=400.0, actor="operator")
    store.set_member("affect-lab", "ada@example.org", "admin", actor="operator")
    store.set_member("affect-lab", "grace@example.org", "submitter", actor="ada@example.org")
    clock.set(datetime(2026, 11, 5, 9, 30, tzinfo=UTC))
    first = site.sweep("disfa-orders-1", "affect-lab").id
    lock = store.acquire_lock(first, "cluster:driver-0", ttl_seconds=600)
    store.set_sweep_state(first, "running", token=lock.token)
    site.keep_orders(first)
    sweep = store.get_sweep(first)
    site.enter(sweep, "monet", "monet M=64 k=8 rhls 0.25", 1.50, 31.20, whole=True)
    site.enter(sweep, "vmnc", "vmnc", 1.18, 3.10, trials=0)
    site.enter(sweep, "logistic_regression", "logistic_regression", 0.80, 0.04, trials=0, config={})
    clock.set(datetime(2026, 11, 5, 15, 10, tzinfo=UTC))
    store.set_sweep_state(first, "succeeded", token=lock.token)
    rest = (
        ("disfa-attention", "affect-lab", "mtts", "mtts guided by landmarks", 1.46, 58.0, 12),
        ("disfa-small", "crowd-faces", "monet", "monet M=16 k=8", 1.36, 9.6, 13),
        ("disfa-chain", "crowd-faces", "mrnn", "mrnn", 1.14, 2.2, 14),
        ("disfa-smooth", "affect-lab", "vmns", "vmns rhls 0.25", 1.27, 4.4, 17),
        ("north-secret", "northlab", "monet", "north's monet M=64", 1.55, 22.0, 18),
    )
    for name, team, method, label, skill, cost, day in rest:
        clock.set(datetime(2026, 11, day, 11, tzinfo=UTC))
        made = site.sweep(name, team)
        site.enter(made, method, label, skill, cost, whole=name == "disfa-small")
        store.request_stop(made.id, actor="ada@example.org")
    other = site.sweep("disfa-elsewhere", "crowd-faces", folds_digest="sha256:other")
    site.enter(other, "drml", "drml", 1.25, 7.0, folds_digest="sha256:other")
    spoiled = site.sweep("disfa-spoiled", "crowd-faces")
    site.enter(spoiled, "monet", "monet <b>tuned</b> on test", 1.3, 5.0)
    file = site.home / "sweeps" / spoiled.id / "predictions" / "monet-0-0.arrow"
    file.write_bytes(file.read_bytes()[:-8] + b"tampered")
    for team in ("affect-lab", "crowd-faces"):
        store.publish_board(team, "disfa", public=True, actor="operator")
    register_pending(store, site.settings)
    site.live = fill_live(site, datetime(2026, 11, 24, 9, 0, tzinfo=UTC))
    clock.set(NOW)


def settings_of(home: Path) -> Settings:
    """Nothing is registered behind a test's back, and no test is too fast."""
    return Settings(
        home=home, secret=SecretStr("s" * 40), poll_seconds=600.0, rate_per_second=10_000.0, rate_burst=10_000
    )


def make_site(home: Path) -> Site:
    clock = Clock(datetime(2026, 11, 2, 8, 0, tzinfo=UTC))
    store = open_store(home / "records.sqlite", clock=clock)
    settings = settings_of(home)
    site = Site(home, store, settings, clock, truth(), create_app(store, settings))
    fill(site)
    return site


@pytest.fixture(scope="session")
def seeded_home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The home, filled once: the tests copy it."""
    home = tmp_path_factory.mktemp("seeded")
    site = make_site(home)
    site.store.close()
    return home, {"live": site.live}


@contextmanager
def opened(seeded: tuple[Path, dict[str, str]], copy: Path) -> Iterator[Site]:
    home, names = seeded
    shutil.copytree(home, copy)
    clock = Clock(NOW)
    store = open_store(copy / "records.sqlite", clock=clock)
    settings = settings_of(copy)
    yield Site(copy, store, settings, clock, truth(), create_app(store, settings), **names)
    store.close()


@pytest.fixture
def site(seeded_home: tuple[Path, dict[str, str]], tmp_path: Path) -> Iterator[Site]:
    """A server of its own for each test."""
    with opened(seeded_home, tmp_path / "home") as found:
        yield found


@pytest.fixture(scope="module")
def served(seeded_home: tuple[Path, dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The server behind a real socket, for a browser."""
    with opened(seeded_home, tmp_path_factory.mktemp("served") / "home") as found, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(found.app, log_level="warning", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.02)
        assert server.started
        found.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        yield found
        server.should_exit = True
        thread.join(timeout=15)
