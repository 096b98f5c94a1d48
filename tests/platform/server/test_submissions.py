"""Sweeps that run elsewhere: what they send is on record once, and their entries are what their predictions say."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sqlalchemy import text

from duchenne.records import open_store
from duchenne.records.database import parse_url
from duchenne.server.registration import register_pending
from duchenne_jobs.evaluation import write_predictions

ARROW = {"Content-Type": "application/vnd.apache.arrow.file"}


def register(world: Any, client: Any, **changes: Any) -> Any:
    new = world.new_sweep()
    body = {
        "team": "faces",
        "spec": dict(new.spec),
        "dataset_digest": new.dataset_digest,
        "folds_digest": new.folds_digest,
    }
    return client.post("/api/v1/sweeps", json=body | changes)


def file_of(rows: Any, tmp_path: Path) -> bytes:
    path = tmp_path / "sent.arrow"
    write_predictions(path, rows, {})
    return path.read_bytes()


def results(count: int, epoch: int = 0) -> dict[str, Any]:
    return {
        "results": [
            {
                "trial": 0,
                "phase": "search",
                "method": "vmnc",
                "fold": fold,
                "inner": 0,
                "seed": 0,
                "epoch": epoch,
                "metrics": {"f1_macro": 0.5},
            }
            for fold in range(count)
        ]
    }


def test_a_sweep_goes_all_the_way_over_the_network(world: Any, tmp_path: Path) -> None:
    client = world.client(world.token())
    made = register(world, client)
    assert made.status_code == 201, made.text
    sweep = world.store.get_sweep(made.json()["id"])
    address = f"/api/v1/sweeps/{sweep.id}"
    assert client.post(f"{address}/results", json=results(3)).json() == {"received": 3, "written": 3}
    assert client.post(f"{address}/results", json=results(4)).json() == {"received": 4, "written": 1}
    assert len(client.get(f"{address}/results").json()["items"]) == 4
    assert client.post(f"{address}/entries", json={"method": "vmnc", "label": "VMNC"}).status_code == 409
    rows_of = world.predictions(sweep, 0.9)
    for (fold, seed), rows in rows_of.items():
        target = f"{address}/predictions/vmnc/{fold}/{seed}"
        first = client.put(target, content=file_of(rows, tmp_path), headers=ARROW)
        assert first.status_code == 200, first.text
        assert client.put(target, content=file_of(rows, tmp_path), headers=ARROW).json() == first.json()
    other = replace(rows, probabilities=1 - rows.probabilities)
    refused = client.put(target, content=file_of(other, tmp_path), headers=ARROW)
    assert refused.status_code == 409, "predictions are never replaced"
    answer = client.post(f"{address}/entries", json={"method": "vmnc", "label": "VMNC", "trials": 4, "cost_usd": 2.5})
    assert answer.status_code == 201, answer.text
    line = answer.json()
    assert (line["verified"], line["board"], line["reason"]) == ("verified", "faces.disfa", None)
    assert world.store.get_entry(f"{sweep.id}.vmnc").metrics["f1_macro"] == pytest.approx(line["f1_mean"], abs=1e-12)
    assert [item["entry"] for item in client.get(f"{address}/entries").json()] == [f"{sweep.id}.vmnc"]
    for part in ("", "/live", "/trials", "/jobs", "/cost", "/events", "/figures"):
        assert client.get(address + part).status_code == 200, part
    lied = client.post(f"{address}/entries", json={"method": "vmnc", "label": "VMNC", "metrics": {"f1_macro": 0.999}})
    assert lied.json()["verified"] == "verified", "an entry is never replaced"


JUDGED = {
    "recorded metrics": ("rejected", "f1_macro is 0.999"),
    "another's labels": ("rejected", "labels must be those of the dataset"),
    "frames left out": ("rejected", "every frame must be there"),
    "a subject in another fold": ("rejected", "tested on in its own fold"),
    "a file that is gone": ("unverified", "must be at hand"),
    "a file that changed": ("rejected", "must stay as it was recorded"),
}


def record(world: Any, sweep: Any, what: str) -> bytes:
    """An entry with that fault, as a driver records it; the bytes of its first file before the fault."""
    rows_of = world.predictions(sweep, 0.9)
    first, changes = rows_of[0, 0], {}
    if what == "recorded metrics":
        changes["metrics"] = {"f1_macro": 0.999}
    elif what == "another's labels":
        rows_of |= {(0, seed): replace(rows_of[0, seed], labels=1 - np.abs(first.labels)) for seed in (0, 1)}
    elif what == "frames left out":
        columns = ("subjects", "sequences", "frames", "labels", "probabilities")
        for seed in (0, 1):
            rows = rows_of[0, seed]
            rows_of[0, seed] = replace(rows, **{name: getattr(rows, name)[1:] for name in columns})
    elif what == "a subject in another fold":
        rows_of = {(fold, seed): rows_of[(fold + 1) % 3, seed] for fold, seed in rows_of}
    entry = world.entry(sweep, predictions=rows_of, **changes)
    path = world.home / entry.predictions[0].path
    kept: bytes = path.read_bytes()
    if what == "a file that is gone":
        path.unlink()
    elif what == "a file that changed":
        path.write_bytes(kept + b"x")
    return kept


def test_entries_that_drivers_recorded_are_judged(world: Any) -> None:
    sweeps = {what: world.sweep() for what in JUDGED}
    kept = {what: record(world, sweep, what) for what, sweep in sweeps.items()}
    register_pending(world.store, world.settings)
    client = world.client(world.token())
    lines = {line["sweep"]: line for line in client.get("/api/v1/boards/faces.disfa/entries").json()["items"]}
    for what, (status, said) in JUDGED.items():
        line = lines[sweeps[what].id]
        assert (line["verified"], said in line["reason"]) == (status, True), (what, line["reason"])
        assert (line["rank_low"], line["f1_mean"] is None) == (None, status == "rejected"), what
    lost = sweeps["a file that is gone"].id
    target = f"/api/v1/sweeps/{lost}/predictions/monet/0/0"
    assert client.put(target, content=kept["a file that is gone"][:-1], headers=ARROW).status_code == 409
    assert client.put(target, content=kept["a file that is gone"], headers=ARROW).status_code == 200
    again = client.post(f"/api/v1/entries/{lost}.monet/verification").json()
    assert (again["verified"], again["rank_low"]) == ("verified", 1)


def test_without_the_dataset_an_entry_is_unverified(world: Any) -> None:
    sweep = world.sweep()
    world.entry(sweep)
    world.store.note_withdrawn([sweep.dataset_digest], "test")  # forgets the recorded labels
    (world.home / "datasets").unlink()
    world.settings = world.settings.model_copy(update={"datasets": ()})
    register_pending(world.store, world.settings)
    (line,) = world.client(world.token()).get("/api/v1/boards/faces.disfa/entries").json()["items"]
    assert line["verified"] == "unverified"
    assert "no place that this server opens" in line["reason"]
    assert line["f1_mean"] is not None


def test_foreign_files_are_refused_as_predictions(world: Any) -> None:
    client = world.client(world.token())
    sweep = register(world, client).json()["id"]
    target = f"/api/v1/sweeps/{sweep}/predictions/vmnc/0/0"
    plain = pa.table({"subject": ["a"], "x": [1]})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, plain.schema) as writer:
        writer.write_table(plain)
    before = len(world.store.events())
    for body in (b"no arrow at all", b"ARROW1\x00\x00", sink.getvalue(), b"\xff\xff\xff\xff" * 20):
        answer = client.put(target, content=body, headers=ARROW)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert client.put(f"/api/v1/sweeps/{sweep}/predictions/..%2Fx/0/0", content=b"x", headers=ARROW).status_code in (
        404,
        422,
    )
    assert client.put(f"/api/v1/sweeps/{sweep}/predictions/vmnc/0/-1", content=b"x", headers=ARROW).status_code == 422
    assert len(world.store.events()) == before
    assert world.store.fold_jobs(sweep) == []


def test_a_driver_is_not_written_over(world: Any) -> None:
    client = world.client(world.token())
    sweep = world.sweep()
    world.store.acquire_lock(sweep.id, "driver")
    answer = client.post(f"/api/v1/sweeps/{sweep.id}/results", json=results(1))
    assert (answer.status_code, "only its driver" in answer.json()["detail"]) == (409, True)
    assert world.store.results(sweep.id) == []


def test_a_hundred_writers_that_retry_write_each_result_once(world: Any) -> None:
    """Every batch is sent by ten writers, twice each, until it is answered."""
    token = world.token()
    sweep = register(world, world.client(token)).json()["id"]
    answers = write_together(world, token, sweep)
    require_once(world, sweep, answers)


def write_together(world: Any, token: str, sweep: str) -> list[tuple[int, int]]:
    """(batch, results said to be new) of each writer's last answer."""
    address = f"/api/v1/sweeps/{sweep}/results"
    answers: list[tuple[int, int]] = []
    gate = threading.Barrier(100)

    def write(number: int) -> None:
        client, batch, seen = world.client(token), number % 10, 0
        gate.wait()
        for _ in range(200):
            answer = client.post(address, json=results(5, epoch=batch), headers={"Idempotency-Key": f"batch-{batch}"})
            seen += answer.status_code == 201
            if seen == 2:
                answers.append((batch, answer.json()["written"]))
                return
            assert answer.status_code in (201, 503), answer.text

    threads = [threading.Thread(target=write, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def require_once(world: Any, sweep: str, answers: list[tuple[int, int]]) -> None:
    assert len(answers) == 100, "every writer was answered"
    assert set(answers) == {(batch, 5) for batch in range(10)}, "every retry got the first answer"
    rows = world.store.results(sweep)
    assert len(rows) == len({(row.fold, row.epoch) for row in rows}) == 50
    assert [event.what for event in world.store.events(sweep)].count("results filed") == 10


@pytest.mark.service
def test_a_database_that_drops_every_connection_loses_and_doubles_nothing(world: Any, url: str) -> None:
    """As a restart looks to the server: whatever was under way is undone, in the middle of it, again and again."""
    if not url.startswith("postgresql"):
        pytest.skip("SQLite has no connections to lose")
    named = parse_url(url).update_query_dict({"application_name": "dropped"}).render_as_string(hide_password=False)
    token = world.token()
    sweep = register(world, world.client(token)).json()["id"]
    done, dropped = threading.Event(), []

    def drop() -> None:
        ending = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'dropped'"
        while not done.wait(0.02) and len(dropped) < 200:
            with world.store.database.engine.connect() as connection:
                dropped.extend(connection.execute(text(ending)).all())

    with open_store(named) as fragile:
        saboteur = threading.Thread(target=drop)
        saboteur.start()
        try:
            answers = write_together(replace(world, store=fragile), token, sweep)
        finally:
            done.set()
            saboteur.join()
    assert len(dropped) > 10
    require_once(world, sweep, answers)


def test_a_key_is_for_one_request(world: Any) -> None:
    client = world.client(world.token())
    sweep = register(world, client).json()["id"]
    headers = {"Idempotency-Key": "k"}
    assert client.post(f"/api/v1/sweeps/{sweep}/results", json=results(1), headers=headers).status_code == 201
    assert client.post(f"/api/v1/sweeps/{sweep}/results", json=results(2), headers=headers).status_code == 409
    assert client.post(f"/api/v1/sweeps/{sweep}/stop", headers=headers).status_code == 409
    for wrong in ("", "a b", "x" * 201, "\x7f"):
        answer = client.post(f"/api/v1/sweeps/{sweep}/stop", headers={"Idempotency-Key": wrong})
        assert answer.status_code == 422, wrong
    assert world.store.get_sweep(sweep).state == "queued"


def test_stop_and_resume_are_asked_for(world: Any) -> None:
    client = world.client(world.token())
    sweep = world.sweep()
    address = f"/api/v1/sweeps/{sweep.id}"
    assert client.post(f"{address}/resume").status_code == 409
    assert client.post(f"{address}/stop").json()["state"] == "stopped"
    asked = client.post(f"{address}/resume")
    assert (asked.status_code, asked.json()["state"]) == (202, "stopped")
    assert "nothing runs by that" in asked.json()["next"]
    assert f"run `duchenne resume {sweep.id}` on the machine of its home; with --cluster NAME" in asked.json()["next"]
    assert [event.what for event in world.store.events(sweep.id)] == ["stop requested", "resume requested"]


def test_a_sweep_of_a_cluster_goes_on_there(world: Any) -> None:
    new = world.new_sweep()
    sweep = world.store.create_sweep(replace(new, spec={**new.spec, "cluster": "prod"}))
    world.store.request_stop(sweep.id)
    asked = world.client(world.token()).post(f"/api/v1/sweeps/{sweep.id}/resume").json()
    assert f"run `duchenne resume {sweep.id} --cluster prod` where a clusters file has" in asked["next"]


def test_a_figure_is_looked_up_never_opened_by_its_path(world: Any) -> None:
    client, sweep = world.client(world.token()), world.sweep()
    folder = world.home / "sweeps" / sweep.id / "figures"
    folder.mkdir(parents=True)
    (folder / "task_f1.svg").write_text("<svg/>")
    (world.home / "server.secret").write_text("secret")
    (folder / "evil.html").write_text("<script>")
    assert client.get(f"/api/v1/sweeps/{sweep.id}/figures").json() == [{"name": "task_f1.svg", "bytes": 6}]
    shown = client.get(f"/api/v1/sweeps/{sweep.id}/figures/task_f1.svg")
    assert (shown.headers["content-type"], shown.text) == ("image/svg+xml", "<svg/>")
    for name in (
        "../../../server.secret",
        "..%2F..%2F..%2Fserver.secret",
        "%2Fetc%2Fpasswd",
        "/etc/passwd",
        "evil.html",
        "task_f1.svg%00.png",
        "task_f1.png",
        "....//server.secret",
    ):
        answer = client.get(f"/api/v1/sweeps/{sweep.id}/figures/{name}")
        assert answer.status_code == 404, name
        assert answer.headers["content-type"] == "application/problem+json"
