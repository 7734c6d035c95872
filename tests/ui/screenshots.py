"""The pictures of the viewer that the docs show, taken of a log that the demo's agent wrote: `make screenshots`."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
from playwright.sync_api import Page, sync_playwright

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.server import run_server
from tests.ui.conftest import ARGUMENTS, Site, run_site
from tests.ui.threads import write_threads

__all__ = ["main"]

FOLDER = Path(__file__).parents[2] / "docs" / "images"

#: In bytes: a picture that takes longer to load than its page is none.
LARGEST = 150_000


def main() -> None:
    """Write `docs/images/ui-*.png`."""
    with run_server() as server:
        uri = server.uri(server.create_database(prefix="pictures"))
        with psycopg.connect(uri, autocommit=True) as conn:
            EventLogSaver(conn).setup()
        write_threads(uri, many=12, attacks=False)
        with run_site(uri) as site, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=os.environ["EVENTLOG_TEST_CHROMIUM"], args=ARGUMENTS)
            page = browser.new_page(viewport={"width": 1200, "height": 760}, color_scheme="light")
            _take(site, page)
            browser.close()


def _take(site: Site, page: Page) -> None:
    page.goto(f"{site.root}/threads")
    _save(page, "threads")
    page.goto(site.thread("order-1040", "?newest=1"))
    page.locator(".live[data-state=on]").wait_for()
    _save(page, "thread")
    page.goto(site.thread("order-1043", "?newest=1"))
    page.locator("li.step [data-open]").first.click()
    page.locator("#config").wait_for()
    _save(page, "checkpoint")


def _save(page: Page, name: str) -> None:
    path = FOLDER / f"ui-{name}.png"
    page.screenshot(path=path)
    found = path.stat().st_size
    if found > LARGEST:
        raise SystemExit(f"{path} has {found:,} bytes, which are more than {LARGEST:,}: make the picture smaller")
    print(f"{path}: {found:,} bytes")


if __name__ == "__main__":
    main()
