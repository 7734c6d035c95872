"""Sixteen processes that start at once, on a database in any state: each script is applied exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from eventlog.db.migrations import migrate_step
from eventlog.db.statements import Statements
from eventlog.db.sync import Driver
from tests.database.replicas import PATIENCE, replicas
from tests.support.adapters import open_saver
from tests.support.checkpoints import Tables, config_of, put, values_of
from tests.support.soundness import assert_sound

COUNT = 16

SCRIPTS = Statements("eventlog").scripts
MIGRATIONS = [script.name for script in SCRIPTS if script.revision is None]

# What was made in the schema, as often as that was committed. A function that is made again would leave no other trace.
WATCH = """
    create table made (what text);
    create function note_made() returns event_trigger language plpgsql as $$
    begin
        insert into public.made
        select d.command_tag || ' ' || d.object_identity from pg_event_trigger_ddl_commands() as d
        where d.schema_name = 'eventlog' and d.command_tag in ('CREATE TABLE', 'CREATE FUNCTION');
    end $$;
    create event trigger made on ddl_command_end execute function note_made();
"""

# The session that makes this function stays in the middle of its script until the gate is opened. Not by a lock, for
# which a script would not wait long.
GATE = """
    create table gate (is_open boolean);
    insert into gate values (false);
    create sequence arrived;
    create function wait_at_gate() returns event_trigger language plpgsql as $$
    begin
        if not exists (
            select 1 from pg_event_trigger_ddl_commands() as d where d.object_identity ~ '^eventlog.advance_stream_v1'
        ) then
            return;
        end if;
        perform nextval('public.arrived');
        loop
            perform 1 from public.gate where is_open;
            exit when found;
            perform pg_sleep(0.02);
        end loop;
    end $$;
    create event trigger gate on ddl_command_end when tag in ('CREATE FUNCTION') execute function wait_at_gate();
"""


async def set_up_and_use(saver: Any, number: int) -> None:
    """What a replica does when it starts."""
    await saver.setup()
    config = await put(saver, config_of(f"{number}"), "1", {"x": number})
    await saver.aput_writes(config, [("x", number)], "task")
    assert await values_of(saver, config) == {"x": number}


def set_up(uri: str, until: str | None) -> None:
    """Apply the scripts before and including one; only make the schema, if it is none."""
    with psycopg.connect(uri, autocommit=True) as conn:
        for _ in range(1 + [None, *(script.name for script in SCRIPTS)].index(until)):
            Driver(conn).run_atomic(lambda: migrate_step(Statements("eventlog")))


async def check(uri: str, count: int) -> None:
    """Each script once, as it is in the repository; the current partition and those ahead; a log that works."""
    tables = Tables(uri)
    applied = tables.rows("select name, checksum from {schema}.migrations order by applied_at")
    assert applied == [(script.name, script.checksum) for script in SCRIPTS]
    assert tables.rows("select what from made group by what having count(*) > 1") == []
    assert tables.one("select count(*) from {schema}.partitions") == 4
    assert tables.rows("select thread_id, seq from {schema}.events") != []
    assert tables.one("select count(*) from {schema}.generations where generation > 0") == 1
    async with open_saver("async-string", uri) as saver:
        for number in range(count):
            await set_up_and_use(saver, COUNT + number)
        await saver.adelete_thread(f"{COUNT}")
        assert (await saver.log.verify()).problems == []
    assert_sound(tables)


@pytest.mark.parametrize("until", ["nothing", None, *MIGRATIONS, "append_checkpoint_v1", SCRIPTS[-1].name], ids=str)
async def test_sixteen_processes_set_up_concurrently(until: str | None, empty_database_uri: str) -> None:
    """On an empty database, on one where an earlier setup was stopped after each migration, and on a finished one."""
    uri = empty_database_uri
    Tables(uri).run(WATCH)
    if until != "nothing":
        await asyncio.to_thread(set_up, uri, until)

    with replicas(uri, COUNT, set_up_and_use) as started:
        started.go()
        assert started.finish() == [0] * COUNT

    tables = Tables(uri)
    assert tables.one("select count(*) from {schema}.events") == 2 * COUNT
    await check(uri, 2)


async def test_a_killed_setup_is_undone_and_completed_by_others(empty_database_uri: str) -> None:
    """In the middle of a script, with the lock. What it did is undone, and the others go on with that script."""
    uri = empty_database_uri
    tables = Tables(uri)
    tables.run(WATCH, GATE)
    with replicas(uri, COUNT, set_up_and_use) as started:
        started.go()
        await until_true(lambda: tables.one("select is_called from arrived"))
        ((name,),) = tables.rows(
            "select a.application_name from pg_locks as l inner join pg_stat_activity as a using (pid)"
            " where l.locktype = 'advisory' and l.granted and a.datname = current_database()"
        )
        victim = int(name.removeprefix("replica "))
        started.kill(victim)
        # Its server process is still there, and still has the lock. It will find that its client is gone.
        assert tables.one("select count(*) from pg_stat_activity where application_name = %s", name) >= 1
        applied = [name for (name,) in tables.rows("select name from {schema}.migrations order by applied_at")]
        assert applied == [script.name for script in SCRIPTS[: len(applied)]]
        assert SCRIPTS[len(applied)].name == "advance_stream_v1"
        tables.run("update gate set is_open = true")

        codes = started.finish()
    assert [number for number, code in enumerate(codes) if code != 0] == [victim]
    # It came to the gate, and so did the one that went on.
    assert tables.one("select last_value from arrived") == 2
    assert tables.one("select count(*) from {schema}.events") == 2 * (COUNT - 1)
    tables.run("drop event trigger gate")
    await check(uri, 1)


async def until_true(condition: Callable[[], Any]) -> None:
    """Wait for it, for as long as replicas may take."""

    async def wait() -> None:
        while not await asyncio.to_thread(condition):
            await asyncio.sleep(0.02)

    await asyncio.wait_for(wait(), PATIENCE)
