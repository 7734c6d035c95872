"""The contents of bodies, decoded as far as the log understands them: values stay bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeAlias, TypeVar

from typing_extensions import NamedTuple  # the standard one is not generic before Python 3.11

from eventlog.format.delta import Operation, Serialized
from eventlog.format.digest import SALT_BYTES

__all__ = [
    "NOTHING",
    "NO_SALT",
    "Channels",
    "CheckpointSaved",
    "MapPatch",
    "SavedWrite",
    "Serialized",
    "Version",
    "Versions",
    "VersionsSeen",
    "WritesSaved",
]

V = TypeVar("V")


#: Stands in for a value that was not serialized.
NOTHING = Serialized("null", b"")

#: The salt of an event that was not saved yet.
NO_SALT = bytes(SALT_BYTES)

Version: TypeAlias = "str | int | float"
Versions: TypeAlias = dict[str, Version]
VersionsSeen: TypeAlias = dict[str, Versions]
Channels: TypeAlias = dict[str, Serialized]


class MapPatch(NamedTuple, Generic[V]):
    """The difference between two mappings."""

    changed: dict[str, V]
    removed: list[str]


@dataclass(slots=True)
class CheckpointSaved:
    """A checkpoint, as the difference from its base; without a base, from nothing."""

    parent_id: str | None
    fields: Serialized
    """The checkpoint's own fields: all except the id, the channels and the versions."""
    metadata: Serialized
    versions: MapPatch[Version]
    seen: MapPatch[MapPatch[Version]]
    channels: dict[str, Operation]
    observed_latest_id: str | None = None
    """The greatest checkpoint id that its writer knew when it read the parent, if greater than the parent: the writer
    knew the parent's children up to that id, and forks deliberately. None: the writer took the parent for the latest
    checkpoint, and knew of no child."""
    salt: bytes = NO_SALT
    """Random, so that a short state cannot be guessed from its digest (`eventlog.format.digest`)."""
    erased_parent_id: str | None = None
    """The parent as saved, if it was erased since: then `parent_id` is None."""
    size: int = field(default=0, compare=False)
    """The bytes of its body before compression; 0 while it is being made."""


class SavedWrite(NamedTuple):
    """One write of a task."""

    idx: int
    channel: str
    op: Operation
    """Sets the value: `Full`, or `Cross` from a channel of its checkpoint."""


@dataclass(slots=True)
class WritesSaved:
    """The writes of one `put_writes` call."""

    task_id: str
    task_path: str
    writes: list[SavedWrite]
    salt: bytes = NO_SALT
    """As in `CheckpointSaved`."""
    actor: str | None = None
    """The person or service that the graph ran for, if its config named one. A checkpoint has it in its metadata."""
    size: int = field(default=0, compare=False)
    """As in `CheckpointSaved`."""
