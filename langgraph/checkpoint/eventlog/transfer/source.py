"""The protocol of a source, from which threads are imported, and its results.

A source is read while an operation of the log is in progress. It has its own connection, or another saver, sync or
async like the log: `ask` lets an operation wait for either. Between `begin` and `end` a source with transactions
returns a thread as of one moment.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import UUID

from eventlog.db.query import Op, Rows, UserCallback
from eventlog.format.contents import Serialized

__all__ = ["Origin", "Pages", "Source", "SourceCheckpoint", "SourceWrite", "ask", "made_at"]

T = TypeVar("T")


class Origin(NamedTuple):
    """The origin of threads, for the record of an import: without user or password."""

    saver: str
    """The writer: ``"langgraph-checkpoint-postgres"``, or the class of a saver."""
    host: str | None = None
    database: str | None = None
    schema: str | None = None

    def __str__(self) -> str:
        place = "/".join(each for each in (self.host, self.database, self.schema) if each is not None)
        return f"{self.saver} at {place}" if place else self.saver


class SourceWrite(NamedTuple):
    """A write of a task to a checkpoint. The first three fields are its place in LangGraph's order."""

    task_path: str
    task_id: str
    idx: int
    """Negative for errors, interrupts and resumes."""
    channel: str
    value: Serialized | None
    """The value as stored; None if the source returns only decoded values."""
    decoded: Any = None


@dataclass(slots=True)
class SourceCheckpoint:
    """One checkpoint of a thread with its writes."""

    checkpoint_ns: str
    checkpoint_id: str
    parent_id: str | None
    checkpoint: Mapping[str, Any] | None
    """Its fields with id and versions; `channel_values` are ignored. None: there are only writes, to a checkpoint that
    does not exist."""
    metadata: Mapping[str, Any]
    stored: Mapping[str, Serialized] = field(default_factory=dict)
    """Values as stored, by channel. Equal ones of successive checkpoints are the same objects."""
    decoded: Mapping[str, Any] = field(default_factory=dict)
    """Values without stored bytes in the source, by channel."""
    writes: Sequence[SourceWrite] = ()
    """In LangGraph's order."""
    sends: Sequence[Serialized] | None = None
    """The content of its field ``pending_sends``, as stored, if the source keeps that elsewhere."""


#: Returns the next page of checkpoints whenever it is called; an empty page at the thread's end.
Pages = Callable[[], "Op[list[SourceCheckpoint]]"]


class Source(Protocol):
    """Threads of another checkpointer.

    Its methods are operations that run within the log's. They raise `SourceError` when the source cannot be read.
    """

    @property
    def origin(self) -> Origin:
        """The place of the source."""

    def check(self) -> Op[None]:
        """Check that the source can be read. Raises SourceError with the reason."""

    def threads(self, after: str | None, rows: int) -> Op[list[str]]:
        """The ids of at most `rows` threads after one id, in the source's order. `after` is None at first, because ""
        is an id too, which the log refuses by name."""

    def count_threads(self) -> Op[int | None]:
        """The number of threads; None if counting takes too long."""

    def last_active(self, thread_ids: Sequence[str]) -> Op[dict[str, datetime]]:
        """When the latest checkpoints of threads were made, by the times in them; threads without one are omitted."""

    def begin(self) -> Op[None]:
        """Begin to read a thread: until `end` all reads are of one moment."""

    def end(self) -> Op[None]:
        """End reading the thread."""

    def pages(self, thread_id: str) -> Pages:
        """A function that returns the thread's next checkpoints whenever it is called; none at the end.

        By namespace, the root graph's first; in each by checkpoint id, writes without a checkpoint last.
        """

    def writes(
        self, thread_id: str, checkpoint_ns: str, checkpoint_ids: Sequence[str], channel: str
    ) -> Op[dict[str, list[SourceWrite]]]:
        """The writes to a channel of checkpoints, by their ids, each in LangGraph's order."""

    def outline(self, thread_id: str) -> Op[str]:
        """A short text that changes when the thread does, without reading its values; "" if there is none."""

    def sample(self, rows: int) -> Op[list[str]]:
        """About `rows` random threads."""

    def disk_bytes(self) -> Op[tuple[int, int] | None]:
        """The size of all its threads on disk, with indexes and without; None if unknown."""

    def thread_bytes(self, thread_ids: Sequence[str]) -> Op[int | None]:
        """The size of threads on disk, without indexes; None if unknown."""


def ask(call: Callable[[], T | Awaitable[T]]) -> Generator[Any, Rows, T]:
    """The result of a call that does not use the log's connection; an awaitable result is awaited."""
    found: list[T] = []

    def run(_: Any) -> Awaitable[None] | None:
        answer = call()
        if inspect.isawaitable(answer):
            return _store(answer, found)
        found.append(answer)
        return None

    yield UserCallback(function=run)
    return found[0]


async def _store(answer: Awaitable[T], found: list[T]) -> None:
    found.append(await answer)


def made_at(checkpoint_id: str, ts: Any) -> datetime | None:
    """When a checkpoint was made, by its field ``ts``, or else by its id, a UUID of version 6; None by neither."""
    if isinstance(ts, str):
        with suppress(ValueError):
            found = datetime.fromisoformat(ts.replace("Z", "+00:00"))
            return found if found.tzinfo is not None else found.replace(tzinfo=timezone.utc)
    with suppress(ValueError):
        made = UUID(checkpoint_id)
        if made.version == 6:
            # 60 bits of 100 nanoseconds since 1582-10-15, without the 4 bits of the version.
            bits = made.int >> 64
            ticks = (bits >> 16) << 12 | bits & 0xFFF
            return datetime(1582, 10, 15, tzinfo=timezone.utc) + timedelta(microseconds=ticks // 10)
    return None
