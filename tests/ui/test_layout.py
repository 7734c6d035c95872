"""Pages fit narrow and wide screens, in light and dark, and axe-core finds no serious fault."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

import pytest

from tests.ui.conftest import Site

pytestmark = pytest.mark.ui

OpenPage = Callable[..., Any]

PAGES = {
    "threads": "/threads",
    "waiting": "/threads/order-1043?newest=1",
    "branches": "/threads/order-1040?newest=1",
    "records": "/threads/order-1039",
    "long": "/threads/long",
    "proof": "/threads/order-1039/proof",
    "at": "/threads/order-1043/at",
    "diff": "/threads/order-1043/diff",
    "log": "/log",
    "error": "/threads/nobody",
    "checkpoint": "/threads/order-1043",
    "failed": "/threads/order-1041?newest=1",
}

#: Of these the first step is opened.
CHECKPOINTS = ("checkpoint", "failed")


def show(site: Site, open_page: OpenPage, name: str, **options: Any) -> Any:
    page = open_page(site.root + PAGES[name], **options)
    if name in CHECKPOINTS:
        page.locator("li.step [data-open]").last.click()
        page.locator("#config").wait_for()
    if name == "at":
        page.get_by_role("button", name="Show").click()
        page.locator("#config").wait_for()
    if name == "error":
        open_page.troubles.clear()  # type: ignore[attr-defined]  # Chromium reports the 404 as an error.
    return page


@cache
def axe() -> str:
    """The source of axe-core, of a package for tests."""
    return (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")


@pytest.mark.parametrize("width", [360, 768, 1600])
@pytest.mark.parametrize("name", PAGES)
def test_no_page_scrolls_sideways(site: Site, open_page: OpenPage, name: str, width: int) -> None:
    page = show(site, open_page, name, width=width)
    too_wide = page.evaluate(
        """() => {
            const most = document.documentElement.clientWidth;
            if (document.documentElement.scrollWidth <= most) return null;
            const out = [...document.querySelectorAll('body *')].find(e => e.getBoundingClientRect().right > most + 1);
            return out ? out.outerHTML.slice(0, 200) : 'something';
        }"""
    )
    assert too_wide is None, too_wide


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_no_serious_fault(site: Site, open_page: OpenPage, name: str, scheme: str) -> None:
    page = show(site, open_page, name, scheme=scheme)
    assert_accessible(page)


@pytest.mark.gate
@pytest.mark.parametrize("name", ["threads", "waiting", "checkpoint"])
def test_axe_finds_no_serious_fault_on_a_narrow_screen(site: Site, open_page: OpenPage, name: str) -> None:
    page = show(site, open_page, name, width=360)
    assert_accessible(page)


def assert_accessible(page: Any) -> None:
    page.evaluate(axe())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    faults = [
        f"{each['id']} ({each['impact']}): {each['help']}: {[node['html'][:160] for node in each['nodes'][:3]]}"
        for each in found["violations"]
        if each["impact"] in ("serious", "critical")
    ]
    assert not faults, "\n".join(faults)


def test_light_and_dark_have_colours_of_their_own(site: Site, open_page: OpenPage) -> None:
    colours = {
        scheme: open_page(f"{site.root}/threads", scheme=scheme).evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        for scheme in ("light", "dark")
    }
    assert colours["light"] == ["rgb(250, 250, 248)", "rgb(29, 31, 33)"]
    assert colours["dark"] == ["rgb(20, 21, 23)", "rgb(231, 231, 228)"]


def test_headings_are_in_order(site: Site, open_page: OpenPage) -> None:
    for name in PAGES:
        page = show(site, open_page, name)
        levels = page.locator("main").locator("h1, h2, h3, h4").evaluate_all("all => all.map(h => +h.tagName[1])")
        assert levels[0] == 1, name
        assert levels.count(1) == 1, name
        assert all(after <= before + 1 for before, after in pairwise(levels)), (name, levels)


def test_nothing_moves_for_readers_who_ask_for_that(site: Site, open_page: OpenPage) -> None:
    page = open_page(f"{site.root}/threads", reduced_motion="reduce")
    moving = page.locator("body *").evaluate_all(
        "all => all.filter(e => getComputedStyle(e).transitionDuration !== '0s'"
        " || getComputedStyle(e).animationName !== 'none').length"
    )
    assert moving == 0
