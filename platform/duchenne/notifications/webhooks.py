"""Webhooks by name: their addresses and secrets come from the environment or a file of the user's, never from a spec.

An address may hold a secret itself (Slack's does), so it is never shown: messages name the webhook and its host.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, RootModel, SecretStr

from duchenne.spec.errors import SpecError
from duchenne.spec.located import load_model
from duchenne.spec.sections import Slug
from duchenne_jobs.config import Config

DEFAULT_FILE = "~/.config/duchenne/webhooks.yaml"
FILE_VARIABLE = "DUCHENNE_WEBHOOKS_FILE"
VARIABLE = "DUCHENNE_WEBHOOK_"
Format = Literal["json", "slack"]


class WebhookError(ValueError):
    """A webhook is not there, or not fit to be called; the message is one line without a secret."""


def _checked_url(url: SecretStr) -> SecretStr:
    address = url.get_secret_value()
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), 0
    # The value is not repeated: it may hold a secret.
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError("an address must be http(s)://HOST[:PORT]/PATH, but got another; copy it from the receiver")
    if parts.username is not None or parts.password is not None:
        raise ValueError("an address must not carry user:password@, but got some; use `secret` and the signature")
    if not address.isascii() or not address.isprintable() or " " in address:
        raise ValueError("an address must be printable ASCII without blanks, but got another; percent-encode the rest")
    return url


def _checked_secret(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and len(secret.get_secret_value()) < 16:
        raise ValueError("a secret must have 16 characters or more, but got fewer; `openssl rand -hex 32` makes one")
    return secret


class Webhook(Config):
    """Where messages go, and by what they are signed."""

    url: Annotated[SecretStr, AfterValidator(_checked_url)] = Field(description="http(s) address; never shown.")
    format: Format = Field("json", description="`json`: everything, signed; `slack`: a text, for Slack and its like.")
    secret: Annotated[SecretStr | None, AfterValidator(_checked_secret)] = Field(
        None, description="Key of the signature; null sends unsigned."
    )

    @property
    def host(self) -> str:
        """Host and port, which may be shown."""
        parts = urlsplit(self.url.get_secret_value())
        return parts.netloc


class _Webhooks(RootModel[dict[Slug, Webhook]]):
    """`name: {url, format, secret}` for each webhook."""


def load_webhooks(names: Iterable[str]) -> dict[str, Webhook]:
    """The webhooks of these names: each from its variables where DUCHENNE_WEBHOOK_NAME_URL is set, else from the file.

    Raises:
        WebhookError: none of that name, or the file can be read by others.
        duchenne.spec.SpecError: the file is wrong, one line a problem.
    """
    found: dict[str, Webhook] = {}
    filed: dict[str, Webhook] | None = None
    for name in names:
        webhook = _from_environment(name)
        if webhook is None:
            filed = _from_file() if filed is None else filed
            webhook = filed.get(name)
        if webhook is None:
            known = ", ".join(filed or {}) or "none"
            raise WebhookError(
                f"notify: a webhook must be in {_file()} or in {_variable(name)}_URL, but there is no {name!r} "
                f"(known: {known}); add it, or leave it out of the sweep"
            )
        found[name] = webhook
    return found


def _from_environment(name: str) -> Webhook | None:
    prefix = _variable(name)
    url = os.environ.get(f"{prefix}_URL")
    if not url:
        return None
    data = {"url": url, "format": os.environ.get(f"{prefix}_FORMAT") or "json"}
    secret = os.environ.get(f"{prefix}_SECRET")
    try:
        return Webhook.model_validate(data | ({"secret": secret} if secret else {}))
    except ValueError as error:
        # pydantic's own text repeats what it was given.
        rules = [str(fault["msg"]).removeprefix("Value error, ") for fault in getattr(error, "errors", list)()]
        raise WebhookError(f"{prefix}_*: {'; '.join(rules)}") from None


def _from_file() -> dict[str, Webhook]:
    path = _file()
    if not path.exists():
        return {}
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise WebhookError(
            f"{path}: secrets must be readable by you alone, but its mode is {mode:04o}; run chmod 600 {path}"
        )
    try:
        return load_model(path, _Webhooks, "write `name: {url: https://...}`").root
    except SpecError as error:
        # What was seen may be a secret in the wrong place.
        raise SpecError(error.source, [replace(problem, value=None) for problem in error.problems]) from None


def _file() -> Path:
    return Path(os.environ.get(FILE_VARIABLE) or DEFAULT_FILE).expanduser()


def _variable(name: str) -> str:
    return VARIABLE + name.upper().replace("-", "_")
