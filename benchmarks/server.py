"""The server with 100,000 entries and 1,000,000 fold results in PostgreSQL, under 50 requests a second.

    python benchmarks/server.py --url postgresql://USER@HOST/NAME      # an empty database; filled, then asked
    python benchmarks/server.py --url ... --keep --seconds 60          # asked again, without filling

One uvicorn process serves; requests leave on a fixed clock (open loop: a slow answer delays nobody's next request) from
this process on the same machine, so that both share its cores. Half of the entries stand on one board. Every answer is
checked. Prints the hardware, the commit, and the latencies of each kind; `--out FILE` also writes them down.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg

from duchenne.driver.prepare import code_revision
from duchenne.records import RecordStore, open_store
from duchenne.server.ranking import rank_board
from duchenne.server.tokens import make_token

TASKS = ("AU1", "AU2", "AU4", "AU6", "AU7", "AU10", "AU12", "AU14", "AU15", "AU17", "AU23", "AU24")
TEAMS = 50
SORTS = ("-f1", "f1", "-f1_deflated", "cost", "-date", "-auc", "gpu_hours", "-trials")
LIMITS_MS = {"board page": 150.0, "API list": 50.0}


def sql_tasks() -> str:
    """An SQL expression: F1 and interval of each AU around `f`, as JSON text."""
    parts = [
        f"json_build_object('task','{task}','f1',f-{index}*0.01,'ci_low',f-0.05,'ci_high',f+0.05)"
        for index, task in enumerate(TASKS)
    ]
    return f"json_build_array({','.join(parts)})"


FILL = (
    """INSERT INTO team (name, created_at) SELECT 'team-' || t, now() FROM generate_series(0, {teams} - 1) t""",
    """INSERT INTO board (id, name, team, published, version, ranked_version, entries, created_at)
       VALUES ('bench', 'bench', NULL, false, 2, 1, {entries} / 2, now())""",
    """INSERT INTO board (id, name, team, published, version, ranked_version, entries, created_at)
       SELECT 'team-' || t || '.bench', 'bench', 'team-' || t, t = 0, 1, 1,
              CASE WHEN t = 0 THEN 0 ELSE {entries} / 2 / ({teams} - 1) END, now()
       FROM generate_series(0, {teams} - 1) t""",
    """INSERT INTO sweep (id, name, team, board, state, spec, spec_text, spec_digest, dataset_uri, created_at,
              stop_requested)
       SELECT 'sweep-' || s, 'bench', 'team-' || (CASE WHEN s % 2 = 0 THEN 0 ELSE 1 + s % ({teams} - 1) END), 'bench',
              'succeeded', '{{}}', '', '', '', now() - s * interval '1 minute', false
       FROM generate_series(0, {sweeps} - 1) s""",
    """INSERT INTO fold_job (id, sweep, trial, phase, method, fold, "inner", seed, state, attempts, created_at)
       SELECT j, 'sweep-' || j / 100, (j % 100) / 9, 'search', 'monet', j % 3, (j / 3) % 3, 0, 'succeeded', 1, now()
       FROM generate_series(0, {sweeps} * 100 - 1) j""",
    """INSERT INTO result (fold_job, epoch, attempt, metrics, at)
       SELECT r / {epochs}, r % {epochs}, 1, '{{"f1_macro": 0.5, "auc_macro": 0.6, "log_loss": 0.4}}', now()
       FROM generate_series(0, {results} - 1) r""",
    """INSERT INTO standing (entry, board, board_name, team, sweep, method, label, kind, status, cohort, f1_mean,
              ci_low, ci_high, f1_deflated, auc, f1_micro, subset_accuracy, log_loss, accuracy, cost_usd, gpu_hours,
              trials, seeds, subjects, on_frontier, tasks, created_at)
       SELECT 'sweep-' || e % {sweeps} || '.m' || e,
              CASE WHEN e % 2 = 0 THEN 'bench' ELSE 'team-' || 1 + e % ({teams} - 1) || '.bench' END, 'bench',
              CASE WHEN e % 2 = 0 THEN 'team-0' ELSE 'team-' || 1 + e % ({teams} - 1) END, 'sweep-' || e % {sweeps},
              'method-' || e % 40, 'monet M=16 k=4 rhls 0.25', 'sweep',
              CASE WHEN e % 100 = 0 THEN 'unverified' ELSE 'verified' END, 'cohort', f, f - 0.05, f + 0.05, f - 0.02,
              f + 0.1, f, f / 2, 0.4, 0.9, CASE WHEN e % 10 = 0 THEN NULL ELSE f * 10 END, f * 3, e % 200, 3, 41,
              e % 5000 = 2, {tasks}, now() - e * interval '7 seconds'
       FROM (SELECT e, 0.3 + 0.4 * random() AS f FROM generate_series(0, {entries} - 1) e) drawn""",
    "VACUUM ANALYZE",
)


def fill(url: str, store: RecordStore, entries: int, results: int) -> list[str]:
    """Write the rows in bulk, rank the large board as the server does, and say how long that took."""
    sweeps = max(1, results // 1000)
    values = {
        "teams": TEAMS,
        "entries": entries,
        "sweeps": sweeps,
        "results": sweeps * 1000,
        "epochs": 10,
        "tasks": sql_tasks(),
    }
    began = time.monotonic()
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in FILL:
            connection.execute(statement.format(**values))  # type: ignore[call-overload]
        best = connection.execute(
            "SELECT entry, f1_mean FROM standing WHERE board = 'bench' AND status = 'verified'"
            " ORDER BY f1_mean DESC, entry LIMIT 500"
        ).fetchall()
        draw = np.random.default_rng(0)
        shared = draw.normal(0, 0.03, 1000)
        for entry, f1 in best:
            samples = (f1 + shared + draw.normal(0, 0.01, 1000)).astype("<f8").tobytes()
            connection.execute("INSERT INTO resamples (entry, f1) VALUES (%s, %s)", (entry, samples))
    filled = time.monotonic()
    assert rank_board(store, "bench", 500), "the board must be ranked"  # noqa: S101 - no result for a wrong board
    return [f"filled in {filled - began:.1f} s; 500 entries of the board ranked in {time.monotonic() - filled:.1f} s"]


@contextmanager
def served(url: str, home: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`duchenne serve` in a process of its own, until the block ends."""
    environment = os.environ | {
        "DUCHENNE_RECORDS_URL": url,
        "DUCHENNE_SERVER_RATE_PER_SECOND": "1000",
        "DUCHENNE_SERVER_RATE_BURST": "1000",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "duchenne", "serve", "--home", str(home), "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                httpx.get(f"http://127.0.0.1:{port}/api/v1/boards", timeout=1.0)
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


def requests(draw: random.Random, cursors: dict[str, str]) -> tuple[str, str, dict[str, Any]]:
    """(kind, address, query) of the next request: pages of boards and lists, sorted and filtered in every way."""
    params: dict[str, Any] = {"sort": draw.choice(SORTS)}
    if draw.random() < 0.3:
        params |= {"method": f"method-{draw.randrange(40)}"}
    if draw.random() < 0.2:
        params |= {"max_cost": 5.0}
    board = "bench" if draw.random() < 0.7 else f"team-{draw.randrange(1, TEAMS)}.bench"
    if draw.random() < 0.5:
        return "board page", f"/boards/{board}", params
    if board == "bench" and params.keys() == {"sort"} and params["sort"] in cursors and draw.random() < 0.5:
        params["cursor"] = cursors[params["sort"]]
    return "API list", f"/api/v1/boards/{board}/entries", params


async def ask(address: str, token: str, rate: float, seconds: float) -> dict[str, list[float]]:
    """Send on a fixed clock; kind -> latencies in ms, counted from the moment at which a request was due."""
    found: dict[str, list[float]] = defaultdict(list)
    cursors: dict[str, str] = {}
    draw = random.Random(0)
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=100)
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=address, headers=headers, limits=limits, timeout=30) as client:

        async def one(due: float) -> None:
            kind, path, params = requests(draw, cursors)
            answer = await client.get(path, params=params)
            found[kind].append((time.monotonic() - due) * 1000)
            if answer.status_code != 200:
                raise RuntimeError(f"{path} {params}: {answer.status_code} {answer.text[:200]}")
            if kind == "API list":
                page = json.loads(answer.content)
                if page["next"] and params.keys() <= {"sort", "cursor"} and "team" not in path:
                    cursors[params["sort"]] = page["next"]

        begin, tasks = time.monotonic(), []
        for index in range(int(rate * seconds)):
            due = begin + index / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            tasks.append(asyncio.create_task(one(due)))
        await asyncio.gather(*tasks)
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_per_request(address: str, token: str, pid: int, count: int = 100) -> Iterator[str]:
    """CPU time of the server for each kind, one request after another: a busy machine stretches it far less."""
    draw, cursors = random.Random(1), {}
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=60) as client:
        for kind in LIMITS_MS:
            before, sent = cpu_seconds(pid), 0
            while sent < count:
                drawn, path, params = requests(draw, cursors)
                if drawn == kind:
                    client.get(path, params=params).raise_for_status()
                    sent += 1
            yield f"{kind}: {1000 * (cpu_seconds(pid) - before) / count:.1f} ms of the server's CPU a request"


