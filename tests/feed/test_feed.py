"""The feed: order, gate, cursors, pages, and what it leaves out."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import psycopg
import pytest

from eventlog import feed
from eventlog.db.statements import Statements
from eventlog.db.sync import Driver
from eventlog.errors import CursorError, InvalidInputError, LogBusyError
from eventlog.events import Cursor, Kind, StoredEvent
from eventlog.feed import read_feed
from eventlog.feed_nodes import Generations, Nodes, read_nodes, read_nodes_end, read_nodes_lag
from eventlog.feed_page import FeedPage
from langgraph.checkpoint.eventlog.lifecycle import retain
from tests.support.adapters import POOLS, open_saver
from tests.support.aging import DAY, Log, log
from tests.support.checkpoints import Tables, converse
from tests.support.pooler import direct

pytestmark = pytest.mark.portable

__all__ = ["log"]  # a fixture

STATEMENTS = Statements("eventlog")


async def tail(saver: Any, after: Any = None, **options: Any) -> list[StoredEvent]:
    """What `tail` yields until it ends."""
    return [event async for event in saver.log.tail(after, **options)]


def append(conn: psycopg.Connection[Any], thread_id: str, checkpoint_id: str = "1") -> int:
    """Append writes as a saver does, in the connection's transaction; returns the event's number."""
    ((status, seq),) = conn.execute(
        "select o_status, o_seq from eventlog.append_writes_v1(%s, '', %s, null, null, null, null, sha256(''),"
        " sha256(sha256('') || sha256('\\x01')), '\\x01')",
        (thread_id, checkpoint_id),
    ).fetchall()
    assert status == "ok"
    return int(seq)


def places(events: list[StoredEvent]) -> list[tuple[str, int]]:
    return [(event.thread_id, event.seq) for event in events]


# --- what is in it


async def test_the_tail_yields_each_event_once_in_order(saver: Any, database_uri: str) -> None:
    """From the start, from any cursor or its text, as often as one likes."""
    assert await tail(saver) == []
    await converse(saver)
    await converse(saver, "2", ids="ab")
    await converse(saver, "2", "sub|1", ids="ab")
    found = await tail(saver)
    assert len(found) == Tables(database_uri).events() == 24 + 6 + 6
    assert [event.cursor for event in found] == sorted(event.cursor for event in found)
    assert [event.seq for event in found if event.thread_id == "1"] == list(range(1, 25))
    assert await tail(saver) == found
    for number in (0, 7, 35):
        cursor = found[number].cursor
        assert await tail(saver, cursor) == await tail(saver, str(cursor)) == found[number + 1 :]
    assert await saver.log.tail_position() == found[-1].cursor


async def test_events_equal_their_stored_rows(saver: Any, database_uri: str) -> None:
    await converse(saver, ids="ab")
    columns = "seq, base_seq, recorded_at, body, kind, checkpoint_id, checkpoint_ns, thread_id, position, digest"
    select = f"select {columns}, as_of, first_at from {{schema}}.events order by seq"
    rows = Tables(database_uri).rows(select)  # type: ignore[arg-type]
    found = await tail(saver)
    assert [tuple(event[:12]) for event in found] == rows
    assert [event.cursor for event in found] == [(1, event.xid, event.position) for event in found]
    assert {event.kind for event in found} == {Kind.CHECKPOINT_SAVED, Kind.WRITES_SAVED}
    assert not any(event.is_replay for event in found)


async def test_thread_ids_and_limit_select_events(saver: Any) -> None:
    for thread_id in "123":
        await converse(saver, thread_id, ids="ab")
    everything = await tail(saver)
    some = await tail(saver, thread_ids=["1", "3"])
    assert some == [event for event in everything if event.thread_id in "13"]
    assert await tail(saver, some[2].cursor, thread_ids=["1", "3"], limit=5) == some[3:8]
    assert await tail(saver, limit=1) == everything[:1]
    assert await tail(saver, thread_ids=["none"]) == []


@POOLS
async def test_pages_of_any_size_add_up_to_the_whole_feed(
    kind: str, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However small they are: by number, or by bytes, with one event at least."""
    async with open_saver(kind, database_uri) as saver:
        await converse(saver)
        expected = await tail(saver)
        monkeypatch.setattr(feed, "PAGE_BYTES", 2000)
        assert await tail(saver) == expected
    with psycopg.connect(database_uri, autocommit=True) as conn:
        driver = Driver(conn)
        pages = []
        cursor, is_end = None, False
        while not is_end:
            page = driver.run(lambda cursor=cursor: read_feed(STATEMENTS, cursor, 7))  # type: ignore[misc]
            pages.append(page.events)
            cursor, is_end = page.cursor, page.is_end
    assert [event for page in pages for event in page] == expected
    assert all(1 <= len(page) <= 7 for page in pages[:-1])
    assert all(sum(len(event.body) for event in page[:-1]) < 2000 for page in pages)
    assert len({len(page) for page in pages[:-1]}) > 1, "the bytes never ended a page"


# --- what waits


