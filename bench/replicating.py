"""Makes many threads quickly, by copying rows of threads that the savers wrote to other ids.

The result equals threads that the savers would have written with these ids and times: numbers, times and digests
verify. See `check`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import psycopg
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from typing_extensions import LiteralString

from bench.conversation import prose
from bench.race import thread
from bench.results import EVENTLOG
from bench.savers import MeasuredSavers, agree

__all__ = ["Copy", "check", "replicate", "write_template"]

#: A stream's digests, each from the one before: sha256(previous, seq, recorded_at, leaf). Of the session.
PREPARE: tuple[LiteralString, ...] = (
    "set work_mem = '256MB'",
    """
    create function pg_temp.link(bytea, bytea) returns bytea language sql immutable as 'select sha256($1 || $2)'
    """,
    "create aggregate pg_temp.chain(bytea) (sfunc = pg_temp.link, stype = bytea, initcond = '')",
    """
    create temporary table copies (source text collate "C", target text collate "C", ahead interval)
    """,
)

OURS: tuple[LiteralString, ...] = (
    """
    insert into eventlog.events
        (thread_id, checkpoint_ns, seq, recorded_at, kind, checkpoint_id, base_seq, state_digest, digest, body)
    select
        c.target, e.checkpoint_ns, e.seq, e.recorded_at + c.ahead, e.kind, e.checkpoint_id, e.base_seq,
        e.state_digest,
        pg_temp.chain(
            int8send(e.seq) || timestamptz_send(e.recorded_at + c.ahead)
            || eventlog.event_leaf_v1(
                e.kind, c.target, e.checkpoint_ns, e.checkpoint_id, e.base_seq,
                sha256(e.state_digest || sha256(e.body))
            )
        ) over (partition by c.target, e.checkpoint_ns order by e.seq),
        e.body
    from copies as c
    inner join eventlog.events as e on e.thread_id = c.source
    """,
    """
    insert into eventlog.streams (
        thread_id, checkpoint_ns, name, seq, epoch, digest, xid, latest_checkpoint_id, written_through, active_at,
        updated_at
    )
    select
        c.target, s.checkpoint_ns, uuid_send(gen_random_uuid()), s.seq, s.epoch, e.digest, pg_current_xact_id(),
        s.latest_checkpoint_id, s.written_through, s.active_at + c.ahead, s.updated_at + c.ahead
    from copies as c
    inner join eventlog.streams as s on s.thread_id = c.source
    inner join eventlog.events as e
        on
            e.thread_id = c.target and e.checkpoint_ns = s.checkpoint_ns and e.seq = s.seq
            and e.recorded_at = s.updated_at + c.ahead
    """,
    """
    insert into eventlog.checkpoints (
        thread_id, checkpoint_ns, checkpoint_id, seq, recorded_at, first_at, parent_checkpoint_id,
        keyframe_seq, keyframe_at, state_bytes, run_id, metadata
    )
    select
        c.target, p.checkpoint_ns, p.checkpoint_id, p.seq, p.recorded_at + c.ahead, p.first_at + c.ahead,
        p.parent_checkpoint_id, p.keyframe_seq, p.keyframe_at + c.ahead, p.state_bytes, p.run_id, p.metadata
    from copies as c
    inner join eventlog.checkpoints as p on p.thread_id = c.source
    """,
    """
    insert into eventlog.snapshots (thread_id, checkpoint_ns, seq, recorded_at, body)
    select c.target, s.checkpoint_ns, s.seq, s.recorded_at + c.ahead, s.body
    from copies as c
    inner join eventlog.snapshots as s on s.thread_id = c.source
    """,
)

THEIRS: tuple[LiteralString, ...] = (
    """
    insert into checkpoints (
        thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, type, checkpoint, metadata
    )
    select c.target, p.checkpoint_ns, p.checkpoint_id, p.parent_checkpoint_id, p.type, p.checkpoint, p.metadata
    from copies as c
    inner join checkpoints as p on p.thread_id = c.source
    """,
    """
    insert into checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
    select c.target, b.checkpoint_ns, b.channel, b.version, b.type, b.blob
    from copies as c
    inner join checkpoint_blobs as b on b.thread_id = c.source
    """,
    """
    insert into checkpoint_writes (
        thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob
    )
    select
        c.target, w.checkpoint_ns, w.checkpoint_id, w.task_id, w.task_path, w.idx, w.channel, w.type, w.blob
    from copies as c
    inner join checkpoint_writes as w on w.thread_id = c.source
    """,
)


class Copy(NamedTuple):
    """One thread to make."""

    source: str
    """A thread that both savers have, from which nothing was erased or copied."""
    target: str
    ahead: timedelta = timedelta(0)
    """The shift of all times in it; negative for earlier. The log must have partitions for them."""


def write_template(
    savers: MeasuredSavers, thread_id: str, steps: int, about: Mapping[str, Any] | None = None, *, window: int = 100
) -> list[str]:
    """Have the savers write a thread, to be copied: a conversation, and the writes of each task that it took.

    Args:
        savers: the savers that write.
        thread_id: a thread that they do not have.
        steps: checkpoints; between two of them is a `put_writes`.
        about: metadata of each checkpoint, in addition to LangGraph's.
        window: how many messages the state has, at most.

    Returns:
        The ids of its checkpoints, oldest first.
    """
    next_version = InMemorySaver().get_next_version
    config, version = thread(thread_id), None
    messages: list[AnyMessage] = []
    ids = []
    for step in range(steps):
        written: AnyMessage = (AIMessage if step % 2 else HumanMessage)(prose((thread_id, step), 200), id=f"m{step}")
        messages = [*messages, written][-window:]
        version = next_version(version, None)
        checkpoint: Any = {
            **empty_checkpoint(),
            "v": 4,
            "channel_values": {"messages": messages},
            "channel_versions": {"messages": version},
        }
        metadata: Any = {"source": "loop" if step else "input", "step": step, "parents": {}, **(about or {})}
        for each in savers:
            if step:
                each.saver.put_writes(config, [("messages", [written])], f"task-{step}")
            each.saver.put(config, checkpoint, metadata, {"messages": version})
        config = thread(thread_id, checkpoint["id"])
        ids.append(checkpoint["id"])
    return ids


def replicate(conn: psycopg.Connection[Any], copies: Sequence[Copy]) -> None:
    """Make threads, in the tables of our saver and of the incumbent's, in one transaction.

    Args:
        conn: to their database, with autocommit; the same one for as many calls as there are.
        copies: at most some ten thousand events at once.
    """
    if conn.execute("select to_regclass('pg_temp.copies') is null").fetchone() == (True,):
        for statement in PREPARE:
            conn.execute(statement)
    with conn.transaction():
        conn.execute("truncate copies")
        with conn.cursor().copy("copy copies from stdin") as rows:
            for each in copies:
                rows.write_row(each)
        for statement in (*OURS, *THEIRS):
            conn.execute(statement)


def check(savers: MeasuredSavers, copies: Sequence[Copy]) -> None:
    """Check that the copies verify, and read like their templates.

    Raises:
        SystemExit: when one does not.
    """
    saver = savers[EVENTLOG].saver
    for each in copies:
        found = {f"{who.name}'s {id_}": who.saver.get_tuple(thread(id_)) for who in savers for id_ in each[:2]}
        if None in found.values():
            raise SystemExit(f"{each.source} or {each.target} is not there")
        agree(found)
    if problems := saver.log.verify([each.target for each in copies]).problems:
        raise SystemExit(f"replicated threads do not verify: {problems[0]}")
