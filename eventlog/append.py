"""Appending to the log: the database's append functions as operations."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any, Literal, TypeAlias

from psycopg import errors as pg

from eventlog.db.query import BatchableQuery, Group, Op, Query, Rows
from eventlog.db.statements import Statements
from eventlog.errors import ThreadDeletedError
from eventlog.events import BaseRef, Kind
from eventlog.format.digest import content_digest
from eventlog.logger import logger
from eventlog.partitions import ensure_partitions
from eventlog.streams import Stream, StreamHead

__all__ = [
    "CHECKPOINT_PARAMETERS",
    "WRITES_PARAMETERS",
    "Appended",
    "CheckpointAppend",
    "append_checkpoint",
    "append_writes",
    "into_partition",
]

#: The parameters of an append without a base. With a base they are sent as texts, and the server infers their types:
#: psycopg would derive types from the values (int2, int4, int8; none for NULL), and each combination would be prepared
#: again, with a round trip of its own, on each connection.
NO_BASE = (None, None, None)

#: The parameters of the two statements, as the columns of `append_call`; byte strings are arrays of their own.
WRITES_PARAMETERS = (
    *("thread_id", "checkpoint_ns", "checkpoint_id", "root_id", "base_seq", "base_at", "epoch"),
    *("state_digest", "content", "body"),
)
CHECKPOINT_PARAMETERS = (
    *("thread_id", "checkpoint_ns", "checkpoint_id", "parent_id", "root_id", "base_seq", "base_at", "epoch"),
    *("keyframe_seq", "keyframe_at", "replaces", "is_keyframe", "state_bytes", "run_id"),
    *("metadata", "state_digest", "content", "body", "snapshot"),
)
_BYTES = ("state_digest", "content", "body", "snapshot")

Status: TypeAlias = Literal["ok", "exists", "stale", "erased", "concurrent", "unsaved"]


@dataclass(frozen=True, slots=True)
class CheckpointAppend:
    """One checkpoint event, encoded, with the columns of the projections."""

    stream: Stream
    checkpoint_id: str
    parent_id: str | None
    root_id: str | None
    """The root graph's checkpoint that a subgraph runs under."""
    base: BaseRef | None
    """The parent's event, which must be current: the body is a difference from it, or self-contained and inherits."""
    self_keyframe: bool
    """Whether replay starts here: with a snapshot, or with a self-contained body."""
    replaces: bool
    """Whether the writer knows a checkpoint of this id and replaces it."""
    state_bytes: int
    run_id: str | None
    metadata_json: str
    state_digest: bytes
    body: bytes
    snapshot: bytes | None
    observed_seq: int | None = None
    """The stream's last event when the parent was read: the parent must not have got another child since, and with 0 it
    must not have any. None: it may have other children."""


@dataclass(frozen=True, slots=True)
class Appended:
    """The database's answer. Only 'ok' wrote anything, and only 'ok' has the other fields."""

    status: Status
    recorded_at: datetime | None = None
    head: StreamHead | None = None
    """The event, as the stream's last one."""
    conflicting_id: str | None = None
    """With 'concurrent', the other child of the parent; with 'unsaved', the latest checkpoint."""


def append_checkpoint(statements: Statements, append: CheckpointAppend) -> Op[Appended]:
    """Append a checkpoint event and update `streams`, `checkpoints` and `snapshots`, in one statement.

    Answers 'exists' when the id is taken and `replaces` is false, 'stale' when the base is not (or no longer) the
    parent's current event, 'erased' when the parent was deleted. With `append.observed_seq` it answers 'concurrent'
    when the parent got another child, and 'unsaved' when the parent does not exist but others do.
    """
    base = append.base
    params = (
        *append.stream,
        append.checkpoint_id,
        append.parent_id,
        append.root_id,
        *(NO_BASE if base is None else (str(base.seq), str(base.recorded_at), str(base.epoch))),
        *((None, None) if base is None else (str(base.keyframe_seq), str(base.keyframe_at))),
        append.replaces,
        append.self_keyframe,
        str(append.state_bytes),
        append.run_id,
        append.metadata_json,
        append.state_digest,
        content_digest(append.state_digest, sha256(append.body).digest()),
        append.body,
        append.snapshot or b"",
    )
    if append.observed_seq is not None:
        query = Query(statements["append_checkpoint_strict"], (*params, str(append.observed_seq)), is_frequent=True)
    elif base is None or append.replaces:
        query = Query(statements["append_checkpoint"], params, is_frequent=True)
    else:
        query = BatchableQuery(
            statements["append_checkpoint"],
            params,
            is_frequent=True,
            join=partial(_together, statements),
            group=Group(append.stream.thread_id, statements["is_distributed"]),
        )
    try:
        rows = yield from into_partition(statements, append.stream.thread_id, query)
    except pg.UniqueViolation:
        # Between the function's check and its insert, another transaction committed a put of the same new checkpoint
        # id, a deletion of the row to replace, or the beginning of the stream.
        return Appended("exists")
    status, seq, recorded_at, epoch, digest, *conflicting = rows[0]
    return Appended(status, recorded_at, None if seq is None else StreamHead(seq, epoch, digest), *conflicting)