@pytest.mark.attack("stolen writer")
@POOLS
async def test_the_tail_waits_for_running_transactions(kind: str, database_uri: str) -> None:
    """A reader by position misses events that commit late. Here nothing after it is delivered before."""
    naive = "select position, thread_id from eventlog.events where position > %s order by position"
    async with open_saver(kind, database_uri) as saver:
        # Directly: a pooler's client does not know the server's process.
        with psycopg.connect(direct(database_uri)) as slow, psycopg.connect(database_uri, autocommit=True) as quick:
            append(slow, "slow")
            append(quick, "quick")
            seen = quick.execute(naive, (0,)).fetchall()
            assert await tail(saver) == []
            lag = await saver.log.lag()
            assert (lag.waiting, lag.unsettled, lag.oldest_seconds) == (0, 1, None)
            assert lag.held_by.pid == slow.info.backend_pid
            assert lag.held_by.state == "idle in transaction"
            assert "append_writes_v1" in lag.held_by.query
            slow.commit()
            seen += quick.execute(naive, (seen[-1][0],)).fetchall()
        assert [thread for _, thread in seen] == ["quick"], "the naive reader did not lose the event"
        assert places(await tail(saver)) == [("slow", 1), ("quick", 1)]


@POOLS
async def test_late_appends_of_an_old_transaction_are_delivered_in_stream_order(kind: str, database_uri: str) -> None:
    """It took its id long before another's, and appends to the other's stream after it."""
    async with open_saver(kind, database_uri) as saver:
        with psycopg.connect(database_uri) as old, psycopg.connect(database_uri, autocommit=True) as young:
            append(old, "elsewhere")
            append(young, "shared")
            before = await tail(saver)
            append(old, "shared")
            append(young, "other")
            assert before == await tail(saver) == []
            old.commit()
        found = places(await tail(saver))
    assert found.index(("shared", 1)) < found.index(("shared", 2))
    assert sorted(found) == [("elsewhere", 1), ("other", 1), ("shared", 1), ("shared", 2)]
    xids = Tables(database_uri).rows("select xid::text::int8 from {schema}.events where thread_id = 'shared'")
    assert xids[0] == xids[1], "the test did not make the younger id come first"


@POOLS
async def test_rolled_back_events_are_not_delivered(kind: str, database_uri: str) -> None:
    async with open_saver(kind, database_uri) as saver:
        with psycopg.connect(database_uri) as conn:
            append(conn, "1")
            conn.rollback()
            append(conn, "1")
            append(conn, "2")
        assert places(await tail(saver)) == [("1", 1), ("2", 1)]


@POOLS
async def test_lag_counts_waiting_and_unsettled_events(kind: str, database_uri: str) -> None:
    async with open_saver(kind, database_uri) as saver:
        nothing = await saver.log.lag()
        assert (nothing.waiting, nothing.oldest_seconds, nothing.unsettled) == (0, None, 0)
        await converse(saver, ids="ab")
        found = await tail(saver)
        lag = await saver.log.lag(found[1].cursor)
        assert (lag.cursor, lag.waiting, lag.unsettled) == (found[1].cursor, 4, 0)
        assert 0 <= lag.oldest_seconds < 60
        assert (await saver.log.lag(str(found[-1].cursor))).waiting == 0
        assert (await saver.log.lag()).waiting == 6


# --- what went


@POOLS
async def test_erased_events_are_left_out_and_records_are_delivered(kind: str, database_uri: str) -> None:
    async with open_saver(kind, database_uri) as saver:
        await converse(saver)
        cursor = (await tail(saver))[-1].cursor
        await saver.log.prune(["1"], keep_last=2)
        after = await tail(saver, cursor)
        assert after[-1].kind == Kind.PARTLY_ERASED
        assert after[:-1]
        assert all(event.is_replay and event.seq < 24 for event in after[:-1])
        assert not after[-1].is_replay
        everything = await tail(saver)
        assert len(everything) == Tables(database_uri).events()
        assert everything[-len(after) :] == after

        cursor = after[-1].cursor
        await saver.acopy_thread("1", "2")
        copied = await tail(saver, cursor)
        assert [event.seq for event in copied] == list(range(1, len(copied) + 1))
        assert copied[-1].kind == Kind.COPIED
        for thread_id in "12":
            await saver.adelete_thread(thread_id)
        kinds = {event.kind for event in await tail(saver)}
        assert kinds == {Kind.PARTLY_ERASED, Kind.COPIED, Kind.THREAD_DELETED}


