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
from datetime import datetime

import zstandard

from eventlog.errors import LogCorruptedError
from eventlog.events import StoredEvent
from eventlog.format.codec import Codec
from eventlog.format.contents import Channels, CheckpointSaved, Serialized, Versions, VersionsSeen
from eventlog.format.delta import Cross, Full, apply
from eventlog.format.rope import Rope, Value
from eventlog.read import Page, Path, StreamHead
from eventlog.streams import Stream
from snapshots.encode import replay_cost
from snapshots.state import CheckpointState
from snapshots.store import load

__all__ = ["Folded", "Folder"]


@dataclass(frozen=True, slots=True)
class Folded:
    """A checkpoint, its values still serialized."""

    stream: Stream
    state: CheckpointState
    writes: list[StoredEvent]
    """Writes events, oldest first."""
    head: StreamHead | None = None
    """As in `eventlog.read.Path`; None in a listing."""


#: What applying an event that does not fit ends in.
_MISFITS = (ValueError, KeyError, zstandard.ZstdError)


class _Misfit(Exception):
    """An event does not fit, which shows only when a later one is applied."""

    def __init__(self, seq: int, reason: Exception) -> None:
        self.seq = seq
        self.reason = reason


class _Deferred:
    """A value that is a difference from another channel's: worked out if it is still there in the end.

    A state that is sent along with a tool call is dropped by the next event, and need not be put together for that.
    """

    def __init__(self, op: Cross, source: Serialized | Value, limit: int, seq: int) -> None:
        self._op = op
        self._source = Rope(source.data) if isinstance(source, Serialized) else source[1].copy()
        self._limit = limit
        self._seq = seq

    def resolve(self) -> Value:
        try:
            value = apply(self._op, ("", self._source), self._limit)
        except _MISFITS as exc:
            raise _Misfit(self._seq, exc) from exc
        assert value is not None
        return value


class _State:
    """A state being replayed: it owns its mappings, and keeps changing values in pieces."""

    def __init__(self, versions: Versions, seen: VersionsSeen, channels: Channels) -> None:
        self.versions = dict(versions)
        self.seen = dict(seen)
        self.channels: dict[str, Serialized | Value | _Deferred] = dict(channels)

    def apply(self, event: CheckpointSaved, limit: int, seq: int) -> None:
        # Sources are meant as they were before the event.
        deferred = {
            channel: _Deferred(op, self._settled(op.source), limit, seq)
            for channel, op in event.channels.items()
            if type(op) is Cross
        }
        for channel in event.versions.removed:
            del self.versions[channel]
            self.channels.pop(channel, None)
        self.versions.update(event.versions.changed)
        for node in event.seen.removed:
            del self.seen[node]
        for node, patch in event.seen.changed.items():
            versions = dict(self.seen.get(node, ()))
            for channel in patch.removed:
                del versions[channel]
            versions.update(patch.changed)
            self.seen[node] = versions
        for channel, op in event.channels.items():
            if channel in deferred:
                self.channels[channel] = deferred[channel]
                continue
            old = self._settled(channel) if channel in self.channels else None
            if isinstance(old, Serialized):
                old = (old.type, Rope(old.data))
            value = apply(op, old, limit)
            if value is None:
                self.channels.pop(channel, None)
            else:
                self.channels[channel] = value

    def _settled(self, channel: str) -> Serialized | Value:
        """A channel's value, worked out if it was deferred."""
        value = self.channels[channel]
        if isinstance(value, _Deferred):
            value = self.channels[channel] = value.resolve()
        return value

    def freeze(self, checkpoint_id: str, event: CheckpointSaved) -> CheckpointState:
        """The state as a frame of the checkpoint that the event saved."""
        channels = {
            name: value if isinstance(value, Serialized) else Serialized(value[0], value[1].join())
            for name in self.channels
            for value in (self._settled(name),)
        }
        return CheckpointState(
            checkpoint_id,
            dict(self.versions),
            dict(self.seen),
            channels,
            event.parent_id,
            event.fields,
            event.metadata,
            event.observed_latest_id,
        )


