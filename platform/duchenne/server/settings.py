"""What the server is told: read once from the environment, when it starts."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr

from duchenne_jobs.config import Config

SECRET_NAME = "server.secret"  # noqa: S105 - the name of a file
PREFIX = "DUCHENNE_SERVER_"


def _checked_proxies(proxies: tuple[str, ...]) -> tuple[str, ...]:
    for proxy in proxies:
        try:
            network = ip_network(proxy)
        except ValueError as error:
            raise ValueError(
                f"a trusted proxy must be an address or a network such as 10.0.0.0/8, but got {proxy!r:.60} ({error})"
            ) from None
        if network.prefixlen == 0:
            raise ValueError(
                f"trusted proxies must be some, but {proxy} is everybody, who could pass for any address; name the "
                "network of the ingress"
            )
    return proxies


class OidcSettings(Config):
    """The identity provider behind the pages' login."""

    issuer: str = Field(description="Address of the provider; its metadata lie at /.well-known/openid-configuration.")
    client_id: str = Field(description="Name under which the provider knows this server.")
    client_secret: SecretStr = Field(description="Its secret there.")
    label: str = Field("single sign-on", description="What the button of the login page calls it.")


class Settings(Config):
    """The server's settings; `from_environment` says where each comes from."""

    home: Path = Field(description="Folder to which recorded paths are relative, and where uploads are kept.")
    secret: SecretStr = Field(description="Signs the sessions; every process of a server needs the same.")
    public_url: str | None = Field(None, description="How browsers reach the server; https:// makes cookies secure.")
    oidc: OidcSettings | None = Field(None, description="Login for the pages; without it a token logs in.")
    rate_per_second: float = Field(100.0, gt=0, description="Requests a second that one token or address may send.")
    rate_burst: int = Field(200, ge=1, description="Requests that it may send at once after a pause.")
    upload_bytes: int = Field(256 * 2**20, ge=1, description="Largest upload of predictions, in bytes.")
    body_bytes: int = Field(2**20, ge=1, description="Largest body of any other request, in bytes.")
    session_hours: float = Field(12.0, gt=0, description="Hours after which a person logs in again.")
    token_cache_seconds: float = Field(
        60.0, ge=0, description="Seconds for which a token's hash is not computed again."
    )
    poll_seconds: float = Field(5.0, gt=0, description="Seconds between looks for entries that sweeps have recorded.")
    datasets: tuple[str, ...] = Field(
        (),
        description="Folders and prefixes, beside HOME/datasets, below which datasets may be opened to check entries.",
    )
    trusted_proxies: Annotated[tuple[str, ...], AfterValidator(_checked_proxies)] = Field(
        ("127.0.0.1", "::1"),
        description="Addresses and networks whose X-Forwarded-For and -Proto are believed: those of an ingress.",
    )
    ranked: int = Field(500, ge=1, description="Best entries of a cohort that get ranks.")

    @property
    def secure(self) -> bool:
        """Whether browsers reach the server by https."""
        return (self.public_url or "").startswith("https://")

    @classmethod
    def from_environment(cls, home: Path, environment: Mapping[str, str] | None = None) -> Settings:
        """Settings from `DUCHENNE_SERVER_*` variables, and from `DUCHENNE_OIDC_*` for the login.

        A secret that is not given is made once and kept in HOME/server.secret, readable by its owner alone.

        Raises:
            pydantic.ValidationError: a variable that can't be what it says.
        """
        given = os.environ if environment is None else environment
        values: dict[str, Any] = {
            name: given[key]
            for name in cls.model_fields
            if name not in ("home", "oidc") and (key := PREFIX + name.upper()) in given
        }
        for name in ("datasets", "trusted_proxies"):
            if name in values:
                values[name] = [item.strip() for item in values[name].split(",") if item.strip()]
        if "secret" not in values:
            values["secret"] = kept_secret(home)
        issuer = given.get("DUCHENNE_OIDC_ISSUER")
        oidc = None
        if issuer:
            oidc = {
                name: value
                for name in OidcSettings.model_fields
                if (value := given.get(f"DUCHENNE_OIDC_{name.upper()}")) is not None
            }
        return cls.model_validate({"home": home, "oidc": oidc, **values}, strict=False)


def kept_secret(home: Path) -> str:
    """The secret of this home, made now if there is none."""
    path = home / SECRET_NAME
    home.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text(encoding="ascii").strip()
    with os.fdopen(handle, "w", encoding="ascii") as file:
        secret = secrets.token_urlsafe(32)
        file.write(secret)
    return secret
