"""The asynchronous saver: the twin of `_saver`, and its sync methods for other threads."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

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

from eventlog.db.base import AsyncConn
from eventlog.errors import EventLoopError
from langgraph.checkpoint.eventlog._async_log import AsyncEventLog
from langgraph.checkpoint.eventlog._delta_history import delta_channel_history
from langgraph.checkpoint.eventlog._estimate import estimate_size
from langgraph.checkpoint.eventlog._get import Reader
from langgraph.checkpoint.eventlog._list import Listing
from langgraph.checkpoint.eventlog._put import Writer
from langgraph.checkpoint.eventlog._setup import AsyncConnected
from langgraph.checkpoint.eventlog._versions import next_version

__all__ = ["AsyncEventLogSaver"]

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]]) -> Callable[Concatenate[Any, P], T]:
    """The sync twin of an async method, for threads other than the event loop's: the loop does the work."""

    @functools.wraps(method)
    def twin(self: AsyncEventLogSaver, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._wait(lambda: method(self, *args, **kwargs))

    twin.__name__ = method.__name__[1:]
    twin.__qualname__ = f"AsyncEventLogSaver.{twin.__name__}"
    twin.__doc__ = f"`{method.__name__}`, from a thread other than the event loop's."
    return twin


class AsyncEventLogSaver(AsyncConnected, BaseCheckpointSaver[str]):
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
        AsyncConnected.__init__(self, conn, pipe, serde, **settings)
        BaseCheckpointSaver.__init__(self, serde=serde)
        self._made: Writer | None = None
        try:
            self._loop: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None  # made outside of a loop: the first async call brings its own

    @property
    def log(self) -> AsyncEventLog:
        """The log that this saver writes: history, the feed, verification, retention and all else beside LangGraph.

        It shares the saver's connection, settings, caches and serializer.
        """
        return AsyncEventLog._sharing(self)

    @property
    def _writer(self) -> Writer:
        # `serde` is a public attribute, and copies (`with_allowlist` makes them) have another one.
        made = self._made
        if made is None or made.serde is not self.serde:
            made = self._made = Writer(self._context, self.serde)
        return made

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

    # --- LangGraph's erasing and copying; the log's have options

    async def adelete_thread(self, thread_id: str) -> None:
        """As `EventLogSaver.delete_thread`."""
        await self._run(self.log.delete_thread(thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `EventLogSaver.delete_for_runs`."""
        await self._run(self.log.delete_for_runs(run_ids))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `EventLogSaver.copy_thread`."""
        await self._run(self.log.copy_thread(source_thread_id, target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As `EventLogSaver.prune`."""
        await self._run(self.log.prune(thread_ids, strategy=strategy))

    def _weigh(self, value: Any) -> int:
        return estimate_size(value, self._context.settings.offload_bytes)

    # --- the sync methods, for other threads

    get_tuple = _blocking(aget_tuple)
    put = _blocking(aput)
    put_writes = _blocking(aput_writes)
    delete_thread = _blocking(adelete_thread)
    delete_for_runs = _blocking(adelete_for_runs)
    copy_thread = _blocking(acopy_thread)
    prune = _blocking(aprune)
    get_delta_channel_history = _blocking(aget_delta_channel_history)

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
