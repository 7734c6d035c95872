"""A saver's operations, as generators: the logic that the sync and the async saver share.

Each method starts one operation, to be run by a driver from `eventlog.db.sync`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import TASKS

from eventlog.append import CheckpointAppend, append_checkpoint, append_writes
from eventlog.db.query import Op
from eventlog.db.statements import Statements
from eventlog.errors import CheckpointExistsError, InvalidInputError, LogCorruptedError, ThreadDeletedError
from eventlog.events import StoredEvent
from eventlog.format.codec import Codec
from eventlog.format.contents import SavedWrite, Serialized, WritesSaved
from eventlog.format.delta import Cross, difference, full_bytes, patched_bytes
from eventlog.format.values import dumps, split_serializer
from eventlog.read import (
    CheckpointRow,
    Path,
    Selection,
    read_event_path,
    read_pages,
    read_path,
    read_writes,
    select_checkpoints,
)
from eventlog.settings import Settings
from eventlog.streams import Stream, check_size, checkpoint_id_of, is_mapping, root_id_of, storable, stream_of, text_id
from langgraph.checkpoint.eventlog._concurrency import ObservedHeads, concurrent_update, view_of
from langgraph.checkpoint.eventlog._versions import next_version
from projections.message_cache import MessageCache, SharedElements, ValueDecoder
from projections.metadata import merged_metadata, run_id_of, searchable_json
from projections.rebuild import Rebuilder
from projections.tuples import (
    ResolvedWrite,
    checkpoint_of,
    config_of,
    pending_writes,
    resolve_writes,
    restate_writes,
    written,
)
from snapshots import encode, plan_snapshot
from snapshots.cache import StateCache
from snapshots.encode import CheckpointEncoder
from snapshots.fold import Folded, Folder
from snapshots.state import CheckpointState

__all__ = ["Context", "Operations", "affordable"]

#: A state smaller than this is written in full when its parent is not at hand: reading the parent would cost more.
SMALL_STATE_BYTES = 4096

#: How often a put is tried again after losing a race: each round means that somebody else's succeeded.
PUT_ROUNDS = 10

#: Of how many serializers the operations are kept: copies of a saver (`with_allowlist`) may take turns.
KEPT_OPERATIONS = 8

#: What a listing that shares elements keeps of them, beside those that its last state has.
SHARED_BYTES = 32 * 1024 * 1024

#: States that are read together are in memory at once: this many bytes of them, or one.
CHUNK_BYTES = 32 * 1024 * 1024


def affordable(rows: Sequence[CheckpointRow], most: int) -> list[CheckpointRow]:
    """The first of these checkpoints, as many as `Operations.read_chunk` may read together, and at most so many."""
    size, total = 0, 0
    for row in rows[:most]:
        total += row.state_bytes
        if size and total > CHUNK_BYTES:
            break
        size += 1
    return list(rows[:size])


@dataclass(frozen=True, slots=True)
class Context:
    """What all copies of a saver share beside the connection."""

    settings: Settings
    statements: Statements
    frames: StateCache
    observed: ObservedHeads
    elements: MessageCache
    made: list[Operations] = field(default_factory=list, repr=False)
    """By the serializers that were used last."""

    def operations_for(self, serde: SerializerProtocol) -> Operations:
        """The operations with a saver's serializer, made once: any thread may use them."""
        for each in self.made:
            # Not what a serializer takes for equal: it may decode other types.
            if each.serde is serde:
                return each
        operations = Operations(self, serde)
        self.made[:] = [operations, *self.made[: KEPT_OPERATIONS - 1]]
        return operations

    @classmethod
    def create(cls, keywords: dict[str, Any]) -> Context:
        """From a saver's keyword arguments. Raises InvalidInputError."""
        settings = Settings.parse(keywords)
        return cls(
            settings,
            Statements(settings.schema_name),
            StateCache(settings.state_cache_bytes),
            ObservedHeads(),
            MessageCache(settings.message_cache_bytes),
        )


