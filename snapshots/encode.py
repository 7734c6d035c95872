"""From a checkpoint to its event: which channels changed, how, and whether a snapshot goes along.

A snapshot is due when replaying would cost as much as reading it. Replaying costs the bytes of the events plus a
constant for each (a row to fetch, a body to open); reading the snapshot costs its size. So the log grows by about one
state between two snapshots, all snapshots together are proportional to all events together, and no read costs more
than about twice the state.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.errors import InvalidInputError
from eventlog.format.codec import ENCRYPTED, Codec, patch_of
from eventlog.format.contents import (
    Channels,
    CheckpointSaved,
    MapPatch,
    SavedWrite,
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

__all__ = [
    "CheckpointEncoder",
    "EncodedCheckpoint",
    "digest_state",
    "digest_writes",
    "encode_checkpoint",
    "encode_writes",
    "event_of",
    "plan_snapshot",
    "replay_cost",
]

#: A write's idx, channel and value.
SavedValue: TypeAlias = "tuple[int, str, Serialized]"

#: Fields of a checkpoint that an event stores separately.
_OWN_FORM = {"id", "channel_values", "channel_versions", "versions_seen"}

#: The cost of handling one event, as the number of bytes of a snapshot that are read in the same time.
EVENT_COST_BYTES = 1024

#: The same for an encrypted event: a cipher takes half a millisecond to start.
ENCRYPTED_EVENT_COST_BYTES = 8 * 1024


class CheckpointEncoder:
    """A checkpoint on its way into the log. Every value is serialized at most once, even if the base changes.

    Args:
        serde: the plain serializer.
        checkpoint: as LangGraph gives it.
        metadata: as readers get it.
        new_versions: the channels that this checkpoint sets, with their versions.
        serialized: values that are already serialized.

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
        serialized: Mapping[str, Serialized] | None = None,
    ) -> None:
        missing = [key for key in ("id", "channel_values", "channel_versions") if key not in checkpoint]
        if missing:
            raise InvalidInputError(f"the checkpoint has no {', '.join(missing)}")
        self._serde = serde
        self._values: Mapping[str, Any] = checkpoint["channel_values"]
        self._serialized: Channels = dict(serialized or {})
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
        """Whether no value is inherited and all values together are smaller than `limit` bytes.

        Then reading the parent for a base would cost more than it saves.
        """
        return all(channel in self.new for channel in self.versions) and (
            sum(len(value.data) for channel in self.versions if (value := self._value(channel))) < limit
        )

    def state(
        self,
        checkpoint_id: str,
        parent_id: str | None,
        parent: CheckpointState | None,
        renewals: Mapping[str, Callable[[], Any]] | None = None,
    ) -> CheckpointState:
        """The checkpoint's state.

        A channel in `new_versions` has the given value, or none. Any other channel keeps its parent's value if its
        version is the same. A channel with another version comes from elsewhere in the thread, as in LangGraph's copies
        of a checkpoint, and has the given value.

        Args:
            renewals: for channels that the parent has in an earlier shape: the function that returns the present value,
                which is used if the checkpoint does not have it.
        """
        channels: Channels = {}
        for channel, version in self.versions.items():
            inherited = channel not in self.new and parent is not None and parent.versions.get(channel) == version
            value = parent.channels.get(channel) if inherited and parent is not None else self._value(channel)
            if renewals and inherited and channel in renewals:
                value = self._value(channel) or dumps(self._serde, renewals[channel](), f"channel {channel!r}, renewed")
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
        if channel not in self._serialized:
            if channel not in self._values:
                return None
            self._serialized[channel] = dumps(self._serde, self._values[channel], f"the value of channel {channel!r}")
        return self._serialized[channel]


def _name(value: Any, what: str) -> str:
    # Nearly all names are short, plain texts.
    if type(value) is str and len(value) <= 200 and value.isascii() and "\0" not in value:
        return value
    return storable(value, what)


def _versions(versions: Mapping[str, Any], what: str) -> Versions:
    """A validated copy: one bad version would make the checkpoint unreadable."""
    for channel, version in versions.items():
        _name(channel, "a channel's name")
        if type(version) is not str and (isinstance(version, bool) or not isinstance(version, (str, int, float))):
            raise InvalidInputError(
                f"{what}[{channel!r}]: a version must be a str, int or float, not {type(version).__name__}"
            )
    return dict(versions)


