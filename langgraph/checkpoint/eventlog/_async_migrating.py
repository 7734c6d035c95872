"""The asynchronous saver that takes threads over: the twin of `_migrating`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
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
from psycopg import AsyncConnection, Connection
from psycopg_pool import ConnectionPool

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog._async_log import AsyncEventLog
from langgraph.checkpoint.eventlog._async_saver import AsyncEventLogSaver
from langgraph.checkpoint.eventlog._migrating_steps import END, Emit, MigratingBase, Steps, is_postgres_saver
from langgraph.checkpoint.eventlog._other_threads import OtherThreads, blocking
from langgraph.checkpoint.eventlog._setup import sharing
from langgraph.checkpoint.eventlog.transfer.incumbent import AsyncIncumbent
from langgraph.checkpoint.eventlog.transfer.mover import AsyncMover
from langgraph.checkpoint.eventlog.transfer.postgres_tables import PostgresTables

__all__ = ["AsyncMigratingSaver"]

T = TypeVar("T")


class AsyncMigratingSaver(OtherThreads, MigratingBase[AsyncEventLogSaver]):
    """Write to an event log, and move each thread there from another async saver on its first use.

    It is the async twin of `MigratingSaver`. Its sync methods work from any thread except the event loop's own.

    Args:
        old: The saver to move threads from: an `AsyncPostgresSaver`, or any other saver with async methods.
        new: The saver of the log.
        schema: The schema of PostgresSaver's tables. None takes the first schema on the search path that has them.

    Raises:
        InvalidInputError: A saver is not async.
    """

    _prefix = "a"

    def __init__(self, old: BaseCheckpointSaver[Any], new: AsyncEventLogSaver, *, schema: str | None = None) -> None:
        if not isinstance(new, AsyncEventLogSaver):
            raise InvalidInputError(
                f"new must be an AsyncEventLogSaver, not {type(new).__name__}; MigratingSaver takes sync savers"
            )
        conn: Any = getattr(old, "conn", None)
        if isinstance(conn, (Connection, ConnectionPool)):
            raise InvalidInputError(f"old is a sync saver, {type(old).__name__}: use MigratingSaver")
        tables = AsyncIncumbent(conn, getattr(old, "pipe", None), schema=schema) if is_postgres_saver(old) else None
        super().__init__(old, new, tables, sharing(AsyncMover, new), schema)
        self._last_loop: asyncio.AbstractEventLoop | None = None
        with suppress(RuntimeError):
            self._last_loop = asyncio.get_running_loop()

    @property
    def log(self) -> AsyncEventLog:
        """The new saver's log."""
        return self.new.log

    @property
    def _loop(self) -> asyncio.AbstractEventLoop | None:
        self._mover.check_process()
        return self._last_loop

    async def setup(self, **given: Any) -> None:
        """Set up the log, as `AsyncEventLogSaver.setup`."""
        return await self.new.setup(**given)

    def _copying(self, thread_id: str, *, is_in_log: bool = False) -> Callable[[Any], Any]:
        async def copying(conn: Any) -> None:
            await self._mover.import_one(PostgresTables(conn, self._schema), thread_id, is_in_log=is_in_log)

        return copying

    def _copying_nothing(self) -> Callable[[Any], Any]:
        async def copying(_: Any) -> None:
            """The thread is to be deleted."""

        return copying

    async def _alone(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:  # type: ignore[override]
        old: Any = self.old
        async with old.lock if isinstance(old.conn, AsyncConnection) else nullcontext():
            return await call()

    async def _listed(self, config: RunnableConfig | None, **criteria: Any) -> Any:
        return [each async for each in self.old.alist(config, **criteria)]

    async def _run(self, steps: Steps[T]) -> T:
        self._last_loop = asyncio.get_running_loop()
        try:
            step: Any = next(steps)
            while True:
                try:
                    result = await step()
                except Exception as exc:
                    step = steps.throw(exc)
                else:
                    step = steps.send(result)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As `MigratingSaver.get_tuple`."""
        return await self._run(self._get_tuple(config))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """As `MigratingSaver.list`."""
        found: Any = self.new.alist(config, filter=filter, before=before, limit=limit)
        steps = self._list(partial(anext, found, END), config, filter, before, limit)
        try:
            step: Any = next(steps, END)
            while step is not END:
                if isinstance(step, Emit):
                    yield step.item
                    step = next(steps, END)
                    continue
                result = await step()
                try:
                    step = steps.send(result)
                except StopIteration:
                    return
        finally:
            steps.close()
            await found.aclose()

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As `MigratingSaver.put`."""
        return await self._run(self._write("put", config, checkpoint, metadata, new_versions))

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As `MigratingSaver.put_writes`."""
        await self._run(self._write("put_writes", config, tuple(writes), task_id, task_path))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """As `MigratingSaver.get_delta_channel_history`."""
        return await self._run(self._delta_history(config, channels))

    async def adelete_thread(self, thread_id: str) -> None:
        """As `MigratingSaver.delete_thread`."""
        await self._run(self._delete_thread(thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As `MigratingSaver.delete_for_runs`."""
        await self._run(self._delete_for_runs(run_ids))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As `MigratingSaver.copy_thread`."""
        await self._run(self._copy_thread(source_thread_id, target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As `MigratingSaver.prune`."""
        await self._run(self._prune(thread_ids, strategy))

    # --- the sync methods, for other threads

    get_tuple = blocking(aget_tuple)
    put = blocking(aput)
    put_writes = blocking(aput_writes)
    get_delta_channel_history = blocking(aget_delta_channel_history)
    delete_thread = blocking(adelete_thread)
    delete_for_runs = blocking(adelete_for_runs)
    copy_thread = blocking(acopy_thread)
    prune = blocking(aprune)
