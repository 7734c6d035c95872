"""One `history()` or `changes()` call: which events are next, page by page, in either direction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.async_ import AsyncDriver
from eventlog.db.query import Op, completed
from eventlog.db.sync import Driver
from eventlog.errors import InvalidInputError
from eventlog.events import Kind
from eventlog.format.contents import WritesSaved
from eventlog.read import read_events
from eventlog.streams import Stream, storable, text_id
from eventlog.thread_events import Family, Place, Window, read_earlier_writes, read_family, read_history, settled
from langgraph.checkpoint.eventlog._arguments import limit_of
from langgraph.checkpoint.eventlog._context import Context
from projections.changes import Change, Changer
from projections.history import KINDS, Described, Describer, HistoryEntry, Opened, parse_cursor
from snapshots.state import CheckpointState

__all__ = ["Changes", "History", "Reading", "read_pages", "read_pages_async"]

T = TypeVar("T")

#: What describing an event costs, in terms of decoding.
EVENT_BYTES = 512

#: Writes of a checkpoint: task and idx, each with the number of the first event that had it.
_Tasks = dict[tuple[str, int], int]

#: Of so many checkpoints it is remembered who wrote to them.
MOST_CHECKPOINTS = 256


class Reading(ABC, Generic[T]):
    """One reading of a thread's events. Validates on creation, before anything is read.

    Raises:
        InvalidInputError: for an id, cursor, limit or kind that is not one.
    """

    #: Events of the first page, and of the largest: a caller who stops early pays little.
    pages: tuple[int, int]

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
    ) -> None:
        thread = text_id(thread_id, "thread_id")
        self._left = limit_of(limit)
        if not isinstance(newest_first, bool):
            raise InvalidInputError(f"newest_first must be a bool, not {type(newest_first).__name__}")
        cursor = _cursor(after)
        self._window = Window(
            thread,
            None if checkpoint_ns is None else storable(checkpoint_ns, "checkpoint_ns"),
            _kinds(kinds),
            newest_first,
            None if cursor is None else parse_cursor(cursor, thread),
        )
        self._statements = context.statements
        self._reader = context.reader(serde)
        codec, plain, limit = self._reader.codec, self._reader.plain, context.settings.max_body_bytes
        self._describer = Describer(codec, plain, limit, thread)
        self._family = Family()
        self._base_read: tuple[tuple[str, int], CheckpointState] | None = None
        self._writers: dict[tuple[str, str], _Tasks] = {}
        self._size, self._largest = self.pages
        self._more = True

    def weight(self) -> int:
        """About what describing the next page amounts to, in bytes that are decoded."""
        return min(self._size, self._largest) * EVENT_BYTES

    def next_page(self) -> Op[list[T] | None]:
        """The next entries; None at the end.

        State moves on only behind the last query, so that the operation can be started again.
        """
        if not self._more or self._left == 0:
            return None
        rows = min(self._size, self._largest)
        rows = rows if self._left is None else min(rows, self._left)
        opened, made = yield from settled(self._statements, self._window.thread_id, lambda: self._read(rows))
        self._window.move([each.logged for each in opened])
        self._left = None if self._left is None else self._left - len(made)
        self._more = bool(made)
        self._size = rows * 4
        return made or None

    def _read(self, rows: int) -> Op[tuple[list[Opened], list[T]]]:
        window, describer = self._window, self._describer
        events = yield from read_history(self._statements, window, rows)
        saved = [event for event in events if event.kind == Kind.CHECKPOINT_SAVED]
        if not self._family.knows(saved):
            self._family = yield from read_family(self._statements, window.thread_id)
        opened = [describer.open(event) for event in events]
        writers = yield from self._read_writers(opened)
        made: dict[tuple[str, int], T] = {}
        # A state is told from the one before.
        for each in sorted(opened, key=lambda each: Place.of(each.logged)):
            if (base := describer.wanted(each)) is not None:
                describer.learn(base, (yield from self._base(each, base)))
            repeat = each.writes is not None and self._is_repeat(each, writers)
            made[each.state] = yield from self._make(describer.describe(each, self._family, repeat=repeat))
        return opened, [made[each.state] for each in opened]

    @abstractmethod
    def _make(self, described: Described) -> Op[T]:
        """What the caller gets of an event."""

    def _base(self, opened: Opened, base: tuple[str, int]) -> Op[CheckpointState | None]:
        """Read what an event builds on, where it is not on the pages so far: once for a page, as a rule."""
        logged, event = opened.logged, opened.checkpoint
        checkpoint_id = logged.checkpoint_id if event is None else event.parent_id
        if self._base_read is None or self._base_read[0] != base:
            stream = Stream(self._window.thread_id, base[0])
            frame = yield from self._reader.state_after(stream, base[1], checkpoint_id)
            # What describes and what decodes may want the same one.
            self._base_read = None if frame is None else (base, frame)
        return None if self._base_read is None else self._base_read[1]

    # --- who wrote what before

    def _read_writers(self, opened: Sequence[Opened]) -> Op[dict[tuple[str, str], _Tasks]]:
        """What was written to the checkpoints that a page has writes of, on the page and before."""
        first_seqs: dict[tuple[str, str], int] = {}
        for each in opened:
            key = (each.logged.checkpoint_ns, each.logged.checkpoint_id)
            if each.writes is not None:
                first_seqs[key] = min(each.logged.seq, first_seqs.get(key, each.logged.seq))
        known = {} if self._window.newest_first else self._writers
        writers: dict[tuple[str, str], _Tasks] = {key: dict(known.get(key, {})) for key in first_seqs}
        unknown = {key: seq for key, seq in first_seqs.items() if key not in known and seq > 1}
        if unknown:
            earlier = yield from read_earlier_writes(self._statements, self._window.thread_id, unknown)
            for ns, ids in earlier:
                stream = Stream(self._window.thread_id, ns)
                for stored in (yield from read_events(self._statements, stream, list(ids))):
                    event = self._reader.codec.decode_writes(stored.body, stream.describe_event(stored.seq))
                    _note(writers[ns, ids[stored.seq]], stored.seq, event)
        for each in opened:
            if each.writes is not None:
                _note(writers[each.logged.checkpoint_ns, each.logged.checkpoint_id], each.logged.seq, each.writes)
        self._writers = dict(list({**known, **writers}.items())[-MOST_CHECKPOINTS:])
        return writers

    @staticmethod
    def _is_repeat(opened: Opened, writers: dict[tuple[str, str], _Tasks]) -> bool:
        event, logged = opened.writes, opened.logged
        assert event is not None
        tasks = writers[logged.checkpoint_ns, logged.checkpoint_id]
        return any(tasks[event.task_id, write.idx] < logged.seq for write in event.writes)


class History(Reading[HistoryEntry]):
    """One `history()` call."""

    pages = (64, 1024)

    def _make(self, described: Described) -> Op[HistoryEntry]:
        return completed(described.entry)


class Changes(Reading[Change]):
    """One `changes()` call."""

    # The values of a page are in memory together.
    pages = (16, 64)

    def __init__(self, context: Context, serde: SerializerProtocol, *arguments: Any) -> None:
        super().__init__(context, serde, *arguments)
        self._changer = Changer(self._reader.plain, context.settings.max_body_bytes, self._window.thread_id)

    def weight(self) -> int:
        """As above; values are about as large as those of the page before."""
        return super().weight() + self._changer.kept_bytes

    def _make(self, described: Described) -> Op[Change]:
        opened = described.opened
        if (base := self._changer.wanted(opened)) is not None:
            self._changer.learn(base, (yield from self._base(opened, base)))
        return self._changer.change(described)


def _note(tasks: _Tasks, seq: int, event: WritesSaved) -> None:
    for write in event.writes:
        key = (event.task_id, write.idx)
        tasks[key] = min(seq, tasks.get(key, seq))


def _kinds(kinds: Any) -> list[int] | None:
    if kinds is None:
        return None
    if isinstance(kinds, str) or not isinstance(kinds, Iterable):
        raise InvalidInputError(f"kinds must be a sequence of kinds, not {type(kinds).__name__}")
    names = list(kinds)
    if unknown := [name for name in names if not isinstance(name, str) or name not in KINDS]:
        raise InvalidInputError(f"unknown kinds {unknown}: there are {', '.join(KINDS)}")
    return [int(KINDS[name]) for name in names]


def _cursor(after: Any) -> Any:
    if isinstance(after, Change):
        after = after.entry
    return after.cursor if isinstance(after, HistoryEntry) else after


def read_pages(driver: Driver, reading: Reading[T]) -> Iterator[T]:
    """All that a reading makes, page by page as it is asked for."""
    while (page := driver.run(reading.next_page)) is not None:
        yield from page


async def read_pages_async(driver: AsyncDriver, reading: Reading[T]) -> AsyncIterator[T]:
    """As `read_pages`."""
    while (page := await driver.run(reading.next_page, weight=reading.weight)) is not None:
        for each in page:
            yield each
