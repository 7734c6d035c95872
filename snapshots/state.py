"""The state of one checkpoint, its values still serialized."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from eventlog.format.contents import NOTHING, Channels, Serialized, Versions, VersionsSeen

__all__ = ["CheckpointState"]

#: What a frame weighs beside its values: objects, keys and version texts.
ENTRY_BYTES = 200


@dataclass(slots=True)
class CheckpointState:
    """A checkpoint, its values serialized. Treated as immutable: children share what did not change."""

    checkpoint_id: str
    versions: Versions
    seen: VersionsSeen
    channels: Channels
    parent_id: str | None = None
    fields: Serialized = NOTHING
    """The checkpoint's own fields, as in `eventlog.format.contents.CheckpointSaved`."""
    metadata: Serialized = NOTHING
    observed_latest_id: str | None = None
    """As in `eventlog.format.contents.CheckpointSaved`."""

    seq: int = 0
    """The event that saved it; 0 while it is being made."""
    recorded_at: datetime | None = None
    epoch: int = 0
    """The stream's epoch when the frame was read or written: it is a base only while that has not changed."""
    keyframe_seq: int = 0
    """Where replaying it starts: a self-contained event or one with a snapshot."""
    keyframe_at: datetime | None = None
    replay_cost: int = 0
    """What a reader pays to replay from there, in bytes (`snapshots.plan`)."""
    state_bytes: int = field(init=False)
    """The size of all values, in bytes."""
    weight: int = field(init=False)
    """Approximate memory, in bytes."""

    def __post_init__(self) -> None:
        self.state_bytes = sum([len(value.data) for value in self.channels.values()])
        names = len(self.channels) + len(self.versions) + sum(map(len, self.seen.values()))
        self.weight = self.state_bytes + len(self.fields.data) + len(self.metadata.data) + ENTRY_BYTES * (1 + names)

    @property
    def largest(self) -> tuple[str, Serialized] | None:
        """Name and value of the largest channel: what other values may resemble."""
        return max(self.channels.items(), key=lambda item: len(item[1].data), default=None)
