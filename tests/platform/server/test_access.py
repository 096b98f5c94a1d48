"""Who may do what: tokens, sessions, CSRF, rates, roles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from duchenne.server.access import Membership, Viewer
from duchenne.server.limits import RateLimiter
from duchenne.server.problems import Problem
from duchenne.server.tokens import BadToken, TokenChecker, make_token

PROBLEM = "application/problem+json"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """One database is enough: the records' own tests run on both."""
    return f"sqlite:///{tmp_path / 'records.sqlite'}"


def changes(world: Any) -> list[str]:
    """What the audit says beside the making of tokens and teams, which the tests do themselves."""
    return [event.what for event in world.store.events() if event.what not in ("token created", "team created")]


def test_roles_hold_for_their_team_alone() -> None:
    viewer = Viewer("a", "token", (Membership("faces", "submitter"), Membership("others", "viewer")))
    assert viewer.may_see("faces")
    assert viewer.may_write("faces")
    assert not viewer.may_administer("faces")
    assert viewer.may_see("others")
    assert not viewer.may_write("others")
    assert not viewer.may_see("third")
    assert Viewer("op", "token", everywhere="admin").may_administer("third")


def test_expired_revoked_and_foreign_tokens_open_nothing(world: Any) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    expiring, revoked, good = world.token(expires_at=soon), world.token(), world.token()
    assert world.client(expiring).get("/api/v1/teams").status_code == 200
    assert world.client(revoked).get("/api/v1/teams").status_code == 200
    world.store.revoke_token(revoked.split("_")[1], actor="test")
    world.clock.added = timedelta(hours=2)
    foreign = make_token().text
    wrong_secret = good[:-1] + ("A" if good[-1] != "A" else "B")
    for token, said in (
        (expiring, "run out"),
        (revoked, "revoked"),
        (foreign, "one of this server's"),
        (wrong_secret, "one of this server's"),
        ("dch_short", "looks like"),
        ("é" * 10, "looks like"),
    ):
        for method, address in (("GET", "/api/v1/boards"), ("POST", "/api/v1/sweeps"), ("GET", "/api/v1/audit")):
            answer = world.client().request(
                method, address, headers={"Authorization": f"Bearer {token}".encode()}, json={}
            )
            assert answer.status_code == 401, (token, address)
            assert answer.headers["content-type"] == PROBLEM
            assert said in answer.json()["detail"]
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "token revoked" in changes(world)
    assert len(changes(world)) == 1, "what was refused changed nothing"


def test_a_secret_is_stored_as_a_hash_and_hashed_once_a_while(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = world.token()
    found = world.store.find_token(text.split("_")[1])
    assert found is not None
    assert found[1].startswith("$argon2id$")
    assert text.split("_", 2)[2] not in found[1]
    checker, hashed = TokenChecker(world.store, cache_seconds=60), []
    matches = TokenChecker._matches
    monkeypatch.setattr(TokenChecker, "_matches", lambda self, *a: hashed.append(1) or matches(self, *a))
    for _ in range(5):
        checker.check(text)
    assert len(hashed) == 1
    world.store.revoke_token(text.split("_")[1], actor="test")
    with pytest.raises(BadToken, match="revoked"):
        checker.check(text)


def test_a_write_needs_the_role(world: Any) -> None:
    sweep = world.sweep()
    address = f"/api/v1/sweeps/{sweep.id}/stop"
    assert world.client().post(address).status_code == 401
    assert world.client(world.token(role="viewer")).post(address).status_code == 403
    assert world.client(world.token(team="others", role="admin")).post(address).status_code == 404
    assert world.store.get_sweep(sweep.id).state == "queued"
    answer = world.client(world.token()).post(address)
    assert (answer.status_code, answer.json()["state"]) == (202, "stopped")
    assert world.client(world.token(role="admin")).post("/api/v1/teams", json={"name": "new"}).status_code == 403
    operator = world.client(world.token(team=None, role="admin"))
    assert operator.post("/api/v1/teams", json={"name": "new"}).status_code == 201
    assert operator.put("/api/v1/teams/new/budget", json={"usd_per_month": 5}).json()["usd_per_month"] == 5
    assert operator.get("/api/v1/teams/new/spend").json()["limits"]["usd"] == 5


def test_markup_in_names_is_refused_or_inert(world: Any) -> None:
    operator = world.client(world.token(team=None, role="admin"))
    for name in ("<script>alert(1)</script>", "<b>", "a&b", "'; DROP TABLE team; --", ""):
        answer = operator.post("/api/v1/teams", json={"name": name})
        assert (answer.status_code, answer.headers["content-type"]) == (422, PROBLEM), name
    assert [team.name for team in world.store.teams()] == []


def test_a_team_in_the_body_is_no_way_in(world: Any) -> None:
    world.token(team="others")
    new = world.new_sweep(team="others")
    body = {
        "team": "others",
        "spec": dict(new.spec),
        "dataset_digest": new.dataset_digest,
        "folds_digest": new.folds_digest,
    }
    client = world.client(world.token())
    answer = client.post("/api/v1/sweeps", json=body)
    assert (answer.status_code, answer.headers["content-type"]) == (404, PROBLEM)
    forged = client.post("/api/v1/sweeps", json=body | {"team": "faces"})
    assert forged.status_code == 422, "the spec names the other team"
    assert client.post("/api/v1/teams/faces/tokens", json={"name": "x", "role": "admin"}).status_code == 403
    extra = client.post("/api/v1/sweeps", json=body | {"team": "faces", "actor": "root"})
    assert extra.status_code == 422
    assert world.store.list_sweeps() == []


def test_a_session_writes_with_its_csrf_token_only(world: Any) -> None:
    sweep = world.sweep()
    address = f"/api/v1/sweeps/{sweep.id}/stop"
    client = world.client()
    assert log_in(world, client, "dch_wrong").status_code == 401
    answer = log_in(world, client, world.token())
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert client.get(f"/api/v1/sweeps/{sweep.id}").status_code == 200
    for headers in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "wrong"}, {"Origin": "https://evil.example"}):
        refused = client.post(address, headers=headers)
        assert (refused.status_code, refused.headers["content-type"]) == (403, PROBLEM), headers
    assert client.post(address, data={"csrf_token": "wrong"}).status_code == 403
    assert client.post("/logout").status_code == 403
    assert world.store.get_sweep(sweep.id).state == "queued"
    token = csrf_of(world, client)
    assert client.post(address, headers={"X-CSRF-Token": token}).status_code == 202
    assert client.post("/logout", data={"csrf_token": token}, follow_redirects=False).status_code == 303
    assert client.get(f"/api/v1/sweeps/{sweep.id}").status_code == 404


