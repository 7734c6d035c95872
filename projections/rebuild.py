"""Rebuilding the projections and snapshots from the log alone, in place, while writers and readers go on.

Streams are derived and compared ten at a time, in one read-only transaction with a single view of the log. An append
changes log and projections in one transaction, so a difference is never an append in progress. `check` stops here. A
rebuild then repairs each stream that differs (`projections.repair`).

A row of `rebuilds` records the progress, so a rebuild that was killed can continue. While that row is unfinished, the
log is marked as needing a rebuild, and the first append to a stream searches the log for the stream's last number. Two
rebuilds at once are safe.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import NamedTuple

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.migrations import check_not_newer
from eventlog.db.query import Op, Parallel, Query, Script, single
from eventlog.db.statements import Statements
from eventlog.errors import LogBusyError
from eventlog.feed import start_generation
from eventlog.format.codec import Codec
from eventlog.logger import logger
from eventlog.partitions import check_owner, time_before
from eventlog.settings import Settings
from eventlog.streams import Stream
from projections.compare import TABLES, Comparer, Differences, OnDifference, RowDifference
from projections.derive import Deriver
from projections.repair import Repairer, begin_transaction, events_lost

__all__ = ["OnProgress", "RebuildProgress", "Rebuilder", "Rebuilt"]

#: The number of streams that are listed at a time, and the number in one transaction.
PAGE_STREAMS = 400
BATCH_STREAMS = 10

#: Differences that a result reports in detail; further ones are only counted.
NAMED = 100


class RebuildProgress(NamedTuple):
    """The progress of a rebuild or a comparison."""

    events: int
    """Events done, by this call and by those that it continues."""
    total: int
    """The server's estimate of all events; at least `events`."""
    rate: float
    """Events per second of this call."""
    seconds_left: float | None
    """Estimated seconds to the end; None before the first event."""


#: Is called with the progress from time to time, never twice at once.
OnProgress = Callable[[RebuildProgress], None]


@dataclass(slots=True)
class Rebuilt:
    """The result of a rebuild or a comparison."""

    streams: int
    """Rows of `streams` after the rebuild; for `check`, the rows that it should have."""
    checkpoints: int
    """Rows of `checkpoints`, likewise."""
    snapshots: int
    """Rows of `snapshots`; 0 for `check`."""
    events: int
    """Events read by this call."""
    differing: dict[str, int]
    """By table, the rows that did not match the log; after an interruption, with those of earlier calls."""
    differences: list[RowDifference] = field(default_factory=list)
    """The first 100 differences of this call."""
    locked_seconds: float = 0.0
    """The longest time for which the writers of one stream waited."""


class _Done(NamedTuple):
    """The result for some streams."""

    streams: int
    checkpoints: int
    events: int
    found: list[Differences]
    """Of those that differ."""
    locked_seconds: float = 0.0


