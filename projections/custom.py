"""Custom projections: views of the log that users define, kept up to date from the feed.

A projection's cursor is a row of `projections`, which changes in the transaction that changes the view. So the view
always equals applying each event up to the cursor once, even if a worker is killed. The transaction begins by locking
the projection without waiting: one of several workers applies a batch, and the others return at once.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import InvalidInputError
from eventlog.events import Cursor, stored_cursor
from projections.event import Event

__all__ = ["Applied", "Projection", "ProjectionState", "check_projection", "read_states"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class Projection(Protocol):
    """The interface of a custom projection: a class with a `name`, a `version`, and the methods `setup` and `apply`.

    For `AsyncEventLog`, `setup` and `apply` are `async def` and get an async connection. An optional attribute `tables`
    names the view's tables as SQL writes them; `EventLog.purge` then removes erased bytes from these tables, too.
    """

    @property
    def name(self) -> str:
        """Its name in the database: a lower case letter, then letters, digits and underscores, at most 63 in all."""
        ...

    @property
    def version(self) -> int:
        """A number from 1. Raise it when the same events shall give another view."""
        ...

    def setup(self, conn: Any) -> Any:
        """Create the view, or empty it: before the first batch, and for each rebuild.

        Args:
            conn: The connection, in the transaction of the setup.
        """
        ...

    def apply(self, conn: Any, events: Sequence[Event]) -> Any:
        """Apply a batch of events to the view.

        Each event comes once, except in transactions that were rolled back: keep nothing outside of the database.

        Args:
            conn: The connection, in the transaction of the batch.
            events: The events, in the feed's order.
        """
        ...


class ProjectionState(NamedTuple):
    """The progress of a custom projection."""

    name: str
    """The projection."""
    version: int
    """Its version."""
    source: str
    """The class that set it up."""
    cursor: Cursor | None
    """The cursor; None before the first event."""
    events: int
    """Applied events."""
    started_at: datetime
    """The time of its setup, or of the last rebuild."""
    applied_at: datetime | None
    """The time of the last batch; None before the first."""
    caught_up_at: datetime | None
    """The time when it first reached the end of the feed. None while its view is incomplete."""
    tables: list[str] | None
    """The tables of its view, with their schemas; None when its class names none."""
    set_aside: int
    """Events that are set aside."""


class Applied(NamedTuple):
    """The result of one batch of a custom projection."""

    events: int
    """Events that were applied."""
    cursor: Cursor | None
    """The cursor after the batch; None before the first event."""
    is_end: bool
    """Whether the batch reached the end of the feed."""
    is_standby: bool = False
    """Whether another worker runs the projection, so that this one did nothing."""
    skipped: int = 0
    """Events that do not decode and were skipped."""
    set_aside: int = 0
    """Events that were set aside: `retry_set_aside` applies them again."""


def check_projection(projection: Any, schema: str, *, is_async: bool) -> None:
    """Validate a projection, and that it is of this log if it says of which. Raises InvalidInputError."""
    kind = type(projection).__qualname__
    if isinstance(projection, type):
        raise InvalidInputError(f"give a projection, not the class: {projection.__qualname__}()")
    for wanted in ("name", "version", "setup", "apply"):
        if not hasattr(projection, wanted):
            raise InvalidInputError(f"{kind} is not a projection: it has no {wanted!r}")
    if not isinstance(projection.name, str) or not _NAME.fullmatch(projection.name):
        raise InvalidInputError(
            f"the projection's name {projection.name!r} must be a lower case letter, then letters, digits and "
            "underscores, at most 63 together"
        )
    version = projection.version
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version < 1 << 31:
        raise InvalidInputError(f"the version of projection {projection.name!r} must be an int from 1, not {version!r}")
    if getattr(projection, "schema", schema) != schema:
        raise InvalidInputError(
            f"projection {projection.name!r} is for the log in schema {projection.schema!r}, and this is {schema!r}: "
            "make it with this schema"
        )
    tables = getattr(projection, "tables", None) or ()
    if isinstance(tables, str) or not isinstance(tables, Sequence) or not all(isinstance(each, str) for each in tables):
        raise InvalidInputError(f"{kind}.tables must be a sequence of the names of tables, not {tables!r}")
    for wanted in ("setup", "apply"):
        method = getattr(projection, wanted)
        if not inspect.isgeneratorfunction(method) and inspect.iscoroutinefunction(method) != is_async:
            raise InvalidInputError(
                f"{kind}.{wanted} must be 'async def' for AsyncEventLogSaver, and 'def' for EventLogSaver"
            )


def read_states(statements: Statements, name: str | None = None) -> Op[list[ProjectionState]]:
    """The projections that were set up (or only the one with this name), ordered by name."""
    rows = yield Query(statements["project_state"], {"name": name})
    return [
        ProjectionState(name, version, source, stored_cursor(*row[:4]), *row[4:])
        for name, version, source, *row in rows
    ]
