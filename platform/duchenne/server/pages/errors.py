"""Errors as pages: what was asked, why it failed, what to do next."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from duchenne.server.access import ANONYMOUS
from duchenne.server.pages.rendering import page
from duchenne.server.problems import ProblemBody

_HEADINGS = {
    401: "Sign in first",
    403: "Not yours to do",
    404: "Nothing here that you may see",
    409: "Not in this state",
    413: "Too much",
    422: "Something in the request is wrong",
    429: "Too fast",
    500: "The server failed",
    503: "Not in reach for a moment",
}
_NO_ADDRESS = "an address must exist"


def render_problem(request: Request, body: ProblemBody) -> Response:
    """The page of an error. It reads no records: they may be what failed."""
    detail = body.detail
    if body.status == 404 and detail.startswith(_NO_ADDRESS):
        detail = "No page has this address. It may have been mistyped, or what it showed is no longer in your sight."
    return page(
        request,
        ANONYMOUS,
        "problem.html",
        status=body.status,
        heading=_HEADINGS.get(body.status, body.title),
        problem=body,
        detail=detail,
        unknown_viewer=True,
    )
