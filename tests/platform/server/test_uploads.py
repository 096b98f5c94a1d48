"""External entries: what goes on the board, and everything that is refused and changes nothing."""

from __future__ import annotations

import contextlib
import io
import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duchenne.server.arrow_stream import ArrowRefused, read_batches
from duchenne.server.registration import register_pending

ADDRESS = "/api/v1/boards/faces.disfa/entries"
PARAMS = {"team": "faces", "method": "theirs", "label": "Their model", "trials": 12, "cost_usd": 0.5}
CSV = {"Content-Type": "text/csv"}
FILE = "application/vnd.apache.arrow.file"
STREAM = "application/vnd.apache.arrow.stream"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """One database is enough: what is refused is refused before any database."""
    return f"sqlite:///{tmp_path / 'records.sqlite'}"


@pytest.fixture
def sweep(world: Any) -> Any:
    """A board with one verified entry, whose labels uploads are compared with."""
    made = world.sweep()
    world.entry(made, 0.9, "monet")
    register_pending(world.store, world.settings)
    return made


def state_of(world: Any) -> Any:
    """All that an upload could change."""
    from duchenne.records.board_rows import Sight

    everything = Sight(everything=True)
    board = world.store.visible_board(everything, "faces.disfa")
    kept = sorted(str(path) for path in (world.home / "uploads").rglob("*") if path.is_file())
    return board, [event.id for event in world.store.events()], kept


def as_arrow(csv: str, media: str, **options: Any) -> bytes:
    from pyarrow import csv as reader

    types = {"subject": pa.string(), "sequence": pa.string()}
    table = reader.read_csv(io.BytesIO(csv.encode()), convert_options=reader.ConvertOptions(column_types=types))
    sink = io.BytesIO()
    make = pa.ipc.new_file if media == FILE else pa.ipc.new_stream
    with make(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=40)
    return sink.getvalue()


@pytest.mark.parametrize("media", ["text/csv", FILE, STREAM])
def test_an_upload_stands_beside_the_sweeps(world: Any, sweep: Any, media: str) -> None:
    text = world.csv(sweep)
    body = text.encode() if media == "text/csv" else as_arrow(text, media)
    answer = world.client(world.token()).post(ADDRESS, params=PARAMS, content=body, headers={"Content-Type": media})
    assert answer.status_code == 201, answer.text
    line = answer.json()
    assert (line["verified"], line["kind"], line["label"]) == ("verified", "external", "Their model")
    assert (line["trials"], line["cost_usd"], line["seeds"]) == (12, 0.5, 1)
    frames = world.frames(sweep)
    rows = {tuple(row[:3]): [float(value) for value in row[3:]] for row in map(_split, text.splitlines()[1:])}
    keys = (frames.subjects, frames.sequences, frames.frames)
    given = np.array([rows[s, q, str(f)] for s, q, f in zip(*keys, strict=True)])
    assert line["f1_mean"] == pytest.approx(_f1(frames.labels, given, frames.folds), abs=1e-12)
    client = world.client(world.token(role="viewer"))
    page = client.get(ADDRESS).json()["items"]
    assert {item["cohort"] for item in page} == {line["cohort"]}, "compared with the sweep's"
    assert [item["rank_low"] for item in page] == [1, 2]
    detail = client.get(f"/api/v1/entries/{line['entry']}").json()
    assert len(detail["predictions"]) == 3
    assert client.get(f"/api/v1/entries/{line['entry']}/compare/{sweep.id}.monet").json()["difference"] < 0
    assert "entry uploaded" in [event.what for event in world.store.events()]


def _split(line: str) -> list[str]:
    return line.split(",")


def _f1(labels: Any, probabilities: Any, folds: Any) -> float:
    """The field's number, written plainly."""
    scores = []
    for fold in sorted(set(folds.tolist())):
        for task in range(labels.shape[1]):
            columns = (labels[folds == fold, task], probabilities[folds == fold, task])
            pairs = [(y, p >= 0.5) for y, p in zip(*columns, strict=True) if y >= 0]
            hits = sum(bool(y == 1 and p) for y, p in pairs)
            misses = sum((y == 1) != p for y, p in pairs)
            scores.append(2 * hits / (2 * hits + misses) if hits + misses else 0.0)
    return sum(scores) / len(scores)


