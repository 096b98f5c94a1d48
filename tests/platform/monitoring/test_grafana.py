"""`duchenne grafana push` against a stand-in of Grafana's API over real HTTP: Debian has no Grafana to install."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from duchenne.cli.main import call
from duchenne.monitoring.dashboards import dashboards
from duchenne.monitoring.errors import MonitoringError
from duchenne.monitoring.grafana import push

TOKEN = "glsa_s3cret"  # noqa: S105


@dataclass
class Grafana:
    """What Grafana's documentation says of folders and dashboards, and the answers of a broken one."""

    url: str = ""
    folders: dict[str, str] = field(default_factory=dict)
    dashboards: dict[str, dict[str, Any]] = field(default_factory=dict)
    broken: tuple[int, str] | None = None

    def answer(self, method: str, path: str, token: str | None, body: Any) -> tuple[int, Any]:
        if self.broken is not None:
            return self.broken[0], self.broken[1]
        if token != f"Bearer {TOKEN}":
            return 401, {"message": "Invalid API key", "messageId": "api-key.invalid"}
        if (method, path) == ("POST", "/api/folders"):
            if body["uid"] in self.folders:
                return 412, {"message": "a folder with that uid already exists", "status": "name-exists"}
            self.folders[body["uid"]] = body["title"]
            return 200, {"id": 1, "uid": body["uid"], "title": body["title"]}
        if (method, path) == ("POST", "/api/dashboards/db"):
            return self._dashboard(body)
        return 404, {"message": "Not found"}

    def _dashboard(self, body: Any) -> tuple[int, Any]:
        dashboard = body["dashboard"]
        if body["folderUid"] not in self.folders:
            return 400, {"message": "folder not found"}
        if not dashboard.get("title") or dashboard.get("id") is not None:
            return 400, {"message": "bad dashboard"}
        old = self.dashboards.get(dashboard["uid"])
        if old is not None and not body["overwrite"]:
            return 412, {"message": "The dashboard has been changed by someone else", "status": "version-mismatch"}
        version = 1 if old is None else old["version"] + 1
        self.dashboards[dashboard["uid"]] = dashboard | {"version": version}
        return 200, {"uid": dashboard["uid"], "url": f"/d/{dashboard['uid']}", "status": "success", "version": version}


@pytest.fixture
def grafana() -> Iterator[Grafana]:
    stand_in = Grafana()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, said = stand_in.answer("POST", self.path, self.headers.get("Authorization"), body)
            text = said if isinstance(said, str) else json.dumps(said)
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", text)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield stand_in
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture(autouse=True)
def without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_the_dashboards_arrive_in_their_folder_and_a_second_push_replaces_them(grafana: Grafana) -> None:
    pushed = push(grafana.url, TOKEN, dashboards())
    assert pushed["duchenne-overview"] == f"{grafana.url}/d/duchenne-overview"
    assert grafana.folders == {"duchenne": "Duchenne"}
    bare = {name: {k: v for k, v in one.items() if k != "version"} for name, one in grafana.dashboards.items()}
    assert bare == dashboards()
    push(grafana.url + "/", TOKEN, dashboards())
    assert {one["version"] for one in grafana.dashboards.values()} == {2}


@pytest.mark.parametrize("by", ["file", "variable"])
def test_the_command_takes_its_token_from_a_file_or_the_environment(
    grafana: Grafana, by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["grafana", "push", "--url", grafana.url, "--folder", "Faces"]
    if by == "file":
        monkeypatch.delenv("GRAFANA_TOKEN", raising=False)
        (tmp_path / "token").write_text(f"{TOKEN}\n")
        arguments += ["--token-file", str(tmp_path / "token")]
    else:
        monkeypatch.setenv("GRAFANA_TOKEN", TOKEN)
    assert call(arguments) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: {grafana.url}/d/{name}"
        for name in ("duchenne-overview", "duchenne-sweep", "duchenne-pool", "duchenne-server")
    ]
    assert grafana.folders == {"duchenne": "Faces"}


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (
            (403, '{"message": "You\'ll need more rights"}'),
            "answered 403 .You'll need more rights",
        ),
        ((500, "<html>oops</html>"), "answered 500"),
        ((302, "https://elsewhere.invalid/"), "answered 302 .*write the final address"),
        ((200, "<html>log in</html>"), "must be a Grafana"),
        ((200, '{"message": "hello"}'), "must be a Grafana"),
        ((500, '[{"message": "a list"}]'), "must answer with an object"),
        ((500, "[]"), "must answer with an object"),
    ],
)
def test_a_refusal_is_one_line_without_the_token(
    grafana: Grafana, broken: tuple[int, str], words: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    grafana.broken = broken
    monkeypatch.setenv("GRAFANA_TOKEN", TOKEN)
    code = call(["grafana", "push", "--url", grafana.url])
    said = capsys.readouterr()
    assert code == 2
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    assert "127.0.0.1:" in line
    with pytest.raises(MonitoringError, match=words):
        push(grafana.url, TOKEN, dashboards())
    assert TOKEN not in said.err + said.out + caplog.text


def test_a_wrong_token_is_told_as_such(grafana: Grafana, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("glsa_other")
    assert call(["grafana", "push", "--url", grafana.url, "--token-file", str(tmp_path / "token")]) == 2
    error = capsys.readouterr().err
    assert "Invalid API key" in error
    assert "glsa_other" not in error


@pytest.mark.parametrize("url", ["ftp://x", "grafana.example.org", "https://u:s3cret@x", "http://"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(MonitoringError, match="--url must be http") as caught:
        push(url, TOKEN, {})
    assert "s3cret" not in str(caught.value)


def test_a_missing_token_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("GRAFANA_TOKEN", raising=False)
    assert call(["grafana", "push", "--url", "http://127.0.0.1:1"]) == 2
    assert "GRAFANA_TOKEN has none" in capsys.readouterr().err


def test_a_grafana_out_of_reach_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFANA_TOKEN", TOKEN)
    assert call(["grafana", "push", "--url", "http://127.0.0.1:1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "Grafana at 127.0.0.1:1 must answer" in line


def test_export_writes_what_the_chart_ships(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["grafana", "export", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5
    assert json.loads((tmp_path / "dashboards/duchenne-pool.json").read_text())["uid"] == "duchenne-pool"
