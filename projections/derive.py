"""Deriving a stream's projections and snapshots from its events alone, page by page.

The same rows as appending leaves behind, in the same order of events. What becomes of them is the business of *sinks*:
one writes them to the tables of a rebuild, another compares them with the live ones.

Memory is bounded whatever the stream's length: a page of events, and a few states that later events may build on. A
base that is not among those is replayed from the log. So going on where an earlier derivation ended is the same as
deriving from the start, but for what it does not read again.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import LogCorruptedError
from eventlog.events import Kind, StoredEvent
from eventlog.format.codec import Codec
from eventlog.format.values import loads_fields
from eventlog.read import Path
from eventlog.settings import Settings
from eventlog.streams import Stream
from projections.metadata import run_id_of, searchable_json
from snapshots.encode import plan_snapshot
from snapshots.fold import Folder
from snapshots.state import CheckpointState

__all__ = ["CheckpointRows", "Derivation", "Deriver", "Sink"]

#: Events that are in memory at a time.
PAGE_EVENTS = 100

#: States that later events may build on: so many bytes of them, or the last one.
BASES_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class Derivation:
    """What a stream's events amount to, up to `seq`."""

    stream: Stream
    seq: int = 0
    epoch: int = 0
    digest: bytes = b""
    xid: str = "0"
    latest_checkpoint_id: str | None = None
    written_through: str | None = None
    erased_through: str | None = None
    begins_at: datetime | None = None
    active_at: datetime | None = None
    updated_at: datetime | None = None
    events: int = 0
    """That were read this time."""
    is_continued: bool = False
    """Whether it goes on from where an earlier one ended."""

    def row(self) -> str:
        """The row of `streams`, as JSON by the names of its columns."""
        row: dict[str, Any] = {
            **self.stream._asdict(),
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


@dataclass(slots=True)
class CheckpointRows:
    """Rows of `checkpoints` that a page of events amounts to."""

    rows: list[str] = field(default_factory=list)
    """Each as JSON by the names of its columns."""
    replaced: list[str] = field(default_factory=list)
    """Ids of those that an earlier derivation has left behind."""

    @property
    def json(self) -> str:
        """All rows, as one array."""
        return f"[{', '.join(self.rows)}]"


class Sink(Protocol):
    """Where what is derived goes, in the order of the events."""

    def page(self, stream: Stream, after: int, last: int) -> Op[None]:
        """The events above `after`, up to `last`, are next."""
        ...

    def state(self, stream: Stream, frame: CheckpointState, snapshot: bytes | None) -> Op[None]:
        """The state at a checkpoint's event, and the snapshot that is taken there."""
        ...

    def checkpoints(self, stream: Stream, rows: CheckpointRows) -> Op[None]:
        """The checkpoints of the page, but for those that later events replace."""
        ...

    def end(self, derivation: Derivation) -> Op[None]:
        """All events were read."""
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
    body: bytes | None


class Deriver:
    """Derives streams.

    Args:
        statements: for the schema.
        settings: of the saver: the snapshots' floor and the limits.
        serde: the plain serializer, for the metadata.
        codec: decodes bodies.
        reads_side: whether the rebuild's own snapshots may be used to replay a base.
    """

    def __init__(
        self,
        statements: Statements,
        settings: Settings,
        serde: SerializerProtocol,
        codec: Codec,
        *,
        reads_side: bool,
    ) -> None:
        self._statements = statements
        self._settings = settings
        self._serde = serde
        self._codec = codec
        self._reads_side = reads_side

    def derive(self, derivation: Derivation, sinks: Sequence[Sink]) -> Op[None]:
        """Derive a stream, from `derivation.seq` on. Run it in one transaction that sees one state of the log.

        Raises:
            LogCorruptedError: naming the first event that does not decode or does not fit, and its position.
        """
        stream = derivation.stream
        folder = Folder(self._codec, stream, self._settings.max_body_bytes)
        if not derivation.is_continued:
            ((derivation.begins_at,),) = yield Query(self._statements["rebuild_begins_at"], stream)
        since = (*stream, derivation.begins_at, derivation.seq)
        repeats = {id_: _Repeat(*rest) for id_, *rest in (yield Query(self._statements["rebuild_repeats"], since))}
        bases = _Bases(BASES_BYTES)
        while True:
            params = (*stream, derivation.begins_at, derivation.seq, PAGE_EVENTS)
            events = [_Event(*row) for row in (yield Query(self._statements["rebuild_events"], params))]
            if events:
                for sink in sinks:
                    yield from sink.page(stream, derivation.seq, events[-1].seq)
            earlier = yield from self._earlier(derivation, events)
            rows = CheckpointRows()
            for event in events:
                if event.seq == derivation.seq:
                    raise LogCorruptedError(
                        f"{folder.where(event.seq)} is stored twice (its position in the log is {event.position})"
                    )
                self._count(derivation, event)
                if event.kind != Kind.CHECKPOINT_SAVED:
                    continue
                try:
                    frame, snapshot = yield from self._fold(derivation, folder, bases, event)
                    self._add(derivation, rows, frame, event, repeats.get(event.checkpoint_id), earlier)
                except LogCorruptedError as exc:
                    raise LogCorruptedError(f"{exc} (its position in the log is {event.position})") from exc
                bases.put(frame)
                for sink in sinks:
                    yield from sink.state(stream, frame, snapshot)
            if rows.rows:
                for sink in sinks:
                    yield from sink.checkpoints(stream, rows)
            if len(events) < PAGE_EVENTS:
                break
        if derivation.seq:  # else it went with its partition meanwhile
            for sink in sinks:
                yield from sink.end(derivation)

    def _earlier(self, derivation: Derivation, events: list[_Event]) -> Op[Mapping[str, datetime]]:
        """Which of the checkpoints an earlier derivation has left behind, and when they were first saved."""
        ids = [event.checkpoint_id for event in events if event.kind == Kind.CHECKPOINT_SAVED]
        if not derivation.is_continued or not ids:
            return {}
        return dict((yield Query(self._statements["rebuild_first_at"], (*derivation.stream, ids))))

    @staticmethod
    def _count(derivation: Derivation, event: _Event) -> None:
        derivation.events += 1
        derivation.seq, derivation.digest, derivation.xid = event.seq, bytes(event.digest), event.xid
        derivation.updated_at = event.recorded_at
        if event.kind in (Kind.CHECKPOINT_SAVED, Kind.WRITES_SAVED):
            saved_at = event.as_of or event.recorded_at
            derivation.active_at = max(derivation.active_at or saved_at, saved_at)
        else:
            # What was erased is not in the log: it needs no undoing.
            derivation.epoch, derivation.erased_through = event.seq, event.checkpoint_id or None
        if event.kind == Kind.WRITES_SAVED:
            derivation.written_through = max(derivation.written_through or "", event.checkpoint_id)
        elif event.kind == Kind.CHECKPOINT_SAVED:
            derivation.latest_checkpoint_id = max(derivation.latest_checkpoint_id or "", event.checkpoint_id)

    def _fold(
        self, derivation: Derivation, folder: Folder, bases: _Bases, event: _Event
    ) -> Op[tuple[CheckpointState, bytes | None]]:
        assert event.body is not None
        stored = StoredEvent(event.seq, event.base_seq, event.recorded_at, event.body)
        base = None
        if stored.base_seq is not None:
            base = bases.get(stored.base_seq)
            if base is None:
                base = yield from self._replay(derivation, folder, stored.seq, stored.base_seq)
                bases.put(base)
        frame = folder.advance(base, stored, event.checkpoint_id)
        due = plan_snapshot(frame, base, stored.body, self._settings)
        if due or base is None:
            frame.keyframe_seq, frame.keyframe_at = stored.seq, stored.recorded_at
        snapshot = self._codec.encode_snapshot(frame.versions, frame.seen, frame.channels) if due else None
        return frame, snapshot

    def _replay(self, derivation: Derivation, folder: Folder, seq: int, base_seq: int) -> Op[CheckpointState]:
        """The state at a base that is not at hand."""
        name = "rebuild_base" if self._reads_side else "rebuild_base_alone"
        path: Path | None = None
        want: int | None = base_seq
        while want is not None:
            rows = yield Query(self._statements[name], (*derivation.stream, derivation.begins_at, want))
            if not rows or want >= seq:
                raise LogCorruptedError(f"{folder.where(seq)} builds on event {want}, which is missing")
            ((seq, want, at, body, snapshot),) = rows
            if path is None:
                path = Path("", None, seq, at, 0)
            if snapshot is not None:
                path.snapshot, want = StoredEvent(seq, None, at, snapshot), None
            if snapshot is None or seq == base_seq:
                path.events.append(StoredEvent(seq, want, at, body))
        assert path is not None
        return folder.fold_path(path, None).state

    def _add(
        self,
        derivation: Derivation,
        rows: CheckpointRows,
        frame: CheckpointState,
        event: _Event,
        repeat: _Repeat | None,
        earlier: Mapping[str, datetime],
    ) -> None:
        first_at = earlier.get(event.checkpoint_id)
        if first_at is not None or (repeat is not None and event.seq > repeat.first_seq):
            derivation.epoch = event.seq
        if repeat is not None and event.seq < repeat.last_seq:
            return
        if first_at is not None:
            rows.replaced.append(event.checkpoint_id)
        elif repeat is not None:
            first_at = repeat.first_at
        where = derivation.stream.describe_event(event.seq)
        try:
            metadata = loads_fields(self._serde, frame.metadata, where)
        except (ValueError, TypeError) as exc:
            raise LogCorruptedError(f"{where} has metadata that the serializer cannot read: {exc}") from exc
        first_at = first_at or event.first_at or event.recorded_at
        rows.rows.append(_row(derivation.stream, frame, first_at, metadata))


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
    # The metadata is JSON already, and not to be changed by another round through it.
    return f'{json.dumps(row)[:-1]}, "metadata": {searchable_json(metadata)}}}'
