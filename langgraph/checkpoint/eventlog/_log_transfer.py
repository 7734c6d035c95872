"""The part of the log that moves threads: copies within the log, imports, exports, and the takeover of a subscriber.

`EventLog` has these methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from eventlog.db.async_ import AsyncDriver
from eventlog.db.query import Script
from eventlog.db.sync import Driver
from eventlog.subscriber import make_subscriber
from langgraph.checkpoint.eventlog import _rebuild
from langgraph.checkpoint.eventlog._arguments import count_of, ids_of
from langgraph.checkpoint.eventlog._setup import Connected
from langgraph.checkpoint.eventlog.lifecycle import threads
from langgraph.checkpoint.eventlog.transfer.estimate import SAMPLE_THREADS, ImportEstimate, estimate_import
from langgraph.checkpoint.eventlog.transfer.export import Exported, OnExported, export_threads
from langgraph.checkpoint.eventlog.transfer.incumbent import run_on_tables
from langgraph.checkpoint.eventlog.transfer.run import WORKERS, Imported, OnImport, import_from
from projections.rebuild import OnProgress, Rebuilt

__all__ = ["LogTransfer"]


class LogTransfer(Connected):
    """The methods of `EventLog` that copy, import and export threads, and take over from another log."""

    def copy_thread(self, source_thread_id: str, target_thread_id: str, *, actor: str | None = None) -> None:
        """Copy a thread with all namespaces, checkpoints and writes.

        The copy does not depend on the source. The call decodes nothing and needs no key. Repeating the same copy does
        nothing while neither thread got new events.

        Args:
            source_thread_id: The thread to copy.
            target_thread_id: The new thread. A deleted thread's id can be used again.
            actor: The person or service behind the call. The record of the copy stores it.

        Raises:
            InvalidInputError: Source and target are the same thread.
            ThreadNotFoundError: The source has no data.
            ThreadExistsError: The target has data other than this copy.
        """
        return self._driver.run_script(threads.copy_thread(self._context, source_thread_id, target_thread_id, actor))

    def fork_thread(
        self,
        source_thread_id: str,
        target_thread_id: str,
        checkpoint_id: str | None = None,
        *,
        actor: str | None = None,
    ) -> RunnableConfig:
        """Copy only the path that leads to one checkpoint of a thread.

        The path is the checkpoint and its ancestors, with their writes, and everything that subgraphs saved under
        them. A checkpoint that was put again under another parent has that parent as its ancestor.

        Args:
            source_thread_id: The thread to copy from.
            target_thread_id: The new thread. A deleted thread's id can be used again.
            checkpoint_id: A checkpoint of the root graph; None for the latest.
            actor: The person or service behind the call. The record of the copy stores it.

        Returns:
            The config of the checkpoint in the target.

        Raises:
            InvalidInputError: Source and target are the same thread.
            ThreadNotFoundError: The source or the checkpoint does not exist.
            ThreadExistsError: The target has data other than this copy.
        """
        return self._driver.run_script(
            threads.fork_thread(self._context, source_thread_id, target_thread_id, checkpoint_id, actor)
        )

    def import_from(
        self,
        source: str | BaseCheckpointSaver[Any],
        *,
        schema: str | None = None,
        thread_ids: Sequence[str] | None = None,
        idle: timedelta | None = None,
        resume: bool = False,
        part: tuple[int, int] | None = None,
        workers: int = WORKERS,
        actor: str | None = None,
        on_thread: OnImport | None = None,
    ) -> Imported:
        """Import the threads of another checkpointer into the log.

        Checkpoint ids, parents, metadata, versions, values, writes, their order and the times in checkpoints stay the
        same. Each thread is one transaction, read back and compared with the source before it commits. A thread that
        the log already has is compared; a thread that was deleted from the log is left out. The source is only read.
        After an interruption, the same call continues.

        Args:
            source: A connection string of the database with the tables of `langgraph-checkpoint-postgres`, or any
                checkpointer. An async log calls the async methods of a checkpointer.
            schema: The schema of the tables, with a connection string. None takes the first schema on the search path
                that has them.
            thread_ids: Import only these threads.
            idle: Import only threads without a checkpoint for this time.
            resume: Trust the records of earlier imports, and do not compare threads again that have not changed in the
                source since.
            part: `(1, 2)` imports the first of two parts of the threads, so that two processes share the work.
            workers: Import this many threads at the same time, 4 by default, at most as many as the pool has
                connections. Each worker has its own connection to the source.
            actor: The person or service behind the call. The records of the import store it.
            on_thread: Called with an `ImportedThread` and an `ImportProgress` after each thread.

        Returns:
            The numbers of threads by outcome, and the threads that were not imported, with the reason.

        Raises:
            InvalidInputError: The source is neither a connection string nor a checkpointer, or an option is invalid.
            SourceError: The source cannot be read, or its tables are of another kind or a newer version.
            MissingGrantError: The database user lacks the rights of the set `importer`.
        """
        return self._driver.run_script(
            import_from(
                self._context,
                self.serde,
                self._is_async,
                source,
                schema,
                thread_ids,
                idle,
                resume,
                part,
                workers,
                actor,
                on_thread,
            )
        )

    def estimate_import(
        self,
        source: str | BaseCheckpointSaver[Any],
        *,
        schema: str | None = None,
        thread_ids: Sequence[str] | None = None,
        idle: timedelta | None = None,
        part: tuple[int, int] | None = None,
        sample: int = SAMPLE_THREADS,
    ) -> ImportEstimate:
        """Estimate how many bytes an import would store, from a sample of its threads.

        The call reads and encodes the sample, and writes nothing. A sample ends early after 256 MiB of values.

        Args:
            source: A connection string, or a checkpointer, as of `import_from`.
            schema: The schema of the tables, with a connection string.
            thread_ids: Only these threads.
            idle: Only threads without a checkpoint for this time.
            part: `(1, 2)` for the first of two parts of the threads.
            sample: Read this many threads, chosen at random, 50 by default.

        Returns:
            The estimated bytes in the source and in the log.

        Raises:
            SourceError: The source cannot be read, or its tables are of another kind or a newer version.
        """
        return self._driver.run_script(
            estimate_import(self._context, self.serde, self._is_async, source, schema, thread_ids, idle, part, sample)
        )

    def export_to(
        self,
        target: str | Any,
        *,
        schema: str | None = None,
        thread_ids: Sequence[str] | None = None,
        workers: int = WORKERS,
        on_thread: OnExported | None = None,
    ) -> Exported:
        """Write threads to the tables of `PostgresSaver`, which can then continue with them.

        Each thread is one transaction in the target and one moment of the log. It is read back and compared before the
        transaction commits. Existing rows stay: a thread that was exported before is skipped, a thread with new
        checkpoints is completed, and a different thread under the same id is refused. Where the tables have a fence,
        `PostgresSaver` may write to the thread again from then on. After an interruption, the same call continues.

        Values keep the bytes of the log's serializer; with a key, they are encrypted. NUL characters in metadata are
        left out, as by `PostgresSaver`. The log is only read.

        Args:
            target: A connection string of the database with the tables that `PostgresSaver.setup()` made, or a psycopg
                `Connection` or `ConnectionPool` to it; for `AsyncEventLog` an async one.
            schema: The schema of the tables. None takes the first schema on the search path that has them.
            thread_ids: Export only these threads. None exports all.
            workers: Export this many threads at the same time, 4 by default, at most as many as the pools have
                connections.
            on_thread: Called with an `ExportedThread` after each thread, also a refused one.

        Returns:
            The numbers of threads, checkpoints and bytes, and the refused threads.

        Raises:
            NotSetUpError: The tables do not exist, or are of a version before 9.
            ThreadNotFoundError: One of `thread_ids` has no data. Nothing was written.
        """
        ids = None if thread_ids is None else ids_of(thread_ids, "thread_ids")
        most = count_of(workers, "workers")
        # Not the log's own class: a target is not a part of what the log measures.
        driver, kind = self._driver, AsyncDriver if self._is_async else Driver

        def script() -> Script[Exported]:
            return export_threads(
                self._context,
                self.serde,
                driver.run_atomic,
                lambda conn: kind(conn).run_atomic,
                schema,
                ids,
                most,
                on_thread,
            )

        return run_on_tables(target, schema, most, script, is_async=self._is_async)  # type: ignore[no-any-return]

    def make_subscriber(self) -> None:
        """Prepare an empty log to receive another log's events by logical replication.

        The log then refuses all other events: appends raise `StorageError`, and the feed raises `NotSetUpError`. Call
        it after `setup()`, and before you create the subscription.

        Raises:
            InvalidInputError: The log is distributed over a Citus cluster.
            MissingGrantError: The database user does not own the log.
            StorageError: The log is not empty.
        """
        return self._driver.run_atomic(lambda: make_subscriber(self._context.statements))

    def take_over(self, *, workers: int = _rebuild.WORKERS, on_progress: OnProgress | None = None) -> Rebuilt:
        """Replace the log that this log subscribes to: rebuild the derived tables, then accept appends.

        Drop the subscription first. Replicated events stay as they are, new positions continue after theirs, and the
        feed begins a new generation. After an interruption, call it again; until it returns, the log refuses appends.

        Args:
            workers: Rebuild this many streams at the same time, 4 by default, at most as many as the pool has
                connections.
            on_progress: Called with a `RebuildProgress` now and then.

        Returns:
            The numbers of rows, as of `rebuild`.

        Raises:
            InvalidInputError: The log is not a subscriber.
            EventsLostError: A stream's row counts more events than the log has.
            LogCorruptedError: An event does not decode. The message names it.
            MissingGrantError: The database user does not own the log.
            StorageError: The subscription still exists, or a table was not replicated.
        """
        return self._driver.run_script(_rebuild.take_over(self._context, self.serde, workers, on_progress))
