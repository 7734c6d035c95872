"""`verify` compares the database's own code with what this version ships, and names what differs."""

from __future__ import annotations

import re

import psycopg
import pytest

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.adapters import open_saver
from tests.support.checkpoints import config_of, put
from tests.support.server import Server

pytestmark = pytest.mark.portable

#: What an owner runs, and what `verify` says of it.
CHANGES = {
    "the reading function is replaced": (
        """
        do $do$ begin execute replace(
            pg_get_functiondef('eventlog.read_checkpoint_v1'::regproc),
            'c.parent_checkpoint_id, c.keyframe_seq', 'null, c.keyframe_seq'
        ); end $do$
        """,
        ["function read_checkpoint_v1 was altered: its source is another one"],
    ),
    "a ledger is hidden by row security": (
        "alter table eventlog.seals enable row level security, force row level security;"
        "create policy hides on eventlog.seals using (number < 3)",
        [
            "policy hides on seals was not made by this version",
            "relation seals was altered: row security, row security for its owner",
        ],
    ),
    "a partition is hidden by row security": (
        "do $$ declare v_name text; begin select inhrelid::regclass::text into v_name from pg_inherits"
        " where inhparent = 'eventlog.events'::regclass order by 1 limit 1;"
        " execute format('alter table %s enable row level security', v_name); end $$",
        [r"relation events_\d+ was altered: row security"],
    ),
    "a guard trigger is dropped": (
        "drop trigger events_immutable on eventlog.events",
        [r"trigger events_immutable on events is missing", *[r"trigger events_immutable on events_\d+ is missing"] * 4],
    ),
    "a guard trigger is disabled": (
        "alter table eventlog.events disable trigger events_not_truncated",
        [r"trigger events_not_truncated on events was altered: enabled D"],
    ),
    "a view stands in place of a table": (
        "alter table eventlog.ended rename to ended_once;"
        "create view eventlog.ended as select * from eventlog.ended_once",
        [
            "constraint ended_pkey on ended is missing",
            "index ended_pkey on ended is missing",
            "relation ended was altered: kind v, column .*",
        ],
    ),
    "a rule drops what is inserted": (
        "create rule forget as on insert to eventlog.sealed do instead nothing",
        ["rule forget on sealed was not made by this version"],
    ),
    "a trigger changes what is inserted": (
        "create function eventlog.change() returns trigger language plpgsql as 'begin return null; end';"
        "create trigger aaa before insert on eventlog.checkpoints for each row execute function eventlog.change()",
        [
            "function change was not made by this version",
            "trigger aaa on checkpoints was not made by this version",
        ],
    ),
    "a function gets other rights": (
        "alter function eventlog.event_leaf_v1 security definer",
        ["function event_leaf_v1 was altered: security definer"],
    ),
    "a function gets another search path": (
        "alter function eventlog.record_details_v1 set search_path = public, pg_catalog",
        ["function record_details_v1 was altered: search_path=public, pg_catalog"],
    ),
    "a function gets another owner": (
        "create role code_mallory; alter function eventlog.read_listed_v1 owner to code_mallory",
        ["function read_listed_v1 was altered: not the log's owner's"],
    ),
    "a function gets a namesake": (
        "create function eventlog.is_subscriber_v1(int) returns bool language sql as 'select true'",
        ["function is_subscriber_v1 (was altered|was not made by this version).*"],
    ),
    "a role may insert": (
        "create role code_writer; grant insert, select on eventlog.events to code_writer;"
        "grant update (digest), select (digest) on eventlog.streams to code_writer;"
        "grant delete on eventlog.ended to public",
        [
            "relation ended was altered: delete for all",
            "relation events was altered: insert for code_writer",
            "relation streams was altered: update for code_writer",
        ],
    ),
    "all may execute a function": (
        "grant execute on function eventlog.delete_thread_v1 to public",
        ["function delete_thread_v1 was altered: execute for all"],
    ),
    "a constraint is dropped": (
        "alter table eventlog.seals drop constraint seals_number_check",
        ["constraint seals_number_check on seals is missing"],
    ),
    "a constraint is added": (
        "alter table eventlog.checkpoints add constraint mine check (thread_id <> 'x') not valid",
        ["constraint mine on checkpoints was not made by this version"],
    ),
    "a partition gets a constraint": (
        "do $$ declare v_name text; begin select inhrelid::regclass::text into v_name from pg_inherits"
        " where inhparent = 'eventlog.events'::regclass order by 1 limit 1;"
        " execute format('alter table %s add constraint mine check (thread_id <> ''x'')', v_name); end $$",
        [r"constraint mine on events_\d+ was not made by this version"],
    ),
    "a primary key is dropped": (
        "alter table eventlog.streams drop constraint streams_pkey",
        [
            "constraint streams_pkey on streams is missing",
            "index streams_pkey on streams is missing",
        ],
    ),
    "a column may be null, or has another default": (
        "alter table eventlog.streams alter column digest drop not null;"
        "alter table eventlog.events alter column xid set default '3'",
        [
            "relation events was altered: column xid xid8 not null default '3'::xid8",
            *[r"relation events_\d+ was altered: column xid xid8 not null default '3'::xid8"] * 4,
            "relation streams was altered: column digest bytea",
        ],
    ),
    "an index refuses rows": (
        "create unique index mine on eventlog.checkpoints (thread_id, seq)",
        ["index mine on checkpoints was not made by this version"],
    ),
    "an index is another one": (
        "drop index eventlog.events_tail_idx; create index events_tail_idx on eventlog.events (position)",
        ['index events_tail_idx on events was altered: of "position"'],
    ),
    "a table has more rows by inheritance": (
        "create table public.more () inherits (eventlog.streams)",
        [r"table public\.more inheriting from streams was not made by this version"],
    ),
    "a partition is none of the log's": (
        "create table public.more partition of eventlog.events for values from ('1990-01-01Z') to ('1991-01-01Z');",
        [r"table public\.more inheriting from events was not made by this version"],
    ),
    "a partition is in the log's schema, and not in its list": (
        "create table eventlog.more partition of eventlog.events for values from ('1990-01-01Z') to ('1991-01-01Z');",
        [
            r"table eventlog\.more inheriting from events was not made by this version",
            "trigger events_not_truncated on more is missing",
        ],
    ),
    "a policy on a partition": (
        "do $$ declare v_name text; begin select inhrelid::regclass::text into v_name from pg_inherits"
        " where inhparent = 'eventlog.events'::regclass order by 1 limit 1;"
        " execute format('create policy hides on %s using (false)', v_name); end $$",
        [r"policy hides on events_\d+ was not made by this version"],
    ),
    "a function gets a namesake that is an extension's": (
        "create function eventlog.is_subscriber_v1(int) returns bool language sql as 'select true';"
        "alter extension plpgsql add function eventlog.is_subscriber_v1(int)",
        ["function is_subscriber_v1 (was altered|was not made by this version).*"],
    ),
    "a function is gone": (
        "drop function eventlog.read_listed_v1",
        ["function read_listed_v1 is missing"],
    ),
}


