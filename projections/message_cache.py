"""A cache of decoded messages and other *elements*: objects that LangGraph's serializer decodes one by one in a value.

Decoding takes nearly all of the time of a read, and constructing messages nearly all of that: 11 to 28 µs for each of
the 1,200 in a conversation of 300 turns. The next state of the thread has the same messages except one. The serializer
passes the bytes of each message to a hook, and the hook looks them up here first.

`MessageCache` keeps a decoded message and returns *copies* of it, in a fifth of the time. A copy cannot be
distinguished from a decoded message, and shares nothing that can be changed. This holds only for objects that are
constructed from their fields alone. So only LangChain's messages, of exactly these classes and with plain data, are
copied; everything else is decoded each time.

`SharedElements` returns the same object again, of any class, for callers who asked for that and do not change the
objects (`share_history`).
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any, Final, TypeAlias, cast

import ormsgpack
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import EXT_DELTA_SNAPSHOT, EXT_PYDANTIC_V2, JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from eventlog.format.contents import Channels, Serialized
from eventlog.format.values import loads
from eventlog.streams import EventRef, Stream

__all__ = ["MESSAGES", "DecoderOf", "MessageCache", "SharedElements", "ValueDecoder"]

#: Classes with instances that are made of their fields and nothing else.
MESSAGES: Final[frozenset[type]] = frozenset(
    (AIMessage, AIMessageChunk, ChatMessage, FunctionMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage)
)

#: Classes of immutable values, which several copies may share.
ATOMS: Final = frozenset((type(None), bool, int, float, str, bytes))

#: The weight of an element beside its bytes: the object and its mappings.
ENTRY_BYTES = 1200

#: The weight of each list and mapping in a message, with its copier. In the serialized bytes it may take one byte.
CONTAINER_BYTES = 400

#: The number of elements decoded once that are remembered by a hash. An element is cached when it is decoded again, so
#: a scan of data that is never read again neither makes copies nor evicts other entries.
ADMISSION_FILTER_SIZE = 50_000

#: Making a copier takes two to eight times as long as decoding the message. If more messages are read repeatedly than
#: fit, each would evict another before it is used again. So a full cache admits one in so many new messages.
ADMIT_ONE_IN = 16

Hook = Callable[[int, bytes], Any]
Make = Callable[[], Any]


class ValueDecoder:
    """Decodes the values of checkpoints. Errors: as `eventlog.format.values.loads`, beginning with `context`."""

    def __init__(self, serde: SerializerProtocol) -> None:
        self._serde = serde

    def value(self, value: Serialized, context: object) -> Any:
        """A value, which belongs to the caller unless it is shared."""
        return loads(self._serde, value, context)

    def channels(self, event: EventRef, channels: Channels) -> dict[str, Any]:
        """The values of the channels of the checkpoint that an event saved."""
        stream, seq, _ = event
        return {name: loads(self._serde, value, EventRef(stream, seq, name)) for name, value in channels.items()}


#: Makes the decoder for a checkpoint's values and writes, from its id and its ``state_version`` (None if unknown).
DecoderOf: TypeAlias = Callable[[str, "int | None"], ValueDecoder]


class _Unlike(Exception):
    """An object that may not be copied field by field."""


# A message's own `__setattr__` validates.
_new = object.__new__
_set = object.__setattr__


def _copier(message: Any) -> tuple[Make, int]:
    """A function that copies a message, and the number of containers in it. No reader may get this message afterwards.

    Raises _Unlike when it holds something that cannot be copied safely.
    """
    if message.__pydantic_private__ is not None:
        raise _Unlike
    known: set[int] = set()
    cls, fields, extra = type(message), message.__dict__, message.__pydantic_extra__
    mutable = _mutable(fields.items(), known)
    copy_set = message.__pydantic_fields_set__.copy
    copy_extra = _maker(extra, known)

    def make() -> Any:
        made = _new(cls)
        own = fields.copy()
        for name, maker in mutable:
            own[name] = maker()
        _set(made, "__dict__", own)
        _set(made, "__pydantic_fields_set__", copy_set())
        _set(made, "__pydantic_extra__", None if copy_extra is None else copy_extra())
        _set(made, "__pydantic_private__", None)
        return made

    return make, len(known)


def _maker(value: Any, known: set[int]) -> Make | None:
    """A function that copies plain data; None for data that copies may share.

    This is decided once for each container, not for each copy.

    Args:
        known: the containers so far. A container in two places is refused: it would have two copies.
    """
    kind = type(value)
    if kind in ATOMS:
        return None
    if kind not in (dict, list) or id(value) in known:
        raise _Unlike
    known.add(id(value))
    if not value:
        return cast("Make", kind)
    if kind is dict and not all(type(key) in ATOMS for key in value):
        raise _Unlike
    copied: Make = value.copy
    mutable = _mutable(value.items() if kind is dict else enumerate(value), known)
    if not mutable:
        return copied

    def make() -> Any:
        made = copied()
        for place, maker in mutable:
            made[place] = maker()
        return made

    return make


def _mutable(parts: Iterable[tuple[Any, Any]], known: set[int]) -> list[tuple[Any, Make]]:
    """The parts of a container that must be copied, with their copiers."""
    return [(place, maker) for place, value in parts if (maker := _maker(value, known)) is not None]


class _Generations:
    """The more recently used entries of a mapping, bounded by bytes.

    It has two halves. An entry that is used moves to the young half; when that is full, it becomes the old half. So a
    look-up needs no lock, which recording each use would need.
    """

    def __init__(self, max_bytes: int) -> None:
        self._half = max_bytes // 2
        self._lock = threading.Lock()
        self._bytes = 0
        self.young: dict[Any, tuple[Any, int]] = {}
        """Values and their weights."""
        self._old: dict[Any, tuple[Any, int]] = {}
        self._old_bytes = 0

    @property
    def size_bytes(self) -> int:
        """The approximate memory of the entries, in bytes."""
        return self._bytes + self._old_bytes

    @property
    def is_full(self) -> bool:
        """Whether further entries evict earlier ones."""
        return bool(self._old)

    def find(self, key: Any) -> tuple[Any, int] | None:
        """The entry of a key that is not in the young half; None when there is none."""
        found = self._old.get(key)
        if found is not None:
            self.add(key, *found)
        return found

    def add(self, key: Any, value: Any, weight: int) -> None:
        """Keep a value, if it is not too large."""
        if weight > self._half:
            return
        with self._lock:
            if self._bytes + weight > self._half:
                self._old, self._old_bytes = self.young, self._bytes
                self.young, self._bytes = {}, 0
            if key not in self.young:
                self.young[key] = value, weight
                self._bytes += weight


class MessageCache(_Generations):
    """Copiers of messages that were decoded before, for all threads and copies of a saver. A bound of 0 keeps none."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._seen: set[int] = set()
        self._unknown = count()

    def decoder(self, serde: SerializerProtocol) -> ValueDecoder:
        """A decoder that uses this serializer and the cache."""
        return ValueDecoder(_hooked(serde, self._hook) if self._half else serde)

    def _hook(self, decode: Hook) -> Hook:
        def hook(code: int, data: bytes) -> Any:
            if code != EXT_PYDANTIC_V2:
                return _delta_snapshot(data, hook) if code == EXT_DELTA_SNAPSHOT else decode(code, data)
            known = self.young.get(data) or self.find(data)
            return self._learn(decode, data) if known is None else known[0]()

        return hook

    def _learn(self, decode: Hook, data: bytes) -> Any:
        digest = hash(data)
        if digest not in self._seen:
            if len(self._seen) >= ADMISSION_FILTER_SIZE:
                self._seen = set()
            self._seen.add(digest)
            return decode(EXT_PYDANTIC_V2, data)
        element = decode(EXT_PYDANTIC_V2, data)
        if self.is_full and next(self._unknown) % ADMIT_ONE_IN:
            return element
        if type(element) not in MESSAGES or _has_elements(data):
            return element
        try:
            make, containers = _copier(element)
        except _Unlike:
            return element
        self.add(data, make, _weight(data) + CONTAINER_BYTES * containers)
        return make()