class Operations:
    """The operations of a saver with a given serializer.

    Args:
        context: settings, statements and frames.
        serde: the saver's serializer at the time of the call (`with_allowlist` makes copies with another one);
            `plain` is its part without encryption.
        share: whether what is read with this object may share what was decoded (`share_history`).
    """

    def __init__(self, context: Context, serde: SerializerProtocol, *, share: bool = False) -> None:
        self._settings = context.settings
        self._statements = context.statements
        self._frames = context.frames
        self._observed = context.observed
        self.serde = serde
        self.plain, self._cipher = split_serializer(serde)
        self.codec = Codec(context.settings, self._cipher)
        self._elements = context.elements
        self._share = share

    @cached_property
    def _decoder(self) -> ValueDecoder:
        # Writers need none.
        return SharedElements(self.plain, SHARED_BYTES) if self._share else self._elements.decoder(self.plain)

    # --- writing

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> Op[RunnableConfig]:
        """Append a checkpoint; returns the config that names it."""
        stream = stream_of(config)
        parent_id = checkpoint_id_of(config)
        for what, given in (("checkpoint", checkpoint), ("metadata", metadata), ("new_versions", new_versions)):
            if not is_mapping(given):
                raise InvalidInputError(f"{what} must be a dict, not {type(given).__name__}")
        merged = merged_metadata(config, metadata)
        draft = CheckpointEncoder(self.plain, checkpoint, merged, new_versions)
        checkpoint_id = text_id(checkpoint["id"], "checkpoint['id']")
        check_size(stream, max(checkpoint_id, parent_id or "", key=len))
        # A checkpoint that is put again under the config that its first put returned keeps its parent.
        again = parent_id == checkpoint_id
        view = view_of(self._observed, config, metadata, checkpoint_id)
        observed_seq = None if again or self._settings.concurrency == "branch" else view.observed_seq
        parent: CheckpointState | None = None
        if parent_id is not None:
            parent = self._frames.get(stream, parent_id)
            if parent is None and not draft.small_and_new(SMALL_STATE_BYTES):
                parent = yield from self.read_frame(stream, parent_id)

        stored: CheckpointState | None = None
        for _ in range(PUT_ROUNDS):
            if again:
                # What it inherits is what is stored now: another saver may have replaced what the cache remembers.
                parent_id, parent = (stored.parent_id, stored) if stored else (None, parent)
            # What a checkpoint inherited from a parent that is erased since, it has itself.
            frame = draft.frame(checkpoint_id, parent_id, stored if parent is None else parent)
            frame.observed_latest_id = view.observed_latest_id if stored is None else stored.observed_latest_id
            base = None if again else parent
            if stored is not None and self._same(frame, stored):
                self._frames.put(stream, stored)
                return cast("RunnableConfig", config_of(stream, checkpoint_id))
            append = self._encode(
                stream, frame, base, merged, root_id_of(config), observed_seq, replaces=stored is not None
            )
            answer = yield from append_checkpoint(self._statements, self._settings, append)
            if answer.status == "ok":
                frame.seq, frame.recorded_at, frame.epoch = answer.seq, answer.recorded_at, answer.epoch
                if append.self_keyframe:
                    frame.keyframe_seq, frame.keyframe_at = answer.seq, answer.recorded_at
                self._frames.put(stream, frame, replaces=parent_id)
                return cast("RunnableConfig", config_of(stream, checkpoint_id))
            if answer.status == "erased":
                raise ThreadDeletedError(
                    f"checkpoint {parent_id or root_id_of(config)} of thread {stream.thread_id!r} was erased, "
                    "so a checkpoint that builds on it is refused. Start again without a checkpoint id"
                )
            if answer.status in ("concurrent", "unsaved"):
                raise concurrent_update(stream, frame, answer)
            if answer.status == "exists":
                stored = yield from self.read_frame(stream, checkpoint_id)
            else:
                assert parent_id is not None
                self._frames.drop(stream, parent_id)
                parent = yield from self.read_frame(stream, parent_id)
        raise CheckpointExistsError(
            f"other writers replaced checkpoint {checkpoint_id} of thread {stream.thread_id!r} during each of "
            f"{PUT_ROUNDS} tries: repeat the call"
        )

    def _encode(
        self,
        stream: Stream,
        frame: CheckpointState,
        base: CheckpointState | None,
        metadata: dict[str, Any],
        root_id: str | None,
        observed_seq: int | None,
        *,
        replaces: bool,
    ) -> CheckpointAppend:
        limit = self._settings.max_body_bytes
        event, replayed = CheckpointEncoder.event(frame, base, limit), base
        body = self.codec.encode_checkpoint(event)
        due = plan_snapshot(frame, base, body, self._settings)
        if due and full_bytes(event.channels.values()) > frame.state_bytes // 2:
            # It is most of the state already: the rest goes in as well, instead of a snapshot with all of it once more.
            replayed, due = None, False
            body = self.codec.encode_checkpoint(CheckpointEncoder.event(frame, None, limit))
            plan_snapshot(frame, None, body, self._settings)
        return CheckpointAppend(
            stream=stream,
            checkpoint_id=frame.checkpoint_id,
            parent_id=frame.parent_id,
            root_id=root_id,
            base=base,
            self_keyframe=replayed is None or due,
            replaces=replaces,
            state_bytes=frame.state_bytes,
            run_id=run_id_of(metadata),
            metadata_json=searchable_json(metadata),
            body=body,
            snapshot=encode(self.codec, frame) if due else None,
            observed_seq=observed_seq,
        )

    @staticmethod
    def _same(frame: CheckpointState, stored: CheckpointState) -> bool:
        """Whether the stored checkpoint is the one that is being put: then there is nothing to append."""
        return all(
            getattr(frame, name) == getattr(stored, name)
            for name in ("parent_id", "fields", "metadata", "versions", "seen", "channels")
        )

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
        *,
        again: bool = False,
    ) -> Op[None]:
        """Append the writes of a task.

        Args:
            again: whether they may be there already, because nobody heard what became of an earlier try: look first.
        """
        stream = stream_of(config)
        checkpoint_id = checkpoint_id_of(config)
        if checkpoint_id is None:
            raise InvalidInputError('config["configurable"]["checkpoint_id"] is missing: writes belong to a checkpoint')
        check_size(stream, checkpoint_id)
        task_id, task_path = text_id(task_id, "task_id"), storable(task_path, "task_path")
        values = [
            (
                WRITES_IDX_MAP.get(channel, idx),
                storable(channel, "a write's channel"),
                dumps(self.plain, value, f"the write to channel {channel!r}"),
            )
            for idx, (channel, value) in enumerate(writes)
        ]
        if again and (yield from self._are_written(stream, checkpoint_id, task_id, values)):
            return
        frame = self._frames.get(stream, checkpoint_id)
        while values:
            largest = frame.largest if frame else None
            saved, limit = [], self._settings.max_body_bytes
            for idx, channel, value in values:
                saved.append(SavedWrite(idx, channel, difference(value, None, largest, limit=limit)))
                limit -= patched_bytes(saved[-1].op, limit)
            base = frame if any(type(write.op) is Cross for write in saved) else None
            body = self.codec.encode_writes(WritesSaved(task_id, task_path, saved))
            appended = yield from append_writes(
                self._statements, self._settings, stream, checkpoint_id, root_id_of(config), base, body
            )
            if appended:
                return
            # The checkpoint was put again meanwhile: what it is now is not worth a look.
            self._frames.drop(stream, checkpoint_id)
            frame = None

    def _are_written(
        self, stream: Stream, checkpoint_id: str, task_id: str, values: Sequence[tuple[int, str, Serialized]]
    ) -> Op[bool]:
        """Whether appending these writes of a task would change nothing for readers.

        Of ordinary writes the first of a task counts, whatever comes later; of special ones (negative idx) the last.
        """
        events = yield from read_writes(self._statements, stream, checkpoint_id)
        writes = yield from self.writes_of(stream, events, None)
        found = {write.idx: (write.channel, write.value) for write in writes if write.task_id == task_id}
        return all(idx in found and (idx >= 0 or found[idx] == (channel, value)) for idx, channel, value in values)

    # --- reading

    def get_tuple(self, config: RunnableConfig) -> Op[CheckpointTuple | None]:
        """One checkpoint, or the latest; None when it is not there."""
        stream = stream_of(config)
        checkpoint_id = checkpoint_id_of(config)
        folded = yield from self._fold(stream, checkpoint_id, self._frames.get(stream, checkpoint_id))
        if folded is None:
            return None
        self._frames.put(stream, folded.frame)
        return (yield from self.tuple_of(folded))

    def read_stored(
        self, config: RunnableConfig
    ) -> Op[tuple[Stream, Path, CheckpointState, list[ResolvedWrite]] | None]:
        """One checkpoint, or the latest, with its values still serialized, and what it was made of; None without one.

        Read from the log alone, whatever the cache knows.
        """
        stream = stream_of(config)
        path = yield from read_path(self._statements, stream, checkpoint_id_of(config), None)
        if path is None:
            return None
        frame = self._folder(stream).fold_path(path, None).frame
        writes = yield from self.writes_of(stream, path.writes, frame)
        return stream, path, frame, writes

    def tuple_of(self, folded: Folded) -> Op[CheckpointTuple | None]:
        """Decode a checkpoint's values; None when it was erased meanwhile."""
        try:
            return (yield from self.decode(folded))
        except LogCorruptedError:
            # What it was made of may have been erased since it was read: then it is made of something else now.
            again = yield from self._fold(folded.stream, folded.frame.checkpoint_id, None)
            if again is None:
                return None
            if again.frame.epoch == folded.frame.epoch:
                raise
            return (yield from self.decode(again))

    def decode(self, folded: Folded) -> Op[CheckpointTuple]:
        """Decode a checkpoint's values, whatever became of it meanwhile."""
        stream, checkpoint_id, parent_id = folded.stream, folded.frame.checkpoint_id, folded.frame.parent_id
        if folded.head is not None:
            checkpoint_id = self._observed.note(checkpoint_id, folded.head)
        checkpoint = checkpoint_of(self._decoder, stream, folded.frame)
        if checkpoint.get("v", 0) < 4 and parent_id is not None:
            yield from self._add_pending_sends(stream, parent_id, checkpoint)
        writes = yield from self.writes_of(stream, folded.writes, folded.frame)
        return CheckpointTuple(
            config=cast("RunnableConfig", config_of(stream, checkpoint_id)),
            checkpoint=cast("Checkpoint", checkpoint),
            metadata=self._decoder.value(folded.frame.metadata, stream.describe_event(folded.frame.seq)),
            parent_config=None if parent_id is None else cast("RunnableConfig", config_of(stream, parent_id)),
            pending_writes=pending_writes(self._decoder, stream, writes),
        )

    def writes_of(
        self, stream: Stream, events: list[StoredEvent], frame: CheckpointState | None
    ) -> Op[list[ResolvedWrite]]:
        """The writes of a checkpoint, in LangGraph's order.

        Args:
            events: its writes events.
            frame: its frame. Writes that were made before it was put again are differences from what it was then.
        """
        bases = yield from self._bases(stream, events, frame)
        return resolve_writes(self.codec, stream, events, bases, self._settings.max_body_bytes)

    def restated_writes(self, stream: Stream, events: list[StoredEvent]) -> Op[list[WritesSaved]]:
        """What writes events say, without differences."""
        bases = yield from self._bases(stream, events, None)
        return restate_writes(self.codec, stream, events, bases, self._settings.max_body_bytes)

    def _bases(
        self, stream: Stream, events: list[StoredEvent], frame: CheckpointState | None
    ) -> Op[dict[int, CheckpointState]]:
        bases = {frame.seq: frame} if frame is not None else {}
        for seq in {event.base_seq for event in events if event.base_seq is not None} - bases.keys():
            path = yield from read_event_path(self._statements, stream, seq)
            if path is not None:
                bases[seq] = self._folder(stream).fold_path(path, None).frame
        return bases

    def _add_pending_sends(self, stream: Stream, parent_id: str, checkpoint: dict[str, Any]) -> Op[None]:
        """Before version 4, what a checkpoint sends to tasks was kept with its parent's writes."""
        events = yield from read_writes(self._statements, stream, parent_id)
        writes = yield from self.writes_of(stream, events, None)
        if sends := [written(self._decoder, stream, write) for write in writes if write.channel == TASKS]:
            versions = checkpoint["channel_versions"]
            versions[TASKS] = max(versions.values()) if versions else next_version(None)
            checkpoint["channel_values"][TASKS] = sends

    def read_chunk(self, rows: Sequence[CheckpointRow]) -> Op[list[Folded]]:
        """Checkpoints of a listing, in its order; those that are gone meanwhile are left out."""
        found: dict[tuple[Stream, str], Folded] = {}
        by_stream: dict[Stream, list[str]] = {}
        for row in rows:
            by_stream.setdefault(row.stream, []).append(row.checkpoint_id)
        pages = (yield from read_pages(self._statements, by_stream)) if by_stream else {}
        for stream, page in pages.items():
            for folded in self._folder(stream).fold_page(page):
                found[stream, folded.frame.checkpoint_id] = folded
            # A page ends at its keyframes: where a snapshot is gone, the path goes on behind it.
            for checkpoint_id in (each.checkpoint_id for each in page.rows):
                if (stream, checkpoint_id) not in found:
                    alone = yield from self._fold(stream, checkpoint_id, None)
                    if alone is not None:
                        found[stream, checkpoint_id] = alone
        keys = ((row.stream, row.checkpoint_id) for row in rows)
        return [found[key] for key in keys if key in found]

    def rebuilder(self) -> Rebuilder:
        """What rebuilds projections and snapshots from the log, or compares them with it."""
        is_encrypted = self._cipher is not None
        return Rebuilder(self._statements, self._settings, self.plain, self.codec, is_encrypted=is_encrypted)

    def latest_id(self, stream: Stream) -> Op[str | None]:
        """The id of a stream's latest checkpoint."""
        rows = yield from select_checkpoints(
            self._statements, Selection(stream.thread_id, stream.checkpoint_ns), 1, None
        )
        return rows[0].checkpoint_id if rows else None

    def frame_bytes(self, config: RunnableConfig) -> int:
        """The size of the state that the config is about, in bytes, if the cache knows it; 0 otherwise."""
        frame = self._frames.peek(stream_of(config), checkpoint_id_of(config))
        return 0 if frame is None else frame.state_bytes

    def _fold(self, stream: Stream, checkpoint_id: str | None, known: CheckpointState | None) -> Op[Folded | None]:
        path = yield from read_path(self._statements, stream, checkpoint_id, known)
        return None if path is None else self._folder(stream).fold_path(path, known)

    def frame_at(self, stream: Stream, seq: int, checkpoint_id: str | None) -> Op[CheckpointState | None]:
        """The state that a checkpoint's event left, whether or not it is still its checkpoint's current one.

        Args:
            checkpoint_id: the checkpoint that it probably is, whose current event is read in one round trip.
        """
        if checkpoint_id is not None:
            folded = yield from self._fold(stream, checkpoint_id, None)
            if folded is not None and folded.frame.seq == seq:
                return folded.frame
        path = yield from read_event_path(self._statements, stream, seq)
        return None if path is None else self._folder(stream).fold_path(path, None).frame

    def read_frame(self, stream: Stream, checkpoint_id: str) -> Op[CheckpointState | None]:
        """A checkpoint's raw state; None when it is not there."""
        folded = yield from self._fold(stream, checkpoint_id, None)
        return None if folded is None else folded.frame

    def _folder(self, stream: Stream) -> Folder:
        return Folder(self.codec, stream, self._settings.max_body_bytes)
