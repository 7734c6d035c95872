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
    """What both savers have beside their connections."""

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
        """The channel version after `current`, in the format of `PostgresSaver`."""
        return next_version(current)


class EventLogSaver(Connected, SaverBase):
    """A checkpointer that appends every checkpoint and every write to an event log in PostgreSQL.

    Args:
        conn: a psycopg `Connection` or `ConnectionPool`, with any settings. With a pool, calls run in parallel.
        pipe: the pipeline that the connection is in, if it is in one.
        serde: the serializer; LangGraph's `JsonPlusSerializer` by default. With an `EncryptedSerializer`, events are
            encrypted as a whole, after differences were taken and compressed.
        settings: see `eventlog.settings.Settings`: ``schema``, ``views_schema``,
            ``state_cache_bytes``, ``max_body_bytes``, ``compression_level``, …

    Raises:
        InvalidInputError: for an async connection, a pool together with a pipeline, or a setting that is not one.

    Every method raises `InvalidInputError` for arguments that are not valid, `NotSetUpError` when `setup()` was never
    run, `ConnectionLostError` when the server is gone, and another `StorageError` when PostgreSQL refuses; a call that
    fails leaves nothing behind.
    """

    @property
    def log(self) -> EventLog:
        """The log that this saver writes: history, the feed, verification, retention and all else beside LangGraph.

        It shares the saver's connection, settings, caches and serializer.
        """
        return sharing(EventLog, self)

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that the config names, or the latest of its thread and namespace; None without one.

        Raises:
            LogCorruptedError: naming the event that does not decode.
        """
        return self._driver.run(lambda: self._writer.reader.get_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """Checkpoints, newest first, read in chunks as they are asked for.

        Args:
            config: thread, namespace and checkpoint to list; None lists all threads, no namespace all namespaces.
            filter: metadata that the checkpoints must contain (JSONB containment).
            before: a config whose checkpoint id is greater than those listed.
            limit: at most this many.
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
        """Append a checkpoint, as the child of the one that the config names; returns the config that names it.

        Putting an existing id again replaces the checkpoint for readers (both events stay in the log); an identical
        repeat appends nothing.

        Raises:
            SerializationError: naming the channel whose value the serializer refuses.
            EventTooLargeError: when the event is over ``max_body_bytes``.
            ThreadDeletedError: when the parent was deleted.
        """
        writer = self._writer
        return self._driver.run(
            partial(writer.put, config, checkpoint, metadata, new_versions), weight=partial(writer.weigh, checkpoint)
        )

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Append the writes of a task to the checkpoint that the config names, which need not be there yet.

        Raises:
            SerializationError, EventTooLargeError, ThreadDeletedError: as `put`.
        """
        writes = tuple(writes)  # An iterator would have nothing left for a second try.
        writer = self._writer
        return self._driver.run(
            partial(writer.put_writes, config, writes, task_id, task_path),
            again=partial(writer.put_writes, config, writes, task_id, task_path, again=True),
            weight=partial(writer.weigh, writes),
        )

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What `DeltaChannel`s replay: each channel's writes among the checkpoint's ancestors, and its seed."""
        return self._driver.run(lambda: self._writer.reader.delta_channel_history(config, channels))

    # --- LangGraph's erasing and copying; the log's have options

    def delete_thread(self, thread_id: str) -> None:
        """Erase a thread. As `EventLog.delete_thread`."""
        return self.log.delete_thread(thread_id)

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Erase the checkpoints that runs saved, with their writes. As `EventLog.delete_for_runs`."""
        return self.log.delete_for_runs(run_ids)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread. As `EventLog.copy_thread`."""
        return self.log.copy_thread(source_thread_id, target_thread_id)

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Erase the history of threads. As `EventLog.prune`."""
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
