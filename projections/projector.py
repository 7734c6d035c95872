"""Applying the feed to custom projections (`projections.custom`), batch by batch, each in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import (
    EventLogError,
    LogBusyError,
    LogCorruptedError,
    ProjectionChangedError,
    ProjectionError,
)
from eventlog.events import Cursor, StoredEvent, cursor_columns
from eventlog.feed import read_feed
from eventlog.format.codec import Codec
from eventlog.format.contents import WritesSaved
from eventlog.logger import logger
from eventlog.read import read_events
from eventlog.streams import Stream
from projections.custom import Applied, Projection, ProjectionState, read_states
from projections.event import Event
from projections.message_cache import DecoderOf
from projections.set_aside import (
    MOST_SET_ASIDE,
    Retried,
    drop_erased,
    feed_event,
    put_aside,
    read_page,
    take_back,
)
from projections.user_code import REBUILD, between, guarded, tried

__all__ = ["Projector", "Resolve"]

#: Reads the writes of events, with differences from a state resolved.
Resolve = Callable[[Stream, list[StoredEvent]], Op[list[WritesSaved]]]


class Projector:
    """Applies the feed to projections. Run each operation that changes something in one transaction."""

    def __init__(
        self,
        statements: Statements,
        codec: Codec,
        serde: SerializerProtocol,
        resolve: Resolve,
        decoder_of: DecoderOf | None,
    ) -> None:
        self._statements = statements
        self._decoder_of = decoder_of
        self._codec = codec
        self._serde = serde
        self._resolve = resolve

    def restart(self, projection: Projection) -> Op[bool]:
        """Empty the view, and begin again at the log's start. False when another worker has the projection.

        Raises ProjectionError when its `setup` fails.
        """
        if not (yield from self._lock(projection.name)):
            return False
        yield from self._start(projection)
        return True

    def step(
        self,
        projection: Projection,
        rows: int,
        *,
        skips: bool = False,
        sets_aside: bool = False,
        is_first: bool = False,
    ) -> Op[Applied]:
        """Apply the next batch, of at most so many events.

        Args:
            skips: skip events that do not decode, and log a warning for each.
            sets_aside: skip events that do not decode or on which the projection fails, and keep them for a retry.
            is_first: check that the view exists.

        Raises:
            ProjectionChangedError: when it was set up by another version or class.
            ProjectionError: when the projection fails; nothing has changed then.
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
        if is_first:
            yield from self._check_view(state)
        read = yield from self.events(page.events, state.started_at)
        events = [event for event in read if not _is_skipped(projection, event)] if skips else read
        skipped = len(read) - len(events)
        failed: list[tuple[Event, EventLogError]] = []
        if sets_aside:
            failed = yield from self._apply_each(projection, events, state.set_aside)
        else:
            for event in events:
                event.check_kind()
            if events:
                yield from guarded(projection, projection.apply, between(events), events)
        for event, error in failed:
            yield from put_aside(self._statements, projection.name, event, event.cursor, error)
        if state.set_aside or failed:
            yield from drop_erased(self._statements, projection.name, events)
        applied = len(events) - len(failed)
        if page.cursor != state.cursor or (page.is_end and state.caught_up_at is None):
            yield from self._advance(projection, page.cursor, applied, is_end=page.is_end)
        return Applied(applied, page.cursor, page.is_end, skipped=skipped, set_aside=len(failed))

    def _advance(self, projection: Projection, cursor: Cursor | None, events: int, *, is_end: bool) -> Op[None]:
        params = {"name": projection.name, **cursor_columns(cursor), "events": events, "is_end": is_end}
        yield Query(self._statements["advance_projection"], params)

    def _apply_each(
        self, projection: Projection, events: list[Event], aside: int
    ) -> Op[list[tuple[Event, EventLogError]]]:
        """Apply events together, or one by one if that fails; returns the events that failed, with their errors.

        Args:
            aside: how many events are set aside already.
        """
        failed: list[tuple[Event, EventLogError]] = []
        known = []
        for event in events:
            try:
                event.check_kind()
                known.append(event)
            except LogCorruptedError as exc:
                failed.append((event, exc))
        error = (yield from tried(self._statements, projection, known)) if known else None
        if error is not None and len(known) > 1:
            for event in known:
                one = yield from tried(self._statements, projection, [event])
                if one is not None:
                    failed.append((event, one))
        elif error is not None:
            failed.append((known[0], error))
        if aside + len(failed) > MOST_SET_ASIDE:
            event, error = failed[-1]
            raise ProjectionError(
                f"projection {projection.name!r} has set aside {MOST_SET_ASIDE:,} events, and would set aside more: "
                f"mend it, apply them again, and go on. The last error, at {event.cursor}: {error}"
            ) from error
        for event, error in failed:
            _warn("eventlog.projection_set_aside", projection, event, error)
        return failed

    def retry(
        self, projection: Projection, after: Cursor | None, rows: int
    ) -> Op[tuple[Retried, Cursor | None] | None]:
        """Retry some of the events that were set aside.

        Returns the result and the place of the last event (None when there were none). Returns None when another worker
        has the projection. Raises ProjectionChangedError, and ProjectionError when the cause is not an event.
        """
        statements, name = self._statements, projection.name
        if not (yield from self._lock(name)):
            return None
        states = yield from read_states(statements, name)
        if not states:
            return Retried(), None
        self._check_unchanged(projection, states[0])
        yield from self._check_view(states[0])
        page, last = yield from read_page(statements, name, rows, after=after)
        applied = gone = 0
        for each in page:
            stored = yield from feed_event(statements, each)
            if stored is None:
                gone += 1
            else:
                (event,) = yield from self.events([stored])
                event.is_replay = each.is_replay
                error = yield from self._apply_each(projection, [event], 0)
                if error:
                    yield from put_aside(statements, name, event, each.cursor, error[0][1])
                    continue
                applied += 1
            yield from take_back(statements, name, Stream(each.thread_id, each.checkpoint_ns), each.seq)
        if applied:
            yield from self._advance(projection, states[0].cursor, applied, is_end=False)
        return Retried(applied, len(page) - applied - gone, gone), last

    def _check_view(self, state: ProjectionState) -> Op[None]:
        """Check that the view exists. Raises ProjectionError; warns when it is empty and the log was restored."""
        if not state.events or not state.tables:
            return
        rows = yield Query(self._statements["projection_view"], (state.tables,))
        missing = [name for name, is_there, *_ in rows if not is_there]
        if missing:
            raise ProjectionError(
                f"projection {state.name!r} has applied {state.events:,} events, but its view does not exist: no table "
                f"{', '.join(missing)}. Its place in the feed is in the log's schema: if that alone was restored, "
                f"restore the view's tables too, or rebuild the projection ({REBUILD})"
            )
        was_restored = state.cursor is not None and state.cursor.generation < rows[0][3]
        if was_restored and all(is_empty for _, _, is_empty, _ in rows):
            logger.warning(
                "eventlog.projection_view_empty",
                projection=state.name,
                tables=state.tables,
                reason=f"the log was restored, {state.events:,} events were applied, and the tables are empty",
                advice=f"if the log's schema alone was restored, rebuild the projection: {REBUILD}",
            )

    def forget(self, name: str) -> Op[bool | None]:
        """Delete a projection's cursor; its tables stay.

        False when there is no such projection, None when a worker has it.
        """
        if not (yield from self._lock(name)):
            return None
        ((is_there,),) = yield Query(self._statements["forget_projection"], (name,))
        return bool(is_there)

    def _lock(self, name: str) -> Op[bool]:
        ((is_locked,),) = yield Query(self._statements["lock_projection"], (name,))
        return bool(is_locked)

    def _start(self, projection: Projection) -> Op[None]:
        yield from guarded(projection, projection.setup, "failed to set up its view")
        tables = yield from self._tables(projection)
        params = (projection.name, projection.version, _source(projection), tables)
        yield Query(self._statements["start_projection"], params)
        logger.info("eventlog.projection_started", projection=projection.name, version=projection.version)

    def _tables(self, projection: Projection) -> Op[list[str] | None]:
        """The tables that a projection names, with their schemas. Raises ProjectionError for a missing table."""
        names = getattr(projection, "tables", None)
        if names is None:
            return None
        rows = yield Query(self._statements["projection_tables"], (list(names),))
        for name, full_name in rows:
            if full_name is None:
                raise ProjectionError(
                    f"projection {projection.name!r} names the table {name}, but its `setup` did not create it"
                )
        return [full_name for _, full_name in rows]

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
        """The feed's events, which are decoded when they are used.

        Args:
            since: when the reader began: an event that was relocated earlier is new to it.

        Raises:
            LogBusyError: when an event was erased after it was read.
        """
        events = [
            Event(
                each,
                self._codec,
                self._serde,
                is_replay=each.is_replay and (since is None or each.recorded_at >= since),
                decoder_of=self._decoder_of,
            )
            for each in stored
        ]
        by_stream: dict[Stream, list[Event]] = {}
        for event in events:
            # An event that does not decode raises its error when it is used.
            with suppress(LogCorruptedError):
                if event.needs_state():
                    by_stream.setdefault(event.stream, []).append(event)
        # Grouped by stream: many tasks write to one checkpoint, and its state is put together once.
        for stream, unresolved in by_stream.items():
            if not (yield from self._restate(stream, unresolved)):
                for event in unresolved:
                    yield from self._restate(stream, [event])
        return events

    def _restate(self, stream: Stream, events: list[Event]) -> Op[bool]:
        """Resolve the differences in writes; False when this is not possible for one of the events."""
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
        _warn("eventlog.projection_skipped", projection, event, error)
    return error is not None


def _warn(name: str, projection: Projection, event: Event, error: Exception) -> None:
    logger.warning(
        name,
        projection=projection.name,
        thread_id=event.thread_id,
        checkpoint_ns=event.checkpoint_ns,
        seq=event.seq,
        cursor=str(event.cursor),
        position=event.stored.position,
        reason=str(error),
    )


def _source(projection: Projection) -> str:
    kind = type(projection)
    return f"{kind.__module__}:{kind.__qualname__}"
