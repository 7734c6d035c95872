"""A page of a thread follows the feed, and goes on by itself after the database was away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from playwright.sync_api import expect

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.examples.servers import free_port
from tests.support.server import Server
from tests.ui.conftest import Site, run_site
from tests.ui.threads import config_of, support_agent

pytestmark = pytest.mark.ui

OpenPage = Callable[..., Any]


def say(saver: EventLogSaver, text: str) -> None:
    support_agent(saver).invoke({"messages": [("human", text)]}, config_of("live"))


@pytest.mark.gate
@pytest.mark.parametrize("query", ["?newest=1", ""])
def test_new_steps_come_in_while_a_page_is_open(
    own_site: Site, own_saver: EventLogSaver, open_page: OpenPage, query: str
) -> None:
    say(own_saver, "Thanks!")
    page = open_page(own_site.thread("live", query))
    expect(page.locator(".live")).to_have_attribute("data-state", "on")
    expect(page.locator("li.step")).to_have_count(3)
    page.keyboard.press("j")
    focused = page.evaluate("document.activeElement.closest('li').id")
    say(own_saver, "Thanks again!")
    expect(page.locator("li.step")).to_have_count(6)
    # In order, and the reader's place is kept.
    numbers = page.locator("li.step").evaluate_all("rows => rows.map(row => Number(row.id.slice(1)))")
    assert numbers == sorted(numbers, reverse=query != "")
    assert page.evaluate("document.activeElement.closest('li').id") == focused
    assert page.locator("li.step.is-tip").count() == 1
    expect(page.locator("#said")).to_contain_text("new step")


def test_an_interrupt_appears_on_an_open_page(own_site: Site, own_saver: EventLogSaver, open_page: OpenPage) -> None:
    say(own_saver, "What about my order 1043?")
    page = open_page(own_site.thread("live", "?newest=1"))
    expect(page.locator(".live")).to_have_attribute("data-state", "on")
    say(own_saver, "It is broken.")
    expect(page.get_by_role("heading", name="Waiting for an answer")).to_be_visible()
    expect(page.locator("#summary .badge")).to_have_text("waiting for an answer")


def test_what_is_open_stays_open(own_site: Site, own_saver: EventLogSaver, open_page: OpenPage) -> None:
    say(own_saver, "Thanks!")
    own_saver.log.prune(["live"], keep_last=1)
    page = open_page(own_site.thread("live"))
    expect(page.locator(".live")).to_have_attribute("data-state", "on")
    page.locator("li.record summary").first.click()
    count = page.locator("li.step").count()
    say(own_saver, "Thanks again!")
    expect(page.locator("li.step")).to_have_count(count + 3)
    expect(page.locator("li.record details").first).to_have_attribute("open", "")


def test_a_page_goes_on_when_the_viewer_is_back(database_uri: str, open_page: OpenPage) -> None:
    port = free_port()
    with EventLogSaver.from_conn_string(database_uri) as saver:
        say(saver, "Thanks!")
        with run_site(database_uri, port=port) as site:
            page = open_page(site.thread("live", "?newest=1"))
            expect(page.locator(".live")).to_have_attribute("data-state", "on")
        expect(page.locator(".live")).to_have_text("Connection lost, trying again")
        say(saver, "Thanks again!")
    with run_site(database_uri, port=port):
        expect(page.locator(".live")).to_have_attribute("data-state", "on")
        expect(page.locator("li.step")).to_have_count(6)
    page.close()  # What Chromium has to say of the refused connections comes now at the latest.
    open_page.troubles.clear()  # type: ignore[attr-defined]


def test_pages_say_that_the_database_is_away_and_go_on_by_themselves(
    server: Server, own_site: Site, own_saver: EventLogSaver, open_page: OpenPage
) -> None:
    say(own_saver, "Thanks!")
    page = open_page(own_site.thread("live"))
    expect(page.locator(".live")).to_have_attribute("data-state", "on")
    with away(server, own_site):
        expect(page.locator(".live")).to_contain_text("database is away")
        other = open_page(f"{own_site.root}/threads")
        expect(other.get_by_role("heading", level=1)).to_have_text("The database is away")
        expect(other.get_by_text("tries again by itself")).to_be_visible()
    expect(page.locator(".live")).to_have_attribute("data-state", "on")
    expect(other.get_by_role("link", name="live")).to_be_visible()
    page.close()  # What Chromium has to say of each 503 comes now at the latest.
    other.close()
    open_page.troubles.clear()  # type: ignore[attr-defined]


@contextmanager
def away(server: Server, site: Site) -> Iterator[None]:
    """The database takes no connections, and those that there were are ended."""
    name = psycopg.conninfo.conninfo_to_dict(site.uri)["dbname"]
    with psycopg.connect(server.uri("postgres"), autocommit=True) as conn:
        conn.execute("update pg_database set datallowconn = false where datname = %s", (name,))
        try:
            conn.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
            yield
        finally:
            conn.execute("update pg_database set datallowconn = true where datname = %s", (name,))
