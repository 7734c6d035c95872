"""Upcasters: the user's functions that convert old values of a channel when they are read.

The log keeps values as they were saved. A value of a channel with an upcaster is decoded as plain data, even if its
classes have changed or are missing: the user's objects become mappings with their fields and, under ``$type``, the name
of their class (`eventlog.format.strict`). LangGraph's serializer would build the objects first: it loses fields that a
class no longer has, and for a missing class it returns the fields, or nothing, without an error.

A saver with upcasters also checks the other channels: if a value names a missing class, the error says that the channel
has no upcaster.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import ormsgpack
from langgraph.checkpoint.serde._msgpack import SAFE_MSGPACK_TYPES
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from eventlog.errors import InvalidInputError, MissingClassError, UpcastError
from eventlog.format.contents import Serialized
from eventlog.format.strict import MSGPACK_TAG, TYPE, as_plain_data
from eventlog.format.values import ESCAPED_TAG, loads, loads_fields

__all__ = ["STATE_VERSION", "Upcaster", "Upcasting", "version_in"]

#: The key of a checkpoint's metadata that has the version of the state's classes.
STATE_VERSION: Final = "state_version"

#: The channel with a graph's input.
INPUT: Final = "__start__"

_OPTION: Final = ormsgpack.OPT_NON_STR_KEYS
#: LangGraph's msgpack extensions that name a class, and the one that has a value in it.
_NAMING: Final = range(6)
_DELTA_SNAPSHOT: Final = 7


@dataclass(frozen=True, slots=True)
class Upcaster:
    """Converts an old value of a channel when it is read.

    The function gets plain data: objects of your own classes are dicts with their fields and, under ``$type``, the name
    of their class, ``"package.module.Class"``. It also gets values of the new shape: the age of writes, and of values
    that a `DeltaChannel` replays, is not always known. It returns the value that the graph is to get.

    Raises:
        InvalidInputError: for a channel that is not a text, or a function that is not callable.
    """

    channel: str
    """The channel's name; for a write, the channel that it writes to."""
    function: Callable[[Any], Any]
    """Takes the value, which it may change, and returns the new one."""
    up_to: int | None = None
    """Only for checkpoints that were saved with this ``state_version``, a lower one, or none; None: for all."""

    def __post_init__(self) -> None:
        if not isinstance(self.channel, str) or not self.channel:
            raise InvalidInputError(f"an upcaster's channel must be a channel's name, not {self.channel!r}")
        if not callable(self.function):
            raise InvalidInputError(
                f"the upcaster of channel {self.channel!r} must be a function, not {type(self.function).__name__}"
            )
        if self.up_to is not None and (isinstance(self.up_to, bool) or not isinstance(self.up_to, int)):
            raise InvalidInputError(f"up_to of the upcaster of channel {self.channel!r} must be an int or None")


def version_in(metadata: Any) -> int | None:
    """The version in a checkpoint's metadata. A user's metadata may hold anything."""
    version = metadata.get(STATE_VERSION) if isinstance(metadata, Mapping) else None
    return version if type(version) is int else None


@dataclass(frozen=True, slots=True)
class Place:
    """A value's place, for errors."""

    thread_id: str
    checkpoint_ns: str
    checkpoint_id: str
    channel: str

    def __str__(self) -> str:
        return (
            f"channel {self.channel!r} of checkpoint {self.checkpoint_id!r}, thread {self.thread_id!r}, namespace "
            f"{self.checkpoint_ns!r}"
        )


