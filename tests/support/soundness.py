"""What must be true of every log, whoever wrote it and in whatever order; when two answers are the same."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any, NamedTuple, TypeAlias

from langgraph.checkpoint.base import CheckpointTuple

from tests.support.checkpoints import Tables, exactly

__all__ = ["assert_all_same", "assert_keyframes", "assert_same", "assert_sound", "place", "projected"]


def assert_sound(tables: Tables) -> None:
    """Numbers without gaps or repeats, times in their order, an unbroken chain of digests.

    Where something was erased, the record of that says which numbers are gone, and where the chain goes on. What was
    carried forward is outside of the chain, under its old number, and the record has its digest.
    """
    ends: dict[Stream, tuple[int, bytes]] = {
        (thread, ns): (seq, digest)
        for thread, ns, seq, digest in tables.rows("select thread_id, checkpoint_ns, seq, digest from {schema}.streams")
    }
    begins: dict[Stream, Any] = {
        (thread, ns): begins_at
        for thread, ns, begins_at in tables.rows("select thread_id, checkpoint_ns, begins_at from {schema}.streams")
    }
    streams: dict[Stream, list[_Event]] = {}
    for thread, ns, *event in tables.rows(
        """
        select
            e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at, e.kind, e.as_of, e.first_at, e.digest,
            {schema}.event_leaf_v1(e.kind, e.thread_id, e.checkpoint_ns, e.checkpoint_id, e.base_seq, e.body) as leaf,
            case when e.kind > 2 then convert_from(substr(e.body, 2), 'UTF8')::jsonb end as says
        from {schema}.events as e
        order by e.thread_id, e.checkpoint_ns, e.seq, e.recorded_at
        """
    ):
        found = _Event(*event)
        began = begins.get((thread, ns))
        # What is older waits for its partition to be dropped, and is not there for anybody.
        if began is None or found.recorded_at >= began:
            streams.setdefault((thread, ns), []).append(found)
    assert streams.keys() == ends.keys()
    for stream, events in streams.items():
        _assert_stream_sound(stream, events, *ends[stream])


Stream: TypeAlias = tuple[str, str]


class _Event(NamedTuple):
    seq: int
    recorded_at: datetime
    kind: int
    as_of: datetime | None
    first_at: datetime | None
    digest: bytes
    leaf: bytes
    says: dict[str, Any] | None

    @property
    def is_carried(self) -> bool:
        return self.as_of is not None and self.says is None


def _assert_stream_sound(stream: Stream, events: list[_Event], last: int, tip: bytes) -> None:
    records = [event.says for event in events if event.says is not None]
    erased = [each for says in records for each in says.get("erased", [])]
    seqs = [event.seq for event in events]
    assert len(seqs) == len(set(seqs)), f"{stream}: a number twice in {seqs}"
    gone = {seq for first, end, _ in erased for seq in range(first, end + 1)}
    assert set(seqs) | gone == set(range(1, last + 1)), f"{stream}: {seqs} and {erased} are not 1 to {last}"

    digests = {0: b""} | {end: bytes.fromhex(digest) for _, end, digest in erased}
    chained = [event for event in events if not event.is_carried]
    assert [event.recorded_at for event in chained] == sorted(event.recorded_at for event in chained), stream
    has_data = any(event.says is None for event in events)
    for event in chained:
        if event.seq - 1 not in digests and not has_data:
            continue  # of a stream that is no more, records go with their partitions; the last one covers all before it
        expected = _sha256(digests[event.seq - 1], _int8(event.seq), _timestamp(event.recorded_at), event.leaf)
        assert event.digest == expected, f"{stream}: the chain breaks at {event.seq}"
        digests[event.seq] = event.digest
    assert digests[last] == tip, stream
    carried: dict[int, str] = {}
    for event in chained:
        if event.kind == 3:
            carried.clear()
        elif event.says is not None:
            for seq in event.says.get("uncarried", []):
                carried.pop(seq, None)
            carried.update(event.says.get("carried", []))
    assert carried == {event.seq: event.digest.hex() for event in events if event.is_carried}, stream
    for event in events:
        if event.is_carried:
            assert event.as_of is not None
            expected = _sha256(
                _int8(event.seq),
                _timestamp(event.recorded_at),
                _timestamp(event.as_of),
                _timestamp(event.first_at or event.as_of),
                event.leaf,
            )
            assert event.digest == expected, f"{stream}: {event.seq} is not what was carried"


def _sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def _int8(value: int) -> bytes:
    return struct.pack(">q", value)


def _timestamp(at: datetime) -> bytes:
    since = at - datetime(2000, 1, 1, tzinfo=timezone.utc)
    return _int8((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)


def projected(tables: Tables, *, keyframes: bool = True) -> dict[str, list[Any]]:
    """Every column of what can be rebuilt from the log; of the snapshots, which there are.

    An epoch is not compared: a rebuild raises it. Nor are a snapshot's bytes: the order of names in it is that of the
    put, or that of the replay.

    Args:
        keyframes: whether to include what depends on when snapshots were taken.
    """
    found = {
        "streams": tables.rows(
            "select (to_jsonb(s) - 'epoch')::text from {schema}.streams as s order by thread_id, checkpoint_ns"
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