class Rebuilder:
    """Rebuilds all streams, or compares them.

    Args:
        statements: for the schema.
        settings: of the saver: the snapshots' floor and the limits.
        serde: the plain serializer, for the metadata.
        codec: decodes and encodes bodies.
    """

    def __init__(self, statements: Statements, settings: Settings, serde: SerializerProtocol, codec: Codec) -> None:
        self._statements = statements
        self._codec = codec
        self._deriver = Deriver(statements, settings, serde, codec)
        self._repairer = Repairer(statements, codec, self._deriver)

    # --- comparing

    def compare_stream(self, stream: Stream) -> Op[Differences]:
        """The differences of one stream. Writes nothing; run it in a transaction of its own.

        Raises:
            LogCorruptedError: as `rebuild`.
        """
        done = yield from self._compare([stream], checks_writes=True)
        return done.found[0] if done.found else Differences(stream)

    def _compare(self, streams: Sequence[Stream], *, checks_writes: bool = False) -> Op[_Done]:
        yield from begin_transaction(b"set transaction isolation level repeatable read, read only")
        done = _Done(0, 0, 0, [])
        for stream in streams:
            comparer = Comparer(self._statements, self._codec, stream)
            derivation = yield from self._deriver.begin(stream, checks_writes=checks_writes)
            while (yield from self._deriver.derive(derivation, comparer)):
                pass
            yield from comparer.end(derivation)
            if comparer.found:
                done.found.append(comparer.found)
            done = done._replace(
                streams=done.streams + bool(derivation.events),
                checkpoints=done.checkpoints + comparer.derived,
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
        yield partial(check_not_newer, self._statements)
        meter = _Meter(on_progress, on_difference, total=(yield self._total))
        rebuilt = Rebuilt(0, 0, 0, 0, meter.differing, meter.differences)
        after: Stream | None = Stream("", "")
        while after is not None:
            page: list[Stream] = yield partial(self._list, after)
            batches = [single(partial(self._compare, each, checks_writes=True)) for each in _batches(page)]
            for done in (yield Parallel(batches, workers, meter.count)):
                rebuilt.streams += done.streams
                rebuilt.checkpoints += done.checkpoints
                rebuilt.events += done.events
            after = page[-1] if len(page) == PAGE_STREAMS else None
        return rebuilt

    def _list(self, after: Stream) -> Op[list[Stream]]:
        rows = yield Query(self._statements["rebuild_streams"], {**after._asdict(), "rows": PAGE_STREAMS})
        return [Stream(*row) for row in rows]

    def _total(self) -> Op[int]:
        ((total,),) = yield Query(self._statements["rebuild_total"])
        return int(total)

    # --- rebuilding

    def rebuild(
        self,
        workers: int,
        on_progress: OnProgress | None,
        on_difference: OnDifference | None,
        *,
        restart: bool,
        accept_loss: bool,
    ) -> Script[Rebuilt]:
        """Repair `streams`, `checkpoints` and `snapshots`.

        Raises:
            EventsLostError: naming the first stream at the end of which events are missing, unless that is accepted.
            LogCorruptedError: naming the first event that does not decode or does not fit, and its position. Once it is
                repaired, the rebuild goes on.
            LogBusyError: when rows of `streams` were deleted meanwhile.
            MissingGrantError: when the user does not own the log.
            DatabaseTooNewError: when a newer version has set up the database.
        """
        yield self._check
        progress: _Progress = yield partial(self._start, restart)
        meter = _Meter(on_progress, on_difference, (yield self._total), progress.events, progress.differing)
        after: Stream | None = progress.after
        while after is not None:
            page: list[Stream] = yield partial(self._list, after)
            batches = [
                self._rebuild(each, progress, progress.expect(each[-1]), accept_loss=accept_loss)
                for each in _batches(page)
            ]
            yield Parallel(batches, workers, meter.count)
            after = page[-1] if len(page) == PAGE_STREAMS else None
        yield partial(self._finish, progress)
        ((streams, checkpoints, snapshots),) = yield self._count
        logger.info(
            "eventlog.rebuilt",
            streams=streams,
            checkpoints=checkpoints,
            snapshots=snapshots,
            locked_seconds=round(meter.locked_seconds, 3),
        )
        return Rebuilt(
            *(streams, checkpoints, snapshots, meter.events, meter.differing, meter.differences, meter.locked_seconds)
        )

    def _check(self) -> Op[None]:
        """Check that no newer version set up the database, and that the user owns the log."""
        yield from check_not_newer(self._statements)
        yield from check_owner(self._statements, "rebuild its projections")

    def _start(self, restart: bool) -> Op[_Progress]:
        """Continue the unfinished rebuild, or begin a new one."""
        params = {"generation": (yield from start_generation(self._statements)), "restart": restart}
        yield Query(self._statements["rebuild_restart"], params, returns=False)
        ((id_, losses, thread_id, ns, events, *counts),) = yield Query(self._statements["rebuild_start"], params)
        return _Progress(id_, losses, Stream(thread_id, ns), events, dict(zip(TABLES, counts, strict=True)))

    def _rebuild(self, streams: list[Stream], progress: _Progress, number: int, *, accept_loss: bool) -> Script[_Done]:
        """Compare some streams, and repair those that differ."""
        done: _Done = yield partial(self._compare, streams)
        locked = 0.0
        for found in done.found:
            if found.lost is not None and not accept_loss:
                raise events_lost(found.stream, *found.lost)
            locked = max(locked, (yield from self._repairer.repair(found.stream, accept_loss=accept_loss)))
        yield partial(self._advance, progress.complete(number, done))
        return done._replace(locked_seconds=locked)

    def _advance(self, params: dict[str, object]) -> Op[None]:
        yield from check_not_newer(self._statements)
        yield Query(self._statements["rebuild_advance"], params, returns=False)

    def _finish(self, progress: _Progress) -> Op[None]:
        yield from check_not_newer(self._statements)
        at = yield from time_before(self._statements, timedelta(0))
        params = {"id": progress.id, "losses": progress.losses, "at": at}
        if not (yield Query(self._statements["rebuild_finish"], params)):
            raise LogBusyError("rows of `streams` were deleted during the rebuild: run it again")

    def _count(self) -> Op[list[tuple[int, int, int]]]:
        return (yield Query(self._statements["rebuild_counts"]))


def _batches(streams: list[Stream]) -> list[list[Stream]]:
    return [streams[at : at + BATCH_STREAMS] for at in range(0, len(streams), BATCH_STREAMS)]


@dataclass(slots=True)
class _Progress:
    """The progress of a rebuild. Batches end in any order; a batch counts when all batches before it are done."""

    id: int
    losses: int
    after: Stream
    """The last stream up to which all are done."""
    events: int
    differing: dict[str, int]
    _expected: list[Stream] = field(default_factory=list)
    """The last stream of each batch, in their order."""
    _next: int = 0
    _done: dict[int, _Done] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(self, last: Stream) -> int:
        """Another batch begins; returns its number."""
        self._expected.append(last)
        return len(self._expected) - 1

    def complete(self, number: int, done: _Done) -> dict[str, object]:
        """A batch is done; returns the values to store."""
        with self._lock:
            self._done[number] = done
            while self._next in self._done:
                each = self._done.pop(self._next)
                self.after = self._expected[self._next]
                self.events += each.events
                for found in each.found:
                    found.add_to(self.differing)
                self._next += 1
            return {
                **self.after._asdict(),
                "id": self.id,
                "losses": self.losses,
                "events": self.events,
                **self.differing,
            }


class _Meter:
    """Counts finished batches and reports progress."""

    def __init__(
        self,
        on_progress: OnProgress | None,
        on_difference: OnDifference | None,
        total: int,
        before: int = 0,
        differing: dict[str, int] | None = None,
    ) -> None:
        self._on_progress = on_progress
        self._on_difference = on_difference
        self._total = total
        self._before = before
        self._started = time.monotonic()
        self.events = 0
        self.differing = dict(differing or dict.fromkeys(TABLES, 0))
        self.differences: list[RowDifference] = []
        self.locked_seconds = 0.0

    def count(self, _: int, done: _Done) -> None:
        """A batch is done."""
        self.events += done.events
        self.locked_seconds = max(self.locked_seconds, done.locked_seconds)
        for found in done.found:
            found.add_to(self.differing)
            self.differences += found.examples[: NAMED - len(self.differences)]
            if self._on_difference is not None:
                for difference in found.examples:
                    self._on_difference(difference)
        if self._on_progress is not None:
            events = self._before + self.events
            total = max(self._total, events)
            rate = self.events / max(time.monotonic() - self._started, 1e-6)
            self._on_progress(RebuildProgress(events, total, rate, (total - events) / rate if rate else None))
