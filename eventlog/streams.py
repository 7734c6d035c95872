"""Who an operation is about: threads, namespaces and checkpoints, validated at the door.

The rules are PostgreSQL's: text cannot hold NUL or lone surrogates, and what is indexed together must fit an index
entry (a third of a page: 2,704 bytes with its headers).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard
from uuid import UUID

from eventlog.errors import InvalidInputError

__all__ = [
    "MAX_ID_BYTES",
    "Stream",
    "checkpoint_id_of",
    "is_mapping",
    "root_id_of",
    "storable",
    "stream_of",
    "text_id",
    "thread_id_of",
]

#: Thread id, namespace and checkpoint id together, in UTF-8.
MAX_ID_BYTES = 2600


class Stream(NamedTuple):
    """One namespace of one thread: the unit that has an order of its own."""

    thread_id: str
    checkpoint_ns: str

    def describe_event(self, seq: int) -> str:
        """How an error names an event of the stream: a comma and what is wrong with it follow."""
        return f"event {seq} of thread {self.thread_id!r}, namespace {self.checkpoint_ns!r},"


def text_id(value: Any, what: str) -> str:
    """The text of an id: that of a `str`, an `int` or a `UUID`.

    Raises:
        InvalidInputError: for another type, an empty text, or one that PostgreSQL cannot store.
    """
    if type(value) is str and value:
        return storable(value, what)
    if isinstance(value, bool) or not isinstance(value, (str, int, UUID)):
        raise InvalidInputError(f"{what} must be a str, int or UUID, not {type(value).__name__}")
    text = str(value)
    if not text:
        raise InvalidInputError(f"{what} must not be empty")
    return storable(text, what)


def storable(text: Any, what: str) -> str:
    """A text that PostgreSQL and msgpack can hold.

    Raises:
        InvalidInputError: for anything else.
    """
    if type(text) is str and len(text) <= MAX_ID_BYTES and text.isascii() and "\0" not in text:
        return text
    if not isinstance(text, str):
        raise InvalidInputError(f"{what} must be a str, not {type(text).__name__}")
    if "\0" in text:
        raise InvalidInputError(f"{what} must not contain NUL characters")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as exc:
        raise InvalidInputError(f"{what} must not contain lone surrogates") from exc
    if size > MAX_ID_BYTES:
        raise InvalidInputError(f"{what} is {size} bytes long; the limit is {MAX_ID_BYTES}")
    return text


def is_mapping(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value is a mapping. Nearly all are dicts; to ask an abstract class takes ten times as long."""
    return type(value) is dict or isinstance(value, Mapping)


def _configurable(config: Any) -> Mapping[str, Any]:
    configurable = config.get("configurable") if is_mapping(config) else None
    if not is_mapping(configurable):
        raise InvalidInputError('config must be {"configurable": {"thread_id": …}}')
    return configurable


def thread_id_of(config: Any) -> str:
    """The config's thread id."""
    configurable = _configurable(config)
    if configurable.get("thread_id") is None:
        raise InvalidInputError('config["configurable"]["thread_id"] is missing')
    return text_id(configurable["thread_id"], "thread_id")


def namespace_of(config: Any) -> str | None:
    """The config's namespace, None when it names none."""
    namespace = _configurable(config).get("checkpoint_ns")
    if namespace is None:
        return None
    return storable(namespace, "checkpoint_ns")


def stream_of(config: Any) -> Stream:
    """The config's stream; without a namespace, the root graph's."""
    return Stream(thread_id_of(config), namespace_of(config) or "")


def checkpoint_id_of(config: Any) -> str | None:
    """The config's checkpoint id, None when it names none."""
    # LangGraph writes "" where it means none.
    value = _configurable(config).get("checkpoint_id")
    return None if value is None or value == "" else text_id(value, "checkpoint_id")


def root_id_of(config: Any) -> str | None:
    """The root graph's checkpoint that a subgraph runs under, None for the root graph itself.

    LangGraph hands it down in ``checkpoint_map``, by namespace.
    """
    configurable = _configurable(config)
    parents = configurable.get("checkpoint_map")
    if not configurable.get("checkpoint_ns") or not is_mapping(parents):
        return None
    root_id = parents.get("")
    return text_id(root_id, "checkpoint_map['']") if root_id else None


def check_size(stream: Stream, checkpoint_id: str) -> None:
    """Raises InvalidInputError when an index entry could not hold the three together."""
    texts = (*stream, checkpoint_id)
    if sum(map(len, texts)) <= MAX_ID_BYTES // 4:  # whatever the characters
        return
    size = sum(len(text.encode()) for text in texts)
    if size > MAX_ID_BYTES:
        raise InvalidInputError(
            f"thread_id, checkpoint_ns and checkpoint_id are {size} bytes together; the limit is {MAX_ID_BYTES}"
        )
