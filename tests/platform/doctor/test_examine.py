"""The doctor on a machine with nothing, with half, and with all: real services where there are any to be had."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from duchenne.cli.main import call
from duchenne.doctor import Finding, examine, machine, services
from duchenne.records import open_home

ACCOUNT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No services, no credentials, no clusters file of whoever runs the tests."""
    for variable in (
        "DUCHENNE_RECORDS_URL",
        *services.ENDPOINT_VARIABLES,
        *ACCOUNT,
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
    ):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """A real S3 server over HTTP with the bucket `faces`, which holds one object."""
    from botocore.session import get_session
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    client = get_session().create_client("s3", "us-east-1", endpoint_url=url, **keys)
    client.create_bucket(Bucket="faces")
    client.put_object(Bucket="faces", Key="disfa/manifest.json", Body=b"{}")
    yield url
    server.stop()


def by_name(findings: Iterator[Finding]) -> dict[str, Finding]:
    found = {finding.name: finding for finding in findings}
    for finding in found.values():
        assert "\n" not in finding.line
        assert finding.state == "ok" or finding.next, f"no next step: {finding.line}"
    return found


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_machine_with_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (machine,):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
    monkeypatch.setattr(machine, "SHARED_MEMORY", tmp_path / "absent")
    monkeypatch.setenv("DUCHENNE_RECORDS_URL", f"postgresql://duchenne:secret@127.0.0.1:{closed_port()}/duchenne")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port()}")
    (tmp_path / "home").write_text("a file")
    found = by_name(examine(tmp_path / "home", tmp_path / "absent.yaml"))
    states = {name: finding.state for name, finding in found.items()}
    assert states == {
        "Python": "ok",
        "torch": "missing",
        "Ray": "missing",
        "shared memory": "warn",
        "home": "missing",
        "records": "missing",
        "S3": "missing",
        "clusters file": "missing",
    }
    assert "secret" not in "".join(finding.line for finding in found.values())
    assert "must exist" in found["clusters file"].seen


def test_a_machine_with_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_url: str) -> None:
    """A GPU without a C compiler, no compiled kernels, little disk, an S3 without its bucket."""
    monkeypatch.setattr(machine, "gpu_names", lambda: ["NVIDIA A100"])
    monkeypatch.setattr(machine.shutil, "which", lambda _: None)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("duchenne_kernels.recurrence.native.library.load", lambda: "no library was built")
    monkeypatch.setattr(machine, "FREE_COMFORT", 2**60)
    for name, value in {**ACCOUNT, "AWS_ENDPOINT_URL": s3_url}.items():
        monkeypatch.setenv(name, value)
    found = by_name(examine(tmp_path, data="s3://absent/disfa"))
    for name in ("Triton", "CPU kernels", "home"):
        assert found[name].state == "warn"
    assert found["GPU"].seen.startswith("1 x NVIDIA A100")
    assert "apt-get install gcc" in found["Triton"].next
    assert (found["S3"].state, found["S3"].next) == ("missing", "mind the name and the region, or make the bucket")
    assert call(["doctor", "--home", str(tmp_path), "--data", "s3://absent/disfa"]) == 1


def test_a_machine_with_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**ACCOUNT, "AWS_ENDPOINT_URL": s3_url}.items():
        monkeypatch.setenv(name, value)
    with open_home(tmp_path):
        pass
    assert call(["doctor", "--home", str(tmp_path), "--data", "s3://faces/disfa", "--json"]) == 0
    found = {finding["name"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert set(found["records"]) == {"name", "state", "seen", "next"}
    assert {finding["state"] for finding in found.values()} <= {"ok", "warn"}
    assert found["S3"]["seen"] == "s3://faces/disfa: can be listed"
    assert found["records"]["state"] == "ok"
    assert call(["doctor", "--home", str(tmp_path)]) == 0
    assert f"S3: {s3_url}: answers, " in capsys.readouterr().out


def test_looking_changes_nothing(tmp_path: Path) -> None:
    list(examine(tmp_path / "home"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "set AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "test"}, "set AWS_ACCESS_KEY_ID"),
    ],
)
def test_keys_that_are_missing_are_named(
    monkeypatch: pytest.MonkeyPatch, s3_url: str, given: dict[str, str], expected: str
) -> None:
    for name, value in {"AWS_ENDPOINT_URL": s3_url, **given}.items():
        monkeypatch.setenv(name, value)
    assert services.storage_finding("s3://faces/disfa").next.startswith(expected)


def test_a_url_that_is_none_is_told() -> None:
    assert services.storage_finding("https://faces").state == "missing"


def test_records_that_are_damaged_or_newer_are_told(tmp_path: Path) -> None:
    from sqlalchemy import text

    with open_home(tmp_path) as store, store.database.connection() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    newer = services.records_finding(tmp_path)
    assert (newer.state, newer.next) == ("missing", "install the version that wrote it")
    for path in tmp_path.glob("records.sqlite*"):
        path.unlink()
    (tmp_path / "records.sqlite").write_bytes(b"not a database" * 100)
    assert services.records_finding(tmp_path).state == "missing"


@pytest.mark.parametrize(("version", "state"), [((3, 10), "missing"), ((3, 11), "ok")])
def test_the_interpreter_must_be_new_enough(version: tuple[int, int], state: str) -> None:
    assert machine.python_finding(version).state == state


def test_a_gpu_that_torch_can_not_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(machine, "gpu_names", list)
    monkeypatch.setattr(machine.Path, "exists", lambda self: str(self) == "/dev/nvidiactl")
    found: dict[str, Any] = {finding.name: finding for finding in machine.torch_findings()}
    assert found["GPU"].state == "warn"


def test_little_shared_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "OBJECT_STORE_BYTES", 2**60)
    found = machine.shared_memory_finding(tmp_path)
    assert (found.state, "--shm-size" in found.next) == ("warn", True)
