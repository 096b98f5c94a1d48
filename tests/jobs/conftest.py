"""A real S3 server over HTTP, and a proxy before it that breaks what it is told to break."""

from __future__ import annotations

import socket
import socketserver
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import s3fs

from duchenne_jobs.data import s3


@dataclass
class Fault:
    """What happens to the next `times` requests of `method` whose path holds `path`.

    `kind`: `503`, `403`, `404`; `cut` after `amount` bytes of the body, the request's where it
    has one; `slow`: `amount` bytes a second;
    `flip`: one bit of it. `over` lets a slow answer out.
    """

    kind: str
    path: str = ".arrow"
    method: str = "GET"
    times: int = 1
    amount: int = 0
    over: threading.Event = field(default_factory=threading.Event)


@dataclass
class Proxy:
    """Its address, the faults to come, and every request that it saw, as (method, path)."""

    port: int
    faults: list[Fault] = field(default_factory=list)
    seen: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def fail(self, kind: str, **details: Any) -> None:
        """Add a fault: see `Fault`."""
        self.faults.append(Fault(kind, **details))

    def count(self, method: str, path: str = ".arrow") -> int:
        return sum(verb == method and path in target for verb, target in self.seen)

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self.lock:
            self.seen.append((method, path))
            for fault in self.faults:
                if fault.times and fault.method == method and fault.path in path:
                    fault.times -= 1
                    return fault
        return None


CODES = {
    "503": ("Service Unavailable", "SlowDown"),
    "403": ("Forbidden", "AccessDenied"),
    "404": ("Not Found", "NoSuchKey"),
}


def relay(client: socket.socket, proxy: Proxy, upstream: int) -> None:
    """One request and its answer; then the connection ends."""
    stream = client.makefile("rb")
    head = b"".join(iter(stream.readline, b"\r\n"))
    if not head:
        return
    method, path = head.split(b" ", 2)[:2]
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in head.splitlines()[1:])
    }
    if b"expect" in headers:
        client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    length = int(headers.get(b"content-length", b"0"))
    fault = proxy.fault_for(method.decode(), path.decode())
    if fault is not None and fault.kind == "cut" and length:
        stream.read(min(fault.amount, length))
        return
    body = stream.read(length)
    if fault is not None and fault.kind in CODES:
        phrase, code = CODES[fault.kind]
        text = f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
        client.sendall(
            f"HTTP/1.1 {fault.kind} {phrase}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n"
            "Content-Type: application/xml\r\n\r\n".encode()
            + text
        )
        return
    kept = [line for line in head.splitlines() if not line.lower().startswith((b"expect:", b"connection:"))]
    with socket.create_connection(("127.0.0.1", upstream)) as server:
        server.sendall(b"\r\n".join([*kept, b"Connection: close", b"", b""]) + body)
        answer = b""
        while piece := server.recv(2**16):
            answer += piece
    send(client, answer, fault)


def send(client: socket.socket, answer: bytes, fault: Fault | None) -> None:
    begins = answer.index(b"\r\n\r\n") + 4
    if fault is None:
        client.sendall(answer)
    elif fault.kind == "cut":
        client.sendall(answer[: begins + fault.amount])
    elif fault.kind == "flip":
        damaged = bytearray(answer)
        damaged[begins + 1000] ^= 1
        client.sendall(damaged)
    else:
        client.sendall(answer[:begins])
        for at in range(begins, len(answer), max(fault.amount // 10, 1)):
            client.sendall(answer[at : at + max(fault.amount // 10, 1)])
            fault.over.wait(0.1)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[int]:
    """Port of a moto server that ends with the tests."""
    server_module = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture(scope="session")
def proxy_server(s3_server: int) -> Iterator[Proxy]:
    """The way to the S3 server."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                relay(self.request, state, s3_server)
            except (BrokenPipeError, ConnectionResetError):
                return  # the client gave up, as some tests want

    s3fs.S3FileSystem.clear_instance_cache()  # one that remembers another endpoint
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state = Proxy(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield state
        server.shutdown()
        thread.join()
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def s3_environment(proxy_server: Proxy) -> dict[str, str]:
    """Where everything in a test is to find S3."""
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": proxy_server.url,
    }


@pytest.fixture
def proxy(
    proxy_server: Proxy, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Proxy]:
    """The same, as where everything in the test finds S3, with nothing broken yet."""
    for name, value in {**s3_environment, "DUCHENNE_CACHE": str(tmp_path / "c")}.items():
        monkeypatch.setenv(name, value)
    proxy_server.seen.clear()
    yield proxy_server
    for fault in proxy_server.faults:
        fault.over.set()
    proxy_server.faults.clear()
    for fetching in [thread for thread in threading.enumerate() if thread.name.startswith("fetch")]:
        fetching.join(30)  # of a stream that was left: its requests are not the next test's


@pytest.fixture(scope="session")
def new_bucket() -> Callable[[], str]:
    """Makes a bucket where the environment's S3 is; its `s3://...`."""

    def make() -> str:
        name = f"faces-{uuid.uuid4()}"
        s3._client(20).create_bucket(Bucket=name)
        return f"s3://{name}"

    return make


@pytest.fixture
def bucket(proxy: Proxy, new_bucket: Callable[[], str]) -> str:
    """`s3://...` of a fresh bucket behind the proxy."""
    return new_bucket()
