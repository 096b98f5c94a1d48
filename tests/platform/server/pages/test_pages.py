"""The pages as a browser without JavaScript gets them: what stands on them, for whom, and what they refuse."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from duchenne.records.board_models import TeamRow
from duchenne.records.trials import TrialRow
from duchenne.server.app import create_app
from duchenne.server.headers import CONTENT_SECURITY_POLICY
from duchenne.server.settings import OidcSettings

FINISHED, LIVE = "/entries/disfa-orders-1.monet", "/sweeps/disfa-orders-2"


class Reader(HTMLParser):
    """What a page is made of: its tags with their attributes, and the words of its table rows."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[str] = []
        self._row: list[str] | None = None
        self._titled = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._titled = tag == "title"
        if tag == "tr":
            self._row = []

    def handle_data(self, data: str) -> None:
        if self._row is not None and not self._titled and data.strip():
            self._row.append(" ".join(data.split()))

    def handle_endtag(self, tag: str) -> None:
        self._titled = False
        if tag == "tr" and self._row is not None:
            self.rows.append(" | ".join(self._row))
            self._row = None

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(client: TestClient, path: str, status: int = 200) -> tuple[str, Reader]:
    answer = client.get(path)
    assert answer.status_code == status, answer.text[:2000]
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    return answer.text, Reader(answer.text)


def csrf(client: TestClient, path: str = "/") -> str:
    found = re.search(r'name="csrf_token" value="([^"]+)"', client.get(path).text)
    assert found is not None
    return found[1]


def test_board_ranks_by_f1_with_ties_intervals_and_published_numbers_among_them(site: Any) -> None:
    html, page = read(site.client(), "/boards/disfa")
    rows = page.rows[1:13]
    labels = [row.split(" | ")[1] for row in rows if re.match(r"\d", row)]
    assert labels[:2] == ["monet M=64 k=8 rhls 0.25", "mtts guided by landmarks"]
    assert [row.split(" | ")[0] for row in rows if "verified" in row][:3] == ["1–2", "1–2", "3–4"]  # noqa: RUF001
    shown = site.store.standing(_everything(), "disfa-orders-1.monet").numbers
    assert f"| {100 * shown.f1_mean:.1f} |" in rows[2]
    assert f"{100 * shown.ci_low:.1f} to {100 * shown.ci_high:.1f}" in rows[2]
    published = [row for row in rows if "published" in row]
    assert len(published) == 3
    assert "FMAE-IAT" in published[0]
    assert "70.1" in published[0]
    assert html.count('class="tied"') == 2
    for mark in ("verified", "unverified", "rejected", "published"):
        assert f'class="status {mark}"' in html


def test_board_sorts_filters_and_pages_by_its_address(site: Any) -> None:
    client = site.client()
    _, cheap = read(client, "/boards/disfa?sort=cost")
    costs = [float(found[1]) for row in cheap.rows if (found := re.search(r"\$([\d.]+)", row))]
    assert costs[:9] == sorted(costs[:9])
    assert [item.get("aria-sort") for item in cheap.of("th") if item.get("aria-sort")] == ["ascending"]
    _, some = read(client, "/boards/disfa?team=crowd-faces&min_cost=3&max_cost=8&since=2026-11-06")
    assert len([row for row in some.rows if "crowd-faces" in row]) == 2
    assert not [row for row in some.rows if "affect-lab" in row]
    html, _ = read(client, "/boards/disfa?method=nobody")
    assert "No entry passes the filter" in html
    _, aus = read(client, "/boards/disfa?show=AU12&show=log_loss")
    heads = aus.rows[0]
    assert "AU12" in heads
    assert "Log-loss" in heads
    _, without = read(client, "/boards/disfa?published=none")
    assert not [row for row in without.rows[:10] if "FMAE-IAT" in row]


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("min_cost=lots", "number of dollars"),
        ("since=yesterday", "2026-11-24"),
        ("status=excellent", "choose one"),
        ("sort=f1;drop table", "sorted by"),
        ("cursor=zzz", "cursor"),
        ("team=x'%20OR%201=1--", "no quotes"),
        ("method=%00", "control characters"),
    ],
)
def test_what_a_board_can_not_be_asked_is_said_in_words(site: Any, query: str, word: str) -> None:
    answer = site.client().get(f"/boards/disfa?{query}")
    assert answer.status_code in (400, 422)
    assert word in answer.text
    assert "<html" in answer.text


