"""Repairing the rows of one stream in place, while others append to it.

A page of events is derived and compared without a lock. Only if rows differ is the stream's row in `streams` locked,
for as long as writing them takes. At the end, events that arrived meanwhile are derived under the lock: at most 50,
else another page comes first. So an append waits for milliseconds, however long the stream is.

Derived rows stay right as long as no event of the stream is erased and no checkpoint replaced. Both raise the stream's
*epoch*. The lock is taken only with the epoch that was read before the first page; if it changed, the stream is begun
again. The first lock raises the epoch too, because writers may have read wrong rows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from psycopg import errors as pg
from psycopg import sql

from eventlog.db.query import Op, Query, Script
from eventlog.db.statements import Statements
from eventlog.errors import EventsLostError, InvalidInputError, LogBusyError, LogCorruptedError
from eventlog.format.codec import Codec
from eventlog.streams import Stream
from projections.compare import KEYS, Comparer, What, surplus_keys
from projections.derive import Derivation, Deriver
from snapshots.state import CheckpointState

__all__ = ["Repairer", "begin_transaction", "events_lost"]

#: Events that are derived at a time, and at most under the lock.
PAGE_EVENTS = 50
CATCH_UP_EVENTS = 50

#: How often a stream is begun again because its epoch changed.
TRIES = 100


class _Changes(Comparer):
    """Collects the changes that repair the rows."""

    def __init__(self, statements: Statements, codec: Codec, stream: Stream) -> None:
        super().__init__(statements, codec, stream)
        self._differing: list[str] = []
        self.rows: list[str] = []
        self.snapshots: list[tuple[int, datetime | None, bytes]] = []

    def state(self, stream: Stream, frame: CheckpointState, *, is_due: bool) -> Op[None]:
        before = self.found.counts["snapshots"]
        yield from super().state(stream, frame, is_due=is_due)
        if self.found.counts["snapshots"] > before or (is_due and frame.seq not in self._live):
            body = self._codec.encode_snapshot(frame.versions, frame.seen, frame.channels)
            self.snapshots.append((frame.seq, frame.recorded_at, body))

    def checkpoints(self, stream: Stream, rows: dict[str, str]) -> Op[None]:
        yield from super().checkpoints(stream, rows)
        self.rows += [rows[id_] for id_ in self._differing]
        self._differing.clear()

    def _add(self, table: str, key: str, what: What, *values: Any) -> None:
        super()._add(table, key, what, *values)
        if table == "checkpoints":
            self._differing.append(key)


class _Place(NamedTuple):
    """The progress of a stream's repair."""

    derivation: Derivation
    epoch: int | None
    """The stream's; None: it has no row, and no events."""
    is_raised: bool = False
    is_done: bool = False
    locked_seconds: float = 0.0


