"""The asynchronous saver."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg import AsyncPipeline
from typing_extensions import Self

from eventlog.drivers import AsyncConn, AsyncDriver
from eventlog.embedded import embedded_server
from eventlog.errors import EventLoopError
from eventlog.weight import weigh
from langgraph.checkpoint.eventlog._base import BaseEventLogSaver
from langgraph.checkpoint.eventlog._delta_history import delta_channel_history
from langgraph.checkpoint.eventlog._listing import Listing
from langgraph.checkpoint.eventlog._operations import Context
from langgraph.checkpoint.eventlog._setup import open_async, setup_async
from projections.rebuild import Rebuilt

__all__ = ["AsyncEventLogSaver"]

T = TypeVar("T")


class AsyncEventLogSaver(BaseEventLogSaver):
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
        super().__init__(serde, settings)
        parsed = self._context.settings
        self._driver = AsyncDriver(conn, pipe, attempts=parsed.connection_attempts, offload_bytes=parsed.offload_bytes)
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
        async with open_async(conn_string, pipeline=pipeline, max_size=context.settings.pool_max_size) as (conn, pipe):
            yield cls(conn, pipe, serde, **settings)

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
        await setup_async(self._driver, self._context)

    async def rebuild(self) -> Rebuilt:
        """Rebuild projections and snapshots from the log alone. As `EventLogSaver.rebuild`."""
        return await self._driver.run_atomic(self._operations.rebuild())

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `EventLogSaver.get_tuple`."""
        # What the database sends is a difference when the cache knows the state, and decoding is about the whole of it.
        known = self._operations.frame_bytes(config)
        return await self._run(self._driver.run(lambda: self._operations.get_tuple(config), weight=known))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `EventLogSaver.list`."""
        operations = self._operations
        listing = Listing(self._context, operations, config, filter, before, limit)
        while (chunk := await self._run(self._driver.run(listing.next_chunk))) is not None:
            for folded in chunk:
                yield await self._driver.run(
                    lambda folded=folded: operations.tuple_of(folded),  # type: ignore[misc]
                    weight=folded.frame.state_bytes,
                )

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
                lambda: self._operations.put(config, checkpoint, metadata, new_versions),
                weight=self._weigh(checkpoint),
            )
        )

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As `EventLogSaver.put_writes`."""
        await self._run(
            self._driver.run(
                lambda: self._operations.put_writes(config, writes, task_id, task_path), weight=self._weigh(writes)
            )
        )

    async def adelete_thread(self, thread_id: str) -> None:
        """As `EventLogSaver.delete_thread`."""
        await self._run(self._driver.run(lambda: self._operations.delete_thread(thread_id)))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As `EventLogSaver.get_delta_channel_history`."""
        return await self._run(
            self._driver.run(lambda: delta_channel_history(self._context, self.serde, config, channels))
        )

    def _weigh(self, value: Any) -> int:
        return weigh(value, self._context.settings.offload_bytes)

    async def _run(self, awaitable: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return await awaitable

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

    def delete_thread(self, thread_id: str) -> None:
        """`adelete_thread`, from a thread other than the event loop's."""
        self._wait(lambda: self.adelete_thread(thread_id))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """`aget_delta_channel_history`, from a thread other than the event loop's."""
        return self._wait(lambda: self.aget_delta_channel_history(config=config, channels=channels))

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
