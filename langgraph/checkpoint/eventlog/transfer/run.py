"""Importing many threads, as a script: each thread in one transaction, several in parallel."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import psycopg
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg import errors as pg

from eventlog.db.errors import is_lost
from eventlog.db.query import Op, Parallel, Script
from eventlog.errors import InvalidInputError, LogBusyError, SourceError, ThreadExistsError, ThreadNotImportedError
from eventlog.logger import logger
from eventlog.partitions import ensure_partitions, time_before
from langgraph.checkpoint.eventlog._arguments import actor_of, count_of, duration_of, ids_of
from langgraph.checkpoint.eventlog._context import Context
from langgraph.checkpoint.eventlog.transfer.any_saver import AnySaver
from langgraph.checkpoint.eventlog.transfer.fenced import FencedTables, move_in
from langgraph.checkpoint.eventlog.transfer.import_threads import ImportedThread, ImportStatus, import_thread
from langgraph.checkpoint.eventlog.transfer.source import Source, ask

__all__ = ["WORKERS", "ImportProgress", "Imported", "OnImport", "Selected", "Sources", "ThreadPages", "import_from"]

#: The number of threads that are imported in parallel, if the log's connection is a pool.
WORKERS = 4

#: The number of threads that are looked up at a time.
PAGE_THREADS = 256

_Conn: TypeAlias = "psycopg.Connection[Any] | psycopg.AsyncConnection[Any]"

_CONNECTION: Final[Mapping[str, Any]] = {"autocommit": True, "client_encoding": "utf8"}

#: The largest number of threads that a result names.
NAMED = 1000


class ImportProgress(NamedTuple):
    """The progress of an import."""

    threads: int
    """Threads that are done, with any outcome."""
    total: int | None
    """Threads of the source, or the named ones; None when unknown."""
    source_bytes: int
    """Bytes read so far."""
    rate: float
    """Bytes per second since the start."""
    seconds_left: float | None
    """Estimated seconds to the end; None when unknown."""


#: Told of each thread as it is done, with how far the import is; never two at a time.
OnImport = Callable[[ImportedThread, ImportProgress], None]


@dataclass(slots=True)
class Imported:
    """The result of an import."""

    threads: dict[ImportStatus, int] = field(default_factory=dict)
    """Threads by status, as in `ImportedThread`."""
    checkpoints: int = 0
    """Imported checkpoints."""
    writes: int = 0
    """Imported writes."""
    source_bytes: int = 0
    """Bytes of the imported values and writes, as read."""
    stored_bytes: int = 0
    """Bytes of the new bodies and snapshots, as stored."""
    seconds: float = 0.0
    """Duration in seconds."""
    not_done: list[ImportedThread] = field(default_factory=list)
    """The first 1,000 threads that differ, were refused or are missing in the source, with the reason."""

    @property
    def is_done(self) -> bool:
        """Whether the log has all threads of the source, except threads that were deleted from the log."""
        return not (self.threads.get("differs") or self.threads.get("refused"))


@dataclass(frozen=True, slots=True)
class Selected:
    """The selected threads of a source, validated. Raises InvalidInputError."""

    thread_ids: Sequence[str] | None
    idle: timedelta | None
    part: tuple[int, int] | None

    @classmethod
    def parse(cls, thread_ids: Any, idle: Any, part: Any) -> Selected:
        """From a caller's arguments."""
        if part is not None and not (
            isinstance(part, tuple)
            and len(part) == 2
            and all(type(each) is int for each in part)
            and 1 <= part[0] <= part[1]
        ):
            raise InvalidInputError(f"part must be a number and how many there are, such as (1, 2), not {part!r}")
        return cls(
            None if thread_ids is None else ids_of(thread_ids, "thread_ids"),
            None if idle is None else duration_of(idle, "idle"),
            part,
        )

    def has(self, thread_id: str) -> bool:
        """Whether a thread is in the part."""
        return self.part is None or zlib.crc32(thread_id.encode()) % self.part[1] == self.part[0] - 1


class Sources:
    """The sources of one import: one for each worker, which are connected when they are needed.

    Args:
        given: a connection string, or a checkpointer.
        schema: of the tables, where it is a connection string.
        is_async: whether the log's driver is async.

    Raises:
        InvalidInputError: when it is neither.
    """

    def __init__(self, given: Any, schema: str | None, *, is_async: bool) -> None:
        if not isinstance(given, (str, BaseCheckpointSaver)):
            raise InvalidInputError(
                f"{type(given).__name__} is no source: give a connection string of the database with PostgresSaver's "
                "tables, or a checkpointer"
            )
        if schema is not None and (not isinstance(given, str) or not schema or "\0" in schema):
            raise InvalidInputError("schema must name the schema of PostgresSaver's tables, for a connection string")
        self._given, self._schema, self._is_async = given, schema, is_async
        self._free: list[Source] = []
        self._conns: list[_Conn] = []

    def take(self) -> Op[Source]:
        """A source for exclusive use, until it is given back."""
        if self._free:
            return self._free.pop()
        if isinstance(self._given, BaseCheckpointSaver):
            return AnySaver(self._given, is_async=self._is_async)
        conn = yield from self._connect(self._given)
        tables = FencedTables(conn, self._schema)
        yield from tables.check()
        return tables

    def give_back(self, source: Source) -> None:
        """Make a source available again."""
        self._free.append(source)

    def close(self) -> None:
        """Close the connections, even those in use."""
        for conn in self._conns:
            conn.pgconn.finish()

    def _connect(self, dsn: str) -> Op[_Conn]:
        async def aopen() -> _Conn:
            with _translated():
                return await psycopg.AsyncConnection.connect(dsn, **_CONNECTION)

        def open_() -> _Conn:
            with _translated():
                return psycopg.Connection.connect(dsn, **_CONNECTION)

        connect: Callable[[], Any] = aopen if self._is_async else open_
        conn: _Conn = yield from ask(connect)
        self._conns.append(conn)
        return conn


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.ProgrammingError:
        # libpq quotes the text that it could not parse, perhaps a password.
        raise SourceError(
            "the source is no PostgreSQL connection string: it must be a URI (postgresql://user@host:5432/database) or "
            "'key=value' pairs, with special characters encoded"
        ) from None
    except psycopg.Error as exc:
        raise SourceError(f"could not connect to the source: {exc}") from exc


