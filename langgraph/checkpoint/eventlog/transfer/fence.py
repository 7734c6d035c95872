"""The fence: keeps savers of the old tables away from threads that an event log has.

Old and new replicas of an application run side by side during a deployment. A thread must not continue in both places.
So the old database has a table `moved`, and triggers on PostgresSaver's three tables that check it. A move takes up to
three transactions there:

1. *mark*: lock out the thread's writers and mark it `moving`. From here on the thread's old rows do not change, except
   by deletions.
2. *copy*: lock out other movers and copy the thread; the log commits in its own database. Then mark the thread `moved`
   and commit. This transaction is in REPEATABLE READ, with a transaction snapshot that includes the mark. So it reads
   the thread as of one moment, even while an old replica deletes or prunes it. If the thread was deleted meanwhile,
   step 2 ends with a serialization failure and is repeated.
3. *undo*, only if the log refused the thread: remove the mark, and old replicas continue. Once the copy has succeeded,
   the log has the thread, and the mark stays.

A mover that dies leaves the mark `moving` behind. Copying again is harmless, because a thread that the log has is
skipped if it is equal. So any other mover can resume. It need not know whether the first mover is dead: step 2 holds a
lock that ends with its holder's connection. All locks belong to a transaction and work through PgBouncer.

Both locks are polled. A transaction that waits for an advisory lock holds a snapshot, and deadlocks with a CREATE INDEX
CONCURRENTLY.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any, Literal, NamedTuple

from psycopg import errors as pg
from psycopg import sql

from eventlog.db.query import Op, Pause, Query, Script, UserCallback
from eventlog.db.statements import Statements
from eventlog.errors import (
    ConnectionLostError,
    EventLogError,
    InvalidInputError,
    LogBusyError,
    MissingGrantError,
    NotSetUpError,
)
from langgraph.checkpoint.eventlog.transfer.source import ask

__all__ = [
    "PATIENCE",
    "POLL",
    "REPEATABLE_READ",
    "Attempt",
    "CopyError",
    "FenceStatus",
    "Moved",
    "Settled",
    "begin",
    "check_thread",
    "explained",
    "finish",
    "forget_deletions",
    "give_up",
    "hold",
    "install",
    "is_installed",
    "mark",
    "move",
    "remove",
    "settle",
    "status",
    "wait",
]

#: How long a mover waits for writers and other movers, and the pause between two tries, in seconds.
PATIENCE = 60.0
POLL = 0.02

#: Distinguishes our table from a table of the user's.
_OURS = "fence of langgraph-checkpoint-eventlog"

#: For how many seconds locking the old tables is tried, and the longest wait for one lock, because other sessions queue
#: behind it. It is longer than the deadlock_timeout of 1 s, after which PostgreSQL ends an autovacuum that blocks it.
LOCK_PATIENCE = 5.0
_LOCK_TIMEOUT = b"set local lock_timeout = '2s'"
_TABLES = ("checkpoints", "checkpoint_blobs", "checkpoint_writes")

#: Copies a thread, by a connection in the transaction that holds its locks. In the async driver, awaited.
Copy = Callable[[Any], Any]

#: What became of a thread: it was moved; it had been before; it was deleted from the old tables meanwhile.
Moved = Literal["moved", "already", "deleted"]


#: What settling did: marked it as moved; took the mark away; nothing, as its mover lives or another one has settled it;
#: nothing, as it was on its way to another log.
Settled = Literal["moved", "undone", "busy", "elsewhere"]


class FenceStatus(NamedTuple):
    """The fence of some old tables."""

    is_installed: bool
    moving: Sequence[str] = ()
    """Threads that a mover copies, or died at."""
    moved: int = 0
    deleted: Sequence[str] = ()
    """Threads that were deleted from the old tables after they were moved: the log may have them still."""


class CopyError(EventLogError):
    """Wraps the error of copying a thread as its cause: a driver passes only the log's own errors to a script."""


def explained(statements: Statements, run: Callable[[Statements], Op[Any]]) -> Op[Any]:
    """An operation on the tables. If a right or a table is missing, the error names the tables' database."""
    try:
        return (yield from run(statements))
    except pg.InsufficientPrivilege as exc:
        user = getattr(exc, "user", None)
        place = f"schema {statements.schema!r} of the old database {getattr(exc, 'database', '')!r}"
        schema, to = (sql.Identifier(each).as_string(None) for each in (statements.schema, user or "…"))
        raise MissingGrantError(
            f"user {user!r} lacks a right in {place}: {exc.diag.message_primary}. Making and removing the fence is for "
            f"the owner of PostgresSaver's tables; for all else, let the owner run: grant usage on schema {schema} to "
            f"{to}; grant select on {schema}.checkpoint_migrations to {to}; grant select, insert, update, delete on "
            f"{schema}.moved, {schema}.checkpoints, {schema}.checkpoint_blobs, {schema}.checkpoint_writes to {to}"
        ) from exc
    except (pg.UndefinedTable, pg.InvalidSchemaName) as exc:
        raise NotSetUpError(
            f"a table is missing in schema {statements.schema!r} of the old database: {exc.diag.message_primary}. "
            "PostgresSaver.setup() makes its tables, `eventlog fence install` makes the table 'moved'"
        ) from exc


