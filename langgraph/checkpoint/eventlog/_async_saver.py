"""The asynchronous saver: the twin of `_saver`, and its sync methods for other threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg import AsyncPipeline
from typing_extensions import Self

from eventlog.db.async_ import AsyncDriver
from eventlog.db.base import AsyncConn
from eventlog.embedded import embedded_server
from eventlog.errors import EventLoopError
from langgraph.checkpoint.eventlog._async_log import AsyncEventLog
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._delta_history import delta_channel_history
from langgraph.checkpoint.eventlog._estimate import estimate_size
from langgraph.checkpoint.eventlog._get import Reader
from langgraph.checkpoint.eventlog._list import Listing
from langgraph.checkpoint.eventlog._put import Writer
from langgraph.checkpoint.eventlog._setup import open_async, setup
from langgraph.checkpoint.eventlog._versions import next_version
from langgraph.checkpoint.eventlog.lifecycle.threads import OnThread

__all__ = ["AsyncEventLogSaver"]

T = TypeVar("T")


class AsyncEventLogSaver(BaseCheckpointSaver[str]):
    """The async twin of `langgraph.checkpoint.eventlog.EventLogSaver`: the same log, settings and errors.

    States larger than ``offload_bytes`` are encoded and decoded in a worker thread, off the event loop. The sync
    methods work too, from any thread but the event loop's own.

    Args:
        conn: a psycopg `AsyncConnection` or `AsyncConnectionPool`, with any settings.
        pipe: the pipeline that the connection is in, if it is in one.
        serde, settings: as for `EventLogSaver`.
    """

    def __init__(
        self,
        conn: AsyncConn,
        pipe: AsyncPipeline | None = None,
        serde: SerializerProtocol | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(serde=serde)
        self._context = Context.create(settings)
        self._made: Writer | None = None
        parsed = self._context.settings
        self._driver = AsyncDriver(conn, pipe, retry=parsed.retry, offload_bytes=parsed.offload_bytes)
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None  # made outside of a loop: the first async call brings its own

    @classmethod
    @asynccontextmanager
    async def from_conn_string(
        cls, conn_string: str, *, pipeline: bool = False, serde: SerializerProtocol | None = None, **settings: Any
    ) -> AsyncIterator[Self]:
        """A saver with a connection pool of its own. Arguments as for `EventLogSaver.from_conn_string`."""
        context = Context.create(settings)
        async with open_async(conn_string, pipeline=pipeline, max_size=context.settings.pool_max_size) as pool:
            yield cls(pool, serde=serde, **settings)

    @classmethod
    @asynccontextmanager
    async def embedded(
        cls, path: str | Path, *, serde: SerializerProtocol | None = None, **settings: Any
    ) -> AsyncIterator[Self]:
        """A saver on a private PostgreSQL server, set up and ready. Arguments as for `EventLogSaver.embedded`."""
        Context.create(settings)
        with ExitStack() as stack:
            # Starting a server takes a second that the event loop should not spend waiting.
            uri = await asyncio.to_thread(stack.enter_context, embedded_server(path))
            async with cls.from_conn_string(uri, serde=serde, **settings) as saver:
                await saver.setup()
                yield saver

    async def setup(self) -> None:
        """Create what is missing in the database. As `EventLogSaver.setup`."""
        await self._driver.run_script(setup(self._context))

    @property
    def log(self) -> AsyncEventLog:
        """The log that this saver writes: history, the feed, verification, retention and all else beside LangGraph.

        It shares the saver's connection, settings, caches and serializer.
        """
        return AsyncEventLog._sharing(self._context, self._driver, self.serde)

    @property
    def _writer(self) -> Writer:
        # `serde` is a public attribute, and copies (`with_allowlist` makes them) have another one.
        if self._made is None or self._made.serde is not self.serde:
            self._made = Writer(self._context, self.serde)
        return self._made

    @property
    def _listing_reader(self) -> Reader:
        """For one listing, whose tuples may share what was decoded."""
        share = self._context.settings.share_history
        return Reader(self._context, self.serde, share=True) if share else self._writer.reader

    def get_next_version(self, current: str | None, channel: None = None) -> str:
        """The channel version after `current`, in the format of `PostgresSaver`."""
        return next_version(current)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `EventLogSaver.get_tuple`."""
        # What the database sends is a difference when the cache knows the state, and decoding is about the whole of it.
        known = self._writer.reader.cached_bytes(config)
        return await self._run(self._driver.run(lambda: self._writer.reader.get_tuple(config), weight=known))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `EventLogSaver.list`."""
        reader = self._listing_reader
        listing = Listing(self._context, reader, config, filter, before, limit)
        while (chunk := await self._run(self._driver.run(listing.next_chunk))) is not None:
            for folded in chunk:
                found = await self._driver.run(
                    lambda folded=folded: reader.tuple_of(folded),  # type: ignore[misc]
                    weight=folded.state.state_bytes,
                )
                if found is not None:
                    yield found

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As `EventLogSaver.put`."""
        return await self._run(
            self._driver.run(
                lambda: self._writer.put(config, checkpoint, metadata, new_versions),
                weight=self._weigh(checkpoint),
            )
        )

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As `EventLogSaver.put_writes`."""
        writes = tuple(writes)
        await self._run(
            self._driver.run(
                lambda: self._writer.put_writes(config, writes, task_id, task_path),
                again=lambda: self._writer.put_writes(config, writes, task_id, task_path, again=True),
                weight=self._weigh(writes),
            )
        )

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As `EventLogSaver.get_delta_channel_history`."""
        return await self._run(
            self._driver.run(lambda: delta_channel_history(self._context, self.serde, config, channels))
        )

    # --- LangGraph's erasing and copying, with the log's options

    async def adelete_thread(self, thread_id: str, *, actor: str | None = None) -> None:
        """As `EventLogSaver.delete_thread`."""
        await self._run(self.log.delete_thread(thread_id, actor=actor))

    async def adelete_for_runs(
        self,
        run_ids: Sequence[str],
        *,
        dry_run: bool = False,
        actor: str | None = None,
        on_thread: OnThread | None = None,
    ) -> None:
        """As `EventLogSaver.delete_for_runs`."""
        await self._run(self.log.delete_for_runs(run_ids, dry_run=dry_run, actor=actor, on_thread=on_thread))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str, *, actor: str | None = None) -> None:
        """As `EventLogSaver.copy_thread`."""
        await self._run(self.log.copy_thread(source_thread_id, target_thread_id, actor=actor))

    async def aprune(
        self,
        thread_ids: Sequence[str],
        *,
        strategy: str = "keep_latest",
        keep_last: int | None = None,
        older_than: timedelta | None = None,
        dry_run: bool = False,
        actor: str | None = None,
        on_thread: OnThread | None = None,
    ) -> None:
        """As `EventLogSaver.prune`."""
        await self._run(
            self.log.prune(
                thread_ids,
                strategy=strategy,
                keep_last=keep_last,
                older_than=older_than,
                dry_run=dry_run,
                actor=actor,
                on_thread=on_thread,
            )
        )

    def _weigh(self, value: Any) -> int:
        return estimate_size(value, self._context.settings.offload_bytes)

    # --- the sync methods, for other threads

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """`aget_tuple`, from a thread other than the event loop's."""
        return self._wait(lambda: self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """`alist`, from a thread other than the event loop's."""
        self._other_loop()
        checkpoints = self.alist(config, filter=filter, before=before, limit=limit)
        while (found := self._wait(lambda: anext(checkpoints, None))) is not None:
            yield found

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """`aput`, from a thread other than the event loop's."""
        return self._wait(lambda: self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """`aput_writes`, from a thread other than the event loop's."""
        self._wait(lambda: self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str, *, actor: str | None = None) -> None:
        """`adelete_thread`, from a thread other than the event loop's."""
        self._wait(lambda: self.adelete_thread(thread_id, actor=actor))

    def delete_for_runs(
        self,
        run_ids: Sequence[str],
        *,
        dry_run: bool = False,
        actor: str | None = None,
        on_thread: OnThread | None = None,
    ) -> None:
        """`adelete_for_runs`, from a thread other than the event loop's."""
        self._wait(lambda: self.adelete_for_runs(run_ids, dry_run=dry_run, actor=actor, on_thread=on_thread))

    def copy_thread(self, source_thread_id: str, target_thread_id: str, *, actor: str | None = None) -> None:
        """`acopy_thread`, from a thread other than the event loop's."""
        self._wait(lambda: self.acopy_thread(source_thread_id, target_thread_id, actor=actor))

    def prune(
        self,
        thread_ids: Sequence[str],
        *,
        strategy: str = "keep_latest",
        keep_last: int | None = None,
        older_than: timedelta | None = None,
        dry_run: bool = False,
        actor: str | None = None,
        on_thread: OnThread | None = None,
    ) -> None:
        """`aprune`, from a thread other than the event loop's."""
        self._wait(
            lambda: self.aprune(
                thread_ids,
                strategy=strategy,
                keep_last=keep_last,
                older_than=older_than,
                dry_run=dry_run,
                actor=actor,
                on_thread=on_thread,
            )
        )

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """`aget_delta_channel_history`, from a thread other than the event loop's."""
        return self._wait(lambda: self.aget_delta_channel_history(config=config, channels=channels))

    async def _run(self, awaitable: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return await awaitable

    def _other_loop(self) -> asyncio.AbstractEventLoop:
        """The saver's loop, made sure that waiting for it cannot wait for ever."""
        if self._loop is None or not self._loop.is_running():
            raise EventLoopError(
                "the saver's event loop is not running: sync methods of AsyncEventLogSaver run on it. "
                "Use EventLogSaver in synchronous programs"
            )
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is self._loop:
            raise EventLoopError()
        return self._loop

    def _wait(self, start: Callable[[], Awaitable[T]]) -> T:
        async def call() -> T:
            return await start()

        loop = self._other_loop()
        return asyncio.run_coroutine_threadsafe(call(), loop).result()