def begun() -> list[str]:
    """The first lines of a report."""
    return [
        f"date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"machine: {platform.machine()}, {os.cpu_count()} cores, load before {os.getloadavg()[0]:.1f}",
        f"commit: {code_revision()}",
    ]


def report(lines: list[str], out: Path | None) -> None:
    """Print the lines and, where asked, write them down."""
    text = "\n".join(lines)
    print(text)
    if out:
        out.write_text(text + "\n")


def main() -> int:
    """Fill, serve, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--results", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--port", type=int, default=18080)
    parser.add_argument("--keep", action="store_true", help="the database is filled already")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = [
        *begun(),
        f"rows: {arguments.entries} entries, {arguments.results} fold results; {arguments.rate:g} requests a second",
    ]
    with open_store(arguments.url) as store, tempfile.TemporaryDirectory() as home:
        if not arguments.keep:
            lines += fill(arguments.url, store, arguments.entries, arguments.results)
        made = make_token()
        options = {"name": "bench", "team": None, "role": "viewer", "created_by": "bench"}
        store.add_token(made.id, made.secret_hash, expires_at=datetime.now(UTC) + timedelta(hours=1), **options)  # type: ignore[arg-type]
        address = f"http://127.0.0.1:{arguments.port}"
        with served(arguments.url, Path(home), arguments.port) as process:
            asyncio.run(ask(address, made.text, 20.0, 3.0))  # connections, caches, compiled statements
            before = cpu_seconds(process.pid)
            found = asyncio.run(ask(address, made.text, arguments.rate, arguments.seconds))
            used = (cpu_seconds(process.pid) - before) / arguments.seconds
            alone = list(cpu_per_request(address, made.text, process.pid))
    for kind, times in sorted(found.items()):
        cuts = statistics.quantiles(times, n=100)
        lines.append(
            f"{kind}: {len(times)} requests, ms p50 {cuts[49]:.1f} p95 {cuts[94]:.1f} p99 {cuts[98]:.1f} "
            f"max {max(times):.1f} (aim: p99 < {LIMITS_MS[kind]:g})"
        )
    lines += alone
    lines.append(f"server: {100 * used:.0f} % of a core; load after {os.getloadavg()[0]:.1f}")
    report(lines, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
