"""What PostgreSQL does for one call: which partitions it touches, and that it never sorts or scans a table.

Locks tell which partitions were planned or read: they stay until the transaction ends. With
``debug_print_plan`` the server sends the plan of every statement that it plans, those inside of
functions included; unlike auto_explain it needs no library, which embedded servers do not have.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import sql

from langgraph.checkpoint.eventlog import EventLogSaver
from tests.support.checkpoints import checkpoint_of, config_of
from tests.support.server import Server

pytestmark = pytest.mark.portable

#: Full months before this one, each a partition with events of many threads.
MONTHS = 12
#: Checkpoints of each thread that is read; every one has an event with writes.
CHECKPOINTS = 60

TEXTS = [random.Random(number).randbytes(100).hex() for number in range(20)]

#: Beyond so many partitions, a read plans and locks none but those that it reads.
FEW = 48

TABLES = ("events", "checkpoints", "snapshots", "streams")


@pytest.fixture(scope="module", params=[0, FEW], ids=["few", "many"])
def uri(server: Server, template: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with a year of history, and few or many partitions.

    Events get their time from the server's clock. So the threads are written now and moved to their
    months afterwards, by a superuser and past the guard; their digests no longer fit, which no read looks at.
    """
    name = server.create_database(template)
    with psycopg.connect(server.uri(name), autocommit=True) as conn:
        for thread in ("2", "10", "all", "filler"):
            write(conn, thread)
        conn.execute("set session_replication_role = replica")
        conn.execute("select eventlog.ensure_partitions_v1(%s, %s, 'month')", (month(conn, 0), MONTHS + request.param))
        for thread in ("2", "10"):
            move(conn, thread, lambda seq, thread=thread: int(thread))
        move(conn, "all", lambda seq: (seq - 1) * MONTHS // (2 * CHECKPOINTS))
        fill(conn)
        conn.execute("vacuum analyze eventlog.events, eventlog.checkpoints, eventlog.streams, eventlog.snapshots")
    yield server.uri(name)
    server.drop_database(name)


def month(conn: psycopg.Connection[Any], number: int) -> Any:
    """The beginning of a month in UTC; the oldest is 0."""
    query = "select (date_trunc('month', now() at time zone 'UTC') - %s * interval '1 month') at time zone 'UTC'"
    ((start,),) = conn.execute(query, (MONTHS - number,)).fetchall()
    return start


def write(conn: psycopg.Connection[Any], thread: str) -> None:
    """A conversation, with a snapshot every few checkpoints."""
    saver = EventLogSaver(conn, snapshot_floor_bytes=4096)
    config = config_of(thread)
    for number in range(CHECKPOINTS):
        checkpoint = checkpoint_of(
            f"{number:03}", {"messages": [*TEXTS, *map(str, range(number))]}, {"messages": f"{number}"}
        )
        config = saver.put(config, checkpoint, {"step": number}, checkpoint["channel_versions"])
        saver.put_writes(config, [("messages", str(number))], "task")


def times(conn: psycopg.Connection[Any], table: str) -> list[str]:
    """The columns of a table that hold times."""
    query = (
        "select attname from pg_attribute "
        "where attrelid = %s::regclass and attnum > 0 and atttypid = 'timestamptz'::regtype"
    )
    return [name for (name,) in conn.execute(query, (f"eventlog.{table}",))]


def move(conn: psycopg.Connection[Any], thread: str, to: Callable[[int], int]) -> None:
    """Make the times of a thread's events, wherever they stand, those of other months."""
    conn.execute("create temporary table moved (old timestamptz primary key, new timestamptz)")
    for seq, old in conn.execute("select seq, recorded_at from eventlog.events where thread_id = %s", (thread,)):
        new = month(conn, to(seq)) + timedelta(days=3, seconds=seq)
        conn.execute("insert into moved values (%s, %s)", (old, new))
    for table in TABLES:
        for column in times(conn, table):
            conn.execute(
                sql.SQL("update {} set {column} = new from moved where thread_id = %s and {column} = old").format(
                    sql.Identifier("eventlog", table), column=sql.Identifier(column)
                ),
                (thread,),
            )
    conn.execute("drop table moved")


def fill(conn: psycopg.Connection[Any]) -> None:
    """Copies of a thread in every month, for what others wrote in the meantime: without them a scan would be right."""
    for table in TABLES:
        shifted = sql.SQL(", ").join(
            sql.SQL("{name}, {column} - begun + start").format(name=sql.Literal(name), column=sql.Identifier("t", name))
            for name in times(conn, table)
        )
        conn.execute(
            sql.SQL(
                """
                insert into {table} overriding system value
                select (jsonb_populate_record(t, jsonb_build_object('thread_id', thread || m || '-' || n, {shifted}))).*
                from
                    {table} as t,
                    (select min(recorded_at) as begun from eventlog.events where thread_id = 'filler') as b,
                    generate_series(1, 25) as n,
                    generate_series(0, {last}) as m,
                    lateral (
                        select 'filler ' as thread, %s + m * interval '1 month' + n * interval '1 hour' as start
                    ) as s
                where thread_id = 'filler'
                """
            ).format(table=sql.Identifier("eventlog", table), shifted=shifted, last=sql.Literal(MONTHS - 1)),
            (month(conn, 0),),
        )


@dataclass
class Seen:
    """What the server did."""

    months: set[int] = field(default_factory=set)
    """Of the partitions of events that it locked; -1 is a partition of this month or later."""
    months_read: set[int] = field(default_factory=set)
    """Of those that it read."""
    partitions: int = 0
    """How many there are."""
    scans: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Table to how often it was read: from end to end, and through an index."""
    plans: list[str] = field(default_factory=list)

    def nodes(self) -> set[str]:
        """The kinds of nodes in all plans, in PostgreSQL's spelling: SORT, INDEXSCAN, …"""
        return {node for plan in self.plans for node in re.findall(r"\{([A-Z]+)\b", plan)}


#: Relations below this are PostgreSQL's own.
FIRST_OF_OURS = 16384


@contextmanager
def watching(conn: psycopg.Connection[Any]) -> Iterator[Seen]:
    """Watch what is done on a connection, in a transaction that is rolled back."""
    seen = Seen()

    def notice(diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.message_primary == "plan:":
            seen.plans.append(diagnostic.message_detail or "")

    def scans() -> dict[str, tuple[int, int]]:
        return {
            name: (full, by_index)
            for name, full, by_index in conn.execute(
                "select relname, seq_scan, coalesce(idx_scan, 0) from pg_stat_xact_user_tables "
                "where schemaname = 'eventlog'"
            )
        }

    with conn.transaction(force_rollback=True):
        before = scans()
        conn.add_notice_handler(notice)
        conn.execute("set local debug_print_plan = on")
        conn.execute("set local client_min_messages = log")
        try:
            yield seen
        finally:
            conn.execute("set local debug_print_plan = off")
            conn.remove_notice_handler(notice)
        for name, (full, by_index) in scans().items():
            old_full, old_by_index = before.get(name, (0, 0))
            seen.scans[name] = (full - old_full, by_index - old_by_index)
        starts = {month(conn, number): number for number in range(MONTHS)}
        for name, start, is_locked in conn.execute(
            """
            select
                p.name, p.starts_at,
                exists (
                    select 1
                    from pg_locks as l
                    where l.pid = pg_backend_pid() and l.relation = format('eventlog.%I', p.name)::regclass
                )
            from eventlog.partitions as p
            """
        ):
            seen.partitions += 1
            if is_locked:
                seen.months.add(starts.get(start, -1))
            if any(seen.scans.get(name, ())):
                seen.months_read.add(starts.get(start, -1))


@contextmanager
def watching_a_read(conn: psycopg.Connection[Any]) -> Iterator[Seen]:
    """As `watching`. With few partitions a session has one plan: it is made again, to be seen."""
    if conn.execute("select count(*) <= %s from eventlog.partitions", (FEW,)).fetchone() == (True,):
        conn.execute("discard plans")
    with watching(conn) as seen:
        yield seen


def assert_reads(seen: Seen, months: set[int]) -> None:
    """These partitions and no other were read; where there are many, no other was locked."""
    assert seen.months_read == months
    if seen.partitions > FEW:
        assert seen.months == months


def assert_lean(seen: Seen) -> None:
    """Nothing is sorted, nothing is read from end to end; and we did look."""
    assert "INDEXSCAN" in seen.nodes(), seen.nodes()
    assert not seen.nodes() & {"SORT", "INCREMENTALSORT"}
    assert_no_scan(seen)


def assert_no_scan(seen: Seen) -> None:
    # A small catalog may be read as it stands.
    scans = [plan for plan in seen.plans if "SEQSCAN" in plan]
    assert not [plan for plan in scans if any(int(oid) >= FIRST_OF_OURS for oid in re.findall(r":relid (\d+)", plan))]
    read = {name: each for name, each in seen.scans.items() if any(each)}
    assert read
    assert all(full == 0 for full, _ in read.values()), read


@pytest.fixture
def conn(uri: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(uri, autocommit=True) as opened:
        yield opened


@pytest.fixture
def saver(conn: psycopg.Connection[Any]) -> EventLogSaver:
    """Without a cache: everything that it returns, it reads."""
    return EventLogSaver(conn, state_cache_bytes=0)


def month_of(checkpoint: int) -> int:
    """When a checkpoint of the thread of all months was put."""
    return checkpoint * MONTHS // CHECKPOINTS


def test_the_watch_sees_sorts_scans_and_every_partition(conn: psycopg.Connection[Any]) -> None:
    """A query that does all that the others must not: the test of the tests."""
    with watching(conn) as seen:
        conn.execute("select * from eventlog.events where kind = 1 order by digest")
    assert seen.months == {-1, *range(MONTHS)}
    assert {"SORT", "SEQSCAN", "APPEND"} <= seen.nodes()
    assert sum(full for full, _ in seen.scans.values()) >= MONTHS


@pytest.mark.parametrize("times", [1, 12], ids=["first", "later"])
@pytest.mark.parametrize("thread", ["2", "10"])
def test_reading_the_latest_touches_one_partition(
    saver: EventLogSaver, conn: psycopg.Connection[Any], thread: str, times: int
) -> None:
    """A thread of one month is one partition's; also when PostgreSQL has settled on plans of its own."""
    for _ in range(times - 1):
        saver.get_tuple(config_of(thread))
    with watching_a_read(conn) as seen:
        found = saver.get_tuple(config_of(thread))
    assert found is not None
    assert found.metadata["step"] == CHECKPOINTS - 1
    assert found.pending_writes == [("task", "messages", str(CHECKPOINTS - 1))]
    assert_reads(seen, {int(thread)})
    assert_lean(seen)


@pytest.mark.parametrize("thread", ["2", "10"])
@pytest.mark.parametrize("number", [0, 1, CHECKPOINTS // 2, CHECKPOINTS - 1])
def test_reading_by_id_touches_one_partition(
    saver: EventLogSaver, conn: psycopg.Connection[Any], thread: str, number: int
) -> None:
    """Any checkpoint of a thread of one month."""
    with watching_a_read(conn) as seen:
        found = saver.get_tuple(config_of(thread, f"{number:03}"))
    assert found is not None
    assert found.pending_writes == [("task", "messages", str(number))]
    assert_reads(seen, {int(thread)})
    assert_lean(seen)


@pytest.mark.parametrize("number", [0, 13, 31, 47, CHECKPOINTS - 1])
def test_a_thread_of_all_months_is_read_from_its_keyframe_on(
    saver: EventLogSaver, conn: psycopg.Connection[Any], number: int
) -> None:
    """From the keyframe on. Writes may come at any time, so behind it all that the thread has lived through."""
    ((keyframe,),) = conn.execute(
        "select (keyframe_seq - 1) / 2 from eventlog.checkpoints where thread_id = 'all' and checkpoint_id = %s",
        (f"{number:03}",),
    ).fetchall()
    with watching_a_read(conn) as seen:
        found = saver.get_tuple(config_of("all", f"{number:03}"))
    assert found is not None
    assert found.metadata["step"] == number
    assert month_of(number) - month_of(keyframe) < 4, "snapshots bound it"
    assert_reads(seen, set(range(month_of(keyframe), MONTHS)))
    assert_lean(seen)


def test_a_cached_state_reads_only_partitions_with_writes(conn: psycopg.Connection[Any]) -> None:
    """A reader that has the state reads no part of the log but for writes, and none where there are none."""
    saver = EventLogSaver(conn)
    last = config_of("all", f"{CHECKPOINTS - 1:03}")
    assert saver.get_tuple(last) is not None
    with watching_a_read(conn) as seen:
        assert saver.get_tuple(config_of("all")) is not None
    assert_reads(seen, {MONTHS - 1})
    assert_lean(seen)

    done = config_of("done")
    for number in ("1", "2"):
        if number == "2":
            saver.put_writes(done, [("messages", "x")], "task")
        done = saver.put(
            done, checkpoint_of(number, {"messages": TEXTS}, {"messages": number}), {}, {"messages": number}
        )
    with watching_a_read(conn) as seen:
        assert saver.get_tuple(config_of("done")) is not None
    assert_reads(seen, set())
    assert_lean(seen)


def test_a_channels_history_reads_the_partitions_of_its_ancestors(conn: psycopg.Connection[Any]) -> None:
    """The events of the ancestors, and what may be their writes; asked again, nothing of the log."""
    saver = EventLogSaver(conn)
    ask: Any = {"config": config_of("10"), "channels": ["messages", "other"]}
    with watching_a_read(conn) as seen:
        (write,) = saver.get_delta_channel_history(**ask)["messages"]["writes"]
    assert write == ("task", "messages", str(CHECKPOINTS - 2))
    assert_reads(seen, {10})
    assert_lean(seen)
    with watching_a_read(conn) as seen:
        assert saver.get_delta_channel_history(**ask)["messages"]["writes"] == [write]
    assert seen.months == set()


def test_an_append_touches_the_current_partition_alone(conn: psycopg.Connection[Any]) -> None:
    """A put and its writes touch this month's partition alone, however old the parent is."""
    saver = EventLogSaver(conn)
    parent = config_of("2")
    known = saver.get_tuple(parent)
    assert known is not None
    checkpoint = checkpoint_of("new", {"messages": [*TEXTS, "new"]}, {"messages": "new"})
    with watching(conn) as seen:
        stored = saver.put(known.config, checkpoint, {}, {"messages": "new"})
        saver.put_writes(stored, [("messages", "x")], "task")
    assert seen.months == {-1}
    assert_lean(seen)


def test_a_feed_page_merges_the_partitions_indexes(saver: EventLogSaver, conn: psycopg.Connection[Any]) -> None:
    """A page comes from the index of each partition, merged in its order, by a plan that is made once in a session."""
    (first,) = saver.log.tail(limit=1)
    for after in (None, first.cursor):
        conn.execute("discard plans")
        with watching(conn) as seen:
            list(saver.log.tail(after, limit=1))
        assert "MERGEAPPEND" in seen.nodes()
        assert_lean(seen)
        for _ in range(5):
            with watching(conn) as seen:
                list(saver.log.tail(after, limit=1))
            if "MERGEAPPEND" not in seen.nodes():
                break
            # Autovacuum has been at a partition meanwhile: its plan is made again.
        else:
            pytest.fail("planned each time")

    # At the end, where followers look again and again.
    end = saver.log.tail_position()
    conn.execute("discard plans")
    with watching(conn) as seen:
        assert list(saver.log.tail(end)) == []
    assert "MERGEAPPEND" in seen.nodes()
    assert_lean(seen)
    with watching(conn) as seen:
        assert saver.log.tail_position() == end
    assert_lean(seen)


def test_a_list_page_comes_in_order_from_the_primary_key(saver: EventLogSaver, conn: psycopg.Connection[Any]) -> None:
    """The rows of one namespace come from the primary key, in its order; their page is the partitions that it is in."""
    with watching(conn) as seen:
        found = list(saver.list(config_of("2"), before=config_of("2", "030"), limit=5))
    assert [each.metadata["step"] for each in found] == [29, 28, 27, 26, 25]
    assert seen.months == {2}
    # The page's own statements may sort what they found: a few checkpoints' writes.
    rows = next(plan for plan in seen.plans if "{LIMIT" in plan)
    assert "{SORT" not in rows
    assert "{INDEXSCAN" in rows
    assert_no_scan(seen)

    # All of it, and all namespaces: PostgreSQL may sort, but only the thread's rows.
    for ns in ("", None):
        with watching(conn) as seen:
            assert len(list(saver.list(config_of("2", ns=ns)))) == CHECKPOINTS
        assert seen.months == {2}
        assert_no_scan(seen)


def test_a_list_page_of_all_threads_looks_up_each_row_in_one_partition(
    saver: EventLogSaver, conn: psycopg.Connection[Any]
) -> None:
    """Which rows fit is found by looking at all of them; what they consist of, by one look into the index of the
    partition that it is in, whatever partitions the others are in."""
    with watching(conn) as seen:
        found = list(saver.list(None, filter={"step": 13}, limit=200))
    assert len({each.config["configurable"]["thread_id"] for each in found}) == 200
    assert all(each.pending_writes == [("task", "messages", "13")] for each in found)
    seen.scans.pop("checkpoints")
    read = {name: each for name, each in seen.scans.items() if any(each)}
    assert read
    assert all(full == 0 for full, _ in read.values()), read
    # For each: streams twice, a snapshot, the events, the writes of a day more.
    assert sum(by_index for _, by_index in read.values()) < 200 * 8


def test_finding_a_checkpoint_looks_into_the_index_for_each_stream(
    saver: EventLogSaver, conn: psycopg.Connection[Any]
) -> None:
    """A checkpoint by its id alone: no partition of the log, and a look into the index for each stream; of a thread,
    one look."""
    with watching(conn) as seen:
        assert len(saver.log.find("013", limit=1000)) > 300
    assert seen.months == set()
    full, by_index = seen.scans["checkpoints"]
    assert (full, by_index > 300) == (0, True)
    with watching(conn) as seen:
        assert saver.log.find("013", thread_id="2") == [("2", "", "013")]
        assert saver.log.namespaces("2") == {"": f"{CHECKPOINTS - 1:03}"}
    assert seen.months == set()
    assert_no_scan(seen)


def test_a_page_of_threads_reads_the_metadata_of_a_page(saver: EventLogSaver, conn: psycopg.Connection[Any]) -> None:
    """By activity and by id, as many threads are looked into as it takes; and their sizes alone are summed up."""
    for sort in ("activity", "id"):
        with watching(conn) as seen:
            found = saver.log.threads(filter={"step": 13}, sort=sort, limit=20)
        assert len(found) == 20
        full, by_index = seen.scans["checkpoints"]
        assert full == 0
        # A look for each, and one more for its size.
        assert 40 <= by_index < 60


def test_where_threads_stand_is_looked_up_in_indexes(saver: EventLogSaver, conn: psycopg.Connection[Any]) -> None:
    """A look for each thread, into the partitions that its writes may be in."""
    ids = [each.thread_id for each in saver.log.threads(limit=100)]
    assert len(ids) == 100
    with watching(conn) as seen:
        assert set(saver.log.thread_status(ids)) == set(ids)
    assert_no_table_is_scanned(conn, seen)


def assert_no_table_is_scanned(conn: psycopg.Connection[Any], seen: Seen) -> None:
    """But for `streams`, which says what there is, and partitions without events."""
    filled = {name for (name,) in conn.execute("select distinct tableoid::regclass::text from eventlog.events")}
    assert filled
    tables = {"checkpoints", "snapshots", *(name.removeprefix("eventlog.") for name in filled)}
    assert [name for name, (full, _) in seen.scans.items() if full and name in tables] == []
