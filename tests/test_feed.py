"""The feed: order, gate, cursors, pages, what it leaves out."""

from __future__ import annotations

import psycopg
import pytest

from eventlog.drivers import Driver
from eventlog.errors import CursorError
from eventlog.feed import Cursor, FeedEvent, read_end, read_feed
from eventlog.statements import Statements
from tests.adapters import open_saver
from tests.checkpoints import Tables, converse

STATEMENTS = Statements("eventlog")


def feed(uri: str, after: Cursor | None = None, rows: int = 500) -> list[FeedEvent]:
    """All that is settled after a cursor, page by page."""
    found: list[FeedEvent] = []
    with psycopg.connect(uri, autocommit=True) as conn:
        driver = Driver(conn)
        while True:
            cursor = after
            page = driver.run(lambda cursor=cursor: read_feed(STATEMENTS, cursor, rows))  # type: ignore[misc]
            found += page.events
            after = page.cursor
            if page.is_end:
                return found


async def test_core(database_uri: str) -> None:
    assert feed(database_uri) == []
    async with open_saver("sync-pool", database_uri) as saver:
        await converse(saver)
        await converse(saver, "2", ids="ab")
    found = feed(database_uri)
    assert len(found) == Tables(database_uri).events()
    assert [e.seq for e in found if e.thread_id == "1"] == list(range(1, 25))
    assert feed(database_uri, rows=3) == found
    assert feed(database_uri, found[7].cursor) == found[8:]
    with psycopg.connect(database_uri, autocommit=True) as conn:
        assert Driver(conn).run(lambda: read_end(STATEMENTS)) == found[-1].cursor
    with pytest.raises(CursorError):
        feed(database_uri, Cursor(2, 1, 1))
    with pytest.raises(CursorError):
        feed(database_uri, Cursor(1, 10**9, 1))