class Upcasting:
    """The upcasters of a saver or a log, by channel, in their order."""

    def __init__(self, upcasters: Sequence[Upcaster]) -> None:
        self._by_channel: dict[str, list[Upcaster]] = {}
        for each in upcasters:
            self._by_channel.setdefault(each.channel, []).append(each)
        self.knows_versions = any(each.up_to is not None for each in upcasters)
        """Whether the version of a checkpoint matters."""

    def due(self, channel: str, version: int | None) -> Sequence[Upcaster]:
        """The upcasters for a channel's value of that version; None: of an unknown version."""
        found = self._by_channel.get(channel, ())
        return [each for each in found if each.up_to is None or version is None or version <= each.up_to]

    def applies(self, channel: str, version: int | None) -> bool:
        """Whether a channel's value of that version needs an upcaster, for itself or for a value in it."""
        if channel == INPUT:
            return any(self.due(each, version) for each in self._by_channel)
        return bool(self.due(channel, version))

    def outdated(self, metadata: Serialized, serde: SerializerProtocol) -> list[str]:
        """The channels with values of an earlier version, in a checkpoint with this metadata."""
        if not self.knows_versions:
            return []
        version = version_in(loads_fields(as_plain_data(serde), metadata, "the parent's metadata"))
        return [
            channel
            for channel in self._by_channel
            if any(each.up_to is not None for each in self.due(channel, version))
        ]

    def load(
        self, serde: SerializerProtocol, value: Serialized, place: Place, version: int | None, context: object
    ) -> Any:
        """A value after its upcasters.

        Args:
            serde: the plain serializer.
            context: the name of its event in errors.

        Raises:
            UpcastError: when a function fails.
            LogCorruptedError: as `eventlog.format.values.loads`.
        """
        due = self.due(place.channel, version)
        found = loads(as_plain_data(serde), value, context)
        if place.channel == INPUT and not due:
            return self._upcast_input(loads(serde, value, context), found, place, version)
        if isinstance(found, _DeltaSnapshot):
            return _DeltaSnapshot(self._upcast(due, found.value, place))
        return self._upcast(due, found, place)

    def _upcast_input(self, built: Any, plain: Any, place: Place, version: int | None) -> Any:
        """A graph's input: values for channels, by their names, or an object that has them as fields."""
        if not isinstance(plain, dict):
            return built
        fields = built if isinstance(built, dict) else {name: getattr(built, name, None) for name in plain}
        made = {name: each for name, each in fields.items() if name != TYPE}
        for name, each in plain.items():
            if due := self.due(name, version):
                made[name] = self._upcast(due, each, place)
        return made

    @staticmethod
    def _upcast(due: Sequence[Upcaster], value: Any, place: Place) -> Any:
        for each in due:
            try:
                value = each.function(value)
            except Exception as exc:
                # The user's function may raise anything: the error must name the place.
                name = getattr(each.function, "__qualname__", repr(each.function))
                error = UpcastError(
                    f"the upcaster {name} failed on {place}: {type(exc).__name__}: {exc}. The log is unchanged: mend "
                    "the function, and read again"
                )
                _tell(error, place)
                raise error from exc
        return value

    def check(self, serde: SerializerProtocol, value: Serialized, place: Place) -> None:
        """Raises MissingClassError if LangGraph's serializer would not find a class."""
        if type(serde) is not JsonPlusSerializer or serde._custom_unpack_ext_hook:
            return
        if value.type in (MSGPACK_TAG, ESCAPED_TAG + MSGPACK_TAG) and (name := _missing_class(serde, value.data)):
            error = MissingClassError(
                f"the class {name} is gone, and {place} has an object of it. Register an upcaster for the channel, "
                "which gets its fields as a dict, or bring the class back where it was"
            )
            _tell(error, place)
            error.class_name = name
            raise error


def _tell(error: UpcastError | MissingClassError, place: Place) -> None:
    error.thread_id, error.checkpoint_ns = place.thread_id, place.checkpoint_ns
    error.checkpoint_id, error.channel = place.checkpoint_id, place.channel


def _missing_class(serde: JsonPlusSerializer, data: bytes) -> str | None:
    missing: list[str] = []

    def look(code: int, inner: bytes) -> None:
        if code == _DELTA_SNAPSHOT:
            ormsgpack.unpackb(inner, ext_hook=look, option=_OPTION)
        elif code in _NAMING and not (key := _key_of(inner))[0].startswith("langchain_core.messages"):
            ormsgpack.unpackb(inner, ext_hook=look, option=_OPTION)
            allowed = serde._allowed_msgpack_modules
            is_built = allowed is True or key in SAFE_MSGPACK_TYPES or (allowed is not None and key in allowed)
            if is_built and not _is_there(*key):
                missing.append(".".join(key))

    try:
        ormsgpack.unpackb(data, ext_hook=look, option=_OPTION)
    except (ValueError, TypeError, LookupError):
        return None  # The serializer reports data that does not decode.
    return missing[0] if missing else None


def _key_of(data: bytes) -> tuple[str, str]:
    """Module and name of an object's class: the first two items of an array, read without the others."""
    texts: list[str] = []
    at = 1
    while len(texts) < 2:
        code = data[at]
        begin, size = (at + 1, code & 0x1F) if 0xA0 <= code < 0xC0 else (at + 2, data[at + 1])
        at = begin + size
        texts.append(data[begin:at].decode())
    return texts[0], texts[1]


def _is_there(module: str, name: str) -> bool:
    try:
        getattr(sys.modules.get(module) or import_module(module), name)
    except Exception:
        # A user's module may raise anything when it is imported, and the serializer would hide it.
        return False
    return True