def append_writes(
    statements: Statements,
    stream: Stream,
    checkpoint_id: str,
    root_id: str | None,
    base: BaseRef | None,
    state_digest: bytes,
    body: bytes,
    *,
    is_relaxed: bool = False,
) -> Op[StreamHead | None]:
    """Append a writes event; returns it as the stream's last event.

    None, with nothing written, when the base is not the checkpoint's current event.

    Args:
        root_id: the root graph's checkpoint that a subgraph runs under.
        base: the checkpoint's event, if the body has differences from its state.
        is_relaxed: do not wait for the disk; a later append that does waits for these writes, too.

    Raises:
        ThreadDeletedError: when the checkpoint was erased.
    """
    query = BatchableQuery(
        statements["append_writes_relaxed" if is_relaxed else "append_writes"],
        (
            *stream,
            checkpoint_id,
            root_id,
            *(NO_BASE if base is None else (str(base.seq), str(base.recorded_at), str(base.epoch))),
            state_digest,
            content_digest(state_digest, sha256(body).digest()),
            body,
        ),
        is_frequent=True,
        join=partial(_together, statements),
        group=Group(stream.thread_id, statements["is_distributed"]),
    )
    rows = yield from into_partition(statements, stream.thread_id, query)
    status, seq, _, epoch, digest = rows[0]
    if status == "erased":
        under = "" if root_id is None else f", or {root_id} of its root graph,"
        raise ThreadDeletedError(
            f"checkpoint {checkpoint_id} of thread {stream.thread_id!r}{under} was erased: writes to it are refused"
        )
    return StreamHead(seq, epoch, digest) if status == "ok" else None


def _together(statements: Statements, queries: Sequence[BatchableQuery], thread_id: str | None) -> Query:
    """The joint statement for several appends, with the parameters of each; all are on `thread_id` if that is given."""
    calls = []
    for number, query in enumerate(queries, 1):
        is_writes = query.statement != statements["append_checkpoint"]
        params = zip(WRITES_PARAMETERS if is_writes else CHECKPOINT_PARAMETERS, query.params or (), strict=True)
        calls.append(
            {"number": number, "kind": Kind.WRITES_SAVED if is_writes else Kind.CHECKPOINT_SAVED, **dict(params)}
        )
    arrays = [[call.pop(name, b"") for call in calls] for name in _BYTES]
    # If one append waits for the disk, all of them do.
    is_relaxed = all(query.statement == statements["append_writes_relaxed"] for query in queries)
    joint = (json.dumps(calls), *arrays, is_relaxed)
    if thread_id is None:
        return Query(statements["append_together"], joint)
    return Query(statements["append_thread"], (thread_id, *joint))


def into_partition(statements: Statements, thread_id: str, query: Query) -> Generator[Query, Any, Rows]:
    """Run an append; if the log lacks the partition for it, create the partition and append again."""
    try:
        rows: Rows = yield query
    except pg.CheckViolation as exc:
        _raise_unless_partition(exc)
        made = yield from ensure_partitions(statements)
        try:
            rows = yield query
        except pg.CheckViolation as again:
            _raise_unless_partition(again)
            # The clock went back, and the partition of the streams' latest events was dropped.
            made += yield from ensure_partitions(statements, thread_id=thread_id)
            rows = yield query
        # Another call may have created it in the meantime.
        if made:
            logger.warning(
                "eventlog.partition_made_on_demand",
                partitions=made,
                advice="setup() makes partitions ahead: run it at every deployment",
            )
    return rows


def _raise_unless_partition(exc: pg.CheckViolation) -> None:
    """Inside the function, a row without a partition is a check violation that names no constraint."""
    if exc.diag.constraint_name is not None:
        raise exc