def _whole(checkpoint_id: str, event: CheckpointSaved) -> CheckpointState | None:
    """The frame of a checkpoint that was stored without a base: all there is in most threads of a listing of many.

    None when more than taking it as it is has to be done, or the event is not in order.
    """
    channels: Channels = {}
    for name, op in event.channels.items():
        if type(op) is not Full:
            return None
        channels[name] = Serialized(*op)
    if event.versions.removed or event.seen.removed or any(patch.removed for patch in event.seen.changed.values()):
        return None
    return CheckpointState(
        checkpoint_id,
        event.versions.changed,
        {node: patch.changed for node, patch in event.seen.changed.items()},
        channels,
        event.parent_id,
        event.fields,
        event.metadata,
        event.observed_latest_id,
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
            frame = replace(self._known(path, known), epoch=path.epoch)
            return Folded(self._stream, frame, path.writes, path.head)
        steps = path.events[::-1]
        target = self.decode(path.events[0])
        for step in steps:
            if step.base_seq is not None and step.base_seq >= step.seq:
                raise LogCorruptedError(f"{self.where(step.seq)} builds on event {step.base_seq}, which is not earlier")
        if path.snapshot is not None:
            start = CheckpointState("", *load(self._codec, self._stream, path.snapshot))
            start.seq = path.snapshot.seq
            start.keyframe_seq, start.keyframe_at = path.snapshot.seq, path.snapshot.recorded_at
        elif path.from_known:
            start = self._known(path, known)
        elif steps[0].base_seq is None:
            start = CheckpointState("", {}, {}, {})
            start.keyframe_seq, start.keyframe_at = steps[0].seq, steps[0].recorded_at
        else:
            raise LogCorruptedError(f"{self.where(steps[0].seq)} builds on event {steps[0].base_seq}, which is missing")
        # A snapshot at the target itself leaves nothing to apply: its event is there for its metadata.
        steps = [step for step in steps if step.seq > start.seq]
        frame = self._replay(start, steps, path.checkpoint_id, target, {path.seq: target})
        self._place(frame, path.seq, path.recorded_at, start, steps)
        frame.epoch = path.epoch
        return Folded(self._stream, frame, path.writes, path.head)

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
                    stored = page.snapshots[seq]
                    frames[seq] = CheckpointState("", *load(self._codec, self._stream, stored))
                    frames[seq].seq = seq
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
            whole = _whole(row.checkpoint_id, event) if seq is None and len(steps) == 1 else None
            frame = whole or self._replay(start, steps[::-1], row.checkpoint_id, event, decoded)
            frame.seq, frame.recorded_at = row.seq, row.recorded_at
            frames[row.seq] = frame
            folded.append(Folded(self._stream, frame, page.writes.get(row.checkpoint_id, [])))
        return folded

    def advance(self, base: CheckpointState | None, stored: StoredEvent, checkpoint_id: str) -> CheckpointState:
        """The checkpoint that one event makes of its base. Raises LogCorruptedError."""
        event = self.decode(stored)
        frame = self._replay(
            base or CheckpointState("", {}, {}, {}), [stored], checkpoint_id, event, {stored.seq: event}
        )
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
        """Apply steps to a copy of a state; the result is the frame of the checkpoint that `target` saved."""
        state = _State(start.versions, start.seen, start.channels)
        seq = start.seq
        try:
            for step in steps:
                seq = step.seq
                state.apply(decoded.get(seq) or self.decode(step), self._limit, seq)
            return state.freeze(checkpoint_id, target)
        except _Misfit as exc:
            reason = f"{type(exc.reason).__name__}: {exc.reason}"
            raise LogCorruptedError(f"{self.where(exc.seq)} does not fit its base: {reason}") from exc
        except _MISFITS as exc:
            raise LogCorruptedError(f"{self.where(seq)} does not fit its base: {type(exc).__name__}: {exc}") from exc

    @staticmethod
    def _place(
        frame: CheckpointState, seq: int, at: datetime, start: CheckpointState, steps: list[StoredEvent]
    ) -> None:
        """Where the frame is, and what replaying to it costs (the keyframe's own event is free: it is the state)."""
        frame.seq, frame.recorded_at = seq, at
        frame.keyframe_seq, frame.keyframe_at = start.keyframe_seq, start.keyframe_at
        frame.replay_cost = start.replay_cost + sum(
            replay_cost(step.body) for step in steps if step.seq != start.keyframe_seq
        )
