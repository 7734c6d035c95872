"""The public API, used as a typed program would. mypy checks this file; nothing runs it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from langgraph.checkpoint.eventlog import (
    Change,
    ChannelChange,
    CheckpointName,
    Coverage,
    Cursor,
    Difference,
    Erased,
    Event,
    EventLog,
    EventLogSaver,
    FeedChange,
    HistoryEntry,
    Inspected,
    Lag,
    Maintained,
    Partitions,
    Problem,
    Proof,
    Pruned,
    Purged,
    RebuildProgress,
    Rebuilt,
    Retained,
    Retention,
    Retried,
    RetryPolicy,
    RowDifference,
    Seal,
    SetAside,
    Stats,
    StepCheckpoint,
    StoredEvent,
    ThreadStatus,
    ThreadSummary,
    Usage,
    ValueDifference,
    Verified,
    verify_proof,
)
from langgraph.checkpoint.eventlog.aio import AsyncEventLog, AsyncEventLogSaver


def sync_savers(
    conn: psycopg.Connection[dict[str, Any]],
    pool: ConnectionPool[psycopg.Connection[tuple[Any, ...]]],
) -> BaseCheckpointSaver[Any]:
    EventLogSaver(pool, serde=JsonPlusSerializer(), schema="audit", views_schema="audit_views")
    with conn.pipeline() as pipe:
        EventLogSaver(conn, pipe).setup()
    with EventLogSaver.from_conn_string("postgresql://", pipeline=True, retry=RetryPolicy(attempts=2)) as saver:
        saver.setup()
        typed: EventLogSaver = saver
    log: EventLog = saver.log
    saver.log.prune(["1"], keep_last=2, dry_run=True, on_thread=lambda erased: print(erased.bytes))
    with EventLog.from_conn_string("postgresql://", serde=log.serde) as alone:
        alone.setup()
    return typed


async def async_savers(
    conn: psycopg.AsyncConnection[dict[str, Any]],
    pool: AsyncConnectionPool[psycopg.AsyncConnection[tuple[Any, ...]]],
) -> BaseCheckpointSaver[Any]:
    AsyncEventLogSaver(pool, serde=JsonPlusSerializer(), pool_max_size=1)
    async with conn.pipeline() as pipe:
        await AsyncEventLogSaver(conn, pipe).setup()
    async with AsyncEventLogSaver.from_conn_string("postgresql://") as saver:
        await saver.setup()
        typed: AsyncEventLogSaver = saver
    log: AsyncEventLog = saver.log
    await saver.log.prune(["1"], keep_last=2, on_thread=lambda erased: print(erased.bytes))
    async with AsyncEventLog.from_conn_string("postgresql://", serde=log.serde) as alone:
        await alone.setup()
    AsyncEventLog(conn)
    return typed


def life_of_threads(log: EventLog) -> int:
    def tell(erased: Erased) -> None:
        print(erased.thread_id, erased.bytes)

    log.prune(["1"], keep_last=2, dry_run=True, on_thread=tell)
    log.delete_for_runs(["run"], actor="me")
    log.copy_thread("1", "2")
    config: RunnableConfig = log.fork_thread("1", "3", "checkpoint")
    idle: list[ThreadSummary] = log.expire(timedelta(days=90), limit=5)
    largest: list[ThreadSummary] = log.threads(filter={"user_id": "ada"}, sort="size", before=idle[0])
    stands: ThreadStatus = log.thread_status(["1"])["1"]
    pruned: Pruned = log.prune_all(older_than=timedelta(days=30), stop=lambda: bool(largest))
    print(stands.status, stands.pending[0].task_id, pruned.failed)
    purged: Purged = log.purge(["1"], on_table=lambda table: print(table.name, table.seconds))
    print(purged.left, purged.held_by)
    retained: Retained = log.retain(timedelta(days=90), drop_idle=True, archive="folder")
    log.set_retention(Retention(idle=timedelta(days=90), keep_last=10), actor="ada")
    stored: Retention | None = log.retention()
    maintained: Maintained = log.maintain(limit=10, on_run=lambda done: print(done.expired, stored))
    print(maintained.failed["1"])
    partitions: Partitions = log.partitions(exact=True)
    return len(config) + len(idle) + len(retained.partitions) + len(partitions.partitions) + len(log.threads())


async def life_of_threads_async(log: AsyncEventLog) -> int:
    await log.prune(["1"], strategy="delete")
    await log.delete_for_runs(["run"])
    await log.copy_thread("1", "2", actor="me")
    config: RunnableConfig = await log.fork_thread("1", "3")
    idle: list[ThreadSummary] = await log.expire(timedelta(days=90))
    stands: dict[str, ThreadStatus] = await log.thread_status([each.thread_id for each in await log.threads(sort="id")])
    pruned: Pruned = await log.prune_all(keep_last=3)
    print(stands["1"].step, pruned.is_stopped)
    retained: Retained = await log.retain(timedelta(days=90), archive=Path("folder"))
    await log.set_retention(None)
    stored: Retention | None = await log.retention()
    maintained: Maintained = await log.maintain(every=timedelta(hours=1), stop=lambda: stored is None)
    print(maintained.receipts[0].name)
    names: list[str] = await log.make_partitions(2)
    return len(config) + len(idle) + len(retained.partitions) + len(names)


def feed(log: EventLog) -> Cursor:
    events = log.tail("1-8123-4567", follow=True, poll_interval=0.5, thread_ids=["1"], limit=5)
    for event in events:
        last: StoredEvent = event
        decoded: Event = log.decode(event)
        print(str(last.cursor), last.is_replay, last.kind.name, len(last.body), decoded.writes)
    events.close()
    for event, entry, values in log.tail_changes(limit=5):
        told: HistoryEntry = entry
        print(event.cursor, told.error, values)
    lag: Lag = log.lag(Cursor.parse("1-2-3"))
    print(lag.held_by and lag.held_by.query)
    return log.tail_position()


async def feed_async(log: AsyncEventLog) -> Lag:
    events = log.tail(await log.tail_position(), follow=True)
    async for event in events:
        print(event.cursor.xid)
    await events.aclose()
    return await log.lag()


def auditing(log: EventLog, at: datetime) -> list[ChannelChange | ValueDifference]:
    records: list[HistoryEntry] = list(log.history("1", kinds=["checkpoint"], newest_first=True))
    changes: list[Change] = list(log.changes("1", checkpoint_ns="", after=records[0], limit=5))
    more: list[Change] = list(log.changes("1", after=changes[-1]))
    difference: Difference = log.diff("1", "a", "b")
    state: CheckpointTuple | None = log.state_at("1", at)
    conflicting: tuple[str, ...] = records[0].concurrent_with
    who: tuple[str | None, str | None, str | None] = records[0].actor, records[0].user_id, records[0].role
    print(who)
    print(len(more), state, records[0].cursor, conflicting)
    return [*changes[0].entry.channels, *difference.channels["messages"], *difference.metadata]


async def auditing_async(log: AsyncEventLog, at: datetime) -> int:
    records: list[HistoryEntry] = [record async for record in log.history("1", after="cursor")]
    changes: list[Change] = [change async for change in log.changes("1")]
    difference: Difference = await log.diff("1", "a", "b", checkpoint_ns="sub")
    state: CheckpointTuple | None = await log.state_at("1", at, checkpoint_ns="sub")
    return len(records) + len(changes) + len(difference.unchanged) + (state is None)


def proving(log: EventLog) -> bool:
    def tell(thread_id: str, checkpoint_ns: str, problems: list[Problem]) -> None:
        print(thread_id, checkpoint_ns, [problem.what for problem in problems])

    seal: Seal = log.seal(actor="me")
    proof: Proof = log.prove("1", "", seal=seal.number)
    verified: Verified = log.verify(["1"], workers=2, seal=f"{seal.number}:{seal.digest.hex()}", on_stream=tell)
    coverage: list[Coverage] = verified.coverage
    print(verified.seal, verified.sealed_events, verified.later_events, coverage[0].through)
    return verify_proof(proof, log.seals(limit=1, before=None)[0]) and not verified.problems


async def proving_async(log: AsyncEventLog) -> bool:
    seal: Seal = await log.seal()
    seals: list[Seal] = await log.seals()
    proof: Proof = await log.prove("1")
    verified: Verified = await log.verify(after=("1", ""))
    return verify_proof(proof, seal) and seals[0] == seal and verified.found == 0


def looking(log: EventLog, config: RunnableConfig) -> int:
    found: Inspected | None = log.inspect(config)
    then: Inspected | None = log.inspect(config, at=datetime.now(timezone.utc))
    steps: list[StepCheckpoint] = log.find_step("1", 3, checkpoint_ns="", limit=5)
    print(then and then.saved_at, steps[0].is_on_latest_branch)
    names: list[CheckpointName] = log.find("1f0", thread_id="1", checkpoint_ns="", limit=2)
    latest: dict[str, str | None] = log.namespaces("1")
    stats: Stats = log.stats(exact=True)
    values: list[Any] = [] if found is None else [found.load(each.value) for each in found.channels.values()]
    return len(values) + len(names) + len(latest) + stats.cache.hits + stats.replay.max + stats.relations[0].bytes


async def looking_async(log: AsyncEventLog, config: RunnableConfig) -> int:
    found: Inspected | None = await log.inspect(config)
    names: list[CheckpointName] = await log.find("1f0")
    latest: dict[str, str | None] = await log.namespaces("1")
    stats: Stats = await log.stats()
    return len(names) + len(latest) + stats.events + (0 if found is None else found.replayed)


def projecting(log: EventLog) -> int:
    counts: dict[str, int] = log.project(Usage(), on_error="set_aside")
    aside: list[SetAside] = log.set_aside_events("usage", limit=5)
    done: dict[str, Retried] = log.retry_set_aside([Usage()])
    return counts["usage"] + len(aside[0].error) + done["usage"].failed


async def projecting_async(log: AsyncEventLog) -> int:
    aside: list[SetAside] = await log.set_aside_events()
    done: dict[str, Retried] = await log.retry_set_aside(Usage())
    steps: list[StepCheckpoint] = await log.find_step("1", 3)
    changes: list[FeedChange] = [change async for change in log.tail_changes()]
    return len(aside) + done["usage"].gone + len(steps) + len(changes)


def rebuilding(log: EventLog) -> int:
    def tell(at: RebuildProgress) -> None:
        print(at.events, at.total, at.rate, at.seconds_left)

    def name(difference: RowDifference) -> None:
        print(difference.table, difference.key, difference.columns)

    done: Rebuilt = log.rebuild(workers=2, restart=True, accept_loss=False, on_progress=tell, on_difference=name)
    log.make_subscriber()
    done = log.take_over(workers=2, on_progress=tell)
    return done.differing["streams"] + len(done.differences)


async def rebuilding_async(log: AsyncEventLog) -> int:
    done: Rebuilt = await log.rebuild(check=True)
    await log.make_subscriber()
    done = await log.take_over()
    return done.streams
