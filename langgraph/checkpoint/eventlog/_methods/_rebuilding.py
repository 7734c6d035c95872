"""Rebuilding what is derived from the log."""

from __future__ import annotations

from langgraph.checkpoint.eventlog._methods._base import AsyncMethods, SyncMethods
from projections.rebuild import Rebuilt

__all__ = ["AsyncRebuilding", "SyncRebuilding"]


class SyncRebuilding(SyncMethods):
    """Rebuilding projections and snapshots."""

    def rebuild(self) -> Rebuilt:
        """Rebuild projections and snapshots from the log alone; returns how many rows each has now.

        One transaction: readers and writers wait for it. The user needs the right to truncate the projections.

        Raises:
            LogCorruptedError: naming the event that does not decode; then nothing has changed.
        """
        return self._driver.run_atomic(self._operations.rebuild)


class AsyncRebuilding(AsyncMethods):
    """As `SyncRebuilding`."""

    async def rebuild(self) -> Rebuilt:
        """Rebuild projections and snapshots from the log alone. As `EventLogSaver.rebuild`."""
        return await self._driver.run_atomic(self._operations.rebuild)
