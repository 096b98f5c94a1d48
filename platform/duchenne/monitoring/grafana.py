"""Puts the dashboards into a Grafana, over its HTTP API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from duchenne.monitoring.errors import MonitoringError

FOLDER_UID: Final = "duchenne"
FOLDER_TITLE: Final = "Duchenne"
SECONDS: Final = 15.0
RETRIES: Final = 2  # of connections that could not be made
_EXISTS: Final = (409, 412)


def push(
    url: str, token: str, dashboards: Mapping[str, Mapping[str, Any]], *, folder: str = FOLDER_TITLE
) -> dict[str, str]:
    """Create or overwrite the dashboards in a folder, which is made where it is missing.

    Args:
        url: of Grafana, without `/api`.
        token: of a service account that may write dashboards; never shown.
        dashboards: by uid.

    Returns:
        uid -> address of each dashboard.

    Raises:
        MonitoringError: not an address, out of reach, or refused; what was pushed before stays.
    """
    call = _Caller(url, token)
    answer = call("POST", "/api/folders", {"uid": FOLDER_UID, "title": folder}, allowed=_EXISTS)
    uid = str(answer.get("uid") or FOLDER_UID)
    pushed = {}
    for name, dashboard in dashboards.items():
        body = {"dashboard": dashboard, "folderUid": uid, "overwrite": True, "message": "duchenne grafana push"}
        answer = call("POST", "/api/dashboards/db", body)
        pushed[name] = call.base + str(answer.get("url", ""))
    return pushed


class _Caller:
    """Calls of one Grafana. Errors hold its host and its own words, never the token."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise MonitoringError(
                "--url must be http(s)://HOST[:PORT] of a Grafana, without credentials, but got another; correct it"
            )
        if not token or not token.isascii() or not token.isprintable():
            raise MonitoringError("a token must be one line of printable text, but got another; copy it again")
        self.base = url.rstrip("/")
        self._host = parts.netloc
        self._token = token

    def __call__(self, method: str, path: str, body: Any, allowed: tuple[int, ...] = ()) -> dict[str, Any]:
        from grafana_api.api import Api  # type: ignore[import-untyped]
        from grafana_api.model import APIModel, RequestsMethods  # type: ignore[import-untyped]
        from httpx import HTTPError

        model = APIModel(
            host=self.base, token=self._token, timeout=SECONDS, retries=RETRIES, follow_redirects=False, headers={}
        )
        try:
            answer = Api(model).call_the_api(path, RequestsMethods[method], json.dumps(body), response_status_code=True)
        except HTTPError as error:
            # The package raises this for a refused token too; its text is then Grafana's.
            reason = self._told(str(error)) or type(error).__name__
            raise MonitoringError(
                f"Grafana at {self._host} must answer, but {reason}; "
                "check --url and the token, which must be that of a service account"
            ) from None
        except (AttributeError, IndexError):  # the package's, where the answer is a list
            answer = []
        if not isinstance(answer, dict):
            raise MonitoringError(f"Grafana at {self._host} must answer with an object, but did not; check --url")
        status = int(answer["status"])
        if status != 200 and status not in allowed:
            hint = "write the final address" if 300 <= status < 400 else "check the token's permissions and the address"
            said = self._told(str(answer.get("message") or "no reason given"))
            raise MonitoringError(f"Grafana at {self._host} must take {path}, but answered {status} ({said}); {hint}")
        if status == 200 and "uid" not in answer:
            raise MonitoringError(
                f"{self._host} must be a Grafana, but answered {path} like something else; check --url"
            )
        return answer

    def _told(self, text: str) -> str:
        """The first line of what the other side said, without the token."""
        return (text.splitlines() or [""])[0].replace(self._token, "***")[:200]
