"""The part of the log that keeps it bounded by rule: stored retention, maintenance, and dropping old partitions.

`EventLog` has these methods.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from eventlog.retention import Retention, read_retention, set_retention
from langgraph.checkpoint.eventlog._arguments import actor_of
from langgraph.checkpoint.eventlog._maintain import Maintained, OnRun, maintain
from langgraph.checkpoint.eventlog._setup import Connected
from langgraph.checkpoint.eventlog.lifecycle.retain import Retained, retain
from langgraph.checkpoint.eventlog.lifecycle.threads import OnThread

__all__ = ["LogRetention"]


class LogRetention(Connected):
    """The retention methods of `EventLog`."""

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
        """Drop old partitions, after relocating the events that are still needed.

        The latest state of every thread survives; its history begins at the cut. Each thread and each partition is one
        transaction. After an interruption, call it again: it continues.

        Args:
            history: Drop partitions that ended longer ago than this, from 0 to 2,000 years.
            drop_idle: Also erase the threads to which no saver appended since the cut.
            archive: A folder. Each partition is written there as a Parquet file before it is dropped (extra
                `archive`).
            dry_run: Change nothing, and return the partitions and the threads that would go.
            actor: The person or service behind the call. The records of the operation store it.
            on_thread: Called with an `Erased` after each thread.

        Returns:
            The dropped partitions, the number of threads that were cut, and the archive files.

        Raises:
            LogBusyError: PostgreSQL could not lock a partition in 30 attempts, half a second apart, because another
                transaction uses the log. Nothing is lost: call it again.
            LogCorruptedError: Threads could not be relocated, so no partition was dropped. The message names them.
            MissingGrantError: The database user lacks the set of rights `eraser`.
        """
        return self._driver.run_script(
            retain(self._context, self.serde, history, drop_idle, archive, dry_run, actor, on_thread)
        )

    def set_retention(self, retention: Retention | None, *, actor: str | None = None) -> None:
        """Store the log's retention, which `maintain` applies. Nothing is erased yet.

        A thread may have a retention of its own: the text `str(Retention(…))` as `retention` in the metadata of its
        root graph's checkpoints, from `config["metadata"]`. The newest one counts, and its checkpoint stays. It may
        only lengthen the log's, unless the log's has `allow_shorter`.

        Args:
            retention: The rules. None clears them: `maintain` then erases nothing.
            actor: The person or service behind the call, stored with the setting.

        Raises:
            MissingGrantError: The database user lacks the rights of the set `eraser`.
        """
        actor = actor_of(actor)
        return self._driver.run_atomic(lambda: set_retention(self._context.statements, retention, actor))

    def retention(self) -> Retention | None:
        """Return the log's stored retention.

        Returns:
            The rules, or None when `maintain` erases nothing.

        Raises:
            LogCorruptedError: A newer version of the package stored rules that this version does not know.
        """
        return self._driver.run(lambda: read_retention(self._context.statements))

    def maintain(
        self,
        *,
        every: timedelta | None = None,
        limit: int | None = None,
        seal_key: Any = None,
        receipt_key: Any = None,
        out: str | Path | None = None,
        dry_run: bool = False,
        actor: str | None = None,
        on_thread: OnThread | None = None,
        on_run: OnRun | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> Maintained:
        """Make partitions ahead, erase by the stored retention, and seal the log.

        Several workers may call it: one works, and the others stand by until their next run. A worker that vanished
        holds the others up for at most a minute. Each thread is one transaction, which checks again.

        A thread stays whole while something was appended to it within 15 minutes, and while an interrupt waits for an
        answer, for as long as `Retention.interrupted` says.

        Args:
            every: Run again after each such interval, 1 second to 366 days, until `stop` returns true. None runs once.
            limit: Erase or prune at most this many threads in a run; the next run continues. None sets no limit.
            seal_key: An Ed25519 private key: the path of a PEM file, its content, or a key object (extra `seal`). Each
                run ends by sealing the log with it.
            receipt_key: An Ed25519 private key, which signs a receipt of each erased or pruned thread. It needs `out`.
            out: An existing folder for signed seals and receipts. The file names contain no thread id.
            dry_run: Change nothing, and return the numbers that would be erased. It does not go with `every`.
            actor: The person or service behind the call. The records and the seal store it.
            on_thread: Called with an `Erased` after each thread that lost something.
            on_run: Called with a `Maintained` after each run.
            stop: A function such as `threading.Event().is_set`, asked before each thread and during pauses. True ends
                the call.

        Returns:
            The result of the last run. Threads that could not be erased are in `failed`, each with the reason.

        Raises:
            InvalidInputError: A key is invalid, the folder does not exist, or options contradict each other.
            MissingGrantError: The database user lacks the rights of the set `eraser`, or with `seal_key` those of the
                set `sealer`. It is raised before anything is erased.
            StorageError: A signed document could not be written to `out`. The erasure is committed, and the message
                contains the document.
        """
        return self._driver.run_script(
            maintain(
                self._context,
                self.serde,
                every,
                limit,
                seal_key,
                receipt_key,
                out,
                dry_run,
                actor,
                on_thread,
                on_run,
                stop,
            )
        )
