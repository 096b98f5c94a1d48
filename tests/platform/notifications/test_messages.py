"""What the messages say: golden, since receivers parse them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from duchenne.notifications.messages import MAX_TEXT, Happening, body_of, signature_of, text_of


def happening(**changes: Any) -> Happening:
    values = {
        "event": "failed",
        "at": "2026-11-24T15:04:05+00:00",
        "sweep": "faces-7f3a",
        "name": "faces",
        "team": "vision",
        "board": "disfa",
        "reason": "the disk is full",
        "detail": {"spent_usd": 12.5},
    }
    return Happening(**{**values, **changes})


def test_json() -> None:
    assert json.loads(body_of(happening(), "d1", "json")) == {
        "apiVersion": "duchenne/v1",
        "event": "failed",
        "delivery": "d1",
        "at": "2026-11-24T15:04:05+00:00",
        "sweep": {"id": "faces-7f3a", "name": "faces", "team": "vision", "board": "disfa"},
        "reason": "the disk is full",
        "detail": {"spent_usd": 12.5},
    }


def test_slack() -> None:
    text = "faces-7f3a (team vision) has failed, 12.50 USD\nthe disk is full"
    assert json.loads(body_of(happening(), "d1", "slack")) == {"text": text}


def test_a_new_best_says_by_how_much() -> None:
    detail = {"label": "monet M=16", "f1_mean": 0.61234, "before": 0.6, "spent_usd": None}
    first = text_of(happening(event="new_best", reason=None, detail=detail))
    assert first == "faces-7f3a (team vision) leads board disfa: monet M=16, F1 0.6123 (0.6000 before)"
    assert "(the first entry)" in text_of(happening(event="new_best", reason=None, detail={**detail, "before": None}))


@given(st.text())
def test_slack_gets_no_mention_no_link_and_a_bounded_text(reason: str) -> None:
    text = json.loads(body_of(happening(reason=f"<!channel> <http://x|y> {reason}"), "d1", "slack"))["text"]
    assert "<" not in text
    assert ">" not in text
    assert len(text) <= MAX_TEXT


def test_the_signature_is_what_the_page_says() -> None:
    # printf '1700000000.{}' | openssl dgst -sha256 -hmac key-of-the-golden-test
    golden = "t=1700000000,v1=0de04efb8886d5316bd9158fe12d56936dc1152ba5162561b89a4c49a331da61"
    assert signature_of("key-of-the-golden-test", 1_700_000_000, b"{}") == golden
