"""Reading checkpoints: `get_tuple`, `list`, `get_delta_channel_history`, and what history, diffs and rebuilds read.

Each method starts one operation, to be run by a driver (`eventlog.db.sync`, `eventlog.db.async_`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple, DeltaChannelHistory
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import TASKS

from eventlog.db.query import Op, Steps, Weighed
from eventlog.errors import LogCorruptedError
from eventlog.events import StoredEvent
from eventlog.format.codec import Codec
from eventlog.format.contents import WritesSaved
from eventlog.format.upcasting import Upcasting, version_in
from eventlog.format.values import split_serializer
from eventlog.read import (
    CheckpointRow,
    Selection,
    read_event_path,
    read_pages,
    read_path,
    read_writes,
    select_checkpoints,
)
from eventlog.streams import EventRef, Stream
from langgraph.checkpoint.eventlog._arguments import (
    config_of,
    limit_of,
    next_version,
    parse_before,
    parse_config,
    parse_selection,
)
from langgraph.checkpoint.eventlog._concurrency import REPLAYED, is_replay
from langgraph.checkpoint.eventlog._delta import ChannelHistories
from projections.message_cache import SharedElements, ValueDecoder
from projections.metadata import filter_json
from projections.rebuild import Rebuilder
from projections.tuples import (
    StoredWrite,
    checkpoint_of,
    pending_writes,
    resolve_writes,
    restate_writes,
    written,
)
from projections.upcasting import UpcastingDecoder
from snapshots.fold import Folded, Folder, Room, StatesTooLargeError
from snapshots.state import CheckpointState

if TYPE_CHECKING:
    from langgraph.checkpoint.eventlog._context import Context

__all__ = ["CHUNK_BYTES", "Reader", "affordable", "list_checkpoints"]

#: The number of checkpoints in a listing's first chunk, and in the largest. A caller who stops early pays little; for
#: a caller who continues, events are read once for many checkpoints.
FIRST_CHUNK = 8
LARGEST_CHUNK = 256

#: The number of rows of the projection in the first fetch, and in the largest: each fetch may have to sort all rows
#: that match, to find the newest.
ROWS = 256
MOST_ROWS = 16384

#: Bytes of elements that a listing keeps for sharing, beside those of its last state.
SHARED_BYTES = 32 * 1024 * 1024

#: The bytes of states that are read together and therefore in memory at once; a single state may be larger.
CHUNK_BYTES = 32 * 1024 * 1024


def affordable(rows: Sequence[CheckpointRow], most: int) -> list[CheckpointRow]:
    """The first of these checkpoints: as many as `Reader.read_chunk` may read together, at most `most`."""
    size, total = 0, 0
    for row in rows[:most]:
        total += row.state_bytes
        if size and total > CHUNK_BYTES:
            break
        size += 1
    return list(rows[:size])


class Reader:
    """Reads with a saver's serializer; `plain` is its part without encryption.

    Args:
        share: whether tuples read with this object may share decoded objects (`share_history`).
    """

    def __init__(self, context: Context, serde: SerializerProtocol, *, share: bool = False) -> None:
        self._settings, self._statements = context.settings, context.statements
        self._states, self._observed = context.states, context.observed
        self._limit = context.settings.max_body_bytes
        self.serde = serde
        self.plain, self._cipher = split_serializer(serde)
        self.codec = Codec(self._limit, context.settings.compression_level, self._cipher)
        self.decoder = SharedElements(self.plain, SHARED_BYTES) if share else context.messages.decoder(self.plain)
        given = context.settings.upcasters
        self.upcasting = None if given is None else Upcasting(given)
        self._histories = ChannelHistories(context, self)

    def get_tuple(self, config: RunnableConfig) -> Op[CheckpointTuple | None]:
        """One checkpoint, or the latest; None when it is not there."""
        stream, checkpoint_id, _ = parse_config(config)
        known = self._states.get(stream, checkpoint_id)
        folded = yield from self._fold(stream, checkpoint_id, known)
        if folded is None:
            return None
        if folded.state is not known:
            self._states.put(stream, folded.state)
        return (yield from self.tuple_of(folded))

    def tuple_of(self, folded: Folded) -> Op[CheckpointTuple | None]:
        """Decode a checkpoint's values; None when it was erased meanwhile."""
        try:
            return (yield from self.decode(folded))
        except LogCorruptedError:
            # Its events may have been erased or relocated since the row was read: then read it again.
            again = yield from self._fold(folded.stream, folded.state.checkpoint_id, None)
            if again is None:
                return None
            if again.state.epoch == folded.state.epoch:
                raise
            return (yield from self.decode(again))

    def decode(self, folded: Folded) -> Op[CheckpointTuple]:
        """Decode a checkpoint's values, even if it was erased meanwhile."""
        stream, checkpoint_id, parent_id = folded.stream, folded.state.checkpoint_id, folded.state.parent_id
        if folded.observed is not None:
            checkpoint_id = self._observed.note(checkpoint_id, folded.observed)
        metadata = self.decoder.value(folded.state.metadata, EventRef(stream, folded.state.seq))
        decoder = self.decoder
        if self.upcasting is not None:
            # The id in the state, not the object in a config.
            decoder = self.upcasting_decoder(folded.state.checkpoint_id, version_in(metadata))
        checkpoint = checkpoint_of(decoder, stream, folded.state)
        if checkpoint.get("v", 0) < 4 and parent_id is not None:
            yield from self._add_pending_sends(stream, parent_id, checkpoint)
        writes = (yield from self.writes_of(stream, folded.writes, folded.state)) if folded.writes else []
        return CheckpointTuple(
            config=config_of(stream, checkpoint_id),
            checkpoint=cast("Checkpoint", checkpoint),
            metadata=metadata,
            parent_config=None if parent_id is None else config_of(stream, parent_id),
            pending_writes=pending_writes(decoder, stream, writes),
        )

    def upcasting_decoder(self, checkpoint_id: str, version: int | None) -> ValueDecoder:
        """The decoder of a checkpoint's values and writes: the reader's own decoder, if it has no upcasters."""
        if self.upcasting is None:
            return self.decoder
        return UpcastingDecoder(self.decoder, self.plain, self.upcasting, checkpoint_id, version)

    def writes_of(
        self, stream: Stream, events: list[StoredEvent], state: CheckpointState | None
    ) -> Op[list[StoredWrite]]:
        """The writes of a checkpoint, in LangGraph's order.

        Args:
            events: its writes events.
            state: its state. Writes made before it was put again are differences from its earlier state.
        """
        bases = yield from self._bases(stream, events, state)
        return resolve_writes(self.codec, stream, events, bases, self._limit)

    def restated_writes(self, stream: Stream, events: list[StoredEvent]) -> Op[list[WritesSaved]]:
        """The content of writes events, with differences resolved."""
        bases = yield from self._bases(stream, events, None)
        return restate_writes(self.codec, stream, events, bases, self._limit)

    def _bases(
        self, stream: Stream, events: list[StoredEvent], state: CheckpointState | None
    ) -> Op[dict[int, CheckpointState]]:
        bases = {state.seq: state} if state is not None else {}
        for seq in {event.base_seq for event in events if event.base_seq is not None} - bases.keys():
            if (base := (yield from self.state_after(stream, seq))) is not None:
                bases[seq] = base
        return bases

    def _add_pending_sends(self, stream: Stream, parent_id: str, checkpoint: dict[str, Any]) -> Op[None]:
        """Before version 4, the tasks that a checkpoint sends were stored in its parent's writes."""
        events = yield from read_writes(self._statements, stream, parent_id)
        writes = yield from self.writes_of(stream, events, None)
        decoder = self.upcasting_decoder(parent_id, None)
        if sends := [written(decoder, stream, write) for write in writes if write.channel == TASKS]:
            versions = checkpoint["channel_versions"]
            versions[TASKS] = max(versions.values()) if versions else next_version(None)
            checkpoint["channel_values"][TASKS] = sends

    def read_affordable(self, rows: Sequence[CheckpointRow]) -> Op[tuple[int, list[Folded]]]:
        """As many of these checkpoints as may be in memory together, at least one; and their number."""
        count = len(rows)
        while True:
            try:
                room = Room(2 * CHUNK_BYTES) if count > 1 else None
                return count, (yield from self.read_chunk(rows[:count], room))
            except StatesTooLargeError:
                # The rows claimed smaller sizes (`affordable`), or the states build on larger ones.
                count //= 2

    def read_chunk(self, rows: Sequence[CheckpointRow], room: Room | None = None) -> Op[list[Folded]]:
        """Checkpoints of a listing, in its order; those that were erased meanwhile are omitted.

        Raises StatesTooLargeError when they exceed the room.
        """
        found: dict[tuple[Stream, str], Folded] = {}
        by_stream: dict[Stream, list[str]] = {}
        for row in rows:
            by_stream.setdefault(row.stream, []).append(row.checkpoint_id)
        pages = (yield from read_pages(self._statements, by_stream)) if by_stream else {}
        for stream, page in pages.items():
            for folded in self.folder(stream).fold_page(page, room):
                found[stream, folded.state.checkpoint_id] = folded
            # A page ends at its keyframes. If a snapshot is missing, the path continues before the keyframe.
            for checkpoint_id in page.rows.values():
                if (stream, checkpoint_id) not in found:
                    alone = yield from self._fold(stream, checkpoint_id, None)
                    if alone is not None:
                        found[stream, checkpoint_id] = alone
        keys = ((row.stream, row.checkpoint_id) for row in rows)
        return [found[key] for key in keys if key in found]

    def delta_channel_history(
        self, config: RunnableConfig, channels: Sequence[str]
    ) -> Op[Mapping[str, DeltaChannelHistory]]:
        """The writes (oldest first) and the seed, if any, from which each `DeltaChannel` rebuilds its value."""
        return self._histories.read(config, channels)

    def rebuilder(self) -> Rebuilder:
        """The object that rebuilds projections and snapshots from the log, or compares them with it."""
        return Rebuilder(self._statements, self._settings, self.plain, self.codec)

    def _fold(self, stream: Stream, checkpoint_id: str | None, known: CheckpointState | None) -> Op[Folded | None]:
        path = yield from read_path(self._statements, stream, checkpoint_id, known)
        return None if path is None else self.folder(stream).fold_path(path, known)

    def state_after(self, stream: Stream, seq: int, checkpoint_id: str | None = None) -> Op[CheckpointState | None]:
        """The state that a checkpoint's event left, whether or not it is still its checkpoint's current one.

        Args:
            checkpoint_id: the checkpoint that the event probably saved: its current event is read in one round trip.
        """
        if checkpoint_id is not None:
            folded = yield from self._fold(stream, checkpoint_id, None)
            if folded is not None and folded.state.seq == seq:
                return folded.state
        path = yield from read_event_path(self._statements, stream, seq)
        return None if path is None else self.folder(stream).fold_path(path, None).state

    def read_state(self, stream: Stream, checkpoint_id: str) -> Op[CheckpointState | None]:
        """A checkpoint's state, its values serialized; None when the checkpoint does not exist."""
        folded = yield from self._fold(stream, checkpoint_id, None)
        return None if folded is None else folded.state

    def folder(self, stream: Stream) -> Folder:
        """The folder of this stream's events."""
        return Folder(self.codec, stream, self._limit)


