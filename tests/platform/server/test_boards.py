"""Boards through the API: what stands there, and for whose eyes."""

from __future__ import annotations

from typing import Any

from duchenne.server.registration import register_pending


def test_entries_are_verified_ranked_and_paged(world: Any) -> None:
    sweep = world.sweep()
    for method, skill in (("best", 0.98), ("good", 0.8), ("poor", 0.4)):
        world.entry(sweep, skill, method, cost_usd=10 * skill)
    assert register_pending(world.store, world.settings) == 3
    client = world.client(world.token(role="viewer"))
    page = client.get("/api/v1/boards/faces.disfa/entries", params={"limit": 2}).json()
    lines = page["items"]
    assert [(line["method"], line["verified"]) for line in lines] == [("best", "verified"), ("good", "verified")]
    assert (lines[0]["rank_low"], lines[0]["seeds"], lines[0]["subjects"]) == (1, 2, 9)
    assert (page["total"], [task["task"] for task in lines[0]["tasks"]]) == (3, ["AU1", "AU4", "AU12"])
    assert lines[0]["ci_low"] <= lines[0]["f1_mean"] <= lines[0]["ci_high"]
    assert lines[0]["f1_deflated"] < lines[0]["f1_mean"]
    rest = client.get("/api/v1/boards/faces.disfa/entries", params={"limit": 2, "cursor": page["next"]}).json()
    assert ([line["method"] for line in rest["items"]], rest["next"]) == (["poor"], None)
    frontier = client.get("/api/v1/boards/faces.disfa/frontier").json()["items"]
    assert [line["method"] for line in frontier] == ["poor", "good", "best"]
    found = client.get(f"/api/v1/entries/{sweep.id}.best").json()
    assert found["metrics"]["f1_macro"] == lines[0]["f1_mean"]
    assert found["code_revision"] == "abc123"
    difference = client.get(f"/api/v1/entries/{sweep.id}.best/compare/{sweep.id}.poor").json()
    assert difference["ci_low"] > 0
    assert difference["config"] == {"model.name": ["best", "poor"]}
    report = client.get(f"/api/v1/entries/{sweep.id}.best/report").json()
    assert report["tasks"] == ["AU1", "AU4", "AU12"]


def test_the_server_and_the_command_line_rank_alike(world: Any) -> None:
    from duchenne.boards import rank

    sweep = world.sweep()
    for method, skill in (("a", 0.9), ("bb", 0.85), ("ccc", 0.5)):
        world.entry(sweep, skill, method)
    register_pending(world.store, world.settings)
    page = world.client(world.token()).get("/api/v1/boards/faces.disfa/entries").json()["items"]
    keys = ("entry", "f1_mean", "ci_low", "ci_high", "rank_low", "rank_high")
    expected = [tuple(getattr(row, key) for key in keys) for row in rank(world.store, "disfa", root=world.home)]
    assert [tuple(line[key] for key in keys) for line in page] == expected


