"""Eight writers with slow commits: who goes by positions loses events, who follows the feed loses none.

Of 4,000 events, or as many as EVENTLOG_STRESS_EVENTS says.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import psycopg
import pytest

from eventlog.events import StoredEvent
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver
from tests.feed.test_feed import append
from tests.support.checkpoints import Tables
from tests.support.pooler import direct

EVENTS = int(os.environ.get("EVENTLOG_STRESS_EVENTS", "4000"))
WRITERS = 8
#: Of so many transactions of a writer, one is held open until the naive reader has gone past it.
HELD = 25

END = "the end"


@dataclass
class Naive:
    """Remembers the greatest position that it has seen, as one would."""

    uri: str
    position: int = 0
    seen: set[int] = field(default_factory=set)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        # Directly: what is executed often psycopg prepares, and that belongs to a session.
        with psycopg.connect(direct(self.uri), autocommit=True) as conn:
            while True:
                was_over = self.stop.is_set()
                query = "select position from eventlog.events where position > %s order by position"
                for (position,) in conn.execute(query, (self.position,)):
                    self.seen.add(position)
                    self.position = position
                if was_over:
                    return
                time.sleep(0.002)


def write(uri: str, writer: int, share: int, naive: Naive) -> int:
    """Transactions of one to five appends, to a stream of the writer's own and to some that all share.

    Shared ones are appended to in the order of their names, lest two writers wait for each other. A transaction takes
    its id with its first append, so it comes to a shared stream with an id that others overtook. Returns how many
    transactions were held until the naive reader was past them.
    """
    choice = random.Random(writer)
    held = done = number = 0
    # Directly, for the same reason; and a transaction that is held would keep one of the pooler's few connections.
    with psycopg.connect(direct(uri)) as conn:
        while done < share:
            number += 1
            is_held = number % HELD == writer
            streams = [f"own {writer}"]
            if not is_held:
                streams += sorted(choice.choices(["shared 1", "shared 2", "shared 3"], k=choice.randrange(5)))
            appended = streams[: share - done]
            for stream in appended:
                append(conn, stream, f"{number}")
                if choice.random() < 0.1:
                    time.sleep(choice.random() * 0.005)
            if is_held:
                ((position,),) = conn.execute(
                    "select max(position) from eventlog.events where xid = pg_current_xact_id()"
                ).fetchall()
                held += wait_until(lambda position=position: naive.position > position)  # type: ignore[misc]
            elif choice.random() < 0.3:
                time.sleep(choice.random() * 0.02)
            if not is_held and choice.random() < 0.02:
                conn.rollback()
                continue
            conn.commit()
            done += len(appended)
    return held


def wait_until(is_so: Callable[[], bool]) -> bool:
    """Wait for what other writers bring about; false when there are none left who could."""
    for _ in range(500):
        if is_so():
            return True
        time.sleep(0.01)
    return False


def follow(uri: str) -> list[StoredEvent]:
    """All events as they come, by a reader that is started again every now and then."""
    choice = random.Random(0)
    found: list[StoredEvent] = []
    with EventLogSaver.from_conn_string(uri) as saver:
        while True:
            after: Any = None if not found else choice.choice([found[-1].cursor, str(found[-1].cursor)])
            for event in saver.log.tail(after, follow=True, poll_interval=0.02, limit=choice.randrange(1, EVENTS // 4)):
                if event.thread_id == END:
                    return found
                found.append(event)


def follow_async(uri: str) -> list[StoredEvent]:
    """All events as they come, by one call of the async saver."""

    async def run() -> list[StoredEvent]:
        found: list[StoredEvent] = []
        async with (
            AsyncEventLogSaver.from_conn_string(uri) as saver,
            aclosing(saver.log.tail(follow=True, poll_interval=0.1)) as events,
        ):
            async for event in events:
                if event.thread_id == END:
                    break
                found.append(event)
        return found

    return asyncio.run(run())


@pytest.mark.timeout(1200)
def test_the_feed_loses_and_repeats_no_event_under_load(database_uri: str) -> None:
    """Neither loses nor repeats an event, and every stream comes in its order."""
    naive = Naive(database_uri)
    started = time.perf_counter()
    with ThreadPoolExecutor(WRITERS + 3) as executor:
        reading = executor.submit(naive.run)
        followers = [executor.submit(follow, database_uri), executor.submit(follow_async, database_uri)]
        try:
            writers = [
                executor.submit(write, database_uri, number, EVENTS // WRITERS, naive) for number in range(WRITERS)
            ]
            held = sum(writer.result() for writer in writers)
        finally:
            naive.stop.set()
            # The last one of all, whatever became of the others: who waits for more learns that there is no more.
            with psycopg.connect(database_uri) as conn:
                append(conn, END)
        seconds = time.perf_counter() - started
        reading.result()
        live, live_async = (follower.result() for follower in followers)

    events = Tables(database_uri).rows(
        "select position, thread_id, seq from {schema}.events where thread_id <> %s", END
    )
    assert len(events) == EVENTS
    lost = {position for position, _, _ in events} - naive.seen
    assert held > WRITERS, "no transaction was held for long enough"
    assert len(lost) >= held, "the naive reader did not lose what it must"

    assert [event.cursor for event in live] == [event.cursor for event in live_async]
    cursors = [event.cursor for event in live]
    assert cursors == sorted(set(cursors))
    assert {cursor.position for cursor in cursors} == {position for position, _, _ in events}
    streams: dict[str, list[int]] = defaultdict(list)
    for event in live:
        streams[event.thread_id].append(event.seq)
    assert len(streams) == WRITERS + 3
    assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in streams.values())
    with EventLogSaver.from_conn_string(database_uri) as saver:
        assert list(saver.log.tail())[:-1] == live, "another order than it had as it was written"
    out_of_order = sum(one.position > other.position for one, other in pairwise(cursors))
    print(
        f"\n{EVENTS} events by {WRITERS} writers in {seconds:.1f} s; {held} transactions were held open; the naive "
        f"reader lost {len(lost)}, tail lost 0 and repeated 0, and {out_of_order} times went back in position"
    )
