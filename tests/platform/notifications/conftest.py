"""A receiver of webhooks: a real HTTP server on loopback that keeps what it gets and answers as it is told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """`script` holds what each request in turn is answered with; 200 after its end.

    A number is a status; "hang" and "drip" never finish, "cut" closes the connection, "redirect URL" and
    "see-other URL" send elsewhere.
    """

    url: str
    received: list[Received] = field(default_factory=list)
    script: list[Any] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.received.append(Received(self.path, dict(self.headers.items()), body))
            step = receiver.script.pop(0) if receiver.script else 200
            if step == "hang":
                receiver.over.wait(30)
            elif step == "drip":
                while not receiver.over.wait(0.05):
                    self.wfile.write(b"x")
            elif step != "cut":
                word, _, target = str(step).partition(" ")
                self.send_response({"redirect": 307, "see-other": 303}.get(word) or int(word))
                if target:
                    self.send_header("Location", target)
                self.send_header("Content-Length", "0")
                self.end_headers()
            self.close_connection = True

        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

    return Handler


def _serve() -> Iterator[Receiver]:
    receiver = Receiver("")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(receiver))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # whoever drips is hung up on
    receiver.url = f"http://127.0.0.1:{server.server_port}/hook/s3cret-path?key=s3cret-key"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield receiver
    receiver.over.set()
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    yield from _serve()


@pytest.fixture
def stranger() -> Iterator[Receiver]:
    """Another origin: another port."""
    yield from _serve()


@pytest.fixture
def unused() -> str:
    """An address of loopback where nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{one.getsockname()[1]}/s3cret-path"