def test_a_long_board_is_paged_and_stays_small(site: Any) -> None:
    from duchenne.records.board_rows import NewStanding, Numbers

    for number in range(60):
        site.store.put_standing(
            NewStanding(
                entry=f"many-{number:03d}.monet", board_name="many", team="affect-lab", sweep=None, method="monet",
                label=f"run {number:03d}", kind="external", status="unverified", reason="no labels",
                numbers=Numbers(f1_mean=0.3 + number / 1000),
            )
        )  # fmt: skip
    client = site.client(site.token("affect-lab", "viewer"))
    first, page = read(client, "/boards/affect-lab.many")
    assert len(first.encode()) < 150_000
    assert "run 059" in first
    assert "run 009" not in first
    onward = next(str(link["href"]) for link in page.of("a") if link.get("rel") == "next")
    second, _ = read(client, "/boards/affect-lab.many" + onward)
    assert len(set(re.findall(r"run \d{3}", first)) | set(re.findall(r"run \d{3}", second))) == 60


def test_entry_shows_metrics_calibration_orders_and_lineage(site: Any) -> None:
    html, page = read(site.client(site.token("affect-lab", "viewer")), FINISHED)
    entry = site.store.get_entry("disfa-orders-1.monet")
    assert f"F1, folds pooled | {100 * entry.metrics['f1_pooled']:.1f}" in page.rows
    assert f"Log-loss (nats) | {entry.metrics['log_loss']:.3f}" in page.rows
    assert f"{entry.metrics['calibration_error']:.3f}, ten bins" in html
    for name in ("soft-order", "positions", "order-epochs", "reliability", "attention"):
        assert f'id="{name}-title"' in html
    for fact in (entry.dataset_digest, entry.folds_digest, "3f9c1e7b5a204d6e8f10a2b4c6d8e0f123456789", "27"):
        assert fact in html
    assert all(file.digest in html for file in entry.predictions)
    assert re.search(r"SN\d{3} \| T1 \| \d+ \| (present|absent)", "\n".join(page.rows))


def test_firmest_mistakes_are_rows_that_are_wrong(site: Any) -> None:
    from duchenne.server.pages.evidence import evidence_of
    from duchenne_jobs.evaluation import read_predictions

    entry = site.store.get_entry("disfa-orders-1.monet")
    found = evidence_of(entry.predictions, site.home)
    rows = [read_predictions(site.home / file.path) for file in entry.predictions]
    assert sum(item.tp + item.fp + item.fn + item.tn for item in found.confusions) == sum(r.labels.size for r in rows)
    assert found.ece == pytest.approx(entry.metrics["calibration_error"])
    for mistake in found.mistakes:
        own = [
            part.probabilities[place, part.tasks.index(mistake.task)]
            for part in rows
            for place in range(len(part.frames))
            if (part.subjects[place], part.frames[place]) == (mistake.subject, mistake.frame)
        ]
        assert sum(own) / len(own) == pytest.approx(mistake.probability, abs=1e-6)
        assert (mistake.probability >= 0.5) != (mistake.label == 1)


def test_entry_is_compared_with_another(site: Any) -> None:
    html, page = read(site.client(), f"{FINISHED}?against=disfa-small.monet")
    assert "points of F1" in html
    assert "model.orders.count | 64 | 16" in page.rows
    refused, _ = read(site.client(), f"{FINISHED}?against=disfa-elsewhere.drml")
    assert "same data and folds" in refused
    read(site.client(), f"{FINISHED}?against=north-secret.monet", status=404)


def test_a_rejected_entry_shows_its_reason_and_no_number(site: Any) -> None:
    html, page = read(site.client(), "/entries/disfa-spoiled.monet")
    assert "must stay as it was recorded" in html
    assert "By AU" not in html
    assert not [row for row in page.rows if row.startswith("F1")]


