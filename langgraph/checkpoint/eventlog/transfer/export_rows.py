"""Converting a checkpoint of the log to PostgresSaver's rows, and comparing it with existing rows.

The tables keep a checkpoint as JSON. Values that are None, texts, numbers or booleans are in it; all other values have
their own rows, by channel and version. If a value has a row, the row counts. So a text or number that JSON does not
keep exactly (NUL, NaN, 1e22) gets a row as well, and so does every value that the serializer encrypts. The tables
cannot hold two different values of a channel under one version: such a thread is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final, NamedTuple

import ormsgpack
from langgraph.checkpoint.serde.base import CipherProtocol, SerializerProtocol

from eventlog.errors import ThreadNotExportedError
from eventlog.format.contents import Channels, Serialized, Version
from eventlog.format.strict import MSGPACK_TAG
from eventlog.format.values import ESCAPED_TAG, INT_TAG, JSON_TAG, STR_TAG, loads
from projections.tuples import StoredWrite
from snapshots.state import CheckpointState

__all__ = ["BlobRow", "CheckpointRow", "Layout", "WriteRow", "same_json", "to_json", "version_text"]

#: The first bytes of msgpack for None, booleans, numbers and texts.
_PRIMITIVE: Final = frozenset(
    (*range(0x80), *range(0xA0, 0xC1), 0xC2, 0xC3, *range(0xCA, 0xD4), *range(0xD9, 0xDC), *range(0xE0, 0x100))
)

#: The first bytes of extensions (fixext 1 to 16, ext 8 to 32), and the offset of the type's code.
_EXTENSION: Final = {**dict.fromkeys(range(0xD4, 0xD9), 1), 0xC7: 2, 0xC8: 3, 0xC9: 5}

#: LangGraph's extension for a snapshot of a `DeltaChannel`.
_DELTA_SNAPSHOT: Final = 7

_NOT_HELD: Final = "langgraph-checkpoint-postgres has no way to store it"


class CheckpointRow(NamedTuple):
    """A row of `checkpoints`, its JSON as Python has it, and its values."""

    checkpoint_id: str
    parent_id: str | None
    checkpoint: dict[str, Any]
    metadata: dict[str, Any]
    channels: Channels


class BlobRow(NamedTuple):
    """A row of `checkpoint_blobs`."""

    channel: str
    version: str
    type: str
    blob: bytes


class WriteRow(NamedTuple):
    """A row of `checkpoint_writes`."""

    checkpoint_id: str
    task_id: str
    task_path: str
    idx: int
    channel: str
    type: str
    blob: bytes


class Layout:
    """The layout of one stream's checkpoints in the tables.

    Args:
        plain: the log's serializer, below its encryption.
        cipher: encrypts values, if any.
    """

    def __init__(self, plain: SerializerProtocol, cipher: CipherProtocol | None) -> None:
        self._plain, self._cipher = plain, cipher
        self._digests: dict[str, tuple[bytes, bytes]] = {}

    def rows(self, state: CheckpointState) -> tuple[CheckpointRow, list[BlobRow]]:
        """A checkpoint's row, and the rows of its values. Raises ThreadNotExportedError for an unsupported value."""
        what = f"checkpoint {state.checkpoint_id}"
        inline: dict[str, Any] = {}
        blobs: list[BlobRow] = []
        for channel, value in state.channels.items():
            if _extension(value) == _DELTA_SNAPSHOT:
                inline[channel] = True
            elif self._cipher is None or value.type == INT_TAG:
                found = self._inlined(value)
                if found is not _NO_VALUE:
                    inline[channel] = found
                    continue
            if channel not in state.versions:
                raise ThreadNotExportedError(f"{what}: channel {channel!r} has a value and no version: {_NOT_HELD}")
            held = self._held(value, f"{what}, channel {channel!r}")
            blobs.append(BlobRow(channel, version_text(state.versions[channel]), *held))
        checkpoint = {
            **self._json(state.fields, what),
            "id": state.checkpoint_id,
            "channel_values": inline,
            "channel_versions": dict(state.versions),
            "versions_seen": {node: dict(versions) for node, versions in state.seen.items()},
        }
        if not is_exact(checkpoint):
            raise ThreadNotExportedError(f"{what} has a field that JSON does not hold exactly: {_NOT_HELD}")
        metadata = _without_nul(self._json(state.metadata, f"the metadata of {what}"))
        if (key := next((key for key, value in metadata.items() if not is_exact({key: value})), None)) is not None:
            raise ThreadNotExportedError(
                f"the metadata of {what} has under {key!r} what JSON does not hold exactly: {_NOT_HELD}"
            )
        return CheckpointRow(state.checkpoint_id, state.parent_id, checkpoint, metadata, state.channels), blobs

    def write_row(self, checkpoint_id: str, write: StoredWrite) -> WriteRow:
        """A write's row. Raises ThreadNotExportedError."""
        held = self._held(write.value, f"the write of task {write.task_id} to channel {write.channel!r}")
        return WriteRow(checkpoint_id, write.task_id, write.task_path, write.idx, write.channel, *held)

    def digest(self, channel: str, value: Serialized) -> bytes:
        """The digest of a value's type and bytes, before encryption. Successive checkpoints share most values."""
        known = self._digests.get(channel)
        if known is None or known[0] is not value.data:
            known = self._digests[channel] = value.data, digest_of(value.type, value.data)
        return known[1]

    def blob_digest(self, type_: str, blob: bytes) -> bytes:
        """The same digest of a row's value."""
        return digest_of(*self.opened(type_, blob))

    def opened(self, type_: str, blob: bytes) -> tuple[str, bytes]:
        """A stored value, decrypted if it is encrypted in this layout's way."""
        plain, plus, cipher = type_.rpartition("+")
        return (plain, self._cipher.decrypt(cipher, blob)) if plus and self._cipher is not None else (type_, blob)

    def is_inline(self, value: Serialized, found: Any) -> bool:
        """Whether the value in a checkpoint's JSON equals this value."""
        return same_json(self._inlined(value), found)

    def _inlined(self, value: Serialized) -> Any:
        """The value for the checkpoint's JSON, if JSON holds it exactly; else `_NO_VALUE`."""
        if value.type == "null":
            return None
        if value.type == INT_TAG or (value.type == MSGPACK_TAG and value.data and value.data[0] in _PRIMITIVE):
            found = (
                loads(self._plain, value, "a number")
                if value.type == INT_TAG
                else ormsgpack.unpackb(value.data, option=ormsgpack.OPT_NON_STR_KEYS)
            )
            return found if is_exact(found) else _NO_VALUE
        return _NO_VALUE

    def _held(self, value: Serialized, what: str) -> tuple[str, bytes]:
        """A value in the form of its row."""
        if value.type in (INT_TAG, STR_TAG, JSON_TAG) or value.type.startswith(ESCAPED_TAG):
            raise ThreadNotExportedError(
                f"{what} has a value that LangGraph's serializer refuses (an integer of more than 64 bits, or a text "
                f"with lone surrogates): {_NOT_HELD}"
            )
        if self._cipher is None:
            return value.type, value.data
        name, encrypted = self._cipher.encrypt(value.data)
        return f"{value.type}+{name}", encrypted

    def _json(self, value: Serialized, what: str) -> dict[str, Any]:
        """Plain data. Data that the serializer made from objects is refused, because JSON would change it."""
        if value.type == MSGPACK_TAG:
            objects: list[int] = []
            found = ormsgpack.unpackb(
                value.data, ext_hook=lambda code, _: objects.append(code), option=ormsgpack.OPT_NON_STR_KEYS
            )
            if objects:
                raise ThreadNotExportedError(f"{what} has an object in it, which JSON does not hold: {_NOT_HELD}")
        else:
            found = loads(self._plain, value, what)
        return dict(found)


