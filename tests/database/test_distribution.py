"""Functions and queries keep the rules by which a log can be distributed by thread (`tests.support.distribution`).

Nothing here runs on several nodes. Each exception is a statement over the whole log, which a distributed log needs in
another form.
"""

from __future__ import annotations

import re

import psycopg
import pytest

from eventlog import distribution
from eventlog.db.statements import named_queries
from tests.support.distribution import DISTRIBUTED, function_problems, problems, query_text
from tests.support.server import Server

pytestmark = pytest.mark.lint

#: Functions that look at the whole log from one node.
WHOLE_LOG = {
    # Without a thread, which a distributed log always gives.
    "append_calls_v1": "reads checkpoints of all threads; reads events of all threads; reads snapshots of all threads",
    "start_generation_v1": "joins events with pg_trigger, which each node has for itself",
}

#: Queries that do.
WHOLE_LOG_QUERIES = {
    "purge_tables": "joins events with pg_class, pg_namespace, which each node has for itself",
    "purge_holders": (
        "joins events with pg_prepared_xacts, pg_replication_slots, pg_stat_activity, which each node has for itself"
    ),
}

#: Functions with a thread that run where the client is, although they read the thread's rows.
NOT_DELEGATED = {
    "adopt_stream_v1": "is called in the transaction of a rebuild",
    "record_operation_v1": "is called in the transaction of a rebuild",
    "extend_partitions_v1": "makes partitions, on all nodes",
    "find_stream_name_v1": "reads seals, of which each node has a copy",
}

#: Triggers on distributed tables: guards against accidents, which a distributed log has to do without.
GUARDS = {"events_immutable", "events_not_truncated", "streams_lost"}

#: An earlier form of a statement, and what is wrong with it.
BAD = {
    """
    update eventlog.streams as s set seq = s.seq + 1
    where s.thread_id = $1 returning s.xid > pg_current_xact_id()
    """: "calls pg_current_xact_id, which is not immutable, in its returningClause",
    """
    update eventlog.streams as s set xid = pg_current_xact_id() where s.thread_id = $1
    """: "calls pg_current_xact_id, which is not immutable, in its targetList",
    """
    delete from eventlog.events as e where e.thread_id = $1 and e.recorded_at < clock_timestamp()
    """: "calls clock_timestamp, which is not immutable, in its whereClause",
    """
    insert into eventlog.streams as s (thread_id) values ($1)
    on conflict (thread_id) do update set xid = pg_current_xact_id()
    """: "calls pg_current_xact_id, which is not immutable, in its onConflictClause",
    """
    select s.thread_id from eventlog.streams as s where s.thread_id = any($1) for update
    """: "locks rows of many threads",
    """
    with recursive p as (
        select e.seq from eventlog.events as e
        union all
        select e.seq from p inner join eventlog.events as e on p.seq = e.base_seq
    )
    select * from p
    """: "is recursive over many threads",
    """
    select e.seq from eventlog.events as e inner join pg_catalog.pg_class as c on e.tableoid = c.oid
    """: "joins events with pg_class, which each node has for itself",
}


@pytest.fixture(scope="module")
def template_uri(server: Server, template: str) -> str:
    """A database that is set up, to read."""
    return server.uri(template)


@pytest.fixture(scope="module")
def volatile(template_uri: str) -> frozenset[str]:
    """The names of functions that are not immutable. Those in SQL are judged by what they call: they are inlined."""
    with psycopg.connect(template_uri) as conn:
        return frozenset(
            name
            for (name,) in conn.execute(
                "select proname from pg_proc where provolatile <> 'i' and (pronamespace = 'pg_catalog'::regnamespace"
                " or pronamespace = 'eventlog'::regnamespace and (proname = 'clock_v1' or prolang <> 14))"
            )
        )


