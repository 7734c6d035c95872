"""Describing pages of events. Further data that a description needs, such as a base, is read from the log."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import psycopg

from eventlog.db.query import Op
from eventlog.errors import EventLogError, LogCorruptedError
from eventlog.events import Kind, StoredEvent
from eventlog.format.contents import WritesSaved
from eventlog.read import read_events
from eventlog.thread_events import Family, Place, read_earlier_writes, read_family, settled
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._get import Reader
from projections.event import Event
from projections.history import Change, Describer, FeedChange, undecodable
from snapshots.state import CheckpointState

__all__ = ["FeedDescriber", "ThreadDescriber", "Writers"]

#: The number of checkpoints with remembered writers.
MOST_CHECKPOINTS = 256

#: The number of threads of the feed, and the bytes, that are kept to describe the next events of these threads.
MOST_THREADS = 64
FEED_BYTES = 64 * 1024 * 1024

#: By namespace and id of a checkpoint, its writes so far: task and idx.
Writers = dict[tuple[str, str], set[tuple[str, int]]]


class ThreadDescriber:
    """Describes the events of one thread, with their values if requested.

    Args:
        shows: describe an event that does not decode by its error, instead of raising.
    """

    def __init__(self, context: Context, reader: Reader, thread_id: str, *, with_values: bool, shows: bool) -> None:
        self._statements = context.statements
        self._reader, self._thread_id = reader, thread_id
        self._with_values, self._shows = with_values, shows
        self._describer = Describer(
            reader.plain if with_values else None, context.settings.max_body_bytes, reader.upcasting_decoder
        )
        self._family = Family()
        self._writers: Writers = {}

    @property
    def kept_bytes(self) -> int:
        """The approximate memory of its states, in bytes."""
        return self._describer.kept_bytes

    def keep(self, writers: Writers) -> None:
        """Remember which tasks wrote to the checkpoints of described events, for the events that follow."""
        self._writers = dict(list({**self._writers, **writers}.items())[-MOST_CHECKPOINTS:])

    def describe(self, stored: Sequence[StoredEvent]) -> Op[tuple[list[Change], Writers]]:
        """Events with their changes, in order; and the tasks that wrote to their checkpoints. It may be run again."""
        if not self._family.knows(each for each in stored if each.kind == Kind.CHECKPOINT_SAVED):
            self._family = yield from read_family(self._statements, self._thread_id)
        events = [Event(each, self._reader.codec, self._reader.plain) for each in stored]
        writers = yield from self._earlier_writers(events)
        made: dict[tuple[str, int], Change] = {}
        # A state follows from the one before it.
        for event in sorted(events, key=lambda each: Place.of(each.stored)):
            made[event.checkpoint_ns, event.seq] = yield from self._describe(event, writers)
        return [made[each.checkpoint_ns, each.seq] for each in events], writers

    def _describe(self, event: Event, writers: Writers) -> Op[Change]:
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
            # The event that does not decode has its own entry, which shows the error.
            if not self._shows or self._with_values:
                raise
            return None

    def _earlier_writers(self, events: Sequence[Event]) -> Op[Writers]:
        """Writes before a page to the checkpoints that the page has writes of."""
        first_seqs: dict[tuple[str, str], int] = {}
        for each in events:
            key = (each.checkpoint_ns, each.checkpoint_id)
            if each.kind == Kind.WRITES_SAVED:
                first_seqs[key] = min(each.seq, first_seqs.get(key, each.seq))
        writers = {key: set(self._writers.get(key, ())) for key in first_seqs}
        unknown = {key: seq for key, seq in first_seqs.items() if key not in self._writers and seq > 1}
        if unknown:
            earlier = yield from read_earlier_writes(self._statements, self._thread_id, unknown)
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


class FeedDescriber:
    """Describes the events of the feed with their values, thread by thread."""

    def __init__(self, context: Context, reader: Reader) -> None:
        self._context, self._reader = context, reader
        self._threads: OrderedDict[str, ThreadDescriber] = OrderedDict()

    def describe(self, stored: Sequence[StoredEvent]) -> Op[list[FeedChange]]:
        """Events with their changes, in order. An entry names the error if its event does not decode or has no base."""
        by_thread: dict[str, list[StoredEvent]] = {}
        for event in stored:
            by_thread.setdefault(event.thread_id, []).append(event)
        made: dict[tuple[int, int], Change] = {}
        for thread_id, events in by_thread.items():
            thread = self._thread(thread_id)
            # The feed has relocated events after later ones, so the writers are not kept for the next batch.
            changes, _ = yield from settled(self._context.statements, thread_id, partial(thread.describe, events))
            made.update(((event.generation, event.position), each) for event, each in zip(events, changes, strict=True))
            # A batch may have many threads: each may keep a state as large as a thread's.
            self._forget()
        return [FeedChange(event, *made[event.generation, event.position]) for event in stored]

    def _thread(self, thread_id: str) -> ThreadDescriber:
        thread = self._threads.pop(thread_id, None)
        if thread is None:
            thread = ThreadDescriber(self._context, self._reader, thread_id, with_values=True, shows=True)
        self._threads[thread_id] = thread
        return thread

    def _forget(self) -> None:
        kept = sum(each.kept_bytes for each in self._threads.values())
        while len(self._threads) > 1 and (len(self._threads) > MOST_THREADS or kept > FEED_BYTES):
            _, forgotten = self._threads.popitem(last=False)
            kept -= forgotten.kept_bytes
