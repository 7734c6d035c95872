"""The side tables of a rebuild: streams are brought up to date in them, and compared with the live ones on the way.

What has to be derived anew, and what can be gone on with, is decided stream by stream:

* Every change of what is derived from a stream appends an event to it with a higher number. Appends do, and so does
  whatever erases, carries forward or copies: it appends a record in the same transaction. So a stream is up to date
  when there is no event above the last one that was derived.
* What was appended since can be derived on top, unless there is a record (kind above 2) among it: then what was derived
  may have lost its events, and the stream is derived from its first event again.
* A stream of which nothing but records was left goes with its partition, without an event. If it is begun again, its
  numbers start at 1 again. So the last event that was derived must still be there, by number and digest. The streams
  that are gone for good are looked for when a partition was dropped (`sweep`).

The whole decision and the derivation see one moment of the log (repeatable read), whoever appends or erases meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.format.codec import Codec
from eventlog.streams import Stream
from projections.compare import Comparer, Differences, RowDifference, examples_json
from projections.derive import CheckpointRows, Derivation, Deriver
from snapshots.state import CheckpointState

__all__ = ["ONE_MOMENT", "ONE_MOMENT_READ_ONLY", "Done", "Side"]

#: The first statement of a transaction that derives.
ONE_MOMENT = Query(b"set transaction isolation level repeatable read", returns=False)
ONE_MOMENT_READ_ONLY = Query(b"set transaction isolation level repeatable read, read only", returns=False)


class Done(NamedTuple):
    """What was done to some streams."""

    streams: int
    """That were derived, or gone on with: not those that were up to date."""
    checkpoints: int
    events: int
    found: list[Differences]
    """Of those streams that differ."""


class _Writer:
    """A sink that writes to the side tables."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements

    def page(self, stream: Stream, after: int, last: int) -> Op[None]:
        yield from ()

    def state(self, stream: Stream, frame: CheckpointState, snapshot: bytes | None) -> Op[None]:
        if snapshot is not None:
            params = (*stream, frame.seq, frame.recorded_at, snapshot)
            yield Query(self._statements["rebuild_put_snapshot"], params, returns=False)

    def checkpoints(self, stream: Stream, rows: CheckpointRows) -> Op[None]:
        if rows.replaced:
            params = {**stream._asdict(), "ids": rows.replaced}
            yield Query(self._statements["rebuild_clear_checkpoints"], params, returns=False)
        yield Query(self._statements["rebuild_put_checkpoints"], (rows.json,), returns=False)

    def end(self, derivation: Derivation) -> Op[None]:
        yield Query(self._statements["rebuild_clear_stream"], derivation.stream, returns=False)
        yield Query(self._statements["rebuild_put_stream"], (derivation.row(),), returns=False)


class Side:
    """The side tables.

    Args:
        statements: for the schema.
        codec: decodes bodies.
        deriver: derives streams, with the side tables' own snapshots.
    """

    def __init__(self, statements: Statements, codec: Codec, deriver: Deriver) -> None:
        self._statements = statements
        self._codec = codec
        self._deriver = deriver

    def bring_up_to_date(self, rebuild_id: int, streams: Sequence[Stream]) -> Op[Done]:
        """Derive what the side tables lack of streams, and compare it. Run it in a transaction that sees one moment."""
        done = Done(0, 0, 0, [])
        for stream in streams:
            derivation = yield from self._start(rebuild_id, stream)
            if derivation is None:
                continue
            comparer = Comparer(self._statements, self._codec)
            yield from self._deriver.derive(derivation, (_Writer(self._statements), comparer))
            if comparer.found:
                yield from self._remember(rebuild_id, stream, comparer.found)
                done.found.append(comparer.found)
            done = done._replace(
                streams=done.streams + 1,
                checkpoints=done.checkpoints + comparer.rows,
                events=done.events + derivation.events,
            )
        return done

    def _start(self, rebuild_id: int, stream: Stream) -> Op[Derivation | None]:
        """From where to derive a stream; None when it is up to date."""
        rows = yield Query(self._statements["rebuild_derived"], stream)
        if not rows:
            return Derivation(stream)
        ((seq, epoch, latest_id, written, erased, begins_at, active_at, last_seq, is_cut),) = rows
        if is_cut:
            everything = {**stream._asdict(), "ids": None}
            yield Query(self._statements["rebuild_clear_stream"], stream, returns=False)
            yield Query(self._statements["rebuild_clear_checkpoints"], everything, returns=False)
            yield Query(self._statements["rebuild_clear_snapshots"], stream, returns=False)
            yield Query(self._statements["rebuild_clear_differences"], (rebuild_id, *stream), returns=False)
            return Derivation(stream)
        if last_seq is None:
            return None
        return Derivation(
            stream,
            seq,
            epoch,
            latest_checkpoint_id=latest_id,
            written_through=written,
            erased_through=erased,
            begins_at=begins_at,
            active_at=active_at,
            is_continued=True,
        )

    def _remember(self, rebuild_id: int, stream: Stream, found: Differences) -> Op[None]:
        params = (rebuild_id, *stream, *found.counts.values(), examples_json(found.examples))
        yield Query(self._statements["rebuild_put_differences"], params, returns=False)

    def remember_stray(self, rebuild_id: int, stray: RowDifference) -> Op[None]:
        """Remember a stream without events."""
        found = Differences()
        found.add(stray)
        yield from self._remember(rebuild_id, Stream(*stray[:2]), found)

    def sweep(self) -> Op[None]:
        """Take out the streams that went with their partitions."""
        yield Query(self._statements["rebuild_sweep"], returns=False)

    def differences(self, rebuild_id: int, limit: int) -> Op[Differences]:
        """How many rows of the live tables differ, and the first of them."""
        ((streams, checkpoints, snapshots),) = yield Query(self._statements["rebuild_sum_differences"], (rebuild_id,))
        rows = yield Query(self._statements["rebuild_name_differences"], (rebuild_id, limit))
        examples = [
            RowDifference(thread_id, ns, table, key, what, tuple(columns), tuple(live), tuple(derived))
            for thread_id, ns, table, key, what, columns, live, derived in rows
        ]
        return Differences({"streams": streams, "checkpoints": checkpoints, "snapshots": snapshots}, examples)
