"""Streams, and the ids of threads, namespaces and checkpoints, validated on entry.

The rules are PostgreSQL's: text cannot hold NUL or lone surrogates, and columns that are indexed together must fit an
index entry (a third of a page: 2,704 bytes with its headers).
"""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from eventlog.errors import InvalidInputError

__all__ = [
    "MAX_ID_BYTES",
    "EventRef",
    "Stream",
    "StreamHead",
    "check_size",
    "storable",
    "text_id",
]

#: Thread id, namespace and checkpoint id together, in UTF-8.
MAX_ID_BYTES = 2600


class Stream(NamedTuple):
    """One namespace of one thread: the unit of order."""

    thread_id: str
    checkpoint_ns: str

    def describe_event(self, seq: int) -> str:
        """The name of an event of the stream in an error, which continues with a comma and the problem."""
        return str(EventRef(self, seq))


class StreamHead(NamedTuple):
    """The last event of a stream. A writer that names it expects no other event after it."""

    seq: int
    epoch: int
    digest: bytes
    """After a restore to an earlier time, numbers and epochs are handed out again."""


class EventRef(NamedTuple):
    """The name of an event, or of a channel's value in it, in an error, which continues with a comma and the problem.

    An object, because nearly all are created for values that decode, and never printed.
    """

    stream: Stream
    seq: int
    channel: str | None = None

    def __str__(self) -> str:
        (thread_id, ns), seq, channel = self
        return f"event {seq} of thread {thread_id!r}, namespace {ns!r}," + (
            "" if channel is None else f" channel {channel!r},"
        )


def text_id(value: Any, what: str) -> str:
    """The text of an id: that of a `str`, an `int` or a `UUID`.

    Raises InvalidInputError for another type, an empty text, or one that PostgreSQL cannot store.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, UUID)):
        raise InvalidInputError(f"{what} must be a str, int or UUID, not {type(value).__name__}")
    text = str(value)
    if not text:
        raise InvalidInputError(f"{what} must not be empty")
    return storable(text, what)


def storable(text: Any, what: str) -> str:
    """A text that PostgreSQL and msgpack can hold. Raises InvalidInputError for anything else."""
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


def check_size(stream: Stream, checkpoint_id: str) -> None:
    """Raises InvalidInputError if an index entry could not hold the three together."""
    texts = (*stream, checkpoint_id)
    if sum(map(len, texts)) <= MAX_ID_BYTES // 4:  # whatever the characters
        return
    size = sum(len(text.encode()) for text in texts)
    if size > MAX_ID_BYTES:
        raise InvalidInputError(
            f"thread_id, checkpoint_ns and checkpoint_id are {size} bytes together; the limit is {MAX_ID_BYTES}"
        )
