"""A team's month: read from `teams.yaml`, summed over its sweeps, and never overrun by any of them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duchenne.plan.teams import TeamBudgetSpent, require_room, team_limits
from duchenne.records import Amounts, Lease, NewSweep, RecordStore, Refusal, open_store
from duchenne.spec import SpecError

LIMITS = Amounts(usd=10.0)


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[RecordStore]:
    with open_store(tmp_path / "records.sqlite", clock=clock) as opened:
        yield opened


def new_sweep(store: RecordStore, team: str = "faces") -> str:
    new = NewSweep(name="s", team=team, board="b", spec={}, spec_text="", spec_digest="", dataset_uri="")
    return store.create_sweep(new).id


def reserve(store: RecordStore, sweep: str, usd: float, limits: Amounts | None = LIMITS) -> Lease | Refusal:
    amounts = Amounts(usd=usd)
    return store.ledger.reserve(sweep, amounts, ttl=60, holder="w", kind="fold_job", team=limits)


def test_the_sweeps_of_a_team_share_its_month(store: RecordStore) -> None:
    one, two, other = new_sweep(store), new_sweep(store), new_sweep(store, "voices")
    first = reserve(store, one, 6.0)
    assert isinstance(first, Lease)
    refusal = reserve(store, two, 5.0)
    assert isinstance(refusal, Refusal)
    assert "must hold for team faces this month, but it has 0 + 6 + 5 > 10 usd" in refusal.reason
    assert isinstance(reserve(store, other, 9.0), Lease)
    store.ledger.settle(first.id, Amounts(usd=1.0))
    second = reserve(store, two, 5.0)
    assert isinstance(second, Lease)
    assert isinstance(store.ledger.renew(second.id, Amounts(usd=5.0), ttl=60, team=LIMITS), Refusal)
    assert store.ledger.renew(second.id, Amounts(usd=4.0), ttl=60, team=LIMITS) is None


def test_a_new_month_begins_with_what_is_still_open(store: RecordStore, clock: Clock) -> None:
    sweep = new_sweep(store)
    settled, still_open = reserve(store, sweep, 4.0), reserve(store, sweep, 3.0)
    assert isinstance(settled, Lease)
    assert isinstance(still_open, Lease)
    store.ledger.settle(settled.id, Amounts(usd=4.0))
    clock.time = datetime(2026, 4, 1, tzinfo=UTC)
    month = store.ledger.month("faces")
    assert (month["spent"].usd or 0.0, month["reserved"].usd) == (0.0, 3.0)
    assert isinstance(reserve(store, sweep, 7.0), Lease)


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["reserve", "settle", "wait"]), st.integers(1, 9)), max_size=25
    )
)
@settings(max_examples=15, deadline=None)
def test_no_order_of_leases_overruns_a_month(
    steps: list[tuple[int, str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    clock = Clock()
    with open_store(tmp_path_factory.mktemp("teams") / "records.sqlite", clock=clock) as store:
        sweeps = [new_sweep(store) for _ in range(3)]
        held: list[Lease] = []
        settled: dict[int, float] = {}
        for sweep, what, amount in steps:
            if what == "reserve":
                answer = reserve(store, sweeps[sweep], float(amount))
                held += [answer] if isinstance(answer, Lease) else []
            elif what == "settle" and held:
                lease = held.pop(0)
                spent = min(float(amount), lease.reserved.usd or 0.0)
                store.ledger.settle(lease.id, Amounts(usd=spent))
                settled[clock.time.month] = settled.get(clock.time.month, 0.0) + spent
            elif what == "wait":
                clock.time += timedelta(hours=12 * amount)
            in_hand = sum(lease.reserved.usd or 0.0 for lease in held)
            assert settled.get(clock.time.month, 0.0) + in_hand <= 10.0 + 1e-9


def test_a_sweep_that_would_exceed_the_month_is_refused_at_the_start(store: RecordStore) -> None:
    lease = reserve(store, new_sweep(store), 6.0)
    assert isinstance(lease, Lease)
    require_room(store, "faces", LIMITS, Amounts(usd=4.0), priced=True)
    require_room(store, "faces", LIMITS, Amounts(), priced=True)  # its leases are refused when the month is used up
    require_room(store, "faces", None, Amounts(usd=1e9), priced=False)
    with pytest.raises(TeamBudgetSpent) as caught:
        require_room(store, "faces", LIMITS, Amounts(usd=4.5), priced=True)
    assert str(caught.value) == (
        "budget.usd: a sweep must fit what its team has left of the month, but it may spend 4.5 and team faces has 4 "
        "of 10 left; lower it, raise teams.yaml, or wait for the next month"
    )
    with pytest.raises(TeamBudgetSpent, match="so that its sweeps need a price"):
        require_room(store, "faces", LIMITS, Amounts(), priced=False)
    hour = Amounts(gpu_seconds=3600)
    used = store.ledger.reserve(new_sweep(store), hour, ttl=60, holder="w", kind="fold_job")
    assert isinstance(used, Lease)
    with pytest.raises(
        TeamBudgetSpent, match=r"budget\.gpu_hours: .* may spend no limit and team faces has 0 of 1 left"
    ):
        require_room(store, "faces", hour, Amounts(), priced=True)


def test_teams_are_read_from_the_home(tmp_path: Path) -> None:
    assert team_limits(tmp_path, "faces") is None
    path = tmp_path / "teams.yaml"
    path.write_text("faces: {usd_per_month: 100, gpu_hours_per_month: 2}\n")
    assert team_limits(tmp_path, "faces") == Amounts(usd=100.0, gpu_seconds=7200.0)
    assert team_limits(tmp_path, "voices") is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("faces: {usd_per_month: -1}", "1: faces.usd_per_month: must be > 0, got -1, raise it"),
        (
            "a: {usd_per_month: 1}\nfaces: {usd_a_month: 1}",
            "2: faces.usd_a_month: unknown field, got usd_a_month",
        ),
        ("faces: {}", "1: faces: a team must have a limit, got none, set usd_per_month or gpu_hours_per_month"),
        ("", "1: (document): must be a mapping, got an empty file, write `team: {usd_per_month: 100}`"),
    ],
)
def test_a_wrong_teams_file_is_refused_at_its_line(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "teams.yaml"
    path.write_text(text)
    with pytest.raises(SpecError) as caught:
        team_limits(tmp_path, "faces")
    assert str(caught.value).startswith(f"{path}:{line}")
