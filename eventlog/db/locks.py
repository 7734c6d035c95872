"""Locks that end with their transaction."""

from __future__ import annotations

from eventlog.db.query import Op, Query
from eventlog.db.statements import Statements

__all__ = ["lock_holder", "try_lock"]


def try_lock(schema: str, *subject: str) -> Op[bool]:
    """Take the lock on a subject of a schema's log until the transaction ends; returns False if another transaction
    holds it.

    An advisory lock: autovacuum could hold up a lock on a table. A transaction's, not a session's: it works through
    PgBouncer, and ends when its worker is killed. It does not wait, because a transaction that waits for an advisory
    lock holds a snapshot, and deadlocks with CREATE INDEX CONCURRENTLY.
    """
    key = _key(schema, *subject)
    ((locked,),) = yield Query(
        b"select pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended(%s, 0))", (key,)
    )
    return bool(locked)


def lock_holder(statements: Statements, *subject: str) -> Op[str]:
    """The holder of such a lock, for an error: any user who can connect may take it, without further rights."""
    rows = yield Query(statements["lock_holder"], (_key(statements.schema, *subject),))
    return "; ".join(f"process {pid} of user {user!r} ({application!r})" for pid, user, application in rows)


def _key(schema: str, *subject: str) -> str:
    return ":".join(("eventlog", schema, *subject))
