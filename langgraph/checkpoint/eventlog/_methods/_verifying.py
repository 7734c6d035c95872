"""Whether the log is what was appended."""

from __future__ import annotations

from collections.abc import Sequence

from langgraph.checkpoint.eventlog._methods._base import AsyncMethods, SyncMethods
from langgraph.checkpoint.eventlog.integrity.verify import OnStream, Verified, verify

__all__ = ["AsyncVerifying", "SyncVerifying"]

#: Streams are read side by side; computing digests of small events is Python's work, which one core does.
WORKERS = 4


class SyncVerifying(SyncMethods):
    """Verifying the log."""

    def verify(
        self,
        thread_ids: Sequence[str] | None = None,
        *,
        after: tuple[str, str] | None = None,
        workers: int = WORKERS,
        seal: str | None = None,
        on_stream: OnStream | None = None,
    ) -> Verified:
        """Compute every digest anew and account for every number. Reads everything, decodes nothing, needs no key.

        Finds events that were altered, taken out, put in or moved, carried or erased events for which no record
        speaks, streams that were sealed and are gone, and projections that disagree with the log. Who has all rights
        could compute all digests and seals anew: keep a seal's digest elsewhere, and give it as `seal`, to notice that.

        Args:
            thread_ids: only these threads, and of the seals what they say of them.
            after: go on after this thread and namespace, where an earlier call was interrupted.
            workers: so many operations side by side, and not more than the pool has connections.
            seal: a seal's digest in hex, or its number, a colon and its digest: it must be one of the log's.
            on_stream: told of each thread and namespace when it and all before it are done, and what does not fit.
        """
        return self._driver.run_script(
            verify(self._context, thread_ids, after=after, workers=workers, seal=seal, on_stream=on_stream)
        )


class AsyncVerifying(AsyncMethods):
    """As `SyncVerifying`."""

    async def verify(
        self,
        thread_ids: Sequence[str] | None = None,
        *,
        after: tuple[str, str] | None = None,
        workers: int = WORKERS,
        seal: str | None = None,
        on_stream: OnStream | None = None,
    ) -> Verified:
        """As `EventLogSaver.verify`."""
        return await self._run(
            self._driver.run_script(
                verify(self._context, thread_ids, after=after, workers=workers, seal=seal, on_stream=on_stream)
            )
        )
