"""The public API, used as a typed program would. mypy checks this file; nothing runs it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from langgraph.checkpoint.eventlog import (
    Difference,
    Erased,
    EventLogSaver,
    Partitions,
    RebuildProgress,
    Rebuilt,
    Retained,
    ThreadSummary,
)
from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver


def sync_savers(
    conn: psycopg.Connection[dict[str, Any]],
    pool: ConnectionPool[psycopg.Connection[tuple[Any, ...]]],
) -> BaseCheckpointSaver[Any]:
    EventLogSaver(pool, serde=JsonPlusSerializer(), schema="audit", partition_interval="week")
    with conn.pipeline() as pipe:
        EventLogSaver(conn, pipe).setup()
    with EventLogSaver.from_conn_string("postgresql://", pipeline=True) as saver:
        saver.setup()
        typed: EventLogSaver = saver
    return typed


async def async_savers(
    conn: psycopg.AsyncConnection[dict[str, Any]],
    pool: AsyncConnectionPool[psycopg.AsyncConnection[tuple[Any, ...]]],
) -> BaseCheckpointSaver[Any]:
    AsyncEventLogSaver(pool, serde=JsonPlusSerializer(), partitions_ahead=1)
    async with conn.pipeline() as pipe:
        await AsyncEventLogSaver(conn, pipe).setup()
    async with AsyncEventLogSaver.from_conn_string("postgresql://") as saver:
        await saver.setup()
        typed: AsyncEventLogSaver = saver
    return typed


def life_of_threads(saver: EventLogSaver) -> int:
    def tell(erased: Erased) -> None:
        print(erased.thread_id, erased.bytes)

    saver.prune(["1"], keep_last=2, dry_run=True, on_thread=tell)
    saver.delete_for_runs(["run"], actor="me")
    saver.copy_thread("1", "2")
    config: RunnableConfig = saver.fork_thread("1", "3", "checkpoint")
    idle: list[ThreadSummary] = saver.expire(timedelta(days=90), limit=5)
    retained: Retained = saver.retain(timedelta(days=90), drop_idle=True, archive="folder")
    partitions: Partitions = saver.partitions(exact=True)
    return len(config) + len(idle) + len(retained.partitions) + len(partitions.partitions) + len(saver.threads())


async def life_of_threads_async(saver: AsyncEventLogSaver) -> int:
    await saver.aprune(["1"], strategy="delete")
    await saver.adelete_for_runs(["run"])
    await saver.acopy_thread("1", "2", actor="me")
    config: RunnableConfig = await saver.fork_thread("1", "3")
    idle: list[ThreadSummary] = await saver.expire(timedelta(days=90))
    retained: Retained = await saver.retain(timedelta(days=90), archive=Path("folder"))
    names: list[str] = await saver.make_partitions(2)
    return len(config) + len(idle) + len(retained.partitions) + len(names)


def rebuilding(saver: EventLogSaver) -> int:
    def tell(at: RebuildProgress) -> None:
        print(at.events, at.total, at.rate, at.seconds_left)

    def name(difference: Difference) -> None:
        print(difference.table, difference.key, difference.columns)

    done: Rebuilt = saver.rebuild(workers=2, restart=True, on_progress=tell, on_difference=name)
    names: list[str] = saver.drop_old()
    return done.differing["streams"] + len(done.differences) + len(names)


async def rebuilding_async(saver: AsyncEventLogSaver) -> int:
    done: Rebuilt = await saver.rebuild(check=True)
    return done.streams + len(await saver.drop_old())
