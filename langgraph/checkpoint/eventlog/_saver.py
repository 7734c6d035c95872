"""The synchronous saver."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)

from langgraph.checkpoint.eventlog._arguments import next_version
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._get import list_checkpoints
from langgraph.checkpoint.eventlog._log import EventLog
from langgraph.checkpoint.eventlog._put import Writer
from langgraph.checkpoint.eventlog._setup import Connected, sharing

__all__ = ["EventLogSaver", "SaverBase"]


def _async_only(name: str) -> Any:
    """A method that says where the asynchronous one is."""
    message = (
        f"EventLogSaver is synchronous and has no {name}(). Use AsyncEventLogSaver in async programs:\n"
        "from langgraph.checkpoint.eventlog.aio import AsyncEventLogSaver\n"
        "async with AsyncEventLogSaver.from_conn_string(…) as checkpointer: …"
    )

    async def refuse(self: EventLogSaver, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(message)

    async def refuse_to_list(self: EventLogSaver, *args: Any, **kwargs: Any) -> AsyncIterator[NoReturn]:
        raise NotImplementedError(message)
        yield  # makes it an async generator, as `alist` is

    return refuse_to_list if name == "alist" else refuse


class SaverBase(BaseCheckpointSaver[str]):
    """The base of both savers, without connections."""

    _context: Context
    _made: Writer | None = None

    @property
    def _writer(self) -> Writer:
        # `serde` is a public attribute, and copies (`with_allowlist` makes them) have another one.
        made = self._made
        if made is None or made.serde is not self.serde:
            made = self._made = Writer(self._context, self.serde)
        return made

    def get_next_version(self, current: str | None, channel: None = None) -> str:
        """Return the channel version after another one, in the format of `PostgresSaver`.

        Args:
            current: The channel's present version; None before the first.
            channel: Not used. LangGraph passes it.

        Returns:
            A counter of 32 digits, a dot, and a random part, which tells concurrent runs apart.
        """
        return next_version(current)


class EventLogSaver(Connected, SaverBase):
    """Save every checkpoint and every write of a graph as an event in PostgreSQL.

    Every method raises `InvalidInputError` for invalid arguments, `NotSetUpError` when `setup()` was never run,
    `ConnectionLostError` when the server is gone, and another `StorageError` when PostgreSQL refuses. A call that
    raises leaves nothing behind.

    Args:
        conn: A psycopg `Connection` or `ConnectionPool`, with any settings. With a pool, calls run in parallel. The
            saver does not close it.
        pipe: The `Pipeline` of the connection, if it is in pipeline mode. It does not go with a pool.
        serde: The serializer; LangGraph's `JsonPlusSerializer` by default. With an `EncryptedSerializer`, events are
            encrypted as a whole, after they were stored as differences and compressed.
        settings: Fields of `Settings`, such as `schema`, `max_body_bytes` or `concurrency`.

    Raises:
        InvalidInputError: The connection is async, a pool was given with a pipeline, or a setting is invalid.
    """

    @property
    def log(self) -> EventLog:
        """The `EventLog` that this saver writes. It shares the saver's connection, settings, caches and serializer."""
        return sharing(EventLog, self)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return a checkpoint with its config, metadata, parent and pending writes.

        Args:
            config: The config of a checkpoint, or of a thread for its latest checkpoint: the greatest checkpoint id.
                Without `checkpoint_ns`, the call reads the root graph.

        Returns:
            The checkpoint, or None when there is none.

        Raises:
            LogCorruptedError: An event does not decode. The message names it.
        """
        return self._driver.run(lambda: self._writer.reader.get_tuple(config), about=config)

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Iterate over checkpoints, newest first.

        Args:
            config: The thread, and optionally the namespace and the checkpoint. None lists all threads. Without
                `checkpoint_ns`, all namespaces are listed; with `""`, only the root graph.
            filter: Metadata that a checkpoint must contain (JSONB containment, so nested dicts may match in part).
            before: The config of a checkpoint. Only checkpoints with a smaller id are listed.
            limit: Return at most this many checkpoints. 0 returns none, None sets no limit.

        Returns:
            An iterator, which reads in chunks on demand.

        Raises:
            LogCorruptedError: An event does not decode. The message names it.
        """
        steps = list_checkpoints(self._context, self.serde, config, filter, before, limit)
        return self._driver.stream(steps)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Append a checkpoint to the log.

        A second put of the same id replaces the checkpoint for readers; both events stay in the log. An identical
        repeat appends nothing.

        Args:
            config: The config of the parent checkpoint, or of a thread for a checkpoint without a parent.
            checkpoint: The checkpoint.
            metadata: Its metadata, which `list(filter=…)` searches.
            new_versions: The versions of the channels that changed. A channel without a new version keeps its value,
                even when `channel_values` leaves it out.

        Returns:
            The config of the new checkpoint.

        Raises:
            SerializationError: The serializer refuses a value. The message names the channel.
            EventTooLargeError: The event is larger than `max_body_bytes`.
            ThreadDeletedError: The parent was deleted.
            ConcurrentUpdateError: Another run saved a child of the same parent, and `concurrency` is `"strict"`.
        """
        writer = self._writer
        return self._driver.run(
            partial(writer.put, config, checkpoint, metadata, new_versions),
            weight=partial(writer.weigh, checkpoint),
            about=config,
        )

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Append the writes of a task to a checkpoint.

        The checkpoint need not exist yet. When a task repeats a write, readers get the first one; of errors, interrupts
        and resumes they get the last.

        Args:
            config: The config of the checkpoint.
            writes: Pairs of a channel and a value.
            task_id: The task.
            task_path: The task's path, by which LangGraph orders writes.

        Raises:
            SerializationError: The serializer refuses a value. The message names the channel.
            EventTooLargeError: The event is larger than `max_body_bytes`.
            ThreadDeletedError: The checkpoint was deleted.
        """
        writes = tuple(writes)  # An iterator would have nothing left for a second try.
        writer = self._writer
        return self._driver.run(
            partial(writer.put_writes, config, writes, task_id, task_path),
            again=partial(writer.put_writes, config, writes, task_id, task_path, again=True),
            weight=partial(writer.weigh, writes),
            about=config,
        )

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return the writes that LangGraph replays for each `DeltaChannel`.

        Args:
            config: The config of a checkpoint.
            channels: The names of the channels.

        Returns:
            For each channel its writes among the checkpoint's ancestors, oldest first, and its seed.

        Raises:
            LogCorruptedError: An event does not decode. The message names it.
        """
        return self._driver.run(lambda: self._writer.reader.delta_channel_history(config, channels), about=config)

    # --- LangGraph's erasing and copying; the log's have options

    def delete_thread(self, thread_id: str) -> None:
        """Erase a thread with all its namespaces.

        `EventLog.delete_thread` also takes an `actor`.

        Args:
            thread_id: The thread. A thread that does not exist is no error.

        Raises:
            MissingGrantError: The database user lacks the rights of the set `eraser`.
        """
        return self.log.delete_thread(thread_id)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Erase the checkpoints that runs saved, with their writes, in every thread.

        `EventLog.delete_for_runs` has more options.

        Args:
            run_ids: The runs, by the `run_id` in the metadata of their checkpoints.

        Raises:
            MissingGrantError: The database user lacks the rights of the set `eraser`.
        """
        return self.log.delete_for_runs(run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread with all namespaces, checkpoints and writes.

        `EventLog.copy_thread` also takes an `actor`.

        Args:
            source_thread_id: The thread to copy.
            target_thread_id: The new thread.

        Raises:
            ThreadNotFoundError: The source has no data.
            ThreadExistsError: The target has data other than this copy.
        """
        return self.log.copy_thread(source_thread_id, target_thread_id)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Erase the history of threads, down to the latest checkpoints.

        `EventLog.prune` has more options.

        Args:
            thread_ids: The threads. A thread that does not exist is no error.
            strategy: `"keep_latest"` keeps the latest checkpoint of each namespace, `"delete"` keeps nothing.

        Raises:
            InvalidInputError: The strategy is unknown.
            MissingGrantError: The database user lacks the rights of the set `eraser`.
        """
        return self.log.prune(thread_ids, strategy=strategy)

    # --- what LangGraph calls in async programs, where this saver is the wrong one

    aget_tuple = _async_only("aget_tuple")
    alist = _async_only("alist")
    aput = _async_only("aput")
    aput_writes = _async_only("aput_writes")
    adelete_thread = _async_only("adelete_thread")
    adelete_for_runs = _async_only("adelete_for_runs")
    acopy_thread = _async_only("acopy_thread")
    aprune = _async_only("aprune")
    aget_delta_channel_history = _async_only("aget_delta_channel_history")
