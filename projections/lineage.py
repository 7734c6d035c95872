"""Lineages: cached checkpoints of a stream with their parents and writes, from which `DeltaChannel`s are replayed.

LangGraph asks for a channel's writes among a checkpoint's ancestors at the start of each run, and for each state of a
history. Most ancestors are the same from one request to the next. A `Lineage` keeps them, decoded as far as the log
understands them, with the head of the stream up to which it is complete. A reader sends this head to the database,
which compares its digest and returns only the events that followed. A lineage is never stale:

* An erasure, a relocation, a copy or a repeated `put` raises the stream's epoch, and the lineage is dropped.
* After a rollback or a restore, the number of the head may exist again, but its digest differs.
* Writes that came before their checkpoint are complete only if they came after the lineage began. A checkpoint that may
  have had earlier writes causes the lineage to be dropped too.

The events show which channels have a stored value at a checkpoint: each says which channels it sets and drops, and all
others are as in its base.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from eventlog.errors import LogCorruptedError
from eventlog.events import StoredEvent
from eventlog.format.codec import Codec
from eventlog.format.contents import Serialized
from eventlog.format.delta import Drop, Full, Operation
from eventlog.read_ancestry import Ancestry, KnownHead, NamedEvent
from eventlog.streams import Stream
from projections.tuples import counted_writes

__all__ = ["Ancestor", "AncestorWrite", "Lineage", "LineageCache", "OutdatedError"]

#: The weight of a checkpoint or a writes event beside its bytes.
ENTRY_BYTES = 600


class OutdatedError(Exception):
    """The cached lineage is out of date: read it again from the beginning."""


@dataclass(slots=True, eq=False)
class AncestorWrite:
    """A write to a channel that counts."""

    task_id: str
    channel: str
    op: Operation
    seq: int
    """The event that has it."""
    base_seq: int | None
    """The event from which it is a difference."""

    @property
    def value(self) -> Serialized | None:
        """Its value; None while that is a difference from a state."""
        return Serialized(*self.op) if type(self.op) is Full else None

    @value.setter
    def value(self, value: Serialized) -> None:
        self.op = Full(*value)


@dataclass(slots=True, eq=False)
class Ancestor:
    """A checkpoint of a stream."""

    checkpoint_id: str
    parent_id: str | None
    stored: StoredEvent | None
    """Its event, until it is decoded for `channels`."""
    seq: int
    base_seq: int | None
    channels: dict[str, Serialized | bool] = field(default_factory=dict)
    """By channel, from its event: the stored value; True: there is one that the event does not hold; False: none."""


@dataclass(slots=True, eq=False)
class _Writes:
    """The writes events of a checkpoint by number, and the writes that count, once they were worked out."""

    events: dict[int, StoredEvent] = field(default_factory=dict)
    resolved: tuple[AncestorWrite, ...] | None = None


class Lineage:
    """The known part of one stream's checkpoints.

    Args:
        channels: those that were asked for: of others, values are not kept.
        begin: the page that it begins with.
    """

    def __init__(self, codec: Codec, stream: Stream, channels: frozenset[str], begin: Ancestry) -> None:
        self._codec, self._stream = codec, stream
        self._lock = threading.Lock()
        self._begun_after = begin.written_through or ""
        self._by_seq: dict[int, Ancestor] = {}
        self._writes: dict[str, _Writes] = {}
        self.channels = channels
        self.known: KnownHead = begin.known
        self.checkpoints: dict[str, Ancestor | None] = {}
        """By id; None: it is not there."""
        self.weight = ENTRY_BYTES
        self.add_page(begin)

    def add_page(self, page: Ancestry) -> None:
        """Take in further ancestors.

        Raises OutdatedError when the stream was changed since, and LogCorruptedError when an event is missing.
        """
        if page.known.head.epoch != self.known.head.epoch:
            raise OutdatedError
        events = dict(page.events)
        with self._lock:
            for id_, (seq, parent_id) in page.checkpoints.items():
                if id_ not in events:
                    raise LogCorruptedError(f"{self._where(seq)} is missing, and the projection has its checkpoint")
                if seq not in self._by_seq:
                    self._add(id_, events[id_], parent_id)
            self._add_writes(page.writes)

    def add_since(self, since: Ancestry) -> None:
        """Take in the events that followed. Raises OutdatedError when the lineage may be incomplete."""
        if since.is_changed:
            raise OutdatedError
        with self._lock:
            for id_, stored in since.events:
                if stored.seq in self._by_seq:
                    continue
                if id_ <= self._begun_after or self.checkpoints.get(id_) is not None:
                    raise OutdatedError
                self._add(id_, stored, self._codec.decode_checkpoint(stored.body, self._where(stored.seq)).parent_id)
            self._add_writes(since.writes)
            if since.known.head.seq > self.known.head.seq:
                self.known = since.known

    def _where(self, seq: int) -> str:
        return self._stream.describe_event(seq)

    def _add(self, id_: str, stored: StoredEvent, parent_id: str | None) -> None:
        self.checkpoints[id_] = self._by_seq[stored.seq] = Ancestor(id_, parent_id, stored, stored.seq, stored.base_seq)
        self.weight += ENTRY_BYTES + len(stored.body)

    def _add_writes(self, writes: Iterable[NamedEvent]) -> None:
        for id_, stored in writes:
            of_checkpoint = self._writes.setdefault(id_, _Writes())
            if stored.seq not in of_checkpoint.events:
                of_checkpoint.events[stored.seq] = stored
                of_checkpoint.resolved = None
                self.weight += ENTRY_BYTES + len(stored.body)

    def writes_of(self, checkpoint_id: str) -> tuple[AncestorWrite, ...]:
        """A checkpoint's writes to the channels, in LangGraph's order."""
        found = self._writes.get(checkpoint_id)
        if found is None:
            return ()
        if found.resolved is not None:
            return found.resolved
        with self._lock:
            events = [found.events[seq] for seq in sorted(found.events)]
            resolved = found.resolved = tuple(
                AncestorWrite(task_id, write.channel, write.op, stored.seq, stored.base_seq)
                for (_, task_id, _), stored, write in counted_writes(self._codec, self._stream, events)
                if write.channel in self.channels
            )
            self.weight += sum(len(write.value.data) for write in resolved if write.value is not None)
        return resolved

    def complete(self, write: AncestorWrite, value: Serialized) -> None:
        """Keep the value of a write that is stored as a difference from a state."""
        with self._lock:
            if write.value is None:
                write.value = value
                self.weight += len(value.data)

    def _channels(self, ancestor: Ancestor) -> dict[str, Serialized | bool]:
        stored = ancestor.stored
        if stored is not None:
            operations, removed = self._codec.decode_changes(stored.body, self._where(stored.seq))
            with self._lock:
                if ancestor.stored is not None:
                    self._learn(ancestor, operations, removed)
                    ancestor.stored = None
        return ancestor.channels

    def _learn(self, ancestor: Ancestor, operations: Mapping[str, Operation], removed: Iterable[str]) -> None:
        ancestor.channels.update(dict.fromkeys(removed, False))
        for channel, op in operations.items():
            if type(op) is Drop:
                ancestor.channels[channel] = False
            elif type(op) is Full and channel in self.channels:
                self.learn(ancestor, channel, Serialized(*op))
            else:
                ancestor.channels[channel] = True

    def stored(self, ancestor: Ancestor, channel: str) -> Serialized | bool | None:
        """A channel's stored value at a checkpoint; True: there is one; False: there is none; None: not known here."""
        passed: list[Ancestor] = []
        at: Ancestor | None = ancestor
        found: Serialized | bool | None = None
        while at is not None and found is None:
            found = self._channels(at).get(channel)
            if found is None:
                passed.append(at)
                if at.base_seq is None:
                    found = False
                else:
                    at = self._by_seq.get(at.base_seq) if at.base_seq < at.seq else None
        # Later look-ups then find it at the nearest ancestor.
        if found is not None and not isinstance(found, Serialized):
            for each in passed:
                each.channels[channel] = found
        return found

    def first_unknown(self, ancestor: Ancestor) -> str | None:
        """The nearest ancestor of a checkpoint that is not known here; None where all are."""
        passed: set[str | None] = set()
        at: Ancestor | None = ancestor
        while at is not None and at.parent_id not in passed:
            passed.add(at.parent_id)
            if at.parent_id is None or at.parent_id not in self.checkpoints:
                return at.parent_id
            at = self.checkpoints[at.parent_id]
        return None

    def learn(self, ancestor: Ancestor, channel: str, value: Serialized | None) -> None:
        """Keep a channel's stored value at a checkpoint; None: there is none."""
        ancestor.channels[channel] = False if value is None else value
        self.weight += 0 if value is None else len(value.data)


