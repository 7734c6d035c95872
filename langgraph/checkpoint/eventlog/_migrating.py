"""The synchronous saver that takes threads over from another saver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
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
from psycopg_pool import AsyncConnectionPool

from eventlog.errors import InvalidInputError
from langgraph.checkpoint.eventlog._log import EventLog
from langgraph.checkpoint.eventlog._migrating_steps import END, Emit, MigratingBase, Steps, is_postgres_saver
from langgraph.checkpoint.eventlog._saver import EventLogSaver
from langgraph.checkpoint.eventlog._setup import sharing
from langgraph.checkpoint.eventlog.transfer.incumbent import Incumbent
from langgraph.checkpoint.eventlog.transfer.mover import Mover
from langgraph.checkpoint.eventlog.transfer.postgres_tables import PostgresTables

__all__ = ["MigratingSaver"]

T = TypeVar("T")


class MigratingSaver(MigratingBase[EventLogSaver]):
    """Write to an event log, and move each thread there from another saver on its first use.

    A thread that the log never had is imported from the old saver in one transaction, which verifies it. From then on
    the thread continues in the log. Deleted threads are not imported again. When several replicas need a thread at the
    same time, it is imported once.

    With `PostgresSaver` as the old saver and a fence in its tables (`eventlog fence install`), replicas with the old
    saver can run at the same time: they continue with threads that have not moved, and get an error for the others.
    Without a fence, no other process may write to the old saver.

    Beside the errors of `EventLogSaver`, every method raises `ThreadNotImportedError` when a thread cannot be imported,
    `SourceError` when the old saver cannot be read, and `LogBusyError` when another process keeps a thread busy for a
    minute.

    Args:
        old: The saver to move threads from: a `PostgresSaver`, or any other saver. It needs its own connection.
        new: The saver of the log.
        schema: The schema of PostgresSaver's tables. None takes the first schema on the search path that has them.

    Raises:
        InvalidInputError: A saver is async.
    """

    _prefix = ""

    def __init__(self, old: BaseCheckpointSaver[Any], new: EventLogSaver, *, schema: str | None = None) -> None:
        if not isinstance(new, EventLogSaver):
            raise InvalidInputError(
                f"new must be an EventLogSaver, not {type(new).__name__}; AsyncMigratingSaver takes async savers"
            )
        conn: Any = getattr(old, "conn", None)
        if isinstance(conn, (AsyncConnection, AsyncConnectionPool)):
            raise InvalidInputError(f"old is an async saver, {type(old).__name__}: use AsyncMigratingSaver")
        tables = Incumbent(conn, getattr(old, "pipe", None), schema=schema) if is_postgres_saver(old) else None
        super().__init__(old, new, tables, sharing(Mover, new), schema)

    @property
    def log(self) -> EventLog:
        """The new saver's log."""
        return self.new.log

    def setup(self, **given: Any) -> None:
        """Create or upgrade the schema of the log.

        Args:
            given: The arguments of `EventLogSaver.setup`, which does the work and raises its errors.
        """
        return self.new.setup(**given)

    def _copying(self, thread_id: str, *, is_in_log: bool = False) -> Callable[[Any], Any]:
        def copying(conn: Any) -> None:
            self._mover.import_one(PostgresTables(conn, self._schema), thread_id, is_in_log=is_in_log)

        return copying

    def _copying_nothing(self) -> Callable[[Any], Any]:
        return lambda _: None

    def _alone(self, call: Callable[[], T]) -> T:
        old: Any = self.old
        with old.lock if isinstance(old.conn, Connection) else nullcontext():
            return call()

    def _listed(self, config: RunnableConfig | None, **criteria: Any) -> Any:
        return [*self.old.list(config, **criteria)]

    def _run(self, steps: Steps[T]) -> T:
        try:
            step: Any = next(steps)
            while True:
                try:
                    result = step()
                except Exception as exc:
                    step = steps.throw(exc)
                else:
                    step = steps.send(result)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint from the log, after moving its thread there if necessary.

        Args:
            config: The config of a checkpoint, or of a thread for its latest checkpoint.

        Returns:
            The checkpoint, or None when neither saver has it.
        """
        return self._run(self._get_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Iterate over the checkpoints of both savers, newest first.

        A thread in the config moves to the log first. With None, threads that have not moved are read from the old
        saver.

        Args:
            config: The thread, and optionally the namespace and the checkpoint. None lists all threads.
            filter: Metadata that a checkpoint must contain.
            before: The config of a checkpoint. Only checkpoints with a smaller id are listed.
            limit: Return at most this many checkpoints. None sets no limit.

        Returns:
            An iterator.
        """
        found: Any = self.new.list(config, filter=filter, before=before, limit=limit)
        steps = self._list(partial(next, found, END), config, filter, before, limit)
        try:
            step: Any = next(steps)
            while True:
                if isinstance(step, Emit):
                    yield step.item
                    step = next(steps)
                else:
                    step = steps.send(step())
        except StopIteration:
            return
        finally:
            steps.close()
            found.close()

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Append a checkpoint to the log, after moving its thread there if necessary.

        Args:
            config: The config of the parent checkpoint, or of a thread for a checkpoint without a parent.
            checkpoint: The checkpoint.
            metadata: Its metadata.
            new_versions: The versions of the channels that changed.

        Returns:
            The config of the new checkpoint.
        """
        return self._run(self._write("put", config, checkpoint, metadata, new_versions))  # type: ignore[no-any-return]

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Append the writes of a task to the log, after moving its thread there if necessary.

        Args:
            config: The config of the checkpoint.
            writes: Pairs of a channel and a value.
            task_id: The task.
            task_path: The task's path, by which LangGraph orders writes.
        """
        self._run(self._write("put_writes", config, tuple(writes), task_id, task_path))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return the writes that LangGraph replays for each `DeltaChannel`, from the log.

        Args:
            config: The config of a checkpoint.
            channels: The names of the channels.

        Returns:
            For each channel its writes among the checkpoint's ancestors, oldest first, and its seed.
        """
        return self._run(self._delta_history(config, channels))

    def delete_thread(self, thread_id: str) -> None:
        """Erase a thread from both savers.

        If the call fails, repeat it.

        Args:
            thread_id: The thread.
        """
        self._run(self._delete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Erase the checkpoints that runs saved, in every thread of both savers.

        Threads of the old saver with such checkpoints move to the log first, and leave the old saver as a whole.

        Args:
            run_ids: The runs, by the `run_id` in the metadata of their checkpoints.
        """
        self._run(self._delete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread into the log.

        Replicas that use the old saver can use neither of the two ids afterwards.

        Args:
            source_thread_id: The thread to copy.
            target_thread_id: The new thread.
        """
        self._run(self._copy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Erase the history of threads, down to the latest checkpoints.

        With `"keep_latest"` the threads move to the log first, which keeps their latest checkpoints. Both strategies
        delete the whole threads from the old saver.

        Args:
            thread_ids: The threads.
            strategy: `"keep_latest"` keeps the latest checkpoint of each namespace, `"delete"` keeps nothing.
        """
        self._run(self._prune(thread_ids, strategy))
