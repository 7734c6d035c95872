"""Reading a thread's events as its history: page by page, in both directions, bodies still encoded.

**The order** is by time, then by namespace, then by number. The time of a relocated event is the original's. So an
event keeps its place even if its neighbours are erased or relocated; its `position` changes when it is relocated.
Within a stream the order is that of the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice, takewhile
from typing import NamedTuple, TypeVar

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import LogCorruptedError, ThreadNotFoundError
from eventlog.events import StoredEvent
from eventlog.streams import Stream

__all__ = [
    "Family",
    "Place",
    "Window",
    "read_earlier_writes",
    "read_family",
    "read_history",
    "settled",
]

T = TypeVar("T")

#: At most so many concurrent checkpoints are named for one checkpoint.
MOST_CONFLICTING = 16

#: Bodies that are in memory at a time.
PAGE_BYTES = 8 * 1024 * 1024


class Place(NamedTuple):
    """An event's place in its thread's history."""

    time: datetime
    checkpoint_ns: str
    seq: int

    @classmethod
    def of(cls, event: StoredEvent) -> Place:
        """The event's place."""
        return cls(event.saved_at, event.checkpoint_ns, event.seq)


@dataclass(slots=True)
class Window:
    """The part of a thread's history to read next."""

    thread_id: str
    checkpoint_ns: str | None = None
    """None: all namespaces."""
    kinds: Sequence[int] | None = None
    newest_first: bool = False
    after: Place | None = None
    """After this place, in the direction of the reading."""
    read: dict[str, int] = field(default_factory=dict)
    """The last number read of each stream.

    It saves a search for the place in each of them. And when reading oldest first, no event is missed that another
    namespace committed late, with an earlier time than events read in the meantime.
    """

    def move(self, events: Sequence[StoredEvent]) -> None:
        """The part after these events."""
        for event in events:
            self.read[event.checkpoint_ns] = event.seq
        if events and self.newest_first:
            self.after = Place.of(events[-1])


def read_history(statements: Statements, window: Window, rows: int) -> Op[list[StoredEvent]]:
    """The next events, at most so many; fewer if their bodies are large. Empty at the end.

    Raises ThreadNotFoundError if the thread never existed.
    """
    place = window.after
    params = {
        "thread_id": window.thread_id,
        "only_ns": window.checkpoint_ns,
        "kinds": None if window.kinds is None else list(window.kinds),
        "time": None if place is None else place.time,
        "after_ns": "" if place is None else place.checkpoint_ns,
        "after_seq": 0 if place is None else place.seq,
        "ns": list(window.read),
        "seqs": list(window.read.values()),
        "rows": rows,
        "bytes": PAGE_BYTES,
    }
    name = "history_before" if window.newest_first else "history_after"
    events = [StoredEvent(*row) for row in (yield Query(statements[name], params))]
    if not events and not window.read and not (yield Query(statements["history_streams"], (window.thread_id,))):
        raise ThreadNotFoundError(f"thread {window.thread_id!r} does not exist, and the log has no record of it")
    return events


class _Child(NamedTuple):
    """A child, sorted by its first append; the fields are the statement's columns."""

    first_at: datetime
    first_seq: int
    checkpoint_id: str


