"""What the store takes and gives of teams, tokens and boards: frozen dataclasses. `None` means unknown, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, Literal, TypeVar, get_args

from duchenne.records.rows import PredictionFile

Item = TypeVar("Item")

Role = Literal["viewer", "submitter", "admin"]
ROLES: tuple[str, ...] = get_args(Role)
"""From the least to the most: whoever may do more may do what comes before."""

Kind = Literal["sweep", "external"]
StandingStatus = Literal["verified", "unverified", "rejected", "published"]
STATUSES: tuple[str, ...] = get_args(StandingStatus)

PUBLIC_SEPARATOR = "."
"""Between the team and the name of a team's board: no name holds one."""


def team_board(team: str, name: str) -> str:
    """The id of a team's own board."""
    return f"{team}{PUBLIC_SEPARATOR}{name}"


@dataclass(frozen=True)
class Sight:
    """Whose rows may be read: those of `teams`, of every team where `everything`, and what is public."""

    teams: frozenset[str] = frozenset()
    everything: bool = False

    def sees(self, team: str) -> bool:
        """Whether the rows of that team may be read."""
        return self.everything or team in self.teams


@dataclass(frozen=True, kw_only=True)
class Team:
    """A team and its limits of a calendar month (UTC); None is no limit."""

    name: str
    usd_per_month: float | None
    gpu_hours_per_month: float | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Member:
    """A person of a team; `who` is the address that the identity provider vouches for."""

    team: str
    who: str
    role: Role
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Token:
    """An API token without its secret. `team` is None where it holds for every team."""

    id: str
    name: str
    team: str | None
    role: Role
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board as it is listed. `team` is None for a public one; `published`: whether the team's also stands there.

    `version` changes with every change of its standings and ranks.
    """

    id: str
    name: str
    team: str | None
    published: bool
    entries: int
    version: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class TaskNumber:
    """F1 of one task (an AU), mean over folds and seeds, with its interval."""

    task: str
    f1: float
    ci_low: float | None
    ci_high: float | None


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What the predictions of an entry give; everything None where they give nothing.

    Attributes:
        cohort: entries of one cohort share data, folds, subjects and labels; across cohorts nothing is compared.
        f1_deflated: `f1_mean` less what the best of so many equal trials is expected to gain by chance.
    """

    cohort: str | None = None
    f1_mean: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    f1_deflated: float | None = None
    auc: float | None = None
    f1_micro: float | None = None
    subset_accuracy: float | None = None
    log_loss: float | None = None
    accuracy: float | None = None
    f1_pooled: float | None = None
    auc_pooled: float | None = None
    calibration_error: float | None = None
    f1_inner_threshold: float | None = None
    f1_oracle: float | None = None
    seeds: int | None = None
    subjects: int | None = None
    tasks: tuple[TaskNumber, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One line of a board.

    Attributes:
        entry: its id; `board`: the board where it stands; `board_name`: what its sweep or upload named.
        kind: `sweep`, or `external` for predictions that were uploaded alone.
        status, reason: see `duchenne.server.verification`.
        rank_low, rank_high: the ranks that it may hold in its cohort; None below the best that are ranked.
        on_frontier: no entry of the board costs as little and scores as high.
    """

    entry: str
    board: str
    board_name: str
    team: str
    sweep: str | None
    method: str
    label: str
    kind: Kind
    status: StandingStatus
    reason: str | None
    numbers: Numbers
    rank_low: int | None
    rank_high: int | None
    cost_usd: float | None
    gpu_hours: float | None
    trials: int | None
    on_frontier: bool
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class NewStanding:
    """An entry to be put on its board. `resamples`: F1 on each bootstrap resample, as float64 bytes."""

    entry: str
    board_name: str
    team: str
    sweep: str | None
    method: str
    label: str
    kind: Kind
    status: StandingStatus
    reason: str | None
    numbers: Numbers
    cost_usd: float | None = None
    gpu_hours: float | None = None
    trials: int | None = None
    resamples: bytes | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class External:
    """What is kept of an entry that came as predictions alone."""

    entry: str
    description: str
    upload_digest: str
    uploaded_by: str
    dataset_digest: str
    folds_digest: str
    metrics: Mapping[str, Any]
    per_fold: Any
    predictions: tuple[PredictionFile, ...]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The file of a dataset's labels and test folds; `path` is relative to the home."""

    dataset_digest: str
    folds_digest: str
    path: str
    digest: str


@dataclass(frozen=True, kw_only=True)
class StandingFilter:
    """Which lines of a board; None leaves a filter out. Bounds are inclusive, dates from `since` to before `until`."""

    team: str | None = None
    method: str | None = None
    status: str | None = None
    kind: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_cost: float | None = None
    max_cost: float | None = None
    on_frontier: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Page(Generic[Item]):
    """Some of many: `next` is the cursor of what follows, None at the end; `total` is None where it was not counted."""

    items: tuple[Item, ...]
    next: str | None = None
    total: int | None = None
