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


#: Stands where nothing was serialized.
NOTHING = Serialized("null", b"")

#: Of what was not saved yet.
NO_SALT = bytes(SALT_BYTES)

Version: TypeAlias = "str | int | float"
Versions: TypeAlias = dict[str, Version]
VersionsSeen: TypeAlias = dict[str, Versions]
Channels: TypeAlias = dict[str, Serialized]


class MapPatch(NamedTuple, Generic[V]):
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
    versions: MapPatch[Version]
    seen: MapPatch[MapPatch[Version]]
    channels: dict[str, Operation]
    observed_latest_id: str | None = None
    """The greatest checkpoint id that its writer knew of when it read the parent, where that is not the parent: it knew
    of children of the parent that are not greater, and forks off deliberately. None: it took the parent for the latest,
    and knew of no child."""
    salt: bytes = NO_SALT
    """Random: it keeps short states from being guessed from their digest (`eventlog.format.digest`)."""
    erased_parent_id: str | None = None
    """The parent as saved, where it was erased since: then `parent_id` is None."""
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
    """On whose behalf the graph ran, if its config said so. A checkpoint has it in its metadata."""
    size: int = field(default=0, compare=False)
    """As in `CheckpointSaved`."""
