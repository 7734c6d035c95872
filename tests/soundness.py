"""What must be true of every log, whoever wrote it and in whatever order; when two answers are the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langgraph.checkpoint.base import CheckpointTuple

from tests.checkpoints import Tables, exactly

__all__ = ["assert_all_same", "assert_same", "assert_sound", "place", "projected"]


def assert_sound(tables: Tables) -> None:
    """Numbers without gaps or repeats, times in their order, an unbroken chain of digests.

    Where a thread was erased, its tombstone says how many numbers are gone.
    """
    wrong = tables.rows(
        """
        select s.thread_id, s.checkpoint_ns, s.seq, e.count, e.distinct_seq, e.last, e.erased
        from {schema}.streams as s
        full join (
            select
                thread_id, checkpoint_ns, count(*) as count, count(distinct seq) as distinct_seq, max(seq) as last,
                coalesce(sum(
                    case when kind = 3 then (convert_from(substr(body, 2), 'UTF8')::jsonb ->> 'events')::bigint end
                ), 0) as erased
            from {schema}.events
            group by thread_id, checkpoint_ns
        ) as e using (thread_id, checkpoint_ns)
        where (s.seq = e.last and e.count = e.distinct_seq and e.count + e.erased = s.seq) is not true
        """
    )
    assert not wrong, f"(thread, namespace, seq of the stream, events, different seq, last, erased): {wrong}"
    # Across an erasure the chain cannot be followed: what it covered is gone.
    broken = tables.rows(
        """
        select e.thread_id, e.checkpoint_ns, e.seq
        from (
            select
                *,
                lag(seq, 1, 0) over stream as previous_seq,
                lag(digest, 1, ''::bytea) over stream as previous_digest,
                lag(recorded_at, 1, '-infinity') over stream as previous_at
            from {schema}.events
            window stream as (partition by thread_id, checkpoint_ns order by seq)
        ) as e
        where
            recorded_at < previous_at
            or seq = previous_seq + 1
            and digest <> sha256(
                previous_digest || int8send(seq) || timestamptz_send(recorded_at)
                || {schema}.event_leaf_v1(kind, thread_id, checkpoint_ns, checkpoint_id, base_seq, body)
            )
        """
    )
    assert not broken, f"the chain breaks at {broken}"


def projected(tables: Tables, *, keyframes: bool = True) -> dict[str, list[Any]]:
    """Every column of what can be rebuilt from the log; of the snapshots, which there are.

    A snapshot's bytes are not compared: the order of names in it is that of the put, or that of the replay.

    Args:
        keyframes: whether to include what depends on when snapshots were taken.
    """
    found = {
        "streams": tables.rows("select s::text from {schema}.streams as s order by thread_id, checkpoint_ns"),
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
