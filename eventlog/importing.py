"""Appending another checkpointer's checkpoints and writes in batches, and the record of the import."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

from psycopg import errors as pg

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements
from eventlog.errors import LogBusyError, ThreadExistsError
from eventlog.events import Kind
from eventlog.format.digest import content_digest
from eventlog.streams import Stream

__all__ = [
    "ImportedEvent",
    "Imports",
    "begin_import",
    "count_checkpoints",
    "import_events",
    "imports_of",
    "lock_import",
    "record_import",
]

_BYTES = ("state_digest", "content", "body", "snapshot")


@dataclass(frozen=True, slots=True)
class ImportedEvent:
    """One event of a batch, encoded."""

    kind: Kind
    checkpoint_id: str
    base_seq: int | None
    state_digest: bytes
    body: bytes
    parent_id: str | None = None
    """This field and the following ones are set only for checkpoints."""
    keyframe_seq: int | None = None
    keyframe_at: datetime | None = None
    """None: the keyframe is an event of the same batch."""
    state_bytes: int = 0
    run_id: str | None = None
    metadata_json: str | None = None
    snapshot: bytes = b""


class Imports(NamedTuple):
    """The counts in the record of a thread's import."""

    events: int
    checkpoints: int


def lock_import(statements: Statements, thread_id: str, *, is_exclusive: bool) -> Op[bool]:
    """Try to take a thread's import lock until the transaction ends; returns False if another transaction holds it.

    Args:
        is_exclusive: True makes sure that no import of the thread is under way, and keeps others from beginning;
            imports take it shared.
    """
    ((locked,),) = yield Query(statements["lock_import"], (thread_id, is_exclusive))
    return bool(locked)


def begin_import(statements: Statements, thread_id: str) -> Op[None]:
    """Take the import lock shared, before anything is read from the source.

    Raises LogBusyError, which drivers retry, if another transaction holds it exclusively.
    """
    if not (yield from lock_import(statements, thread_id, is_exclusive=False)):
        # The cause tells drivers to retry: transactions that hold it exclusively do not read threads, so they end soon.
        raise LogBusyError(
            f"{LogBusyError()} (another transaction deletes thread {thread_id!r} or searches for it)"
        ) from pg.SerializationFailure()


def import_events(
    statements: Statements, stream: Stream, seq: int | None, events: Sequence[ImportedEvent]
) -> Op[datetime]:
    """Append a batch to a stream that this transaction began; returns the time of all its events.

    Args:
        seq: the last event that was appended; None begins the stream.

    Raises:
        ThreadExistsError: when the stream is there already. The transaction is lost.
    """
    calls: list[dict[str, Any]] = [
        {
            "number": number,
            "kind": event.kind,
            "checkpoint_id": event.checkpoint_id,
            "base_seq": event.base_seq,
            "parent_id": event.parent_id,
            "keyframe_seq": event.keyframe_seq,
            "keyframe_at": None if event.keyframe_at is None else str(event.keyframe_at),
            "state_bytes": event.state_bytes,
            "run_id": event.run_id,
            "metadata": event.metadata_json,
        }
        for number, event in enumerate(events, 1)
    ]
    params = (
        *stream,
        None if seq is None else str(seq),
        json.dumps(calls),
        [event.state_digest for event in events],
        [content_digest(event.state_digest, sha256(event.body).digest()) for event in events],
        [event.body for event in events],
        [event.snapshot for event in events],
    )
    try:
        ((_, at),) = yield Query(statements["import_events"], params)
    except pg.UniqueViolation as exc:
        raise ThreadExistsError(
            f"another writer created thread {stream.thread_id!r} during its import: nothing was imported"
        ) from exc
    return at  # type: ignore[no-any-return]


def record_import(statements: Statements, thread_id: str, actor: str | None, details_json: str) -> Op[Imports]:
    """Record in each stream of a thread that this transaction imported it.

    Args:
        details_json: from where, a JSON object.
    """
    ((events, checkpoints),) = yield Query(statements["record_import"], (thread_id, actor, details_json))
    return Imports(events, checkpoints)


def imports_of(statements: Statements, thread_ids: Sequence[str]) -> Op[dict[str, dict[str, Any]]]:
    """The latest import records by thread; threads without one, or without data, are left out."""
    rows = yield Query(statements["imports_of"], (list(thread_ids),))
    return {thread_id: says or {} for thread_id, says in rows}


def count_checkpoints(statements: Statements, thread_id: str) -> Op[dict[str, int]]:
    """How many checkpoints each stream of a thread has, by namespace; only streams with data."""
    return dict((yield Query(statements["checkpoint_counts"], (thread_id,))))