def functions(uri: str, language: str) -> dict[str, str]:
    with psycopg.connect(uri) as conn:
        return dict(
            conn.execute(
                "select p.proname, pg_get_functiondef(p.oid) from pg_proc p join pg_language l on l.oid = p.prolang"
                " where p.pronamespace = 'eventlog'::regnamespace and l.lanname = %s",
                (language,),
            ).fetchall()
        )


def test_functions_run_where_their_thread_is(template_uri: str, volatile: frozenset[str]) -> None:
    found = {
        name: "; ".join(wrong)
        for name, text in functions(template_uri, "plpgsql").items()
        if (wrong := sorted(set(function_problems(text, volatile))))
    }
    assert found == WHOLE_LOG


def test_queries_can_be_split_by_shards(volatile: frozenset[str]) -> None:
    found = {
        name: "; ".join(wrong)
        for name, text in named_queries().items()
        # Those read PostgresSaver's tables, some of the same names.
        if not name.startswith("incumbent_") and (wrong := sorted(set(problems(query_text(text), volatile))))
    }
    assert found == WHOLE_LOG_QUERIES


@pytest.mark.parametrize(("statement", "wrong"), BAD.items())
def test_an_earlier_form_of_a_statement_is_refused(statement: str, wrong: str, volatile: frozenset[str]) -> None:
    assert list(problems(statement, volatile)) == [wrong]


def test_every_table_is_distributed_or_copied(template_uri: str) -> None:
    with psycopg.connect(template_uri) as conn:
        tables = {
            name
            for (name,) in conn.execute(
                "select relname from pg_class where relnamespace = 'eventlog'::regnamespace and relkind in ('r', 'p')"
                " and not relispartition"
            )
        }
    assert tables == {*distribution.DISTRIBUTED, *distribution.COPIED}
    assert set(distribution.DISTRIBUTED) == DISTRIBUTED


def test_functions_on_one_thread_run_on_its_node(template_uri: str) -> None:
    """Each that a client calls, and that reads or writes the thread's rows. Others are part of one of these."""
    texts = functions(template_uri, "plpgsql")
    on_a_thread = {
        name
        for name, text in texts.items()
        if "p_thread_id text" in text.partition("LANGUAGE")[0]
        and re.search(rf"\.({'|'.join(DISTRIBUTED)}|feed_parts_v1)\b", text)
    }
    called = {name for text in named_queries().values() for name in re.findall(r"\b\w+_v1\b", text)}
    # It reads and writes through append_calls_v1.
    on_a_thread.add("append_thread_v1")
    assert on_a_thread & called == {*distribution.DELEGATED, *NOT_DELEGATED}


def test_functions_with_parameters_that_read_the_log_are_not_in_sql(template_uri: str) -> None:
    """Citus cannot plan a parameter of a function in SQL."""
    for name, text in functions(template_uri, "sql").items():
        if "()" not in text.partition("\n")[0]:
            assert not re.search(rf"\b(from|join) \S+\.({'|'.join(DISTRIBUTED)})\b", text), name


def test_distributed_tables_have_a_key_led_by_the_thread_and_no_triggers_but_guards(template_uri: str) -> None:
    with psycopg.connect(template_uri) as conn:
        keys = conn.execute(
            "select i.indrelid::regclass::text, a.attname, a.attnotnull, a.atttypid::regtype::text from pg_index i"
            " join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]"
            " where i.indisprimary and i.indrelid = any(%s::regclass[])",
            ([f"eventlog.{table}" for table in DISTRIBUTED],),
        ).fetchall()
        triggers = conn.execute(
            "select distinct t.tgname from pg_trigger t join pg_class c on c.oid = t.tgrelid"
            " where c.relnamespace = 'eventlog'::regnamespace and not t.tgisinternal"
        ).fetchall()
    assert sorted(keys) == [(f"eventlog.{table}", "thread_id", True, "text") for table in sorted(DISTRIBUTED)]
    assert {name for (name,) in triggers} == GUARDS
