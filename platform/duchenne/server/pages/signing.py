"""The page to sign in on, and the theme. What checks a token or asks an identity provider is `server.login`'s."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import RedirectResponse, Response

from duchenne.server.access import Configured, Who, check_csrf
from duchenne.server.pages.links import own_path
from duchenne.server.pages.rendering import THEME_COOKIE, Theme, page

router = APIRouter(include_in_schema=False)
_YEAR = 365 * 24 * 3600


@router.get("/login")
def login(request: Request, who: Who, settings: Configured) -> Response:
    """The ways to sign in."""
    return page(request, who, "login.html", oidc=settings.oidc)


@router.post("/theme", dependencies=[Depends(check_csrf)])
def set_theme(
    settings: Configured, theme: Annotated[Theme, Form()], back: Annotated[str, Form(max_length=2000)] = "/"
) -> Response:
    """Remember light, dark or as the system says, in a cookie, and go back to the page."""
    answer = RedirectResponse(own_path(back), 303)
    answer.set_cookie(THEME_COOKIE, theme, max_age=_YEAR, samesite="lax", httponly=True, secure=settings.secure)
    return answer
