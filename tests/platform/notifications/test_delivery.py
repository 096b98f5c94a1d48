"""One message to one webhook over real HTTP: servers that fail, hang, cut and send elsewhere."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path
from typing import Any

import pytest

from duchenne.notifications.delivery import DeliveryError, Parcel, Patience, deliver
from duchenne.notifications.webhooks import Webhook

SECRET = "a-secret-of-32-characters-or-more"  # noqa: S105
QUICK = Patience(deadline=1.5, attempt=0.4, first_wait=0.01, longest_wait=0.05)
PARCEL = Parcel("failed", "d1", '{"event": "failed", "reason": "ärger"}'.encode())
DOCS = Path(__file__).parents[3] / "docs/notifications.md"


def webhook(url: str, secret: str | None = SECRET) -> Webhook:
    return Webhook.model_validate({"url": url, "secret": secret})


def test_a_message_arrives_once_with_its_headers(receiver: Any) -> None:
    assert deliver(webhook(receiver.url), PARCEL, QUICK) == 1
    (got,) = receiver.received
    assert got.path == "/hook/s3cret-path?key=s3cret-key"
    assert got.body == PARCEL.body
    assert got.headers["X-Duchenne-Event"] == "failed"
    assert got.headers["X-Duchenne-Delivery"] == "d1"
    assert re.fullmatch(r"t=\d+,v1=[0-9a-f]{64}", got.headers["X-Duchenne-Signature"])


def test_the_documented_snippet_accepts_the_signature_and_refuses_what_was_changed(receiver: Any) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(snippet, names)  # noqa: S102 - the snippet is what a reader copies
    is_genuine = names["is_genuine"]
    deliver(webhook(receiver.url), PARCEL, QUICK)
    (got,) = receiver.received
    header = got.headers["X-Duchenne-Signature"]
    assert is_genuine(SECRET, header, got.body)
    assert not is_genuine(SECRET, header, got.body + b" ")
    assert not is_genuine(SECRET + "x", header, got.body)
    assert not is_genuine(SECRET, header, got.body, now=time.time() + 3600), "a replay an hour later"
    later = re.sub(r"t=\d+", f"t={int(time.time()) + 60}", header)
    assert not is_genuine(SECRET, later, got.body), "the time is signed too"
    for broken in ("", "t=1", "v1=00", "t=x,v1=y", "nonsense"):
        assert not is_genuine(SECRET, broken, got.body)


def test_without_a_secret_nothing_is_signed(receiver: Any) -> None:
    deliver(webhook(receiver.url, secret=None), PARCEL, QUICK)
    assert "X-Duchenne-Signature" not in receiver.received[0].headers


@pytest.mark.parametrize("trouble", [500, 503, 429, 408, "cut", "hang", "drip"])
def test_what_may_pass_is_tried_again_under_the_same_name(receiver: Any, trouble: Any) -> None:
    receiver.script = [trouble, trouble]
    patience = Patience(deadline=15, attempt=0.6, first_wait=0.01, longest_wait=0.05)
    assert deliver(webhook(receiver.url), PARCEL, patience) == 3
    assert [got.headers["X-Duchenne-Delivery"] for got in receiver.received] == ["d1"] * 3
    assert {got.body for got in receiver.received} == {PARCEL.body}


@pytest.mark.parametrize("refusal", [400, 401, 404, 410])
def test_what_will_not_pass_is_tried_once(receiver: Any, refusal: int) -> None:
    receiver.script = [refusal]
    with pytest.raises(DeliveryError, match=f"^answered {refusal}$"):
        deliver(webhook(receiver.url), PARCEL, QUICK)
    assert len(receiver.received) == 1


@pytest.mark.parametrize("trouble", [500, "hang", "drip"])
def test_the_deadline_holds_whatever_the_other_side_does(receiver: Any, trouble: Any) -> None:
    receiver.script = [trouble] * 1000
    began = time.monotonic()
    with pytest.raises(DeliveryError, match=r"answered 500|no answer in time"):
        deliver(webhook(receiver.url), PARCEL, QUICK)
    assert time.monotonic() - began < 2 * QUICK.deadline


def test_nobody_listens(unused: str) -> None:
    with pytest.raises(DeliveryError, match="refused"):
        deliver(webhook(unused), PARCEL, QUICK)


def test_a_redirect_within_the_host_is_followed(receiver: Any) -> None:
    receiver.script = ["redirect /moved"]
    assert deliver(webhook(receiver.url), PARCEL, QUICK) == 1
    assert [got.path for got in receiver.received] == ["/hook/s3cret-path?key=s3cret-key", "/moved"]
    assert receiver.received[1].body == PARCEL.body


def test_a_redirect_to_another_host_is_refused_and_the_stranger_gets_nothing(receiver: Any, stranger: Any) -> None:
    receiver.script = [f"redirect {stranger.url}"]
    with pytest.raises(DeliveryError, match="redirects to another host"):
        deliver(webhook(receiver.url), PARCEL, QUICK)
    assert stranger.received == []


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("see-other /moved", "answered 303, which drops the message"),
        ("redirect https://127.0.0.1/", "another host or scheme"),
        ("redirect http://[::1", "another host or scheme"),
        ("redirect file:///etc/passwd", "another host or scheme"),
    ],
)
def test_redirects_that_lose_the_message_are_refused(receiver: Any, step: str, words: str) -> None:
    receiver.script = [step]
    with pytest.raises(DeliveryError, match=words):
        deliver(webhook(receiver.url), PARCEL, QUICK)
    assert len(receiver.received) == 1


def test_a_ring_of_redirects_ends(receiver: Any) -> None:
    receiver.script = ["redirect /again"] * 100
    with pytest.raises(DeliveryError, match="more than 3 redirects"):
        deliver(webhook(receiver.url), PARCEL, QUICK)
    assert len(receiver.received) == 4


@pytest.mark.parametrize("trouble", [500, "cut", "hang", "redirect http://elsewhere.invalid/", "redirect /a b\tc"])
def test_no_message_and_no_log_holds_the_secret(receiver: Any, trouble: Any, caplog: pytest.LogCaptureFixture) -> None:
    receiver.script = [trouble] * 1000
    caplog.set_level(logging.DEBUG)
    with pytest.raises(DeliveryError) as caught:
        deliver(webhook(receiver.url), PARCEL, Patience(0.6, 0.2, 0.01, 0.05))
    for text in (str(caught.value), repr(caught.value), caplog.text, repr(webhook(receiver.url))):
        assert "s3cret" not in text
        assert SECRET not in text
    assert caught.value.__cause__ is None