@dataclass(slots=True)
class Family:
    """The checkpoints of a thread that were put more than once, and those that share their parent."""

    through: dict[str, int] = field(default_factory=dict)
    """The last number of each stream when this was read."""
    first_seqs: dict[tuple[str, str], int] = field(default_factory=dict)
    """For checkpoints that were put more than once: namespace and id to the number of the first event."""
    children: dict[tuple[str, str | None], list[_Child]] = field(default_factory=dict)
    """Namespace and id of a parent (None: without parent) to its children, in their order, where that matters."""
    firsts: dict[tuple[str, str], _Child] = field(default_factory=dict)
    """The same children by namespace and id."""

    def knows(self, events: Iterable[StoredEvent]) -> bool:
        """Whether these existed when it was read."""
        return all(event.seq <= self.through.get(event.checkpoint_ns, 0) for event in events)

    def is_repeat(self, event: StoredEvent) -> bool:
        """Whether an event puts a checkpoint again."""
        first = self.first_seqs.get((event.checkpoint_ns, event.checkpoint_id))
        # The earlier event may be erased; then this one was relocated, with the time of the first put.
        return (first is not None and first < event.seq) or (
            event.first_at is not None and event.first_at < event.saved_at
        )

    def is_fork(self, event: StoredEvent, parent_id: str | None) -> bool:
        """Whether an event saves another child of a parent that already had one."""
        if parent_id is None or not (children := self.children.get((event.checkpoint_ns, parent_id))):
            return False
        first = children[0]
        return first.checkpoint_id != event.checkpoint_id and first[:2] < (event.saved_at, event.seq)

    def conflicting(self, event: StoredEvent, parent_id: str | None, observed_latest_id: str | None) -> list[str]:
        """The children of an event's parent that existed before it, and that its writer did not know of.

        The first ones, and at most `MOST_CONFLICTING`.

        Args:
            event: a checkpoint event.
            parent_id: its parent; None: compare with other beginnings of the stream.
            observed_latest_id: the greatest id that its writer knew of, if it knew of others.
        """
        children = self.children.get((event.checkpoint_ns, parent_id), [])
        first = self.firsts.get((event.checkpoint_ns, event.checkpoint_id))
        place = min((event.saved_at, event.seq), first[:2] if first else (event.saved_at, event.seq))
        found = (
            child.checkpoint_id
            for child in takewhile(lambda child: child[:2] < place, children)
            if child.checkpoint_id != event.checkpoint_id
            and (observed_latest_id is None or child.checkpoint_id > observed_latest_id)
        )
        return list(islice(found, MOST_CONFLICTING))


def read_family(statements: Statements, thread_id: str) -> Op[Family]:
    """Read a thread's checkpoints, without bodies."""
    streams = yield Query(statements["history_streams"], (thread_id,))
    family = Family({ns: seq for ns, seq, _ in streams})
    for ns, id_, seq in (yield Query(statements["history_repeats"], (thread_id,))):
        family.first_seqs[ns, id_] = seq
    # If a checkpoint was put again under another parent, the projection has only the last one. Its first event may be a
    # fork where the projection knows only one child.
    params = {"thread_id": thread_id, "everyone": bool(family.first_seqs)}
    for ns, parent_id, *rest in (yield Query(statements["history_children"], params)):
        child = _Child(*rest)
        child = child._replace(first_seq=family.first_seqs.get((ns, child.checkpoint_id), child.first_seq))
        family.children.setdefault((ns, parent_id), []).append(child)
        family.firsts[ns, child.checkpoint_id] = child
    for children in family.children.values():
        children.sort()
    return family


def settled(statements: Statements, thread_id: str, read: Callable[[], Op[T]]) -> Op[T]:
    """Run several queries as one reading, and repeat them if something of the thread was erased or replaced in between.

    Raises LogCorruptedError if a body does not decode although nothing was erased or replaced.
    """
    epochs: dict[str, int] | None = None
    while True:
        try:
            return (yield from read())
        except LogCorruptedError:
            streams = yield Query(statements["history_streams"], (thread_id,))
            before, epochs = epochs, {ns: epoch for ns, _, epoch in streams}
            if epochs == before:
                raise


def read_earlier_writes(
    statements: Statements, thread_id: str, first_seqs: Mapping[tuple[str, str], int]
) -> Op[list[tuple[Stream, dict[int, str]]]]:
    """Earlier writes to the checkpoints of one page: number to the checkpoint's id.

    Args:
        first_seqs: namespace and id of a checkpoint to the number before which to search.
    """
    ns, ids = zip(*first_seqs, strict=True)
    params = {"thread_id": thread_id, "ns": list(ns), "ids": list(ids), "seqs": list(first_seqs.values())}
    found: list[tuple[Stream, dict[int, str]]] = []
    size = 0
    for checkpoint_ns, id_, seq, bytes_ in (yield Query(statements["history_earlier_writes"], params)):
        size += bytes_
        stream = Stream(thread_id, checkpoint_ns)
        if not found or found[-1][0] != stream or size > PAGE_BYTES:
            found.append((stream, {}))
            size = bytes_
        found[-1][1][seq] = id_
    return found
