"""Rebuilding while others write and read: nobody is disturbed, and nothing of the tables is lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from eventlog.errors import LogBusyError, StorageError
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from projections import rebuild
from projections.rebuild import Rebuilt
from tests.rebuild.workload import Load, append, at_the_swap, nothing_left
from tests.support.checkpoints import Tables, config_of
from tests.support.soundness import assert_keyframes, assert_sound, projected


@pytest.fixture
def tables(database_uri: str) -> Tables:
    return Tables(database_uri)


@pytest.fixture
def pool(database_uri: str) -> Iterator[ConnectionPool[Any]]:
    with ConnectionPool(database_uri, min_size=1, max_size=20, kwargs={"autocommit": True}) as opened:
        yield opened


@pytest.fixture
def saver(pool: ConnectionPool[Any]) -> EventLogSaver:
    return EventLogSaver(pool, snapshot_floor_bytes=2000)


async def rebuild_async(uri: str, **options: Any) -> Rebuilt:
    async with AsyncEventLogSaver.from_conn_string(uri, snapshot_floor_bytes=2000) as saver:
        return await saver.log.rebuild(**options)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_rebuild_under_load_equals_the_live_projections(
    mode: str, saver: EventLogSaver, database_uri: str, tables: Tables
) -> None:
    """Nobody is disturbed, nothing is lost, and what comes out is what is there."""

    def rebuild_log(**options: Any) -> Rebuilt:
        return saver.log.rebuild(**options) if mode == "sync" else asyncio.run(rebuild_async(database_uri, **options))

    with Load(saver) as load:
        while load.appended < 100:
            time.sleep(0.01)
        for _ in range(2):
            before = load.appended
            found = rebuild_log(workers=3)
            assert not any(found.differing.values()), found.differences
            found = rebuild_log(check=True, workers=2)
            assert not any(found.differing.values()), found.differences
            assert load.appended > before, "nobody could write meanwhile"
    assert_sound(tables)
    assert_keyframes(tables)
    rows = projected(tables, keyframes=False)
    assert not any(saver.log.rebuild(check=True).differing.values())
    saver.log.rebuild()
    assert projected(tables, keyframes=False) == rows


def test_damage_is_repaired_while_others_write(saver: EventLogSaver, tables: Tables) -> None:
    """Repaired while others write to the very same streams."""
    append(saver, "damaged", "0")
    with Load(saver) as load:
        while load.appended < 100:
            time.sleep(0.01)
        tables.run("update {schema}.checkpoints set state_bytes = 1 where thread_id = 'damaged'")
        found = saver.log.rebuild()
        assert [each[:5] for each in found.differences] == [("damaged", "", "checkpoints", "0", "different")]
    assert not any(saver.log.rebuild(check=True).differing.values())
    assert_sound(tables)


# --- the change of places


@pytest.mark.parametrize("prepare", [None, 0])
def test_a_reader_that_waited_for_the_swap_sees_all_appends(
    prepare: int | None, database_uri: str, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that waits for the lock reads what was put just before it, though its statement began before the end."""
    with ConnectionPool(
        database_uri, min_size=4, max_size=4, kwargs={"autocommit": True, "prepare_threshold": prepare}
    ) as pool:
        saver, reader = EventLogSaver(pool), EventLogSaver(pool, state_cache_bytes=0)
        append(saver, "1", "1")
        for _ in range(6):  # so that each connection has plans that are kept
            assert reader.get_tuple(config_of("1")) is not None
            assert len(list(reader.list(config_of("1")))) == 1
        with ThreadPoolExecutor(3) as threads:
            waiting: list[Any] = []

            def before() -> None:
                append(saver, "1", "2", "1")
                append(saver, "new", "1")

            def under() -> None:
                waiting.extend(threads.submit(reader.get_tuple, config_of(id_)) for id_ in ("1", "new"))
                waiting.append(threads.submit(lambda: list(reader.list(config_of("new")))))
                while tables.one("select count(distinct pid) from pg_locks where not granted") < 3:
                    time.sleep(0.01)

            at_the_swap(monkeypatch, before, under)
            saver.log.rebuild(workers=1)
            one, new, listing = (each.result() for each in waiting)
    assert one is not None
    assert one.checkpoint["id"] == "2"
    assert new is not None
    assert [found.checkpoint["id"] for found in listing] == ["1"]


