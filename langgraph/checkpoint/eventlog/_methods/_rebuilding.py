"""Rebuilding what is derived from the log."""

from __future__ import annotations

from langgraph.checkpoint.eventlog._methods._base import AsyncMethods, SyncMethods
from langgraph.checkpoint.eventlog._rebuild import WORKERS, rebuild
from projections.compare import OnDifference
from projections.rebuild import OnProgress, Rebuilt
from projections.swap import drop_old

__all__ = ["AsyncRebuilding", "SyncRebuilding"]


class SyncRebuilding(SyncMethods):
    """Rebuilding projections and snapshots."""

    def rebuild(
        self,
        *,
        check: bool = False,
        workers: int = WORKERS,
        restart: bool = False,
        on_progress: OnProgress | None = None,
        on_difference: OnDifference | None = None,
    ) -> Rebuilt:
        """Rebuild projections and snapshots from the log alone, while readers and writers go on.

        The new tables are made beside the live ones and change places with them under a lock of some milliseconds. The
        old ones stay, with what was in them, until `drop_old`. Killed anywhere, the same call goes on where it
        was. The user must own the log.

        Args:
            check: change nothing, and compare what is there with what the log says. The right to read is enough.
            workers: transactions side by side, as far as the pool has connections.
            restart: begin anew, whatever an earlier call has left.
            on_progress: told how far it is, now and then.
            on_difference: told of rows that are not what the log says; of each stream the first 20 at most.

        Raises:
            LogCorruptedError: naming the event that does not decode, and its position. The live tables are as they
                were, and once it is repaired, the same call goes on.
            LogBusyError: when another rebuild is under way, or the tables could not be locked; run it again.
            MissingGrantError: when the user does not own the log.
            InvalidInputError: when a rebuild is under way that was begun by another version, or with other settings.
            StorageError: when something hangs on the tables that would stay with the old ones, a view for instance.
            DatabaseTooNewError: when a newer version of this package has set up the database.
        """
        return self._driver.run_script(
            rebuild(
                self._operations,
                check=check,
                workers=workers,
                restart=restart,
                on_progress=on_progress,
                on_difference=on_difference,
            )
        )

    def drop_old(self) -> list[str]:
        """Drop the tables that rebuilds have replaced; returns their names.

        Raises:
            MissingGrantError: when the user does not own the log.
        """
        return self._driver.run_atomic(lambda: drop_old(self._context.statements))


class AsyncRebuilding(AsyncMethods):
    """As `SyncRebuilding`."""

    async def rebuild(
        self,
        *,
        check: bool = False,
        workers: int = WORKERS,
        restart: bool = False,
        on_progress: OnProgress | None = None,
        on_difference: OnDifference | None = None,
    ) -> Rebuilt:
        """As `EventLogSaver.rebuild`."""
        return await self._run(
            self._driver.run_script(
                rebuild(
                    self._operations,
                    check=check,
                    workers=workers,
                    restart=restart,
                    on_progress=on_progress,
                    on_difference=on_difference,
                )
            )
        )

    async def drop_old(self) -> list[str]:
        """As `EventLogSaver.drop_old`."""
        return await self._run(self._driver.run_atomic(lambda: drop_old(self._context.statements)))
