"""The pages in a real Chromium: both widths, both themes, by keyboard, without script, live, and through axe.

`DUCHENNE_PICTURES=docs/pictures pytest tests/platform/server/pages/test_browser.py -k pictures` draws the pictures of
the documentation again.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")
PICTURES = os.environ.get("DUCHENNE_PICTURES")
pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]

BOARD, LIVE, TEAM = "/boards/disfa", "/sweeps/disfa-orders-2", "/teams/affect-lab"
ENTRY = "/entries/disfa-orders-1.monet?against=disfa-small.monet"
PAGES = ("/", f"{BOARD}?show=AU1&show=AU12", ENTRY, "/sweeps", LIVE, "/teams", TEAM, f"{TEAM}/audit", "/login")
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 375, "height": 760}
PATIENCE = 20_000
"""Milliseconds for what takes one on a quiet machine."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all tests of the file."""
    api = pytest.importorskip("playwright.sync_api")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield found
        found.close()


@pytest.fixture(scope="module")
def token(served: Any) -> str:
    text: str = served.token("affect-lab", "admin")
    return text


@pytest.fixture
def open_page(browser: Any, served: Any, token: str) -> Iterator[Callable[..., Any]]:
    """open_page(path, ...) -> a page, signed in; what its console complains of fails the test."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def open_(path: str = "/", *, size: Any = WIDE, dark: bool = False, script: bool = True, known: bool = True) -> Any:
        context = browser.new_context(
            viewport=size,
            color_scheme="dark" if dark else "light",
            java_script_enabled=script,
            base_url=served.address,
            reduced_motion="reduce",
        )
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if known:
            page.goto("/login")
            page.fill("#token", token)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url("**/")
        page.goto(path)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not complaints


@pytest.mark.parametrize(("size", "dark"), [(WIDE, False), (NARROW, True)], ids=["wide-light", "narrow-dark"])
def test_axe_finds_nothing_on_any_page(open_page: Callable[..., Any], size: Any, dark: bool) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(size=size, dark=dark)
    violations = []
    for path in PAGES:
        page.goto(path)
        found = axe.run(page)
        violations += [path + found.generate_report()] if found.violations_count else []
    assert not violations


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_page_fits_its_width_in_its_theme(open_page: Callable[..., Any], size: Any, dark: bool) -> None:
    page = open_page(size=size, dark=dark)
    for path in PAGES:
        page.goto(path)
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, f"{path} is {over} pixels too wide"
        red, green, blue = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).slice(0, 3).map(Number)"
        )
        assert (red + green + blue < 200) == dark
        assert page.locator("h1").count() == 1


def test_the_keyboard_goes_everywhere(open_page: Callable[..., Any]) -> None:
    page = open_page(BOARD)
    page.keyboard.press("Tab")
    skip = page.locator(".skip")
    assert skip.evaluate("node => node === document.activeElement")
    assert skip.bounding_box()["x"] >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    sort = page.get_by_role("columnheader", name="Cost").get_by_role("link")
    sort.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert sort.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_url("**sort=cost**")
    assert page.locator("th[aria-sort]").inner_text().startswith("Cost")
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    page.get_by_label("Method").focus()
    page.keyboard.type("monet")
    page.keyboard.press("Enter")
    page.wait_for_url("**method=monet**")
    assert page.locator("tbody").first.get_by_role("link").count() >= 2


def test_everything_but_live_updates_works_without_script(open_page: Callable[..., Any], token: str) -> None:
    page = open_page("/login", script=False, known=False)
    page.fill("#token", token)
    page.get_by_role("button", name="Sign in").click()
    page.goto(LIVE)
    assert "load the page again" in page.locator(".live").inner_text()
    assert page.locator("[data-part=trials] tbody tr").count() == 18
    page.get_by_role("button", name="Theme: auto").click()
    page.get_by_role("button", name="Theme: light").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    assert page.url.endswith(LIVE)
    page.goto(BOARD)
    page.locator("summary").first.click()
    page.get_by_label("AU12", exact=True).check()
    page.get_by_role("button", name="Apply").click()
    assert page.get_by_role("columnheader", name="AU12", exact=True).is_visible()
    page.goto(TEAM)
    page.get_by_label("What it is for").fill("from a page")
    page.get_by_role("button", name="Create a token").click()
    assert page.locator("pre.secret").inner_text().startswith("dch_")
    page.get_by_role("link", name="Back to the team").click()
    page.get_by_role("button", name="Revoke from a page").click()
    page.get_by_text(re.compile(r"revoked \d{4}-\d\d-\d\d")).wait_for()


def test_a_live_page_follows_its_sweep(open_page: Callable[..., Any], served: Any) -> None:
    site = served
    page = open_page(LIVE)
    page.get_by_text("Live", exact=True).wait_for()
    row = page.locator("tr[data-trial='15']")
    assert "running" in row.inner_text()
    page.get_by_role("link", name="Trial", exact=True).focus()
    site.store.set_trial_state(site.live, 15, "succeeded", value=0.7123, rung=3)
    row.get_by_text("0.7123").wait_for()
    assert page.evaluate("document.activeElement.textContent").startswith("Trial")
    site.store.record_event("a note for the page", sweep=site.live, actor="grace@example.org")
    page.get_by_text("a note for the page").wait_for()
    row.hover()
    assert page.locator("path.trial.lit").get_attribute("data-trial") == "15"
    page.get_by_role("button", name="Stop the sweep").click()
    page.get_by_text("asked to stop").wait_for()
    assert site.store.stop_requested(site.live)


SHOTS = (
    ("board-light", BOARD, WIDE, False, None),
    ("board-narrow", BOARD, NARROW, False, 1400),
    ("entry-light", ENTRY, WIDE, False, 2000),
    ("sweep-dark", LIVE, WIDE, True, 1750),
    ("team-light", TEAM, WIDE, False, None),
)


@pytest.mark.skipif(
    PICTURES is None, reason="draws the documentation's pictures where DUCHENNE_PICTURES names a folder"
)
def test_pictures_are_drawn_again(open_page: Callable[..., Any]) -> None:
    from PIL import Image

    folder = Path(str(PICTURES))
    for name, path, size, dark, height in SHOTS:
        page = open_page(path, size=size, dark=dark)
        if path == LIVE:
            page.get_by_text("Live", exact=True).wait_for()
        whole = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
        cut = whole.crop((0, 0, whole.width, min(whole.height, height or whole.height)))
        target = folder / f"server-{name}.png"
        cut.quantize(128, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(target, optimize=True)
        assert target.stat().st_size < 200_000
