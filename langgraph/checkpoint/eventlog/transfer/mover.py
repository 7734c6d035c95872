"""Moving single threads into a log, for a saver that takes over threads one by one."""

from __future__ import annotations

import time
from functools import partial
from typing import TypeVar

from langgraph.checkpoint.serde.base import SerializerProtocol

from eventlog.db.query import MakeOp, Op, Pause, Script, completed
from eventlog.errors import EventLogError, LogBusyError, ThreadNotImportedError
from eventlog.importing import lock_import
from eventlog.partitions import ensure_partitions
from eventlog.read import latest_of_thread
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._setup import AsyncConnected, Connected, awaitable
from langgraph.checkpoint.eventlog.lifecycle.threads import delete_one
from langgraph.checkpoint.eventlog.transfer.fence import PATIENCE, POLL
from langgraph.checkpoint.eventlog.transfer.fenced import log_place, settled
from langgraph.checkpoint.eventlog.transfer.import_threads import ImportedThread, import_thread
from langgraph.checkpoint.eventlog.transfer.source import Source

__all__ = ["AsyncMover", "Mover"]

T = TypeVar("T")


def _import(
    context: Context, serde: SerializerProtocol, source: Source, thread_id: str, is_in_log: bool
) -> Script[ImportedThread]:
    def one() -> Op[ImportedThread]:
        yield from source.check()
        if is_in_log and not (yield from _has(source, thread_id)):
            return ImportedThread(thread_id, "missing")
        return (yield from import_thread(context, serde, source, thread_id))

    yield partial(ensure_partitions, context.statements)
    try:
        done = yield from settled(one)
    except EventLogError:
        # The lent connection must not keep an open transaction.
        yield source.end
        raise
    if not done.is_done and is_in_log:
        error = ThreadNotImportedError(
            f"thread {thread_id!r} continued in PostgresSaver's tables after it was imported, as no fence kept old "
            f"replicas away: {done.detail}. Nothing was changed. To keep the log's thread, delete it from the old "
            "tables with PostgresSaver.delete_thread. To keep the old one, go on using PostgresSaver, or import into a "
            "new log"
        )
        error.thread_id = thread_id
        raise error
    if not done.is_done:
        error = ThreadNotImportedError(f"thread {thread_id!r} was not imported: {done.detail}")
        error.thread_id = thread_id
        raise error
    return done


def _has(source: Source, thread_id: str) -> Op[bool]:
    yield from source.begin()
    found = yield from source.pages(thread_id)()
    yield from source.end()
    return bool(found)


def _after_imports(context: Context, thread_id: str, make_op: MakeOp[T]) -> Script[T]:
    """Run an operation while no import of a thread is in progress. It sees all that imports committed.

    Raises:
        LogBusyError: when an import did not end within a minute.
    """

    def one() -> Op[list[T]]:
        if not (yield from lock_import(context.statements, thread_id, is_exclusive=True)):
            return []
        return [(yield from make_op())]

    deadline = time.monotonic() + PATIENCE
    while not (done := (yield one)):
        if time.monotonic() > deadline:
            raise LogBusyError(f"an import of thread {thread_id!r} did not end in {PATIENCE:.0f} seconds: call again")
        yield Pause(POLL)
    return done[0]  # type: ignore[no-any-return]


def _is_there(context: Context, thread_id: str) -> Script[bool]:
    yield from _after_imports(context, thread_id, lambda: completed(None))
    # In a new transaction: its snapshot is taken after the imports have ended.
    return bool((yield partial(latest_of_thread, context.statements, thread_id)))


class Mover(Connected):
    """The side of the log. Made by `sharing` what a saver has."""

    def where(self) -> str:
        """The place of the log, in readable form."""
        return self._driver.run(lambda: log_place(self._context.statements))

    def has(self, thread_id: str) -> bool:
        """Whether the log has or had a thread, including by an import that was in progress at the call.

        Raises:
            LogBusyError: when an import of it did not end within a minute.
        """
        return self._driver.run_script(_is_there(self._context, thread_id))

    def delete(self, thread_id: str) -> None:
        """Erase a thread as `EventLog.delete_thread`, after imports of it in progress.

        Raises:
            LogBusyError: as `has`.
        """
        erase = partial(delete_one, self._context, thread_id, None)
        return self._driver.run_script(_after_imports(self._context, thread_id, erase))

    def import_one(self, source: Source, thread_id: str, *, is_in_log: bool = False) -> ImportedThread:
        """Import a thread, verified, in one transaction.

        Args:
            is_in_log: the log has it, or had it: only check that the source agrees.

        Raises:
            ThreadNotImportedError: when it cannot be, or the log has another thread of this id.
            SourceError: when the source cannot be read.
        """
        return self._driver.run_script(_import(self._context, self.serde, source, thread_id, is_in_log))


class AsyncMover(AsyncConnected):
    """The async twin of `Mover`."""

    where = awaitable(Mover.where)
    has = awaitable(Mover.has)
    delete = awaitable(Mover.delete)
    import_one = awaitable(Mover.import_one)

    def check_process(self) -> None:
        """Raises an error in a process that was forked since the log was opened."""
        self._driver.check_process()
