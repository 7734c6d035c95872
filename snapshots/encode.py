"""From a checkpoint to its event: which channels changed, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.errors import InvalidInputError
from eventlog.format.codec import patch_of
from eventlog.format.contents import Channels, CheckpointSaved, MapPatch, Serialized, Versions, VersionsSeen
from eventlog.format.delta import DROP, Full, Operation, difference, patched_bytes
from eventlog.format.values import dumps, dumps_fields
from eventlog.streams import storable
from snapshots.state import CheckpointState

__all__ = ["CheckpointEncoder"]

#: Fields of a checkpoint that an event holds in a form of its own.
_OWN_FORM = {"id", "channel_values", "channel_versions", "versions_seen"}


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
            storable(node, "a node's name"): _versions(seen, f"versions_seen[{node!r}]")
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

    def frame(self, checkpoint_id: str, parent_id: str | None, parent: CheckpointState | None) -> CheckpointState:
        """The checkpoint's raw state.

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
            checkpoint_id, self.versions, self.seen, channels, parent_id, self._fields, self._metadata
        )

    @staticmethod
    def event(frame: CheckpointState, base: CheckpointState | None, limit: int) -> CheckpointSaved:
        """The event that makes `base` into `frame`; self-contained without one.

        Args:
            limit: the most bytes that readers decompress its patches to, all together.
        """
        old_seen = base.seen if base else {}
        changed = {
            node: patch_of(old_seen.get(node, {}), versions)
            for node, versions in frame.seen.items()
            if node not in old_seen or old_seen[node] != versions
        }
        return CheckpointSaved(
            parent_id=frame.parent_id,
            fields=frame.fields,
            metadata=frame.metadata,
            versions=patch_of(base.versions if base else {}, frame.versions),
            seen=MapPatch(changed, [node for node in old_seen if node not in frame.seen]),
            channels=_operations(frame, base, limit),
            observed_latest_id=frame.observed_latest_id,
        )

    def _value(self, channel: str) -> Serialized | None:
        if channel not in self._values:
            return None
        if channel not in self._serialized:
            self._serialized[channel] = dumps(self._serde, self._values[channel], f"the value of channel {channel!r}")
        return self._serialized[channel]


def _versions(given: Mapping[str, Any], what: str) -> Versions:
    """A copy, made sure that it can be read back: one bad version would spoil the checkpoint for every reader."""
    for channel, version in given.items():
        storable(channel, "a channel's name")
        if isinstance(version, bool) or not isinstance(version, (str, int, float)):
            raise InvalidInputError(
                f"{what}[{channel!r}]: a version must be a str, int or float, not {type(version).__name__}"
            )
    return dict(given)


def _operations(frame: CheckpointState, base: CheckpointState | None, limit: int) -> dict[str, Operation]:
    if base is None:
        return {channel: Full(*value) for channel, value in frame.channels.items()}
    largest = base.largest
    operations: dict[str, Operation] = {}
    for channel, value in frame.channels.items():
        # Inherited values are the same objects; equal ones cost a comparison at memory speed and no event bytes.
        if (old := base.channels.get(channel)) is not value and old != value:
            operations[channel] = op = difference(value, old, largest, limit=limit)
            limit -= patched_bytes(op, limit)
    # A channel that lost its version loses its value with it (`snapshots.fold`).
    for channel in base.channels:
        if channel not in frame.channels and channel in frame.versions:
            operations[channel] = DROP
    return operations
