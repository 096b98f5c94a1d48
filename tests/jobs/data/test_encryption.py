"""Server-side encryption: what S3 is asked for, over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import s3fs

from duchenne_jobs.data import DatasetError, ingest
from duchenne_jobs.data.storage import encryption_arguments

EMPTY = (
    b'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>faces</Name>'
    b"<Prefix></Prefix><KeyCount>0</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
)


class Recorder(ThreadingHTTPServer):
    """An S3 server as far as an upload goes: an empty bucket that keeps what is put, and the headers of each put."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects: dict[str, bytes] = {}
        self.headers: list[tuple[str, str | None, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    server: Recorder
    protocol_version = "HTTP/1.1"  # which answers `Expect: 100-continue`

    def do_GET(self) -> None:
        key = self.path.partition("?")[0]
        if "list-type" in self.path:
            self.answer(200, EMPTY)
        elif key in self.server.objects:
            self.answer(200, self.server.objects[key])
        else:
            self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def do_HEAD(self) -> None:
        self.answer(200 if self.path in self.server.objects else 404, b"")

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.objects[self.path] = body
        prefix = "x-amz-server-side-encryption"
        key = self.headers.get(f"{prefix}-aws-kms-key-id")
        self.server.headers.append((self.path, self.headers.get(prefix), key))
        self.answer(200, b"")

    def answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/xml")
        self.send_header("ETag", '"0"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder()
    thread = threading.Thread(target=recorder.serve_forever)
    thread.start()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{recorder.server_address[1]}",
        "DUCHENNE_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()  # one that remembers another endpoint
    yield recorder
    s3fs.S3FileSystem.clear_instance_cache()
    recorder.shutdown()
    thread.join()
    recorder.server_close()


@pytest.mark.parametrize(
    ("kind", "key"), [(None, None), ("AES256", None), ("aws:kms", None), ("aws:kms", "arn:aws:kms:key/1")]
)
def test_every_object_of_a_dataset_asks_for_it(
    server: Recorder, monkeypatch: pytest.MonkeyPatch, kind: str | None, key: str | None
) -> None:
    for name, value in (("DUCHENNE_S3_SSE", kind), ("DUCHENNE_S3_SSE_KMS_KEY_ID", key)):
        if value is not None:
            monkeypatch.setenv(name, value)
    ingest("toy", None, "s3://faces/toy", count=30)
    assert [(path.partition("?")[0], *asked) for path, *asked in server.headers] == [
        (f"/faces/toy/{name}", kind, key) for name in ("shard-00000.arrow", "manifest.json")
    ]


@pytest.mark.parametrize(
    "environment",
    [
        {"DUCHENNE_S3_SSE": "yes"},
        {"DUCHENNE_S3_SSE_KMS_KEY_ID": "key"},
        {"DUCHENNE_S3_SSE": "AES256", "DUCHENNE_S3_SSE_KMS_KEY_ID": "key"},
    ],
)
def test_half_said_is_refused_rather_than_stored_in_the_clear(environment: dict[str, str]) -> None:
    with pytest.raises(DatasetError, match=r"DUCHENNE_S3_SSE must be one of AES256, aws:kms, aws:kms:dsse"):
        encryption_arguments(environment)
