"""What must be true of every log, of any writer and in any order; when two answers are the same."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any, NamedTuple, TypeAlias

from langgraph.checkpoint.base import CheckpointTuple

from tests.support.checkpoints import Tables, exactly

__all__ = ["assert_all_same", "assert_keyframes", "assert_same", "assert_sound", "place", "projected"]


def assert_sound(tables: Tables) -> None:
    """Numbers without gaps or repeats, times in their order, an unbroken chain of digests.

    Where something was erased, the record of that has the stubs through which the chain goes on, or says at which
    number it begins. A relocated event stands in the chain as its original did, and a record has the digest of its row.
    """
    ends: dict[Stream, tuple[int, bytes]] = {
        (thread, ns): (seq, digest)
        for thread, ns, seq, digest in tables.rows("select thread_id, checkpoint_ns, seq, digest from {schema}.streams")
    }
    streams: dict[Stream, list[_Event]] = {}
    # What is older than the stream's beginning waits for its partition to be dropped, and is not there for anybody.
    for thread, ns, *event in tables.rows(
        """
        select
            e.thread_id, e.checkpoint_ns, e.seq, e.kind, e.recorded_at, e.as_of, e.first_at, e.digest,
            e.state_digest, e.checkpoint_id, e.base_seq, e.origin_base_seq, e.origin_body_digest, e.body
        from {schema}.events as e
        left join {schema}.streams as s on s.thread_id = e.thread_id and s.checkpoint_ns = e.checkpoint_ns
        where s.begins_at is null or e.recorded_at >= s.begins_at
        order by e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at
        """
    ):
        streams.setdefault((thread, ns), []).append(_Event(*event))
    assert streams.keys() == ends.keys()
    for stream, events in streams.items():
        _assert_stream_sound(stream, events, *ends[stream])


Stream: TypeAlias = tuple[str, str]


class _Event(NamedTuple):
    seq: int
    kind: int
    recorded_at: datetime
    as_of: datetime | None
    first_at: datetime | None
    digest: bytes
    state_digest: bytes | None
    checkpoint_id: str
    base_seq: int | None
    origin_base_seq: int | None
    origin_body_digest: bytes | None
    body: bytes

    @property
    def is_relocated(self) -> bool:
        return self.origin_body_digest is not None

    def leaf(self, stream: Stream) -> bytes:
        base = self.origin_base_seq if self.is_relocated else self.base_seq
        content = _sha256(self.state_digest or b"", self.origin_body_digest or _sha256(self.body))
        ids = [text.encode() for text in (*stream, self.checkpoint_id)]
        sized = b"".join(struct.pack(">i", len(text)) + text for text in ids)
        return _sha256(b"\x02", struct.pack(">h", self.kind), sized, _int8(base or 0), content)

    @property
    def says(self) -> dict[str, Any]:
        assert self.body[0] == 2
        says: dict[str, Any] = json.loads(self.body[5 : 5 + int.from_bytes(self.body[1:5], "big")])
        return says

    @property
    def stubs(self) -> bytes:
        return self.body[5 + int.from_bytes(self.body[1:5], "big") :]


def _assert_stream_sound(stream: Stream, events: list[_Event], last: int, tip: bytes) -> None:
    seqs = [event.seq for event in events]
    assert len(seqs) == len(set(seqs)), f"{stream}: a number twice in {seqs}"
    stubs: dict[int, tuple[bytes, bytes]] = {}
    relocated: dict[int, str] = {}
    anchor, digest = 0, b""
    for event in events:
        if event.kind <= 2:
            continue
        says = event.says
        gone = [seq for first, end in says.get("erased", []) for seq in range(first, end + 1)]
        assert len(event.stubs) == 40 * len(gone), f"{stream}: {event.seq} has not a stub for each of {gone}"
        if "records" in says:
            relocated.clear()
        for number, seq in enumerate(gone):
            relocated.pop(seq, None)
            stub = event.stubs[40 * number : 40 * number + 8], event.stubs[40 * number + 8 : 40 * number + 40]
            assert stubs.setdefault(seq, stub) == stub, f"{stream}: two records have other stubs of {seq}"
        relocated.update(says.get("relocated", []))
        if "anchor" in says:
            anchor, digest = says["anchor"][0], bytes.fromhex(says["anchor"][1])

    found = {event.seq: event for event in events}
    at = b""
    for seq in range(anchor + 1, last + 1):
        assert seq in found or seq in stubs, f"{stream}: nothing tells what became of {seq}"
        if event := found.get(seq):
            assert event.kind > 2 or seq not in stubs, f"{stream}: {seq} is there, and a record says that it went"
            saved_at = event.as_of if event.as_of and event.is_relocated else event.recorded_at
            own = _timestamp(saved_at), event.leaf(stream)
            assert stubs.setdefault(seq, own) == own, f"{stream}: the stub of {seq} is another event's"
        then, leaf = stubs[seq]
        assert then >= at, f"{stream}: {seq} is older than the one before"
        digest, at = _sha256(digest, _int8(seq), then, leaf), then
        assert event is None or event.digest == digest, f"{stream}: the chain breaks at {seq}"
    assert digest == tip, stream
    expected = {
        event.seq: _sha256(
            _int8(event.seq),
            _timestamp(event.recorded_at),
            _timestamp(event.as_of),
            _timestamp(event.first_at or event.as_of),
            _int8(event.base_seq or 0),
            _sha256(event.body),
        ).hex()
        for event in events
        if event.is_relocated and event.as_of is not None
    }
    assert relocated == expected, f"{stream}: what the records say was relocated is not what is there"


def _sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _int8(value: int) -> bytes:
    return struct.pack(">q", value)


def _timestamp(at: datetime) -> bytes:
    since = at - datetime(2000, 1, 1, tzinfo=timezone.utc)
    return _int8((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)


def projected(tables: Tables, *, keyframes: bool = True) -> dict[str, list[Any]]:
    """Every column of what can be rebuilt from the log; of the snapshots, which there are.

    An epoch is not compared: a rebuild raises it; nor is a name, which may be in no seal. Nor are a snapshot's bytes:
    the order of names in it is that of the put, or that of the replay.

    Args:
        keyframes: whether to include what depends on when snapshots were taken.
    """
    found = {
        "streams": tables.rows(
            "select (to_jsonb(s) - 'epoch' - 'name')::text from {schema}.streams as s order by thread_id, checkpoint_ns"
        ),
        "checkpoints": tables.rows(
            """
            select (to_jsonb(c) - 'keyframe_seq' - 'keyframe_at')::text from {schema}.checkpoints as c
            order by thread_id, checkpoint_ns, checkpoint_id
            """
        ),
    }
    if keyframes:
        found["keyframes"] = tables.rows(
            "select thread_id, checkpoint_ns, checkpoint_id, keyframe_seq, keyframe_at "
            "from {schema}.checkpoints order by 1, 2, 3"
        )
        found["snapshots"] = tables.rows(
            "select thread_id, checkpoint_ns, seq, recorded_at from {schema}.snapshots order by 1, 2, 3"
        )
    return found


def assert_keyframes(tables: Tables) -> None:
    """Each checkpoint's replay starts at a state that is there, at or before the checkpoint's own event."""
    wrong = tables.rows(
        """
        select c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.seq, c.keyframe_seq
        from {schema}.checkpoints as c
        left join {schema}.events as e
            on e.thread_id = c.thread_id and e.checkpoint_ns = c.checkpoint_ns and e.seq = c.keyframe_seq
            and e.recorded_at = c.keyframe_at and e.kind = 1
        left join {schema}.events as o
            on o.thread_id = c.thread_id and o.checkpoint_ns = c.checkpoint_ns and o.seq = c.seq
            and o.recorded_at = c.recorded_at and o.kind = 1 and o.checkpoint_id = c.checkpoint_id
        where e.seq is null or o.seq is null or c.keyframe_seq > c.seq
        """
    )
    assert not wrong, f"(thread, namespace, checkpoint, seq, keyframe): {wrong}"


def place(found: CheckpointTuple) -> tuple[str, str, str]:
    """Where a listing of everything has a checkpoint: sort by it in reverse."""
    configurable = found.config["configurable"]
    return configurable["checkpoint_id"], configurable["thread_id"], configurable["checkpoint_ns"]


def assert_all_same(found: Iterable[CheckpointTuple], expected: list[CheckpointTuple]) -> None:
    """The same checkpoints in the same order."""
    found = list(found)
    assert [place(each) for each in found] == [place(each) for each in expected]
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def assert_same(found: CheckpointTuple | None, expected: CheckpointTuple | None) -> None:
    """Equal, and of the same types all the way down. The model keeps no order of names."""
    assert (found is None) == (expected is None), (found, expected)
    if found is not None and expected is not None:
        for one, other in zip(found, expected, strict=True):
            assert exactly(_ordered(one, 3), _ordered(other, 3)), (one, other)


def _ordered(value: Any, depth: int) -> Any:
    """With names in order, down to the names of channels; values keep theirs."""
    if depth == 0 or not isinstance(value, dict):
        return value
    return {key: _ordered(value[key], 1 if key == "channel_values" else depth - 1) for key in sorted(value)}
