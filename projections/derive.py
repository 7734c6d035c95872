"""Deriving a stream's projections and snapshots from its events alone, page by page.

They equal the rows that appending wrote, in the same order of events. A *sink* receives them (`projections.compare`).

Memory does not depend on the stream's length: a page of events, and a few states that later events may build on. A
base that is no longer in memory is replayed from the log.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import LogCorruptedError
from eventlog.events import Kind, StoredEvent
from eventlog.format.codec import Codec
from eventlog.format.delta import Serialized
from eventlog.format.strict import as_plain_data
from eventlog.format.values import loads_fields
from eventlog.read import Path
from eventlog.settings import Settings
from eventlog.streams import Stream
from projections.metadata import run_id_of, searchable_json
from projections.tuples import restate_writes
from snapshots.encode import digest_state, digest_writes, plan_snapshot
from snapshots.fold import Folder
from snapshots.state import CheckpointState

__all__ = ["Derivation", "Deriver", "Sink"]

#: Events that are in memory at a time.
PAGE_EVENTS = 100

#: Bytes of states that are kept for later events to build on; the last state is kept even if it is larger.
BASES_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class Derivation:
    """The rows derived from a stream's events up to `seq`."""

    stream: Stream
    name: bytes | None = None
    """The name under which seals contain it."""
    seq: int = 0
    epoch: int = 0
    digest: bytes = b""
    xid: str = "0"
    latest_checkpoint_id: str | None = None
    written_through: str | None = None
    erased_through: str | None = None
    begins_at: datetime | None = None
    checks_writes: bool = False
    """Whether writes are read too, and compared with their state digests."""
    active_at: datetime | None = None
    updated_at: datetime | None = None
    events: int = 0
    """The number of events that were read."""
    repeats: dict[str, _Repeat] = field(default_factory=dict)
    """Checkpoints that were put more than once, by their ids."""
    bases: _Bases = field(default_factory=lambda: _Bases(BASES_BYTES))

    def row(self) -> str:
        """The row of `streams`, as JSON by the names of its columns."""
        row: dict[str, Any] = {
            **self.stream._asdict(),
            "name": None if self.name is None else rf"\x{self.name.hex()}",
            "seq": self.seq,
            "epoch": self.epoch,
            "digest": rf"\x{self.digest.hex()}",
            "xid": self.xid,
            "latest_checkpoint_id": self.latest_checkpoint_id,
            "written_through": self.written_through,
            "erased_through": self.erased_through,
            "begins_at": _text(self.begins_at),
            "active_at": _text(self.active_at),
            "updated_at": _text(self.updated_at),
        }
        return json.dumps(row)


class Sink(Protocol):
    """Receives the derived rows and states, in the order of the events."""

    def page(self, stream: Stream, after: int, last: int) -> Op[None]:
        """The events above `after`, up to `last`, are next."""
        ...

    def state(self, stream: Stream, frame: CheckpointState, *, is_due: bool) -> Op[None]:
        """The state at a checkpoint's event, and whether a snapshot is taken there."""
        ...

    def checkpoints(self, stream: Stream, rows: dict[str, str]) -> Op[None]:
        """The rows of the page's checkpoints by their ids, as JSON by the names of columns; not those that later events
        replace."""
        ...


class _Repeat(NamedTuple):
    """A checkpoint that was put more than once."""

    first_seq: int
    last_seq: int
    first_at: datetime


class _Event(NamedTuple):
    """In the order of the statement."""

    seq: int
    kind: int
    checkpoint_id: str
    base_seq: int | None
    recorded_at: datetime
    as_of: datetime | None
    first_at: datetime | None
    digest: bytes
    xid: str
    position: int
    state_digest: bytes | None
    body: bytes | None