@pytest.mark.attack("superuser")
@pytest.mark.parametrize("what", CHANGES)
def test_what_differs_is_named(what: str, database_uri: str) -> None:
    script, expected = CHANGES[what]
    with (
        psycopg.connect(database_uri, autocommit=True) as conn,
        conn.transaction(force_rollback=True),
    ):
        conn.execute(script.encode())
        found = [each.what for each in EventLogSaver(conn).log.verify().problems]
    assert len(found) == len(expected), found
    for problem, pattern in zip(found, expected, strict=True):
        assert re.fullmatch(f"the database's code: {pattern}", problem), found


@pytest.mark.parametrize("schema", ["The log-1", "events", "e"])
def test_an_unchanged_log_in_any_schema_has_no_problems(schema: str, empty_database_uri: str) -> None:
    """Whatever the schema is called; with the user's own tables and views in it, and as a subscriber."""
    with EventLogSaver.from_conn_string(empty_database_uri, schema=schema) as saver:
        saver.setup()
        with psycopg.connect(empty_database_uri, autocommit=True) as conn:
            name = psycopg.sql.Identifier(schema)
            conn.execute(psycopg.sql.SQL("create table {}.my_own (id int)").format(name))
            conn.execute(psycopg.sql.SQL("create view {}.my_view as select 1 as one").format(name))
            conn.execute(psycopg.sql.SQL("create table {}.my_child () inherits ({}.my_own)").format(name, name))
            conn.execute(psycopg.sql.SQL("create unique index on {}.my_own (id)").format(name))
            conn.execute(psycopg.sql.SQL("create index on {}.checkpoints using gin (metadata)").format(name))
            conn.execute(psycopg.sql.SQL("grant all on {}.my_own to public").format(name))
            # Functions of an extension in the same schema are its own.
            ((extension,),) = conn.execute(
                "select name from pg_available_extensions where name in ('vector', 'hstore') order by 1 limit 1"
            ).fetchall()
            conn.execute(
                psycopg.sql.SQL("create extension {} schema {}").format(psycopg.sql.Identifier(extension), name)
            )
        assert saver.log.verify().problems == []
        saver.log.make_subscriber()
        assert saver.log.verify().problems == []


async def test_threads_alone_are_verified_with_the_code(database_uri: str, server: Server) -> None:
    async with open_saver("sync-pool", database_uri) as saver:
        await put(saver, config_of("1"), "1")
        with psycopg.connect(database_uri, autocommit=True) as conn:
            conn.execute("drop trigger events_immutable on eventlog.events")
        verified = await saver.log.verify(["1"])
        assert verified.found == len(verified.problems) == 5


async def test_another_versions_code_is_not_compared_and_that_is_a_problem(database_uri: str) -> None:
    """So a row in `migrations` that says so does not hide what differs."""
    async with open_saver("sync-pool", database_uri) as saver:
        with psycopg.connect(database_uri, autocommit=True) as conn:
            conn.execute("insert into eventlog.migrations values ('later', '', null, now(), 'mallory')")
            conn.execute("drop trigger events_immutable on eventlog.events")
        (problem,) = (await saver.log.verify()).problems
        assert "another version" in problem.what
