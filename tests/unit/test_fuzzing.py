"""Mutated bodies: whatever became of them, decoding gives a value or a `LogCorruptedError` that names the event.

No database: the events of a thread are made here, one of them is altered, and all that reads events reads them.
`EVENTLOG_TEST_TRIALS=100000` looks longer.
"""

from __future__ import annotations

import os
import random
import re
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from eventlog.errors import LogCorruptedError
from eventlog.events import Kind, StoredEvent
from eventlog.format.codec import Codec
from eventlog.format.contents import SavedWrite, Serialized, WritesSaved
from eventlog.format.delta import Full, cross
from eventlog.format.values import split_serializer
from eventlog.read import CHECKPOINT, Page, Path
from eventlog.settings import Settings
from eventlog.streams import Stream
from eventlog.thread_events import Family
from projections.event import Event
from projections.history import Describer
from projections.message_cache import MessageCache, SharedElements
from projections.tuples import checkpoint_of, pending_writes, resolve_writes
from snapshots.encode import CheckpointEncoder, event_of
from snapshots.fold import Folder
from snapshots.state import CheckpointState
from tests.support.checkpoints import checkpoint_of as checkpoint
from tests.support.checkpoints import codec_of
from tests.support.mutations import mutated, only

TRIALS = int(os.environ.get("EVENTLOG_TEST_TRIALS", "100"))

FUZZED = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=TRIALS,
    suppress_health_check=list(HealthCheck),
)

KIB, MIB = 1024, 1024 * 1024

#: What decompressing may produce, and what decoding all of a thread may take then.
LIMIT_BYTES = 2 * MIB
MEMORY_BYTES = 48 * MIB

STREAM = Stream("bad", "")
AT = datetime(2026, 1, 1, tzinfo=timezone.utc)
SERDE = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
PLAIN, CIPHER = split_serializer(SERDE)


@dataclass
class Thread:
    """A thread's events as they are stored."""

    codec: Codec
    checkpoints: list[StoredEvent] = field(default_factory=list)
    writes: list[StoredEvent] = field(default_factory=list)
    """Of the last checkpoint."""
    snapshot: StoredEvent | None = None
    """At the fourth checkpoint."""

    @property
    def bodies(self) -> list[bytes]:
        return [each.body for each in self.parts]

    @property
    def parts(self) -> list[StoredEvent]:
        assert self.snapshot is not None
        return [*self.checkpoints, *self.writes, self.snapshot]

    def altered(self, number: int, **changes: Any) -> Thread:
        """The same, with one part changed."""
        part = self.parts[number]._replace(**changes)
        if number == len(self.parts) - 1:
            return replace(self, snapshot=part)
        name = "checkpoints" if number < len(self.checkpoints) else "writes"
        parts = list(getattr(self, name))
        parts[number if name == "checkpoints" else number - len(self.checkpoints)] = part
        return replace(self, **{name: parts})


def words(number: int) -> str:
    return random.Random(number).randbytes(150).hex()


@cache
def thread(kind: str) -> Thread:
    """Eight checkpoints with every kind of difference, and the writes of three tasks."""
    made = Thread(codec_of(Settings(max_body_bytes=LIMIT_BYTES), CIPHER if kind == "encrypted" else None))
    parent: CheckpointState | None = None
    document = [words(number) for number in range(12)]
    messages: list[Any] = []
    for number in range(1, 9):
        messages = [*messages, HumanMessage(words(number), id=f"{number}"), AIMessage("", id=f"{number}a")]
        document[number] = document[number + 1][::-1]
        document[-number] = words(100 + number)
        values = {"messages": messages, "document": list(document), "n": number, "text": "é" * number}
        if number == 5:
            values["sent"] = {"state": messages, "call": "x"}
        versions = {**dict.fromkeys(values, f"{number}"), **({} if number % 3 else {"gone": 1.5})}
        draft = CheckpointEncoder(
            PLAIN,
            checkpoint(f"{number}", values, versions, versions_seen={"node": {"n": f"{number}"}}),
            {"source": "loop", "step": number, "run_id": "r"},
            versions,
        )
        frame = draft.state(f"{number}", None if parent is None else parent.checkpoint_id, parent)
        body = made.codec.encode_checkpoint(event_of(frame, parent, LIMIT_BYTES))
        frame.seq = number
        made.checkpoints.append(StoredEvent(number, parent and parent.seq, AT + timedelta(number), body))
        if number == 4:
            body = made.codec.encode_snapshot(frame.versions, frame.seen, frame.channels)
            made.snapshot = StoredEvent(number, None, AT + timedelta(number), body)
        parent = frame
    assert parent is not None
    for number in range(3):
        value = Serialized(*PLAIN.dumps_typed([*messages, f"more {number}"]))
        writes = [
            SavedWrite(0, "messages", cross(value, parent.largest, limit=LIMIT_BYTES)),
            SavedWrite(-1, "__error__", Full("null", b"")),
        ]
        body = made.codec.encode_writes(WritesSaved(f"task {number}", "path", writes))
        made.writes.append(StoredEvent(9 + number, parent.seq, AT + timedelta(9 + number), body))
    return made


