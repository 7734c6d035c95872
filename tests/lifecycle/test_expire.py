"""Expiry: which threads count as idle, that they go, and what there is to see beforehand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from eventlog.errors import ThreadDeletedError
from langgraph.checkpoint.eventlog import EventLogSaver
from langgraph.checkpoint.eventlog.lifecycle import threads
from tests.support.adapters import POOLS, LogUnderTest, open_log_under_test, open_saver
from tests.support.checkpoints import TEXTS, checkpoint_of, config_of, converse, keys, put, values_of
from tests.support.clock import Clock
from tests.support.pooler import direct

DAY = timedelta(days=1)


@dataclass
class Timed(LogUnderTest):
    """A log that begins a hundred days ago."""

    clock: Clock


@pytest.fixture
async def world(kind: str, timed_uri: str) -> AsyncIterator[Timed]:
    clock = Clock(timed_uri, behind=100 * DAY)
    async with open_log_under_test(kind, timed_uri, snapshot_floor_bytes=0) as opened:
        await opened.saver.setup()
        yield Timed(**vars(opened), clock=clock)


async def ages(world: Timed, *names: str) -> None:
    """Threads, each of which was last active a day after the one before; the last one just now."""
    for number, name in enumerate(names):
        if number:
            world.clock.advance(DAY)
        await converse(world.saver, name, ids="ab")


def ids(summaries: list[Any]) -> list[str]:
    return [each.thread_id for each in summaries]


async def test_idle_threads_are_deleted_and_active_ones_kept(world: Timed) -> None:
    """Those to which nothing was appended for so long, with all that they had; the others stay as they are."""
    await ages(world, "e", "d", "c", "b", "a")
    await converse(world.saver, "d", "call:1", "p", parents={"": "a"})
    before, contents = await world.everything(), world.tables.contents()
    assert await world.saver.log.expire(5 * DAY) == []
    assert world.tables.contents() == contents
    done: list[Any] = []

    expired = await world.saver.log.expire(1.5 * DAY, actor="night job", on_thread=done.append)

    # d's subgraph has just done something.
    assert ids(expired) == ["c", "e"]
    assert [(each.thread_id, each.events, each.checkpoints, each.bytes) for each in expired] == [
        tuple(each) for each in done
    ]
    await world.check(before, {key for key in before if key[0] not in "ce"})
    for thread_id in "ce":
        (record,) = world.tables.records(thread_id)
        assert (record["operation"], record["by"], record["actor"]) == ("expire", "postgres", "night job")
        assert (record["events"], record["checkpoints"]) == (6, 2)
        with pytest.raises(ThreadDeletedError):
            await put(world.saver, config_of(thread_id, "b"), "c", {"x": 1})
    contents = world.tables.contents()
    assert await world.saver.log.expire(1.5 * DAY) == []
    assert world.tables.contents() == contents
    # Started afresh, it is young.
    await put(world.saver, config_of("c"), "c", {"x": 1})
    assert await world.saver.log.expire(1.5 * DAY) == []
    assert ids(await world.saver.log.expire(timedelta(0))) == ["a", "b", "c", "d"]
    assert await world.saver.log.threads() == []
    await world.check_log()


@POOLS
async def test_a_limited_run_is_continued_by_the_next(world: Timed, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of the ids, so many at a time; run again, it goes on where it was."""
    monkeypatch.setattr(threads, "PAGE", 2)
    names = [*"bacedgf", "ä", "Z"]
    await ages(world, *names)
    world.clock.advance(10 * DAY)
    await ages(world, "young")
    assert ids(await world.saver.log.expire(5 * DAY, limit=3)) == ["Z", "a", "b"]
    assert ids(await world.saver.log.expire(5 * DAY, limit=1)) == ["c"]
    assert ids(await world.saver.log.expire(5 * DAY, dry_run=True)) == ["d", "e", "f", "g", "ä"]
    assert ids(await world.saver.log.expire(5 * DAY, dry_run=True, limit=4)) == ["d", "e", "f", "g"]

    def interrupt(erased: Any) -> None:
        if erased.thread_id == "f":
            raise InterruptedError

    with pytest.raises(InterruptedError):
        await world.saver.log.expire(5 * DAY, on_thread=interrupt)
    assert sorted(ids(await world.saver.log.threads())) == ["g", "young", "ä"]
    assert ids(await world.saver.log.expire(5 * DAY, limit=100)) == ["g", "ä"]
    assert ids(await world.saver.log.threads()) == ["young"]


