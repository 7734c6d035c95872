"""One face for both savers, so that every test of the matrix is written once.

The tests are coroutines and await a saver's async methods. The async saver has them; `AsyncFace`
gives them to the sync one.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import re
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import pytest
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from psycopg import sql
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from eventlog.settings import StoredSettings
from langgraph.checkpoint.eventlog import EventLog, EventLogSaver
from langgraph.checkpoint.eventlog.aio import AsyncEventLog, AsyncEventLogSaver
from tests.support.checkpoints import Key, Tables, config_of, everything, listed_ids
from tests.support.pooler import direct
from tests.support.soundness import assert_keyframes, assert_sound, projected

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

T = TypeVar("T")

KINDS = tuple(
    f"{mode}-{source}" for mode in ("sync", "async") for source in ("pool", "connection", "string", "pipeline")
)

POOLS = pytest.mark.parametrize("kind", ["sync-pool", "async-pool"])

# How LangGraph's documentation opens connections for a saver.
CONNECT: Mapping[str, Any] = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}

_END: Any = object()


class AsyncFace(BaseCheckpointSaver[Any]):
    """The async methods of a saver, on top of a sync saver, each in a worker thread.

    All other attributes are the sync saver's own; it is `.sync`.
    """

    def __init__(self, sync: BaseCheckpointSaver[Any]) -> None:
        super().__init__(serde=sync.serde)
        self.sync = sync

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return await asyncio.to_thread(self.sync.get_tuple, config)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        async for found in _iterate(
            functools.partial(self.sync.list, config, filter=filter, before=before, limit=limit)
        ):
            yield found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        return await asyncio.to_thread(self.sync.put, config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        await asyncio.to_thread(self.sync.put_writes, config, writes, task_id, task_path)

    async def adelete_thread(self, thread_id: str) -> None:
        await asyncio.to_thread(self.sync.delete_thread, thread_id)

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        await asyncio.to_thread(self.sync.delete_for_runs, run_ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        await asyncio.to_thread(self.sync.copy_thread, source_thread_id, target_thread_id)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        await asyncio.to_thread(self.sync.prune, thread_ids, strategy=strategy)

    async def aget_delta_channel_history(self, *, config: RunnableConfig, channels: Sequence[str]) -> Mapping[str, Any]:
        return await asyncio.to_thread(self.sync.get_delta_channel_history, config=config, channels=channels)

    def with_allowlist(self, extra_allowlist: Collection[tuple[str, ...]]) -> AsyncFace:
        return AsyncFace(self.sync.with_allowlist(extra_allowlist))

    def get_next_version(self, current: Any, channel: None) -> Any:
        return self.sync.get_next_version(current, channel)

    async def asetup(self, **given: Any) -> None:
        await asyncio.to_thread(functools.partial(self.sync.setup, **given))  # type: ignore[attr-defined]

    # The async saver's name for it.
    setup = asetup

    @property
    def log(self) -> AsyncLogFace:
        return AsyncLogFace(self.sync.log)  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sync, name)


class AsyncLogFace:
    """The methods of `AsyncEventLog`, on top of an `EventLog`, each in a worker thread."""

    def __init__(self, sync: EventLog) -> None:
        self.sync = sync

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.sync, name)
        if not inspect.ismethod(found):
            return found
        if inspect.iscoroutinefunction(getattr(AsyncEventLog, name)):
            return functools.partial(asyncio.to_thread, found)
        return lambda *args, **options: _iterate(functools.partial(found, *args, **options))


async def _iterate(start: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """The items of a sync iterator, each fetched in a worker thread when it is asked for."""
    iterator = await asyncio.to_thread(start)
    try:
        while (item := await asyncio.to_thread(next, iterator, _END)) is not _END:
            yield item
    finally:
        if inspect.isgenerator(iterator):
            await asyncio.to_thread(iterator.close)


@asynccontextmanager
async def open_saver(
    kind: str, uri: str, *, connect: Mapping[str, Any] = CONNECT, **settings: Any
) -> AsyncIterator[Any]:
    """Open a saver of one of the `KINDS` on the database at `uri`; `setup` is not called.

    `connect` are psycopg's arguments, for the kinds that are given a connection or a pool (the
    others open their own). `settings` go to the saver; those of them that the database has are stored there, or by
    `setup`. Yields an object with the async saver's methods.
    """
    mode, source = kind.split("-")
    stored = {name: settings.pop(name) for name in StoredSettings.model_fields if name in settings}
    if stored and await asyncio.to_thread(store, uri, settings.get("schema", "eventlog"), **stored):
        stored = {}
    if mode == "async":
        async with _open_async(source, uri, connect, settings) as saver:
            if stored:
                saver.setup = functools.partial(saver.setup, **stored)  # type: ignore[method-assign]
            yield saver
        return
    with ExitStack() as stack:
        sync = await asyncio.to_thread(_open_sync, stack, source, uri, connect, settings)
        if stored:
            sync.setup = functools.partial(sync.setup, **stored)  # type: ignore[method-assign]
        try:
            yield AsyncFace(sync)
        finally:
            await asyncio.to_thread(stack.close)


def store(uri: str, schema: str = "eventlog", **stored: Any) -> bool:
    """Store settings of the log, as its owner's `setup` would; False where there is no log yet."""
    as_superuser = re.sub("//[^@/]*@", "//postgres@", direct(uri))
    with psycopg.connect(as_superuser, autocommit=True) as conn:
        if conn.execute("select to_regclass(format('%%I.settings', %s::text))", (schema,)).fetchone() == (None,):
            return False
        for name, value in stored.items():
            names = {"table": sql.Identifier(schema, "settings"), "column": sql.Identifier(name)}
            # A standby may have it, where nothing can be changed.
            if conn.execute(sql.SQL("select {column} from {table}").format(**names)).fetchone() != (value,):
                conn.execute(sql.SQL("update {table} set {column} = %s").format(**names), (value,))
    return True


