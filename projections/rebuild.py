"""Rebuilding the projections and the snapshots from the log alone.

Reads every stream's events in order and derives the same rows that appending left behind. Runs in one transaction with
the projections locked: writers and readers wait, and a log that does not decode leaves everything as it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.codec import Codec, loads
from eventlog.errors import LogCorruptedError
from eventlog.events import Kind
from eventlog.frames import Frame
from eventlog.identity import Stream
from eventlog.log import logger
from eventlog.operations import Op, Query
from eventlog.reading import StoredEvent
from eventlog.settings import Settings
from eventlog.statements import Statements
from projections.fold import Folder
from projections.metadata import run_id_of, searchable_json
from snapshots import encode, follow

__all__ = ["Rebuilder", "Rebuilt"]

#: Events that are in memory at a time.
PAGE_EVENTS = 100


class Rebuilt(NamedTuple):
    """How many rows each table has now."""

    streams: int
    checkpoints: int
    snapshots: int


class _Row(NamedTuple):
    """One row of `checkpoints`, in the order of the statement."""

    checkpoint_id: str
    seq: int
    recorded_at: datetime
    first_at: datetime
    parent_id: str | None
    keyframe_seq: int
    keyframe_at: datetime | None
    state_bytes: int
    run_id: str | None
    metadata: str


@dataclass(slots=True)
class _Derived:
    """What one stream's events amount to."""

    rows: dict[str, _Row]
    seq: int = 0
    epoch: int = 0
    digest: bytes = b""
    xid: str = "0"
    written_through: str | None = None
    erased_through: str | None = None
    active_at: datetime | None = None
    updated_at: datetime | None = None
    snapshots: int = 0


class Rebuilder:
    """Rebuilds all streams.

    Args:
        statements: for the schema.
        settings: of the saver: the snapshots' floor and the limits.
        serde: the plain serializer, for the metadata.
        codec: decodes bodies.
    """

    def __init__(self, statements: Statements, settings: Settings, serde: SerializerProtocol, codec: Codec) -> None:
        self._statements = statements
        self._settings = settings
        self._serde = serde
        self._codec = codec

    def rebuild(self) -> Op[Rebuilt]:
        """Rebuild `streams`, `checkpoints` and `snapshots`. Run it in one transaction.

        Raises:
            LogCorruptedError: naming the first event that does not decode or does not fit.
        """
        yield Query(self._statements["rebuild_clear"], returns=False)
        streams = yield Query(self._statements["rebuild_streams"])
        checkpoints = snapshots = 0
        for names in streams:
            derived = yield from self._derive(Stream(*names))
            checkpoints += len(derived.rows)
            snapshots += derived.snapshots
        logger.info("eventlog.rebuilt", streams=len(streams), checkpoints=checkpoints, snapshots=snapshots)
        return Rebuilt(len(streams), checkpoints, snapshots)

    def _derive(self, stream: Stream) -> Op[_Derived]:
        folder = Folder(self._codec, stream, self._settings.max_body_bytes)
        ((begins_at,),) = yield Query(self._statements["rebuild_begins_at"], stream)
        needed_until: dict[int, int] = dict((yield Query(self._statements["rebuild_bases"], (*stream, begins_at))))
        frames: dict[int, Frame] = {}
        derived = _Derived({})
        while True:
            params = (*stream, begins_at, derived.seq, PAGE_EVENTS)
            events = yield Query(self._statements["rebuild_events"], params)
            for seq, kind, checkpoint_id, base_seq, recorded_at, as_of, first_at, digest, xid, body in events:
                derived.seq, derived.digest, derived.xid, derived.updated_at = seq, bytes(digest), xid, recorded_at
                if kind in (Kind.CHECKPOINT_SAVED, Kind.WRITES_SAVED):
                    saved_at = as_of or recorded_at
                    derived.active_at = max(derived.active_at or saved_at, saved_at)
                else:
                    # What was erased is not in the log: it needs no undoing.
                    derived.epoch, derived.erased_through = seq, checkpoint_id or None
                if kind == Kind.WRITES_SAVED:
                    derived.written_through = max(derived.written_through or "", checkpoint_id)
                elif kind == Kind.CHECKPOINT_SAVED:
                    stored = StoredEvent(seq, base_seq, recorded_at, body)
                    frame, snapshot = self._fold(folder, frames, stored, checkpoint_id)
                    earlier = derived.rows.get(checkpoint_id)
                    if earlier is not None:
                        derived.epoch = seq
                    derived.rows[checkpoint_id] = self._row(
                        frame, earlier.first_at if earlier else first_at or recorded_at
                    )
                    if snapshot is not None:
                        derived.snapshots += 1
                        put = (*stream, seq, recorded_at, snapshot)
                        yield Query(self._statements["rebuild_put_snapshot"], put, returns=False)
                    if seq in needed_until:
                        frames[seq] = frame
                for base in [base for base in frames if needed_until[base] <= seq]:
                    del frames[base]
            if len(events) < PAGE_EVENTS:
                break
        yield from self._store(stream, derived, begins_at)
        return derived

    def _fold(
        self, folder: Folder, frames: dict[int, Frame], stored: StoredEvent, checkpoint_id: str
    ) -> tuple[Frame, bytes | None]:
        base = None
        if stored.base_seq is not None:
            base = frames.get(stored.base_seq)
            if base is None:
                raise LogCorruptedError(
                    f"{folder.where(stored.seq)} builds on event {stored.base_seq}, which is missing"
                )
        frame = folder.advance(base, stored, checkpoint_id)
        due = follow(frame, base, len(stored.body), self._settings)
        if due or base is None:
            frame.keyframe_seq, frame.keyframe_at = stored.seq, stored.recorded_at
        return frame, encode(self._codec, frame) if due else None

    def _row(self, frame: Frame, first_at: datetime) -> _Row:
        metadata: dict[str, Any] = loads(self._serde, frame.metadata)
        assert frame.recorded_at is not None
        return _Row(
            frame.checkpoint_id,
            frame.seq,
            frame.recorded_at,
            first_at,
            frame.parent_id,
            frame.keyframe_seq,
            frame.keyframe_at,
            frame.state_bytes,
            run_id_of(metadata),
            searchable_json(metadata),
        )

    def _store(self, stream: Stream, derived: _Derived, begins_at: datetime | None) -> Op[None]:
        if derived.rows:
            columns = [list(column) for column in zip(*derived.rows.values(), strict=True)]
            yield Query(self._statements["rebuild_put_checkpoints"], (*stream, *columns), returns=False)
        yield Query(
            self._statements["rebuild_put_stream"],
            (
                *stream,
                derived.seq,
                derived.epoch,
                derived.digest,
                derived.xid,
                max(derived.rows, default=None),
                derived.written_through,
                derived.erased_through,
                begins_at,
                derived.active_at,
                derived.updated_at,
            ),
            returns=False,
        )
