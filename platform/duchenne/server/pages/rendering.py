"""From a template and its values to the answer of a page."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal, get_args

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import HTMLResponse

from duchenne.server.access import Viewer, csrf_token
from duchenne.server.pages import links
from duchenne.server.pages.formats import FILTERS

THEME_COOKIE: Final = "duchenne_theme"
Theme = Literal["auto", "light", "dark"]
THEMES: Final[tuple[Theme, ...]] = get_args(Theme)
STATIC: Final = Path(str(files("duchenne.server.pages").joinpath("static")))


@cache
def environment() -> Environment:
    """The templates. Everything that is put into one is escaped, but for markup of our own making."""
    made = Environment(
        loader=PackageLoader("duchenne.server.pages"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
        auto_reload=False,
    )
    made.filters.update(FILTERS)
    made.globals.update(
        entry_path=links.entry_path,
        board_path=links.board_path,
        sweep_path=links.sweep_path,
        team_path=links.team_path,
        asset=asset,
    )
    return made


def fragment(template: str, **values: Any) -> Markup:
    """A part of a page."""
    return Markup(environment().get_template(template).render(values))  # noqa: S704 - autoescaped by the template


def page(request: Request, viewer: Viewer, template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A whole page, for one viewer: browsers ask again each time, and nothing in between keeps it."""
    theme = theme_of(request)
    html = (
        environment()
        .get_template(template)
        .render(
            {
                "viewer": viewer,
                "theme": theme,
                "next_theme": THEMES[(THEMES.index(theme) + 1) % len(THEMES)],
                "csrf": csrf_token(request) if "session" in request.scope else "",
                "here": _here(request),
                "path": request.url.path,
                **values,
            }
        )
    )
    return HTMLResponse(html, status, headers={"Cache-Control": "private, no-cache", "Vary": "Cookie, Authorization"})


def theme_of(request: Request) -> Theme:
    """Light or dark where the viewer chose one, else as their system says."""
    chosen = request.cookies.get(THEME_COOKIE)
    return next((theme for theme in THEMES if theme == chosen), "auto")


@cache
def asset(name: str) -> str:
    """The address of a static file, which changes with its content: browsers may keep it for good."""
    content = (STATIC / name).read_bytes()
    return f"/static/{name}?v={hashlib.sha256(content).hexdigest()[:10]}"


def _here(request: Request) -> str:
    """The page itself, to come back to; the address of a form that was posted is no page."""
    if request.method not in ("GET", "HEAD"):
        return "/"
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")
