"""`duchenne serve` as a process, what runs beside its requests, and the verbs of teams and tokens."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from duchenne.cli.main import call
from duchenne.records.board_rows import Sight


def wait_for(ready: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := ready():
            return found
        time.sleep(0.05)
    raise AssertionError("it never came")


def test_the_verb_serves_what_the_verbs_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DUCHENNE_HOME", str(tmp_path))
    monkeypatch.delenv("DUCHENNE_RECORDS_URL", raising=False)
    assert call(["teams", "create", "faces"]) == 0
    assert call(["teams", "budget", "faces", "--usd", "100"]) == 0
    assert call(["teams", "member", "faces", "ada@example.org", "admin"]) == 0
    capsys.readouterr()
    assert call(["tokens", "create", "laptop", "--team", "faces"]) == 0
    token = capsys.readouterr().out.strip()
    assert call(["tokens", "list"]) == 0
    assert token.split("_")[1] in (listed := capsys.readouterr().out)
    assert token.split("_", 2)[2] not in listed
    for wrong in (["tokens", "create", "x"], ["tokens", "create", "x", "--team", "faces", "--role", "king"]):
        assert call(wrong) != 0
    assert call(["teams", "create", "<b>"]) != 0
    assert call(["teams", "list"]) == 0
    assert "100" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setenv("DUCHENNE_SERVER_RATE_BURST", "none")
        assert call(["serve"]) == 2
        assert "DUCHENNE_SERVER_RATE_BURST: " in capsys.readouterr().err
    port = free_port()
    command = [sys.executable, "-m", "duchenne", "serve", "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            answer = wait_for(lambda: asked(f"http://127.0.0.1:{port}/api/v1/teams", token))
            assert [(team["name"], team["usd_per_month"]) for team in answer.json()] == [("faces", 100.0)]
            assert "server" not in answer.headers
            assert (tmp_path / "server.secret").stat().st_mode & 0o777 == 0o600
        finally:
            process.terminate()
            process.wait(timeout=30)
    assert call(["tokens", "revoke", token.split("_")[1]]) == 0


@pytest.mark.parametrize(("proxies", "codes"), [("127.0.0.0/8,::1", [200, 200, 200]), ("10.0.0.0/8", [200, 429, 429])])
def test_forwarded_addresses_are_believed_from_the_proxies_that_were_named(
    tmp_path: Path, proxies: str, codes: list[int]
) -> None:
    """Three clients behind one proxy, each with a rate of its own; or one client that claims to be three."""
    port = free_port()
    environment = os.environ | {"DUCHENNE_SERVER_RATE_BURST": "1", "DUCHENNE_SERVER_RATE_PER_SECOND": "0.001"}
    command = [sys.executable, "-m", "duchenne", "serve", "--port", str(port), "--home", str(tmp_path)]
    with subprocess.Popen([*command, "--trusted-proxies", proxies], env=environment, stdout=subprocess.DEVNULL) as one:
        try:
            wait_for(lambda: asked(f"http://127.0.0.1:{port}/healthz", "none"))
            seen = [
                httpx.get(f"http://127.0.0.1:{port}/api/v1/boards", headers={"X-Forwarded-For": f"192.0.2.{number}"})
                for number in range(3)
            ]
            assert [answer.status_code for answer in seen] == codes
        finally:
            one.terminate()
            one.wait(timeout=30)


@pytest.mark.parametrize(
    ("proxies", "rule"), [("*", "an address or a network"), ("0.0.0.0/0", "everybody"), ("10.1.2.3/8", "host bits")]
)
def test_a_proxy_that_is_nobody_or_everybody_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], proxies: str, rule: str
) -> None:
    assert call(["serve", "--home", str(tmp_path), "--trusted-proxies", proxies]) == 2
    said = capsys.readouterr().err
    assert said.startswith("DUCHENNE_SERVER_TRUSTED_PROXIES: ")
    assert rule in said
    assert said.count("\n") == 1


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def asked(address: str, token: str) -> Any:
    try:
        return httpx.get(address, headers={"Authorization": f"Bearer {token}"}, timeout=5)
    except httpx.HTTPError:
        return None


def test_what_a_driver_records_appears_by_itself(world: Any) -> None:
    world.settings = world.settings.model_copy(update={"poll_seconds": 0.05})
    world.__post_init__()
    everything = Sight(everything=True)
    with world.client(world.token()) as client:
        world.entry(world.sweep(), 0.9)
        page = wait_for(
            lambda: (
                client.get("/api/v1/boards").json()["items"][0:]
                and "faces.disfa" in [board.id for board in world.store.visible_boards(everything).items]
                and [
                    line
                    for line in client.get("/api/v1/boards/faces.disfa/entries").json()["items"]
                    if line["rank_low"]
                ]
            )
        )
        assert page[0]["verified"] == "verified"
        assert "disfa" in [board["id"] for board in client.get("/api/v1/boards").json()["items"]], "a reference board"


def test_a_forgotten_subjects_labels_are_dropped(world: Any) -> None:
    from duchenne.server.registration import register_pending

    sweep = world.sweep()
    world.entry(sweep, 0.9)
    register_pending(world.store, world.settings)
    kept = world.store.truth(sweep.dataset_digest, sweep.folds_digest)
    assert (world.home / kept.path).is_file()
    world.store.withdraw_dataset(sweep.dataset_digest, replaced_by="sha256:new", actor="test")
    register_pending(world.store, world.settings)
    assert not (world.home / kept.path).exists()
    (line,) = world.client(world.token()).get("/api/v1/boards/faces.disfa/entries").json()["items"]
    assert "a subject was forgotten" in line["reason"]


def test_without_the_extra_serve_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from importlib import util

    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name, *a: None if name == "fastapi" else find(name, *a))
    assert call(["serve", "--home", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install 'duchenne[server]'" in said


def test_light_verbs_load_no_server(tmp_path: Path) -> None:
    script = (
        "import sys; from duchenne.cli.main import call; "
        f"call(['ls', '--home', {str(tmp_path)!r}]); call(['teams', 'list', '--home', {str(tmp_path)!r}]); "
        "print([m for m in ('fastapi', 'argon2', 'uvicorn', 'duchenne.server', 'torch', 'ray') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip().endswith("[]"), done.stdout + done.stderr


def test_a_monthly_budget_of_the_records_binds_drivers_too(world: Any) -> None:
    from duchenne.plan.teams import team_limits

    world.store.ensure_team("faces")
    (world.home / "teams.yaml").write_text("faces: {usd_per_month: 50}\n")
    assert team_limits(world.home, "faces", world.store.team_budget("faces")).usd == 50
    world.store.set_team_budget("faces", usd_per_month=20, gpu_hours_per_month=1, actor="test")
    limits = team_limits(world.home, "faces", world.store.team_budget("faces"))
    assert (limits.usd, limits.gpu_seconds) == (20, 3600)
    spend = world.client(world.token(role="viewer")).get("/api/v1/teams/faces/spend").json()
    assert (spend["limits"]["usd"], spend["limits"]["gpu_hours"]) == (20, 1)
