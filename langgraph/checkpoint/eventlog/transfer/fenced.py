"""PostgresSaver's tables behind a fence, as a source: importing a thread from them moves it."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import psycopg

from eventlog.db.async_ import AsyncDriver
from eventlog.db.query import MakeOp, Op, Query, Script
from eventlog.db.retry import is_conflict
from eventlog.db.statements import Statements
from eventlog.db.sync import Driver
from eventlog.errors import ConnectionLostError, EventLogError, LogBusyError, ThreadExistsError
from eventlog.records import Operation
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog.lifecycle.erase import delete_thread
from langgraph.checkpoint.eventlog.transfer import fence
from langgraph.checkpoint.eventlog.transfer.import_threads import ImportedThread
from langgraph.checkpoint.eventlog.transfer.postgres_tables import PostgresTables
from langgraph.checkpoint.eventlog.transfer.source import Source, ask

__all__ = ["FencedTables", "log_place", "move_in", "settled"]

T = TypeVar("T")

_BEGIN = b"begin transaction isolation level repeatable read"


class FencedTables(PostgresTables):
    """The tables of `langgraph-checkpoint-postgres`, which may have a fence.

    Args:
        conn: a connection in autocommit mode, for this source alone.
        schema: as for `PostgresTables`.
    """

    def __init__(self, conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any], schema: str | None = None) -> None:
        super().__init__(conn, schema)
        self._fence_conn: Any = conn
        self._fence_driver: Any = AsyncDriver(conn) if isinstance(conn, psycopg.AsyncConnection) else Driver(conn)
        self.has_fence = False

    def check(self) -> Op[None]:
        """As `PostgresTables.check`; also finds out whether there is a fence."""
        yield from super().check()
        self.has_fence = yield from self._within(fence.is_installed)

    def mark(self, thread_id: str, moved_to: str) -> Op[str | None]:
        """As `fence.mark`."""
        return self._within(partial(fence.mark, thread_id=thread_id, moved_to=moved_to))

    @property
    def is_lost(self) -> bool:
        """Whether its connection is gone."""
        return bool(self._fence_conn.closed)

    def hold(self, thread_id: str) -> Op[bool]:
        """Begin a transaction, and lock out other movers in it; False, without a transaction, if that is not possible.

        All reads in the transaction are of one moment.
        """
        yield from ask(partial(self._fence_conn.execute, _BEGIN))
        is_held: bool = yield from self._within(partial(fence.hold, thread_id=thread_id))
        if not is_held:
            yield from self.let_go()
        return is_held

    def finish(self, thread_id: str) -> Op[bool]:
        """As `fence.finish`, and commit."""
        is_deleted: bool = yield from self._within(partial(fence.finish, thread_id=thread_id))
        yield from ask(self._fence_conn.commit)
        return is_deleted

    def give_up(self, thread_id: str) -> Op[None]:
        """End the transaction, in any state, and remove the mark in another one."""
        yield from self.let_go()
        yield from self._within(partial(fence.give_up, thread_id=thread_id))

    def let_go(self) -> Op[None]:
        """End the transaction; the mark stays."""
        yield from ask(self._fence_conn.rollback)

    def _within(self, run: Callable[[Statements], Op[T]]) -> Op[T]:
        """An operation on the tables: in the open transaction, or in one of its own."""
        statements = Statements(self.origin.schema or "public")
        return ask(lambda: self._fence_driver.run_atomic(partial(fence.explained, statements, run)))


def log_place(statements: Statements) -> Op[str]:
    """The place of the log, in readable form."""
    ((database,),) = yield Query(statements["log_database"])
    return f"the event log in schema {statements.schema!r} of database {database!r}"


def move_in(
    context: Context, source: Source, thread_id: str, make_op: MakeOp[ImportedThread], actor: str | None
) -> Script[ImportedThread]:
    """Import a thread. From tables that have a fence, it is moved: see `eventlog.transfer.fence`.

    Args:
        make_op: imports it.

    Raises:
        LogBusyError: when the thread's writers or another mover kept it busy for a minute.
    """
    if not isinstance(source, FencedTables) or not source.has_fence:
        return (yield from settled(make_op))
    place = yield partial(log_place, context.statements)
    deadline, attempt = time.monotonic() + fence.PATIENCE, fence.Attempt()
    while (state := (yield partial(source.mark, thread_id, place))) != "moved":
        if state is not None:
            try:
                if (yield partial(source.hold, thread_id)):
                    return (yield from _held(context, source, thread_id, make_op, actor, attempt))
            except LogBusyError as exc:
                # Another mover removed the mark, or an old replica has deleted the thread: look again.
                if not is_conflict(exc):
                    raise
                yield source.let_go
        yield fence.wait(thread_id, deadline, state)
    return (yield from settled(make_op))  # The log has it, or had it: compare.


def settled(make_op: MakeOp[ImportedThread]) -> Script[ImportedThread]:
    """The result of an import, even if another import of the same thread is faster."""
    try:
        done: ImportedThread = yield make_op
    except ThreadExistsError:
        # Another import, or a graph, has just begun the thread: import again, which compares.
        done = yield make_op
    return done


def _held(
    context: Context,
    source: FencedTables,
    thread_id: str,
    make_op: MakeOp[ImportedThread],
    actor: str | None,
    attempt: fence.Attempt,
) -> Script[ImportedThread]:
    try:
        done = yield from settled(make_op)
    except ConnectionLostError:
        # It may have been imported: the next mover will see.
        yield source.let_go
        raise
    except EventLogError:
        # If the connection is lost, the mark stays, and the next mover continues.
        if not source.is_lost:
            yield source.let_go if attempt.is_copied else partial(source.give_up, thread_id)
        raise
    if not done.is_done or done.status == "missing":
        yield source.let_go if attempt.is_copied else partial(source.give_up, thread_id)
        return done
    attempt.is_copied = True
    if (yield partial(source.finish, thread_id)):
        yield partial(delete_thread, context, thread_id, Operation("delete_thread", actor))
        done.status, done.detail = "deleted", "it was deleted from the old tables while it was imported"
    return done
