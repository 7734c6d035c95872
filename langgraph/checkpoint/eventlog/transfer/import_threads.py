"""Importing a thread: one operation, to be run in one transaction.

    result = driver.run_atomic(lambda: import_thread(context, serde, source, thread_id))

It reads the thread from a `Source` page by page, between `source.begin` and `source.end`, appends in batches, and reads
each batch back before it continues. A difference from the source, or a value that the log's serializer refuses, raises
`ThreadNotImportedError`, which rolls back the whole thread. A thread that the log has is compared. A thread that was
deleted from the log stays deleted. The result says which of these it was.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Literal, TypeAlias

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import Op
from eventlog.errors import EventTooLargeError, InvalidInputError, SerializationError, ThreadNotImportedError
from eventlog.events import Kind
from eventlog.format.contents import Serialized, WritesSaved
from eventlog.format.digest import SALT_BYTES
from eventlog.format.values import dumps
from eventlog.importing import (
    ImportedEvent,
    begin_import,
    count_checkpoints,
    import_events,
    imports_of,
    record_import,
)
from eventlog.records import read_tips
from eventlog.streams import Stream, check_size, storable, text_id
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._get import Reader
from langgraph.checkpoint.eventlog.transfer.source import Source
from langgraph.checkpoint.eventlog.transfer.values import ValueReader
from langgraph.checkpoint.eventlog.transfer.verify import Difference, Expected, compare
from langgraph.checkpoint.eventlog.transfer.verify_deltas import Trail, compare_histories
from projections.metadata import run_id_of, searchable_json
from snapshots.encode import CheckpointEncoder, encode_checkpoint, encode_writes
from snapshots.state import CheckpointState, StateCache

__all__ = ["ImportStatus", "ImportedThread", "encode_thread", "import_thread"]

#: The numbers of events, and of bytes of new values, at which a batch is sent and verified.
BATCH_EVENTS = 500
BATCH_BYTES = 8 * 1024 * 1024

#: Bytes of states that are kept for children other than the next checkpoint.
KEPT_BYTES = 32 * 1024 * 1024

_CONTINUED = "it was imported before, and has gone on in the log"
_DIFFERS = "the log's thread of this id differs: it is another one, or went on in the source after its import"

#: `imported`; or nothing was written: it is there and `equal`; it was imported before, is there and has gone on since
#: (`continued`); it was `deleted` in the log; the source does not have it (`missing`); or it `differs` from what is
#: there or could not be imported (`refused`): then `detail` says why.
ImportStatus: TypeAlias = Literal["imported", "equal", "continued", "deleted", "missing", "differs", "refused"]


@dataclass(slots=True)
class ImportedThread:
    """The outcome of an import for one thread."""

    thread_id: str
    """The thread."""
    status: ImportStatus
    """`imported`, `equal`, `continued`, `deleted`, `missing`, `differs` or `refused`."""
    events: int = 0
    """Appended events, without the records of the import."""
    checkpoints: int = 0
    """Checkpoints in the source; 0 where the thread was not read to its end."""
    writes: int = 0
    """Writes in the source."""
    orphan_writes: int = 0
    """Writes to checkpoints that the source does not have. They are imported, too."""
    source_bytes: int = 0
    """Bytes of the values and writes, as read."""
    stored_bytes: int = 0
    """Bytes of the new bodies and snapshots, as stored."""
    detail: str | None = None
    """The reason of the status; otherwise None."""

    @property
    def is_done(self) -> bool:
        """Whether the thread needs no further import."""
        return self.status not in ("differs", "refused")


def import_thread(
    context: Context,
    serde: SerializerProtocol,
    source: Source,
    thread_id: str,
    actor: str | None = None,
    *,
    trust_record: bool = False,
) -> Op[ImportedThread]:
    """Import a thread, or compare it where the log has it. Run it in one transaction.

    Args:
        serde: the log's serializer.
        actor: the person or service behind the import; the record has it.
        trust_record: do not compare a thread again if the record of its import says that the source is unchanged.

    Raises:
        ThreadNotImportedError: naming the thread, when the serializer refuses a value, or the log would read back
            something else than the source has.
        ThreadExistsError: when the thread was begun meanwhile.
        LogBusyError: when another transaction deletes the thread, or excludes imports of it.
        SourceError: when the source cannot be read.
    """
    importer = _ThreadImport(context, serde, source, thread_id)
    # Without a lock: there is no row to lock yet, and a run on a thread that is compared must not wait. If another
    # session begins the thread, one of the two gets a unique violation.
    tips = yield from read_tips(context.statements, [thread_id])
    if tips and not any(tip.has_data for tip in tips):
        return ImportedThread(thread_id, "deleted", detail="it was deleted from the log")
    if not tips:
        # Before the source is read: a deletion in both places waits for this import, or comes first.
        yield from begin_import(context.statements, thread_id)
    # If an error ends the operation, the source's next `begin` ends the transaction.
    yield from source.begin()
    if not tips:
        done = yield from importer.run(actor)
    elif trust_record and (yield from importer.is_recorded()):
        done = ImportedThread(thread_id, "equal", detail="as the record of its import says; not compared again")
    else:
        done = yield from importer.compare()
    yield from source.end()
    return done


def encode_thread(context: Context, serde: SerializerProtocol, source: Source, thread_id: str) -> Op[ImportedThread]:
    """Read a thread and encode it, and write nothing: what would be stored. Raises as `import_thread`."""
    importer = _ThreadImport(context, serde, source, thread_id, sends=False)
    yield from source.begin()
    done = yield from importer.append()
    yield from source.end()
    return done


@dataclass(slots=True)
class _ThreadImport:
    """The import of one thread."""

    context: Context
    serde: SerializerProtocol
    source: Source
    thread_id: str
    sends: bool = True
    """Whether batches are sent, or only encoded."""
    reader: Reader = field(init=False)
    values: ValueReader = field(init=False)
    done: ImportedThread = field(init=False)
    stream: _StreamImport | None = field(init=False, default=None)
    """The one that is being appended."""

    def __post_init__(self) -> None:
        self.reader = Reader(self.context, self.serde)
        self.values = ValueReader(self.serde)
        self.done = ImportedThread(self.thread_id, "imported")

    def run(self, actor: str | None) -> Op[ImportedThread]:
        """Append all of it and verify it."""
        outline = yield from self.source.outline(self.thread_id)
        done = yield from self.append()
        if not done.events:
            return replace(done, status="missing", detail="the source does not have it")
        details = {"from": self.source.origin._asdict(), "outline": outline}
        yield from record_import(
            self.context.statements, self.thread_id, actor, json.dumps({k: v for k, v in details.items() if v})
        )
        return done

    def append(self) -> Op[ImportedThread]:
        """Append all streams, each batch verified. Raises ThreadNotImportedError."""
        try:
            yield from self._each(self._append)
            yield from self._end_stream()
        except (SerializationError, EventTooLargeError, InvalidInputError, Difference) as exc:
            error = ThreadNotImportedError(f"thread {self.thread_id!r} was not imported: {exc}")
            error.thread_id = self.thread_id
            raise error from exc
        return self.done

    def is_recorded(self) -> Op[bool]:
        """Whether it was imported as the source has it now."""
        outline = yield from self.source.outline(self.thread_id)
        says = yield from imports_of(self.context.statements, [self.thread_id])
        return bool(outline) and says.get(self.thread_id, {}).get("outline") == outline

    def compare(self) -> Op[ImportedThread]:
        """Compare it with what the log has."""
        pages: dict[str, list[Expected]] = {}
        counts: dict[str, int] = {}

        def collect(expected: Expected) -> Op[None]:
            ns = expected.source.checkpoint_ns
            counts[ns] = counts.get(ns, 0) + (expected.source.checkpoint is not None)
            pages.setdefault(ns, []).append(expected)
            return
            yield

        def compare_page() -> Op[None]:
            for ns, page in pages.items():
                stream = Stream(self.thread_id, ns)
                yield from compare(self.context.statements, self.reader, self.values, stream, page)
            pages.clear()

        try:
            yield from self._each(collect, compare_page)
        except (Difference, SerializationError) as exc:
            # A run in progress adds writes to imported checkpoints, so the source must be unchanged since the import.
            if (yield from self.is_recorded()):
                return replace(self.done, status="continued", detail=_CONTINUED)
            return replace(self.done, status="differs", detail=f"{_DIFFERS}: {exc}")
        there = yield from count_checkpoints(self.context.statements, self.thread_id)
        if there == counts:
            return replace(self.done, status="equal")
        if (yield from imports_of(self.context.statements, [self.thread_id])):
            return replace(self.done, status="continued", detail=_CONTINUED)
        more = sum(there.values()) - sum(counts.values())
        return replace(self.done, status="differs", detail=f"the log has {more} checkpoints that the source has not")

    def _each(self, take: Callable[[Expected], Op[None]], at_page: Callable[[], Op[None]] | None = None) -> Op[None]:
        """Read all of the thread."""
        next_page = self.source.pages(self.thread_id)
        before: dict[str, Any] = {}
        while page := (yield from next_page()):
            for each in page:
                where = f"checkpoint {each.checkpoint_id} of namespace {each.checkpoint_ns!r}"
                channels = self.values.channels(each.stored, where)
                writes = [
                    None
                    if write.value is None
                    else self.values.value(write.value, f"{where}, write to {write.channel!r}")
                    for write in each.writes
                ]
                if each.sends is not None and each.checkpoint is not None:
                    sends = [self.values.value(send, f"{where}, pending sends") for send in each.sends]
                    decoded = [self.values.decoded(send, where) for send in sends]
                    each.checkpoint = {**each.checkpoint, "pending_sends": decoded}
                self.done.checkpoints += each.checkpoint is not None
                self.done.writes += len(writes)
                self.done.orphan_writes += len(writes) if each.checkpoint is None else 0
                self.done.source_bytes += sum(
                    len(value.data) for channel, value in each.stored.items() if before.get(channel) is not value
                ) + sum(len(write.value.data) for write in each.writes if write.value is not None)
                before = dict(each.stored)
                yield from take(Expected(each, channels, writes))
            if at_page is not None:
                yield from at_page()

    def _append(self, expected: Expected) -> Op[None]:
        ns = expected.source.checkpoint_ns
        if self.stream is None or self.stream.stream.checkpoint_ns != ns:
            # Sources return one namespace after the other.
            yield from self._end_stream()
            made = Stream(text_id(self.thread_id, "thread_id"), storable(ns, "checkpoint_ns") if ns else "")
            self.stream = _StreamImport(self.context, self.reader, self.values, made, self.done, sends=self.sends)
        yield from self.stream.add(expected)

    def _end_stream(self) -> Op[None]:
        """Send and verify the rest of a stream, and drop its states: a thread may have many streams."""
        ended, self.stream = self.stream, None
        if ended is None:
            return
        yield from ended.flush()
        if self.sends:
            yield from compare_histories(self.reader, self.values, self.source, ended.stream, ended.trail)


class _StreamImport:
    """The import of one stream: encodes checkpoints against their parents, and sends them in batches."""

    def __init__(
        self,
        context: Context,
        reader: Reader,
        values: ValueReader,
        stream: Stream,
        done: ImportedThread,
        *,
        sends: bool,
    ) -> None:
        self._settings, self._statements = context.settings, context.statements
        self._reader, self._values, self.stream, self._done = reader, values, stream, done
        self.trail = Trail()
        self._sends = sends
        self._kept = StateCache(KEPT_BYTES)
        self._last: CheckpointState | None = None
        self._sent_seq: int | None = None
        self._latest_id: str | None = None
        self._batch: list[ImportedEvent] = []
        self._states: list[CheckpointState] = []
        """The batch's states: their times are known when it is sent."""
        self._expected: list[Expected] = []
        self._bytes = 0

    @property
    def _next_seq(self) -> int:
        return (self._sent_seq or 0) + len(self._batch) + 1

    def add(self, expected: Expected) -> Op[None]:
        """Append a checkpoint and its writes."""
        source = expected.source
        check_size(self.stream, text_id(source.checkpoint_id, "a checkpoint's id"))
        state = None if source.checkpoint is None else (yield from self._add_checkpoint(expected))
        self._add_writes(expected, state)
        self._expected.append(expected)
        if self._bytes >= BATCH_BYTES or len(self._batch) >= BATCH_EVENTS:
            yield from self.flush()

    def flush(self) -> Op[None]:
        """Send the rest of a batch, and read it back. Raises Difference."""
        if not self._batch:
            return
        at = datetime.now(timezone.utc)
        if self._sends:
            at = yield from import_events(self._statements, self.stream, self._sent_seq, self._batch)
        first_seq = (self._sent_seq or 0) + 1
        for state in self._states:
            state.recorded_at = at
            if state.keyframe_seq >= first_seq:
                state.keyframe_at = at
        self._sent_seq = first_seq - 1 + len(self._batch)
        self._done.events += len(self._batch)
        self._batch, self._states, self._bytes = [], [], 0
        expected, self._expected = self._expected, []
        if self._sends:
            yield from compare(self._statements, self._reader, self._values, self.stream, expected)

    def _add_checkpoint(self, expected: Expected) -> Op[CheckpointState]:
        source = expected.source
        parent = None if source.parent_id is None else (yield from self._parent(source.parent_id))
        state = self._state(expected)
        # Another saver's rows do not show whether a fork was deliberate: assume that it was.
        state.observed_latest_id = None if self._latest_id == source.parent_id else self._latest_id
        body, digest, base, snapshot = encode_checkpoint(self._reader.codec, state, parent, self._settings)
        state.seq = self._next_seq
        if base is None or snapshot is not None:
            state.keyframe_seq, state.keyframe_at = state.seq, None
        metadata = dict(source.metadata)
        self._batch.append(
            ImportedEvent(
                Kind.CHECKPOINT_SAVED,
                state.checkpoint_id,
                None if base is None else base.seq,
                digest,
                body,
                parent_id=state.parent_id,
                keyframe_seq=state.keyframe_seq,
                keyframe_at=state.keyframe_at,
                state_bytes=state.state_bytes,
                run_id=run_id_of(metadata),
                metadata_json=searchable_json(metadata),
                snapshot=snapshot or b"",
            )
        )
        known = parent.channels if parent is not None else {}
        self._bytes += sum(len(value.data) for name, value in state.channels.items() if known.get(name) is not value)
        self._done.stored_bytes += len(body) + len(snapshot or b"")
        self._states.append(state)
        self.trail.add(state.checkpoint_id, state.parent_id, source.metadata, frozenset(state.channels))
        self._kept.put(self.stream, state)
        self._last = state
        self._latest_id = max(self._latest_id or "", state.checkpoint_id)
        return state

    def _state(self, expected: Expected) -> CheckpointState:
        source = expected.source
        checkpoint: dict[str, Any] = {
            **(source.checkpoint or {}),
            "id": source.checkpoint_id,
            "channel_values": source.decoded,
            "channel_versions": (source.checkpoint or {}).get("channel_versions") or {},
        }
        encoder = CheckpointEncoder(
            self._reader.plain, checkpoint, source.metadata, checkpoint["channel_versions"], expected.channels
        )
        parent_id = None if source.parent_id is None else text_id(source.parent_id, "a parent's id")
        state = encoder.state(source.checkpoint_id, parent_id, None)
        # Some savers stored values of channels that never had a version.
        loose = {
            storable(name, "a channel's name"): value
            for name, value in self._loose(expected)
            if name not in state.versions
        }
        return replace(state, channels={**state.channels, **loose}) if loose else state

    def _loose(self, expected: Expected) -> list[tuple[str, Serialized]]:
        versions = (expected.source.checkpoint or {}).get("channel_versions") or {}
        return [(name, value) for name, value in expected.channels.items() if name not in versions] + [
            (name, dumps(self._reader.plain, value, f"the value of channel {name!r}"))
            for name, value in expected.source.decoded.items()
            if name not in versions
        ]

    def _parent(self, parent_id: str) -> Op[CheckpointState | None]:
        """The parent's state; None where it was not imported before its child."""
        if self._last is not None and self._last.checkpoint_id == parent_id:
            return self._last
        found = self._kept.get(self.stream, parent_id)
        if found is None and self._sends:
            yield from self.flush()
            found = yield from self._reader.read_state(self.stream, parent_id)
        return found

    def _add_writes(self, expected: Expected, state: CheckpointState | None) -> None:
        source = expected.source
        by_task: dict[tuple[str, str], list[tuple[int, str, Serialized]]] = {}
        for write, stored in zip(source.writes, expected.writes, strict=True):
            value = stored or dumps(self._reader.plain, write.decoded, f"the write to channel {write.channel!r}")
            task = text_id(write.task_id, "task_id"), storable(write.task_path, "task_path")
            by_task.setdefault(task, []).append((write.idx, storable(write.channel, "a write's channel"), value))
        for (task_id, task_path), writes in by_task.items():
            event = WritesSaved(task_id, task_path, [], os.urandom(SALT_BYTES))
            body, digest, base = encode_writes(self._reader.codec, event, writes, state, self._settings.max_body_bytes)
            self._bytes += sum(len(value.data) for _, _, value in writes)
            self._done.stored_bytes += len(body)
            self._batch.append(
                ImportedEvent(Kind.WRITES_SAVED, source.checkpoint_id, None if base is None else base.seq, digest, body)
            )