def test_predictions_that_are_gone_leave_the_rest_of_the_page(site: Any) -> None:
    entry = site.store.get_entry("disfa-smooth.vmns")
    (site.home / entry.predictions[0].path).unlink()
    html, _ = read(site.client(), "/entries/disfa-smooth.vmns")
    assert "predictions of this entry are not here" in html
    assert "AU25" in html


def test_markup_in_names_is_text(site: Any) -> None:
    html, _ = read(site.client(), "/boards/disfa")
    assert "monet &lt;b&gt;tuned&lt;/b&gt; on test" in html
    name = '"><script>alert(1)</script>'
    with site.store.database.write() as session:
        session.add(TeamRow(name=name, created_at=site.clock()))
    operator = site.client(site.token(None, "admin"))
    for path in ("/teams", "/teams/%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E"):
        answer = operator.get(path)
        assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in operator.get("/teams").text


def test_nothing_is_inline_so_that_the_policy_holds(site: Any) -> None:
    client = site.client(site.token("affect-lab", "admin"))
    for path in ("/", "/boards/disfa", FINISHED, LIVE, "/teams/affect-lab", "/login", "/nowhere"):
        page = Reader(client.get(path).text)
        assert not [attributes for _, attributes in page.tags if "style" in attributes]
        assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
        assert not page.of("style")
        assert all(script.get("src", "").startswith("/static/") for script in page.of("script"))  # type: ignore[union-attr]


def test_a_private_board_its_entries_and_sweeps_are_invisible_to_others(site: Any) -> None:
    paths = ("/boards/northlab.disfa", "/entries/north-secret.monet", "/sweeps/north-secret", "/teams/northlab")
    paths += ("/sweeps/north-secret/stream", "/teams/northlab/audit")
    for client in (site.client(), site.client(site.token("affect-lab", "admin"))):
        for path in paths:
            html = read(client, path, status=404)[0]
            assert "north&#39;s monet" not in html
        for path in ("/", "/boards/disfa", "/sweeps", "/teams"):
            html = read(client, path)[0]
            assert "northlab" not in html
            assert "north-secret" not in html
    own = site.client(site.token("northlab", "viewer"))
    assert "north&#39;s monet" in read(own, "/boards/northlab.disfa")[0]
    for path in paths[:4]:
        read(own, path)


def test_what_a_public_entry_keeps_for_its_team(site: Any) -> None:
    """Names of subjects, the address of the dataset and the image are not a stranger's."""
    html, _ = read(site.client(), FINISHED)
    assert not re.search(r"SN\d{3}", html)
    assert "s3://faces" not in html
    assert "registry.example.org" not in html


def test_a_running_sweep_shows_trials_rungs_folds_and_budget(site: Any) -> None:
    html, page = read(site.client(site.token("affect-lab", "viewer")), LIVE)
    for name in ("burn-usd", "burn-gpu-hours", "parallel", "trial-map"):
        assert f'id="{name}-title"' in html
    assert "90 <small>of 108</small>" in html
    spent = site.store.ledger.totals("disfa-orders-2")["spent"].usd
    assert f"USD | $40.00 | ${spent:.2f}" in "\n".join(page.rows)
    assert [row for row in page.rows if row.startswith("1 | 3 | 15 | 6")]
    assert "Stop the sweep" not in html  # a viewer can't
    best = max(
        (trial for trial in site.store.trials("disfa-orders-2") if trial.value), key=lambda trial: trial.value or 0
    )
    first = next(row for row in page.rows if re.match(r"\d+ \| 0\.\d+ \|", row))
    assert first.startswith(f"{best.number} | ")
    for query in ("sort=colour", "page=0", "page=x"):
        assert site.client(site.token("affect-lab", "viewer")).get(f"{LIVE}?{query}").status_code == 422


def test_scores_of_test_folds_stay_sealed_while_a_sweep_runs(site: Any) -> None:
    store = site.store
    key = site.key("disfa-orders-2", 3, "evaluation", 0, None)
    site.run(key, 2, 0.77, 0.1)
    client = site.client(site.token("affect-lab", "viewer"))
    html, _ = read(client, LIVE)
    assert "Scores stay sealed" in html
    cell = re.search(r"<title>trial 3, fold 0, seed 0, epoch 2: ([^<]*)</title>", html)
    assert cell is not None
    assert cell[1] == "succeeded"
    assert store.get_sweep("disfa-orders-2").state == "running"