@POOLS
async def test_a_dry_run_changes_nothing_and_counts_the_bytes(world: Timed) -> None:
    """It changes nothing, and says what goes and what that takes, as the tables have it."""
    await ages(world, "2", "1")
    for number in range(12):
        await put(world.saver, config_of("1", number or None, "long"), number + 1, {"x": [*TEXTS, number]})
    await world.saver.aput_writes(config_of("1", "z", "only writes"), [("x", TEXTS)], "task")
    # What was done to a thread takes no part in its size.
    await world.saver.log.prune(["1"], keep_last=5)
    contents = world.tables.contents()
    assert any(row.startswith("(1,long") for row in contents["snapshots"])
    told: list[Any] = []

    dry = await world.saver.log.expire(timedelta(0), dry_run=True, on_thread=told.append)

    assert world.tables.contents() == contents
    sizes = world.tables.rows(
        """
        select
            thread_id,
            (select count(distinct checkpoint_ns) from {schema}.events as e where e.thread_id = s.thread_id),
            (select count(*) from {schema}.checkpoints as c where c.thread_id = s.thread_id),
            (select count(*) from {schema}.events as e where e.thread_id = s.thread_id and kind < 3),
            (select sum(length(body)) from {schema}.events as e where e.thread_id = s.thread_id and kind < 3)
            + (select coalesce(sum(length(body)), 0) from {schema}.snapshots as n where n.thread_id = s.thread_id)
        from {schema}.streams as s where checkpoint_ns = '' order by 1
        """
    )
    assert [(each.thread_id, *each[2:]) for each in dry] == sizes
    assert sizes[0][1] == 3
    assert await world.saver.log.threads(["1", "2"]) == dry
    assert await world.saver.log.expire(timedelta(0), on_thread=told.append) == dry
    assert told[2:] == told[:2]
    assert [(each.thread_id, each.checkpoints, each.events, each.bytes) for each in dry] == [
        (each.thread_id, each.checkpoints, each.events, each.bytes) for each in told[2:]
    ]


@POOLS
async def test_only_appends_count_as_activity(world: Timed) -> None:
    """Checkpoints and writes of any namespace; not what is done to a thread, not reading, not a repeat."""
    names = ("read", "pruned", "cut", "copied", "repeated", "writes", "subgraph", "again", "new namespace")
    for name in names:
        await converse(world.saver, name, ids="abc")
        await put(world.saver, config_of(name), "0", {"x": 1}, metadata={"run_id": f"run of {name}"})
    for name in ("subgraph", "only a subgraph"):
        await put(world.saver, config_of(name, ns="call:1"), "p", {"x": 1})
    world.clock.advance(10 * DAY)
    await values_of(world.saver, config_of("read"))
    await world.saver.aprune(["pruned"])
    await world.saver.adelete_for_runs(["run of cut"])
    await world.saver.acopy_thread("copied", "a copy")
    await put(world.saver, config_of("repeated"), "0", {"x": 1}, metadata={"run_id": "run of repeated"})
    await world.saver.aput_writes(config_of("writes", "b"), [("x", 1)], "task")
    await put(world.saver, config_of("subgraph", "p", "call:1"), "q", {"x": 1})
    await put(world.saver, config_of("again", "a"), "b", {"x": 1})
    await world.saver.aput_writes(config_of("new namespace", "p", "call:1"), [("x", 1)], "task")
    await world.saver.log.rebuild()
    before = await world.everything()

    dry = await world.saver.log.expire(5 * DAY, dry_run=True)
    expired = await world.saver.log.expire(5 * DAY)

    assert ids(expired) == ["copied", "cut", "only a subgraph", "pruned", "read", "repeated"]
    assert dry == expired
    assert sorted(ids(await world.saver.log.threads())) == ["a copy", "again", "new namespace", "subgraph", "writes"]
    await world.check(before, {key for key in before if key[0] not in ids(expired)})


# --- threads that runs go on with meanwhile


@POOLS
async def test_a_thread_continued_after_the_listing_is_kept(world: Timed) -> None:
    """Each is looked at again when its turn comes: one that a run has gone on with is left alone."""
    await ages(world, *"abcd")
    world.clock.advance(10 * DAY)
    before = await world.everything()
    told: list[str] = []

    def go_on(erased: Any) -> None:
        told.append(erased.thread_id)
        if erased.thread_id == "a":
            with psycopg.connect(world.uri, autocommit=True) as conn:
                saver = EventLogSaver(conn)
                saver.put_writes(config_of("b", "b"), [("x", "late")], "task")
                saver.put(config_of("c", ns="call:1"), checkpoint_of("p", {}, {}), {}, {})

    def called_elsewhere(erased: Any) -> None:
        thread = threading.Thread(target=go_on, args=(erased,))
        thread.start()
        thread.join()

    expired = await world.saver.log.expire(5 * DAY, on_thread=called_elsewhere)
    assert ids(expired) == told == ["a", "d"]
    after = await world.everything()
    assert after.keys() == {key for key in before if key[0] in "bc"} | keys("p", "c", "call:1")
    assert ("task", "x", "late") in after["b", "", "b"].pending_writes
    await world.check_log()


