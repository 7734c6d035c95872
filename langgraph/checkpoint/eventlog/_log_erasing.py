"""The part of the log that erases: threads, runs, history, and the bytes of erased rows.

`EventLog` has these methods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from eventlog.threads import ThreadSummary
from langgraph.checkpoint.eventlog._setup import Connected
from langgraph.checkpoint.eventlog.lifecycle import threads
from langgraph.checkpoint.eventlog.lifecycle.prune_all import Pruned, prune_all
from langgraph.checkpoint.eventlog.lifecycle.purge import OnTable, Purged, purge
from langgraph.checkpoint.eventlog.lifecycle.threads import OnThread

__all__ = ["LogErasing"]


class LogErasing(Connected):
    """The erasing methods of `EventLog`. Each erases thread by thread, one transaction for each."""

    def delete_thread(self, thread_id: str, *, actor: str | None = None) -> None:
        """Erase a thread with all its namespaces: events, snapshots and projections.

        A tombstone without content stays in each namespace. A run that is still active cannot bring the thread back:
        its next call raises `ThreadDeletedError`. A new run can start afresh under the same id.

        Args:
            thread_id: The thread. A thread that does not exist is no error.
            actor: The person or service behind the call. The record of the erasure stores it.

        Raises:
            MissingGrantError: The database user lacks the rights of the set `eraser`.
        """
        return self._driver.run(lambda: threads.delete_one(self._context, thread_id, actor))

    def delete_for_runs(
        self,
        run_ids: Sequence[str],
        *,
        dry_run: bool = False,
        actor: str | None = None,
        on_thread: OnThread | None = None,
    ) -> None:
        """Erase the checkpoints that runs saved, with their writes, in every thread.

        The remaining checkpoints read as before. A checkpoint that loses its parent has no `parent_config` afterwards.
        Writes that a remaining checkpoint's `DeltaChannel` replays stay. Each thread is one transaction.

        Args:
            run_ids: The runs, by the `run_id` in the metadata of their checkpoints.
            dry_run: Change nothing. `on_thread` gets the numbers that would be erased.
            actor: The person or service behind the call. The record of the erasure stores it.
            on_thread: Called with an `Erased` after each thread.

        Raises:
            InvalidInputError: `run_ids` is a single string, or holds something other than ids.
            MissingGrantError: The database user lacks the rights of the set `eraser`.
        """
        return self._driver.run_script(
            threads.delete_for_runs(self._context, self.serde, run_ids, dry_run, actor, on_thread)
        )

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
        """Erase the history of threads, down to the latest checkpoints by default.

        The remaining checkpoints read as before. A checkpoint that loses its parent has no `parent_config` afterwards.
        Writes that a remaining checkpoint's `DeltaChannel` replays stay. The namespace of a subgraph's call goes
        together with the root graph's checkpoint that the call ran under. Each thread is one transaction.

        `keep_last` and `older_than` also keep the ends of branches, and the checkpoints at which an interrupt waits.
        Without either of them, the call keeps neither. A copied checkpoint is as old as the copy.

        Args:
            thread_ids: The threads. A thread that does not exist is no error.
            strategy: `"keep_latest"` keeps the latest checkpoint of each namespace. `"delete"` keeps nothing; it goes
                neither with `keep_last` nor with `older_than`. LangGraph's server says `"delete_all"` for `"delete"`.
            keep_last: Keep this many checkpoints of each namespace, at least 1.
            older_than: Erase checkpoints that were first saved longer ago than this, from 0 to 2,000 years. It does not
                go with `keep_last`.
            dry_run: Change nothing. `on_thread` gets the numbers that would be erased.
            actor: The person or service behind the call. The record of the erasure stores it.
            on_thread: Called with an `Erased` after each thread.

        Raises:
            InvalidInputError: The strategy is unknown, or the options contradict each other.
            MissingGrantError: The database user lacks the rights of the set `eraser`.
        """
        return self._driver.run_script(
            threads.prune(
                self._context, self.serde, thread_ids, strategy, keep_last, older_than, dry_run, actor, on_thread
            )
        )

    def prune_all(
        self,
        *,
        older_than: timedelta | None = None,
        keep_last: int | None = None,
        dry_run: bool = False,
        actor: str | None = None,
        on_thread: OnThread | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Pruned:
        """Erase the history of all threads by age or by number.

        The call reads the threads page by page and prunes each in one transaction, so memory is bounded. After an
        interruption, call it again: it continues. `prune_all` ignores the stored retention and the retention of single
        threads, and also prunes threads that wait for an answer; `maintain` spares those.

        Args:
            older_than: Erase checkpoints that were first saved longer ago than this. The ends of branches and pending
                interrupts stay.
            keep_last: Keep this many checkpoints of each namespace, at least 1, and the ends of branches and pending
                interrupts. Give `older_than` or `keep_last`.
            dry_run: Change nothing, and return the numbers that would be erased.
            actor: The person or service behind the call. The records of the erasure store it.
            on_thread: Called with an `Erased` after each thread that lost history, or would lose it.
            stop: A function such as `threading.Event().is_set`, asked before each thread. True ends the call.

        Returns:
            The numbers of threads, checkpoints, events and bytes. `failed` names the threads that could not be pruned,
                each with the reason; the other threads were pruned.

        Raises:
            InvalidInputError: Neither or both of `older_than` and `keep_last` were given.
            MissingGrantError: The database user lacks the rights of the set `eraser`.
        """
        return self._driver.run_script(
            prune_all(self._context, self.serde, keep_last, older_than, dry_run, actor, on_thread, stop)
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
        """Erase the threads to which no saver appended for a time.

        Reading a thread is no activity. Each thread is one transaction, which checks again that the thread is idle.
        After an interruption, call it again: it continues.

        Args:
            idle: Erase threads that have been idle for longer than this, from 0 to 2,000 years.
            limit: Erase at most this many threads, at least 1. None sets no limit.
            dry_run: Change nothing, and return the threads that would be erased.
            actor: The person or service behind the call. The records of the erasure store it.
            on_thread: Called with an `Erased` after each thread.

        Returns:
            The erased threads as they were, in the order of their ids.

        Raises:
            MissingGrantError: The database user lacks the rights of the set `eraser`.
        """
        return self._driver.run_script(threads.expire(self._context, idle, limit, dry_run, actor, on_thread))

    def purge(
        self, thread_ids: Sequence[str] | None = None, *, dry_run: bool = False, on_table: OnTable | None = None
    ) -> Purged:
        """Remove the bytes of erased rows from the database's files.

        The call runs `vacuum (full, analyze)` on each table. PostgreSQL locks a table while it rewrites it: appends
        and reads of that table wait. WAL, backups and standbys keep their copies. The call needs the owner of the
        tables, and a connection in autocommit mode, without a pipeline.

        Args:
            thread_ids: Rewrite the partitions that held events of these erased threads. None rewrites all partitions.
                Both rewrite the other tables of the log, and the tables that registered projections name.
            dry_run: Change nothing, and return the tables and their sizes.
            on_table: Called with a `PurgedTable` after each table.

        Returns:
            The rewritten tables, and everything that still holds erased rows.

        Raises:
            LogBusyError: PostgreSQL could not lock a table within the connection's `lock_timeout`, if one is set.
        """
        return self._driver.run(lambda: purge(self._context, thread_ids, dry_run, on_table))
