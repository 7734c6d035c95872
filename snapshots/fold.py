"""The fold: from a keyframe and the events after it to the state of a checkpoint.

An event is the difference between its checkpoint and its *base* (the event `base_seq`, always an earlier one of the
same stream). So the events form trees, with forks where several children have one base. To find the state at an event,
walk back along the bases to a keyframe (a snapshot, a cached state or a self-contained event), and apply the
differences forward.

`fold_path` does this for one checkpoint, of which the database sends just the path. `fold_page` does it for several
checkpoints of one stream, with paths that share most of their events. It takes them oldest first and stops each walk at
the nearest state that an earlier walk left behind, so that every event is applied once.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

import zstandard

from eventlog.errors import LogCorruptedError
from eventlog.events import StoredEvent
from eventlog.format.codec import Codec
from eventlog.format.contents import Channels, CheckpointSaved, Serialized
from eventlog.format.delta import Cross, Drop, Full, apply
from eventlog.format.rope import Rope, Value
from eventlog.read import ObservedHead, Page, Path
from eventlog.streams import Stream
from snapshots.encode import replay_cost
from snapshots.state import CheckpointState

__all__ = ["Folded", "Folder", "Room", "StatesTooLargeError"]

#: Bytes of decoded events that are kept for other checkpoints of a page.
KEPT_BYTES = 32 * 1024 * 1024


class StatesTooLargeError(Exception):
    """States that must be in memory at once exceed the bound."""


class Room:
    """Bounds the bytes of states in memory. Decoded bytes count, not the sizes that rows claim."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int) -> None:
        """Reserve bytes. Raises StatesTooLargeError when fewer are left."""
        self._left -= size
        if self._left < 0:
            raise StatesTooLargeError


@dataclass(frozen=True, slots=True)
class Folded:
    """A checkpoint, its values still serialized."""

    stream: Stream
    state: CheckpointState
    writes: list[StoredEvent]
    """Writes events, oldest first."""
    observed: ObservedHead | None = None
    """As in `eventlog.read.Path`; None in a listing."""


#: The errors of applying an event that does not fit its base.
_MISFITS = (ValueError, KeyError, zstandard.ZstdError)


class _MissingError(LogCorruptedError):
    """An event that a checkpoint builds on is not among those that were read."""


class _Deferred(NamedTuple):
    """A value stored as a difference from another channel: it is put together only when it is needed.

    The next event usually drops a state that was sent along with a tool call.
    """

    op: Cross
    source: Value
    seq: int
    """The event that has the difference."""


