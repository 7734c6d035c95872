"""Rebuilding the projections and the snapshots from the log alone, while writers and readers go on.

First all streams are derived into side tables, in batches; then those to which something was appended meanwhile, round
after round; then, under a short lock, the last of them, and the tables change places (`projections.swap` has the
argument why nothing is missed). On the way each stream is compared with the live tables.

Every batch is one transaction, and says what it did by the rows that it leaves. So a rebuild that was killed goes on
where it was: what the side tables have is not derived again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple
from uuid import uuid4

from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg import errors as pg

from eventlog.db.query import MakeOp, Op, Parallel, Pause, Query, Script
from eventlog.db.statements import Statements
from eventlog.errors import EventLogError, InvalidInputError, LogBusyError
from eventlog.format.codec import Codec
from eventlog.logger import logger
from eventlog.settings import Settings
from eventlog.streams import Stream
from projections.compare import (
    TABLES,
    Comparer,
    Differences,
    OnDifference,
    RowDifference,
    stray_streams,
)
from projections.derive import Derivation, Deriver
from projections.side_tables import ONE_MOMENT, ONE_MOMENT_READ_ONLY, Done, Side
from projections.swap import State, Swapped, Swapper

__all__ = ["OnProgress", "RebuildProgress", "Rebuilder", "Rebuilt"]

#: Streams that are listed at a time, and those of one transaction.
PAGE_STREAMS = 400
BATCH_STREAMS = 10

#: How long a call watches a rebuild that another one has claimed, before it takes that one for dead, and the pauses
#: between two looks, in seconds.
WATCH_SECONDS = 2.0
WATCH_PAUSE_SECONDS = 0.1

#: Rounds of catching up before the lock is tried for the first time, unless one finds that so few streams had changed.
ROUNDS = 5
FEW_STREAMS = 20

#: How often changing places is tried, and the pauses between, in seconds.
SWAP_ATTEMPTS = 60
SWAP_PAUSE_SECONDS = 0.1

#: Differences that a result names; the rest is counted.
NAMED = 100


class RebuildProgress(NamedTuple):
    """How far a rebuild or a comparison is."""

    events: int
    """Done, in this call and in those that it goes on with."""
    total: int
    """The server's estimate of how many there are; at least `events`."""
    rate: float
    """Events per second of this call."""
    seconds_left: float | None
    """By that rate; None as long as nothing was done."""


