"""Elements: what LangGraph's serializer decodes one by one inside of a value, and what need not be decoded again.

Decoding takes nearly all of the time of a read, and constructing messages nearly all of that: 11 to 28 µs for each of
the 1,200 in a conversation of 300 turns. The next state of the thread has the same messages but one. The serializer
hands each of them, as bytes, to a hook; here the hook looks first whether it knows these bytes.

`MessageCache` keeps a message that was decoded before and gives out a *copy*, which takes a fifth of the time. Nobody
can tell it from one that was decoded: all that can be changed in it is its own. That is so only for what is constructed
from its fields and nothing else, so it is done for LangChain's messages, of exactly these classes, and only where they
hold plain data. All else is decoded each time.

`SharedElements` gives out the same object again, whatever it is: for those who asked for it and do not change what
they read (`share_history`).
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any, Final, cast

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

__all__ = ["MESSAGES", "MessageCache", "SharedElements", "ValueDecoder"]

#: Classes whose instances are made of their fields and nothing else.
MESSAGES: Final[frozenset[type]] = frozenset(
    (AIMessage, AIMessageChunk, ChatMessage, FunctionMessage, HumanMessage, RemoveMessage, SystemMessage, ToolMessage)
)

#: What cannot be changed and may be in many messages at once.
ATOMS: Final = frozenset((type(None), bool, int, float, str, bytes))

#: What an element weighs beside its bytes: objects and their mappings.
ENTRY_BYTES = 1200

#: The same for each list and mapping in a message that is kept, with what copies it. In the bytes it may be one.
CONTAINER_BYTES = 400

#: Elements that were decoded once are remembered by a hash, so many of them: a scan of what is never read again should
#: not make copies, nor push out what is.
ADMISSION_FILTER_SIZE = 50_000

#: To make what copies a message takes two to eight times as long as to decode it. Where more messages are read over and
#: over than there is room for, each would push out another before it is asked for; so of those that are not known, one
#: in so many is kept once the cache is full.
ADMIT_ONE_IN = 16

Hook = Callable[[int, bytes], Any]
Make = Callable[[], Any]


class ValueDecoder:
    """Decodes what checkpoints consist of. Errors: as `eventlog.format.values.loads`, beginning with `context`."""

    def __init__(self, serde: SerializerProtocol) -> None:
        self._serde = serde

    def value(self, value: Serialized, context: object) -> Any:
        """A value, which belongs to the caller unless it is shared."""
        return loads(self._serde, value, context)

    def channels(self, event: EventRef, channels: Channels) -> dict[str, Any]:
        """The values of the channels of the checkpoint that an event saved."""
        stream, seq, _ = event
        return {name: loads(self._serde, value, EventRef(stream, seq, name)) for name, value in channels.items()}


class _Unlike(Exception):
    """An object that may not be copied field by field."""


# A message's own `__setattr__` validates.
_new = object.__new__
_set = object.__setattr__


def _copier(message: Any) -> tuple[Make, int]:
    """What makes copies of a message, which is given to nobody from now on; and how many containers are in it.

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
    """What makes copies of plain data; None when it needs none.

    Decided once for each container, not for each copy.

    Args:
        known: the containers so far. None may be in two places: its copies would be two.
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
    """The parts of a container that have to be copied, and what copies them."""
    return [(place, maker) for place, value in parts if (maker := _maker(value, known)) is not None]


class _Generations:
    """The more recently used entries of a mapping, bounded by bytes.

    Two halves: what is used moves to the young one, and when that is full it becomes the old one. Looking up needs
    no lock, which it would if each use were noted.
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
        """About how much memory they take."""
        return self._bytes + self._old_bytes

    @property
    def is_full(self) -> bool:
        """Whether what is kept from now on pushes out what was kept before."""
        return bool(self._old)

    def find(self, key: Any) -> tuple[Any, int] | None:
        """What is there under a key that is not among the young; None without."""
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
    """What copies messages that were decoded before, of all threads and copies of a saver. A bound of 0 keeps none."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self._seen: set[int] = set()
        self._unknown = count()

    def decoder(self, serde: SerializerProtocol) -> ValueDecoder:
        """What decodes with this serializer and with what is known."""
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
        max_bytes: bound on about how much memory they take, beside the values that were last given out.
    """

    def __init__(self, serde: SerializerProtocol, max_bytes: int) -> None:
        super().__init__(_hooked(serde, self._hook))
        self._elements = _Generations(max_bytes)
        self._stream: Stream | None = None
        self._last: Mapping[str, tuple[Serialized, Any]] = {}

    def channels(self, event: EventRef, channels: Channels) -> dict[str, Any]:
        """Values; what is as in the stream's checkpoint that was asked for last is the same object."""
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
    # The bytes, which are the key, and about as many that were decoded from them.
    return ENTRY_BYTES + 2 * len(data)


def _hooked(serde: SerializerProtocol, hook: Callable[[Hook], Hook]) -> SerializerProtocol:
    """A copy of LangGraph's own serializer with another hook, as `with_msgpack_allowlist` makes it.

    Others are left as they are, and so is one with the user's own hook: what they do with bytes is not known.
    """
    decode = getattr(serde, "_unpack_ext_hook", None)
    if type(serde) is not JsonPlusSerializer or getattr(serde, "_custom_unpack_ext_hook", True) or not callable(decode):
        return serde
    made: Any = copy.copy(serde)
    made._unpack_ext_hook = hook(decode)
    return made  # type: ignore[no-any-return]


def _delta_snapshot(data: bytes, hook: Hook) -> _DeltaSnapshot:
    """A snapshot of a `DeltaChannel`, as the serializer decodes it, but with what is known of the elements in it."""
    return _DeltaSnapshot(ormsgpack.unpackb(data, ext_hook=hook, option=ormsgpack.OPT_NON_STR_KEYS))


def _has_elements(data: bytes) -> bool:
    """Whether there are elements in an element: what becomes of them is for the serializer's allowlist to say."""
    found: list[int] = []
    ormsgpack.unpackb(data, ext_hook=lambda code, _: found.append(code), option=ormsgpack.OPT_NON_STR_KEYS)
    return bool(found)