def test_another_sites_page_logs_nobody_in(world: Any) -> None:
    """Whoever is made to log in as somebody else would leave their writes under that name."""
    client, form = world.client(), {"token": world.token()}
    stale = csrf_of(world, client)
    another = csrf_of(world, world.client())
    for body in (form, form | {"csrf_token": ""}, form | {"csrf_token": another}):
        refused = client.post("/login/token", data=body, follow_redirects=False)
        assert (refused.status_code, "load the page again" in refused.text) == (403, True), body
    assert client.get("/api/v1/teams").json() == []
    assert "logged in" not in [event.what for event in world.store.events()]
    assert client.post("/login/token", data=form | {"csrf_token": stale}, follow_redirects=False).status_code == 303
    again = client.post("/login/token", data=form | {"csrf_token": stale}, follow_redirects=False)
    assert again.status_code == 403, "a login starts another session, with a token of its own"


def log_in(world: Any, client: Any, token: str) -> Any:
    """What the form of the login page sends."""
    form = {"token": token, "csrf_token": csrf_of(world, client)}
    return client.post("/login/token", data=form, follow_redirects=False)


def csrf_of(world: Any, client: Any) -> str:
    """What a page of the session carries."""
    import json
    from base64 import b64decode

    from itsdangerous import TimestampSigner

    client.get("/login")
    signed = client.cookies["__Host-duchenne" if world.settings.secure else "duchenne"]
    return str(json.loads(b64decode(TimestampSigner("a secret of the tests").unsign(signed)))["csrf"])


def test_a_session_ends_with_its_token(world: Any) -> None:
    text = world.token()
    client = world.client()
    log_in(world, client, text)
    assert [team["name"] for team in client.get("/api/v1/teams").json()] == ["faces"]
    world.store.revoke_token(text.split("_")[1], actor="test")
    assert client.get("/api/v1/teams").json() == []


def test_a_forged_session_is_nobody(world: Any) -> None:
    from base64 import b64encode

    from itsdangerous import TimestampSigner

    world.token()
    forged = TimestampSigner("another secret").sign(b64encode(b'{"who": "ada@example.org"}')).decode()
    client = world.client()
    client.cookies.set("duchenne", forged)
    assert client.get("/api/v1/teams").json() == []


def test_ten_thousand_requests_from_one_token_are_held_to_the_rate(world: Any) -> None:
    world.app.state.rates = RateLimiter(rate=5, burst=10)
    flooding = world.client(world.token())
    codes = [flooding.get("/api/v1/teams").status_code for _ in range(40)]
    assert codes[:9] == [200] * 9
    refused = [code for code in codes if code == 429]
    assert len(refused) >= 20
    answer = flooding.get("/api/v1/teams")
    assert (answer.status_code, answer.headers["content-type"]) == (429, PROBLEM)
    assert int(answer.headers["retry-after"]) >= 1