class LineageCache:
    """The lineages that were used last, bounded by bytes, shared by all threads and copies of a saver.

    Args:
        max_bytes: bound on the sum of their weights; 0 keeps none.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._lineages: OrderedDict[Stream, tuple[object, Lineage, int]] = OrderedDict()
        self._bytes = 0

    def find(self, stream: Stream, owner: object) -> Lineage | None:
        """The stream's lineage.

        Args:
            owner: the decoder. Another decoder must not get the lineage: it may lack the key of the stream.
        """
        with self._lock:
            found = self._lineages.get(stream)
            if found is None or found[0] is not owner:
                return None
            self._lineages.move_to_end(stream)
            return found[1]

    def put(self, stream: Stream, owner: object, lineage: Lineage) -> None:
        """Keep a lineage, or update its weight."""
        with self._lock:
            self._drop(stream)
            weight = lineage.weight
            # A lineage that has grown too large is dropped and begins again with the next request.
            if weight > self._max_bytes // 2:
                return
            self._lineages[stream] = owner, lineage, weight
            self._bytes += weight
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._lineages)))

    def drop(self, stream: Stream) -> None:
        """Forget a lineage that is out of date."""
        with self._lock:
            self._drop(stream)

    def drop_thread(self, thread_id: str) -> None:
        """Forget the lineages of a thread."""
        with self._lock:
            for stream in [stream for stream in self._lineages if stream.thread_id == thread_id]:
                self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        found = self._lineages.pop(stream, None)
        if found is not None:
            self._bytes -= found[2]
