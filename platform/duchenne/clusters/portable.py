"""A sweep as files that another machine can run: nothing in them refers to this one."""

from __future__ import annotations

from pathlib import Path

from duchenne.clusters.limits import Limits
from duchenne.clusters.port import Json
from duchenne.plan.teams import TEAMS_NAME, team_budget
from duchenne.spec import Sweep
from duchenne.spec.writing import to_yaml

SPEC_NAME = "sweep.yaml"


def portable_spec(sweep: Sweep) -> str:
    """The spec as written, with the prices that a file of this machine said."""
    spec: Json = sweep.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if sweep.prices.listed is not None:
        spec["prices"] = {"listed": sweep.prices.listed.model_dump(mode="json"), "spot": sweep.prices.spot}
    return to_yaml(spec)


def portable_files(sweep: Sweep, home: Path | None) -> dict[str, str]:
    """Name -> text: the spec, and what `HOME/teams.yaml` grants its team, where it does. Other teams' are left out.

    Raises:
        duchenne.spec.SpecError: the file of teams is wrong.
    """
    return {SPEC_NAME: portable_spec(sweep), **team_file(sweep.metadata.team, home)}


def team_file(team: str, home: Path | None) -> dict[str, str]:
    """The file of teams with one team alone; nothing where HOME grants it nothing."""
    budget = team_budget(home / TEAMS_NAME, team) if home is not None else None
    if budget is None:
        return {}
    return {TEAMS_NAME: to_yaml({team: budget.model_dump(exclude_none=True)})}


def entrypoint_words(spec: str, sweep_id: str, limits: Limits | None = None) -> list[str]:
    """Arguments of `duchenne` that start a sweep, or go on with it where the records have it, as a retry must."""
    return ["run", spec, "--id", sweep_id, "--supervised", *(limits or Limits()).words()]