class Deriver:
    """Derives streams.

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

    def begin(self, stream: Stream, *, checks_writes: bool = False) -> Op[Derivation]:
        """Begin at a stream's first event."""
        rows = yield Query(self._statements["derive_begin"], stream._asdict())
        repeats = {id_: _Repeat(*rest) for _, id_, *rest in rows if id_ is not None}
        ((name,),) = yield Query(self._statements["derive_name"], stream)
        return Derivation(stream, name, begins_at=rows[0][0], repeats=repeats, checks_writes=checks_writes)

    def derive(self, derivation: Derivation, sink: Sink, limit: int | None = None) -> Op[bool]:
        """Derive the next events; returns whether there may be more. Nothing may be erased from the stream meanwhile.

        Args:
            limit: at most so many events; by default a page.

        Raises:
            LogCorruptedError: naming the first event that does not decode or does not fit, or does not have the state
                digest that was saved with it, and its position.
        """
        stream = derivation.stream
        folder = Folder(self._codec, stream, self._settings.max_body_bytes)
        limit = limit or PAGE_EVENTS
        params = {
            **stream._asdict(),
            "begins_at": derivation.begins_at,
            "seq": derivation.seq,
            "rows": limit,
            "writes": derivation.checks_writes,
        }
        events = [_Event(*row) for row in (yield Query(self._statements["derive_events"], params))]
        if events:
            yield from sink.page(stream, derivation.seq, events[-1].seq)
        rows: dict[str, str] = {}
        for event in events:
            if event.seq == derivation.seq:
                raise LogCorruptedError(
                    f"{folder.where(event.seq)} is stored twice (its position in the log is {event.position})"
                )
            if not Kind(event.kind).is_known:
                raise LogCorruptedError(
                    f"{folder.where(event.seq)} is of kind {event.kind}, which this version does not know: upgrade the "
                    f"package, or the event was altered (its position in the log is {event.position})"
                )
            self._count(derivation, event)
            try:
                if event.kind != Kind.CHECKPOINT_SAVED:
                    if event.body is not None:
                        yield from self._check_writes(derivation, folder, event)
                    continue
                frame, is_due = yield from self._fold(derivation, folder, event)
                self._add(derivation, rows, frame, event)
            except LogCorruptedError as exc:
                raise LogCorruptedError(f"{exc} (its position in the log is {event.position})") from exc
            derivation.bases.put(frame)
            yield from sink.state(stream, frame, is_due=is_due)
        if rows:
            yield from sink.checkpoints(stream, rows)
        return len(events) == limit

    @staticmethod
    def _count(derivation: Derivation, event: _Event) -> None:
        derivation.events += 1
        derivation.seq, derivation.digest, derivation.xid = event.seq, bytes(event.digest), event.xid
        derivation.updated_at = event.recorded_at
        if event.kind in (Kind.CHECKPOINT_SAVED, Kind.WRITES_SAVED):
            saved_at = event.as_of or event.recorded_at
            derivation.active_at = max(derivation.active_at or saved_at, saved_at)
        else:
            # Erased events are not in the log, so the record of their erasure undoes nothing here.
            derivation.epoch, derivation.erased_through = event.seq, event.checkpoint_id or None
        if event.kind == Kind.WRITES_SAVED:
            derivation.written_through = max(derivation.written_through or "", event.checkpoint_id)
        elif event.kind == Kind.CHECKPOINT_SAVED:
            derivation.latest_checkpoint_id = max(derivation.latest_checkpoint_id or "", event.checkpoint_id)

    def _fold(self, derivation: Derivation, folder: Folder, event: _Event) -> Op[tuple[CheckpointState, bool]]:
        assert event.body is not None
        stored = StoredEvent(event.seq, event.base_seq, event.recorded_at, event.body)
        base = yield from self._base(derivation, folder, event)
        saved = folder.decode(stored)
        frame = folder.advance(base, stored, event.checkpoint_id, saved)
        if digest_state(frame, base, saved.channels) != event.state_digest:
            raise _not_as_saved(folder, event)
        is_due = plan_snapshot(frame, base, stored.body, self._settings)
        if is_due or base is None:
            frame.keyframe_seq, frame.keyframe_at = stored.seq, stored.recorded_at
        return frame, is_due

    def _check_writes(self, derivation: Derivation, folder: Folder, event: _Event) -> Op[None]:
        assert event.body is not None
        stored = StoredEvent(event.seq, event.base_seq, event.recorded_at, event.body)
        base = yield from self._base(derivation, folder, event)
        bases = {} if base is None else {base.seq: base}
        limit = self._settings.max_body_bytes
        (saved,) = restate_writes(self._codec, derivation.stream, [stored], bases, limit)
        if digest_writes(saved, [Serialized(*write.op) for write in saved.writes]) != event.state_digest:
            raise _not_as_saved(folder, event)

    def _base(self, derivation: Derivation, folder: Folder, event: _Event) -> Op[CheckpointState | None]:
        """The state that an event is a difference from."""
        if event.base_seq is None:
            return None
        base = derivation.bases.get(event.base_seq)
        if base is None:
            base = yield from self._replay(derivation, folder, event.seq, event.base_seq)
            derivation.bases.put(base)
        return base

    def _replay(self, derivation: Derivation, folder: Folder, seq: int, base_seq: int) -> Op[CheckpointState]:
        """The state at a base that is not in memory."""
        path: Path | None = None
        want: int | None = base_seq
        while want is not None:
            rows = yield Query(self._statements["derive_base"], (*derivation.stream, derivation.begins_at, want))
            if not rows or want >= seq:
                raise LogCorruptedError(f"{folder.where(seq)} builds on event {want}, which is missing")
            ((seq, want, at, body),) = rows
            if path is None:
                path = Path("", None, seq, at, 0)
            path.events.append(StoredEvent(seq, want, at, body))
        assert path is not None
        return folder.fold_path(path, None).state

    def _add(self, derivation: Derivation, rows: dict[str, str], frame: CheckpointState, event: _Event) -> None:
        repeat = derivation.repeats.get(event.checkpoint_id)
        if repeat is not None and event.seq > repeat.first_seq:
            derivation.epoch = event.seq
        if repeat is not None and event.seq < repeat.last_seq:
            return
        where = derivation.stream.describe_event(event.seq)
        try:
            metadata = loads_fields(as_plain_data(self._serde), frame.metadata, where)
        except (ValueError, TypeError) as exc:
            raise LogCorruptedError(f"{where} has metadata that the serializer cannot read: {exc}") from exc
        first_at = repeat.first_at if repeat is not None else event.first_at or event.recorded_at
        rows[event.checkpoint_id] = _row(derivation.stream, frame, first_at, metadata)


