"""Ray's job API where it fails half-way: a log that breaks off, a job whose answer is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from duchenne.clusters.config import RayCluster
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.rayjobs.api import TRIES, RayApi

CLUSTER = RayCluster(address="http://127.0.0.1:8265")
CHUNKS = ["first\nsec", "ond\n", "third\n"]


class Client:
    """Of Ray's client what is asked here: each try gets further before it breaks."""

    def __init__(self, breaks_after: list[int], arrives: bool = False) -> None:
        self.breaks_after, self.arrives = breaks_after, arrives
        self.sent: list[str] = []
        self.known: list[str] = []

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        after = self.breaks_after.pop(0) if self.breaks_after else len(CHUNKS)
        for chunk in CHUNKS[:after]:
            yield chunk
        if after < len(CHUNKS):
            raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")

    def submit_job(self, *, submission_id: str, **_: Any) -> str:
        self.sent.append(submission_id)
        if self.arrives:
            self.known.append(submission_id)
        raise ConnectionError("Connection reset by peer")

    def list_jobs(self) -> list[Any]:
        return [SimpleNamespace(submission_id=job) for job in self.known]


def api(client: Client) -> RayApi:
    made = RayApi(CLUSTER, pause_seconds=0)
    vars(made)["_client"] = client  # what the cached property would hold
    return made


@pytest.mark.parametrize("breaks_after", [[], [1], [2, 0, 1], [1, 1, 2, 2]])
def test_a_log_that_breaks_off_goes_on_where_it_was(breaks_after: list[int]) -> None:
    assert "".join(api(Client(breaks_after)).tail("job")) == "".join(CHUNKS)


def test_a_log_that_keeps_breaking_is_one_line() -> None:
    with pytest.raises(ClusterError, match="closed unexpectedly") as caught:
        list(api(Client([1] * TRIES)).tail("job"))
    assert "\n" not in str(caught.value)


def test_a_job_whose_answer_was_lost_is_sent_once() -> None:
    client = Client([], arrives=True)
    assert api(client).submit("command", {}, {}, "job") == "job"
    assert client.sent == ["job"]


def test_a_job_that_does_not_arrive_is_sent_again_and_then_told() -> None:
    client = Client([])
    with pytest.raises(ClusterError, match="must answer, but does not"):
        api(client).submit("command", {}, {}, "job")
    assert client.sent == ["job"] * TRIES
