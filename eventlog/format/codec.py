"""Event bodies: the bytes of events, encoded and decoded.

    body       = format byte, rest
    format     = low four bits: version (1; 2 is JSON written by the database), 0x10 compressed, 0x20 encrypted,
                 0x40 compressed with the dictionary in `bodies.dict`
    encrypted  = msgpack [cipher's name, ciphertext of the rest]
    compressed = one zstd frame that says its size

    checkpoint = [parent, [type, fields], [type, metadata], versions, seen, channels, salt(, known through(, true))]
        versions = [{channel: version}, [removed]]           seen = [{node: versions}, [removed]]
        channels = {channel: operation}                      true: the parent was erased
    writes     = [task id, task path, [[idx, channel, operation], …], salt(, actor)]
    snapshot   = [versions, seen, {channel: [type, bytes]}]

    operation  = [0, type, bytes]                                        full
               | [1, type, header, offset, prefix, inserted, suffix]     splice
               | [2, type, bytes]                                        patch
               | [3]                                                     drop
               | [4, channel, splice or patch]                           cross: the difference from that channel

Encryption comes last, so that differences and compression work on plaintext: ciphertext never resembles its
predecessor. A body that does not decode raises `LogCorruptedError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import resources
from typing import Any, Final, Generic, TypeVar, cast

import ormsgpack
import zstandard
from langgraph.checkpoint.serde.base import CipherProtocol
from zstandard import ZstdCompressor, ZstdDecompressor

from eventlog.errors import EventTooLargeError, LogCorruptedError, SerializationError
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
from eventlog.format.delta import DROP, Cross, Drop, Full, Operation, Patch, Splice, decompress, patched_bytes
from eventlog.format.digest import SALT_BYTES
from eventlog.format.msgpack_guard import unpack

__all__ = [
    "ENCRYPTED",
    "Codec",
    "patch_of",
]

T = TypeVar("T")
V = TypeVar("V")
C = TypeVar("C")

VERSION: Final = 1
COMPRESSED: Final = 0x10
ENCRYPTED: Final = 0x20
DICTIONARY: Final = 0x40

#: Compressing a smaller body costs more than it saves.
SMALLEST_COMPRESSED = 128

#: A larger body has more in common with itself than with the dictionary, which holds common beginnings of bodies.
LARGEST_WITH_DICTIONARY = 16 * 1024

#: From this size on, a sample of so many pieces of so many bytes tells whether a body compresses.
SMALLEST_SAMPLED = 1024 * 1024
SAMPLES = 16
SAMPLE_BYTES = 4096


class _Contexts(Generic[C]):
    """zstd contexts of one kind, each of which serves one call at a time.

    A call borrows one. One per thread would not last: LangGraph starts new threads for each run, and creating a context
    with its dictionary takes ten times as long as compressing a small body.
    """

    def __init__(self, make: Callable[[], C]) -> None:
        self._make = make
        self._idle: list[C] = []

    def run(self, call: Callable[[C, bytes], T], data: bytes) -> T:
        """Call with a context and data."""
        # A single list operation is atomic for other threads.
        try:
            context = self._idle.pop()
        except IndexError:
            context = self._make()
        result = call(context, data)
        # Not after an error, which leaves the context in an unknown state.
        self._idle.append(context)
        return result


class Codec:
    """Encodes and decodes bodies.

    Args:
        limit: the most bytes of a body before compression, also when decompressing.
        level: zstd's compression level.
        cipher: encrypts bodies, if there is one.
    """

    def __init__(self, limit: int, level: int, cipher: CipherProtocol | None = None) -> None:
        self._limit = limit
        self._level = level
        self._cipher = cipher

    # --- checkpoints

    def encode_checkpoint(self, event: CheckpointSaved) -> bytes:
        """Raises SerializationError, EventTooLargeError."""
        # Plain tuples: msgpack calls back for every other object.
        content: list[Any] = [
            event.erased_parent_id or event.parent_id,
            tuple(event.fields),
            tuple(event.metadata),
            tuple(event.versions),
            ({node: tuple(patch) for node, patch in event.seen.changed.items()}, event.seen.removed),
            {
                channel: op if type(op) is Cross or type(op) not in _TAGS else (_TAGS[type(op)], *op)
                for channel, op in event.channels.items()
            },
            event.salt,
        ]
        if event.observed_latest_id is not None or event.erased_parent_id is not None:
            content.append(event.observed_latest_id)
        if event.erased_parent_id is not None:
            content.append(True)
        return self._seal(content, "checkpoint")

    def decode_checkpoint(self, body: bytes, where: str) -> CheckpointSaved:
        """Raises LogCorruptedError, naming `where`."""
        event, size = self._open(body, where, _checkpoint)
        event.size = size
        self._check_patches(event.channels.values(), where)
        return event

    def decode_changes(self, body: bytes, where: str) -> tuple[dict[str, Operation], list[str]]:
        """The channels' part of a checkpoint's event: operations, and channels without a version.

        Raises LogCorruptedError, naming `where`.
        """
        (channels, removed), _ = self._open(body, where, _changes)
        self._check_patches(channels.values(), where)
        return channels, removed

    # --- writes

    def encode_writes(self, event: WritesSaved) -> bytes:
        """Raises SerializationError, EventTooLargeError."""
        content = [event.task_id, event.task_path, event.writes, event.salt]
        return self._seal(content if event.actor is None else [*content, event.actor], "writes")

    def decode_writes(self, body: bytes, where: str) -> WritesSaved:
        """Raises LogCorruptedError, naming `where`."""
        event, size = self._open(body, where, _writes)
        event.size = size
        self._check_patches([write.op for write in event.writes], where)
        return event

    # --- snapshots

    def encode_snapshot(self, versions: Versions, seen: VersionsSeen, channels: Channels) -> bytes:
        """Raises EventTooLargeError."""
        return self._seal([versions, seen, channels], "snapshot")

    def decode_snapshot(self, body: bytes, where: str) -> tuple[Versions, VersionsSeen, Channels]:
        """Raises LogCorruptedError, naming `where`."""
        return self._open(body, where, _snapshot)[0]

    # --- all bodies

    def _seal(self, content: list[Any], what: str) -> bytes:
        try:
            data = ormsgpack.packb(content, default=_plain)
        except (ormsgpack.MsgpackEncodeError, TypeError, ValueError) as exc:
            raise SerializationError(
                f"the {what}'s names and versions must be text, integers of 64 bits or floats: {exc}"
            ) from exc
        if len(data) > self._limit:
            raise EventTooLargeError(
                f"the {what} is {len(data)} bytes; max_body_bytes is {self._limit}. Raise the setting, "
                "or keep large values outside the graph's state"
            )
        flags = VERSION
        if len(data) >= SMALLEST_COMPRESSED and (len(data) < SMALLEST_SAMPLED or self._compresses(data)):
            known = len(data) <= LARGEST_WITH_DICTIONARY
            compressed = _compressors(self._level, known).run(ZstdCompressor.compress, data)
            if len(compressed) < len(data) * 9 // 10:
                data = compressed
                flags |= COMPRESSED | DICTIONARY if known else COMPRESSED
        if self._cipher is not None:
            data = ormsgpack.packb(list(self._cipher.encrypt(data)))
            flags |= ENCRYPTED
        return bytes((flags,)) + data

    def _open(self, body: bytes, where: str, decode: Callable[[Any], T]) -> tuple[T, int]:
        """A body's content, and its size before it was compressed and encrypted."""
        try:
            # A view: copying a large body would take its size in memory again.
            flags, data = body[0], cast("bytes", memoryview(body)[1:])
            if flags & 0x0F != VERSION or flags & ~(0x0F | COMPRESSED | ENCRYPTED | DICTIONARY):
                raise ValueError(f"unknown format {flags:#04x}")
            if flags & DICTIONARY and not flags & COMPRESSED:
                raise ValueError("a dictionary without compression")
            if flags & ENCRYPTED:
                data = self._decrypt(data)
            if flags & COMPRESSED:
                data = _decompressors(bool(flags & DICTIONARY)).run(self._decompress, data)
            content = unpack(data)
            # zstd refuses bytes after the end of its frame; msgpack ignores them.
            if not flags & COMPRESSED and len(ormsgpack.packb(content)) != len(data):
                raise ValueError("bytes follow after its end")
            return decode(content), 1 + len(data)
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, zstandard.ZstdError) as exc:
            raise LogCorruptedError(f"{where} does not decode: {type(exc).__name__}: {exc}") from exc

    def _decompress(self, context: ZstdDecompressor, data: bytes) -> bytes:
        return decompress(context, data, self._limit)

    def declared_bytes(self, body: bytes) -> int:
        """The size before compression that a body declares; for an encrypted body, its stored size."""
        if len(body) < 2 or body[0] & (COMPRESSED | ENCRYPTED) != COMPRESSED:
            return len(body)
        try:
            return max(len(body), zstandard.frame_content_size(body[1:]))
        except zstandard.ZstdError:
            return len(body)

    def _check_patches(self, operations: Iterable[Operation], where: str) -> None:
        """Check that one event's patches together decompress to no more than a body may."""
        size = sum([patched_bytes(op, self._limit) for op in operations if type(op) in (Patch, Cross)])
        if size > self._limit:
            raise LogCorruptedError(
                f"{where} does not decode: its patches make {size} bytes, the limit is {self._limit}"
            )

    def _decrypt(self, data: bytes) -> bytes:
        if self._cipher is None:
            raise ValueError("it is encrypted: give the saver the EncryptedSerializer that wrote it")
        name, ciphertext = unpack(data)
        try:
            return self._cipher.decrypt(name, ciphertext)
        except Exception as exc:
            # Ciphers are the user's, and may raise any error if the key or the data is wrong.
            raise ValueError(f"decryption failed: {exc}") from exc

    def _compresses(self, data: bytes) -> bool:
        """Whether compression is worth trying: on a large body of compressed data it takes longer than everything
        else."""
        step = len(data) // SAMPLES
        sample = b"".join(data[at : at + SAMPLE_BYTES] for at in range(step // 2, len(data), step))
        return len(_compressors(self._level, False).run(ZstdCompressor.compress, sample)) < len(sample) * 9 // 10


@cache
def _content() -> bytes:
    return resources.files("eventlog.format").joinpath("bodies.dict").read_bytes()


def _dictionary() -> zstandard.ZstdCompressionDict:
    """The common content of bodies: made by `bench/dictionary.py`, and never to change. One for each context."""
    return zstandard.ZstdCompressionDict(_content(), dict_type=zstandard.DICT_TYPE_RAWCONTENT)


@cache
def _compressors(level: int, known: bool) -> _Contexts[ZstdCompressor]:
    return _Contexts(
        lambda: ZstdCompressor(
            level=level, dict_data=_dictionary() if known else None, write_checksum=False, write_dict_id=False
        )
    )


@cache
def _decompressors(known: bool) -> _Contexts[ZstdDecompressor]:
    return _Contexts(lambda: ZstdDecompressor(dict_data=_dictionary() if known else None))


#: By tag: the operation's class and the types of its parts. (A `match` on them takes seven times as long.)
_OPERATIONS: Final[dict[int, tuple[type[Operation], tuple[type, ...]]]] = {
    0: (Full, (int, str, bytes)),
    1: (Splice, (int, str, bytes, int, int, bytes, int)),
    2: (Patch, (int, str, bytes)),
    3: (Drop, (int,)),
    4: (Cross, (int, str, list)),
}
_NAME_TYPES: Final = frozenset({str})
_VERSION_TYPES: Final = frozenset({str, int, float})
_TAGS: Final = {kind: tag for tag, (kind, _) in _OPERATIONS.items()}


def _plain(value: Any) -> Any:
    """Named tuples are the only objects in a body that msgpack does not know. An operation begins with its tag."""
    if (tag := _TAGS.get(type(value))) is not None:
        return (tag, *value)
    if isinstance(value, tuple):
        return tuple(value)
    raise TypeError(f"{type(value).__name__} is not allowed")


# Decoding checks everything that replay relies on: an altered body fails here, with its position, and not somewhere in
# a graph.


def _typed(value: Any, kind: type[V]) -> V:
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, found {type(value).__name__}")
    return value


def _id(value: Any) -> str:
    """An id, as far as PostgreSQL would refuse any other text."""
    text = _typed(value, str)
    if "\0" in text:
        raise ValueError("an id that contains NUL")
    return text


def _map(value: Any, item: Callable[[Any], V]) -> dict[str, V]:
    return {_typed(key, str): item(each) for key, each in value.items()}


def _version(value: Any) -> Any:
    if type(value) not in _VERSION_TYPES:
        raise TypeError(f"expected a version, found {type(value).__name__}")
    return value


def _versions(value: Any) -> Versions:
    # Some graphs have hundreds of channels: avoid a Python call for each.
    is_plain = type(value) is dict and _NAME_TYPES.issuperset(map(type, value))
    if is_plain and _VERSION_TYPES.issuperset(map(type, value.values())):
        return value  # type: ignore[no-any-return]
    return _map(value, _version)  # Raises, and says what is wrong.


def _patch(value: Any, items: Callable[[Any], dict[str, V]]) -> MapPatch[V]:
    changed, removed = value
    return MapPatch(items(changed), [_typed(each, str) for each in removed])


def _seen(value: Any) -> dict[str, MapPatch[Any]]:
    return _map(value, _versions_patch)


def _versions_patch(value: Any) -> MapPatch[Any]:
    return _patch(value, _versions)


def _salt(value: Any) -> bytes:
    salt = _typed(value, bytes)
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt must have {SALT_BYTES} bytes")
    return salt


def _serialized(value: Any) -> Serialized:
    type_, data = value
    return Serialized(_typed(type_, str), _typed(data, bytes))


def _operation(value: Any) -> Operation:
    kind, types = _OPERATIONS[value[0]]
    if type(value) is not list or tuple(map(type, value)) != types:
        raise ValueError("a malformed channel operation")
    if kind is Drop:
        return DROP
    if kind is Splice and (value[3] < 0 or value[4] < 0 or value[6] < 0):
        raise ValueError("a splice with a negative number")
    if kind is Cross:
        value[2] = inner = _operation(value[2])
        if type(inner) not in (Splice, Patch):
            raise ValueError("a difference from another channel must be a splice or a patch")
    return tuple.__new__(kind, value[1:])


def _checkpoint(content: Any) -> CheckpointSaved:
    parent_id, fields, metadata, versions, seen, channels, salt, *more = content
    observed_latest_id = _id(more[0]) if more and more[0] is not None else None
    is_erased = len(more) > 1 and more[1] is True
    if len(more) > 1 + is_erased or more == [None] or (is_erased and parent_id is None):
        raise ValueError("unexpected items after the salt of a checkpoint")
    parent_id = None if parent_id is None else _id(parent_id)
    return CheckpointSaved(
        parent_id=None if is_erased else parent_id,
        fields=_serialized(fields),
        metadata=_serialized(metadata),
        versions=_versions_patch(versions),
        seen=_patch(seen, _seen),
        channels=_map(channels, _operation),
        observed_latest_id=observed_latest_id,
        salt=_salt(salt),
        erased_parent_id=parent_id if is_erased else None,
    )


def _changes(content: Any) -> tuple[dict[str, Operation], list[str]]:
    _, _, _, (_, removed), _, channels, *_ = content
    return _map(channels, _operation), [_typed(each, str) for each in removed]


def _writes(content: Any) -> WritesSaved:
    task_id, task_path, writes, salt, *more = content
    if len(more) > 1 or more in ([None], [""]):
        raise ValueError("unexpected items after the salt of writes")
    return WritesSaved(
        _typed(task_id, str),
        _typed(task_path, str),
        [SavedWrite(_typed(idx, int), _typed(channel, str), _operation(op)) for idx, channel, op in writes],
        _salt(salt),
        _id(more[0]) if more else None,
    )


def _snapshot(content: Any) -> tuple[Versions, VersionsSeen, Channels]:
    versions, seen, channels = content
    return _versions(versions), _map(seen, _versions), _map(channels, _serialized)


def patch_of(old: Mapping[str, V], new: Mapping[str, V]) -> MapPatch[V]:
    """The patch that makes `old` into `new`."""
    missing = object()
    return MapPatch(
        {key: value for key, value in new.items() if old.get(key, missing) != value},
        [key for key in old if key not in new],
    )