def test_a_bucket_fills_again() -> None:
    now = [0.0]
    limiter = RateLimiter(rate=10, burst=20, clock=lambda: now[0])
    granted = sum(limiter.wait_of("flood") == 0 for _ in range(10_000))
    assert granted == 20
    assert limiter.wait_of("calm") == 0, "one client's flood is nobody else's"
    assert limiter.wait_of("flood") == pytest.approx(0.1)
    now[0] = 1.0
    assert sum(limiter.wait_of("flood") == 0 for _ in range(100)) == 10
    with pytest.raises(Problem, match="wait 1 s") as refused:
        limiter.require("flood")
    assert refused.value.status_code == 429


def test_every_response_tells_the_browser_to_be_careful(world: Any) -> None:
    for address in ("/api/v1/boards", "/api/v1/none", "/nowhere", "/api/v1/openapi.json"):
        headers = world.client().get(address).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe-inline" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("address", ["/api/v1/breaks", "/breaks"])
def test_so_does_one_that_failed(world: Any, address: str) -> None:
    world.settings = world.settings.model_copy(update={"public_url": "https://boards.example.org"})
    world.__post_init__()
    sound = world.client().get("/api/v1/boards").headers

    @world.app.get(address)
    def breaks() -> None:
        raise RuntimeError("a secret of the inside")

    answer = world.client().get(address)
    assert (answer.status_code, "secret" in answer.text) == (500, False)
    careful = {name: value for name, value in sound.items() if "policy" in name or name.startswith(("x-", "strict"))}
    assert len(careful) >= 7
    assert careful.items() <= dict(answer.headers).items()


def test_behind_https_cookies_are_secure(world: Any) -> None:
    world.settings = world.settings.model_copy(update={"public_url": "https://boards.example.org"})
    world.__post_init__()
    client = world.client()
    client.base_url = "https://boards.example.org"
    answer = log_in(world, client, world.token())
    assert answer.headers["set-cookie"].startswith("__Host-duchenne=")
    assert "secure" in answer.headers["set-cookie"].lower()
    assert "strict-transport-security" in answer.headers


def test_an_address_with_an_apostrophe_is_somebody(world: Any) -> None:
    world.store.record_event("logged in", actor="o'brien@example.org", sweep=world.sweep().id)
    admin = world.client(world.token(role="admin"))
    found = admin.get("/api/v1/audit", params={"actor": "o'brien@example.org"})
    assert [line["what"] for line in found.json()["items"]] == ["logged in"]
    assert admin.get("/api/v1/audit", params={"actor": "o'brien@example.org;--"}).status_code == 422


def test_the_audit_holds_every_write_and_can_be_taken_away(world: Any) -> None:
    sweep = world.sweep()
    admin = world.client(world.token(role="admin"))
    assert admin.put("/api/v1/teams/faces/members/ada@example.org", json={"role": "viewer"}).status_code == 200
    made = admin.post("/api/v1/teams/faces/tokens", json={"name": "=cmd|calc", "role": "viewer"}).json()
    assert world.client(made["token"]).get("/api/v1/teams").status_code == 200
    assert admin.delete(f"/api/v1/teams/faces/tokens/{made['id']}").json()["revoked_at"] is not None
    assert admin.delete("/api/v1/teams/faces/members/ada@example.org").status_code == 204
    assert admin.delete("/api/v1/teams/faces/members/ada@example.org").status_code == 404
    assert admin.put("/api/v1/boards/faces.disfa/visibility", json={"public": True}).status_code == 404
    world.store.ensure_team("others")
    admin.post(f"/api/v1/sweeps/{sweep.id}/stop")
    lines = admin.get("/api/v1/audit", params={"limit": 100}).json()["items"]
    done = [line["what"] for line in lines if line["actor"].startswith("token:")]
    assert done == ["member set", "token created", "token revoked", "member removed", "stop requested"]
    assert {line["team"] for line in lines} == {"faces"}
    assert not any("dch_" in str(line) for line in lines), "no secret is in the audit"
    page = admin.get("/api/v1/audit", params={"limit": 2}).json()
    assert admin.get("/api/v1/audit", params={"limit": 100, "cursor": page["next"]}).json()["items"] == lines[2:]
    table = admin.get("/api/v1/audit.csv")
    assert table.headers["content-type"].startswith("text/csv")
    assert len(table.text.strip().splitlines()) == len(lines) + 1
    assert "\n=" not in table.text
    assert world.client().get("/api/v1/audit").json()["items"] == []