def test_a_private_board_is_invisible_in_lists_counts_and_errors(world: Any) -> None:
    theirs, mine = world.sweep(team="others", name="theirs"), world.sweep(name="mine")
    world.entry(theirs, 0.9, "secret")
    world.entry(mine, 0.5, "open")
    register_pending(world.store, world.settings)
    admin = world.client(world.token(role="admin"))
    client = world.client(world.token(role="admin"))
    anonymous = world.client()
    assert [board["id"] for board in client.get("/api/v1/boards").json()["items"]] == ["faces.disfa"]
    assert [line["id"] for line in client.get("/api/v1/sweeps").json()["items"]] == [mine.id]
    addresses = [
        "/boards/others.disfa",
        "/boards/others.disfa/entries",
        "/boards/others.disfa/references",
        f"/entries/{theirs.id}.secret",
        f"/entries/{mine.id}.open/compare/{theirs.id}.secret",
        *(f"/sweeps/{theirs.id}{part}" for part in ("", "/live", "/trials", "/jobs", "/results", "/cost", "/events")),
        f"/sweeps/{theirs.id}/figures",
        "/teams/others",
        "/teams/others/spend",
        "/teams/others/members",
        "/teams/others/tokens",
    ]
    for address in addresses:
        hidden = client.get(f"/api/v1{address}")
        absent = client.get(f"/api/v1{address.replace('others', 'nobody').replace(theirs.id, 'theirs-0000')}")
        assert (hidden.status_code, absent.status_code) == (404, 404), address
        # The same words for what is hidden and for what is not there, but for the name that was asked for.
        told = hidden.json()["detail"].replace("others", "nobody").replace(theirs.id, "theirs-0000")
        assert told == absent.json()["detail"], address
        assert anonymous.get(f"/api/v1{address}").status_code in (401, 404), address
    for method, address, body in (
        ("POST", f"/sweeps/{theirs.id}/stop", None),
        ("PUT", "/boards/others.disfa/visibility", {"public": True}),
        ("POST", "/teams/others/tokens", {"name": "x", "role": "admin"}),
    ):
        assert client.request(method, f"/api/v1{address}", json=body).status_code == 404, address
    audit = client.get("/api/v1/audit").json()["items"]
    assert {line["team"] for line in audit} == {"faces"}
    assert admin.put("/api/v1/boards/faces.disfa/visibility", json={"public": True}).json()["published"] is True
    listed = [board["id"] for board in anonymous.get("/api/v1/boards").json()["items"]]
    assert listed == ["disfa"]
    page = anonymous.get("/api/v1/boards/disfa/entries").json()
    assert ([line["method"] for line in page["items"]], page["total"]) == (["open"], 1)
    assert page["items"][0]["rank_high"] == 1, "ranks count what is on the board, not what is hidden"
    detail = anonymous.get(f"/api/v1/entries/{mine.id}.open").json()
    assert (detail["dataset_uri"], detail["image"]) == (None, None)
    assert anonymous.get(f"/api/v1/sweeps/{mine.id}").status_code == 404
    assert any(row["method"] == "monet" for row in anonymous.get("/api/v1/boards/disfa/references").json())


def test_a_board_that_did_not_change_is_not_sent_again(world: Any) -> None:
    sweep = world.sweep()
    world.entry(sweep, 0.9, "a")
    register_pending(world.store, world.settings)
    client = world.client(world.token())
    first = client.get("/api/v1/boards/faces.disfa/entries")
    again = client.get("/api/v1/boards/faces.disfa/entries", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    world.entry(sweep, 0.5, "b")
    register_pending(world.store, world.settings)
    later = client.get("/api/v1/boards/faces.disfa/entries", headers={"If-None-Match": first.headers["etag"]})
    assert later.status_code == 200


def test_filters_are_values_and_nothing_else(world: Any) -> None:
    world.entry(world.sweep(), 0.9, "a")
    register_pending(world.store, world.settings)
    client = world.client(world.token())
    for sql in ("' OR '1'='1", "faces'; DROP TABLE standing; --", 'x" OR 1=1 --', "\x00"):
        for name in ("team", "method"):
            answer = client.get("/api/v1/boards/faces.disfa/entries", params={name: sql})
            assert (answer.status_code, "correct it" in answer.json()["detail"]) == (422, True), sql
        for address, name in (("sweeps", "board"), ("sweeps", "team"), ("audit", "actor"), ("audit.csv", "sweep")):
            assert client.get(f"/api/v1/{address}", params={name: sql}).status_code == 422, (address, sql)
        for name in ("sort", "status", "cursor", "min_cost", "since"):
            answer = client.get("/api/v1/boards/faces.disfa/entries", params={name: sql})
            assert answer.status_code in (400, 422), (name, sql)
            assert answer.headers["content-type"] == "application/problem+json"
    plain = client.get("/api/v1/boards/faces.disfa/entries", params={"team": "x OR 1=1 --"})
    assert (plain.status_code, plain.json()["items"]) == (200, []), "a name that nobody has"
    assert client.get("/api/v1/boards/faces.disfa/entries").json()["total"] == 1