def readers(found: Thread) -> Iterator[Callable[[], Any]]:
    """All that reads a thread's events, each by itself."""
    codec, folder = found.codec, Folder(found.codec, STREAM, LIMIT_BYTES)
    elements = MessageCache(MIB)

    def tuple_of(frame: CheckpointState, writes: list[StoredEvent], decoder: Any) -> None:
        checkpoint_of(decoder, STREAM, frame)
        decoder.value(frame.metadata, STREAM.describe_event(frame.seq))
        resolved = resolve_writes(codec, STREAM, writes, {frame.seq: frame}, LIMIT_BYTES)
        pending_writes(decoder, STREAM, resolved)

    def path(*, snapshot: bool) -> None:
        events = found.checkpoints[4 if snapshot else 0 :][::-1]
        read = Path("8", "7", 8, AT, 0, events, found.snapshot if snapshot else None, writes=found.writes)
        folded = folder.fold_path(read, None)
        tuple_of(folded.state, folded.writes, elements.decoder(PLAIN))

    def page() -> None:
        read = Page(writes={"8": found.writes})
        for event in found.checkpoints:
            read.add((CHECKPOINT, event.seq, 1, event.recorded_at, f"{event.seq}", None, None))
            read.events[event.seq] = event
        shared = SharedElements(PLAIN, MIB)
        for folded in folder.fold_page(read):
            tuple_of(folded.state, folded.writes, shared)

    def history() -> None:
        describers = Describer(None, LIMIT_BYTES), Describer(PLAIN, LIMIT_BYTES)
        frames: dict[int, CheckpointState] = {}
        for event in [*found.checkpoints, *found.writes]:
            kind = Kind.CHECKPOINT_SAVED if event in found.checkpoints else Kind.WRITES_SAVED
            read = Event(event._replace(kind=kind, checkpoint_id="8", thread_id=STREAM.thread_id), codec, PLAIN)
            for describer in describers:
                if (base := describer.wanted(read)) is not None:
                    describer.learn(STREAM, base[1], frames.get(base[1]))
                describer.describe(read, Family(), repeat=False)
            if kind == Kind.CHECKPOINT_SAVED:
                base_frame = None if event.base_seq is None else frames.get(event.base_seq)
                frames[event.seq] = folder.advance(base_frame, event, f"{event.seq}", folder.decode(event))

    def feed() -> None:
        for event in [*found.checkpoints, *found.writes]:
            kind = Kind.CHECKPOINT_SAVED if event in found.checkpoints else Kind.WRITES_SAVED
            stored = event._replace(kind=kind, checkpoint_id="8", thread_id=STREAM.thread_id, generation=1, xid=1)
            read = Event(stored, codec, PLAIN)
            assert (read.metadata, read.run_id, read.changed, read.task_id, read.needs_state()) is not None
            if not read.needs_state():
                assert read.writes is not None

    yield lambda: path(snapshot=False)
    yield lambda: path(snapshot=True)
    yield page
    yield history
    yield feed


NAMED = re.compile(r"event -?\d+ of thread 'bad', namespace '',")


def read_all(found: Thread) -> int:
    """Read a thread in all ways; returns how many of them failed, all of them as they should."""
    failed = 0
    for reader in readers(found):
        if (exc := only(LogCorruptedError, reader)) is not None:
            assert NAMED.search(str(exc)), exc
            failed += 1
    return failed


@pytest.mark.parametrize("kind", ["plain", "encrypted"])
def test_unaltered_bodies_are_read(kind: str) -> None:
    assert read_all(thread(kind)) == 0


def fuzz(kind: str, examples: int) -> None:
    """Alter a body, and read; so many times."""
    whole = thread(kind)
    noticed = total = 0

    @settings(FUZZED, max_examples=examples)
    @given(st.data())
    def check(data: st.DataObject) -> None:
        nonlocal noticed, total
        number = data.draw(st.integers(0, len(whole.parts) - 1))
        body = data.draw(mutated(whole.parts[number].body, whole.bodies))
        noticed += read_all(whole.altered(number, body=body)) > 0
        total += 1

    check()
    assert noticed > total // 3, (noticed, total)


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("kind", "examples"), [("plain", TRIALS * 3), ("encrypted", TRIALS // 2)])
def test_a_mutated_body_is_read_or_reported(kind: str, examples: int) -> None:
    """One body is another one."""
    fuzz(kind, examples)


@pytest.mark.timeout(0)
def test_no_body_takes_unbounded_memory() -> None:
    tracemalloc.start()
    try:
        fuzz("plain", TRIALS // 2)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_BYTES, peak


@FUZZED
@given(st.integers(0, 10), st.one_of(st.none(), st.integers(-2, 14), st.sampled_from([2**31, 2**63 - 1, -(2**63)])))
def test_events_with_wrong_bases_are_read_or_reported(number: int, base_seq: int | None) -> None:
    """An event says that it builds on another one than it does: on itself, on a later one, on none."""
    read_all(thread("plain").altered(number, base_seq=base_seq))
