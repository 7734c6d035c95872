"""Custom projections: views of the log that users define, kept up to date from the feed.

A projection's cursor is a row of `projections`, which changes in the transaction that changes the view. So the view
is always what applying the events up to the cursor makes of it, each once, whatever happens to the worker. The
transaction begins by locking the projection: of several workers one applies a batch, and the others find
that out without waiting.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import psycopg
from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.errors import is_lost
from eventlog.db.query import Op, Query, UserCallback
from eventlog.db.statements import Statements
from eventlog.errors import (
    ConnectionLostError,
    InvalidInputError,
    LogBusyError,
    LogCorruptedError,
    ProjectionChangedError,
    ProjectionError,
)
from eventlog.events import Cursor, StoredEvent
from eventlog.feed import read_feed
from eventlog.format.codec import Codec
from eventlog.format.contents import WritesSaved
from eventlog.logger import logger
from eventlog.read import read_events
from eventlog.streams import Stream
from projections.event import Event

__all__ = ["Applied", "Projection", "ProjectionState", "Projector", "Resolve", "check_projection", "read_states"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

#: Writes events without the differences from the state that they were made on.
Resolve = Callable[[Stream, list[StoredEvent]], Op[list[WritesSaved]]]


class Projection(Protocol):
    """What a custom projection is: any class with these.

    For `AsyncEventLogSaver`, `setup` and `apply` are ``async def``, and get an async connection.
    """

    @property
    def name(self) -> str:
        """Which projection it is, in the database: lower case letters, digits and underscores, at most 63."""
        ...

    @property
    def version(self) -> int:
        """Raise it whenever the view is to be another one for the same events."""
        ...

    def setup(self, conn: Any) -> Any:
        """Make the view, and make it empty if it is there: before the first batch, and again for a rebuild."""
        ...

    def apply(self, conn: Any, events: Sequence[Event]) -> Any:
        """Bring the view up to date, through the connection: a batch of events, in the feed's order.

        Called once for each event, but for transactions that were rolled back: keep nothing elsewhere.
        """
        ...


class ProjectionState(NamedTuple):
    """How far a projection has come."""

    name: str
    version: int
    source: str
    """The class that it was set up with."""
    cursor: Cursor | None
    """None before the first event."""
    events: int
    started_at: datetime
    """When it was set up, or its rebuild began."""
    applied_at: datetime | None
    caught_up_at: datetime | None
    """When it first had come to the end of the feed. None: the view is not complete yet."""


class Applied(NamedTuple):
    """What one batch did."""

    events: int
    cursor: Cursor | None
    is_end: bool
    """Whether nothing more was there."""
    is_standby: bool = False
    """Whether another worker is at it."""
    skipped: int = 0
    """Events that do not decode, and were not applied."""


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
    for wanted in ("setup", "apply"):
        method = getattr(projection, wanted)
        if not inspect.isgeneratorfunction(method) and inspect.iscoroutinefunction(method) != is_async:
            raise InvalidInputError(
                f"{kind}.{wanted} must be 'async def' for AsyncEventLogSaver, and 'def' for EventLogSaver"
            )


def read_states(statements: Statements, name: str | None = None) -> Op[list[ProjectionState]]:
    """All projections that were set up (or the one of that name), by name."""
    rows = yield Query(statements["project_state"], {"name": name})
    return [
        ProjectionState(name, version, source, None if generation is None else Cursor(generation, xid, position), *rest)
        for name, version, source, generation, xid, position, *rest in rows
    ]


class Projector:
    """Applies the feed to projections. What changes something is to be run in one transaction."""

    def __init__(self, statements: Statements, codec: Codec, serde: SerializerProtocol, resolve: Resolve) -> None:
        self._statements = statements
        self._codec = codec
        self._serde = serde
        self._resolve = resolve

    def restart(self, projection: Projection) -> Op[bool]:
        """Empty the view, and begin again at the log's start. False when another worker is at it.

        Raises ProjectionError when its `setup` fails.
        """
        if not (yield from self._lock(projection.name)):
            return False
        yield from self._start(projection)
        return True

    def step(self, projection: Projection, rows: int, *, skips: bool = False) -> Op[Applied]:
        """Apply the next batch, of at most so many events.

        Args:
            skips: go on behind events that do not decode, and log a warning for each.

        Raises:
            ProjectionChangedError: when it was set up by another version or class.
            ProjectionError: when it fails; nothing has changed then.
            LogCorruptedError: naming the event that does not decode, and its position; unless it is skipped.
        """
        if not (yield from self._lock(projection.name)):
            return Applied(0, None, is_end=False, is_standby=True)
        states = yield from read_states(self._statements, projection.name)
        if not states:
            yield from self._start(projection)
            states = yield from read_states(self._statements, projection.name)
        state = states[0]
        self._check_unchanged(projection, state)
        page = yield from read_feed(self._statements, state.cursor, rows)
        events = yield from self.events(page.events, state.started_at)
        read = len(events)
        if skips:
            events = [event for event in events if not _is_skipped(projection, event)]
        for event in events:
            event.check_kind()
        if events:
            first, last = events[0], events[-1]
            what = f"failed between {first.cursor} and {last.cursor} of the feed"
            yield from _guarded(projection, projection.apply, what, events)
        if page.cursor != state.cursor or (page.is_end and state.caught_up_at is None):
            params = {
                "name": projection.name,
                **(page.cursor._asdict() if page.cursor else dict.fromkeys(Cursor._fields)),
                "events": len(events),
                "is_end": page.is_end,
            }
            yield Query(self._statements["advance_projection"], params)
        return Applied(len(events), page.cursor, page.is_end, skipped=read - len(events))

    def forget(self, name: str) -> Op[bool | None]:
        """Forget a projection's cursor; its view is left to whoever made it.

        False when there is none, None when a worker is at it.
        """
        if not (yield from self._lock(name)):
            return None
        ((is_there,),) = yield Query(self._statements["forget_projection"], (name,))
        return bool(is_there)

    def _lock(self, name: str) -> Op[bool]:
        ((is_locked,),) = yield Query(self._statements["lock_projection"], (name,))
        return bool(is_locked)

    def _start(self, projection: Projection) -> Op[None]:
        yield from _guarded(projection, projection.setup, "failed to set up its view")
        params = (projection.name, projection.version, _source(projection))
        yield Query(self._statements["start_projection"], params)
        logger.info("eventlog.projection_started", projection=projection.name, version=projection.version)

    @staticmethod
    def _check_unchanged(projection: Projection, state: ProjectionState) -> None:
        if state.source != (source := _source(projection)):
            raise ProjectionChangedError(
                f"projection {projection.name!r} was set up by {state.source}, and this is {source}: rename it, or "
                "rebuild it if the class has moved"
            )
        if state.version != projection.version:
            raise ProjectionChangedError(
                f"projection {projection.name!r} is at version {state.version} in the database and "
                f"{projection.version} in the code: rebuild it"
            )

    def events(self, stored: Sequence[StoredEvent], since: datetime | None = None) -> Op[list[Event]]:
        """The feed's events, to be decoded when they are asked.

        Args:
            since: when the reader began: what was relocated before then, it sees for the first time.

        Raises:
            LogBusyError: when one was erased since it was read.
        """
        events = [
            Event(
                each,
                self._codec,
                self._serde,
                is_replay=each.is_replay and (since is None or each.recorded_at >= since),
            )
            for each in stored
        ]
        by_stream: dict[Stream, list[Event]] = {}
        for event in events:
            # One that does not decode says so when it is asked.
            with suppress(LogCorruptedError):
                if event.needs_state():
                    by_stream.setdefault(event.stream, []).append(event)
        # Those of one stream together: many tasks write to one checkpoint, whose state is put together once.
        for stream, unresolved in by_stream.items():
            if not (yield from self._restate(stream, unresolved)):
                for event in unresolved:
                    yield from self._restate(stream, [event])
        return events

    def _restate(self, stream: Stream, events: list[Event]) -> Op[bool]:
        """State writes without differences; False when that of one of the events is not possible."""
        try:
            restated = yield from self._resolve(stream, [each.stored for each in events])
        except LogCorruptedError as exc:
            there = yield from read_events(self._statements, stream, [each.seq for each in events])
            if len(there) == len(events):
                events[0].unresolved = exc
                return False
            raise LogBusyError(
                f"events of thread {stream.thread_id!r} were erased during the read: run it again"
            ) from None
        for event, says in zip(events, restated, strict=True):
            event.restated, event.unresolved = says, None
        return True


def _is_skipped(projection: Projection, event: Event) -> bool:
    error = event.error
    if error is not None:
        logger.warning(
            "eventlog.projection_skipped",
            projection=projection.name,
            cursor=str(event.cursor),
            position=event.stored.position,
            error=str(error),
        )
    return error is not None


def _source(projection: Projection) -> str:
    kind = type(projection)
    return f"{kind.__module__}:{kind.__qualname__}"


def _guarded(projection: Projection, method: Callable[..., Any], what: str, *args: Any) -> Op[None]:
    """Run the user's code, whose errors say which projection failed, and where. (The package's own are operations.)"""
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


@contextmanager
def _blamed(projection: Projection, what: str) -> Iterator[None]:
    """Whatever the user's code raises is a ProjectionError, but for what the log or the connection is to blame for."""
    try:
        yield
    except (LogCorruptedError, ConnectionLostError):
        raise
    except Exception as exc:
        if isinstance(exc, psycopg.Error) and is_lost(exc):
            raise
        message = str(exc).strip()
        raise ProjectionError(f"projection {projection.name!r} {what}: {type(exc).__name__}: {message}") from exc
