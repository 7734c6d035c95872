"""The async twin of `_log` and `_log_reader`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol, maybe_add_typed_methods
from psycopg import AsyncPipeline
from typing_extensions import Self

from eventlog.db.async_ import AsyncDriver
from eventlog.db.base import AsyncConn
from eventlog.embedded import embedded_server
from eventlog.events import Cursor, StoredEvent
from eventlog.feed import cursor_of, read_end
from eventlog.lag import Lag, read_lag
from eventlog.partitions import Partitions, read_partitions
from eventlog.read import CheckpointName
from eventlog.seals import Proof, Seal
from eventlog.statistics import Stats
from eventlog.subscriber import make_subscriber
from eventlog.threads import ThreadSummary
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._rebuild import WORKERS, rebuild
from langgraph.checkpoint.eventlog._setup import open_async, setup
from langgraph.checkpoint.eventlog._subscriber import take_over
from langgraph.checkpoint.eventlog.audit.diff import diff, state_at
from langgraph.checkpoint.eventlog.audit.history import Changes, History, read_pages_async
from langgraph.checkpoint.eventlog.audit.inspect import Inspected, find, inspect, namespaces, stats
from langgraph.checkpoint.eventlog.following import project as _projecting
from langgraph.checkpoint.eventlog.following.project import BATCH_EVENTS, OnBatch, decode, list_projections
from langgraph.checkpoint.eventlog.following.tail import Notifying, Tail, notify_async, read_tail_async, waking
from langgraph.checkpoint.eventlog.integrity import seal as _sealing
from langgraph.checkpoint.eventlog.integrity.verify import OnStream, Verified, verify
from langgraph.checkpoint.eventlog.lifecycle.retain import Retained, retain
from langgraph.checkpoint.eventlog.lifecycle.threads import Lifecycle, OnThread, list_threads, make_partitions
from projections.changes import Change
from projections.compare import OnDifference
from projections.custom import Projection, ProjectionState
from projections.diff import Difference
from projections.feed_events import Event
from projections.history import HistoryRecord
from projections.rebuild import OnProgress, Rebuilt
from projections.swap import drop_old

__all__ = ["AsyncEventLog"]


class AsyncEventLog:
    """The async twin of `langgraph.checkpoint.eventlog.EventLog`: the same methods under the same names.

    Each method that asks the database is awaitable, or an async iterator. Callbacks (`on_thread` and the like) are
    called in the event loop. Arguments as for `EventLog`, on a psycopg `AsyncConnection` or `AsyncConnectionPool`.
    """

    def __init__(
        self,
        conn: AsyncConn,
        pipe: AsyncPipeline | None = None,
        serde: SerializerProtocol | None = None,
        **settings: Any,
    ) -> None:
        self.serde = maybe_add_typed_methods(serde or BaseCheckpointSaver.serde)
        self._context = Context.create(settings)
        parsed = self._context.settings
        self._driver = AsyncDriver(conn, pipe, retry=parsed.retry, offload_bytes=parsed.offload_bytes)

    @classmethod
    def _sharing(cls, context: Context, driver: AsyncDriver, serde: SerializerProtocol) -> Self:
        """The log of a saver, with all that the saver has."""
        log = cls.__new__(cls)
        log._context, log._driver, log.serde = context, driver, serde
        return log

    @classmethod
    @asynccontextmanager
    async def from_conn_string(
        cls, conn_string: str, *, pipeline: bool = False, serde: SerializerProtocol | None = None, **settings: Any
    ) -> AsyncIterator[Self]:
        """A log with a connection pool of its own. Arguments as for `EventLogSaver.from_conn_string`."""
        context = Context.create(settings)
        async with open_async(conn_string, pipeline=pipeline, max_size=context.settings.pool_max_size) as pool:
            yield cls(pool, serde=serde, **settings)

    @classmethod
    @asynccontextmanager
    async def embedded(
        cls, path: str | Path, *, serde: SerializerProtocol | None = None, **settings: Any
    ) -> AsyncIterator[Self]:
        """A log on a private PostgreSQL server, set up and ready. Arguments as for `EventLogSaver.embedded`."""
        Context.create(settings)
        with ExitStack() as stack:
            # Starting a server takes a second that the event loop should not spend waiting.
            uri = await asyncio.to_thread(stack.enter_context, embedded_server(path))
            async with cls.from_conn_string(uri, serde=serde, **settings) as log:
                await log.setup()
                yield log

    async def setup(self) -> None:
        """Create what is missing in the database. As `EventLogSaver.setup`."""
        await self._driver.run_script(setup(self._context))

    async def threads(
        self,
        thread_ids: Sequence[str] | None = None,
        *,
        limit: int = 100,
        before: datetime | ThreadSummary | None = None,
    ) -> list[ThreadSummary]:
        """As `EventLog.threads`."""
        return await self._driver.run(lambda: list_threads(self._context, thread_ids, limit, before))

    async def namespaces(self, thread_id: str) -> dict[str, str | None]:
        """As `EventLog.namespaces`."""
        return await self._driver.run(lambda: namespaces(self._context, thread_id))

    def history(
        self,
        thread_id: str,
        *,
        checkpoint_ns: str | None = None,
        after: HistoryRecord | Change | str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        kinds: Sequence[str] | None = None,
    ) -> AsyncIterator[HistoryRecord]:
        """As `EventLog.history`: an async iterator."""
        arguments = thread_id, checkpoint_ns, after, limit, newest_first, kinds
        return read_pages_async(self._driver, History(self._context, self.serde, *arguments))

    def changes(
        self,
        thread_id: str,
        *,
        checkpoint_ns: str | None = None,
        after: HistoryRecord | Change | str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        kinds: Sequence[str] | None = None,
    ) -> AsyncIterator[Change]:
        """As `EventLog.changes`: an async iterator."""
        arguments = thread_id, checkpoint_ns, after, limit, newest_first, kinds
        return read_pages_async(self._driver, Changes(self._context, self.serde, *arguments))

    async def diff(self, thread_id: str, before: str, after: str, *, checkpoint_ns: str = "") -> Difference:
        """As `EventLog.diff`."""
        return await self._driver.run(diff(self._context, self.serde, thread_id, before, after, checkpoint_ns))

    async def state_at(self, thread_id: str, time: datetime, *, checkpoint_ns: str = "") -> CheckpointTuple | None:
        """As `EventLog.state_at`."""
        return await self._driver.run(state_at(self._context, self.serde, thread_id, time, checkpoint_ns))

    async def inspect(self, config: RunnableConfig) -> Inspected | None:
        """As `EventLog.inspect`."""
        return await self._driver.run(lambda: inspect(self._context, self.serde, config))

    async def find(
        self, checkpoint_id: str, *, thread_id: str | None = None, checkpoint_ns: str | None = None, limit: int = 10
    ) -> list[CheckpointName]:
        """As `EventLog.find`."""
        return await self._driver.run(lambda: find(self._context, checkpoint_id, thread_id, checkpoint_ns, limit))

    async def stats(self, *, exact: bool = False) -> Stats:
        """As `EventLog.stats`."""
        return await self._driver.run(lambda: stats(self._context, exact))

    async def partitions(self, *, exact: bool = False) -> Partitions:
        """As `EventLog.partitions`."""
        return await self._driver.run(lambda: read_partitions(self._context.statements, exact=exact))

    async def projections(self) -> list[ProjectionState]:
        """As `EventLog.projections`."""
        return await self._driver.run(lambda: list_projections(self._context))

    def tail(
        self,
        after: Cursor | str | None = None,
        *,
        follow: bool = False,
        poll_interval: float = 1.0,
        thread_ids: Sequence[str] | None = None,
        limit: int | None = None,
        wake: psycopg.AsyncConnection[Any] | None = None,
    ) -> AsyncGenerator[StoredEvent, None]:
        """As `EventLog.tail`: an async iterator."""
        tail = Tail(self._context.statements, after, follow, poll_interval, thread_ids, limit)
        return read_tail_async(self._driver, tail, waking(wake, psycopg.AsyncConnection))

    async def decode(self, event: StoredEvent) -> Event:
        """As `EventLog.decode`."""
        return await self._driver.run(lambda: decode(self._context, self.serde, event))

    async def tail_position(self) -> Cursor:
        """As `EventLog.tail_position`."""
        return await self._driver.run(lambda: read_end(self._context.statements))

    async def lag(self, after: Cursor | str | None = None) -> Lag:
        """As `EventLog.lag`."""
        return await self._driver.run(lambda: read_lag(self._context.statements, cursor_of(after)))

    def notify_appends(self, *, interval: float = 0.2) -> AsyncGenerator[Cursor, None]:
        """As `EventLog.notify_appends`: an async iterator."""
        return notify_async(self._driver, Notifying(self._context, interval))

    async def verify(
        self,
        thread_ids: Sequence[str] | None = None,
        *,
        after: tuple[str, str] | None = None,
        workers: int = WORKERS,
        seal: str | None = None,
        on_stream: OnStream | None = None,
    ) -> Verified:
        """As `EventLog.verify`."""
        return await self._driver.run_script(
            verify(self._context, thread_ids, after=after, workers=workers, seal=seal, on_stream=on_stream)
        )

    async def seals(self, *, limit: int = 100, before: int | None = None) -> list[Seal]:
        """As `EventLog.seals`."""
        return await self._driver.run(_sealing.list_seals(self._context, limit, before))

    async def prove(self, thread_id: str, checkpoint_ns: str = "", *, seal: int | None = None) -> Proof:
        """As `EventLog.prove`."""
        return (await self._driver.run(_sealing.prove(self._context, thread_id, checkpoint_ns, seal)))[0]

    async def make_partitions(self, ahead: int | None = None) -> list[str]:
        """As `EventLog.make_partitions`."""
        return await self._driver.run(lambda: make_partitions(self._context, ahead))

    @property
    def _lifecycle(self) -> Lifecycle:
        return Lifecycle(self._context, self.serde)

    async def delete_thread(self, thread_id: str, *, actor: str | None = None) -> None:
        """As `EventLog.delete_thread`."""
        await self._driver.run(lambda: self._lifecycle.delete_thread(thread_id, actor))

    async def delete_for_runs(
        self,
        run_ids: Sequence[str],
        *,
        dry_run: bool = False,
        actor: str | None = None,
        on_thread: OnThread | None = None,
    ) -> None:
        """As `EventLog.delete_for_runs`."""
        await self._driver.run_script(
            self._lifecycle.delete_for_runs(run_ids, dry_run=dry_run, actor=actor, on_thread=on_thread)
        )

    async def prune(
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
        """As `EventLog.prune`."""
        await self._driver.run_script(
            self._lifecycle.prune(
                thread_ids, strategy, keep_last, older_than, dry_run=dry_run, actor=actor, on_thread=on_thread
            )
        )

    async def expire(
        self,
        idle: timedelta,
        *,
        limit: int | None = None,
        dry_run: bool = False,
        actor: str | None = None,
        on_thread: OnThread | None = None,
    ) -> list[ThreadSummary]:
        """As `EventLog.expire`."""
        return await self._driver.run_script(
            self._lifecycle.expire(idle, limit, dry_run=dry_run, actor=actor, on_thread=on_thread)
        )

    async def retain(
        self,
        history: timedelta,
        *,
        drop_idle: bool = False,
        archive: str | Path | None = None,
        dry_run: bool = False,
        actor: str | None = None,
        on_thread: OnThread | None = None,
    ) -> Retained:
        """As `EventLog.retain`."""
        return await self._driver.run_script(
            retain(
                self._context,
                self.serde,
                history,
                drop_idle=drop_idle,
                archive=archive,
                dry_run=dry_run,
                actor=actor,
                on_thread=on_thread,
            )
        )

    async def copy_thread(self, source_thread_id: str, target_thread_id: str, *, actor: str | None = None) -> None:
        """As `EventLog.copy_thread`."""
        await self._driver.run_script(self._lifecycle.copy_thread(source_thread_id, target_thread_id, actor))

    async def fork_thread(
        self,
        source_thread_id: str,
        target_thread_id: str,
        checkpoint_id: str | None = None,
        *,
        actor: str | None = None,
    ) -> RunnableConfig:
        """As `EventLog.fork_thread`."""
        return await self._driver.run_script(
            self._lifecycle.fork_thread(source_thread_id, target_thread_id, checkpoint_id, actor)
        )

    async def seal(self, *, actor: str | None = None) -> Seal:
        """As `EventLog.seal`."""
        return await self._driver.run_script(_sealing.seal(self._context, actor))

    async def project(
        self,
        projections: Projection | Iterable[Projection],
        *,
        follow: bool = False,
        batch_events: int = BATCH_EVENTS,
        poll_interval: float = 1.0,
        on_batch: OnBatch | None = None,
    ) -> dict[str, int]:
        """As `EventLog.project`; the projections' `setup` and `apply` are ``async def``."""
        return await self._driver.run_script(
            _projecting.project(
                self._context,
                self.serde,
                projections,
                is_async=True,
                follow=follow,
                batch_events=batch_events,
                poll_interval=poll_interval,
                on_batch=on_batch,
            )
        )

    async def rebuild_projection(self, projection: Projection) -> None:
        """As `EventLog.rebuild_projection`."""
        await self._driver.run_script(_projecting.rebuild(self._context, self.serde, projection, is_async=True))

    async def forget_projection(self, name: str) -> None:
        """As `EventLog.forget_projection`."""
        await self._driver.run_script(_projecting.forget(self._context, self.serde, name))

    async def rebuild(
        self,
        *,
        check: bool = False,
        workers: int = WORKERS,
        restart: bool = False,
        on_progress: OnProgress | None = None,
        on_difference: OnDifference | None = None,
    ) -> Rebuilt:
        """As `EventLog.rebuild`."""
        return await self._driver.run_script(
            rebuild(
                self._context,
                self.serde,
                check=check,
                workers=workers,
                restart=restart,
                on_progress=on_progress,
                on_difference=on_difference,
            )
        )

    async def drop_old(self) -> list[str]:
        """As `EventLog.drop_old`."""
        return await self._driver.run_atomic(lambda: drop_old(self._context.statements))

    async def make_subscriber(self) -> None:
        """As `EventLog.make_subscriber`."""
        await self._driver.run_atomic(lambda: make_subscriber(self._context.statements))

    async def take_over(self, *, workers: int = WORKERS, on_progress: OnProgress | None = None) -> Rebuilt:
        """As `EventLog.take_over`."""
        return await self._driver.run_script(
            take_over(self._context, self.serde, workers=workers, on_progress=on_progress)
        )
