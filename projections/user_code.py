"""Running the code of custom projections: errors name the projection and the place, and its changes can be undone."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from eventlog.db.errors import is_lost, lost_node
from eventlog.db.query import Op, Query, UserCallback
from eventlog.db.statements import Statements
from eventlog.errors import ConnectionLostError, EventLogError, LogCorruptedError, ProjectionError
from projections.custom import Projection
from projections.event import Event
from projections.set_aside import is_of_event

__all__ = ["REBUILD", "between", "guarded", "tried"]

#: How to rebuild a projection.
REBUILD: Final = "'eventlog project rebuild', or rebuild_projection()"


def between(events: Sequence[Event]) -> str:
    """The place of these events in the feed, for an error."""
    return f"failed between {events[0].cursor} and {events[-1].cursor} of the feed"


def guarded(projection: Projection, method: Callable[..., Any], what: str, *args: Any) -> Op[None]:
    """Run the user's code; errors name the projection and the place. (The package's own projections are operations.)"""
    if inspect.isgeneratorfunction(method):
        with _blamed(projection, what):
            yield from method(None, *args)
        return

    def call(conn: Any) -> None:
        with _blamed(projection, what):
            method(conn, *args)

    async def call_async(conn: Any) -> None:
        with _blamed(projection, what):
            await method(conn, *args)

    function: Callable[[Any], Awaitable[None] | None] = call_async if inspect.iscoroutinefunction(method) else call
    yield UserCallback(function=function)


def tried(statements: Statements, projection: Projection, events: list[Event]) -> Op[EventLogError | None]:
    """Apply events, or undo their changes and return the error. Errors that the events did not cause are raised."""
    method, what = projection.apply, between(events)
    if inspect.isgeneratorfunction(method):
        yield Query(statements["savepoint"], returns=False)
        failure: EventLogError | None = None
        try:
            yield from guarded(projection, method, what, events)
        except (LogCorruptedError, ProjectionError) as exc:
            # The driver rolls back the transaction before it throws a database error: the savepoint is gone.
            if not is_of_event(exc) or isinstance(exc.__cause__, psycopg.Error):
                raise
            failure = exc
            yield Query(statements["roll_back_to_savepoint"], returns=False)
        yield Query(statements["release_savepoint"], returns=False)
        return failure
    failures: list[EventLogError] = []

    def note(exc: EventLogError) -> None:
        if not is_of_event(exc):
            raise exc
        failures.append(exc)

    def call(conn: Any) -> None:
        try:
            with _blamed(projection, what), conn.transaction():
                method(conn, events)
        except (LogCorruptedError, ProjectionError) as exc:
            note(exc)

    async def call_async(conn: Any) -> None:
        try:
            with _blamed(projection, what):
                async with conn.transaction():
                    await method(conn, events)
        except (LogCorruptedError, ProjectionError) as exc:
            note(exc)

    function: Callable[[Any], Awaitable[None] | None] = call_async if inspect.iscoroutinefunction(method) else call
    yield UserCallback(function=function)
    return failures[0] if failures else None


@contextmanager
def _blamed(projection: Projection, what: str) -> Iterator[None]:
    """Turn errors of the user's code into ProjectionError, except those that the log or the connection caused."""
    try:
        yield
    except (LogCorruptedError, ConnectionLostError):
        raise
    except Exception as exc:
        if isinstance(exc, psycopg.Error) and (is_lost(exc) or lost_node(exc) is not None):
            raise
        message = str(exc).strip()
        if isinstance(exc, psycopg.errors.InvalidSchemaName):
            message += ". If it is the schema of views, let the log's owner run: eventlog grant projector <user>"
        if isinstance(exc, (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName)):
            message += f". If the log was restored without its view, rebuild the projection ({REBUILD})"
        raise ProjectionError(f"projection {projection.name!r} {what}: {type(exc).__name__}: {message}") from exc