def import_from(
    context: Context,
    serde: SerializerProtocol,
    is_async: bool,
    given: Any,
    schema: Any,
    thread_ids: Any,
    idle: Any,
    resume: bool,
    part: Any,
    workers: Any,
    actor: Any,
    on_thread: OnImport | None,
) -> Script[Imported]:
    """Import threads. Validates at once; returns the script to run."""
    selected = Selected.parse(thread_ids, idle, part)
    sources = Sources(given, schema, is_async=is_async)
    run = _Run(context, serde, sources, selected, resume, count_of(workers, "workers"), actor_of(actor), on_thread)
    return run.script()


@dataclass(slots=True)
class _Run:
    """One call."""

    context: Context
    serde: SerializerProtocol
    sources: Sources
    selected: Selected
    resume: bool
    workers: int
    actor: str | None
    on_thread: OnImport | None
    done: Imported = field(default_factory=Imported)
    total: int | None = None
    read_bytes: int = 0
    began: float = field(default_factory=time.monotonic)

    def script(self) -> Script[Imported]:
        """Import page after page of threads."""
        statements, selected = self.context.statements, self.selected
        try:
            source = yield self.sources.take
            if selected.thread_ids is not None:
                self.total = sum(map(selected.has, selected.thread_ids))
            elif selected.part is None:
                self.total = yield source.count_threads
            elif (count := (yield source.count_threads)) is not None:
                self.total = count // selected.part[1]
            pages = ThreadPages(self.context, source, selected)
            while page := (yield from pages.next_page()):
                yield partial(ensure_partitions, statements)
                self.sources.give_back(source)
                yield Parallel([self._one(id_) for id_ in page], self.workers, self._tell)
                source = pages.source = yield self.sources.take
        finally:
            self.sources.close()
        self.done.seconds = time.monotonic() - self.began
        logger.info("eventlog.imported", threads=dict(self.done.threads), bytes=self.done.source_bytes)
        return self.done

    def _one(self, thread_id: str) -> Script[ImportedThread]:
        source: Source = yield self.sources.take
        import_it = partial(
            import_thread, self.context, self.serde, source, thread_id, self.actor, trust_record=self.resume
        )
        try:
            done = yield from move_in(self.context, source, thread_id, import_it, self.actor)
        except (LogBusyError, ThreadNotImportedError, ThreadExistsError, SourceError) as exc:
            if isinstance(exc, SourceError) and not _concerns_one_thread(exc):
                raise
            # End the reader of the thread before the source is used for another thread.
            yield source.end
            done = ImportedThread(thread_id, "refused", detail=str(exc))
        self.sources.give_back(source)
        return done

    def _tell(self, _: int, each: ImportedThread) -> None:
        done = self.done
        done.threads[each.status] = done.threads.get(each.status, 0) + 1
        self.read_bytes += each.source_bytes
        if each.status == "imported":
            done.checkpoints += each.checkpoints
            done.writes += each.writes
            done.source_bytes += each.source_bytes
            done.stored_bytes += each.stored_bytes
        elif (not each.is_done or each.status == "missing") and len(done.not_done) < NAMED:
            done.not_done.append(each)
        if self.on_thread is not None:
            seconds, count = time.monotonic() - self.began, sum(done.threads.values())
            left = None if self.total is None else max(0, self.total - count) * seconds / count
            self.on_thread(each, ImportProgress(count, self.total, self.read_bytes, self.read_bytes / seconds, left))


def _concerns_one_thread(error: SourceError) -> bool:
    """Whether other threads can still be read: not if the connection is lost, or a right or a table is missing."""
    cause = error.__cause__
    if not isinstance(cause, psycopg.Error):
        return True
    return not (is_lost(cause) or isinstance(cause, (pg.InsufficientPrivilege, pg.UndefinedTable)))


class ThreadPages:
    """The ids of the selected threads, page by page.

    Args:
        source: lists them.
    """

    def __init__(self, context: Context, source: Source, selected: Selected) -> None:
        self._context, self._selected = context, selected
        self.source = source
        self._after: str | None = None
        self._at = 0
        self._since: datetime | None = None

    def next_page(self) -> Script[list[str]]:
        """The next ids; none at the end."""
        selected = self._selected
        if selected.idle is not None and self._since is None:
            self._since = yield partial(time_before, self._context.statements, selected.idle)
        while True:
            if selected.thread_ids is not None:
                page = list(selected.thread_ids[self._at : self._at + PAGE_THREADS])
                self._at += len(page)
            else:
                page = yield partial(self.source.threads, self._after, PAGE_THREADS)
            if not page:
                return []
            self._after = page[-1]
            chosen = [id_ for id_ in page if selected.has(id_)]
            if chosen and self._since is not None:
                active = yield partial(self.source.last_active, chosen)
                # A thread without a known time of activity may be active now.
                chosen = [id_ for id_ in chosen if id_ in active and active[id_] < self._since]
            if chosen:
                return chosen
