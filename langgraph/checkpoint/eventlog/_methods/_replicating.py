"""Being a replica of another log, and taking its place."""

from __future__ import annotations

from eventlog.subscriber import make_replica
from langgraph.checkpoint.eventlog._methods._base import AsyncMethods, SyncMethods
from langgraph.checkpoint.eventlog._rebuild import WORKERS
from langgraph.checkpoint.eventlog._subscriber import take_over
from projections.rebuild import OnProgress, Rebuilt

__all__ = ["AsyncReplicating", "SyncReplicating"]


class SyncReplicating(SyncMethods):
    """Logical replication of the log into another database."""

    def make_replica(self) -> None:
        """Have an empty log receive another one's events by logical replication, and refuse all others from now on.

        Call it after `setup()`, and before the subscription is made. The user must own the log.

        Raises:
            MissingGrantError: when the user does not own the log.
            StorageError: when the log is not empty.
        """
        self._driver.run_atomic(lambda: make_replica(self._context.statements))

    def take_over(self, *, workers: int = WORKERS, on_progress: OnProgress | None = None) -> Rebuilt:
        """Take the place of the log that this one is a replica of: derive projections and snapshots, then append here.

        Drop the subscription first. What was replicated stays as it is; positions go on behind it, and the feed begins
        a new generation. Interrupted anywhere, run it again: until it is done, the log refuses to append. The user must
        own the log.

        Args:
            workers: transactions side by side, as far as the pool has connections.
            on_progress: told how far it is, now and then.

        Raises:
            InvalidInputError: when the log is no replica.
            LogBusyError: when somebody else does this, or a rebuild, at the same time.
            LogCorruptedError: naming an event that does not decode.
            MissingGrantError: when the user does not own the log.
            StorageError: when there still is a subscription, or a table that must be replicated was not.
        """
        return self._driver.run_script(
            take_over(self._context, self._operations, workers=workers, on_progress=on_progress)
        )


class AsyncReplicating(AsyncMethods):
    """As `SyncReplicating`."""

    async def make_replica(self) -> None:
        """As `EventLogSaver.make_replica`."""
        await self._run(self._driver.run_atomic(lambda: make_replica(self._context.statements)))

    async def take_over(self, *, workers: int = WORKERS, on_progress: OnProgress | None = None) -> Rebuilt:
        """As `EventLogSaver.take_over`."""
        return await self._run(
            self._driver.run_script(
                take_over(self._context, self._operations, workers=workers, on_progress=on_progress)
            )
        )
