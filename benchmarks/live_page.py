"""How long a result takes from the records to the page of a running sweep: 2,000 trials, 12,000 fold jobs.

    python benchmarks/live_page.py [--records URL] [--times 20] [--out FILE]

`duchenne serve` runs in a process of its own on the records: SQLite without a URL; PostgreSQL must be empty. This
process holds the event stream of the sweep's page open, as a browser does, files a result as a worker does, and waits
for the event whose markup holds it. Between two results passes a drawn time, so that none is in step with the server's
looks. Prints the hardware, the commit, the delays, the page's size, and the server's CPU time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from server import begun, cpu_seconds, report, served

from duchenne.records import Amounts, FoldJobKey, NewSweep, RecordStore, open_store
from duchenne.records.jobs import file_results
from duchenne.records.models import FoldJobRow, ResultRecord, TrialRow
from duchenne.server.tokens import make_token
from duchenne.spec.loading import load_sweep_text

SPEC = """\
apiVersion: duchenne/v1
kind: Sweep
metadata: {name: live, team: bench}
data: {uri: "builtin://toy"}
search:
  space: {training.learning_rate: {loguniform: [0.0001, 0.1]}, training.decay: {uniform: [0.9, 1.0]}}
  trials: 2000
folds: {count: 3, inner: 2}
budget: {usd: 100}
prices: {cpu_hour_usd: 0.1}
"""
TRIALS = 2000
AIM_SECONDS = 2.0


def fill(store: RecordStore) -> str:
    """A running sweep whose last trial still trains; its id."""
    spec = load_sweep_text(SPEC)
    sweep = store.create_sweep(
        NewSweep(
            name="live", team="bench", board="live", spec=spec.model_dump(mode="json"), spec_text=SPEC, spec_digest="",
            dataset_uri="builtin://toy", budget=Amounts(usd=100),
        )
    )  # fmt: skip
    store.set_sweep_state(sweep.id, "running", token=None)
    draw, start = random.Random(0), datetime.now(UTC) - timedelta(hours=3)
    with store.database.write() as session:
        for number in range(TRIALS):
            at = start + timedelta(seconds=5 * number)
            over = number != TRIALS - 1
            ended = at + timedelta(minutes=1) if over else None
            value = 0.3 + 0.3 * draw.random() if over else None
            config = {"training.learning_rate": 10 ** draw.uniform(-4, -1), "training.decay": draw.uniform(0.9, 1.0)}
            session.add(
                TrialRow(
                    sweep=sweep.id, number=number, config=config, state="stopped" if over else "running", value=value,
                    rung=1, error=None, created_at=at, started_at=at, ended_at=ended,
                )
            )  # fmt: skip
            jobs = [
                FoldJobRow(
                    sweep=sweep.id, trial=number, phase="search", method="monet", fold=fold, inner=inner, seed=0,
                    state="done" if over else "running", attempts=1, created_at=at, started_at=at,
                    ended_at=ended,
                )
                for fold in range(3) for inner in range(2)
            ]  # fmt: skip
            session.add_all(jobs)
            if over:
                session.flush()
                metrics = {"f1_macro": value}
                session.add_all(
                    ResultRecord(fold_job=job.id, epoch=1, attempt=1, metrics=metrics, at=at) for job in jobs
                )
    return sweep.id


def events(stream: httpx.Response) -> Iterator[dict[str, str]]:
    """The parts of each event `parts`, as they come."""
    kind = ""
    for line in stream.iter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            kind = value
        elif field == "data" and kind == "parts":
            yield json.loads(value)


def delays(address: str, token: str, store: RecordStore, sweep: str, times: int) -> Iterator[float]:
    """Seconds from each filed result to the event that shows it."""
    draw = random.Random(1)
    key = FoldJobKey(sweep=sweep, trial=TRIALS - 1, phase="search", method="monet", fold=0, inner=0, seed=0)
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=address, headers=headers, timeout=60) as client:
        path = f"/sweeps/{sweep}/stream"
        with client.stream("GET", path, params={"sort": "number", "page": "40"}) as stream:
            coming = events(stream)
            next(coming)  # the page as it is: nothing was seen before
            for epoch in range(1, times + 1):
                time.sleep(draw.uniform(0.5, 1.5))
                with store.database.write() as session:
                    file_results(store.database, session, [(key, epoch, 1, {"f1_macro": 0.1 + epoch / 1000})])
                began = time.monotonic()
                shown = f"trial {TRIALS - 1}, fold 0, inner 0, seed 0, epoch {epoch}: "
                while shown not in next(coming).get("trials", ""):
                    continue
                yield time.monotonic() - began


def main() -> int:
    """Fill, serve, wait, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", help="postgresql://USER@HOST/NAME; a SQLite file without it")
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--port", type=int, default=18081)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = begun()
    with tempfile.TemporaryDirectory() as home:
        url = arguments.records or f"sqlite:///{home}/records.sqlite"
        with open_store(url) as store:
            sweep = fill(store)
            made = make_token()
            store.add_token(
                made.id, made.secret_hash, name="bench", team=None, role="viewer", created_by="bench",
                expires_at=datetime.now(UTC) + timedelta(hours=1),
            )  # fmt: skip
            address = f"http://127.0.0.1:{arguments.port}"
            with served(url, Path(home), arguments.port) as process:
                headers = {"Authorization": f"Bearer {made.text}"}
                page = httpx.get(f"{address}/sweeps/{sweep}", headers=headers, timeout=60).raise_for_status()
                before, began = cpu_seconds(process.pid), time.monotonic()
                found = list(delays(address, made.text, store, sweep, arguments.times))
                used = (cpu_seconds(process.pid) - before) / (time.monotonic() - began)
    lines += [
        f"sweep: {TRIALS} trials, {6 * TRIALS} fold jobs; {url.partition(':')[0]}",
        f"page: {len(page.content) / 1000:.0f} kB (aim: < 2000)",
        f"result to event: {len(found)} times, seconds median {statistics.median(found):.2f} "
        f"max {max(found):.2f} (aim: < {AIM_SECONDS:g})",
        f"server: {100 * used:.0f} % of a core with one page open; load after {os.getloadavg()[0]:.1f}",
    ]
    report(lines, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