class Repairer:
    """Repairs streams.

    Args:
        statements: for the schema.
        codec: decodes and encodes snapshots.
        deriver: derives streams.
    """

    def __init__(self, statements: Statements, codec: Codec, deriver: Deriver) -> None:
        self._statements = statements
        self._codec = codec
        self._deriver = deriver

    def repair(self, stream: Stream, *, accept_loss: bool) -> Script[float]:
        """Write the rows that differ; returns the longest time that writers waited, in seconds.

        Args:
            accept_loss: record events that are missing at the end of the stream.

        Raises:
            EventsLostError: when events are missing at the end, and that is not accepted.
            LogBusyError: when the stream's epoch changed during each try.
            LogCorruptedError: naming the first event that does not decode or does not fit, and its position.
        """
        for _ in range(TRIES):
            place: _Place | None = yield partial(self._begin, stream)
            longest = 0.0
            while place is not None:
                epoch = place.epoch
                try:
                    place = yield partial(self._page, place, accept_loss=accept_loss)
                except LogCorruptedError:
                    # The base of an event may have been erased since the epoch was read.
                    if (yield partial(self._epoch, stream)) == epoch:
                        raise
                    place = None
                if place is not None:
                    longest = max(longest, place.locked_seconds)
                    if place.is_done:
                        return longest
        raise LogBusyError(
            f"checkpoints of thread {stream.thread_id!r} were erased or replaced during each of {TRIES} tries: run the "
            "rebuild again, it continues where it stopped"
        )

    def _begin(self, stream: Stream) -> Op[_Place]:
        yield Query(self._statements["rebuild_adopt"], stream)
        epoch = yield from self._epoch(stream)
        return _Place((yield from self._deriver.begin(stream)), epoch)

    def _epoch(self, stream: Stream) -> Op[int | None]:
        rows = yield Query(self._statements["rebuild_epoch"], stream)
        return rows[0][0] if rows else None

    def _page(self, place: _Place, *, accept_loss: bool) -> Op[_Place | None]:
        """Derive the next page, and write the rows that differ; None: the epoch has changed."""
        yield from begin_transaction(b"set transaction isolation level read committed")
        stream = place.derivation.stream
        # The operation may be tried again.
        derivation = replace(place.derivation)
        changes = _Changes(self._statements, self._codec, stream)
        has_more = yield from self._deriver.derive(derivation, changes, PAGE_EVENTS)
        if has_more and not changes.rows and not changes.snapshots:
            return place._replace(derivation=derivation, locked_seconds=0.0)
        surplus: dict[str, list[Any]] = {}
        if not has_more:
            for table in KEYS:
                surplus[table] = yield from surplus_keys(self._statements, derivation, table, PAGE_EVENTS)

        params = {**stream._asdict(), "epoch": place.epoch, "raises": not place.is_raised}
        locked = yield Query(self._statements["rebuild_lock"], params)
        started = time.monotonic()
        if not locked and (place.epoch is not None or derivation.seq):
            return None
        if not has_more:
            has_more = yield from self._deriver.derive(derivation, changes, CATCH_UP_EVENTS)
        if changes.rows:
            yield Query(self._statements["rebuild_put_checkpoints"], (f"[{', '.join(changes.rows)}]",), returns=False)
        for snapshot in changes.snapshots:
            yield Query(self._statements["rebuild_put_snapshot"], (*stream, *snapshot), returns=False)
        for table, keys in surplus.items():
            if keys:
                yield from self._delete_surplus(stream, table, keys, is_locked=bool(locked))
                has_more = has_more or len(keys) == PAGE_EVENTS
        epoch = None
        if locked:
            ((epoch, *tip),) = locked
            if not has_more:
                yield from self._put_stream(derivation, *tip, accept_loss=accept_loss)
        return _Place(derivation, epoch, True, not has_more, time.monotonic() - started)

    def _delete_surplus(self, stream: Stream, table: str, keys: list[Any], *, is_locked: bool) -> Op[None]:
        statement = self._statements.compose(
            self._statements.template("rebuild_delete_surplus"),
            table=sql.Identifier(table),
            key=sql.Identifier(KEYS[table]),
        )
        params = {**stream._asdict(), "keys": keys, "is_locked": is_locked}
        yield Query(statement, params, returns=False)

    def _put_stream(
        self, derivation: Derivation, seq: int, digest: str, erased_through: str, *, accept_loss: bool
    ) -> Op[None]:
        """Repair the row of `streams`, which is locked, after all events were derived."""
        stream, last = derivation.stream, derivation.seq
        if seq > last and not accept_loss:
            raise events_lost(stream, last, seq)
        yield Query(self._statements["rebuild_put_stream"], (derivation.row(),), returns=False)
        if seq > last:
            params: Mapping[str, Any] = {
                **stream._asdict(),
                "through": derivation.erased_through or erased_through,
                "first": last + 1,
                "last": seq,
                "digest": digest,
            }
            yield Query(self._statements["rebuild_record_loss"], params)


def begin_transaction(statement: bytes) -> Op[None]:
    """Set the isolation of a transaction. This must be its first statement."""
    try:
        yield Query(statement, returns=False)
    except pg.ActiveSqlTransaction as exc:
        raise InvalidInputError(
            "a rebuild needs transactions of its own: commit or roll back the connection's transaction first"
        ) from exc


def events_lost(stream: Stream, last: int, expected: int) -> EventsLostError:
    """The error that names both numbers."""
    thread_id, ns = stream
    missing = f"{expected}" if expected == last + 1 else f"{last + 1} to {expected}"
    there = f"event {last} is the last one in the log" if last else "the log has no event of it"
    error = EventsLostError(
        f"events are missing in thread {thread_id!r}, namespace {ns!r}: `streams` has number {expected}, and {there}. "
        f"Restore {missing} from a backup, or run rebuild(accept_loss=True) (eventlog rebuild --accept-loss), which "
        "records the loss"
    )
    error.thread_id, error.checkpoint_ns, error.last_seq, error.expected_seq = thread_id, ns, last, expected
    return error