def is_installed(statements: Statements) -> Op[bool]:
    """Whether the old tables have a fence."""
    return (yield from _table(statements)) == "ours"


def _table(statements: Statements) -> Op[Literal["ours", "another", "none"]]:
    rows = yield Query(statements["fence_table"], (statements.schema,))
    if not rows:
        return "none"
    return "ours" if str(rows[0][0]).startswith(_OURS) else "another"


def install(statements: Statements) -> Script[bool]:
    """Make the fence; returns whether it is new. Run it as the owner of the old tables.

    Raises:
        InvalidInputError: when `moved` is another table.
        LogBusyError: when the tables could not be locked within 5 seconds. Nothing was changed.
    """
    return (yield from _with_locks(partial(_install, statements)))


def _with_locks(make_op: Callable[[str], Op[bool]]) -> Script[bool]:
    """Run an operation that locks the old tables, again while others use them."""
    deadline = time.monotonic() + LOCK_PATIENCE
    for first in cycle(_TABLES):
        try:
            return bool((yield partial(make_op, first)))
        except LogBusyError:
            if time.monotonic() > deadline:
                raise
        yield Pause(POLL)
    raise AssertionError("it ends in the loop")


def _lock_tables(statements: Statements, name: str, first: str) -> Op[None]:
    """Lock the old tables; raises LogBusyError. It waits only for the first lock, while it holds no other.

    So it never takes part in a deadlock, in which PostgreSQL might end the transaction of a replica.
    """
    yield Query(_LOCK_TIMEOUT, returns=False)
    for table in sorted(_TABLES, key=lambda each: each != first):
        template = statements.template(name if table == first else f"{name}_now")
        yield Query(statements.compose(template, table=sql.Identifier(table)), returns=False)


def _install(statements: Statements, first: str) -> Op[bool]:
    found = yield from _table(statements)
    if found == "ours":
        return False
    if found == "another":
        raise InvalidInputError(
            f"schema {statements.schema!r} has a table 'moved' that is not the fence's: rename it. Or move threads "
            "without a fence, while no saver writes to the old tables"
        )
    yield from _lock_tables(statements, "fence_lock_to_install", first)
    if (yield from is_installed(statements)):
        return False
    names = ("moved", "refuse_moved", "note_deleted", "triggers", "grants")
    yield Query(statements.block("fence", *names), returns=False)
    return True


def remove(statements: Statements) -> Script[bool]:
    """Remove the fence with its marks; returns whether there was one.

    Raises:
        InvalidInputError: when threads are marked as moving: each must be settled first.
        LogBusyError: as `install`.
    """
    return (yield from _with_locks(partial(_remove, statements)))


def _remove(statements: Statements, first: str) -> Op[bool]:
    if not (yield from is_installed(statements)):
        return False
    yield from _lock_tables(statements, "fence_lock_to_remove", first)
    if not (yield from is_installed(statements)):
        return False
    ((moving, _, _),) = yield Query(statements["fence_counts"])
    if moving:
        raise InvalidInputError(f"threads that are marked as moving: {moving}. Run `eventlog fence settle` first")
    yield Query(statements.block("fence", "remove"), returns=False)
    return True


def status(statements: Statements, most: int = 1000) -> Op[FenceStatus]:
    """The status of the fence, with the names of at most `most` threads."""
    if not (yield from is_installed(statements)):
        return FenceStatus(is_installed=False)
    ((_, moved, _),) = yield Query(statements["fence_counts"])
    moving = yield Query(statements["fence_moving"], {"after": "", "rows": most})
    deleted = yield Query(statements["fence_deleted"], {"after": "", "rows": most})
    return FenceStatus(True, [id_ for (id_,) in moving], moved, [id_ for (id_,) in deleted])


def check_thread(statements: Statements, thread_id: str) -> Op[str | None]:
    """A thread's mark: 'moving', 'moved' or None."""
    rows = yield Query(statements["fence_state"], (thread_id,))
    return rows[0][0] if rows else None


def move(statements: Statements, thread_id: str, moved_to: str, copy: Copy) -> Script[Moved]:
    """Move a thread behind the fence. Any number of movers may call it at the same time: one of them copies.

    Args:
        moved_to: the new place of the thread, for the errors of old replicas.
        copy: copies it and commits. Its error undoes the mark, unless it may have committed. It must raise an error
            that is no `EventLogError` as the cause of a `CopyError`. It may be called again after it succeeded.

    Raises:
        LogBusyError: when the thread's writers or another mover kept it busy for a minute.
    """
    deadline = time.monotonic() + PATIENCE
    attempt = Attempt()
    while True:
        state = yield partial(mark, statements, thread_id, moved_to)
        if state == "moved":
            return "already"
        if state == "moving":
            try:
                outcome: Moved | None = yield partial(_copy, statements, thread_id, copy, attempt)
            except EventLogError as exc:
                error = exc.__cause__ if isinstance(exc, CopyError) and exc.__cause__ else exc
                if not attempt.is_copied and not isinstance(error, ConnectionLostError):
                    yield partial(give_up, statements, thread_id)
                raise error from error.__cause__
            if outcome is not None:
                return outcome
        yield wait(thread_id, deadline, state)


