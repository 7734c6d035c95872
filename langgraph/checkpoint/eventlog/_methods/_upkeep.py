"""What looks after the log, beside what LangGraph asks for: threads, partitions, retention."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from langchain_core.runnables import RunnableConfig

from eventlog.partitions import Partitions, read_partitions
from eventlog.threads import ThreadSummary
from langgraph.checkpoint.eventlog._methods._base import AsyncMethods, SyncMethods
from langgraph.checkpoint.eventlog.lifecycle.retain import Retained, retain
from langgraph.checkpoint.eventlog.lifecycle.threads import OnThread, list_threads, make_partitions

__all__ = ["AsyncUpkeep", "SyncUpkeep"]


class SyncUpkeep(SyncMethods):
    """Looking after the log."""

    def fork_thread(
        self,
        source_thread_id: str,
        target_thread_id: str,
        checkpoint_id: str | None = None,
        *,
        actor: str | None = None,
    ) -> RunnableConfig:
        """Copy only the path that leads to one checkpoint; returns the config that names it in the target.

        The path is the checkpoint and its ancestors, with their writes, and what subgraphs saved under them.

        Args:
            checkpoint_id: of the root graph; the latest by default.

        Raises:
            ThreadNotFoundError: when the source or the checkpoint is not there.
            ThreadExistsError: when the target has data, other than this very copy.
        """
        return self._driver.run_script(
            self._lifecycle.fork_thread(source_thread_id, target_thread_id, checkpoint_id, actor)
        )

    def expire(
        self,
        idle: timedelta,
        *,
        limit: int | None = None,
        dry_run: bool = False,
        actor: str | None = None,
        on_thread: OnThread | None = None,
    ) -> list[ThreadSummary]:
        """Erase threads to which nothing was appended for so long; returns them, in the order of their ids.

        One transaction for each thread, which looks again. Interrupted anywhere, run it again.

        Args:
            limit: at most so many threads.
            dry_run: change nothing, and return what would go.
            actor: on whose behalf, for the log.
            on_thread: told of each thread as it is done.
        """
        return self._driver.run_script(
            self._lifecycle.expire(idle, limit, dry_run=dry_run, actor=actor, on_thread=on_thread)
        )

    def retain(
        self,
        history: timedelta,
        *,
        drop_idle: bool = False,
        archive: str | Path | None = None,
        dry_run: bool = False,
        actor: str | None = None,
        on_thread: OnThread | None = None,
    ) -> Retained:
        """Drop the partitions of the log that ended longer ago, after carrying forward what is still needed.

        The latest state of every thread survives; its history begins at the cut. Interrupted anywhere, run it again.
        The user must own the log.

        Args:
            history: what is younger stays as it is.
            drop_idle: let threads go to which nothing was appended since the cut.
            archive: a folder that gets each partition as a Parquet file before it is dropped (extra ``archive``).
            dry_run: change nothing, and return what would go.
            actor: on whose behalf, for the log.
            on_thread: told of each thread as it is cut.

        Raises:
            LogBusyError: when a partition could not be locked for long; nothing is lost, run it again.
            MissingGrantError: when the user does not own the log.
        """
        return self._driver.run_script(
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

    def threads(
        self,
        thread_ids: Sequence[str] | None = None,
        *,
        limit: int = 100,
        before: datetime | ThreadSummary | None = None,
    ) -> list[ThreadSummary]:
        """Threads with their sizes, the last active first.

        Args:
            thread_ids: these, in this order, instead; those that never were are left out.
            limit: at most so many.
            before: only those that were last active before a time, or, for the next page, the last one of this.
        """
        return self._driver.run(lambda: list_threads(self._context, thread_ids, limit, before))

    def partitions(self, *, exact: bool = False) -> Partitions:
        """The partitions of the log, oldest first, and how long they last. Logs a warning when that is short.

        Args:
            exact: count the rows, which reads the whole log, instead of the server's estimate.
        """
        return self._driver.run(lambda: read_partitions(self._context.statements, exact=exact))

    def make_partitions(self, ahead: int | None = None) -> list[str]:
        """Make the current partition and those after it, where they are missing; returns the names of those made.

        Args:
            ahead: how many beyond the current one; the setting ``partitions_ahead`` by default.
        """
        return self._driver.run(lambda: make_partitions(self._context, ahead))


class AsyncUpkeep(AsyncMethods):
    """As `SyncUpkeep`."""

    async def fork_thread(
        self,
        source_thread_id: str,
        target_thread_id: str,
        checkpoint_id: str | None = None,
        *,
        actor: str | None = None,
    ) -> RunnableConfig:
        """As `EventLogSaver.fork_thread`."""
        return await self._run(
            self._driver.run_script(
                self._lifecycle.fork_thread(source_thread_id, target_thread_id, checkpoint_id, actor)
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
        """As `EventLogSaver.expire`."""
        return await self._run(
            self._driver.run_script(
                self._lifecycle.expire(idle, limit, dry_run=dry_run, actor=actor, on_thread=on_thread)
            )
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
        """As `EventLogSaver.retain`."""
        return await self._run(
            self._driver.run_script(
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
        )

    async def threads(
        self,
        thread_ids: Sequence[str] | None = None,
        *,
        limit: int = 100,
        before: datetime | ThreadSummary | None = None,
    ) -> list[ThreadSummary]:
        """As `EventLogSaver.threads`."""
        return await self._run(self._driver.run(lambda: list_threads(self._context, thread_ids, limit, before)))

    async def partitions(self, *, exact: bool = False) -> Partitions:
        """As `EventLogSaver.partitions`."""
        return await self._run(self._driver.run(lambda: read_partitions(self._context.statements, exact=exact)))

    async def make_partitions(self, ahead: int | None = None) -> list[str]:
        """As `EventLogSaver.make_partitions`."""
        return await self._run(self._driver.run(lambda: make_partitions(self._context, ahead)))