@POOLS
async def test_expire_waits_for_a_running_append_and_keeps_the_thread(world: Timed) -> None:
    """An append that is not committed yet: expiring waits for it, and then leaves the thread alone."""
    await ages(world, *"ab")
    world.clock.advance(10 * DAY)
    with psycopg.connect(world.uri) as conn:
        conn.execute("select 1")  # begins a transaction, in which the put is
        versions = {"x": "2"}
        EventLogSaver(conn).put(config_of("a", "b"), checkpoint_of("c", {"x": 2}, versions), {}, versions)
        expiring = asyncio.create_task(world.saver.log.expire(5 * DAY))
        while not world.tables.waiting():
            await asyncio.sleep(0.005)
        assert not expiring.done()
        conn.commit()
    assert ids(await expiring) == ["b"]
    assert await values_of(world.reader, config_of("a")) == {"x": 2}
    assert (await world.everything()).keys() == keys("a b c", "a")
    await world.check_log()


# --- the list


@POOLS
async def test_threads_are_listed_by_activity_or_by_id(world: Timed) -> None:
    """The last active first, page by page; by id in the order of the ids."""
    names = ["c", "a", "b", "e", "d"]
    await ages(world, *names)
    await converse(world.saver, "a", "call:1", "p")
    found = await world.saver.log.threads()
    order = ["a", "d", "e", "b", "c"]
    assert ids(found) == order
    assert [each.active_at for each in found] == sorted((each.active_at for each in found), reverse=True)
    assert [(each.namespaces, each.checkpoints, each.events) for each in found[:2]] == [(2, 3, 9), (1, 2, 6)]

    pages: list[list[str]] = []
    before: datetime | None = None
    while page := await world.saver.log.threads(limit=2, before=before):
        pages.append(ids(page))
        before = page[-1].active_at
    assert pages == [["a", "d"], ["e", "b"], ["c"]]

    assert ids(await world.saver.log.threads(["c", "never there", "a", "c"])) == ["c", "a"]
    assert await world.saver.log.threads([]) == []
    await world.saver.adelete_thread("d")
    assert ids(await world.saver.log.threads()) == ["a", "e", "b", "c"]
    (deleted,) = await world.saver.log.threads(["d"])
    assert deleted == ("d", None, 0, 0, 0, 0)
    await world.saver.log.rebuild()
    assert await world.saver.log.threads(["d"]) == [deleted]
    assert await world.saver.log.threads(ids(found[:1])) == found[:1]


@POOLS
async def test_no_thread_is_skipped_between_pages_at_the_same_time(world: LogUnderTest) -> None:
    """None is skipped where a page ends between threads that were last active at the very same time."""
    for number in range(7):
        await put(world.saver, config_of(f"{number}"), "1", {"x": 1})
    world.tables.run("update {schema}.streams set active_at = '2026-01-01' where thread_id in ('1', '2', '4', '5')")
    whole = [each.thread_id for each in await world.saver.log.threads()]
    assert len(whole) == 7
    paged: list[str] = []
    last = None
    while page := await world.saver.log.threads(limit=2, before=last):
        paged += [each.thread_id for each in page]
        last = page[-1]
    assert paged == whole


@POOLS
async def test_a_dry_run_needs_the_right_to_read_alone(world: LogUnderTest) -> None:
    """To look takes no other right, and no lock."""
    config = config_of()
    for id_ in "abc":
        config = await put(world.saver, config, id_, {"x": [id_] * 200}, metadata={"run_id": id_})
    seen: list[Any] = []
    read_only = {"autocommit": True, "options": "-c default_transaction_read_only=on"}
    # Directly: poolers know few of the options that a session can begin with.
    async with open_saver(world.kind, direct(world.uri), connect=read_only) as reader:
        with psycopg.connect(world.uri) as conn:
            # An append that does not end.
            conn.execute("select 1 from eventlog.streams for update")
            await reader.log.prune(["1"], dry_run=True, on_thread=seen.append)
            await reader.log.prune(["1"], strategy="delete", dry_run=True, on_thread=seen.append)
            await reader.log.delete_for_runs(["b"], dry_run=True, on_thread=seen.append)
            assert [each.thread_id for each in await reader.log.expire(timedelta(0), dry_run=True)] == ["1"]
            assert (await reader.log.retain(timedelta(0), dry_run=True)).partitions == []
    assert [each.checkpoints for each in seen] == [2, 3, 1]
