"""The part of the log that runs custom projections, and handles the events that they have set aside.

`EventLog` has these methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from langgraph.checkpoint.eventlog._setup import Connected
from langgraph.checkpoint.eventlog.following import project as _projecting
from langgraph.checkpoint.eventlog.following.project import BATCH_EVENTS, OnBatch
from projections.custom import Projection, ProjectionState, read_states
from projections.set_aside import Retried, SetAside

__all__ = ["LogProjections"]


class LogProjections(Connected):
    """The methods of `EventLog` for custom projections."""

    def project(
        self,
        projections: Projection | Iterable[Projection],
        *,
        follow: bool = False,
        batch_events: int = BATCH_EVENTS,
        poll_interval: float = 1.0,
        on_batch: OnBatch | None = None,
        on_undecodable: Literal["stop", "skip"] = "stop",
        on_error: Literal["stop", "set_aside"] = "stop",
        stop: Callable[[], bool] | None = None,
    ) -> dict[str, int]:
        """Bring custom projections up to date with the log.

        A batch and the projection's cursor are one transaction, so each event is applied exactly once. Several workers
        may run the same projection: one applies events, the others stand by.

        To set an event aside, the call undoes its changes, and stores its place and the error with the projection's
        cursor. Events that do not decode are set aside, too. `retry_set_aside` applies them again.

        Args:
            projections: One projection, or several with different names. A new one is set up first.
            follow: Continue when all events are applied, until interrupted or stopped.
            batch_events: Apply at most this many events in a transaction, 500 by default.
            poll_interval: Seconds between two looks for new events while following, up to 86,400.
            on_batch: Called with the projection's name and an `Applied` after each batch.
            on_undecodable: `"stop"` raises at an event that does not decode. `"skip"` logs a warning with its cursor
                and continues; to find such events, it decodes each one.
            on_error: `"stop"` raises when a projection fails on an event. `"set_aside"` sets the event aside and
                continues; it does not go with `on_undecodable="skip"`.
            stop: A function such as `threading.Event().is_set`, asked between batches and ten times a second during
                pauses. True ends the call; all applied events are committed.

        Returns:
            The number of applied events, by the projection's name.

        Raises:
            ProjectionChangedError: Another version or class set up the projection. Call `rebuild_projection()`.
            ProjectionError: The projection failed on a batch, or its view does not exist. View and cursor are
                unchanged.
            LogCorruptedError: An event does not decode. The message has its position.
        """
        return self._driver.run_script(
            _projecting.project(
                self._context,
                self.serde,
                self._is_async,
                projections,
                follow,
                batch_events,
                poll_interval,
                on_batch,
                on_undecodable,
                on_error,
                stop,
            )
        )

    def rebuild_projection(self, projections: Projection | Iterable[Projection]) -> None:
        """Empty custom projections, so that `project` applies all events again from the log's start.

        Erased events do not come back.

        Args:
            projections: One projection, or several with different names. All are validated before the first is emptied.

        Raises:
            ProjectionError: The projection's `setup` failed.
        """
        return self._driver.run_script(_projecting.rebuild(self._context, self.serde, self._is_async, projections))

    def projections(self) -> list[ProjectionState]:
        """List the custom projections that were set up, and how far each has come.

        Returns:
            The projections, by name.
        """
        return self._driver.run(lambda: read_states(self._context.statements))

    def set_aside_events(self, name: str | None = None, *, limit: int = 100) -> list[SetAside]:
        """List the events that projections have set aside.

        Args:
            name: The name of a projection; None for all.
            limit: Return at most this many events, at least 1.

        Returns:
            The events, by the projection's name and in the order of the feed.
        """
        return self._driver.run(lambda: _projecting.set_aside(self._context, name, limit))

    def retry_set_aside(self, projections: Projection | Iterable[Projection]) -> dict[str, Retried]:
        """Apply the events again that projections have set aside.

        Each event is applied alone, in the order of the feed, but after the events that followed it. Events that fail
        again stay aside.

        Args:
            projections: One projection, or several with different names.

        Returns:
            The numbers of events that were applied, failed again, or are gone from the log, by the projection's name.

        Raises:
            ProjectionChangedError: Another version or class set up the projection.
            ProjectionError: The projection failed for a reason outside of the event, such as a missing table.
        """
        return self._driver.run_script(_projecting.retry(self._context, self.serde, self._is_async, projections))

    def forget_projection(self, name: str) -> None:
        """Forget the cursor of a custom projection. Its tables stay: drop them yourself.

        Args:
            name: The projection's name.

        Raises:
            InvalidInputError: The log has no projection of that name.
        """
        return self._driver.run_script(_projecting.forget(self._context, self.serde, name))
