"""What happened, and how each format of webhook says it."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any, Final

from duchenne.notifications.webhooks import Format
from duchenne.spec.notify import EventName

VERSION: Final = "duchenne/v1"
EVENT_HEADER: Final = "X-Duchenne-Event"
DELIVERY_HEADER: Final = "X-Duchenne-Delivery"
SIGNATURE_HEADER: Final = "X-Duchenne-Signature"
MAX_TEXT: Final = 3000  # characters; Slack cuts a message at 4,000

_WORDS: Final[dict[EventName, str]] = {
    "succeeded": "has finished",
    "failed": "has failed",
    "stopped": "was stopped",
    "exhausted": "has used up its budget",
    "new_best": "leads board",
}


@dataclass(frozen=True)
class Happening:
    """One thing that a person wants to know of a sweep.

    Attributes:
        at: when, ISO 8601 in UTC.
        reason: why it ended so, if anybody knows.
        detail: figures; for `new_best` the entry, its F1, and the F1 that led before (null for the first).
    """

    event: EventName
    at: str
    sweep: str
    name: str
    team: str
    board: str
    reason: str | None
    detail: dict[str, Any]


def body_of(happening: Happening, delivery: str, format_: Format) -> bytes:
    """The body of a message, in UTF-8."""
    if format_ == "slack":
        return json.dumps({"text": text_of(happening)[:MAX_TEXT]}, ensure_ascii=False).encode()
    document = {
        "apiVersion": VERSION,
        "event": happening.event,
        "delivery": delivery,
        "at": happening.at,
        "sweep": {"id": happening.sweep, "name": happening.name, "team": happening.team, "board": happening.board},
        "reason": happening.reason,
        "detail": happening.detail,
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


def text_of(happening: Happening) -> str:
    """One or two lines for people. `&`, `<` and `>` are escaped, since Slack makes links and mentions of them."""
    what = _WORDS[happening.event]
    lines = [f"{happening.sweep} (team {happening.team}) {what}"]
    if happening.event == "new_best":
        before = happening.detail.get("before")
        led = "the first entry" if before is None else f"{before:.4f} before"
        lines[0] += f" {happening.board}: {happening.detail['label']}, F1 {happening.detail['f1_mean']:.4f} ({led})"
    spent = happening.detail.get("spent_usd")
    if spent is not None:
        lines[0] += f", {spent:.2f} USD"
    if happening.reason:
        lines.append(happening.reason)
    text = "\n".join(lines)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def signature_of(secret: str, timestamp: int, body: bytes) -> str:
    """The value of the signature's header: `t=SECONDS,v1=HEX`, HMAC-SHA256 of `SECONDS.BODY`."""
    digest = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"
