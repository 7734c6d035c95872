"""The fold: from a keyframe and the events after it to the state of a checkpoint.

An event is the difference between its checkpoint and its *base* (the event `base_seq`, always an earlier one of the
same stream), so the events form trees, with forks where several children have one base. The state at an event is
found by walking back along the bases to a keyframe (a snapshot, a frame that we still have, or a self-contained event)
and applying the differences forward again.

`fold_path` does that for one checkpoint: the database has walked already, and sends just the path. `fold_page` does it
for several checkpoints of one stream, whose paths share most of their events: it takes them oldest first and stops
each walk at the nearest state that an earlier one left behind, so that every event is applied once.
"""

from __future__ import annotations

from collections.abc import Iterable
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

__all__ = ["Folded", "Folder"]


@dataclass(frozen=True, slots=True)
class Folded:
    """A checkpoint, its values still serialized."""

    stream: Stream
    state: CheckpointState
    writes: list[StoredEvent]
    """Writes events, oldest first."""
    observed: ObservedHead | None = None
    """As in `eventlog.read.Path`; None in a listing."""


#: What applying an event that does not fit ends in.
_MISFITS = (ValueError, KeyError, zstandard.ZstdError)


class _Deferred(NamedTuple):
    """A value that is a difference from another channel's: worked out if it is still there in the end.

    A state that is sent along with a tool call is dropped by the next event, and need not be put together for that.
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
        # Sources are meant as they were before the event.
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
        """A channel's value, worked out if it was deferred."""
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


class Folder:
    """Folds what was read from one stream.

    Args:
        codec: decodes bodies.
        stream: whose events they are.
        limit: the most bytes that decompressing one value may produce.
    """

    def __init__(self, codec: Codec, stream: Stream, limit: int) -> None:
        self._codec = codec
        self._stream = stream
        self._limit = limit

    def fold_path(self, path: Path, known: CheckpointState | None) -> Folded:
        """The checkpoint at the end of a path.

        Args:
            known: the frame that `path` may start from.

        Raises:
            LogCorruptedError: when an event or a snapshot does not decode, or one is missing.
        """
        if not path.events:
            # The caller's frame is the checkpoint itself.
            frame = replace(self._known(path, known), epoch=path.epoch, head=path.head)
            frame.keyframe_seq, frame.keyframe_at = path.keyframe
            return Folded(self._stream, frame, path.writes, path.observed)
        steps = path.events[::-1]
        target = self.decode(path.events[0])
        for step in steps:
            if step.base_seq is not None and step.base_seq >= step.seq:
                raise LogCorruptedError(f"{self.where(step.seq)} builds on event {step.base_seq}, which is not earlier")
        if path.snapshot is not None:
            start = self._snapshot(path.snapshot)
            start.keyframe_seq, start.keyframe_at = path.snapshot.seq, path.snapshot.recorded_at
        elif path.from_known:
            start = replace(self._known(path, known))
            start.keyframe_seq, start.keyframe_at = path.keyframe
        elif steps[0].base_seq is None:
            start = CheckpointState("", {}, {}, {})
            start.keyframe_seq, start.keyframe_at = steps[0].seq, steps[0].recorded_at
        else:
            raise LogCorruptedError(f"{self.where(steps[0].seq)} builds on event {steps[0].base_seq}, which is missing")
        # A snapshot at the target itself leaves nothing to apply: its event is there for its metadata.
        steps = [step for step in steps if step.seq > start.seq]
        frame = self._replay(start, steps, path.checkpoint_id, target, {path.seq: target})
        frame.seq, frame.recorded_at, frame.epoch, frame.head = path.seq, path.recorded_at, path.epoch, path.head
        frame.keyframe_seq, frame.keyframe_at = start.keyframe_seq, start.keyframe_at
        # The keyframe's own event is free: it is the state.
        costs = [replay_cost(step.body) for step in steps if step.seq != start.keyframe_seq]
        frame.replay_cost = start.replay_cost + sum(costs)
        return Folded(self._stream, frame, path.writes, path.observed)

    def _known(self, path: Path, known: CheckpointState | None) -> CheckpointState:
        if known is None or not path.from_known:
            raise LogCorruptedError(f"{self.where(path.seq)} is missing, and the projection has its checkpoint")
        return known

    def fold_page(self, page: Page) -> list[Folded]:
        """The checkpoints of a page, in no particular order.

        Those whose path is not in the page are left out: read them one by one. Their keyframe's snapshot is gone, or
        their event: retention may drop a partition between the two looks of a reader.
        """
        frames: dict[int, CheckpointState] = {}
        decoded: dict[int, CheckpointSaved] = {}
        folded: list[Folded] = []
        for row in sorted(page.rows, key=lambda row: row.seq):
            steps: list[StoredEvent] = []
            seq: int | None = row.seq
            while seq is not None and seq not in frames:
                if seq in page.snapshots:
                    frames[seq] = self._snapshot(page.snapshots[seq])
                elif seq in page.events:
                    steps.append(page.events[seq])
                    base_seq = page.events[seq].base_seq
                    if base_seq is not None and base_seq >= seq:
                        raise LogCorruptedError(f"{self.where(seq)} builds on event {base_seq}, which is not earlier")
                    seq = base_seq
                else:
                    break
            if (seq is not None and seq not in frames) or row.seq not in page.events:
                continue
            start = CheckpointState("", {}, {}, {}) if seq is None else frames[seq]
            for step in steps:
                decoded.setdefault(step.seq, self.decode(step))
            event = decoded[row.seq] if row.seq in decoded else self.decode(page.events[row.seq])
            frame = self._replay(start, steps[::-1], row.checkpoint_id, event, decoded)
            frame.seq, frame.recorded_at = row.seq, row.recorded_at
            frames[row.seq] = frame
            folded.append(Folded(self._stream, frame, page.writes.get(row.checkpoint_id, [])))
        return folded

    def advance(
        self, base: CheckpointState | None, stored: StoredEvent, checkpoint_id: str, event: CheckpointSaved
    ) -> CheckpointState:
        """The checkpoint that one event makes of its base. Raises LogCorruptedError.

        Args:
            event: the event, decoded.
        """
        start = base or CheckpointState("", {}, {}, {})
        frame = self._replay(start, [stored], checkpoint_id, event, {stored.seq: event})
        frame.seq, frame.recorded_at = stored.seq, stored.recorded_at
        return frame

    def decode(self, stored: StoredEvent) -> CheckpointSaved:
        """One event. Raises LogCorruptedError."""
        return self._codec.decode_checkpoint(stored.body, self.where(stored.seq))

    def where(self, seq: int) -> str:
        """How an error names an event of this stream."""
        return self._stream.describe_event(seq)

    def _replay(
        self,
        start: CheckpointState,
        steps: Iterable[StoredEvent],
        checkpoint_id: str,
        target: CheckpointSaved,
        decoded: dict[int, CheckpointSaved],
    ) -> CheckpointState:
        """Apply steps to a copy of a state; the result is the state of the checkpoint that `target` saved."""
        replay = _Replay(self._stream, start, self._limit)
        for step in steps:
            replay.apply(decoded.get(step.seq) or self.decode(step), step.seq)
        return replay.freeze(checkpoint_id, target)

    def _snapshot(self, stored: StoredEvent) -> CheckpointState:
        """The state that a snapshot holds. Raises LogCorruptedError."""
        contents = self._codec.decode_snapshot(stored.body, f"the snapshot at {self.where(stored.seq)}")
        state = CheckpointState("", *contents)
        state.seq = stored.seq
        return state
