"""Locks that end with their transaction."""

from __future__ import annotations

from eventlog.db.query import Op, Query

__all__ = ["try_lock"]


def try_lock(schema: str, *subject: str) -> Op[bool]:
    """Take the lock on a subject of a schema's log until the transaction ends; returns False where another one has it.

    An advisory lock: one on a table is also kept from us by an autovacuum of it. A transaction's, not a session's: it
    works through PgBouncer, and ends with a worker that is killed. It does not wait, because a transaction that waits
    for an advisory lock holds a snapshot, and deadlocks with a CREATE INDEX CONCURRENTLY.
    """
    key = ":".join(("eventlog", schema, *subject))
    ((locked,),) = yield Query(b"select pg_try_advisory_xact_lock(hashtextextended(%s, 0))", (key,))
    return bool(locked)
