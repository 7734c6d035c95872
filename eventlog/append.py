"""Appending to the log: what the append functions of the database promise, as operations."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any, Literal, TypeAlias

from psycopg import errors as pg

from eventlog.db.query import BatchableQuery, Op, Query, Rows
from eventlog.db.statements import Statements
from eventlog.errors import ThreadDeletedError
from eventlog.events import BaseRef, Kind
from eventlog.format.digest import content_digest
from eventlog.logger import logger
from eventlog.partitions import ensure_partitions
from eventlog.streams import Stream, StreamHead

__all__ = ["Appended", "CheckpointAppend", "append_checkpoint", "append_writes", "into_partition"]

#: The parameters of an append without a base. Those of a base are texts, and the server takes their types from where
#: they stand: psycopg would tell it types that depend on the values (int2, int4, int8; none for NULL), and prepare the
#: statement once more, in a round trip of its own, for each combination and connection.
NO_BASE = (None, None, None)

#: The parameters of the two statements, as the columns of `append_call`; those of bytes are arrays of their own.
_WRITES = (
    *("thread_id", "checkpoint_ns", "checkpoint_id", "root_id", "base_seq", "base_at", "epoch"),
    *("state_digest", "content", "body"),
)
_CHECKPOINT = (
    *("thread_id", "checkpoint_ns", "checkpoint_id", "parent_id", "root_id", "base_seq", "base_at", "epoch"),
    *("keyframe_seq", "keyframe_at", "head_seq", "head_digest", "replaces", "is_keyframe", "state_bytes", "run_id"),
    *("metadata", "state_digest", "content", "body", "snapshot"),
)
_BYTES = ("head_digest", "state_digest", "content", "body", "snapshot")

Status: TypeAlias = Literal["ok", "exists", "stale", "erased", "concurrent", "unsaved"]


@dataclass(frozen=True, slots=True)
class CheckpointAppend:
    """One "checkpoint saved" event, encoded, with what the projections need to know."""

    stream: Stream
    checkpoint_id: str
    parent_id: str | None
    root_id: str | None
    """The root graph's checkpoint that a subgraph runs under."""
    base: BaseRef | None
    """The parent's event, which must be current: the body is a difference from it, or self-contained and inherits."""
    self_keyframe: bool
    """Whether replay starts here: a snapshot comes with it, or else the body is self-contained."""
    replaces: bool
    """Whether an existing checkpoint of this id is known, and to be replaced for readers."""
    state_bytes: int
    run_id: str | None
    metadata_json: str
    state_digest: bytes
    body: bytes
    snapshot: bytes | None
    observed_seq: int | None = None
    """The last event that the stream had when the parent was read: no other child of it may have been appended since,
    and with 0, none at all. None: there may be others."""


@dataclass(frozen=True, slots=True)
class Appended:
    """The database's answer. Only 'ok' wrote anything, and only 'ok' has the rest."""

    status: Status
    recorded_at: datetime | None = None
    head: StreamHead | None = None
    """The event, as the stream's last one."""
    conflicting_id: str | None = None
    """Only 'concurrent' has it, the other child of the parent, and 'unsaved', the latest checkpoint."""


def append_checkpoint(statements: Statements, append: CheckpointAppend) -> Op[Appended]:
    """Append a checkpoint event and update `streams`, `checkpoints` and `snapshots`, in one statement.

    Answers 'exists' when the id is taken and `replaces` is false, 'stale' when the base is not (or no longer) the
    parent's current event, 'erased' when the parent was deleted. With `append.observed_seq` it answers 'concurrent'
    when the parent has another child that it must not have, 'unsaved' when it is not there, where others are.
    """
    base = append.base
    params = (
        *append.stream,
        append.checkpoint_id,
        append.parent_id,
        append.root_id,
        *(NO_BASE if base is None else (str(base.seq), str(base.recorded_at), str(base.epoch))),
        *((None, None) if base is None else (str(base.keyframe_seq), str(base.keyframe_at))),
        *((None, b"") if base is None or base.head is None else (str(base.head.seq), base.head.digest)),
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
    elif base is None or base.head is None or append.replaces:
        query = Query(statements["append_checkpoint"], params, is_frequent=True)
    else:
        query = BatchableQuery(
            statements["append_checkpoint"], params, is_frequent=True, join=partial(_together, statements)
        )
    try:
        rows = yield from into_partition(statements, append.stream.thread_id, query)
    except pg.UniqueViolation:
        # Between the function's look and its insert, somebody else's put of the same new checkpoint id was committed,
        # or a deletion of what it was to replace, or the stream was begun, and there must not be two beginnings.
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
    )
    rows = yield from into_partition(statements, stream.thread_id, query)
    status, seq, _, epoch, digest = rows[0]
    if status == "erased":
        under = "" if root_id is None else f", or {root_id} of its root graph,"
        raise ThreadDeletedError(
            f"checkpoint {checkpoint_id} of thread {stream.thread_id!r}{under} was erased: writes to it are refused"
        )
    return StreamHead(seq, epoch, digest) if status == "ok" else None


def _together(statements: Statements, queries: Sequence[BatchableQuery]) -> Query:
    """The joint statement of appends, made of the parameters of each."""
    calls = []
    for number, query in enumerate(queries, 1):
        is_writes = query.statement != statements["append_checkpoint"]
        params = zip(_WRITES if is_writes else _CHECKPOINT, query.params or (), strict=True)
        calls.append(
            {"number": number, "kind": Kind.WRITES_SAVED if is_writes else Kind.CHECKPOINT_SAVED, **dict(params)}
        )
    arrays = [[call.pop(name, b"") for call in calls] for name in _BYTES]
    # One that waits for the disk makes all of them wait.
    is_relaxed = all(query.statement == statements["append_writes_relaxed"] for query in queries)
    return Query(
        statements["append_together_relaxed" if is_relaxed else "append_together"], (json.dumps(calls), *arrays)
    )


def into_partition(statements: Statements, thread_id: str, query: Query) -> Generator[Query, Any, Rows]:
    """Run an append; where the log has no partition for it, make it and append again."""
    try:
        rows: Rows = yield query
    except pg.CheckViolation as exc:
        _raise_unless_partition(exc)
        made = yield from ensure_partitions(statements)
        try:
            rows = yield query
        except pg.CheckViolation as again:
            _raise_unless_partition(again)
            # The clock went back, and somebody has dropped what the thread's streams had come to before.
            made += yield from ensure_partitions(statements, thread_id=thread_id)
            rows = yield query
        # Others may have come to the same end, and found it made.
        if made:
            logger.warning(
                "eventlog.partition_made_on_demand",
                partitions=made,
                advice="setup() makes partitions ahead: run it at every deployment",
            )
    return rows


def _raise_unless_partition(exc: pg.CheckViolation) -> None:
    """Inside the function a row without a partition is a check violation that names no constraint."""
    if exc.diag.constraint_name is not None:
        raise exc