@POOLS
async def test_superseded_events_are_not_delivered(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention has cut them off, and their partition is not dropped yet: as every reader does, the feed skips them."""
    monkeypatch.setattr(retain, "DROP_ATTEMPTS", 1)
    await log.grow("1", "c1", "c2", days=20)
    await log.grow("1", "c3")
    await log.grow("2", "c1")
    before = await tail(log.saver)
    with psycopg.connect(log.uri) as conn:
        conn.execute("select count(*) from eventlog.events")
        with pytest.raises(LogBusyError):
            await log.saver.log.retain(10 * DAY)
        voids = log.tables.rows(
            "select e.position from {schema}.events as e join {schema}.streams as s using (thread_id, checkpoint_ns)"
            " where e.recorded_at < s.begins_at"
        )
        found = await tail(log.saver)
    assert len(voids) >= 4
    assert len(found) == log.tables.events() - len(voids)
    assert {event.cursor.position for event in found}.isdisjoint(position for (position,) in voids)
    assert await tail(log.saver, before[-1].cursor) == [event for event in found if event.cursor > before[-1].cursor]
    await log.saver.log.retain(10 * DAY)
    assert [event.cursor for event in await tail(log.saver)] == [event.cursor for event in found]


# --- cursors


def test_cursors_round_trip_through_text_and_sort() -> None:
    for cursor in (Cursor(1, 0, 0), Cursor(1, 8123, 4567), Cursor(2**31 - 1, 2**63 - 1, 2**63 - 1)):
        assert Cursor.parse(str(cursor)) == cursor
    assert str(Cursor(1, 8123, 4567)) == f"{Cursor(1, 8123, 4567)}" == "1-8123-4567"
    assert Cursor(1, 9, 9) < Cursor(1, 10, 1) < Cursor(2, 1, 1)


@pytest.mark.parametrize(
    "after",
    [
        *("", "1", "1-2", "1-2-3-4", "a-b-c", "1--2-3", "-1-2-3", "0-1-2", "1-2-3 ", " 1-2-3", "1-2-3\n", "\u0661-2-3"),
        *("9999999999-1-1", f"1-{2**63}-1", f"1-1-{2**63}", 5, (1, 2, 3), b"1-2-3", Cursor(0, 1, 1), Cursor(1, -1, 1)),
    ],
)
@POOLS
async def test_invalid_cursors_are_refused_before_anything_is_read(
    kind: str, empty_database_uri: str, after: Any
) -> None:
    """Refused before anything is read: here is nothing to read from."""
    async with open_saver(kind, empty_database_uri) as saver:
        with pytest.raises(InvalidInputError, match=r"1-8123-4567|must be a Cursor"):
            await tail(saver, after)
        with pytest.raises(InvalidInputError, match=r"1-8123-4567|must be a Cursor"):
            await saver.log.lag(after)


@pytest.mark.parametrize(
    "options",
    [
        {"poll_interval": 0},
        {"poll_interval": -1},
        {"poll_interval": float("nan")},
        {"poll_interval": float("inf")},
        {"poll_interval": "1"},
        {"poll_interval": True},
        {"limit": 0},
        {"limit": 1.5},
        {"thread_ids": "1"},
        {"thread_ids": [""]},
    ],
)
@POOLS
async def test_bad_arguments_are_refused(kind: str, database_uri: str, options: dict[str, Any]) -> None:
    async with open_saver(kind, database_uri) as saver:
        with pytest.raises(InvalidInputError):
            await tail(saver, **options)


async def test_cursors_of_another_database_are_refused(saver: Any) -> None:
    await converse(saver, ids="a")
    (*_, last) = await tail(saver)
    for after in (Cursor(2, 1, 1), last.cursor._replace(xid=last.cursor.xid + 10_000_000), Cursor(7, 0, 0)):
        with pytest.raises(CursorError, match="another database"):
            await tail(saver, after)
        with pytest.raises(CursorError, match="another database"):
            await saver.log.lag(after)
    assert await tail(saver, last.cursor) == []


@POOLS
async def test_the_cursor_of_an_erased_event_stays_valid(kind: str, database_uri: str) -> None:
    async with open_saver(kind, database_uri) as saver:
        await converse(saver, ids="ab")
        await converse(saver, "2", ids="a")
        found = await tail(saver)
        await saver.adelete_thread("2")
        assert [event.kind for event in await tail(saver, found[-1].cursor)] == [Kind.THREAD_DELETED]


def test_a_log_on_one_server_has_no_nodes(database_uri: str) -> None:
    """The functions for a distributed log find nothing there, and a distributed log's cursor is refused."""
    with psycopg.connect(database_uri, autocommit=True) as conn:
        append(conn, "1")
        ((is_distributed, keys),) = conn.execute(
            "select eventlog.is_distributed_v1(), eventlog.feed_keys_v1(null)"
        ).fetchall()
        if is_distributed:
            return
        assert keys is None
        driver = Driver(conn)
        nodes = Nodes(["1"], 0, None, None, 0)
        found = Generations(["1"], [0], [1], 1, datetime.now(timezone.utc))
        cursor = Cursor.parse("1-0-0.00000000-ffffffff-1-1")
        with pytest.raises(CursorError, match="this one is not"):
            driver.run(lambda: read_feed(STATEMENTS, cursor))
        assert (
            conn.execute("select * from eventlog.feed_parts_v1('0', 0, null, null, null, null, null)").fetchall() == []
        )
        page = driver.run(lambda: read_nodes(STATEMENTS, nodes, cursor, 1, 1, None))
        assert page == FeedPage([], cursor, is_end=False)
        lag = driver.run(lambda: read_nodes_lag(STATEMENTS, found, cursor, 1))
        assert (lag.waiting, lag.unsettled) == (0, 0)
        with pytest.raises(LogBusyError):
            driver.run(lambda: read_nodes_end(STATEMENTS, found))
