"""The contents of bodies, decoded as far as the log understands them: values stay bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from typing_extensions import NamedTuple  # the standard one is not generic before Python 3.11

__all__ = [
    "NOTHING",
    "Channels",
    "CheckpointSaved",
    "Patch",
    "SavedWrite",
    "Serialized",
    "Version",
    "Versions",
    "VersionsSeen",
    "WritesSaved",
]

V = TypeVar("V")


class Serialized(NamedTuple):
    """A value as the serializer gave it: its type tag and its bytes."""

    type: str
    data: bytes


#: Stands where nothing was serialized.
NOTHING = Serialized("null", b"")

Version: TypeAlias = "str | int | float"
Versions: TypeAlias = dict[str, Version]
VersionsSeen: TypeAlias = dict[str, Versions]
Channels: TypeAlias = dict[str, Serialized]


class Patch(NamedTuple, Generic[V]):
    """What makes one mapping into another."""

    changed: dict[str, V]
    removed: list[str]


@dataclass(slots=True)
class CheckpointSaved:
    """A checkpoint, as the difference from its base; with no base, from nothing."""

    parent_id: str | None
    fields: Serialized
    """The checkpoint's own fields: all but the id, the channels and the versions."""
    metadata: Serialized
    versions: Patch[Version]
    seen: Patch[Patch[Version]]
    channels: dict[str, list[object]]
    """Channel to operation, in the form of `eventlog.format.delta`."""
    observed_latest_id: str | None = None
    """The greatest checkpoint id that its writer knew of when it read the parent, where that is not the parent: it knew
    of children of the parent that are not greater, and forks off deliberately. None: it took the parent for the latest,
    and knew of no child."""


class SavedWrite(NamedTuple):
    """One write of a task."""

    idx: int
    channel: str
    op: list[object]
    """The value, as `eventlog.format.delta` has it: in full, or as a difference from a channel of its checkpoint."""


@dataclass(slots=True)
class WritesSaved:
    """The writes of one `put_writes` call."""

    task_id: str
    task_path: str
    writes: list[SavedWrite]