def list_checkpoints(
    context: Context,
    serde: SerializerProtocol,
    config: RunnableConfig | None,
    filter: dict[str, Any] | None,
    before: RunnableConfig | None,
    limit: int | None,
) -> Steps[CheckpointTuple]:
    """The checkpoints of one `list()` call, newest first. Validates first.

    Raises InvalidInputError for a config, filter, `before` or limit that is not one.
    """
    before_id = None if before is None else parse_before(before)
    selection = Selection(*parse_selection(config), before_id, filter_json(filter))
    # Tuples of one listing may share decoded objects.
    reader = Reader(context, serde, share=True) if context.settings.share_history else context.reader(serde)
    statements, left = context.statements, limit_of(limit)
    # A caller that gives a limit wants that many.
    fetch, size = ROWS, FIRST_CHUNK if left is None else max(FIRST_CHUNK, min(left, LARGEST_CHUNK))
    after: CheckpointRow | None = None
    while left != 0:
        wanted = fetch if left is None else min(fetch, left)
        rows = yield partial(select_checkpoints, statements, selection, wanted, after)
        waiting = rows
        while waiting:
            chunk = affordable(waiting, size)
            count, read = yield partial(reader.read_affordable, chunk)
            waiting = waiting[count:]
            size = min(count * 2 if count < len(chunk) else size * 2, LARGEST_CHUNK)
            read.reverse()
            while read:
                # Free its memory while others are read.
                folded = read.pop()
                shown = replace(folded, observed=REPLAYED) if config and is_replay(config) else folded
                found = yield Weighed(partial(reader.tuple_of, shown), folded.state.state_bytes)
                if found is not None:
                    yield [found]
        if len(rows) < wanted:
            return
        left = None if left is None else left - len(rows)
        after = rows[-1]
        fetch = min(fetch * 4, MOST_ROWS)