#: Told of the progress, now and then, never twice at a time.
OnProgress = Callable[[RebuildProgress], None]


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild did, or a comparison found."""

    streams: int
    """Rows that the table has now; of a comparison, that it should have."""
    checkpoints: int
    snapshots: int
    """Of a comparison 0: how many there are is left to chance."""
    events: int
    """That were read, by this call."""
    differing: dict[str, int]
    """By table: rows that were not what the log says."""
    differences: list[RowDifference] = field(default_factory=list)
    """The first of them, by thread and namespace."""
    locked_seconds: float = 0.0
    """How long readers and writers had to wait."""


class Rebuilder:
    """Rebuilds all streams, or compares them.

    Args:
        statements: for the schema.
        settings: of the saver: the snapshots' floor and the limits.
        serde: the plain serializer, for the metadata.
        codec: decodes and encodes bodies.
        is_encrypted: whether the codec encrypts.
    """

    def __init__(
        self,
        statements: Statements,
        settings: Settings,
        serde: SerializerProtocol,
        codec: Codec,
        *,
        is_encrypted: bool,
    ) -> None:
        self._statements = statements
        self._codec = codec
        self._comparing = Deriver(statements, settings, serde, codec, reads_side=False)
        self._side = Side(statements, codec, Deriver(statements, settings, serde, codec, reads_side=True))
        self._swapper = Swapper(statements, settings, uuid4().hex, is_encrypted=is_encrypted)

    # --- comparing

    def compare_stream(self, stream: Stream) -> Op[list[RowDifference]]:
        """The differences of one stream, the first of them. Writes nothing; run it in a transaction of its own.

        Raises:
            LogCorruptedError: as `rebuild`.
        """
        done = yield from self._compare([stream])
        return [difference for found in done.found for difference in found.examples]

    def _compare(self, streams: Sequence[Stream]) -> Op[Done]:
        yield from _in_one_moment(ONE_MOMENT_READ_ONLY)
        done = Done(0, 0, 0, [])
        for stream in streams:
            comparer = Comparer(self._statements, self._codec)
            derivation = Derivation(stream)
            yield from self._comparing.derive(derivation, (comparer,))
            if comparer.found:
                done.found.append(comparer.found)
            done = done._replace(
                streams=done.streams + bool(derivation.events),
                checkpoints=done.checkpoints + comparer.rows,
                events=done.events + derivation.events,
            )
        return done

    def check(
        self, workers: int, on_progress: OnProgress | None, on_difference: OnDifference | None
    ) -> Script[Rebuilt]:
        """Derive everything and compare it with what is there. Writes nothing.

        Raises:
            LogCorruptedError, DatabaseTooNewError: as `rebuild`.
        """
        yield self._swapper.check_version
        meter = _Meter(on_progress, on_difference, total=(yield self._total))
        after: Stream | None = Stream("", "")
        rebuilt = Rebuilt(0, 0, 0, 0, meter.differing, meter.differences)
        while after is not None:
            page = yield partial(self._list, after)
            for done in (yield _together(partial(partial, self._compare), page, workers, meter)):
                rebuilt.streams += done.streams
                rebuilt.checkpoints += done.checkpoints
                rebuilt.events += done.events
            after = page[-1] if len(page) == PAGE_STREAMS else None
        for table in TABLES:
            after = Stream("", "")
            while after is not None:
                strays, after = yield partial(self._strays, table, after)
                meter.tell(strays)
        return rebuilt

    def _strays(self, table: str, after: Stream) -> Op[tuple[list[RowDifference], Stream | None]]:
        return (yield from stray_streams(self._statements, table, after, PAGE_STREAMS))

    def _list(self, after: Stream) -> Op[list[Stream]]:
        rows = yield Query(self._statements["rebuild_streams"], {**after._asdict(), "rows": PAGE_STREAMS})
        return [Stream(*row) for row in rows]

    def _total(self) -> Op[int]:
        ((total,),) = yield Query(self._statements["rebuild_total"])
        return int(total)

    # --- rebuilding

    def rebuild(
        self, workers: int, on_progress: OnProgress | None, on_difference: OnDifference | None, *, restart: bool
    ) -> Script[Rebuilt]:
        """Rebuild `streams`, `checkpoints` and `snapshots`.

        Raises:
            LogCorruptedError: naming the first event that does not decode or does not fit, and its position. The live
                tables are as they were; once it is repaired, the rebuild goes on.
            LogBusyError: when another rebuild is under way, or the tables could not be locked for long.
            MissingGrantError: when the user does not own the log.
            StorageError: when something hangs on the tables that would stay with the old ones.
            DatabaseTooNewError: when a newer version has set up the database.
        """
        yield self._swapper.check
        state = yield from self._start(restart)
        try:
            return (yield from self._rebuild(state, workers, on_progress, on_difference))
        except EventLogError:
            try:
                yield partial(self._swapper.release, state)
            except EventLogError as exc:
                # What went wrong first is what matters. The next call waits a little longer.
                logger.debug("eventlog.rebuild_not_released", error=str(exc))
            raise

    def _start(self, restart: bool) -> Script[State]:
        first: tuple[int, datetime] | None = yield self._swapper.look
        waited = 0.0
        while first is not None and waited < WATCH_SECONDS:
            yield Pause(WATCH_PAUSE_SECONDS)
            waited += WATCH_PAUSE_SECONDS
            again = yield self._swapper.look
            if again is None:
                break
            if again != first:
                raise LogBusyError("another rebuild is running: wait until it has ended")
        state: State = yield partial(self._swapper.start, restart=restart)
        return state

    def _rebuild(
        self, state: State, workers: int, on_progress: OnProgress | None, on_difference: OnDifference | None
    ) -> Script[Rebuilt]:
        before = state.events
        meter = _Meter(on_progress, on_difference, total=(yield self._total), before=before)
        while not state.is_listed:
            page = yield partial(self._list, state.after)
            yield from self._derive(state, page, workers, meter)
            state.is_listed = len(page) < PAGE_STREAMS
            if page:
                state.after = page[-1]
            if state.is_listed:
                yield from self._look_for_strays(state, meter)
            yield partial(self._swapper.advance, state, meter.take_events())
        swapped = yield from self._finish(state, workers, meter)
        ((streams, checkpoints, snapshots),) = yield self._count
        found: Differences = yield partial(self._side.differences, state.id, NAMED)
        logger.info(
            "eventlog.rebuilt",
            streams=streams,
            checkpoints=checkpoints,
            snapshots=snapshots,
            locked_seconds=round(swapped.locked_seconds, 3),
            **{f"differing_{table}": count for table, count in found.counts.items()},
        )
        return Rebuilt(
            streams, checkpoints, snapshots, meter.events, found.counts, found.examples, swapped.locked_seconds
        )

    def _derive(self, state: State, streams: list[Stream], workers: int, meter: _Meter) -> Script[int]:
        """Bring streams up to date; returns how many had to be."""
        results = yield _together(partial(partial, self._batch, state), streams, workers, meter)
        return sum(done.streams for done in results)

    def _batch(self, state: State, streams: Sequence[Stream]) -> Op[Done]:
        yield from _in_one_moment(ONE_MOMENT)
        yield from self._swapper.hold(state)
        return (yield from self._side.bring_up_to_date(state.id, streams))

    def _look_for_strays(self, state: State, meter: _Meter) -> Script[None]:
        for table in TABLES:
            after: Stream | None = Stream("", "")
            while after is not None:
                strays, after = yield partial(self._strays, table, after)
                meter.tell(strays)
                for stray in strays:
                    yield partial(self._side.remember_stray, state.id, stray)

    def _catch_up(self, state: State, workers: int, meter: _Meter) -> Script[int]:
        """One round; returns how many streams it brought up to date."""
        since, dropped = yield partial(self._swapper.now, state)
        if dropped != state.dropped:
            yield self._side.sweep
        count = 0
        after: Stream | None = Stream("", "")
        while after is not None:
            page = yield partial(self._swapper.changed, state, after, PAGE_STREAMS)
            if page:
                count += yield from self._derive(state, page, workers, meter)
            after = page[-1] if len(page) == PAGE_STREAMS else None
        state.since, state.dropped = since, dropped
        yield partial(self._swapper.advance, state, meter.take_events())
        return count

    def _finish(self, state: State, workers: int, meter: _Meter) -> Script[Swapped]:
        for _ in range(ROUNDS):
            if (yield from self._catch_up(state, workers, meter)) <= FEW_STREAMS:
                break
        yield self._analyze
        for attempt in range(1, SWAP_ATTEMPTS + 1):
            try:
                swapped = yield partial(self._swapper.swap, state, self._side, attempt)
            except LogBusyError:
                if attempt == SWAP_ATTEMPTS:
                    raise
                swapped = None
                yield Pause(SWAP_PAUSE_SECONDS)
            if swapped is not None:
                assert isinstance(swapped, Swapped)
                if swapped.done.events:
                    meter.count(0, swapped.done)
                return swapped
            yield from self._catch_up(state, workers, meter)
        raise LogBusyError(
            "writers append faster than the rebuild derives. The rebuilt rows are kept: run it again at a quieter "
            "time, and it continues"
        )

    def _analyze(self) -> Op[None]:
        """The planner is to know the tables from their first day."""
        yield Query(self._statements["rebuild_analyze"], returns=False)

    def _count(self) -> Op[list[tuple[Any, ...]]]:
        return (yield Query(self._statements["rebuild_counts"]))


def _together(
    make: Callable[[list[Stream]], MakeOp[Done]], streams: list[Stream], workers: int, meter: _Meter
) -> Parallel:
    batches = [streams[at : at + BATCH_STREAMS] for at in range(0, len(streams), BATCH_STREAMS)]
    return Parallel([make(batch) for batch in batches], workers, meter.count)


def _in_one_moment(query: Query) -> Op[None]:
    try:
        yield query
    except pg.ActiveSqlTransaction as exc:
        raise InvalidInputError(
            "a rebuild needs transactions of its own: commit or roll back the connection's transaction first"
        ) from exc


class _Meter:
    """Counts what is done, and tells of it."""

    def __init__(
        self, on_progress: OnProgress | None, on_difference: OnDifference | None, total: int, before: int = 0
    ) -> None:
        self._on_progress = on_progress
        self._on_difference = on_difference
        self._total = total
        self._before = before
        self._started = time.monotonic()
        self._taken = 0
        self.events = 0
        self.differing = dict.fromkeys(TABLES, 0)
        self.differences: list[RowDifference] = []

    def count(self, _: int, done: Done) -> None:
        """A batch is done."""
        self.events += done.events
        for found in done.found:
            for table, count in found.counts.items():
                self.differing[table] += count
            self._name(found.examples)
        if self._on_progress is not None:
            events = self._before + self.events
            total = max(self._total, events)
            rate = self.events / max(time.monotonic() - self._started, 1e-6)
            self._on_progress(RebuildProgress(events, total, rate, (total - events) / rate if rate else None))

    def tell(self, strays: list[RowDifference]) -> None:
        """Streams that no event speaks for."""
        for stray in strays:
            self.differing[stray.table] += 1
        self._name(strays)

    def _name(self, differences: list[RowDifference]) -> None:
        self.differences += differences[: NAMED - len(self.differences)]
        if self._on_difference is not None:
            for difference in differences:
                self._on_difference(difference)

    def take_events(self) -> int:
        """Events since this was asked the last time."""
        taken, self._taken = self._taken, self.events
        return self.events - taken
