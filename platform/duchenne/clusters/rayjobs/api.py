"""Ray's job API and state API: calls that are tried again, and refusals in one line."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from duchenne.clusters.config import RayCluster
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.port import Json, one_line

TRIES = 5
_UNAUTHENTICATED = "AuthenticationError"  # of ray.exceptions: not imported where Ray's client is not
_OVERRIDES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # Ray's client takes these before its argument


class LostError(ClusterError):
    """No answer, or a server's fault: another try may help."""


class RayApi:
    """Calls of one Ray cluster.

    Every call ends within its tries: server errors and lost connections are tried again; what is left is a
    `ClusterError` of one line.

    Args:
        cluster: where, and which environment variable holds the token.
        pause_seconds: the first pause between two tries.
    """

    def __init__(self, cluster: RayCluster, pause_seconds: float = 1.0) -> None:
        self._cluster = cluster
        self._pause = pause_seconds

    def submit(self, entrypoint: str, metadata: dict[str, str], runtime_env: Json, job: str) -> str:
        """Sends a job once, under the id `job`: another try first looks whether the one before has arrived."""
        tried = 0

        def once() -> str:
            nonlocal tried
            tried += 1
            if tried > 1 and any(known.submission_id == job for known in self._client.list_jobs()):
                return job  # the answer was lost, not the job
            sent: str = self._client.submit_job(
                entrypoint=entrypoint, submission_id=job, metadata=metadata, runtime_env=runtime_env
            )
            return sent

        return str(self._try(once))

    def jobs(self) -> list[Any]:
        """All jobs, as `ray.job_submission.JobDetails`."""
        return list(self._try(lambda: self._client.list_jobs()))

    def status(self, job: str) -> str:
        """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
        return str(self._try(lambda: self._client.get_job_status(job)).value)

    def log(self, job: str) -> str:
        """All that a job printed so far."""
        return str(self._try(lambda: self._client.get_job_logs(job)))

    def stop(self, job: str) -> None:
        """Ends a job: SIGTERM, then SIGKILL."""
        self._try(lambda: self._client.stop_job(job))

    def tail(self, job: str) -> Iterator[str]:
        """The log as it comes. A connection that breaks is made anew, and what was seen is left out."""
        seen = 0
        for attempt in range(TRIES):
            passed = 0
            try:
                for chunk in _in_turn(self._client.tail_job_logs(job)):
                    passed += len(chunk)
                    fresh = chunk[max(0, len(chunk) - (passed - seen)) :] if passed > seen else ""
                    seen = max(seen, passed)
                    if fresh:
                        yield fresh
                return
            except (RuntimeError, OSError) as error:
                if attempt + 1 == TRIES:
                    raise self._refusal(error) from None
            time.sleep(self._pause)

    def nodes(self) -> list[dict[str, float]]:
        """Resources of each node that is alive, by Ray's own state API."""
        document = self._try(lambda: self._get("/api/v0/nodes?detail=true&limit=10000"))
        rows = document["data"]["result"]["result"]
        return [row["resources_total"] for row in rows if row["state"] == "ALIVE"]

    def version(self) -> str:
        """The version of Ray there."""
        return str(self._try(lambda: self._get("/api/version"))["ray_version"])

    @cached_property
    def _client(self) -> Any:
        from ray.job_submission import JobSubmissionClient

        for variable in _OVERRIDES:
            if variable in os.environ:
                raise ClusterError(
                    f"Ray's client must go to {self._cluster.address}, but would go to what {variable} says; unset it"
                )
        with self._told():
            return JobSubmissionClient(self._cluster.address, headers=self._headers)

    @property
    def _headers(self) -> dict[str, str]:
        token = os.environ.get(self._cluster.token_env)
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _get(self, path: str) -> Json:
        asked = urllib.request.Request(self._cluster.address.rstrip("/") + path, headers=self._headers)  # noqa: S310
        with self._told(), urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310 - http(s), see config
            document: Json = json.load(answer)
            return document

    def _try(self, call: Callable[[], Any]) -> Any:
        """A call of which another try may help, when the connection is lost or the server has a fault."""
        for attempt in range(TRIES):
            try:
                with self._told():
                    return call()
            except LostError:
                if attempt + 1 == TRIES:
                    raise
            time.sleep(self._pause * attempt)
        raise AssertionError("a try ends with a result or an error")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What Ray's client raises, as one line."""
        try:
            yield
        except ClusterError:
            raise
        except Exception as error:
            if isinstance(error, (OSError, RuntimeError)) or type(error).__name__ == _UNAUTHENTICATED:
                raise self._refusal(error) from None
            raise

    def _refusal(self, error: Exception) -> ClusterError:
        text, where = one_line(str(error), 300), self._cluster.address
        status = error.code if isinstance(error, urllib.error.HTTPError) else _status_in(text)
        if type(error).__name__ == _UNAUTHENTICATED or status in (401, 403):
            given = "it is set" if os.environ.get(self._cluster.token_env) else "it is not set"
            return ClusterError(
                f"the Ray cluster at {where} must accept the token in {self._cluster.token_env}, but does not "
                f"({given}); set it to the cluster's"
            )
        if isinstance(error, OSError) and status is None:
            return LostError(f"the Ray cluster at {where} must answer, but does not ({text}); is its dashboard there?")
        kind = LostError if status is not None and status >= 500 else ClusterError
        return kind(f"the Ray cluster at {where} refuses: {text}; see `duchenne doctor`")


def _in_turn(stream: Any) -> Iterator[str]:
    """An asynchronous iterator, one item after another."""
    loop = asyncio.new_event_loop()
    try:
        while True:
            try:
                yield loop.run_until_complete(anext(stream))
            except StopAsyncIteration:
                return
    finally:
        loop.run_until_complete(stream.aclose())
        loop.close()


def _status_in(text: str) -> int | None:
    match = re.search(r"status code (\d{3})", text)
    return int(match[1]) if match else None