class EncodedCheckpoint(NamedTuple):
    """An event "checkpoint saved", as it is stored."""

    body: bytes
    digest: bytes
    """The state digest."""
    base: CheckpointState | None
    """The state from which the body is a difference; None: the body holds the whole state."""
    snapshot: bytes | None
    """The snapshot to store with the event, if one is due."""


def encode_checkpoint(
    codec: Codec, state: CheckpointState, base: CheckpointState | None, settings: Settings
) -> EncodedCheckpoint:
    """The event that makes `base` into `state`; the state's keyframe and cost are set, as in `plan_snapshot`.

    Raises SerializationError, EventTooLargeError.
    """
    limit = settings.max_body_bytes
    event = event_of(state, base, limit)
    body = codec.encode_checkpoint(event)
    digest = digest_state(state, base, event.channels)
    is_due = plan_snapshot(state, base, body, settings)
    if is_due and sum(len(op.data) for op in event.channels.values() if type(op) is Full) > state.state_bytes // 2:
        # The event holds most of the state already. So the rest is added to it, instead of a snapshot with all of it.
        base, is_due = None, False
        body = codec.encode_checkpoint(event_of(state, None, limit))
        plan_snapshot(state, None, body, settings)
    snapshot = codec.encode_snapshot(state.versions, state.seen, state.channels) if is_due else None
    return EncodedCheckpoint(body, digest, base, snapshot)


def encode_writes(
    codec: Codec, event: WritesSaved, values: Sequence[SavedValue], state: CheckpointState | None, limit: int
) -> tuple[bytes, bytes, CheckpointState | None]:
    """An event "writes saved": its body, its state digest, and the state that its differences refer to, if any.

    Args:
        event: has the task; the writes are added to it.
        values: of the writes, each with its idx and channel.
        state: of their checkpoint, if it is known.
        limit: the most bytes that readers decompress its patches to, all together.
    """
    is_any_large = any(len(value.data) >= SMALLEST_CROSS for _, _, value in values)
    source = state.largest if state is not None and is_any_large else None
    base: CheckpointState | None = None
    for idx, channel, value in values:
        op = None if source is None else cross(value, source, limit=limit)
        if op is not None:
            base = state
            limit -= patched_bytes(op, limit)
        event.writes.append(SavedWrite(idx, channel, op or Full(*value)))
    return codec.encode_writes(event), digest_writes(event, [value for _, _, value in values]), base


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
    """The state digest of a state. The digests of its values are kept in the state, for its successors.

    Args:
        operations: for channels that changed: the operation from the value of `base` to that of `state`.
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
        # Inherited values are the same objects. An equal value costs a comparison at memory speed and no event bytes.
        if (old := base.channels.get(channel)) is not value and old != value:
            op: Operation = difference(value, old, limit=limit)
            if type(op) is Full and len(value.data) >= SMALLEST_CROSS:
                source = base.largest
                op = cross(value, source, limit=limit) or op if source is not None and source[1] is not old else op
            if type(op) is Patch or type(op) is Cross:
                limit -= patched_bytes(op, limit)
            operations[channel] = op
    # A channel that lost its version loses its value too (`snapshots.fold`). An imported one may never have had one.
    for channel in base.channels:
        if channel not in state.channels and (channel in state.versions or channel not in base.versions):
            operations[channel] = DROP
    return operations


def digest_writes(event: WritesSaved, values: Sequence[Serialized]) -> bytes:
    """The state digest of writes.

    Args:
        values: the resulting values of its operations, in their order.
    """
    writes = [
        (write.idx, write.channel, channel_digest(value).digest)
        for write, value in zip(event.writes, values, strict=True)
    ]
    content = [event.task_id, event.task_path, writes]
    return state_digest(event.salt, content if event.actor is None else [*content, event.actor])


def replay_cost(body: bytes) -> int:
    """The cost that one more event adds to replaying, in bytes.

    Args:
        body: of the event, as stored.
    """
    return len(body) + (ENCRYPTED_EVENT_COST_BYTES if body and body[0] & ENCRYPTED else EVENT_COST_BYTES)


def plan_snapshot(state: CheckpointState, base: CheckpointState | None, body: bytes, settings: Settings) -> bool:
    """Set the keyframe and the replay cost of a new state; returns whether its event gets a snapshot.

    With a snapshot, or without a base, replay starts at the event itself. Then the caller sets the keyframe's number
    and time once the database has returned them.

    Args:
        state: the new state; its keyframe and cost are set.
        base: the state from which its event is a difference.
        body: of the event, as stored.
        settings: the floor, and the limit of a body: a state that might not fit into a body gets no snapshot.
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
