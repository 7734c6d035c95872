"""One `history()` or `changes()` call: which events are next, page by page, in either direction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import psycopg
from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import Op, Steps, Weighed
from eventlog.errors import EventLogError, InvalidInputError, LogCorruptedError
from eventlog.events import Kind
from eventlog.format.contents import WritesSaved
from eventlog.read import read_events
from eventlog.streams import storable, text_id
from eventlog.thread_events import Family, Place, Window, read_earlier_writes, read_family, read_history, settled
from langgraph.checkpoint.eventlog._arguments import limit_of, one_of
from langgraph.checkpoint.eventlog._context import Context
from projections.event import Event
from projections.history import KINDS, Change, Describer, HistoryEntry, parse_cursor, undecodable
from snapshots.state import CheckpointState

__all__ = ["Reading"]

#: Events of the first page, and of the largest: a caller who stops early pays little.
HISTORY_PAGES = (64, 1024)

#: The same where values are decoded: those of a page are in memory together.
CHANGES_PAGES = (16, 64)

#: What describing an event costs, in terms of decoding.
EVENT_BYTES = 512

#: Of so many checkpoints it is remembered who wrote to them.
MOST_CHECKPOINTS = 256

#: By namespace and id of a checkpoint, its writes so far: task and idx.
_Writers = dict[tuple[str, str], set[tuple[str, int]]]


class Reading:
    """One reading of a thread's events. Validates on creation, before anything is read.

    Raises InvalidInputError for an id, cursor, limit or kind that is not one.
    """

    def __init__(
        self,
        context: Context,
        serde: SerializerProtocol,
        thread_id: Any,
        checkpoint_ns: Any,
        after: Any,
        limit: Any,
        newest_first: Any,
        kinds: Any,
        on_undecodable: Any,
        *,
        with_values: bool,
    ) -> None:
        thread = text_id(thread_id, "thread_id")
        self._limit = limit_of(limit)
        self._shows = one_of(on_undecodable, "on_undecodable", "stop", "show") == "show"
        if not isinstance(newest_first, bool):
            raise InvalidInputError(f"newest_first must be a bool, not {type(newest_first).__name__}")
        if isinstance(after, Change):
            after = after.entry
        cursor = after.cursor if isinstance(after, HistoryEntry) else after
        self._window = Window(
            thread,
            None if checkpoint_ns is None else storable(checkpoint_ns, "checkpoint_ns"),
            _kinds(kinds),
            newest_first,
            None if cursor is None else parse_cursor(cursor, thread),
        )
        self._statements = context.statements
        self._reader = context.reader(serde)
        self._with_values = with_values
        self._describer = Describer(self._reader.plain if with_values else None, context.settings.max_body_bytes)
        self._family = Family()
        self._writers: _Writers = {}

    def steps(self) -> Steps[Any]:
        """All events page by page, each as a `Change`, or as a `HistoryEntry` where values are not asked for."""
        size, largest = CHANGES_PAGES if self._with_values else HISTORY_PAGES
        left = self._limit
        while left != 0:
            rows = size if left is None else min(size, left)
            # What the page amounts to: values are as large as those before.
            weight = rows * EVENT_BYTES + self._with_values * self._describer.kept_bytes
            read = partial(settled, self._statements, self._window.thread_id, partial(self._read, rows))
            events, made, writers = yield Weighed(read, weight)
            if not made:
                return
            # State moves on only here, so that the operation can be started again.
            self._window.move([each.stored for each in events])
            if not self._window.newest_first:
                self._writers = dict(list({**self._writers, **writers}.items())[-MOST_CHECKPOINTS:])
            yield made if self._with_values else [change.entry for change in made]
            left = None if left is None else left - len(made)
            size = min(size * 4, largest)

    def _read(self, rows: int) -> Op[tuple[list[Event], list[Change], _Writers]]:
        stored = yield from read_history(self._statements, self._window, rows)
        if not self._family.knows(each for each in stored if each.kind == Kind.CHECKPOINT_SAVED):
            self._family = yield from read_family(self._statements, self._window.thread_id)
        events = [Event(each, self._reader.codec, self._reader.plain) for each in stored]
        writers = yield from self._earlier_writers(events)
        made: dict[tuple[str, int], Change] = {}
        # A state is told from the one before.
        for event in sorted(events, key=lambda each: Place.of(each.stored)):
            made[event.checkpoint_ns, event.seq] = yield from self._describe(event, writers)
        return events, [made[each.checkpoint_ns, each.seq] for each in events], writers

    def _describe(self, event: Event, writers: _Writers) -> Op[Change]:
        try:
            if (base := self._describer.wanted(event)) is not None:
                base_id = event.checkpoint_id if event.saved is None else event.parent_id
                state = yield from self._base(event, base[1], base_id)
                self._describer.learn(event.stream, base[1], state)
            repeat = False
            if event.written is not None:
                before, writes = writers[event.checkpoint_ns, event.checkpoint_id], _keys(event.written)
                repeat = not before.isdisjoint(writes)
                before |= writes
            return self._describer.describe(event, self._family, repeat=repeat)
        except psycopg.Error:
            raise
        except Exception as exc:  # A user's serializer raises what it likes.
            if not self._shows or (isinstance(exc, EventLogError) and not isinstance(exc, LogCorruptedError)):
                raise
            return undecodable(event, exc)

    def _base(self, event: Event, seq: int, checkpoint_id: str | None) -> Op[CheckpointState | None]:
        try:
            return (yield from self._reader.state_after(event.stream, seq, checkpoint_id))
        except LogCorruptedError:
            # It has an entry of its own, which says so.
            if not self._shows or self._with_values:
                raise
            return None

    def _earlier_writers(self, events: Sequence[Event]) -> Op[_Writers]:
        """What was written before a page to the checkpoints that it has writes of."""
        first_seqs: dict[tuple[str, str], int] = {}
        for each in events:
            key = (each.checkpoint_ns, each.checkpoint_id)
            if each.kind == Kind.WRITES_SAVED:
                first_seqs[key] = min(each.seq, first_seqs.get(key, each.seq))
        writers = {key: set(self._writers.get(key, ())) for key in first_seqs}
        unknown = {key: seq for key, seq in first_seqs.items() if key not in self._writers and seq > 1}
        if unknown:
            earlier = yield from read_earlier_writes(self._statements, self._window.thread_id, unknown)
            for stream, ids in earlier:
                for stored in (yield from read_events(self._statements, stream, list(ids))):
                    try:
                        written = self._reader.codec.decode_writes(stored.body, stream.describe_event(stored.seq))
                    except LogCorruptedError:
                        if not self._shows:
                            raise
                    else:
                        writers[stream.checkpoint_ns, ids[stored.seq]] |= _keys(written)
        return writers


def _keys(written: WritesSaved) -> set[tuple[str, int]]:
    return {(written.task_id, write.idx) for write in written.writes}


def _kinds(kinds: Any) -> list[int] | None:
    if kinds is None:
        return None
    if isinstance(kinds, str) or not isinstance(kinds, Iterable):
        raise InvalidInputError(f"kinds must be a sequence of kinds, not {type(kinds).__name__}")
    names = list(kinds)
    if unknown := [name for name in names if not isinstance(name, str) or name not in KINDS]:
        raise InvalidInputError(f"unknown kinds {unknown}: there are {', '.join(KINDS)}")
    return [int(KINDS[name]) for name in names]