def test_a_writer_that_waited_for_the_swap_writes_to_the_new_tables(
    saver: EventLogSaver, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on with the new tables: numbers go on, and nothing is in the old ones."""
    append(saver, "1", "1")
    with ThreadPoolExecutor(1) as threads:
        waiting: list[Any] = []

        def under() -> None:
            waiting.append(threads.submit(append, saver, "1", "3", "2"))
            while not tables.one("select count(*) from pg_locks where not granted"):
                time.sleep(0.01)

        at_the_swap(monkeypatch, lambda: append(saver, "1", "2", "1"), under)
        saver.log.rebuild()
        waiting[0].result()
    assert_sound(tables)
    assert tables.rows("select seq from {schema}.streams") == [(3,)]
    assert tables.rows("select seq from {schema}.streams_old_1") == [(2,)]
    assert not any(saver.log.rebuild(check=True).differing.values())


def test_a_rebuild_waits_for_locks_without_blocking_others(
    saver: EventLogSaver, database_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds a lock on a table keeps the rebuild waiting, not the others behind it; in the end it gives up."""
    append(saver, "1", "1")
    monkeypatch.setattr(rebuild, "SWAP_ATTEMPTS", 3)
    with psycopg.connect(database_uri) as conn:
        conn.execute("select * from eventlog.snapshots")
        with pytest.raises(LogBusyError):
            saver.log.rebuild()
        append(saver, "1", "2", "1")
        conn.rollback()
        # It goes on with what it had: one event is new.
        assert saver.log.rebuild().events == 1
    assert [found.checkpoint["id"] for found in saver.list(config_of("1"))] == ["2", "1"]


def test_catching_up_under_the_lock_is_bounded(
    saver: EventLogSaver, monkeypatch: pytest.MonkeyPatch, tables: Tables
) -> None:
    """Under the lock is only so much done; the rest is done before it is taken again."""
    ids = count()
    append(saver, "0", "0")
    monkeypatch.setattr("projections.swap.LOCKED_STREAMS", 2)
    at_the_swap(
        monkeypatch,
        lambda: [append(saver, f"{next(ids)}", "1") for _ in range(5)] and None,
        lambda: pytest.fail("this was too much"),
    )
    assert saver.log.rebuild().events == 6
    assert not any(saver.log.rebuild(check=True).differing.values())


def test_new_tables_have_the_old_ones_properties(saver: EventLogSaver, database_uri: str, tables: Tables) -> None:
    """Names, constraints, settings, owner, rights, comments: the new tables cannot be told from the old ones."""
    append(saver, "1", "1")
    tables.run(
        'create role "An owner"',
        'create role "A reader"',
        'grant create, usage on schema {schema} to "An owner"',
        'alter table {schema}.streams owner to "An owner"',
        "alter table {schema}.streams set (autovacuum_enabled = false, toast.autovacuum_enabled = false)",
        "alter table {schema}.checkpoints replica identity full",
        "alter table {schema}.snapshots replica identity using index snapshots_pkey",
        "alter table {schema}.checkpoints alter column metadata set storage main",
        'create index "An index" on {schema}.checkpoints (run_id, seq)',
        "comment on table {schema}.streams is 'kept'",
        "comment on column {schema}.streams.seq is 'kept'",
        'grant select, update on {schema}.streams to "A reader" with grant option',
        'grant select (checkpoint_id) on {schema}.checkpoints to "A reader"',
        "grant select on {schema}.checkpoints to public",
        "revoke delete on {schema}.snapshots from postgres",
        'alter default privileges in schema {schema} grant all on tables to "A reader"',
    )
    try:
        before = described(tables)
        saver.log.rebuild()
        saver.log.rebuild()
        for was, now in zip(before, described(tables), strict=True):
            assert [row for row in now if row not in was] == []
            assert len(now) == len(was)
    finally:
        tables.run(
            'drop owned by "A reader" cascade',
            'drop role "A reader"',
            "alter table {schema}.streams owner to postgres",
        )
        saver.log.drop_old()
        tables.run('drop owned by "An owner" cascade', 'drop role "An owner"')


def described(tables: Tables) -> list[Any]:
    return [
        tables.rows(query)
        for query in (
            """
            select
                c.relname, c.relkind, c.relowner::regrole::text, c.reloptions, t.reloptions, c.relreplident,
                obj_description(c.oid, 'pg_class'),
                (select array_agg(a::text order by a::text) from unnest(c.relacl) as a)
            from pg_class as c left join pg_class as t on t.oid = c.reltoastrelid
            where c.relnamespace = 'eventlog'::regnamespace and c.relname !~ '_old_' order by 1
            """,
            """
            select
                c.relname, a.attname, a.attnum, a.atttypid::regtype::text, a.attnotnull, a.attstorage, a.attcollation,
                pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum), a.attacl::text
            from pg_class as c inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0
            left join pg_attrdef as d on d.adrelid = c.oid and d.adnum = a.attnum
            where c.relnamespace = 'eventlog'::regnamespace and c.relname !~ '_old_' and c.relkind = 'r' order by 1, 3
            """,
            """
            select i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid), i.indisprimary, i.indisreplident
            from pg_index as i where i.indrelid = any(array[
                'eventlog.streams'::regclass, 'eventlog.checkpoints'::regclass, 'eventlog.snapshots'::regclass
            ]) order by 1
            """,
            """
            select c.conname, c.conrelid::regclass::text from pg_constraint as c
            where c.connamespace = 'eventlog'::regnamespace and c.contype = 'p' and c.conname !~ '_old_' order by 1
            """,
        )
    ]


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("create view eventlog.mine as select thread_id from eventlog.streams", "view eventlog.mine"),
        (
            "create trigger mine after insert on eventlog.checkpoints"
            " for each row execute function suppress_redundant_updates_trigger()",
            "trigger mine",
        ),
        ("create publication mine for table eventlog.streams", "publication mine"),
        ("create policy mine on eventlog.streams", "policy mine"),
        (
            "alter table eventlog.checkpoints enable row level security",
            "row level security.*checkpoints",
        ),
        ("alter table eventlog.snapshots force row level security", "row level security.*snapshots"),
    ],
)
def test_dependents_that_would_stay_behind_are_named_and_refused(
    saver: EventLogSaver, tables: Tables, statement: Any, named: str
) -> None:
    """It is named before anything is done."""
    append(saver, "1", "1")
    tables.run(statement)
    before = tables.contents()
    with pytest.raises(StorageError, match=named):
        saver.log.rebuild()
    assert nothing_left(tables)
    assert tables.contents() == before
