"""Whether the log is what was appended."""

from __future__ import annotations

from collections.abc import Sequence

from langgraph.checkpoint.eventlog._methods._base import AsyncMethods, SyncMethods
from langgraph.checkpoint.eventlog._verifying import OnStream, Verified, verify

__all__ = ["AsyncVerifying", "SyncVerifying"]


class SyncVerifying(SyncMethods):
    """Verifying the log."""

    def verify(
        self,
        thread_ids: Sequence[str] | None = None,
        *,
        after: tuple[str, str] | None = None,
        on_stream: OnStream | None = None,
    ) -> Verified:
        """Compute every digest anew and account for every number. Reads everything, decodes nothing, needs no key.

        Finds events that were altered, taken out, put in or moved, and carried or erased events for which no record
        speaks. Who has all rights could compute all digests anew: keep copies of `streams` elsewhere to notice that.

        Args:
            thread_ids: only these threads.
            after: go on after this thread and namespace, where an earlier call was interrupted.
            on_stream: told of each thread and namespace when it is done, and what does not fit in it.
        """
        return self._driver.run_script(verify(self._context, thread_ids, after, on_stream))


class AsyncVerifying(AsyncMethods):
    """As `SyncVerifying`."""

    async def verify(
        self,
        thread_ids: Sequence[str] | None = None,
        *,
        after: tuple[str, str] | None = None,
        on_stream: OnStream | None = None,
    ) -> Verified:
        """As `EventLogSaver.verify`."""
        return await self._run(self._driver.run_script(verify(self._context, thread_ids, after, on_stream)))
