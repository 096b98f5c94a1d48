"""Who is told what of a sweep: webhooks by name. Their addresses and secrets stay out of the file."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, TypeAlias, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from duchenne.spec.sections import SLUG_PATTERN
from duchenne_jobs.config import Config

EventName: TypeAlias = Literal["succeeded", "failed", "stopped", "exhausted", "new_best"]
EVENT_NAMES: Final[tuple[EventName, ...]] = get_args(EventName)


def _checked_name(name: str) -> str:
    if len(name) > 40 or re.fullmatch(SLUG_PATTERN, name) is None:
        # The value is not repeated: an address in its place is a secret.
        raise ValueError(
            "must be the name of a webhook, lower-case letters, digits and hyphens, but got another text; "
            "put the address into webhooks.yaml and its name here"
        )
    return name


def _distinct_events(events: tuple[EventName, ...]) -> tuple[EventName, ...]:
    if len(set(events)) < len(events):
        raise ValueError(f"events must be distinct, but got {', '.join(events)}; remove the repetition")
    return events


class Notice(Config):
    """One webhook, and what it hears of. Its bare name hears of everything."""

    webhook: Annotated[str, AfterValidator(_checked_name)] = Field(
        description="Name of the webhook: see docs/notifications.md. No address, no secret.",
        json_schema_extra={"pattern": SLUG_PATTERN, "maxLength": 40},
    )
    events: Annotated[tuple[EventName, ...], Field(min_length=1), AfterValidator(_distinct_events)] = Field(
        EVENT_NAMES,
        description="How it ended (`exhausted`: the budget is used up), or that an entry of it leads its board.",
    )


def _from_name(value: object) -> object:
    """`team-slack` is short for `{webhook: team-slack}`."""
    if isinstance(value, str):
        return {"webhook": value}
    if isinstance(value, dict) and isinstance(value.get("events"), list):
        return {**value, "events": tuple(value["events"])}
    return value


WebhookName = Annotated[str, Field(pattern=SLUG_PATTERN, max_length=40)]
NoticeItem = Annotated[Notice, BeforeValidator(_from_name, json_schema_input_type=WebhookName | Notice)]


def notices_by_name(value: object) -> object:
    """`notify: team-slack` is short for a list of one."""
    if isinstance(value, str):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


def distinct_webhooks(notices: tuple[Notice, ...]) -> tuple[Notice, ...]:
    """Raises ValueError where a webhook is named twice: it would get everything twice."""
    names = [notice.webhook for notice in notices]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"webhooks must be distinct, but got {', '.join(twice)} more than once; list its events once")
    return notices