_NO_VALUE: Final = object()


def digest_of(type_: str, data: bytes) -> bytes:
    """The digest of a type tag and bytes."""
    return sha256(b"%b\0%b" % (type_.encode(), data)).digest()


def _extension(value: Serialized) -> int | None:
    """The code of the msgpack extension, if the value is one."""
    if value.type != MSGPACK_TAG or not value.data or (at := _EXTENSION.get(value.data[0])) is None:
        return None
    return value.data[at] if len(value.data) > at else None


def version_text(version: Version) -> str:
    """A channel's version as PostgreSQL extracts it from JSON."""
    if isinstance(version, str):
        return version
    # PostgreSQL's numbers are decimals, which keep trailing zeros after the point.
    return format(Decimal(repr(version)), "f")


def _without_nul(value: Any) -> Any:
    """Metadata without NUL characters, which PostgresSaver omits too."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nul(each) for each in value]
    return value


def is_exact(value: Any) -> bool:
    """Whether PostgreSQL's JSON returns exactly this value."""
    if type(value) is str:
        return "\0" not in value and (value.isascii() or not any("\ud800" <= each <= "\udfff" for each in value))
    if type(value) is float:
        # A decimal loses the sign of zero, and that 1e22 was no integer.
        return math.isfinite(value) and not (value.is_integer() and ("e" in repr(value) or repr(value) == "-0.0"))
    if type(value) is dict:
        return all(type(key) is str and is_exact(key) and is_exact(each) for key, each in value.items())
    if type(value) is list:
        return all(map(is_exact, value))
    return value is None or type(value) in (bool, int)


def same_json(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal and of the same types. The order of keys does not matter."""
    if type(one) is not type(other):
        return False
    if type(one) is dict:
        return one.keys() == other.keys() and all(same_json(each, other[key]) for key, each in one.items())
    if type(one) is list:
        return len(one) == len(other) and all(map(same_json, one, other))
    return bool(one == other)


def to_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """JSON for PostgreSQL."""
    return json.dumps(value, ensure_ascii=False)
