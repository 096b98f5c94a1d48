"""Kubernetes behind the port that all clusters share."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from duchenne.clusters.config import KubernetesCluster
from duchenne.clusters.errors import ClusterError
from duchenne.clusters.kubernetes.api import Api, Refused
from duchenne.clusters.kubernetes.manifests import manifests, notes
from duchenne.clusters.kubernetes.observed import observed_cost, pods_are_gone
from duchenne.clusters.kubernetes.recorded import balance, end_recorded, recorded
from duchenne.clusters.kubernetes.submit import NothingToStop, require_ready, stop, submit
from duchenne.clusters.kubernetes.watching import logs, state_of, watch
from duchenne.clusters.limits import Limits
from duchenne.clusters.port import ENDED, Json, Listed, Status, listed_state
from duchenne.clusters.portable import SPEC_NAME
from duchenne.records.store import URL_VARIABLE
from duchenne.spec import Sweep
from duchenne.spec.loading import load_sweep_text

_UNTOLD = ("succeeded", "gone")  # a driver ends with 0 where another try can't help, and a stop leaves nothing to read


class KubernetesPort:
    """A namespace of a Kubernetes cluster. `api` is made from the kubeconfig when it is first needed.

    Args:
        cluster: its section of the clusters file.
        home: where this machine's `teams.yaml` is.
    """

    def __init__(self, cluster: KubernetesCluster, home: Path | None = None, api: Api | None = None) -> None:
        self._cluster = cluster
        self._home = home
        self._given = api

    @cached_property
    def _api(self) -> Api:
        return self._given or Api.connect(self._cluster)

    def preview(self, sweep: Sweep) -> list[Json]:
        """The RayJob, and the ConfigMap that it will own."""
        return manifests(sweep, self._cluster, home=self._home)

    def notes(self, sweep: Sweep) -> list[str]:
        """What a reader of the objects should know; one line each."""
        return notes(sweep, self._cluster)

    def submit(self, sweep: Sweep) -> str:
        """Create the objects; Kueue starts them when there is room."""
        return submit(sweep, self._cluster, self._api, home=self._home)

    def watch(self, sweep_id: str) -> Iterator[Status]:
        """Each new status, with the reason while it waits. A sweep without objects is `gone`."""
        for status in watch(sweep_id, self._api):
            record = recorded(sweep_id) if status.state in _UNTOLD else None
            if record is not None and record.state in ENDED:
                status = Status(record.state, record.error or status.detail)
            yield status

    def logs(self, sweep_id: str, follow: bool = False) -> Iterator[str]:
        """The driver's log, from the pod of the newest submitter."""
        return logs(sweep_id, self._api, follow)

    def stop(self, sweep_id: str) -> None:
        """Delete every object, wait until they are gone, and see that the records, where in reach, say so.

        One whose objects are gone already is refused, unless the records still take it for running.
        """
        try:
            stop(sweep_id, self._cluster, self._api)
        except NothingToStop:
            if not end_recorded(sweep_id):
                raise
        else:
            end_recorded(sweep_id)

    def resume(self, sweep_id: str, limits: Limits, sweep: Sweep | None = None) -> None:
        """Make the RayJob anew under the same id; its records say where it goes on."""
        kept = self._kept_spec(sweep_id)
        chosen = kept or sweep or self._recorded_spec(sweep_id)
        if chosen is None:
            raise ClusterError(
                f"the spec of {sweep_id} must be known to go on, but its objects are gone from namespace "
                f"{self._cluster.namespace}; name its file with --file S.yaml, or set {URL_VARIABLE}"
            )
        if kept is not None:
            require_ready(self._api, self._cluster.queue or chosen.metadata.team)  # before the spec is taken away
            stop(sweep_id, self._cluster, self._api)
        submit(chosen, self._cluster, self._api, sweep_id=sweep_id, home=self._home, limits=limits)

    def cost(self, sweep_id: str) -> Json:
        """What its pods cost so far, by their lifetimes (`observed`); the ledger's balance, where it is in reach.

        Raises:
            ClusterError: pods are deleted, and the ledger is out of reach: nobody here knows what they cost.
        """
        ledger = balance(sweep_id)
        try:
            job = self._api.ray_job(sweep_id)
        except Refused as refused:
            if refused.status != 404:
                raise
            if ledger is not None:
                return ledger
            raise ClusterError(
                f"a sweep must have objects to be looked at, but namespace {self._cluster.namespace} has none of "
                f"{sweep_id}; the records know what it cost: set {URL_VARIABLE}"
            ) from None
        pods = self._api.pods(f"duchenne.dev/sweep={sweep_id}")
        if ledger is None and pods_are_gone(job, pods):
            raise ClusterError(
                f"the cost of {sweep_id} must be read from its pods or its ledger, but pods of it are deleted; "
                f"set {URL_VARIABLE} to the records that its cluster writes"
            )
        seen = observed_cost(job, pods, datetime.now(UTC))
        return seen if ledger is None else {**ledger, "observed": seen["spent"]}

    def sweeps(self) -> list[Listed]:
        """The sweeps that have objects in the namespace. Trials and dollars are the records'."""
        jobs = sorted(self._api.ray_jobs(), key=lambda job: str(job["metadata"].get("creationTimestamp", "")))
        return [
            Listed(
                id=job["metadata"]["name"],
                name=job["metadata"]["name"].rpartition("-")[0],
                team=job["metadata"].get("labels", {}).get("duchenne.dev/team", ""),
                state=listed_state(state_of(job)),
            )
            for job in reversed(jobs)
        ]

    def _recorded_spec(self, sweep_id: str) -> Sweep | None:
        """The spec on record of a sweep that ended unfinished; None where the records are out of reach.

        Raises:
            ClusterError: it runs, or it succeeded.
        """
        record = recorded(sweep_id)
        if record is None:
            return None
        if record.state not in ENDED or record.state == "succeeded":
            raise ClusterError(
                f"a sweep must have ended unfinished to go on, but {sweep_id} is {record.state} on record; "
                f"{'stop it first' if record.state != 'succeeded' else 'nothing to do'}"
            )
        return Sweep.model_validate(record.spec)

    def _kept_spec(self, sweep_id: str) -> Sweep | None:
        """The spec of a sweep that ended and whose objects are still there; None where they are gone.

        Raises:
            ClusterError: it runs.
        """
        try:
            state = state_of(self._api.ray_job(sweep_id))
        except Refused as refused:
            if refused.status != 404:
                raise
            return None
        if state not in ENDED:
            raise ClusterError(
                f"a sweep must have ended to go on, but {sweep_id} is {state}; watch it, or stop it first"
            )
        return load_sweep_text(self._api.config_map(sweep_id)["data"][SPEC_NAME])