class _Replay:
    """A state being replayed: it owns its mappings, and keeps changing values in pieces."""

    def __init__(self, stream: Stream, start: CheckpointState, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._versions = dict(start.versions)
        self._seen = dict(start.seen)
        self._channels: dict[str, Serialized | Value | _Deferred] = dict(start.channels)

    def apply(self, event: CheckpointSaved, seq: int) -> None:
        """Apply the difference that an event is. Raises LogCorruptedError, naming the event that does not fit."""
        try:
            self._apply(event, seq)
        except _MISFITS as exc:
            raise self._misfit(seq, exc) from exc

    def _apply(self, event: CheckpointSaved, seq: int) -> None:
        # A source is the other channel's value before the event.
        deferred: dict[str, _Deferred] = {}
        for channel, op in event.channels.items():
            if type(op) is Cross:
                source = self._settled(op.source)
                rope = Rope(source.data) if isinstance(source, Serialized) else source[1].copy()
                deferred[channel] = _Deferred(op, ("", rope), seq)
        for channel in event.versions.removed:
            del self._versions[channel]
            self._channels.pop(channel, None)
        self._versions.update(event.versions.changed)
        for node in event.seen.removed:
            del self._seen[node]
        for node, patch in event.seen.changed.items():
            self._seen[node] = versions = self._seen.get(node, {}) | patch.changed
            for channel in patch.removed:
                del versions[channel]
        for channel, op in event.channels.items():
            if type(op) is Full:
                self._channels[channel] = Serialized(*op)
            elif type(op) is Drop:
                self._channels.pop(channel, None)
            elif type(op) is Cross:
                self._channels[channel] = deferred[channel]
            else:
                old = self._settled(channel) if channel in self._channels else None
                if isinstance(old, Serialized):
                    old = old.type, Rope(old.data)
                value = apply(op, old, self._limit)
                assert value is not None
                self._channels[channel] = value

    def _settled(self, channel: str) -> Serialized | Value:
        """A channel's value, put together if it was deferred."""
        found = self._channels[channel]
        if not isinstance(found, _Deferred):
            return found
        try:
            value = apply(found.op, found.source, self._limit)
        except _MISFITS as exc:
            raise self._misfit(found.seq, exc) from exc
        assert value is not None
        self._channels[channel] = value
        return value

    def _misfit(self, seq: int, exc: Exception) -> LogCorruptedError:
        where = self._stream.describe_event(seq)
        return LogCorruptedError(f"{where} does not fit its base: {type(exc).__name__}: {exc}")

    def freeze(self, checkpoint_id: str, event: CheckpointSaved) -> CheckpointState:
        """The state of the checkpoint that the event saved. Nothing can be applied after it."""
        channels: Channels = {}
        for name, value in self._channels.items():
            if not isinstance(value, Serialized):
                settled = self._settled(name)
                value = settled if isinstance(settled, Serialized) else Serialized(settled[0], settled[1].join())
            channels[name] = value
        return CheckpointState(
            checkpoint_id,
            self._versions,
            self._seen,
            channels,
            event.parent_id,
            event.fields,
            event.metadata,
            event.observed_latest_id,
            event.salt,
            event.erased_parent_id,
        )


def _is_current(known: CheckpointState, path: Path) -> bool:
    """Whether only the checkpoint's writes may have changed since its state was read."""
    is_keyframe_same = (known.keyframe_seq, known.keyframe_at) == path.keyframe
    return is_keyframe_same and known.epoch == path.epoch and known.head == path.head


class Folder:
    """Folds events of one stream; `limit` is the most bytes that decompressing one value may produce."""

    def __init__(self, codec: Codec, stream: Stream, limit: int) -> None:
        self._codec = codec
        self._stream = stream
        self._limit = limit
        self._kept_bytes = 0

    def fold_path(self, path: Path, known: CheckpointState | None) -> Folded:
        """The checkpoint at the end of a path, which may start from the state that is `known`.

        Raises LogCorruptedError when an event or a snapshot does not decode, or one is missing.
        """
        states: dict[int, CheckpointState] = {}
        if path.snapshot is not None:
            states[path.snapshot.seq] = self._snapshot(path.snapshot)
        elif path.from_known and known is not None:
            if known.seq == path.seq and _is_current(known, path):
                return Folded(self._stream, known, path.writes, path.observed)
            states[known.seq] = start = replace(known)
            start.keyframe_seq, start.keyframe_at = path.keyframe
        events = {event.seq: event for event in path.events}
        try:
            state = self._fold(path.seq, path.checkpoint_id, events, states, {})
        except _MissingError as exc:
            raise LogCorruptedError(str(exc)) from None
        state.epoch, state.head = path.epoch, path.head
        return Folded(self._stream, state, path.writes, path.observed)

    def fold_page(self, page: Page, room: Room | None = None) -> list[Folded]:
        """The checkpoints of a page, in no particular order.

        Checkpoints with a path that leaves the page are omitted: read them one by one. The keyframe's snapshot or an
        event may be missing, because retention may drop a partition between two queries. Raises StatesTooLargeError.
        """
        states: dict[int, CheckpointState] = {}
        for seq, stored in page.snapshots.items():
            if room is not None:
                # The size that the zstd frame declares, before memory is taken. Encrypted bodies tell it too late.
                room.take(self._codec.declared_bytes(stored.body))
            states[seq] = self._snapshot(stored)
        decoded: dict[int, CheckpointSaved] = {}
        folded: list[Folded] = []
        for seq, checkpoint_id in sorted(page.rows.items()):
            with suppress(_MissingError):
                states[seq] = state = self._fold(seq, checkpoint_id, page.events, states, decoded)
                if room is not None:
                    room.take(state.weight)
                folded.append(Folded(self._stream, state, page.writes.get(checkpoint_id, [])))
        return folded

    def _fold(
        self,
        seq: int,
        checkpoint_id: str,
        events: Mapping[int, StoredEvent],
        states: Mapping[int, CheckpointState],
        decoded: dict[int, CheckpointSaved],
    ) -> CheckpointState:
        """The state after an event, from the nearest state on the way back along the bases.

        Args:
            events, states, decoded: by seq. A snapshot's state has no id: the event's own fields are missing in it.
        """
        steps: list[StoredEvent] = []
        at: int | None = seq
        while at is not None and at not in states and at in events:
            steps.append(events[at])
            at = events[at].base_seq
            if at is not None and at >= steps[-1].seq:
                raise LogCorruptedError(f"{self.where(steps[-1].seq)} builds on event {at}, which is not earlier")
        start = CheckpointState("", {}, {}, {}) if at is None else states.get(at)
        if start is not None and start.checkpoint_id and at == seq:
            return start
        if seq not in events:
            raise _MissingError(f"{self.where(seq)} is missing, and the projection has its checkpoint")
        if start is None:
            raise _MissingError(f"{self.where(steps[-1].seq)} builds on event {at}, which is missing")
        if at is None:
            start.keyframe_seq, start.keyframe_at = steps[-1].seq, steps[-1].recorded_at
        replay = _Replay(self._stream, start, self._limit)
        saved: CheckpointSaved | None = None
        for step in reversed(steps):
            saved = decoded.get(step.seq)
            if saved is None:
                saved = self.decode(step)
                self._kept_bytes += saved.size
                if self._kept_bytes <= KEPT_BYTES:
                    decoded[step.seq] = saved
            replay.apply(saved, step.seq)
        state = replay.freeze(checkpoint_id, saved or decoded.get(seq) or self.decode(events[seq]))
        state.seq, state.recorded_at = seq, events[seq].recorded_at
        state.keyframe_seq, state.keyframe_at = start.keyframe_seq, start.keyframe_at
        # The keyframe's own event costs nothing: the state after it is at hand.
        costs = [replay_cost(step.body) for step in steps if step.seq != start.keyframe_seq]
        state.replay_cost = start.replay_cost + sum(costs)
        return state

    def advance(
        self, base: CheckpointState | None, stored: StoredEvent, checkpoint_id: str, event: CheckpointSaved
    ) -> CheckpointState:
        """The state after one more event, given decoded as `event`, on its base. Raises LogCorruptedError."""
        states = {} if base is None else {base.seq: base}
        return self._fold(stored.seq, checkpoint_id, {stored.seq: stored}, states, {stored.seq: event})

    def decode(self, stored: StoredEvent) -> CheckpointSaved:
        """Decode one event. Raises LogCorruptedError."""
        return self._codec.decode_checkpoint(stored.body, self.where(stored.seq))

    def where(self, seq: int) -> str:
        """The name of an event of this stream in errors."""
        return self._stream.describe_event(seq)

    def _snapshot(self, stored: StoredEvent) -> CheckpointState:
        """The state that a snapshot holds. Raises LogCorruptedError."""
        contents = self._codec.decode_snapshot(stored.body, f"the snapshot at {self.where(stored.seq)}")
        state = CheckpointState("", *contents)
        state.seq = state.keyframe_seq = stored.seq
        state.keyframe_at = stored.recorded_at
        return state
