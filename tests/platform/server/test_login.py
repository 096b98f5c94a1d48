"""Login at an identity provider: a small real one, over HTTP on loopback."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlparse

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from pydantic import SecretStr

from duchenne.server.settings import OidcSettings

CLIENT, SECRET = "duchenne", "client secret"


class Provider(ThreadingHTTPServer):
    """An OpenID provider for whoever comes: `claims` says who that is, `spoil` what goes wrong."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.issuer = f"http://127.0.0.1:{self.server_port}"
        self.key = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"}, private=True)
        self.claims: dict[str, Any] = {"email": "Ada@Example.org", "email_verified": True}
        self.spoil: dict[str, Any] = {}
        self.codes: dict[str, dict[str, str]] = {}


class Answer(BaseHTTPRequestHandler):
    server: Provider

    def log_message(self, *_: Any) -> None:
        """Not to the test's output."""

    def _json(self, document: Any, status: int = 200) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        address, issuer = urlparse(self.path), self.server.issuer
        if address.path == "/.well-known/openid-configuration":
            self._json(
                {
                    "issuer": issuer,
                    "authorization_endpoint": f"{issuer}/authorize",
                    "token_endpoint": f"{issuer}/token",
                    "jwks_uri": f"{issuer}/jwks",
                    "id_token_signing_alg_values_supported": ["RS256"],
                }
            )
        elif address.path == "/jwks":
            self._json({"keys": [self.server.key.as_dict(private=False)]})
        else:
            asked = {name: values[0] for name, values in parse_qs(address.query).items()}
            assert asked["client_id"] == CLIENT
            code = f"code-{len(self.server.codes)}"
            self.server.codes[code] = asked
            answer = urlencode({"code": code, "state": self.server.spoil.get("state", asked["state"])})
            self.send_response(302)
            self.send_header("Location", f"{asked['redirect_uri']}?{answer}")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        asked = self.server.codes.pop(form["code"])
        given = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
        proof = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        assert given == f"{CLIENT}:{SECRET.replace(' ', '%20')}" or given == f"{CLIENT}:{SECRET}"
        assert proof == asked["code_challenge"]
        now = int(time.time())
        claims = {
            "iss": self.server.issuer,
            "sub": "ada-1",
            "aud": CLIENT,
            "iat": now,
            "exp": now + 60,
            "nonce": asked["nonce"],
            **self.server.claims,
            **self.server.spoil.get("claims", {}),
        }
        key = self.server.spoil.get("key", self.server.key)
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, key)
        self._json({"access_token": "a", "token_type": "Bearer", "expires_in": 60, "id_token": token})


@pytest.fixture
def url(tmp_path: Path) -> str:
    """One database is enough: a login is the same on every database."""
    return f"sqlite:///{tmp_path / 'records.sqlite'}"


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    server = Provider()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def provider(running: Provider, world: Any) -> Provider:
    running.spoil, running.claims = {}, {"email": "Ada@Example.org", "email_verified": True}
    oidc = OidcSettings(issuer=running.issuer, client_id=CLIENT, client_secret=SecretStr(SECRET))
    world.settings = world.settings.model_copy(update={"oidc": oidc})
    world.__post_init__()
    return running


def log_in(client: Any) -> Any:
    """What a browser does: to the provider and back."""
    import httpx

    away = client.get("/login/oidc", follow_redirects=False)
    assert away.status_code == 302, away.text
    back = httpx.get(away.headers["location"])
    assert back.status_code == 302
    address = urlparse(back.headers["location"])
    return client.get(f"{address.path}?{address.query}", follow_redirects=False)


def test_a_member_who_logs_in_sees_their_teams(world: Any, provider: Provider) -> None:
    sweep = world.sweep()
    world.store.ensure_team("faces")
    client = world.client()
    assert client.get(f"/api/v1/sweeps/{sweep.id}").status_code == 404
    assert log_in(client).status_code == 303
    assert client.get("/api/v1/teams").json() == [], "logged in, and a member of nothing"
    world.store.set_member("faces", "ada@example.org", "viewer", actor="test")
    assert [(team["name"], team["role"]) for team in client.get("/api/v1/teams").json()] == [("faces", "viewer")]
    assert client.get(f"/api/v1/sweeps/{sweep.id}").status_code == 200
    world.store.remove_member("faces", "ada@example.org", actor="test")
    assert client.get(f"/api/v1/sweeps/{sweep.id}").status_code == 404, "membership is read at every request"
    assert ("logged in", "ada@example.org") in [(event.what, event.actor) for event in world.store.events()]


def test_an_answer_that_is_not_the_providers_logs_nobody_in(world: Any, provider: Provider) -> None:
    world.store.ensure_team("faces")
    world.store.set_member("faces", "ada@example.org", "admin", actor="test")
    stranger = RSAKey.generate_key(2048, {"kid": "one"}, private=True)
    spoilt = [
        {"state": "another"},
        {"key": stranger},
        {"claims": {"aud": "another"}},
        {"claims": {"iss": "http://evil.example"}},
        {"claims": {"nonce": "another"}},
        {"claims": {"exp": 1}},
        {"claims": {"email_verified": False}},
        {"claims": {"email": None}},
    ]
    for spoil in spoilt:
        provider.spoil = spoil
        client = world.client()
        answer = log_in(client)
        assert answer.status_code == 401, spoil
        assert client.get("/api/v1/teams").json() == [], spoil
    assert world.client().get("/login/callback?code=x&state=y").status_code == 401
    assert "logged in" not in [event.what for event in world.store.events()]


def test_without_a_provider_there_is_no_such_login(world: Any) -> None:
    answer = world.client().get("/login/oidc")
    assert (answer.status_code, "none is set up" in answer.text) == (404, True)
    oidc = OidcSettings(issuer="http://127.0.0.1:9", client_id="x", client_secret=SecretStr("y"))
    world.settings = world.settings.model_copy(update={"oidc": oidc})
    world.__post_init__()
    assert world.client().get("/login/oidc").status_code == 503