def test_stop_is_asked_once_and_recorded_under_a_name(site: Any) -> None:
    client = site.client(site.token("affect-lab", "submitter"))
    token = csrf(client, LIVE)
    answer = client.post(f"{LIVE}/stop", data={"csrf_token": token}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, LIVE)
    assert site.store.stop_requested("disfa-orders-2")
    event = site.store.events("disfa-orders-2")[-1]
    assert event.what == "stop requested"
    assert event.actor.startswith("token:")
    assert "asked to stop" in read(client, LIVE)[0]


def test_resume_records_the_wish_and_says_what_starts_it(site: Any) -> None:
    client = site.client(site.token("affect-lab", "submitter"))
    html, _ = read(client, "/sweeps/disfa-smooth")
    assert "duchenne resume disfa-smooth" in html
    answer = client.post("/sweeps/disfa-smooth/resume", data={"csrf_token": csrf(client)}, follow_redirects=False)
    assert answer.status_code == 303
    assert site.store.get_sweep("disfa-smooth").state == "stopped"
    assert site.store.events("disfa-smooth")[-1].what == "resume requested"
    assert "resume requested" in read(client, "/sweeps/disfa-smooth")[0]


@pytest.mark.parametrize("path", [f"{LIVE}/stop", "/sweeps/disfa-smooth/resume", "/theme", "/teams/affect-lab/tokens"])
def test_a_button_that_another_site_presses_does_nothing(site: Any, path: str) -> None:
    client = site.client(site.token("affect-lab", "admin"))
    form = {"theme": "dark", "name": "x", "role": "viewer", "days": "3"}
    events, tokens = len(site.store.events()), len(site.store.tokens("affect-lab"))
    for data in (form, {**form, "csrf_token": "forged"}, {**form, "csrf_token": csrf(site.client())}):
        answer = client.post(path, data=data, follow_redirects=False)
        assert answer.status_code == 403
        assert "load the page again" in answer.text
        assert "set-cookie" not in answer.headers or "duchenne_theme" not in answer.headers["set-cookie"]
    assert (len(site.store.events()), len(site.store.tokens("affect-lab"))) == (events, tokens)


def test_a_viewer_and_a_stranger_press_in_vain(site: Any) -> None:
    viewer = site.client(site.token("affect-lab", "viewer"))
    assert viewer.post(f"{LIVE}/stop", data={"csrf_token": csrf(viewer)}).status_code == 403
    stranger = site.client(site.token("crowd-faces", "admin"))
    assert stranger.post(f"{LIVE}/stop", data={"csrf_token": csrf(stranger)}).status_code == 404
    nobody = site.client()
    for path in (f"{LIVE}/stop", "/sweeps/never-was/stop"):
        assert nobody.post(path, data={"csrf_token": csrf(nobody)}).status_code == 401
    assert not site.store.stop_requested("disfa-orders-2")


def test_a_token_is_shown_once_works_and_is_revoked(site: Any) -> None:
    client = site.client(site.token("affect-lab", "admin"))
    form = {"csrf_token": csrf(client), "name": "nightly <i>submit</i>", "role": "submitter", "days": "7"}
    answer = client.post("/teams/affect-lab/tokens", data=form)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    text = re.search(r"dch_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", answer.text)
    assert text is not None
    listed = read(client, "/teams/affect-lab")[0]
    assert "nightly &lt;i&gt;submit&lt;/i&gt;" in listed
    assert text[0] not in listed
    made = text[0].split("_")[1]
    bearer = TestClient(site.app, headers={"Authorization": f"Bearer {text[0]}"})
    assert bearer.get("/sweeps/disfa-orders-2").status_code == 200
    done = client.post(
        f"/teams/affect-lab/tokens/{made}/revoke", data={"csrf_token": form["csrf_token"]}, follow_redirects=False
    )
    assert done.status_code == 303
    assert bearer.get("/sweeps/disfa-orders-2").status_code == 401
    assert "revoked 2026-11-24" in read(client, "/teams/affect-lab")[0]
    bad = client.post("/teams/affect-lab/tokens", data={**form, "name": " "})
    assert bad.status_code == 422


