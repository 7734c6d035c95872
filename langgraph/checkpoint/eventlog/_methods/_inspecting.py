"""Looking into the log: a checkpoint as it is stored, where a checkpoint is, the log in numbers."""

from __future__ import annotations

from langchain_core.runnables import RunnableConfig

from eventlog.db.query import Op
from eventlog.errors import InvalidInputError
from eventlog.read import CheckpointName
from eventlog.statistics import Stats, read_stats
from langgraph.checkpoint.eventlog._methods._base import AsyncMethods, SyncMethods
from langgraph.checkpoint.eventlog._operations import Context
from langgraph.checkpoint.eventlog.audit.inspect import Inspected, find, inspect, namespaces

__all__ = ["AsyncInspecting", "SyncInspecting"]


class SyncInspecting(SyncMethods):
    """Looking into the log."""

    def inspect(self, config: RunnableConfig) -> Inspected | None:
        """The checkpoint that the config names, or the latest of its thread and namespace, as it is stored.

        Nothing is decoded but the log's own bodies: each value has its type tag, its bytes and so its size, and
        `Inspected.load` decodes it, if it is wanted.

        Raises:
            LogCorruptedError: naming the event that does not decode.
        """
        return self._driver.run(lambda: inspect(self._context, self.serde, config))

    def find(
        self, checkpoint_id: str, *, thread_id: str | None = None, checkpoint_ns: str | None = None, limit: int = 10
    ) -> list[CheckpointName]:
        """Where a checkpoint is: those whose ids begin so, in the order of thread, namespace and id.

        Copies of a thread have the same ids as their source.

        Args:
            thread_id, checkpoint_ns: only there. Without a thread, every stream that was active since is looked into.
            limit: at most so many.
        """
        return self._driver.run(lambda: find(self._context, checkpoint_id, thread_id, checkpoint_ns, limit))

    def namespaces(self, thread_id: str) -> dict[str, str | None]:
        """A thread's namespaces, each with the id of its latest checkpoint, None where it has none (any more).

        Empty when there never was such a thread.
        """
        return self._driver.run(lambda: namespaces(self._context, thread_id))

    def stats(self, *, exact: bool = False) -> Stats:
        """The log in numbers: sizes, counts, growth, how far reads replay, and this saver's cache.

        Args:
            exact: count and sum all rows, which reads the whole log, instead of the server's estimates and a sample.
        """
        return self._driver.run(lambda: _stats(self._context, exact))


class AsyncInspecting(AsyncMethods):
    """As `SyncInspecting`."""

    async def inspect(self, config: RunnableConfig) -> Inspected | None:
        """As `EventLogSaver.inspect`."""
        return await self._run(self._driver.run(lambda: inspect(self._context, self.serde, config)))

    async def find(
        self, checkpoint_id: str, *, thread_id: str | None = None, checkpoint_ns: str | None = None, limit: int = 10
    ) -> list[CheckpointName]:
        """As `EventLogSaver.find`."""
        return await self._run(
            self._driver.run(lambda: find(self._context, checkpoint_id, thread_id, checkpoint_ns, limit))
        )

    async def namespaces(self, thread_id: str) -> dict[str, str | None]:
        """As `EventLogSaver.namespaces`."""
        return await self._run(self._driver.run(lambda: namespaces(self._context, thread_id)))

    async def stats(self, *, exact: bool = False) -> Stats:
        """As `EventLogSaver.stats`."""
        return await self._run(self._driver.run(lambda: _stats(self._context, exact)))


def _stats(context: Context, exact: object) -> Op[Stats]:
    if not isinstance(exact, bool):
        raise InvalidInputError(f"exact must be a bool, not {type(exact).__name__}")
    return (yield from read_stats(context.statements, context.frames.stats, exact=exact))
