"""Boards, teams, tokens and idempotency keys on each database."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest

from duchenne.records import NotFoundError, PredictionFile, RecordsConflictError, RecordsError, RecordStore
from duchenne.records.board_rows import External, NewStanding, Numbers, Sight, StandingFilter, Truth
from duchenne.records.cursors import CursorError
from duchenne.records.idempotency import KeyReusedError
from duchenne.records.standing_pages import SORTS
from duchenne.records.standings import place_standing

FACES, OTHERS, NOBODY = Sight(frozenset({"faces"})), Sight(frozenset({"others"})), Sight()


def place(store: RecordStore, entry: str, f1: float | None, **changes: Any) -> None:
    store.put_standing(standing(entry, f1, **changes))


def standing(entry: str, f1: float | None, *, team: str = "faces", **changes: Any) -> NewStanding:
    values: dict[str, Any] = {
        "entry": entry,
        "board_name": "disfa",
        "team": team,
        "sweep": None,
        "method": "monet",
        "label": "MONET",
        "kind": "external",
        "status": "verified",
        "reason": None,
        "numbers": Numbers(cohort="c", f1_mean=f1, f1_deflated=f1, auc=f1),
    }
    return NewStanding(**(values | changes))


def walk(store: RecordStore, sort: str, limit: int, wanted: StandingFilter | None = None) -> list[str]:
    seen, cursor = [], None
    for _ in range(100):
        page = store.standings(FACES, "faces.disfa", wanted=wanted, sort=sort, cursor=cursor, limit=limit)
        seen += [item.entry for item in page.items]
        cursor = page.next
        if cursor is None:
            return seen
    raise AssertionError("the pages never end")


def test_pages_hold_every_entry_once_in_any_order(store: RecordStore, clock: Any) -> None:
    costs, trials = [3.0, None, 1.0, 1.0, None, 2.0], [1, 2, None, 2, 4, 5]
    for index, f1 in enumerate([0.5, 0.7, None, 0.7, 0.1, 0.9]):
        place(store, f"e{index}", f1, cost_usd=costs[index], gpu_hours=costs[index], trials=trials[index])
        clock.advance(1)
    for name in SORTS:
        for sort in (name, f"-{name}"):
            whole = walk(store, sort, 50)
            assert sorted(whole) == [f"e{index}" for index in range(6)], sort
            for limit in (1, 2, 5):
                assert walk(store, sort, limit) == whole, (sort, limit)
    assert walk(store, "-f1", 50) == ["e5", "e3", "e1", "e0", "e4", "e2"]
    assert walk(store, "cost", 50)[-2:] == ["e1", "e4"], "unknown comes last"
    assert walk(store, "-cost", 50)[-2:] == ["e4", "e1"]
    assert walk(store, "date", 50) == [f"e{index}" for index in range(6)]
    cheap = StandingFilter(max_cost=1.5, status="verified", team="faces", method="monet", kind="external")
    assert walk(store, "-f1", 1, cheap) == ["e3", "e2"]
    since = StandingFilter(since=clock() - timedelta(seconds=3), until=clock() - timedelta(seconds=1))
    assert walk(store, "date", 50, since) == ["e3", "e4"]


def test_a_cursor_of_another_order_or_of_nobody_is_refused(store: RecordStore) -> None:
    place(store, "a", 0.5)
    place(store, "b", 0.4)
    cursor = store.standings(FACES, "faces.disfa", limit=1).next
    with pytest.raises(CursorError, match="same order"):
        store.standings(FACES, "faces.disfa", sort="cost", cursor=cursor)
    for wrong in ("", "x", "AAAA", "WyItZjEiLDEsMl0", "é", "W10", "eyJhIjoxfQ"):
        with pytest.raises(CursorError):
            store.standings(FACES, "faces.disfa", cursor=wrong)
    with pytest.raises(RecordsError, match="sorted by"):
        store.standings(FACES, "faces.disfa", sort="f1; DROP TABLE standing")


def test_a_board_is_its_teams_own_until_it_is_published(store: RecordStore) -> None:
    place(store, "a", 0.5)
    place(store, "o", 0.9, team="others")
    assert [board.id for board in store.visible_boards(FACES).items] == ["faces.disfa"]
    assert store.visible_boards(NOBODY).items == ()
    for hidden in (lambda: store.visible_board(OTHERS, "faces.disfa"), lambda: store.standing(OTHERS, "a")):
        with pytest.raises(NotFoundError, match="there is no"):
            hidden()
    store.publish_board("faces", "disfa", public=True, actor="me")
    assert [(board.id, board.entries) for board in store.visible_boards(NOBODY).items] == [("disfa", 1)]
    assert [item.entry for item in store.standings(NOBODY, "disfa").items] == ["a"], "the others' stays their own"
    assert store.standing(OTHERS, "a").board == "disfa"
    place(store, "b", 0.6)
    assert [item.entry for item in store.standings(NOBODY, "disfa").items] == ["b", "a"]
    store.publish_board("faces", "disfa", public=False, actor="me")
    assert store.standings(NOBODY, "disfa").items == ()
    assert store.visible_board(NOBODY, "disfa").entries == 0
    assert store.visible_board(FACES, "faces.disfa").entries == 2
    lines = [event.what for event in store.event_page(FACES).items]
    assert lines == ["team created", "board published", "board taken back"]
    assert [event.what for event in store.event_page(OTHERS).items] == ["team created"]


def test_the_frontier_is_what_nobody_undercuts(store: RecordStore) -> None:
    def frontier() -> list[str]:
        return [item.entry for item in store.frontier(FACES, "faces.disfa")]

    place(store, "dear", 0.9, cost_usd=9.0)
    place(store, "cheap", 0.5, cost_usd=1.0)
    place(store, "waste", 0.4, cost_usd=2.0)
    place(store, "unpriced", 0.99)
    assert frontier() == ["cheap", "dear"]
    place(store, "bargain", 0.95, cost_usd=1.0)
    assert frontier() == ["bargain"]
    place(store, "bargain", None, status="rejected", reason="no", cost_usd=1.0, numbers=Numbers())
    assert frontier() == ["cheap", "dear"], "a rejected entry undercuts nobody"


def test_an_external_entry_keeps_what_came_with_it(store: RecordStore) -> None:
    external = External(
        entry="x",
        description="theirs",
        upload_digest="sha256:1",
        uploaded_by="me",
        dataset_digest="sha256:d",
        folds_digest="sha256:f",
        metrics={"f1_macro": 0.5, "auc_macro": float("nan")},
        per_fold=[{"fold": 0}],
        predictions=(PredictionFile(fold=0, seed=0, path="p", digest="sha256:2"),),
    )
    place(store, "team", 0.1)
    with store.database.write() as session:
        place_standing(store.database, session, standing("x", 0.5), external)
    found = store.external("x")
    assert found is not None
    assert (found.predictions, found.metrics) == (external.predictions, {"f1_macro": 0.5, "auc_macro": None})
    assert store.external("team") is None
    store.save_truth(Truth(dataset_digest="sha256:d", folds_digest="sha256:f", path="t", digest="sha256:3"))
    later = Truth(dataset_digest="sha256:d", folds_digest="sha256:f", path="u", digest="sha256:4")
    assert store.save_truth(later).path == "t", "the first stands"
    assert [truth.path for truth in store.note_withdrawn(["sha256:d"], "left")] == ["t"]
    assert store.standing(FACES, "x").reason == "left"
    assert store.truth("sha256:d", "sha256:f") is None


def test_ranks_are_written_for_the_version_that_they_were_computed_for(store: RecordStore) -> None:
    place(store, "a", 0.5, resamples=b"\x00" * 16)
    version, cohorts = store.ranking_input("faces.disfa", best=10)
    assert [row.entry for row in cohorts["c"]] == ["a"]
    place(store, "b", 0.6, resamples=b"\x00" * 16)
    assert not store.save_ranks("faces.disfa", version, {"a": (1, 1)})
    version, _ = store.ranking_input("faces.disfa", best=10)
    assert store.unranked_boards() == ["faces.disfa"]
    assert store.save_ranks("faces.disfa", version, {"a": (1, 2), "b": (1, 2)})
    assert store.unranked_boards() == []
    assert store.standing(FACES, "a").rank_high == 2


def test_a_key_runs_its_effect_once_among_many_writers(store: RecordStore) -> None:
    runs: list[int] = []

    def effect(session: Any) -> tuple[int, Any]:
        runs.append(1)
        return 201, {"count": len(runs)}

    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(store.once("me", "k", "digest", effect))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(runs) == 1
    assert {answer.body["count"] for answer in answers} == {1}
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 7
    with pytest.raises(KeyReusedError, match="another body"):
        store.once("me", "k", "other", effect)
    assert store.once("you", "k", "digest", effect).body == {"count": 2}, "a key is its actor's"

    def fails(session: Any) -> tuple[int, Any]:
        raise RecordsConflictError("no")

    with pytest.raises(RecordsConflictError):
        store.once("me", "new", "digest", fails)
    assert store.earlier_answer("me", "new", "digest") is None, "what failed leaves its key new"


def test_old_keys_are_forgotten(store: RecordStore, clock: Any) -> None:
    store.once("me", "old", "d", lambda session: (200, None))
    clock.advance(3 * 24 * 3600)
    store.once("me", "new", "d", lambda session: (200, None))
    assert store.forget_old_keys() == 1
    assert store.earlier_answer("me", "new", "d") is not None


def test_a_team_has_a_plain_name(store: RecordStore) -> None:
    for name in ("", "A", "a b", "<b>x</b>", "a.b", "-a", "a" * 41, "x\x00y", "'; DROP TABLE team; --"):
        with pytest.raises(RecordsError, match="lower-case letters"):
            store.ensure_team(name)
    assert store.teams() == []


def test_members_budgets_and_tokens_are_on_the_audit(store: RecordStore, clock: Any) -> None:
    store.ensure_team("faces", actor="op")
    store.set_member("faces", "Ada@Example.org", "viewer", actor="op")
    store.set_member("faces", "ada@example.org", "admin", actor="op")
    assert store.roles_of("ADA@example.org") == {"faces": "admin"}
    with pytest.raises(RecordsError, match="e-mail"):
        store.set_member("faces", "<script>", "admin", actor="op")
    with pytest.raises(NotFoundError, match="team"):
        store.set_member("none", "a@b.c", "admin", actor="op")
    store.set_team_budget("faces", usd_per_month=10.0, gpu_hours_per_month=2.0, actor="op")
    budget = store.team_budget("faces")
    assert budget is not None
    assert (budget.usd, budget.gpu_seconds) == (10.0, 7200.0)
    options: Any = {"name": "ci", "team": "faces", "role": "submitter", "created_by": "op"}
    store.add_token("id1", "hash", **options, expires_at=clock() + timedelta(days=1))
    found = store.find_token("id1")
    assert found is not None
    assert found[:2] == (store.tokens("faces")[0], "hash")
    with pytest.raises(NotFoundError):
        store.revoke_token("id1", actor="op", team="others")
    first = store.revoke_token("id1", actor="op").revoked_at
    clock.advance(5)
    assert store.revoke_token("id1", actor="op").revoked_at == first
    assert store.remove_member("faces", "ada@example.org", actor="op")
    assert not store.remove_member("faces", "ada@example.org", actor="op")
    assert [event.what for event in store.event_page(FACES).items] == [
        "team created",
        "member set",
        "member set",
        "team budget changed",
        "token created",
        "token revoked",
        "member removed",
    ]
    assert store.event_page(OTHERS).items == ()