def test_a_team_shows_its_month_people_and_writes(site: Any) -> None:
    html, page = read(site.client(site.token("affect-lab", "submitter")), "/teams/affect-lab")
    month = site.store.ledger.month("affect-lab")
    assert f"USD | $600.00 | ${month['spent'].usd:.2f} | ${month['reserved'].usd:.2f}" in "\n".join(page.rows)
    assert "ada@example.org | admin" in "\n".join(page.rows)
    assert "Create a token" not in html
    _, audit = read(site.client(site.token("affect-lab", "viewer")), "/teams/affect-lab/audit")
    assert [row for row in audit.rows if "board published" in row]
    assert not [row for row in audit.rows if "crowd-faces" in row]


def test_the_theme_is_kept_without_script_and_sends_nobody_away(site: Any) -> None:
    client = site.client()
    form = {"csrf_token": csrf(client), "theme": "dark", "back": "/boards/disfa?sort=cost"}
    answer = client.post("/theme", data=form, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/boards/disfa?sort=cost")
    assert '<html lang="en" data-theme="dark">' in client.get("/").text
    for back in ("https://elsewhere.example", "//elsewhere.example", "/\\elsewhere.example", "javascript:alert(1)"):
        assert client.post("/theme", data={**form, "back": back}, follow_redirects=False).headers["location"] == "/"
    assert client.post("/theme", data={**form, "theme": "sepia"}).status_code == 422


def test_errors_are_pages_and_the_api_keeps_its_own(site: Any) -> None:
    html, _ = read(site.client(), "/nowhere", status=404)
    assert "Nothing here that you may see" in html
    assert site.client().get("/api/v1/nowhere").headers["content-type"] == "application/problem+json"
    client = site.client()
    form = {"csrf_token": csrf(client, "/login"), "token": "dch_0000000000000000_" + "x" * 43}
    refused = client.post("/login/token", data=form)
    assert refused.status_code == 401
    assert "Sign in" in refused.text

    @site.app.get("/breaks")
    def breaks() -> None:
        raise RuntimeError("a secret of the inside")

    html, _ = read(site.client(), "/breaks", status=500)
    assert "secret" not in html


def test_an_identity_provider_is_offered_beside_the_token(site: Any) -> None:
    html, page = read(site.client(), "/login")
    assert "/login/oidc" not in html
    assert [field for field in page.of("input") if field.get("name") == "token"]
    oidc = OidcSettings(
        issuer="https://id.example.org", client_id="x", client_secret=SecretStr("y"), label="Example ID"
    )
    app = create_app(site.store, site.settings.model_copy(update={"oidc": oidc}))
    assert "Sign in with Example ID" in TestClient(app).get("/login").text


def test_static_files_are_kept_and_nothing_else_is_served(site: Any) -> None:
    client = site.client()
    page = Reader(client.get("/").text)
    for link in (*page.of("link"), *page.of("script")):
        answer = client.get(str(link.get("href") or link["src"]))
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert client.get("/static/../rendering.py").status_code == 404
    assert client.get("/static/%2e%2e/rendering.py").status_code == 404


def test_two_thousand_trials_stay_small(site: Any) -> None:
    store, start = site.store, site.clock()
    template = store.trials("disfa-orders-2")[0].config
    with store.database.write() as session:
        session.add_all(
            TrialRow(
                sweep="disfa-orders-2", number=number, config={**template, "training.learning_rate": 1e-4 * number},
                state="stopped", value=0.3 + (number * 7919 % 1000) / 4000, rung=1, error=None,
                created_at=start, started_at=start, ended_at=start + timedelta(minutes=1),
            )
            for number in range(18, 2000)
        )  # fmt: skip
    client = site.client(site.token("affect-lab", "viewer"))
    html, page = read(client, LIVE)
    assert len(html.encode()) < 2_000_000
    assert "1 to 50 of 2,000" in html
    assert next(str(link["href"]) for link in page.of("a") if link.get("rel") == "next") == "?sort=value&page=2#trials"
    assert "1,951 to 2,000 of 2,000" in read(client, f"{LIVE}?page=40")[0]


def _everything() -> Any:
    from duchenne.records.board_rows import Sight

    return Sight(everything=True)
