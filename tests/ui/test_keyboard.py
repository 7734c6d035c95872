"""The viewer by keyboard alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.ui.conftest import Site

pytestmark = pytest.mark.ui

OpenPage = Callable[..., Any]


@pytest.mark.gate
def test_slash_focuses_the_search(site: Site, open_page: OpenPage) -> None:
    page = open_page(f"{site.root}/threads")
    page.keyboard.press("/")
    expect(page.get_by_label("Thread id")).to_be_focused()
    page.keyboard.type("order-1043/")
    expect(page.get_by_label("Thread id")).to_have_value("order-1043/")
    page.goto(site.thread("order-1043"))
    page.keyboard.press("/")
    expect(page.get_by_label("Find a thread by its id")).to_be_focused()
    page.keyboard.type("order-1040")
    page.keyboard.press("Enter")
    expect(page.locator("tbody [data-row]")).to_have_count(1)


@pytest.mark.gate
def test_j_and_k_walk_through_steps_and_enter_opens(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1043"))
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    second = page.locator("li.step").nth(1)
    expect(second.locator("[data-open]")).to_be_focused()
    address = second.locator("[data-open]").get_attribute("href")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{site.root}{address}")


@pytest.mark.gate
def test_d_marks_two_steps_and_opens_their_diff(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1043", "?newest=1"))
    ids = page.locator("[data-checkpoint]").evaluate_all("rows => rows.map(row => row.dataset.checkpoint)")
    page.keyboard.press("j")
    page.keyboard.press("d")
    expect(page.locator("li.is-marked")).to_have_count(1)
    expect(page.locator("#compare")).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("d")
    # The older one comes first, whichever was marked first.
    expect(page).to_have_url(site.thread("order-1043", f"/diff?before={ids[1]}&after={ids[0]}"))


def test_escape_unmarks(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1043"))
    page.keyboard.press("j")
    page.keyboard.press("d")
    page.keyboard.press("Escape")
    expect(page.locator("li.is-marked")).to_have_count(0)
    expect(page.locator("#compare")).to_be_hidden()


def test_the_button_compare_does_what_d_does(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1043"))
    for number in (0, 3):
        row = page.locator("li.step").nth(number)
        row.hover()
        row.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("link", name="Swap")).to_be_visible()


def test_question_mark_shows_the_keys(site: Site, open_page: OpenPage) -> None:
    page = open_page(f"{site.root}/threads")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_brackets_go_to_the_neighbours_of_a_checkpoint(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread("order-1043"))
    addresses = page.locator("li.step [data-open]").evaluate_all("links => links.map(link => link.href)")
    page.goto(addresses[1])
    page.keyboard.press("]")
    expect(page).to_have_url(addresses[2])
    page.keyboard.press("[")
    expect(page).to_have_url(addresses[1])


@pytest.mark.parametrize("path", ["/threads", "/threads/order-1043", "/threads/order-1043/proof", "/log"])
def test_everything_that_can_be_clicked_has_a_visible_focus(site: Site, open_page: OpenPage, path: str) -> None:
    page = open_page(site.root + path)
    wanted = page.locator("a[href], button, input, select, summary").evaluate_all(
        "all => all.filter(each => each.checkVisibility({visibilityProperty: true}) && each.type !== 'hidden').length"
    )
    reached = set()
    for _ in range(wanted + 40):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """() => {
                const at = document.activeElement;
                if (at === document.body) return null;
                const style = getComputedStyle(at);
                window.numbers ??= new Map();
                if (!window.numbers.has(at)) window.numbers.set(at, window.numbers.size);
                const box = at.getBoundingClientRect();
                const shown = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 1 && box.width > 0;
                return [window.numbers.get(at), shown, at.outerHTML.slice(0, 120)];
            }"""
        )
        if found is None:
            break
        number, is_visible, html = found
        assert is_visible, f"no focus is seen on {html}"
        reached.add(number)
    assert len(reached) >= wanted


def test_a_link_skips_to_the_content(site: Site, open_page: OpenPage) -> None:
    page = open_page(f"{site.root}/threads")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
