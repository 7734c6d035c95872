"""The public API, used as a typed program would. mypy checks this file; nothing runs it."""

from __future__ import annotations

from typing import Any

import psycopg
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from langgraph.checkpoint.eventlog import EventLogSaver
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
