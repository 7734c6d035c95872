"""A thread of hostile texts runs nothing, breaks no layout, and hides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.ui.conftest import Site
from tests.ui.threads import HOSTILE, HOSTILE_ID, LONG

pytestmark = pytest.mark.ui

OpenPage = Callable[..., Any]


def pages(site: Site, page: Any) -> Iterator[str]:
    """Each page of the thread, once it is loaded."""
    page.goto(f"{site.root}/threads?filter=attack%3Dyes")
    yield "threads"
    page.get_by_role("row").filter(has_text="a/b").get_by_role("link").click()
    yield "thread"
    ids = page.locator("[data-checkpoint]").evaluate_all("rows => rows.map(row => row.dataset.checkpoint)")
    page.locator("li.step [data-open]").first.click()
    for summary in page.locator("summary").all():
        if summary.is_visible():
            summary.click()
    yield "checkpoint"
    page.goto(site.thread(HOSTILE_ID, f"/diff?before={ids[0]}&after={ids[-1]}"))
    yield "diff"
    page.goto(site.thread(HOSTILE_ID, "/proof"))
    page.get_by_role("button", name="Verify this thread now").click()
    expect(page.locator("#verified")).to_contain_text("No event was changed")
    yield "proof"
    page.goto(site.thread(HOSTILE_ID, "/at"))
    page.get_by_role("button", name="Show").click()
    page.locator("#config").wait_for()
    yield "at"


@pytest.mark.gate
@pytest.mark.parametrize("width", [360, 1600])
def test_hostile_texts_run_nothing_and_break_nothing(site: Site, open_page: OpenPage, width: int) -> None:
    page = open_page(site.root, width=width)
    elsewhere: list[str] = []
    page.on("request", lambda request: elsewhere.append(request.url) if site.root not in request.url else None)
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog was opened: {dialog.message}"))
    for name in pages(site, page):
        assert page.evaluate("window.ran") is None, name
        # Neither an element nor an attribute came out of a text.
        assert page.locator("main script, main img, main b[onclick], [onmouseover], [onload]").count() == 0, name
        too_wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert too_wide <= 0, f"{name} scrolls sideways by {too_wide} px"
    assert not elsewhere


def test_hidden_characters_are_shown_as_marks(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread(HOSTILE_ID))
    expect(page.locator("h1 .ctl").first).to_have_text("U+202E")
    page.locator("li.step [data-open]").first.click()
    main = page.locator("main")
    for mark in ("U+202E", "U+200B", "U+FEFF", "U+2066", "ESC", "NUL", "U+D800"):
        assert main.locator(".ctl", has_text=mark).count() > 0, mark
    # Of scripts that have joiners, and emoji, nothing is taken apart.
    assert "👩‍👩‍👧" in main.inner_text()


def test_a_text_of_a_megabyte_is_cut_and_opens_whole(site: Site, open_page: OpenPage) -> None:
    page = open_page(site.thread(HOSTILE_ID, "?newest=1"))
    page.locator("li.step [data-open]").first.click()
    assert len(page.content()) < 1_000_000
    channel = page.locator("details.channel", has=page.locator("> summary .name", has_text="values")).first
    channel.locator("> summary").click()
    channel.get_by_role("link", name="Show all of it").click()
    expect(page.locator("details.channel.whole")).to_be_attached()
    assert page.locator("details.channel.whole").text_content().count("long line") >= LONG.count("long line")


def test_the_search_box_gives_back_what_was_typed(site: Site, open_page: OpenPage) -> None:
    page = open_page(f"{site.root}/threads")
    page.get_by_label("Thread id").fill(HOSTILE["attribute"])
    page.keyboard.press("Enter")
    expect(page.get_by_label("Thread id")).to_have_value(HOSTILE["attribute"])
    assert page.evaluate("window.ran") is None


def test_an_export_of_a_hostile_thread_runs_nothing(site: Site, open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(site.thread(HOSTILE_ID))
    with page.expect_download() as started:
        page.get_by_role("link", name="Export HTML").click()
    # The id, with its slash and dots, is no path of the reader's machine.
    assert "/" not in started.value.suggested_filename
    file = tmp_path / "thread.html"
    started.value.save_as(file)
    exported = open_page(file.as_uri())
    for summary in exported.locator("summary").all():
        if summary.is_visible():
            summary.click()
    assert exported.evaluate("window.ran") is None
    assert exported.locator("script, img, [onmouseover], [onload]").count() == 0
