"""The real savers of langgraph-checkpoint-postgres, and the fence of their tables, each behind one face."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from langgraph.checkpoint.eventlog.transfer.incumbent import AsyncIncumbent, Incumbent
from tests.support.adapters import CONNECT, AsyncFace
from tests.support.checkpoints import config_of, put
from tests.support.pooler import direct

__all__ = ["OLD_KINDS", "fill", "latest_id", "no", "open_incumbent", "open_old", "open_pool", "set_up", "yes"]

#: How PostgresSaver is opened: on a pool, a connection or a string, or in a pipeline.
OLD_KINDS = tuple(
    f"{mode}-{source}" for mode in ("sync", "async") for source in ("pool", "connection", "string", "pipeline")
)


def set_up(uri: str) -> None:
    """PostgresSaver's tables."""
    with PostgresSaver.from_conn_string(direct(uri)) as saver:
        saver.setup()


@asynccontextmanager
async def open_old(kind: str, uri: str, *, connect: Mapping[str, Any] = CONNECT, **given: Any) -> AsyncIterator[Any]:
    """A saver of langgraph-checkpoint-postgres, with async methods. It prepares statements: not through a pooler."""
    mode, source = kind.split("-")
    uri = direct(uri)
    if mode == "sync":
        if source == "pool":
            with ConnectionPool(uri, min_size=1, max_size=4, kwargs=dict(connect), open=True) as pool:
                yield AsyncFace(PostgresSaver(pool, **given))
        elif source == "connection":
            with psycopg.Connection.connect(uri, **connect) as conn:
                yield AsyncFace(PostgresSaver(conn, **given))
        elif source == "string":
            with PostgresSaver.from_conn_string(uri) as saver:
                saver.serde = given.get("serde", saver.serde)
                yield AsyncFace(saver)
        else:
            with psycopg.Connection.connect(uri, **connect) as conn, conn.pipeline() as pipe:
                yield AsyncFace(PostgresSaver(conn, pipe, **given))
    elif source == "pool":
        async with AsyncConnectionPool(uri, min_size=1, max_size=4, kwargs=dict(connect), open=False) as apool:
            yield AsyncPostgresSaver(apool, **given)
    elif source == "connection":
        async with await psycopg.AsyncConnection.connect(uri, **connect) as aconn:
            yield AsyncPostgresSaver(aconn, **given)
    else:
        async with AsyncPostgresSaver.from_conn_string(uri, pipeline=source == "pipeline", **given) as asaver:
            yield asaver


class _IncumbentFace:
    """The methods of `AsyncIncumbent`, on top of an `Incumbent`; what it moves, it copies in an async function too."""

    def __init__(self, sync: Incumbent) -> None:
        self._sync = sync

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._sync, name)

        async def twin(*args: Any, **options: Any) -> Any:
            return method(*args, **options)

        return twin

    async def move(self, thread_id: str, moved_to: str, copy: Any) -> Any:
        return self._sync.move(thread_id, moved_to, lambda conn: _finished(copy(conn)))

    async def settle(self, thread_id: str, moved_to: str, is_in_log: Any) -> Any:
        return self._sync.settle(thread_id, moved_to, lambda: _finished(is_in_log()))


def _finished(coroutine: Any) -> Any:
    """Its result. What tests give is made of sync calls alone, and ends without waiting."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


@asynccontextmanager
async def open_incumbent(mode: str, uri: str, **given: Any) -> AsyncIterator[Any]:
    """The fence of the tables, with async methods."""
    if mode == "async":
        async with AsyncIncumbent.from_conn_string(uri, **given) as opened:
            yield opened
    else:
        with Incumbent.from_conn_string(uri, **given) as sync:
            yield _IncumbentFace(sync)


async def yes() -> bool:
    return True


async def no() -> bool:
    return False


async def fill(old: Any, thread_id: str, ids: str = "abc") -> None:
    """A thread of checkpoints and writes."""
    config = config_of(thread_id)
    for id_ in ids:
        config = await put(old, config, id_, {"list": [id_], "number": 1, "text": f"text {id_}"})
        await old.aput_writes(config, [("list", [id_]), ("text", id_)], f"task {id_}")


async def latest_id(saver: Any, thread_id: str) -> str | None:
    """The id of a thread's latest checkpoint."""
    found: CheckpointTuple | None = await saver.aget_tuple(config_of(thread_id))
    return None if found is None else found.checkpoint["id"]


@asynccontextmanager
async def open_pool(mode: str, uri: str) -> AsyncIterator[Any]:
    """What a log of this mode exports to."""
    if mode == "async":
        async with AsyncConnectionPool(uri, min_size=1, max_size=4, open=False) as apool:
            yield apool
    else:
        with ConnectionPool(uri, min_size=1, max_size=4, open=True) as pool:
            yield pool
