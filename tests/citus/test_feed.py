"""The feed of a log on Citus: each event once, and within a stream in order, also while shards move and split."""

from __future__ import annotations

import pickle
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import psycopg
import pytest

from eventlog.errors import CursorError
from eventlog.events import Cursor, ShardPlace, StoredEvent
from langgraph.checkpoint.eventlog import EventLog, EventLogSaver
from tests.feed.test_feed import append
from tests.feed.views import Seen
from tests.support.cluster import Cluster

#: Threads of which each shard has some.
THREADS = [f"thread {number}" for number in range(12)]

WRITERS = 4
TRANSACTIONS = 40


class Shards:
    """The shards of a log, to move and to split."""

    def __init__(self, cluster: Cluster, uri: str) -> None:
        self.uri = uri
        self._ports = [node.port for node in cluster.nodes[1:]]

    def of(self, thread_id: str) -> int:
        """The group id of the node that has a thread."""
        with psycopg.connect(self.uri) as conn:
            ((group,),) = conn.execute(
                "select p.groupid from pg_dist_placement p"
                " where p.shardid = get_shard_id_for_distribution_column('eventlog.events', %s::text)",
                (thread_id,),
            ).fetchall()
        return int(group)

    def move(self, thread_id: str) -> None:
        """Move the shard of a thread to the other worker."""
        with psycopg.connect(self.uri, autocommit=True) as conn:
            ((shard, port),) = conn.execute(
                "select p.shardid, n.nodeport from pg_dist_placement p join pg_dist_node n using (groupid)"
                " where p.shardid = get_shard_id_for_distribution_column('eventlog.events', %s::text)",
                (thread_id,),
            ).fetchall()
            (other,) = (each for each in self._ports if each != port)
            conn.execute(
                "select citus_move_shard_placement(%s, '127.0.0.1', %s, '127.0.0.1', %s, 'block_writes')",
                (shard, port, other),
            )

    def split(self, thread_id: str) -> None:
        """Split the shard of a thread in the middle: one half stays, one goes to the other worker."""
        with psycopg.connect(self.uri, autocommit=True) as conn:
            ((shard, low, high),) = conn.execute(
                "select s.shardid, s.shardminvalue::bigint, s.shardmaxvalue::bigint from pg_dist_shard s"
                " where s.shardid = get_shard_id_for_distribution_column('eventlog.events', %s::text)",
                (thread_id,),
            ).fetchall()
            conn.execute(
                "select citus_split_shard_by_split_points(%s, array[%s::text], (select array_agg(nodeid::int order by"
                " nodeid) from pg_dist_node where groupid > 0), 'block_writes')",
                (shard, str((low + high) // 2)),
            )


@pytest.fixture
def shards(server: Cluster, database_uri: str) -> Shards:
    return Shards(server, database_uri)


def worker_uri(server: Cluster, uri: str, number: int = 1) -> str:
    """The same database, for a client that is connected to a worker."""
    return server.nodes[number].uri(uri.rpartition("/")[2])


def tail(uri: str, after: Any = None, **options: Any) -> list[StoredEvent]:
    with EventLog.from_conn_string(uri) as log:
        return list(log.tail(after, **options))


def write(uri: str, *threads: str) -> None:
    with psycopg.connect(uri, autocommit=True) as conn:
        for thread_id in threads:
            append(conn, thread_id)


def places(events: Iterable[StoredEvent]) -> set[tuple[str, int]]:
    return {(event.thread_id, event.seq) for event in events}


def check(events: list[StoredEvent], threads: Iterable[str], each: int) -> None:
    """Each thread has so many events, and each came once, in its order."""
    streams: dict[str, list[int]] = defaultdict(list)
    for event in events:
        streams[event.thread_id].append(event.seq)
    assert streams == {thread_id: list(range(1, each + 1)) for thread_id in threads}


def test_a_cursor_is_its_text(database_uri: str) -> None:
    """Equal, hashable, and after it come the events that come after it."""
    write(database_uri, *THREADS)
    events = tail(database_uri)
    check(events, THREADS, 1)
    for number, event in enumerate(events):
        cursor = Cursor.parse(str(event.cursor))
        assert cursor == event.cursor == pickle.loads(pickle.dumps(cursor))
        assert len({cursor, event.cursor}) == 1
        assert cursor != Cursor(*cursor)
        # In another order: the reader begins with another node.
        assert places(tail(database_uri, str(cursor))) == places(events[number + 1 :])
    with EventLog.from_conn_string(database_uri) as log:
        assert log.tail_position() == events[-1].cursor
        assert log.lag(None).waiting == len(THREADS)
        assert log.lag(events[3].cursor).waiting == len(THREADS) - 4


def test_events_are_recorded_by_the_node_of_their_thread(server: Cluster, database_uri: str, shards: Shards) -> None:
    """Their transaction and position are that node's, also in a transaction, and from a client of a worker."""
    write(database_uri, *THREADS)
    with psycopg.connect(database_uri) as conn:
        for thread_id in THREADS:
            append(conn, thread_id)
    write(worker_uri(server, database_uri), *THREADS)
    with psycopg.connect(worker_uri(server, database_uri, 2)) as conn:
        for thread_id in THREADS:
            append(conn, thread_id)
    events = tail(database_uri)
    check(events, THREADS, 4)
    assert all(event.position >> 48 == shards.of(event.thread_id) for event in events)


def test_clients_of_each_node_read_the_same(server: Cluster, database_uri: str) -> None:
    write(database_uri, *THREADS)
    events = tail(database_uri)
    for number in (1, 2):
        uri = worker_uri(server, database_uri, number)
        assert tail(uri) == events
        assert places(tail(uri, events[4].cursor)) == places(events[5:])
        assert tail(uri, events[-1].cursor) == []


def test_a_page_is_read_on_the_workers(database_uri: str) -> None:
    """One statement for each node, which the coordinator does not plan by shards."""
    write(database_uri, *THREADS)
    notices: list[str] = []
    with psycopg.connect(database_uri, autocommit=True) as conn:
        conn.execute("set citus.log_remote_commands = on")
        conn.execute("set client_min_messages = log")
        conn.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        for is_in_transaction in (False, True):
            notices.clear()
            if is_in_transaction:
                conn.execute("begin")
            assert len(list(EventLogSaver(conn).log.tail())) == len(THREADS)
            sent = [each for each in notices if each.startswith("issuing") and "eventlog" in each]
            assert [("read_node_feed_v1" in each) for each in sent] == [True, True], sent


def test_a_filter_reads_only_the_shards_of_its_threads(database_uri: str, shards: Shards) -> None:
    write(database_uri, *THREADS, *THREADS)
    found = tail(database_uri, thread_ids=THREADS[:1])
    assert [event.seq for event in found] == [1, 2]
    assert len(found[-1].cursor.shards) == 1
    assert places(tail(database_uri, thread_ids=THREADS[:7])) == {(name, seq) for name in THREADS[:7] for seq in (1, 2)}


@pytest.mark.parametrize("limit", [1, 3, 10])
def test_small_pages_add_up(database_uri: str, limit: int) -> None:
    write(database_uri, *THREADS, *THREADS)
    found: list[StoredEvent] = []
    while page := tail(database_uri, found[-1].cursor if found else None, limit=limit):
        assert len(page) <= limit
        found += page
    check(found, THREADS, 2)


def test_events_wait_for_running_transactions_of_their_node_alone(database_uri: str, shards: Shards) -> None:
    write(database_uri, *THREADS)
    here = THREADS[0]
    beside = [name for name in THREADS if shards.of(name) == shards.of(here)]
    away = [name for name in THREADS if shards.of(name) != shards.of(here)]
    with EventLog.from_conn_string(database_uri) as log, psycopg.connect(database_uri) as conn:
        end = log.tail_position()
        append(conn, here)
        write(database_uri, *beside[1:], *away)
        found = list(log.tail(end))
        assert {event.thread_id for event in found} == set(away)
        assert log.tail_position() == found[-1].cursor
        lag = log.lag(end)
        assert (lag.waiting, lag.unsettled) == (len(away), len(beside) - 1)
        assert lag.held_by is not None
        assert lag.held_by.state == "idle in transaction"
        conn.commit()
        rest = list(log.tail(found[-1].cursor))
        assert {event.thread_id for event in rest} == set(beside)


def test_a_shard_that_moves_takes_its_events_along(database_uri: str, shards: Shards) -> None:
    """Readers that are behind, at the end, or not yet begun read each event once, wherever it moved, and back again."""
    thread_id = THREADS[0]
    same = [name for name in THREADS if shards.of(name) == shards.of(thread_id)]
    readers: list[list[StoredEvent]] = [[], [], []]
    for _number in range(5):
        write(database_uri, *same, *same)
        # All, some, and none of it.
        for found, limit in zip(readers, (None, 3, 0), strict=True):
            if limit != 0:
                found += tail(database_uri, found[-1].cursor if found else None, limit=limit)
        shards.move(thread_id)
        write(database_uri, *same)
    for found in readers:
        found += tail(database_uri, found[-1].cursor if found else None)
        check(found, same, 15)
    with EventLog.from_conn_string(database_uri) as log:
        assert all(list(log.tail(log.tail_position())) == [] for _ in range(2))
        assert log.lag(None).waiting == 15 * len(same)
        assert log.lag(readers[0][-1].cursor).waiting == 0


def test_a_shard_that_is_split_keeps_its_cursors(database_uri: str, shards: Shards) -> None:
    write(database_uri, *THREADS, *THREADS)
    found = tail(database_uri)
    behind = found[:5]
    shards.split(THREADS[0])
    assert tail(database_uri, found[-1].cursor) == []
    write(database_uri, *THREADS)
    shards.split(THREADS[0])
    shards.move(THREADS[1])
    write(database_uri, *THREADS)
    for events in (found, behind):
        events += tail(database_uri, events[-1].cursor)
        check(events, THREADS, 4)
    check(tail(database_uri), THREADS, 4)


def test_a_cursor_from_before_the_distribution_stays_valid(server: Cluster, empty_database_uri: str) -> None:
    uri = empty_database_uri
    with EventLogSaver.from_conn_string(uri) as saver:
        saver.setup()
        write(uri, *THREADS, *THREADS)
        found = list(saver.log.tail(limit=15))
        end = saver.log.tail_position()
        saver.setup(citus=True, shards=4)
        assert list(saver.log.tail(end)) == []
        write(uri, *THREADS)
        assert places(saver.log.tail(end)) == {(name, 3) for name in THREADS}
        found += saver.log.tail(str(found[-1].cursor))
        check(found, THREADS, 3)
        check(list(saver.log.tail()), THREADS, 3)
        Shards(server, uri).move(THREADS[0])
        write(uri, *THREADS)
        assert places(saver.log.tail(found[-1].cursor)) == {(name, 4) for name in THREADS}
        check(list(saver.log.tail()), THREADS, 4)


def test_cursors_of_other_logs_are_refused(server: Cluster, database_uri: str) -> None:
    write(database_uri, *THREADS)
    events = tail(database_uri)
    last = events[-1].cursor
    place = last.shards[0]
    later = str(last).replace(str(place), str(place._replace(xid=place.xid + 2**33)))
    for wrong in (later, f"2{str(last)[1:]}", "1-9999999999-1"):
        with pytest.raises(CursorError):
            tail(database_uri, wrong)
        with pytest.raises(CursorError), EventLog.from_conn_string(database_uri) as log:
            log.lag(wrong)


def test_the_text_of_an_entry_is_that_of_its_range() -> None:
    for place in (ShardPlace(-(2**31), 2**31 - 1, 5, (3 << 48) + 7), ShardPlace(-1, 0, 2**62, 1)):
        assert ShardPlace.parse(str(place)) == place


def test_a_projection_follows_shards_that_move(database_uri: str, shards: Shards) -> None:
    """It reads the feed in the transaction that changes its view."""
    with EventLog.from_conn_string(database_uri) as log, psycopg.connect(database_uri, autocommit=True) as conn:
        for number in range(1, 4):
            write(database_uri, *THREADS)
            assert log.project(Seen()) == {"seen": len(THREADS)}
            ((count,),) = conn.execute("select count(*) from seen").fetchall()
            assert count == number * len(THREADS)
            (state,) = log.projections()
            assert state.cursor == log.tail_position()
            assert state.cursor.shards
            shards.move(THREADS[0])
        assert log.project(Seen()) == {"seen": 0}
        log.rebuild_projection(Seen())
        assert log.project(Seen()) == {"seen": 3 * len(THREADS)}


def test_a_projection_sets_events_aside(database_uri: str) -> None:
    write(database_uri, *THREADS, *THREADS)
    with EventLog.from_conn_string(database_uri) as log:
        assert log.project(Seen(fail_at=2), on_error="set_aside") == {"seen": len(THREADS)}
        aside = log.set_aside_events()
        assert {(each.thread_id, each.seq) for each in aside} == {(name, 2) for name in THREADS}
        assert all(each.cursor.shards for each in aside)
        assert log.retry_set_aside(Seen())["seen"].applied == len(THREADS)
        assert log.set_aside_events() == []


def _write(uri: str, writer: int) -> dict[str, int]:
    """Transactions of some appends, some of them slow, some rolled back; returns the events of each thread."""
    choice = random.Random(writer)
    done: dict[str, int] = defaultdict(int)
    for number in range(TRANSACTIONS):
        # In the order of names, lest two writers wait for each other; over several nodes.
        threads = sorted(choice.sample(THREADS, choice.randrange(1, 4)))
        while True:
            try:
                with psycopg.connect(uri) as conn:
                    for thread_id in threads:
                        append(conn, thread_id, f"{writer} {number}")
                        time.sleep(choice.random() * 0.02)
                    if choice.random() < 0.1:
                        time.sleep(0.3)
                    if choice.random() < 0.1:
                        conn.rollback()
                    else:
                        conn.commit()
                        for thread_id in threads:
                            done[thread_id] += 1
                break
            except psycopg.Error:
                # The shard moved, or two writers waited for each other over two nodes.
                time.sleep(0.05)
    return done


def _follow(uri: str, seed: int, is_over: threading.Event) -> list[StoredEvent]:
    """All events as they come, by a reader that is started again every now and then."""
    choice = random.Random(seed)
    found: list[StoredEvent] = []
    with EventLog.from_conn_string(uri) as log:
        while True:
            was_over = is_over.is_set()
            after = None if not found else choice.choice([found[-1].cursor, str(found[-1].cursor)])
            limit = None if was_over else choice.randrange(1, 100)
            found += log.tail(
                after,
                follow=not was_over,
                poll_interval=0.05,
                limit=limit,
                stop=is_over.is_set if not was_over else None,
            )
            if was_over:
                return found


@pytest.mark.timeout(300)
def test_nothing_is_missed_or_repeated_while_shards_move(server: Cluster, database_uri: str, shards: Shards) -> None:
    """Writers with slow transactions on several nodes, from each node, while shards move and split."""
    uris = [database_uri, worker_uri(server, database_uri), worker_uri(server, database_uri, 2), database_uri]
    stop, is_over = threading.Event(), threading.Event()

    def move() -> int:
        choice, moves = random.Random(0), 0
        while not stop.is_set():
            if moves in (2, 5):
                shards.split(choice.choice(THREADS))
            else:
                shards.move(choice.choice(THREADS))
            moves += 1
            time.sleep(0.5)
        return moves

    with ThreadPoolExecutor(WRITERS + 4) as executor:
        followers = [executor.submit(_follow, uri, seed, is_over) for seed, uri in enumerate(uris[:2])]
        moving = executor.submit(move)
        writers = [executor.submit(_write, uri, number) for number, uri in enumerate(uris)]
        done: dict[str, int] = defaultdict(int)
        try:
            for writer in writers:
                for thread_id, count in writer.result().items():
                    done[thread_id] += count
        finally:
            stop.set()
            wait([moving])
            is_over.set()
        moves = moving.result()
        lives = [follower.result() for follower in followers]
    assert moves > 3
    with psycopg.connect(database_uri) as conn:
        stored = dict(conn.execute("select thread_id, count(*) from eventlog.events group by 1").fetchall())
    assert stored == done
    for found in (*lives, tail(database_uri)):
        streams: dict[str, list[int]] = defaultdict(list)
        for event in found:
            streams[event.thread_id].append(event.seq)
        assert {name: sorted(seqs) for name, seqs in streams.items()} == {
            name: list(range(1, count + 1)) for name, count in stored.items()
        }
        assert all(seqs == sorted(seqs) for seqs in streams.values()), "events of a stream out of order"
