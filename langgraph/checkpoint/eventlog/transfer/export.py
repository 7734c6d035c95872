"""Writing threads of the log to PostgresSaver's tables: the way back.

Each thread is one transaction on the tables, and is read from the log as of one moment. Existing rows stay as they are.
At the end all rows of the thread, old and new, are read back within the transaction and compared with the log. So a
thread that was exported before is skipped, a thread that continued since is completed, and a different thread with the
same id is refused.

No tables are created: PostgresSaver.setup() must have made them. If they have a fence, the same transaction removes the
thread's mark, and old savers may write to it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg import errors as pg

from eventlog.db.query import MakeOp, Op, Parallel, Query, Script, UserCallback
from eventlog.db.statements import Statements
from eventlog.errors import (
    EventLogError,
    InvalidInputError,
    LogBusyError,
    NotSetUpError,
    StorageError,
    ThreadNotExportedError,
    ThreadNotFoundError,
)
from eventlog.format.values import split_serializer
from eventlog.read import Selection, read_writes, select_checkpoints
from eventlog.records import read_tips
from eventlog.streams import Stream
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog._get import Reader, affordable
from langgraph.checkpoint.eventlog.transfer import fence
from langgraph.checkpoint.eventlog.transfer.export_rows import (
    Layout,
)
from langgraph.checkpoint.eventlog.transfer.export_target import Batch, Target
from langgraph.checkpoint.eventlog.transfer.incumbent import Found, find
from langgraph.checkpoint.eventlog.transfer.postgres_tables import LATEST_VERSION

__all__ = ["Exported", "ExportedThread", "OnExported", "export_threads"]

#: Threads that are looked for at a time, and checkpoints that are read together at most.
PAGE = 200
CHUNK = 128

Outcome = Literal["exported", "equal", "refused"]


class ExportedThread(NamedTuple):
    """The outcome of an export for one thread."""

    thread_id: str
    """The thread."""
    outcome: Outcome
    """`"exported"`, `"equal"` (the tables had it already) or `"refused"`."""
    checkpoints: int = 0
    """Checkpoints of the thread."""
    writes: int = 0
    """Writes of the thread."""
    bytes: int = 0
    """Bytes of the written values, as stored."""
    reason: str | None = None
    """The reason of a refusal; otherwise None."""


class Exported(NamedTuple):
    """The result of an export."""

    threads: int
    """Threads that were written."""
    equal: int
    """Threads that the tables had already."""
    checkpoints: int
    """Checkpoints of these threads."""
    bytes: int
    """Bytes of the written values, as stored."""
    refused: list[ExportedThread]
    """Threads that were refused, with the reason."""


#: Is called for each thread when it is done.
OnExported = Callable[[ExportedThread], None]

#: Runs an operation on the other side, in the transaction that is open there; in async, returns an awaitable.
Run = Callable[[MakeOp[Any]], Any]


def export_threads(
    context: Context,
    serde: SerializerProtocol,
    log: Run,
    join: Callable[[Any], Run],
    schema: str | None,
    thread_ids: Sequence[str] | None,
    workers: int,
    on_thread: OnExported | None,
) -> Script[Exported]:
    """Export threads. A script of the tables' side.

    Args:
        log: runs an operation on the log, in one transaction.
        join: runs operations in the transaction that is open on a connection to the tables.
        thread_ids: the threads; None: all.
        workers: the number of threads exported in parallel.

    Raises:
        NotSetUpError: when there are no tables, or they are of an older version.
        ThreadNotFoundError: when a thread of `thread_ids` does not exist. Nothing was written.
    """
    found: Found = yield partial(find, schema)
    _check(found)
    has_fence = yield partial(fence.is_installed, found.statements)
    done = _Sum()
    after = ""
    while True:
        if thread_ids is None:
            page = yield partial(_across, log, partial(_page, context.statements, after))
        else:
            page = thread_ids
            yield partial(_across, log, partial(_check_there, context.statements, page))

        def one(thread_id: str) -> Script[ExportedThread]:
            receive = partial(_receive, context, serde, found.statements, log, join, thread_id, has_fence)
            deadline = time.monotonic() + fence.PATIENCE
            try:
                while (exported := (yield receive)) is None:
                    yield fence.wait(thread_id, deadline, None)
            except EventLogError as exc:
                if isinstance(exc, (InvalidInputError, StorageError)) and not isinstance(exc, LogBusyError):
                    raise
                exported = ExportedThread(thread_id, "refused", reason=str(exc))
            return exported  # type: ignore[no-any-return]

        def note(_: int, exported: ExportedThread) -> None:
            done.add(exported)
            if on_thread is not None:
                on_thread(exported)

        if page:
            yield Parallel([one(id_) for id_ in page], workers, note)
        if thread_ids is not None or len(page) < PAGE:
            return done.result
        after = page[-1]


def _check(found: Found) -> None:
    what = f"the tables of langgraph-checkpoint-postgres in schema {found.statements.schema!r}"
    if "checkpoint_id" not in found.columns:
        raise InvalidInputError(f"{what} are those of ShallowPostgresSaver, which keeps no history: export elsewhere")
    if found.version < LATEST_VERSION:
        raise NotSetUpError(
            f"{what} are of schema version {found.version}, and rows are written for version {LATEST_VERSION}: run "
            "PostgresSaver.setup() of a current langgraph-checkpoint-postgres there"
        )


@dataclass(slots=True)
class _Sum:
    threads: int = 0
    equal: int = 0
    checkpoints: int = 0
    bytes: int = 0
    refused: list[ExportedThread] = field(default_factory=list)

    def add(self, thread: ExportedThread) -> None:
        self.threads += thread.outcome == "exported"
        self.equal += thread.outcome == "equal"
        self.checkpoints += thread.checkpoints
        self.bytes += thread.bytes
        if thread.outcome == "refused":
            self.refused.append(thread)

    @property
    def result(self) -> Exported:
        return Exported(self.threads, self.equal, self.checkpoints, self.bytes, self.refused)


def _page(statements: Statements, after: str) -> Op[list[str]]:
    rows = yield Query(statements["export_threads"], {"after": after, "rows": PAGE})
    return [id_ for (id_,) in rows]


def _check_there(statements: Statements, thread_ids: Sequence[str]) -> Op[None]:
    there = {tip.thread_id for tip in (yield from read_tips(statements, thread_ids)) if tip.has_data}
    if missing := [id_ for id_ in thread_ids if id_ not in there]:
        raise ThreadNotFoundError(f"the log has no thread {missing[0]!r}. Nothing was exported")


def _across(run: Run, make_op: MakeOp[Any]) -> Op[Any]:
    """The result of an operation on the other side, within one of this side."""
    results: list[Any] = []

    def op() -> Op[None]:
        results.append((yield from make_op()))

    yield UserCallback(function=lambda _: run(op))
    return results[-1]


def _receive(
    context: Context,
    serde: SerializerProtocol,
    tables: Statements,
    log: Run,
    join: Callable[[Any], Run],
    thread_id: str,
    has_fence: bool,
) -> Op[ExportedThread | None]:
    """Export one thread: an operation of the tables' side, in one transaction. None while a mover or writer has it."""
    if has_fence:
        ((locked,),) = yield Query(tables["fence_lock_writers"], (thread_id,))
        if not locked:
            return None
        if (yield from fence.check_thread(tables, thread_id)) == "moving":
            raise ThreadNotExportedError(
                f"thread {thread_id!r} is being moved to the log, or its mover died: run `eventlog fence settle` and "
                "try again"
            )
        yield Query(tables["fence_release"], (thread_id,), returns=False)
    results: list[ExportedThread] = []

    def within(conn: Any) -> Any:
        def op() -> Op[None]:
            results.append((yield from _Export(context, serde, tables, join(conn), thread_id).run()))

        return log(op)

    yield UserCallback(function=within)
    return results[-1]


