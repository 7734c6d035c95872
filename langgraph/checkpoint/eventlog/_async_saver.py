"""The asynchronous saver: the twin of `_saver`, and its sync methods for other threads."""

from __future__ import annotations

import asyncio

from langgraph.checkpoint.eventlog._async_log import AsyncEventLog
from langgraph.checkpoint.eventlog._other_threads import OtherThreads, blocking
from langgraph.checkpoint.eventlog._saver import EventLogSaver, SaverBase
from langgraph.checkpoint.eventlog._setup import AsyncConnected, awaitable, iterating, sharing

__all__ = ["AsyncEventLogSaver"]


class AsyncEventLogSaver(AsyncConnected, OtherThreads, SaverBase):
    """Save every checkpoint and every write of an async graph as an event in PostgreSQL.

    It writes the same log as `EventLogSaver`, with the same settings and errors. States larger than `offload_bytes` are
    encoded and decoded in a worker thread, so that the event loop stays free. The sync methods work too, from any
    thread except the event loop's own.

    Args:
        conn: A psycopg `AsyncConnection` or `AsyncConnectionPool`, with any settings. The saver does not close it.
        pipe: The `AsyncPipeline` of the connection, if it is in pipeline mode. It does not go with a pool.
        serde: The serializer; LangGraph's `JsonPlusSerializer` by default.
        settings: Fields of `Settings`, such as `schema`, `offload_bytes` or `concurrency`.

    Raises:
        InvalidInputError: The connection is not async, or a setting is invalid.
    """

    @property
    def log(self) -> AsyncEventLog:
        """The `AsyncEventLog` that this saver writes. It shares the saver's connection, settings and caches."""
        return sharing(AsyncEventLog, self)

    aget_tuple = awaitable(EventLogSaver.get_tuple, "a")
    aput = awaitable(EventLogSaver.put, "a")
    aput_writes = awaitable(EventLogSaver.put_writes, "a")
    aget_delta_channel_history = awaitable(EventLogSaver.get_delta_channel_history, "a")
    adelete_thread = awaitable(EventLogSaver.delete_thread, "a")
    adelete_for_runs = awaitable(EventLogSaver.delete_for_runs, "a")
    acopy_thread = awaitable(EventLogSaver.copy_thread, "a")
    aprune = awaitable(EventLogSaver.prune, "a")

    alist = iterating(EventLogSaver.list, "a")

    @property
    def _loop(self) -> asyncio.AbstractEventLoop | None:
        self._driver.check_process()  # The loop's thread does not exist in a child, and the loop does not know.
        return self._driver.loop

    # --- the sync methods, for other threads

    get_tuple = blocking(aget_tuple)
    put = blocking(aput)
    put_writes = blocking(aput_writes)
    get_delta_channel_history = blocking(aget_delta_channel_history)
    delete_thread = blocking(adelete_thread)
    delete_for_runs = blocking(adelete_for_runs)
    copy_thread = blocking(acopy_thread)
    prune = blocking(aprune)
