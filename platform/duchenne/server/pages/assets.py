"""Static files: style sheet and script. Their address holds a digest of their content, so browsers keep them."""

from __future__ import annotations

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope


class Assets(StaticFiles):
    """The files of one folder, for a year."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The file, or its 404."""
        answer = await super().get_response(path, scope)
        if answer.status_code == 200 and b"v=" in scope["query_string"]:
            answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return answer
