"""From a checkpoint to its event: which channels changed, how, and whether a snapshot goes along.

A snapshot is due when replaying would cost as much as reading it. Replaying costs the bytes of the events plus a
constant for each (a row to fetch, a body to open); reading the snapshot costs its size. Between two snapshots the log
then grows by about a state's size, so all snapshots together are proportional to all events together, and no read
costs more than about twice the state.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.errors import InvalidInputError
from eventlog.format.codec import ENCRYPTED, patch_of
from eventlog.format.contents import (
    Channels,
    CheckpointSaved,
    MapPatch,
    Serialized,
    Versions,
    VersionsSeen,
    WritesSaved,
)
from eventlog.format.delta import (
    DROP,
    SMALLEST_CROSS,
    Cross,
    Full,
    Operation,
    Patch,
    cross,
    difference,
    patched_bytes,
)
from eventlog.format.digest import SALT_BYTES, channel_digest, state_digest
from eventlog.format.values import dumps, dumps_fields
from eventlog.settings import Settings
from eventlog.streams import storable
from snapshots.state import CheckpointState

__all__ = ["CheckpointEncoder", "digest_state", "digest_writes", "event_of", "plan_snapshot", "replay_cost"]

#: Fields of a checkpoint that an event holds in a form of its own.
_OWN_FORM = {"id", "channel_values", "channel_versions", "versions_seen"}

#: What handling one event costs, in bytes of a snapshot that are read in the same time.
EVENT_COST_BYTES = 1024

#: The same where it is encrypted: a cipher takes half a millisecond to begin.
ENCRYPTED_EVENT_COST_BYTES = 8 * 1024


class CheckpointEncoder:
    """A checkpoint on its way into the log. Every value is serialized at most once, whatever base it ends up with.

    Args:
        serde: the plain serializer.
        checkpoint: as LangGraph gives it.
        metadata: as it is to be read back.
        new_versions: the channels that this checkpoint sets, with their versions.

    Raises:
        InvalidInputError: when the checkpoint is not one.
        SerializationError: here or later, when the serializer refuses a value.
    """

    def __init__(
        self,
        serde: SerializerProtocol,
        checkpoint: Mapping[str, Any],
        metadata: Mapping[str, Any],
        new_versions: Mapping[str, Any],
    ) -> None:
        missing = [key for key in ("id", "channel_values", "channel_versions") if key not in checkpoint]
        if missing:
            raise InvalidInputError(f"the checkpoint has no {', '.join(missing)}")
        self._serde = serde
        self._values: Mapping[str, Any] = checkpoint["channel_values"]
        self._serialized: Channels = {}
        self.new = new_versions.keys()
        self.versions: Versions = _versions(checkpoint["channel_versions"], "channel_versions")
        self.seen: VersionsSeen = {
            _name(node, "a node's name"): _versions(seen, f"versions_seen[{node!r}]")
            for node, seen in (checkpoint.get("versions_seen") or {}).items()
        }
        own = {key: value for key, value in checkpoint.items() if key not in _OWN_FORM}
        self._fields = dumps_fields(serde, own, "the checkpoint's own fields")
        self._metadata = dumps_fields(serde, dict(metadata), "the checkpoint's metadata")

    def small_and_new(self, limit: int) -> bool:
        """Whether nothing is inherited and all values together are smaller than `limit` bytes.

        Then reading the parent for a base would cost more than it saves.
        """
        return all(channel in self.new for channel in self.versions) and (
            sum(len(value.data) for channel in self.versions if (value := self._value(channel))) < limit
        )

    def state(self, checkpoint_id: str, parent_id: str | None, parent: CheckpointState | None) -> CheckpointState:
        """The checkpoint's state.

        A channel in `new_versions` has the value that is given, or none. Any other keeps its parent's value while its
        version stays the same. What is left are versions that come from elsewhere in the thread, as in LangGraph's
        copies of a checkpoint: they have the value that is given.
        """
        channels: Channels = {}
        for channel, version in self.versions.items():
            inherited = channel not in self.new and parent is not None and parent.versions.get(channel) == version
            value = parent.channels.get(channel) if inherited and parent is not None else self._value(channel)
            if value is not None:
                channels[channel] = value
        return CheckpointState(
            checkpoint_id,
            self.versions,
            self.seen,
            channels,
            parent_id,
            self._fields,
            self._metadata,
            salt=os.urandom(SALT_BYTES),
        )

    def _value(self, channel: str) -> Serialized | None:
        if channel not in self._values:
            return None
        if channel not in self._serialized:
            self._serialized[channel] = dumps(self._serde, self._values[channel], f"the value of channel {channel!r}")
        return self._serialized[channel]


def _name(value: Any, what: str) -> str:
    # Nearly all names are short, plain texts.
    if type(value) is str and len(value) <= 200 and value.isascii() and "\0" not in value:
        return value
    return storable(value, what)


def _versions(versions: Mapping[str, Any], what: str) -> Versions:
    """A copy, made sure that it can be read back: one bad version would spoil the checkpoint for every reader."""
    for channel, version in versions.items():
        _name(channel, "a channel's name")
        if type(version) is not str and (isinstance(version, bool) or not isinstance(version, (str, int, float))):
            raise InvalidInputError(
                f"{what}[{channel!r}]: a version must be a str, int or float, not {type(version).__name__}"
            )
    return dict(versions)


def event_of(state: CheckpointState, base: CheckpointState | None, limit: int) -> CheckpointSaved:
    """The event that makes `base` into `state`; self-contained without one.

    Args:
        limit: the most bytes that readers decompress its patches to, all together.
    """
    old_seen = base.seen if base else {}
    changed = {
        node: patch_of(old_seen.get(node, {}), versions)
        for node, versions in state.seen.items()
        if node not in old_seen or old_seen[node] != versions
    }
    return CheckpointSaved(
        parent_id=state.parent_id,
        fields=state.fields,
        metadata=state.metadata,
        versions=patch_of(base.versions if base else {}, state.versions),
        seen=MapPatch(changed, [node for node in old_seen if node not in state.seen]),
        channels=_operations(state, base, limit),
        observed_latest_id=state.observed_latest_id,
        salt=state.salt,
        erased_parent_id=state.erased_parent_id,
    )


def digest_state(state: CheckpointState, base: CheckpointState | None, operations: Mapping[str, Operation]) -> bytes:
    """The state digest of a state; the digests of its values are kept in it, for the states that follow.

    Args:
        operations: what makes the values of `base` into those of `state`, for channels that changed.
    """
    known = base.digests if base is not None else {}
    for channel, value in state.channels.items():
        op, before = operations.get(channel), known.get(channel)
        state.digests[channel] = before if before and op is None else channel_digest(value, op, before)
    parent_id = state.erased_parent_id or state.parent_id
    channels = {channel: digest for channel, (digest, _) in state.digests.items()}
    content = [parent_id, tuple(state.fields), tuple(state.metadata), state.versions, state.seen, channels]
    return state_digest(state.salt, content)


def _operations(state: CheckpointState, base: CheckpointState | None, limit: int) -> dict[str, Operation]:
    if base is None:
        return {channel: Full(*value) for channel, value in state.channels.items()}
    operations: dict[str, Operation] = {}
    for channel, value in state.channels.items():
        # Inherited values are the same objects; equal ones cost a comparison at memory speed and no event bytes.
        if (old := base.channels.get(channel)) is not value and old != value:
            op: Operation = difference(value, old, limit=limit)
            if type(op) is Full and len(value.data) >= SMALLEST_CROSS:
                source = base.largest
                op = cross(value, source, limit=limit) or op if source is not None and source[1] is not old else op
            if type(op) is Patch or type(op) is Cross:
                limit -= patched_bytes(op, limit)
            operations[channel] = op
    # A channel that lost its version loses its value with it (`snapshots.fold`).
    for channel in base.channels:
        if channel not in state.channels and channel in state.versions:
            operations[channel] = DROP
    return operations


def digest_writes(event: WritesSaved, values: Sequence[Serialized]) -> bytes:
    """The state digest of writes.

    Args:
        values: those that its operations make, in their order.
    """
    writes = [
        (write.idx, write.channel, channel_digest(value).digest)
        for write, value in zip(event.writes, values, strict=True)
    ]
    content = [event.task_id, event.task_path, writes]
    return state_digest(event.salt, content if event.actor is None else [*content, event.actor])


def replay_cost(body: bytes) -> int:
    """What one more event adds to the cost of replaying, in bytes.

    Args:
        body: the event's, as stored.
    """
    return len(body) + (ENCRYPTED_EVENT_COST_BYTES if body and body[0] & ENCRYPTED else EVENT_COST_BYTES)


def plan_snapshot(state: CheckpointState, base: CheckpointState | None, body: bytes, settings: Settings) -> bool:
    """Work out where replaying a new state starts and what it costs; returns whether its event carries a snapshot.

    With a snapshot, and without a base, replay starts at the event itself: the caller enters its seq and time as the
    keyframe's when the database has given them.

    Args:
        state: the new state; its keyframe and cost are set.
        base: what its event is a difference from.
        body: the event's, as stored.
        settings: the floor, and the limit of a body: a state that might not fit into one gets no snapshot.
    """
    state.keyframe_seq, state.keyframe_at, state.replay_cost = 0, None, 0
    if base is None:
        return False
    cost = base.replay_cost + replay_cost(body)
    fits = state.weight < settings.max_body_bytes
    if fits and cost >= max(state.state_bytes, settings.snapshot_floor_bytes):
        return True
    state.keyframe_seq, state.keyframe_at, state.replay_cost = base.keyframe_seq, base.keyframe_at, cost
    return False