def wait(thread_id: str, deadline: float, state: str | None) -> Pause:
    """The pause before the next try. Raises LogBusyError after the deadline."""
    if time.monotonic() > deadline:
        raise LogBusyError(
            f"thread {thread_id!r} could not be moved in {PATIENCE:.0f} seconds: "
            + ("another process is moving it" if state else "a transaction that wrote to it does not end")
        )
    return Pause(POLL)


@dataclass(slots=True)
class Attempt:
    """The progress of a move, across retries by the driver."""

    is_copied: bool = False
    """The log has the thread: its mark must stay."""


READ_COMMITTED = b"set transaction isolation level read committed"
REPEATABLE_READ = b"set transaction isolation level repeatable read"


def begin(level: bytes) -> Op[None]:
    """A transaction of its own, of this isolation level."""
    try:
        yield Query(level, returns=False)
    except pg.ActiveSqlTransaction as exc:
        raise InvalidInputError(
            "moving a thread needs transactions of its own: commit or roll back the old saver's connection first"
        ) from exc


def mark(statements: Statements, thread_id: str, moved_to: str) -> Op[str | None]:
    """Mark a thread; returns its mark, or None while writers keep it. Run it in one transaction."""
    yield from begin(READ_COMMITTED)
    ((locked,),) = yield Query(statements["fence_lock_writers"], (thread_id,))
    if not locked:
        return None
    yield Query(statements["fence_mark"], (thread_id, moved_to), returns=False)
    return (yield from check_thread(statements, thread_id))


def hold(statements: Statements, thread_id: str) -> Op[bool]:
    """Lock out other movers until the transaction ends; False if one has the thread, or it is not being moved."""
    return (yield from _held(statements, thread_id)) is not None


def _held(statements: Statements, thread_id: str) -> Op[str | None]:
    """As `hold`; returns the place to which the thread is moved, according to the mark."""
    ((locked,),) = yield Query(statements["fence_lock_mover"], (thread_id,))
    rows = (yield Query(statements["fence_hold"], (thread_id,))) if locked else []
    return str(rows[0][1]) if rows and rows[0][0] == "moving" else None


def finish(statements: Statements, thread_id: str) -> Op[bool]:
    """Mark a thread that is held as moved; returns whether it was deleted from the old tables meanwhile."""
    ((is_deleted,),) = yield Query(statements["fence_finish"], (thread_id,))
    return bool(is_deleted)


def _undo(statements: Statements, thread_id: str) -> Op[None]:
    """Remove the mark of a thread that is held."""
    yield Query(statements["fence_undo"], (thread_id,), returns=False)


def _copy(statements: Statements, thread_id: str, copy: Copy, attempt: Attempt) -> Op[Moved | None]:
    """Copy a marked thread; None when another mover has it or has removed the mark."""
    yield from begin(REPEATABLE_READ)
    if not (yield from hold(statements, thread_id)):
        return None
    yield UserCallback(function=copy)
    attempt.is_copied = True
    return "deleted" if (yield from finish(statements, thread_id)) else "moved"


def give_up(statements: Statements, thread_id: str) -> Op[None]:
    """Remove the mark of a thread that the log refused, unless another mover is copying it."""
    yield from begin(READ_COMMITTED)
    if (yield from hold(statements, thread_id)):
        yield from _undo(statements, thread_id)


def settle(statements: Statements, thread_id: str, moved_to: str, is_in_log: Callable[[], Any]) -> Op[Settled]:
    """End the move of a thread that a dead mover left. Run it in one transaction.

    Args:
        moved_to: the place of the log. A mark for another log is left alone.
        is_in_log: tells whether the log has the thread. If so, the thread is marked as moved; else the mark is removed.
            It is called while no mover can change that; in async it returns an awaitable.

    """
    yield from begin(READ_COMMITTED)
    if (place := (yield from _held(statements, thread_id))) is None:
        return "busy"
    if place != moved_to:
        return "elsewhere"
    was_moved = bool((yield from ask(is_in_log)))
    yield from (finish if was_moved else _undo)(statements, thread_id)
    return "moved" if was_moved else "undone"


def forget_deletions(statements: Statements, thread_ids: Sequence[str]) -> Op[None]:
    """Record that the log has deleted these threads as well."""
    yield Query(statements["fence_forget_deletion"], (list(thread_ids),), returns=False)