class SharedElements(ValueDecoder):
    """Values that may be the same objects as in the checkpoint before, for one listing.

    Args:
        max_bytes: bound on their approximate memory, beside the values that were returned last.
    """

    def __init__(self, serde: SerializerProtocol, max_bytes: int) -> None:
        super().__init__(_hooked(serde, self._hook))
        self._elements = _Generations(max_bytes)
        self._stream: Stream | None = None
        self._last: Mapping[str, tuple[Serialized, Any]] = {}

    def channels(self, event: EventRef, channels: Channels) -> dict[str, Any]:
        """The values. A value that equals that of the last requested checkpoint of the stream is the same object."""
        stream, seq, _ = event
        last = self._last if stream == self._stream else {}
        found: dict[str, tuple[Serialized, Any]] = {}
        for name, value in channels.items():
            known = last.get(name)
            if known is None or known[0] != value:
                known = value, loads(self._serde, value, EventRef(stream, seq, name))
            found[name] = known
        self._stream, self._last = stream, found
        return {name: value for name, (_, value) in found.items()}

    def _hook(self, decode: Hook) -> Hook:
        def hook(code: int, data: bytes) -> Any:
            if code == EXT_DELTA_SNAPSHOT:
                return _delta_snapshot(data, hook)
            elements, key = self._elements, (code, data)
            known = elements.young.get(key) or elements.find(key)
            if known is not None:
                return known[0]
            element = decode(code, data)
            elements.add(key, element, _weight(data))
            return element

        return hook


def _weight(data: bytes) -> int:
    # The bytes are the key, and the decoded object takes about as much again.
    return ENTRY_BYTES + 2 * len(data)


def _hooked(serde: SerializerProtocol, hook: Callable[[Hook], Hook]) -> SerializerProtocol:
    """A copy of LangGraph's own serializer with another hook, as `with_msgpack_allowlist` makes it.

    Other serializers are returned as they are, and so is one with the user's own hook: their handling of bytes is
    unknown.
    """
    decode = getattr(serde, "_unpack_ext_hook", None)
    if type(serde) is not JsonPlusSerializer or getattr(serde, "_custom_unpack_ext_hook", True) or not callable(decode):
        return serde
    made: Any = copy.copy(serde)
    made._unpack_ext_hook = hook(decode)
    return made  # type: ignore[no-any-return]


def _delta_snapshot(data: bytes, hook: Hook) -> _DeltaSnapshot:
    """A snapshot of a `DeltaChannel`, as the serializer decodes it, with its elements taken from the cache."""
    return _DeltaSnapshot(ormsgpack.unpackb(data, ext_hook=hook, option=ormsgpack.OPT_NON_STR_KEYS))


def _has_elements(data: bytes) -> bool:
    """Whether an element contains further elements: those are subject to the serializer's allowlist."""
    found: list[int] = []
    ormsgpack.unpackb(data, ext_hook=lambda code, _: found.append(code), option=ormsgpack.OPT_NON_STR_KEYS)
    return bool(found)