class _Bases:
    """States by the number of their event, the last used ones."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._frames: OrderedDict[int, CheckpointState] = OrderedDict()

    def get(self, seq: int) -> CheckpointState | None:
        frame = self._frames.get(seq)
        if frame is not None:
            self._frames.move_to_end(seq)
        return frame

    def put(self, frame: CheckpointState) -> None:
        self._frames[frame.seq] = frame
        self._bytes += frame.weight
        while self._bytes > self._max_bytes and len(self._frames) > 1:
            _, gone = self._frames.popitem(last=False)
            self._bytes -= gone.weight


def _not_as_saved(folder: Folder, event: _Event) -> LogCorruptedError:
    return LogCorruptedError(
        f"{folder.where(event.seq)} does not have the state digest that was saved with it: it was altered, or its "
        "writer lied"
    )


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _row(stream: Stream, frame: CheckpointState, first_at: datetime, metadata: dict[str, Any]) -> str:
    """The row of `checkpoints`, as JSON by the names of its columns."""
    row: dict[str, Any] = {
        **stream._asdict(),
        "checkpoint_id": frame.checkpoint_id,
        "seq": frame.seq,
        "recorded_at": _text(frame.recorded_at),
        "first_at": _text(first_at),
        "parent_checkpoint_id": frame.parent_id,
        "keyframe_seq": frame.keyframe_seq,
        "keyframe_at": _text(frame.keyframe_at),
        "state_bytes": frame.state_bytes,
        "run_id": run_id_of(metadata),
    }
    # The metadata is JSON text already. Parsing and dumping it again could change it.
    return f'{json.dumps(row)[:-1]}, "metadata": {searchable_json(metadata)}}}'
