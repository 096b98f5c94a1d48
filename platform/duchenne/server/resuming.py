"""What makes a sweep go on after somebody asked for it here: this server starts no driver, it says who can."""

from __future__ import annotations

from dataclasses import dataclass

from duchenne.clusters.file import LOCAL
from duchenne.records import Sweep


@dataclass(frozen=True)
class WayOn:
    """The command that starts a driver anew, and where it is to be run."""

    command: str
    where: str

    @classmethod
    def of(cls, sweep: Sweep) -> WayOn:
        """By the cluster that the spec names; a name that was given to `submit` instead is not on record."""
        cluster = sweep.spec.get("cluster", LOCAL)
        if cluster != LOCAL:
            return cls(f"duchenne resume {sweep.id} --cluster {cluster}", "where a clusters file has that cluster")
        return cls(
            f"duchenne resume {sweep.id}",
            "on the machine of its home; with --cluster NAME where it was submitted to a Ray or Kubernetes cluster",
        )

    @property
    def line(self) -> str:
        """What asking has done, and the next step."""
        return (
            "the wish is on record, and nothing runs by that: this server starts no driver; "
            f"run `{self.command}` {self.where}"
        )