def put(row: int, column: int, value: str) -> Callable[[list[list[str]]], None]:
    def change(rows: list[list[str]]) -> None:
        rows[row][column] = value

    return change


def without_subject(rows: list[list[str]]) -> None:
    rows[:] = [row for row in rows if row[0] != "SN004"]


def rename_au(rows: list[list[str]]) -> None:
    rows[0][3] = "AU99"


def one_au_more(rows: list[list[str]]) -> None:
    rows[:] = [[*row, "AU26" if index == 0 else "0.5"] for index, row in enumerate(rows)]


def one_au_less(rows: list[list[str]]) -> None:
    rows[:] = [row[:-1] for row in rows]


def a_frame_twice(rows: list[list[str]]) -> None:
    rows[-1] = list(rows[5])


def one_frame_more(rows: list[list[str]]) -> None:
    rows.append(list(rows[5]))


def nothing_but_names(rows: list[list[str]]) -> None:
    del rows[1:]


BAD = {
    "a missing subject": (without_subject, "SN004 has no row"),
    "an unknown AU": (rename_au, "'AU99'"),
    "an AU that the board lacks": (one_au_more, "'AU26'"),
    "a missing AU": (one_au_less, "AU12 has none"),
    "a frame twice": (a_frame_twice, "comes 2 times"),
    "more rows than frames": (one_frame_more, "more rows"),
    "an unknown subject": (put(3, 0, "SN999"), "'SN999'"),
    "an unknown frame": (put(3, 2, "4000"), "frame 4000"),
    "a negative frame": (put(3, 2, "-1"), "frame -1"),
    "a frame beyond any": (put(3, 2, "9" * 30), "one row a frame"),
    "above 1": (put(3, 3, "1.01"), "[0, 1]"),
    "below 0": (put(3, 3, "-0.01"), "[0, 1]"),
    "infinity": (put(3, 3, "inf"), "[0, 1]"),
    "NaN": (put(3, 3, "NaN"), "[0, 1]"),
    "nothing": (put(3, 3, ""), "[0, 1]"),
    "text": (put(3, 3, "high"), "one row a frame"),
    "no rows": (nothing_but_names, "has none"),
    "a column twice": (put(0, 4, "AU1"), "comes more often"),
}


def test_bad_predictions_are_refused_and_change_nothing(world: Any, sweep: Any) -> None:
    client = world.client(world.token())
    before = state_of(world)
    for what, (change, said) in BAD.items():
        answer = client.post(ADDRESS, params=PARAMS, content=world.csv(sweep, change), headers=CSV)
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), what
        assert said in answer.json()["detail"], what
        assert state_of(world) == before, what


def test_arrow_that_unpacks_is_refused_before_it_does(world: Any, sweep: Any) -> None:
    client, text = world.client(world.token()), world.csv(sweep)
    before = state_of(world)
    names = ("subject", "sequence", "frame", "AU1", "AU4", "AU12")
    zero = {name: pa.array([""] * 10**6 if "s" in name else np.zeros(10**6, dtype=np.int64)) for name in names}
    zeros = pa.table(zero)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, zeros.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(zeros)
    assert len(sink.getvalue()) < 10_000 < zeros.nbytes / 1000, "a bomb: megabytes in a few kilobytes"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("p.csv", "0" * 10_000_000)
    bodies = [
        (as_arrow(text, FILE, compression="lz4"), FILE, 422, "must not be compressed"),
        (as_arrow(text, STREAM, compression="zstd"), STREAM, 422, "must not be compressed"),
        (sink.getvalue(), STREAM, 422, "must not be compressed"),
        (packed.getvalue(), "text/csv", 422, "packed (zip)"),
        (b"\x1f\x8b" + b"0" * 100, "text/csv", 422, "packed (gzip)"),
        (as_arrow(text, FILE)[:500], FILE, 422, "whole"),
        (as_arrow(text, FILE), "text/csv", 422, "Arrow"),
        (text.encode(), FILE, 422, "whole"),
        (text.encode(), "application/json", 422, "text/csv"),
        (b"\xff\xfe\x00", "text/csv", 422, "UTF-8"),
        (b"," * 100_000, "text/csv", 422, "longer"),
        (b"", "text/csv", 400, "empty"),
        (b"a=b", "application/x-www-form-urlencoded", 415, "a form"),
    ]
    for body, media, status, said in bodies:
        answer = client.post(ADDRESS, params=PARAMS, content=body, headers={"Content-Type": media})
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), said
        assert said in answer.json()["detail"]
    encoded = client.post(ADDRESS, params=PARAMS, content=b"x", headers=CSV | {"Content-Encoding": "gzip"})
    assert encoded.status_code == 415
    assert state_of(world) == before


