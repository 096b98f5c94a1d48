"""Sessions of people: a login at an identity provider (OpenID Connect, through Authlib), or with a token.

Who may see what is not in the session: memberships are read from the records at every request.
"""

from __future__ import annotations

import logging
from typing import Annotated, Any

from authlib.common.errors import AuthlibBaseError  # type: ignore[import-untyped]
from authlib.integrations.starlette_client import OAuth  # type: ignore[import-untyped]
from fastapi import APIRouter, Depends, FastAPI, Form, Request
from fastapi.responses import RedirectResponse, Response
from httpx2 import HTTPError
from joserfc.errors import JoseError
from starlette.concurrency import run_in_threadpool

from duchenne.server.access import check_csrf, log_in, require_csrf
from duchenne.server.limits import RateLimiter
from duchenne.server.problems import Problem
from duchenne.server.settings import Settings
from duchenne.server.tokens import BadToken, TokenChecker

LOGGER = logging.getLogger("duchenne.server")
HOME_PAGE = "/"
_PROVIDER = "provider"


def install(app: FastAPI, settings: Settings) -> None:
    """Mount the routes of login and logout."""
    app.state.oauth = _oauth(settings)
    app.include_router(router)


def _oauth(settings: Settings) -> OAuth | None:
    oidc = settings.oidc
    if oidc is None:
        return None
    oauth = OAuth()
    oauth.register(
        _PROVIDER,
        client_id=oidc.client_id,
        client_secret=oidc.client_secret.get_secret_value(),
        server_metadata_url=oidc.issuer.rstrip("/") + "/.well-known/openid-configuration",
        client_kwargs={"scope": "openid email profile", "code_challenge_method": "S256", "timeout": 10},
    )
    return oauth


router = APIRouter(include_in_schema=False)


@router.get("/login/oidc")
async def start(request: Request) -> Response:
    """Send the browser to the identity provider."""
    client = _client(request)
    settings: Settings = request.app.state.settings
    callback = (
        settings.public_url.rstrip("/") + "/login/callback" if settings.public_url else str(request.url_for("finish"))
    )
    try:
        answer: Response = await client.authorize_redirect(request, callback)
    except (HTTPError, AuthlibBaseError) as error:
        raise _unreachable(error) from error
    return answer


@router.get("/login/callback")
async def finish(request: Request) -> Response:
    """Take the provider's answer: state, nonce, signature, issuer and audience are checked by Authlib."""
    try:
        token = await _client(request).authorize_access_token(request)
    except HTTPError as error:
        raise _unreachable(error) from error
    except (AuthlibBaseError, JoseError, ValueError) as error:
        LOGGER.warning("a login was refused: %s", error)
        raise Problem(
            401, "a login must come back as it was sent, but this one did not; start again at /login"
        ) from error
    claims: dict[str, Any] = token.get("userinfo") or {}
    address = claims.get("email")
    if not isinstance(address, str) or claims.get("email_verified") is not True:
        raise Problem(
            401,
            "a login needs an e-mail address that the provider has verified, but this one has none; verify it there",
        )
    log_in(request, who=address.lower())
    await run_in_threadpool(_note, request, address.lower())
    return RedirectResponse(HOME_PAGE, 303)


@router.post("/login/token", dependencies=[Depends(require_csrf)])
def with_token(request: Request, token: Annotated[str, Form(max_length=200)]) -> Response:
    """Log in with an API token, where there is no identity provider or a script drives a browser."""
    checker: TokenChecker = request.app.state.tokens
    rates: RateLimiter = request.app.state.rates
    rates.require(f"address:{request.client.host if request.client else 'unknown'}")
    try:
        found = checker.check(token.strip())
    except BadToken as error:
        raise Problem(401, str(error)) from error
    log_in(request, token=found.id)
    _note(request, f"token:{found.id}")
    return RedirectResponse(HOME_PAGE, 303)


@router.post("/logout", dependencies=[Depends(check_csrf)])
def log_out(request: Request) -> Response:
    """End the session."""
    request.session.clear()
    return RedirectResponse(HOME_PAGE, 303)


def _note(request: Request, who: str) -> None:
    request.app.state.store.record_event("logged in", actor=who)


def _client(request: Request) -> Any:
    oauth = request.app.state.oauth
    if oauth is None:
        raise Problem(404, "a login needs an identity provider, but none is set up; log in with a token at /login")
    return oauth.create_client(_PROVIDER)


def _unreachable(error: Exception) -> Problem:
    LOGGER.error("the identity provider is not in reach: %s", error)
    return Problem(503, "the identity provider must be in reach, but is not; try again", headers={"Retry-After": "10"})