class _Export:
    """One thread: an operation of the log's side, in one transaction, that writes on the other side."""

    def __init__(
        self, context: Context, serde: SerializerProtocol, tables: Statements, run: Run, thread_id: str
    ) -> None:
        self._context, self._tables, self._run, self._thread_id = context, tables, run, thread_id
        self._reader: Reader = context.reader(serde)
        self._plain, self._cipher = split_serializer(serde)
        self._written = self._checkpoints = self._writes = self._bytes = 0

    def run(self) -> Op[ExportedThread]:
        try:
            yield Query(b"set transaction isolation level repeatable read, read only", returns=False)
        except pg.ActiveSqlTransaction as exc:
            raise InvalidInputError(
                "an export needs transactions of its own: commit or roll back the connection's transaction first"
            ) from exc
        statements = self._context.statements
        tips = yield from read_tips(statements, [self._thread_id])
        for tip in tips:
            if tip.has_data:
                stream = Stream(self._thread_id, tip.checkpoint_ns)
                target = Target(self._tables, stream, Layout(self._plain, self._cipher))
                yield from self._stream(stream, target)
        there = yield from self._there(partial(_count, self._tables, self._thread_id))
        if there != (self._checkpoints, self._writes):
            raise ThreadNotExportedError(
                f"thread {self._thread_id!r} is another one there: it has {there[0]} checkpoints and {there[1]} "
                f"writes, of which the log has {self._checkpoints} and {self._writes}. Delete it there, or leave it out"
            )
        outcome: Outcome = "exported" if self._written else "equal"
        return ExportedThread(self._thread_id, outcome, self._checkpoints, self._writes, self._bytes)

    def _stream(self, stream: Stream, target: Target) -> Op[None]:
        statements, after = self._context.statements, None
        while True:
            selection = Selection(*stream)
            rows = yield from select_checkpoints(statements, selection, PAGE, after)
            waiting = rows
            while waiting:
                count, read = yield from self._reader.read_affordable(affordable(waiting, CHUNK))
                waiting = waiting[count:]
                batch = Batch()
                for folded in read:
                    row, blobs = target.layout.rows(folded.state)
                    batch.checkpoints.append(row)
                    batch.blobs[row.checkpoint_id] = blobs
                    writes = yield from self._reader.writes_of(stream, folded.writes, folded.state)
                    batch.writes += [target.layout.write_row(row.checkpoint_id, write) for write in writes]
                yield from self._send(target, batch)
            if len(rows) < PAGE:
                break
            after = rows[-1]
        for (checkpoint_id,) in (yield Query(statements["export_orphans"], stream._asdict())):
            events = yield from read_writes(statements, stream, checkpoint_id)
            writes = yield from self._reader.writes_of(stream, events, None)
            yield from self._send(
                target, Batch(writes=[target.layout.write_row(checkpoint_id, write) for write in writes])
            )

    def _send(self, target: Target, batch: Batch) -> Op[None]:
        self._checkpoints += len(batch.checkpoints)
        self._writes += len(batch.writes)
        written, size = yield from self._there(partial(target.receive, batch))
        self._written += written
        self._bytes += size

    def _there(self, make_op: MakeOp[Any]) -> Op[Any]:
        return _across(self._run, make_op)


def _count(tables: Statements, thread_id: str) -> Op[tuple[int, int]]:
    (counts,) = yield Query(tables["exported_counts"], {"thread_id": thread_id})
    return counts
