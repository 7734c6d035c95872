"""One browser and one viewer for the session, on a log that `tests.ui.threads` fills once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from langgraph.checkpoint.eventlog import EventLog, EventLogSaver
from tests.support.server import Server
from tests.ui.threads import write_threads

#: Without it these tests are not part of a run: they take the group `ui-test` and a Chromium.
CHROMIUM = os.environ.get("EVENTLOG_TEST_CHROMIUM")

collect_ignore_glob = [] if CHROMIUM else ["test_*.py"]

#: In milliseconds: against hanging alone.
PATIENCE = 60_000

#: As root Chromium has no sandbox; and it is to ask nothing of the internet.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Site:
    """A running viewer."""

    def __init__(self, root: str, uri: str) -> None:
        self.root = root
        self.uri = uri

    def thread(self, thread_id: str, rest: str = "") -> str:
        return f"{self.root}/threads/{quote(thread_id, safe='')}{rest}"


@contextmanager
def run_site(uri: str, prefix: str = "", port: int = 0) -> Iterator[Site]:
    """Serve the log of a database on the loopback.

    Args:
        prefix: where an application has mounted the viewer.
        port: 0 for a free one.
    """
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from langgraph.checkpoint.eventlog.ui import eventlog_ui

    with EventLog.from_conn_string(uri) as log:
        app: Any = eventlog_ui(log)
        if prefix:
            app = Starlette(routes=[Mount(prefix, app)])
        config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            until = time.monotonic() + PATIENCE / 1000
            while not server.started:
                assert thread.is_alive(), "the viewer ended as it started"
                assert time.monotonic() < until, "the viewer does not start"
                time.sleep(0.02)
            port = server.servers[0].sockets[0].getsockname()[1]
            yield Site(f"http://127.0.0.1:{port}{prefix}", uri)
        finally:
            server.should_exit = True
            thread.join(PATIENCE / 1000)


@pytest.fixture(scope="session")
def shown(server: Server, template: str) -> Iterator[str]:
    """The connection string of a log with threads of every kind. Tests that write take a copy of their own."""
    name = server.create_database(template, prefix="ui")
    write_threads(server.uri(name), many=120)
    with psycopg.connect(server.uri(name), autocommit=True) as conn:
        conn.execute("analyze")
    yield server.uri(name)
    server.drop_database(name)


@pytest.fixture(scope="session")
def site(shown: str) -> Iterator[Site]:
    with run_site(shown) as running:
        yield running


@pytest.fixture
def own_site(database_uri: str) -> Iterator[Site]:
    """A viewer of a log of this test's own, which is empty at first."""
    with run_site(database_uri) as running:
        yield running


@pytest.fixture
def own_saver(own_site: Site) -> Iterator[EventLogSaver]:
    with EventLogSaver.from_conn_string(own_site.uri) as saver:
        yield saver


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import expect, sync_playwright

    assert CHROMIUM is not None
    assert Path(CHROMIUM).exists(), f"EVENTLOG_TEST_CHROMIUM: {CHROMIUM} is no program"
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Call it with an address for a page of it; at the end nothing may have been refused or gone wrong there."""
    contexts: list[Any] = []
    troubles: list[str] = []

    def open_page(url: str, *, width: int = 1280, height: int = 900, scheme: str = "light", **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, **options)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: troubles.append(f"{page.url}: {error}"))
        # Chromium writes there what the Content-Security-Policy refused.
        page.on("console", lambda said: troubles.append(f"{page.url}: {said.text}") if said.type == "error" else None)
        page.goto(url)
        return page

    open_page.troubles = troubles  # type: ignore[attr-defined]
    yield open_page
    for context in contexts:
        context.close()
    assert not troubles, "\n".join(troubles)
