"""Where webhooks come from, and what is refused of them without a secret being repeated."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duchenne.notifications.webhooks import FILE_VARIABLE, WebhookError, load_webhooks
from duchenne.spec import SpecError, load_sweep
from duchenne.spec.loading import load_sweep_text

URL = "https://hooks.example.org/services/s3cret-path"
SECRET = "s3cret-of-32-characters-or-more"  # noqa: S105
QUICKSTART = Path(__file__).parents[3] / "jobs/sweeps/quickstart.yaml"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "webhooks.yaml"
    monkeypatch.setenv(FILE_VARIABLE, str(path))
    path.touch(mode=0o600)
    return path


def test_a_file_and_variables_name_webhooks_and_variables_win(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(f"team-slack: {{url: {URL}, format: slack}}\npager: {{url: {URL}, secret: {SECRET}}}\n")
    found = load_webhooks(["team-slack", "pager"])
    assert (found["team-slack"].format, found["team-slack"].secret) == ("slack", None)
    assert found["pager"].secret is not None
    assert found["pager"].url.get_secret_value() == URL
    monkeypatch.setenv("DUCHENNE_WEBHOOK_TEAM_SLACK_URL", "http://127.0.0.1:8080/x")
    assert load_webhooks(["team-slack"])["team-slack"].host == "127.0.0.1:8080"


def test_no_file_is_needed_where_variables_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FILE_VARIABLE, str(tmp_path / "nowhere.yaml"))
    monkeypatch.setenv("DUCHENNE_WEBHOOK_PAGER_URL", URL)
    monkeypatch.setenv("DUCHENNE_WEBHOOK_PAGER_SECRET", SECRET)
    assert load_webhooks(["pager"])["pager"].secret is not None
    assert load_webhooks([]) == {}


def test_an_unknown_name_is_refused_with_those_that_are_known(file: Path) -> None:
    file.write_text(f"pager: {{url: {URL}}}\n")
    with pytest.raises(WebhookError, match=r"there is no 'slack' \(known: pager\); add it") as caught:
        load_webhooks(["slack"])
    assert "DUCHENNE_WEBHOOK_SLACK_URL" in str(caught.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_file_that_others_can_read_is_refused(file: Path, mode: int) -> None:
    file.write_text(f"pager: {{url: {URL}}}\n")
    file.chmod(mode)
    with pytest.raises(WebhookError, match=rf"its mode is {mode:04o}; run chmod 600"):
        load_webhooks(["pager"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pager: {url: 'ftp://hooks.example.org/s3cret'}", "must be http"),
        ("pager: {url: 'file:///etc/s3cret'}", "must be http"),
        ("pager: {url: 's3cret'}", "must be http"),
        ("pager: {url: 'https:///s3cret'}", "must be http"),
        ("pager: {url: 'https://u:s3cret@example.org/'}", "must not carry user:password@"),
        ("pager: {url: 'https://example.org:99999/s3cret'}", "must be http"),
        ("pager: {url: 'https://example.org/s3 cret'}", "printable ASCII"),
        ("pager: {url: 's3cret', format: telegram}", "must be one of json, slack"),
        (f"pager: {{url: '{URL}', secret: s3cret}}", "16 characters or more"),
        (f"pager: {{url: '{URL}', secret: 12345678901234567}}", "must be text"),
        (f"pager: {{url: '{URL}', token: {SECRET}}}", "unknown field"),
        ("pager: s3cret", "must be a mapping"),
        ("pager: [s3cret", "line"),
        ("pager: {}", "required field is missing"),
    ],
)
def test_a_wrong_file_is_refused_by_line_without_what_it_holds(file: Path, text: str, words: str) -> None:
    file.write_text(text + "\n")
    with pytest.raises(SpecError) as caught:
        load_webhooks(["pager"])
    assert str(caught.value).startswith(f"{file}:")
    assert "s3" + "cret" not in str(caught.value).replace(str(file), "")
    assert words in str(caught.value) or words == "line"


@pytest.mark.parametrize("url", ["ftp://x/s3cret", "https://u:s3cret@x/", "s3cret"])
def test_wrong_variables_are_refused_without_what_they_hold(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DUCHENNE_WEBHOOK_PAGER_URL", url)
    with pytest.raises(WebhookError, match=r"^DUCHENNE_WEBHOOK_PAGER_\*: an address must") as caught:
        load_webhooks(["pager"])
    assert "s3cret" not in str(caught.value)


@given(st.text(min_size=1, max_size=60).filter(lambda text: "\x00" not in text and not text.startswith("http")))
def test_no_text_but_an_address_is_taken(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUCHENNE_WEBHOOK_X_URL", text.encode("utf-8", "ignore").decode() or "x")
        with pytest.raises(WebhookError):
            load_webhooks(["x"])


def notify(line: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    sweep = load_sweep_text(QUICKSTART.read_text() + f"\nnotify: {line}\n")
    return tuple((notice.webhook, notice.events) for notice in sweep.notify)


def test_a_sweep_names_webhooks_in_short_or_with_their_events() -> None:
    everything = ("succeeded", "failed", "stopped", "exhausted", "new_best")
    assert notify("ops") == (("ops", everything),)
    assert notify("[ops, {webhook: pager, events: [failed]}]") == (("ops", everything), ("pager", ("failed",)))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("https://hooks.example.org/s3cret", "notify: must be the name of a webhook"),
        ("['https://hooks.example.org/s3cret']", "put the address into webhooks.yaml"),
        ("[{webhook: 'https://hooks.example.org/s3cret'}]", "must be the name of a webhook"),
        ("[ops, ops]", "webhooks must be distinct"),
        ("[{webhook: ops, events: []}]", "must not be empty"),
        ("[{webhook: ops, events: [failed, failed]}]", "events must be distinct"),
        ("[{webhook: ops, events: [finished]}]", "must be one of succeeded"),
        ("[{webhook: ops, url: x}]", "unknown field"),
    ],
)
def test_a_sweep_with_an_address_or_a_mistake_is_refused(line: str, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        notify(line)
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_sweep_without_notices_is_recorded_as_it_always_was() -> None:
    assert "notify" not in load_sweep(QUICKSTART).model_dump(mode="json")