def _open_sync(
    stack: ExitStack, source: str, uri: str, connect: Mapping[str, Any], settings: dict[str, Any]
) -> EventLogSaver:
    if source == "pool":
        pool = ConnectionPool(uri, min_size=1, max_size=8, kwargs=dict(connect), open=False)
        return EventLogSaver(stack.enter_context(pool), **settings)
    if source == "connection":
        conn = psycopg.Connection.connect(uri, **connect)
        return EventLogSaver(stack.enter_context(conn), **settings)
    return stack.enter_context(EventLogSaver.from_conn_string(uri, pipeline=source == "pipeline", **settings))


@asynccontextmanager
async def _open_async(
    source: str, uri: str, connect: Mapping[str, Any], settings: dict[str, Any]
) -> AsyncIterator[AsyncEventLogSaver]:
    async with AsyncExitStack() as stack:
        if source == "pool":
            pool = AsyncConnectionPool(uri, min_size=1, max_size=8, kwargs=dict(connect), open=False)
            yield AsyncEventLogSaver(await stack.enter_async_context(pool), **settings)
        elif source == "connection":
            conn = await psycopg.AsyncConnection.connect(uri, **connect)
            yield AsyncEventLogSaver(await stack.enter_async_context(conn), **settings)
        else:
            yield await stack.enter_async_context(
                AsyncEventLogSaver.from_conn_string(uri, pipeline=source == "pipeline", **settings)
            )


@dataclass
class LogUnderTest:
    """A log, the saver that works on it, one that remembers nothing, and what they must agree on."""

    uri: str
    kind: str
    saver: Any
    reader: Any
    tables: Tables

    async def everything(self) -> dict[Key, CheckpointTuple]:
        return await everything(self.reader)

    async def check(self, before: dict[Key, CheckpointTuple], survivors: set[Key]) -> None:
        """These survive, and read as before but for a parent that went. The log is sound and rebuilds to the same."""
        after = await self.everything()
        assert after.keys() == survivors, (
            f"survived, and should not: {after.keys() - survivors}; gone: {survivors - after.keys()}"
        )
        for key, found in after.items():
            parent = before[key].parent_config
            if parent is not None:
                parent_key = (*key[:2], parent["configurable"]["checkpoint_id"])
                if parent_key in before and parent_key not in survivors:
                    parent = None
            expected = before[key]._replace(parent_config=parent)
            for again in (found, await self.saver.aget_tuple(found.config), await self.reader.aget_tuple(found.config)):
                assert again == expected, f"{key} reads differently:\n{again}\n{expected}"
        for thread_id, ns in {key[:2] for key in before}:
            left = sorted((key for key in survivors if key[:2] == (thread_id, ns)), reverse=True)
            ids = await listed_ids(self.saver, config_of(thread_id, ns=ns))
            assert ids == [key[2] for key in left], f"the listing of {thread_id!r}, {ns!r} is {ids}"
            latest = await self.saver.aget_tuple(config_of(thread_id, ns=ns))
            assert (latest and latest.checkpoint["id"]) == (left[0][2] if left else None), f"the latest is {latest}"
        gone = before.keys() - survivors
        logged = self.tables.rows(
            "select distinct thread_id, checkpoint_ns, checkpoint_id from {schema}.events where kind in (1, 2)"
        )
        assert not gone & set(logged), f"in the log are still events of {gone & set(logged)}"
        await self.check_log()
        assert await self.everything() == after, "it reads differently once it is rebuilt"

    async def check_log(self) -> None:
        assert_sound(self.tables)
        assert_keyframes(self.tables)
        assert (await self.saver.log.verify()).problems == []
        superfluous = self.tables.rows(
            "select s.thread_id, s.checkpoint_ns, s.seq from {schema}.snapshots as s "
            "join {schema}.events as e using (thread_id, checkpoint_ns, seq, recorded_at) where e.base_seq is null"
        )
        assert not superfluous, f"snapshots of events that need none: {superfluous}"
        rows = projected(self.tables, keyframes=False)
        await self.saver.log.rebuild()
        rebuilt = projected(self.tables, keyframes=False)
        assert rebuilt == rows, f"rebuilt from the log:\n{rebuilt}\nas it was:\n{rows}"


@asynccontextmanager
async def open_log_under_test(kind: str, uri: str, **settings: Any) -> AsyncIterator[LogUnderTest]:
    serde = {"serde": settings["serde"]} if "serde" in settings else {}
    async with (
        open_saver(kind, uri, **settings) as saver,
        open_saver(kind, uri, state_cache_bytes=0, **serde) as reader,
    ):
        yield LogUnderTest(uri, kind, saver, reader, Tables(uri))
