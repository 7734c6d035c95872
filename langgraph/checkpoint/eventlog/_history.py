"""One `history()` or `changes()` call: which events are next, page by page, in either direction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.auditing import Family, Window, read_earlier_writes, read_family, read_history
from eventlog.codec import Codec, split_serializer
from eventlog.errors import InvalidInputError, LogCorruptedError
from eventlog.events import Kind, WritesSaved
from eventlog.identity import Stream, storable, text_id
from eventlog.operations import Op
from eventlog.reading import read_events
from langgraph.checkpoint.eventlog._arguments import limit_of
from langgraph.checkpoint.eventlog._operations import Context, Operations
from projections.history import KINDS, Described, Describer, HistoryRecord, Opened, place_of

__all__ = ["History"]

#: Events of the first page, and of the largest: a caller who stops early pays little.
FIRST_PAGE = 64
LARGEST_PAGE = 1024

#: What describing an event costs, in terms of decoding.
EVENT_BYTES = 512

#: Writes of a checkpoint: task and idx, each with the number of the first event that had it.
_Tasks = dict[tuple[str, int], int]

#: Of so many checkpoints it is remembered who wrote to them.
MOST_CHECKPOINTS = 256


class History:
    """The state of one reading. Validates on creation, before anything is read.

    Raises:
        InvalidInputError: for an id, cursor, limit or kind that is not one.
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
    ) -> None:
        thread = text_id(thread_id, "thread_id")
        self._left = limit_of(limit)
        if not isinstance(newest_first, bool):
            raise InvalidInputError(f"newest_first must be a bool, not {type(newest_first).__name__}")
        cursor = after.cursor if isinstance(after, HistoryRecord) else after
        self._window = Window(
            thread,
            None if checkpoint_ns is None else storable(checkpoint_ns, "checkpoint_ns"),
            _kinds(kinds),
            newest_first,
            None if cursor is None else place_of(cursor, thread),
        )
        self._statements = context.statements
        self._operations = Operations(context, serde)
        plain, cipher = split_serializer(serde)
        self._codec = Codec(context.settings, cipher)
        self._describer = Describer(self._codec, plain, thread)
        self._family = Family()
        self._writers: dict[tuple[str, str], _Tasks] = {}
        self._size = FIRST_PAGE
        self._more = True

    @property
    def weight(self) -> int:
        """About what describing the next page amounts to, in bytes that are decoded."""
        return min(self._size, LARGEST_PAGE) * EVENT_BYTES

    def next_page(self) -> Op[list[HistoryRecord] | None]:
        """The next records; None at the end.

        State moves on only behind the last query, so that the operation can be started again.
        """
        described = yield from self.next_described()
        return None if described is None else [each.record for each in described]

    def next_described(self, largest: int = LARGEST_PAGE) -> Op[list[Described] | None]:
        """The next records, with what it takes to decode what they tell of; None at the end."""
        if not self._more or self._left == 0:
            return None
        rows = min(self._size, largest)
        rows = rows if self._left is None else min(rows, self._left)
        try:
            described = yield from self._read(rows)
        except LogCorruptedError:
            # What an event builds on may have been erased since it was read: then it builds on something else now.
            described = yield from self._read(rows)
        self._window.move([each.opened.logged for each in described])
        self._left = None if self._left is None else self._left - len(described)
        self._more = bool(described)
        self._size *= 4
        return described or None

    def _read(self, rows: int) -> Op[list[Described]]:
        window, describer = self._window, self._describer
        events = yield from read_history(self._statements, window, rows)
        saved = [event for event in events if event.kind == Kind.CHECKPOINT_SAVED]
        if not self._family.knows(saved):
            self._family = yield from read_family(self._statements, window.thread_id)
        opened = [describer.open(event) for event in events]
        writers = yield from self._read_writers(opened)
        # A state is told from the one before.
        by_number = sorted(opened, key=lambda each: each.logged.place)
        described = {}
        for each in by_number:
            yield from self._learn_base(each)
            repeat = each.writes is not None and self._is_repeat(each, writers)
            described[each.state] = describer.describe(each, self._family, repeat=repeat)
        return [described[each.state] for each in opened]

    def _learn_base(self, opened: Opened) -> Op[None]:
        """Read what an event builds on, where it is not on the pages so far: once for a page, as a rule."""
        base, event = self._describer.wanted(opened), opened.checkpoint
        if base is not None and event is not None:
            stream = Stream(self._window.thread_id, base[0])
            frame = yield from self._operations.frame_at(stream, base[1], event.parent_id)
            self._describer.learn(base, frame)

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
                    where = f"event {stored.seq} of {stream}"
                    _note(writers[ns, ids[stored.seq]], stored.seq, self._codec.decode_writes(stored.body, where))
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
    if unknown := [name for name in names if name not in KINDS]:
        raise InvalidInputError(f"unknown kinds {unknown}: there are {', '.join(KINDS)}")
    return [int(KINDS[name]) for name in names]
