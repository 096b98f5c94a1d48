"""What the API takes and gives, as it stands in openapi.json. Unknown is null, never 0; fractions, never percent."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from duchenne.records.board_rows import Board, Member, Role, Standing, TaskNumber, Team, Token
from duchenne.records.rows import Amounts, Phase
from duchenne.server.queries import TeamSpend
from duchenne.spec.sections import Slug

Item = TypeVar("Item")
# Printable, so that a name or note can stand in any log, page or CSV; markup is text like any other there.
Line = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")
]
Method = Annotated[str, Field(pattern=r"^[a-z0-9]([-_a-z0-9]{0,58}[a-z0-9])?$")]
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-zA-Z-]{1,64}$")]
Count = Annotated[int, Field(ge=0, lt=2**31)]
Amount = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class Shape(BaseModel):
    """Base of every body that is taken: what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PageOf(BaseModel, Generic[Item]):
    """A page of a list. Send `next` as `cursor` for what follows; null at the end. `total` is null where uncounted."""

    items: list[Item]
    next: str | None
    total: int | None = None


class BoardOut(BaseModel):
    """A board. `team` is null for a public one; `published`: whether the team's entries stand on the public one."""

    id: str
    name: str
    team: str | None
    published: bool
    entries: int
    version: str
    created_at: datetime

    @classmethod
    def of(cls, board: Board) -> BoardOut:
        """From the records'."""
        return cls.model_validate(board, from_attributes=True)


class EntryLine(BaseModel):
    """A line of a board: the columns of `duchenne leaderboard --json`, and more."""

    entry: str
    board: str
    team: str
    sweep: str | None
    method: str
    label: str
    kind: str
    verified: str
    reason: str | None
    rank_low: int | None
    rank_high: int | None
    cohort: str | None
    f1_mean: float | None
    ci_low: float | None
    ci_high: float | None
    f1_deflated: float | None
    auc: float | None
    f1_micro: float | None
    subset_accuracy: float | None
    log_loss: float | None
    accuracy: float | None
    f1_pooled: float | None
    auc_pooled: float | None
    calibration_error: float | None
    f1_inner_threshold: float | None
    f1_oracle: float | None
    seeds: int | None
    subjects: int | None
    cost_usd: float | None
    gpu_hours: float | None
    trials: int | None
    on_frontier: bool
    tasks: list[TaskNumber]
    created_at: datetime

    @classmethod
    def of(cls, standing: Standing) -> EntryLine:
        """From the records'. Its values were checked when they were recorded: a page has no time to do it again."""
        numbers = standing.numbers
        return cls.model_construct(
            entry=standing.entry,
            board=standing.board,
            team=standing.team,
            sweep=standing.sweep,
            method=standing.method,
            label=standing.label,
            kind=standing.kind,
            verified=standing.status,
            reason=standing.reason,
            rank_low=standing.rank_low,
            rank_high=standing.rank_high,
            cost_usd=standing.cost_usd,
            gpu_hours=standing.gpu_hours,
            trials=standing.trials,
            on_frontier=standing.on_frontier,
            created_at=standing.created_at,
            **(vars(numbers) | {"tasks": list(numbers.tasks)}),
        )


class AmountsOut(BaseModel):
    """Dollars, GPU-hours and seconds of wall time."""

    usd: float | None
    gpu_hours: float | None
    wall_seconds: float | None

    @classmethod
    def of(cls, amounts: Amounts) -> AmountsOut:
        """From the ledger's."""
        return cls(**amounts.as_json())


class TeamOut(BaseModel):
    """A team and its limits of a calendar month (UTC); null is no limit."""

    name: str
    role: Role
    usd_per_month: float | None
    gpu_hours_per_month: float | None

    @classmethod
    def of(cls, team: Team, role: Role) -> TeamOut:
        """From the records', as somebody of that role sees it."""
        return cls(
            name=team.name,
            role=role,
            usd_per_month=team.usd_per_month,
            gpu_hours_per_month=team.gpu_hours_per_month,
        )


class SpendOut(BaseModel):
    """A team's month: its limits, what is spent since its first day (UTC), and what open leases hold."""

    team: str
    month: str
    limits: AmountsOut
    spent: AmountsOut
    reserved: AmountsOut

    @classmethod
    def of(cls, spend: TeamSpend) -> SpendOut:
        """From the query's."""
        return cls(
            team=spend.team,
            month=spend.month,
            limits=AmountsOut.of(spend.limits),
            spent=AmountsOut.of(spend.spent),
            reserved=AmountsOut.of(spend.reserved),
        )


class TokenOut(BaseModel):
    """A token. Its text is in `token`, only in the answer that creates it."""

    id: str
    name: str
    team: str | None
    role: Role
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    token: str | None = None

    @classmethod
    def of(cls, token: Token, text: str | None = None) -> TokenOut:
        """From the records'."""
        return cls.model_validate(token, from_attributes=True).model_copy(update={"token": text})


class MemberOut(BaseModel):
    """A person of a team."""

    team: str
    who: str
    role: Role
    created_at: datetime

    @classmethod
    def of(cls, member: Member) -> MemberOut:
        """From the records'."""
        return cls.model_validate(member, from_attributes=True)


class TeamIn(Shape):
    """A team to be made."""

    name: Slug


class BudgetIn(Shape):
    """A team's limits of a calendar month (UTC); null is no limit."""

    usd_per_month: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None
    gpu_hours_per_month: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None


class TokenIn(Shape):
    """A token to be made: for this team, with this role, for so many days."""

    name: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80, pattern=r"^[^\x00-\x1f\x7f]*$")
    ]
    role: Role
    days: Annotated[int, Field(ge=1, le=3650)] = 90


class MemberIn(Shape):
    """A person's role."""

    role: Role


class VisibilityIn(Shape):
    """Whether a team's board stands on the public one of its name."""

    public: bool


class SweepIn(Shape):
    """A sweep that runs elsewhere, to be registered. `spec` is its file as `load_sweep` resolves it."""

    team: Slug
    spec: dict[str, Any]
    spec_text: Annotated[str, Field(max_length=500_000)] = ""
    dataset_digest: Digest
    folds_digest: Digest
    code_revision: Line | None = None
    image: Line | None = None


class ResultIn(Shape):
    """The metrics of one epoch of one fold job."""

    trial: Count | None = None
    phase: Phase
    method: Method
    fold: Annotated[int, Field(ge=0, le=1000)]
    inner: Annotated[int, Field(ge=0, le=1000)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    epoch: Count
    attempt: Annotated[int, Field(ge=1, le=1000)] = 1
    metrics: Annotated[dict[Method, float | None], Field(min_length=1, max_length=100)]


class ResultsIn(Shape):
    """Up to 1000 results."""

    results: Annotated[list[ResultIn], Field(min_length=1, max_length=1000)]


class Written(BaseModel):
    """How many results were new; the others were on record before."""

    received: int
    written: int


class EntryIn(Shape):
    """An entry of a registered sweep, whose predictions were uploaded before. `metrics`, where given, are checked."""

    method: Method
    label: Line
    config: dict[str, Any] = {}
    metrics: Annotated[dict[Method, float | None], Field(max_length=100)] = {}
    cost_usd: Amount | None = None
    gpu_hours: Amount | None = None
    trials: Count | None = None
