"""Custom projections: views of the log that are kept up to date from its feed."""

from __future__ import annotations

from collections.abc import Iterable

from langgraph.checkpoint.eventlog._methods._base import AsyncMethods, SyncMethods
from langgraph.checkpoint.eventlog.following.project import (
    BATCH_EVENTS,
    OnBatch,
    forget,
    list_projections,
    project,
    rebuild,
)
from projections.custom import Projection, ProjectionState

__all__ = ["AsyncProjecting", "SyncProjecting"]


class SyncProjecting(SyncMethods):
    """Running custom projections."""

    def project(
        self,
        projections: Projection | Iterable[Projection],
        *,
        follow: bool = False,
        batch_events: int = BATCH_EVENTS,
        poll_interval: float = 1.0,
        on_batch: OnBatch | None = None,
    ) -> dict[str, int]:
        """Bring custom projections up to date; returns how many events were applied to each, by name.

        A batch and the projection's cursor are one transaction: each event is applied once, whatever happens. Several
        workers may run the same projection: one applies, the others stand by.

        Args:
            projections: one or several, of different names. One that is new is set up first.
            follow: go on when all is applied, until interrupted.
            batch_events: apply at most so many events at a time.
            poll_interval: seconds between looks for new events, when following.
            on_batch: told of each batch: the projection's name, and what was done.

        Raises:
            ProjectionChangedError: when one was set up by another version or class: `rebuild_projection()` it.
            ProjectionError: when one fails on a batch; its view and its cursor stay as they were.
        """
        return self._driver.run_script(
            project(
                self._context,
                self.serde,
                projections,
                is_async=False,
                follow=follow,
                batch_events=batch_events,
                poll_interval=poll_interval,
                on_batch=on_batch,
            )
        )

    def rebuild_projection(self, projection: Projection) -> None:
        """Empty a custom projection, and let it begin again at the log's start: `project()` then applies all events.

        What was erased from the log does not come back.

        Raises:
            ProjectionError: when its `setup` fails.
        """
        self._driver.run_script(rebuild(self._context, self.serde, projection, is_async=False))

    def projections(self) -> list[ProjectionState]:
        """The custom projections that were set up, and how far each has come, by name."""
        return self._driver.run(lambda: list_projections(self._context))

    def forget_projection(self, name: str) -> None:
        """Forget how far a custom projection has come. Its view stays: drop it as it was made.

        Raises:
            InvalidInputError: when there is none of that name.
        """
        self._driver.run_script(forget(self._context, self.serde, name))


class AsyncProjecting(AsyncMethods):
    """As `SyncProjecting`."""

    async def project(
        self,
        projections: Projection | Iterable[Projection],
        *,
        follow: bool = False,
        batch_events: int = BATCH_EVENTS,
        poll_interval: float = 1.0,
        on_batch: OnBatch | None = None,
    ) -> dict[str, int]:
        """As `EventLogSaver.project`; the projections' `setup` and `apply` are ``async def``."""
        return await self._run(
            self._driver.run_script(
                project(
                    self._context,
                    self.serde,
                    projections,
                    is_async=True,
                    follow=follow,
                    batch_events=batch_events,
                    poll_interval=poll_interval,
                    on_batch=on_batch,
                )
            )
        )

    async def rebuild_projection(self, projection: Projection) -> None:
        """As `EventLogSaver.rebuild_projection`."""
        await self._run(self._driver.run_script(rebuild(self._context, self.serde, projection, is_async=True)))

    async def projections(self) -> list[ProjectionState]:
        """As `EventLogSaver.projections`."""
        return await self._run(self._driver.run(lambda: list_projections(self._context)))

    async def forget_projection(self, name: str) -> None:
        """As `EventLogSaver.forget_projection`."""
        await self._run(self._driver.run_script(forget(self._context, self.serde, name)))