def test_ten_gigabytes_are_refused_by_what_they_say_and_by_what_they_send(world: Any, sweep: Any) -> None:
    client = world.client(world.token())
    before = state_of(world)
    said = client.post(ADDRESS, params=PARAMS, content=b"x", headers=CSV | {"Content-Length": str(10 * 2**30)})
    assert (said.status_code, said.headers["content-type"]) == (413, "application/problem+json")
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(10 * 2**10):
            sent += 2**20
            yield b"0" * 2**14

    streamed = client.post(ADDRESS, params=PARAMS, content=endless(), headers=CSV)
    assert (streamed.status_code, streamed.headers["content-type"]) == (413, "application/problem+json")
    small = client.post("/api/v1/teams", content=b" " * (2**20 + 1), headers={"Content-Type": "application/json"})
    assert small.status_code == 413
    assert client.post(ADDRESS, params=PARAMS, content=b"x", headers=CSV | {"Content-Length": "x"}).status_code == 413
    assert state_of(world) == before


def test_an_upload_needs_the_team_the_board_and_its_labels(world: Any, sweep: Any) -> None:
    text = world.csv(sweep)
    world.store.ensure_team("others")
    client = world.client(world.token())

    def send(address: str, **params: Any) -> int:
        answer = client.post(address, params=PARAMS | params, content=text, headers=CSV)
        return int(answer.status_code)

    before = state_of(world)
    assert send(ADDRESS, team="others") == 404, "a forged team"
    assert send("/api/v1/boards/others.disfa/entries", team="others") == 404
    assert send("/api/v1/boards/none/entries") == 404
    assert send(ADDRESS, method="<b>x</b>") == 422
    assert send(ADDRESS, method="../../etc/passwd") == 422
    assert send(ADDRESS, label="a\x00b") == 422
    assert send(ADDRESS, trials=-1) == 422
    assert send(ADDRESS, cost_usd="nan") == 422
    assert world.client().post(ADDRESS, params=PARAMS, content=text, headers=CSV).status_code == 401
    viewer = world.client(world.token(role="viewer"))
    assert viewer.post(ADDRESS, params=PARAMS, content=text, headers=CSV).status_code == 403
    assert state_of(world)[0::2] == before[0::2]
    world.store.ensure_public_board("disfa")
    assert send("/api/v1/boards/disfa/entries") == 409, "the team has not published its board"
    world.store.publish_board("faces", "disfa", public=True, actor="test")
    assert send("/api/v1/boards/disfa/entries") == 201
    assert len(world.client().get("/api/v1/boards/disfa/entries").json()["items"]) == 2


def test_a_retry_with_its_key_makes_no_second_entry(world: Any, sweep: Any) -> None:
    client, text = world.client(world.token()), world.csv(sweep)
    headers = CSV | {"Idempotency-Key": "upload-1"}
    first = client.post(ADDRESS, params=PARAMS, content=text, headers=headers)
    again = client.post(ADDRESS, params=PARAMS, content=text, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert client.get(ADDRESS).json()["total"] == 2
    other = client.post(ADDRESS, params=PARAMS | {"method": "x"}, content=text, headers=headers)
    assert other.status_code == 409


@given(cut=st.integers(0, 3000), flips=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=4))
def test_damaged_arrow_is_refused_or_read_never_worse(tmp_path_factory: Any, cut: int, flips: Any) -> None:
    table = pa.table({"subject": ["a", "b"], "frame": [1, 2], "AU1": [0.5, math.pi]})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    data = bytearray(sink.getvalue())
    for place, value in flips:
        data[place % len(data)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.arrow"
    path.write_bytes(data[: max(0, len(data) - cut)])
    with contextlib.suppress(ArrowRefused):
        _, batches = read_batches(path, 10)
        assert sum(batch.num_rows for batch in batches) <= 10
