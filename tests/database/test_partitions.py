"""The log's partitions: their bounds, making them in time or on demand, and what guards them."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import psycopg
import pytest
from psycopg import errors as pg
from psycopg import sql
from typing_extensions import LiteralString

from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, put, values_of
from tests.support.pooler import direct

pytestmark = pytest.mark.portable


def bounds(tables: Tables) -> list[tuple[str, datetime, datetime]]:
    """Names and bounds of the partitions, oldest first; our table of them and PostgreSQL's agree."""
    listed = tables.rows("select name, starts_at, ends_at from {schema}.partitions order by starts_at")
    attached = tables.rows(
        r"""
        select c.relname,
            substring(pg_get_expr(c.relpartbound, c.oid) from $$FROM \('(.*?)'$$)::timestamptz,
            substring(pg_get_expr(c.relpartbound, c.oid) from $$TO \('(.*?)'$$)::timestamptz
        from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
        where i.inhparent = '{schema}.events'::regclass
        order by 2
        """
    )
    assert listed == attached
    return [(name, start.astimezone(timezone.utc), end.astimezone(timezone.utc)) for name, start, end in listed]


def start_of(interval: str, at: datetime) -> datetime:
    """Where the interval that holds a time begins, in UTC; weeks begin on Monday."""
    day = at.astimezone(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    if interval == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if interval == "month" else day


def expected(interval: str, at: datetime, ahead: int) -> list[tuple[datetime, datetime]]:
    """The bounds of the interval that holds a time and of those after it."""
    starts = [start_of(interval, at)]
    step = {"day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=31)}[interval]
    while len(starts) < ahead + 2:
        starts.append(start_of(interval, starts[-1] + step))
    return list(pairwise(starts))


def check_without_gaps(found: list[tuple[str, datetime, datetime]]) -> None:
    for (_, _, end), (_, start, _) in pairwise(found):
        assert end == start


# --- in time


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
@pytest.mark.parametrize(("interval", "ahead"), [("day", 0), ("day", 3), ("week", 6), ("month", 26)])
async def test_setup_makes_the_current_partition_and_those_ahead(
    kind: str, interval: str, ahead: int, empty_database_uri: str
) -> None:
    """`setup()` makes the current one and those ahead, in UTC, whatever the session's zone is."""
    # Half past six in UTC is another day there, and clocks change twice a year.
    connect = {"autocommit": True, "options": "-c timezone=America/St_Johns"}
    settings = {"partition_interval": interval, "partitions_ahead": ahead}
    before = datetime.now(timezone.utc)
    # Directly: poolers know few of the options that a session can begin with.
    async with open_saver(kind, direct(empty_database_uri), connect=connect, **settings) as saver:
        await saver.setup()
        await saver.setup()
        await put(saver, config_of(), "1")
    tables = Tables(empty_database_uri)
    found = bounds(tables)

    # The hour may strike in between.
    after = datetime.now(timezone.utc)
    assert [one[1:] for one in found] in (expected(interval, before, ahead), expected(interval, after, ahead))
    assert all(name == f"events_{start:%Y%m%d}" for name, start, _ in found)
    where = tables.one("select c.relname from {schema}.events as e join pg_class as c on c.oid = e.tableoid")
    assert where in (found[0][0], found[-1][0])


@pytest.mark.parametrize(
    "at",
    [
        "2024-02-29 23:59:59.999999+00",
        # The clocks of most zones change around here.
        "2025-03-30 01:00:00+00",
        "2024-12-31 23:59:59.999999-05",
        "2027-01-01 00:00:00+00",
        "2023-12-31 12:00:00+14",
    ],
)
def test_bounds_are_right_at_the_ends_of_periods(at: str, database_uri: str) -> None:
    """At the ends of days, weeks, months and years."""
    tables = Tables(database_uri)
    moment = datetime.fromisoformat(f"{at}:00")
    for interval in ("day", "week", "month"):
        tables.drop_partitions()
        # Directly: poolers know few of the options that a session can begin with.
        with psycopg.connect(direct(database_uri), autocommit=True, options="-c timezone=Europe/Berlin") as conn:
            for _ in range(2):
                conn.execute("select eventlog.ensure_partitions_v1(%s, 14, %s)", (at, interval))

        assert [one[1:] for one in bounds(tables)] == expected(interval, moment, 14), interval


@pytest.mark.parametrize("changes", [("month", "day"), ("day", "month"), ("week", "month", "day"), ("month", "week")])
async def test_a_changed_interval_fills_gaps_without_overlap(changes: tuple[str, ...], empty_database_uri: str) -> None:
    """Gaps are filled up, what is there stays, and nothing overlaps."""
    tables = Tables(empty_database_uri)
    found: list[tuple[str, datetime, datetime]] = []
    for ahead, interval in enumerate(changes, 2):
        ahead = {"day": 80, "week": 12, "month": 3}[interval] + ahead
        settings = {"partition_interval": interval, "partitions_ahead": ahead}
        async with open_saver("sync-pool", empty_database_uri, **settings) as saver:
            await saver.setup()
            await put(saver, config_of(interval), "1")
        before, found = found, bounds(tables)

        assert set(before) <= set(found)
        check_without_gaps(found)
        assert found[-1][2] >= expected(interval, datetime.now(timezone.utc) - timedelta(hours=1), ahead)[-1][1]
    assert tables.events() == len(changes)


def test_gaps_between_scattered_partitions_are_filled(database_uri: str) -> None:
    """Partitions that lie scattered: what is missing between them is made, cut to fit."""
    tables = Tables(database_uri)
    tables.drop_partitions()
    ensure = "select eventlog.ensure_partitions_v1(%s, %s, %s)"
    with psycopg.connect(database_uri, autocommit=True) as conn:
        conn.execute(ensure, ("2030-01-10", 0, "day"))
        conn.execute(ensure, ("2030-01-20", 1, "day"))
        conn.execute(ensure, ("2030-02-26", 0, "week"))
        made = conn.execute(ensure, ("2030-01-15", 1, "month")).fetchall()

    found = bounds(tables)
    assert [f"{start:%m%d}-{end:%m%d}" for _, start, end in found] == [
        *("0101-0110", "0110-0111", "0111-0120", "0120-0121", "0121-0122", "0122-0201", "0201-0225", "0225-0304")
    ]
    assert [name for (name,) in made] == ["events_20300101", "events_20300111", "events_20300122", "events_20300201"]


# --- on demand


async def test_an_append_without_a_partition_makes_it(
    kind: str, database_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An append that finds none makes them, says so, and is appended."""
    tables = Tables(database_uri)
    tables.drop_partitions()
    settings = {"partition_interval": "week", "partitions_ahead": 1}
    async with open_saver(kind, database_uri, **settings) as saver:
        stored = await put(saver, config_of(), "1", {"x": 1})
        assert len(bounds(tables)) == 2
        await saver.aput_writes(stored, [("x", 1)], "task")
        assert await values_of(saver, stored) == {"x": 1}

        tables.drop_partitions()
        await saver.aput_writes(stored, [("x", 1)], "task")
        assert len(bounds(tables)) == 2
    made = [record for record in caplog.records if record.event != "eventlog.pooler_found"]
    assert [record.event for record in made] == ["eventlog.partition_made_on_demand"] * 2
    assert {record.levelno for record in made} == {logging.WARNING}


@pytest.mark.parametrize("kind", ["sync-connection", "async-connection", "sync-pool", "async-pool"])
async def test_an_append_without_autocommit_makes_its_partition(kind: str, database_uri: str) -> None:
    """The failed append leaves no transaction behind in which nothing works."""
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri, connect={}) as saver:
        for checkpoint_id in ("1", "2"):
            tables.drop_partitions()
            await put(saver, config_of(), checkpoint_id, {"x": checkpoint_id})
            # Durable, and the partitions are.
            assert tables.events() == 1
            assert len(bounds(tables)) == 4


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_concurrent_appends_make_each_missing_partition_once(kind: str, database_uri: str) -> None:
    """All of them succeed, and none makes what another one made."""
    tables = Tables(database_uri)
    tables.drop_partitions()
    async with open_saver(kind, database_uri) as one, open_saver(kind, database_uri) as other:
        puts = [put((one, other)[n % 2], config_of(n % 5), f"{n:02}", {"x": n}) for n in range(40)]
        await asyncio.gather(*puts)
    assert tables.events() == 40
    assert len(bounds(tables)) == 4


def test_finding_partitions_waits_for_the_transaction_that_makes_them(database_uri: str) -> None:
    """Until he has ended: his commit can be seen before the table is known to have them, and an append would fail.

    That moment cannot be held here, only the lock that lasts through it: it is seen to be taken, and waited for.
    """
    ensure = "select eventlog.ensure_partitions_v1(clock_timestamp() + %s, 0, 'month')"
    lock = "lock table eventlog.partitions in share row exclusive mode"
    # Directly: a setting is a session's.
    with psycopg.connect(database_uri) as maker, psycopg.connect(direct(database_uri)) as other:
        other.execute("set lock_timeout = 100")
        other.commit()
        assert maker.execute(ensure, (timedelta(days=1000),)).fetchall() != []
        with pytest.raises(pg.LockNotAvailable):
            other.execute(lock)
        maker.rollback()
        other.rollback()
        maker.execute(lock)
        with pytest.raises(pg.LockNotAvailable):
            other.execute(ensure, (timedelta(0),))
        maker.rollback()
        other.rollback()
        assert other.execute(ensure, (timedelta(0),)).fetchall() == []


def test_two_transactions_that_look_and_then_make_do_not_deadlock(database_uri: str) -> None:
    """Who only waited keeps nothing: else each of two would have what the other one waits for."""
    ensure = "select eventlog.ensure_partitions_v1(clock_timestamp() + %s, 0, 'month')"
    with psycopg.connect(database_uri) as one, psycopg.connect(database_uri) as other:
        for conn in (one, other):
            conn.execute("set local lock_timeout = '120s'")
            assert conn.execute(ensure, (timedelta(0),)).fetchall() == []
        assert one.execute(ensure, (timedelta(days=1000),)).fetchall() != []
        one.commit()
        assert other.execute(ensure, (timedelta(days=2000),)).fetchall() != []


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_a_deletion_without_a_partition_makes_it(kind: str, database_uri: str) -> None:
    """A tombstone is an event too."""
    tables = Tables(database_uri)
    async with open_saver(kind, database_uri) as saver:
        await put(saver, config_of(), "1", {"x": 1})
        # As if it had been long ago, when there was another partition.
        ((name, start, _),) = bounds(tables)[:1]
        past = sql.SQL(
            "alter table {} attach partition {} for values from ('2020-01-01 00:00Z') to ('2020-01-02 00:00Z')"
        )
        with psycopg.connect(database_uri) as conn:
            events, table = sql.Identifier("eventlog", "events"), sql.Identifier("eventlog", name)
            conn.execute("set local session_replication_role = replica")
            conn.execute(sql.SQL("alter table {} detach partition {}").format(events, table))
            conn.execute(sql.SQL("update {} set recorded_at = '2020-01-01 12:00Z'").format(table))
            conn.execute("update eventlog.checkpoints set recorded_at = '2020-01-01 12:00Z'")
            conn.execute(past.format(events, table))
            conn.execute(sql.SQL("alter table {} rename to events_20200101").format(table))
            conn.execute(
                "update eventlog.partitions set name = 'events_20200101',"
                " starts_at = '2020-01-01 00:00Z', ends_at = '2020-01-02 00:00Z' where name = %s",
                (name,),
            )

        await saver.adelete_thread("1")

    rows = tables.rows("select seq, kind from {schema}.events")
    assert rows == [(2, 3)]
    assert start in [each[1] for each in bounds(tables)]


# --- guards


@pytest.mark.parametrize("kind", ["sync-pool"])
async def test_events_are_immutable(saver: Any, database_uri: str) -> None:
    """UPDATE, DELETE and TRUNCATE are refused on the log and on its partitions, however they were made."""
    tables = Tables(database_uri)
    await put(saver, config_of(), "1", {"x": 1})
    tables.run("select {schema}.ensure_partitions_v1('2030-01-01', 0, 'day')")
    ((current,),) = tables.rows("select c.relname from {schema}.events e join pg_class c on c.oid = e.tableoid")
    before = tables.contents()

    statements: list[LiteralString] = [
        "update {table} set body = ''",
        "update {table} set recorded_at = recorded_at + interval '1 month'",
        "delete from {table}",
        # With the position: before PostgreSQL 17 a partition itself does not give one.
        "insert into {table} (thread_id, checkpoint_ns, seq, recorded_at, position, xid, kind, checkpoint_id,"
        " state_digest, digest, body)"
        " overriding system value"
        " select thread_id, checkpoint_ns, seq, recorded_at, position, xid, kind, checkpoint_id, state_digest, digest,"
        " body"
        " from {table}"
        " on conflict (thread_id, checkpoint_ns, seq, recorded_at) do update set body = ''",
    ]
    with psycopg.connect(database_uri, autocommit=True) as conn:
        if conn.info.server_version >= 150000:
            statements.append("merge into {table} as e using (select 1) as s on true when matched then delete")
        cases = [(table, statement) for table in ("events", current) for statement in statements]
        # There an empty one is refused as well: rows make no difference.
        cases += [(table, "truncate {table}") for table in ("events", current, "events_20300101")]
        for table, statement in cases:
            with pytest.raises(pg.RestrictViolation, match="is refused: events are immutable"):
                conn.execute(sql.SQL(statement).format(table=sql.Identifier("eventlog", table)))
        # With everything else it is not only the log that is at stake.
        with pytest.raises(pg.RestrictViolation):
            conn.execute("truncate eventlog.streams, eventlog.checkpoints, eventlog.events, eventlog.snapshots")

    assert tables.contents() == before


@pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])
async def test_events_are_immutable_again_after_an_erasure(kind: str, database_uri: str) -> None:
    """After `delete_thread`, in the same session or even transaction, the log is closed again."""
    with psycopg.connect(database_uri) as conn:
        async with open_saver(kind, database_uri) as saver:
            await put(saver, config_of(), "1", {"x": 1})
            await put(saver, config_of("2"), "1", {"x": 1})
        conn.execute("select eventlog.delete_thread_v1('1')")
        with pytest.raises(pg.RestrictViolation, match=r"DELETE on eventlog.* is refused"):
            conn.execute("delete from eventlog.events")
        conn.rollback()
        conn.execute("select eventlog.delete_thread_v1('1')")
        conn.commit()
        with pytest.raises(pg.RestrictViolation):
            conn.execute("delete from eventlog.events")


def test_vacuum_freezes_rows_at_once(database_uri: str) -> None:
    """In partitions, in what they store out of line, and in the other tables with rows that never change."""
    tables = Tables(database_uri)
    options = dict(
        tables.rows(
            """
            select c.relname, array[c.reloptions::text, t.reloptions::text]
            from pg_class as c inner join pg_class as t on t.oid = c.reltoastrelid
            where c.relnamespace = 'eventlog'::regnamespace
            """
        )
    )
    partitions = [name for name, _, _ in bounds(tables)]
    assert partitions
    for name in (*partitions, "checkpoints", "snapshots"):
        assert options[name] == ["{autovacuum_freeze_min_age=0}"] * 2, name
